// SPDX-License-Identifier: MIT
#include "options.h"

#include <getopt.h>

#include <charconv>
#include <cstring>
#include <limits>

namespace da3::demo {
namespace {

constexpr const char* default_model = "synthetic:da3-small";

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
  for (const char* known : {"auto", "fp32", "fp16", "bf16"}) {
    if (std::strcmp(text, known) == 0) return text;
  }
  throw UsageError("--precision is auto, fp32, fp16 or bf16, not \"" + std::string(text) + "\"");
}

void take_option(int option, Options& options) {
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
      options.process_res = number_of<int>("--process-res", optarg, 14, 8190);
      break;
    case 'n':
      options.views = number_of<unsigned>("--views", optarg, 1, 1024);
      break;
    case 'f':
      options.max_frames =
          number_of<std::uint64_t>("--max-frames", optarg, 1, std::numeric_limits<std::uint64_t>::max());
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

Computes depth and camera poses of a video, an image or a folder of images.

  INPUT   a video file; an image (png, jpeg, webp, bmp, tiff); or a folder of images, taken in the order of their
          names with numbers counted (frame2 before frame10). Images may differ in size: the recordings then have the
          size of the first, with borders where another does not fit. Pictures are turned upright as their metadata say.
  OUTDIR  is created if need be; files of an earlier run are replaced:
          depth.mp4      the picture and its depth in colours, side by side
          depth.mkv      depth as 16-bit numbers, lossless (FFV1); unit and scale are in its comment tag
          poses.jsonl    one JSON object a frame: pose, intrinsics, statistics
          poses.tum      camera to world: seconds, position, quaternion
          preview.png    one frame of depth.mp4
          summary.json   counts of frames, speed, memory, model, files; what went wrong, if anything did

  --model M         a .safetensors file, a folder with config.json, the id of a Hugging Face repository in the local
                    cache, or synthetic:NAME (default: synthetic:da3-small, which is not a trained model)
  --device D        auto, cpu, cuda, cuda:N or mps (default: auto)
  --precision P     auto, fp32, fp16 or bf16 (default: auto)
  --process-res N   longest side of the picture that the network sees [px] (default: 504)
  --views N         frames that are inferred together and share one world (default: 1, each frame on its own)
  --max-frames N    stop after N frames
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
                                        {"verbose", no_argument, nullptr, 'v'},
                                        {"help", no_argument, nullptr, 'h'},
                                        {nullptr, 0, nullptr, 0}};
  Options options;
  optind = 0;
  opterr = 0;
  for (int found; (found = getopt_long(argc, argv, ":hv", long_options, nullptr)) != -1;) {
    if (found == '?') throw UsageError("unknown option " + std::string(argv[optind - 1]));
    if (found == ':') throw UsageError(std::string(argv[optind - 1]) + " needs a value");
    take_option(found, options);
  }
  if (options.help) return options;
  if (argc - optind != 2) {
    throw UsageError(argc - optind < 2
                         ? "INPUT and OUTDIR are needed"
                         : "more than INPUT and OUTDIR: \"" + std::string(argv[optind + 2]) + "\"");
  }
  options.input = word_of("INPUT", argv[optind]);
  options.outdir = word_of("OUTDIR", argv[optind + 1]);
  if (options.model.empty()) options.model = default_model;
  return options;
}

}  // namespace da3::demo
