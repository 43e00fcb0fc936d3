// SPDX-License-Identifier: MIT
#include "options.h"

#include <getopt.h>

#include <charconv>
#include <cstring>
#include <limits>

namespace da3::demo {
namespace {

constexpr const char* shipped_model = "da3-demo";
constexpr int shipped_process_res = 196;  // what it was trained at
// Of a rendered clip: few enough that cameras of a group see the same things, enough that they move.
constexpr unsigned rendered_views = 4;
constexpr std::uint64_t rendered_frames = 96;

// What was left open on the command line.
struct Given {
  bool process_res = false, views = false;
};

template <typename Number>
Number number_of(const char* option, const char* text, Number least, Number most) {
  Number value{};
  const char* end = text + std::strlen(text);
  const auto [rest, error] = std::from_chars(text, end, value);
  if (error != std::errc() || rest != end || value < least || value > most) {
    throw UsageError(std::string(option) + " is a whole number from " + std::to_string(least) +
                     (most == std::numeric_limits<Number>::max() ? "" : " to " + std::to_string(most)) +
                     ", not \"" + text + "\"");
  }
  return value;
}

std::string word_of(const char* option, const char* text) {
  if (*text == '\0') throw UsageError(std::string(option) + " is empty");
  return text;
}

std::string precision_of(const char* text) {
  for (const char* known : {"auto", "fp32", "fp16", "bf16", "int8", "fp8"}) {
    if (std::strcmp(text, known) == 0) return text;
  }
  throw UsageError("--precision is auto, fp32, fp16, bf16, int8 or fp8, not \"" + std::string(text) + "\"");
}

void take_option(int option, Options& options, Given& given) {
  switch (option) {
    case 'm':
      options.model = word_of("--model", optarg);
      options.model_given = true;
      break;
    case 'd':
      options.device = word_of("--device", optarg);
      break;
    case 'p':
      options.precision = precision_of(optarg);
      break;
    case 'r':
      given.process_res = true;
      options.process_res = number_of<int>("--process-res", optarg, 14, 8190);
      break;
    case 'n':
      given.views = true;
      options.views = number_of<unsigned>("--views", optarg, 1, 1024);
      break;
    case 'f':
      options.max_frames =
          number_of<std::uint64_t>("--max-frames", optarg, 1, std::numeric_limits<std::uint64_t>::max());
      break;
    case 's':
      options.render = true;
      break;
    case 'v':
      options.verbose = true;
      break;
    default:
      options.help = true;
  }
}

}  // namespace

const char* usage_text() {
  return
      R"(Usage: da3-demo [OPTION...] INPUT OUTDIR
       da3-demo [OPTION...] --render OUTDIR

Computes depth and camera poses of a video, an image or a folder of images.

  INPUT   a video file; an image (png, jpeg, webp, bmp, tiff); or a folder of images, taken in the order of their
          names with numbers counted (frame2 before frame10). Images may differ in size: the recordings then have the
          size of the first, with borders where another does not fit. Pictures are turned upright as their metadata say.
  OUTDIR  is created if need be; files of an earlier run are replaced:
          depth.mp4      the picture and its depth in colours, side by side; with --render the true depth, too
          depth.mkv      depth as 16-bit numbers, lossless (FFV1); unit and scale are in its comment tag
          poses.jsonl    one JSON object a frame: pose, intrinsics, statistics
          poses.tum      camera to world: seconds, position, quaternion
          preview.png    one frame of depth.mp4
          summary.json   counts of frames, speed, memory, model, files; what went wrong, if anything did
          scores.jsonl   with --render: how far depth and cameras are from the truth, for each frame and in total

  --render          instead of INPUT a clip of a rendered place; what the network says is compared with the truth
  --model M         a .safetensors file, a folder with config.json, the id of a Hugging Face repository in the local
                    cache, or synthetic:NAME, which is not trained (default: da3-demo, the small one that ships)
  --device D        auto, cpu, cuda, cuda:N or mps (default: auto)
  --precision P     auto, fp32, fp16, bf16, int8 or fp8 (default: auto)
  --process-res N   longest side of the picture that the network sees [px] (default: 504, of da3-demo 196)
  --views N         frames that are inferred together and share one world (default: 1, each frame on its own;
                    with --render 4)
  --max-frames N    stop after N frames (with --render after 96)
  --verbose         say more when something goes wrong
  --help            this text

Ctrl-C ends early and completes the files. Exit status: 0 all well, 1 an error (what was written stays readable),
2 a wrong command line, 130 interrupted.
)";
}

Options parse_options(int argc, char** argv) {
  static const option long_options[] = {{"model", required_argument, nullptr, 'm'},
                                        {"device", required_argument, nullptr, 'd'},
                                        {"precision", required_argument, nullptr, 'p'},
                                        {"process-res", required_argument, nullptr, 'r'},
                                        {"views", required_argument, nullptr, 'n'},
                                        {"max-frames", required_argument, nullptr, 'f'},
                                        {"render", no_argument, nullptr, 's'},
                                        {"verbose", no_argument, nullptr, 'v'},
                                        {"help", no_argument, nullptr, 'h'},
                                        {nullptr, 0, nullptr, 0}};
  Options options;
  Given given;
  optind = 0;
  opterr = 0;
  for (int found; (found = getopt_long(argc, argv, ":hv", long_options, nullptr)) != -1;) {
    if (found == '?') throw UsageError("unknown option " + std::string(argv[optind - 1]));
    if (found == ':') throw UsageError(std::string(argv[optind - 1]) + " needs a value");
    take_option(found, options, given);
  }
  if (options.help) return options;
  const int words = options.render ? 1 : 2;
  const std::string wanted = options.render ? "OUTDIR" : "INPUT and OUTDIR";
  if (argc - optind != words) {
    throw UsageError(argc - optind < words ? wanted + (options.render ? " is needed" : " are needed")
                                           : "more than " + wanted + ": \"" + argv[optind + words] + "\"");
  }
  if (!options.render) options.input = word_of("INPUT", argv[optind]);
  options.outdir = word_of("OUTDIR", argv[argc - 1]);
  if (options.model.empty()) options.model = shipped_model;
  if (options.model == shipped_model && !given.process_res) options.process_res = shipped_process_res;
  if (options.render && !given.views) options.views = rendered_views;
  if (options.render && !options.max_frames) options.max_frames = rendered_frames;
  return options;
}

}  // namespace da3::demo
