// SPDX-License-Identifier: MIT
#include "core/options.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>

namespace da3::bench {
namespace {

constexpr int64_t kPatch = 14;

std::vector<std::string> split(const std::string& option, const std::string& text) {
  std::vector<std::string> out;
  size_t begin = 0;
  for (;;) {
    const size_t comma = text.find(',', begin);
    out.push_back(text.substr(begin, comma == std::string::npos ? comma : comma - begin));
    if (out.back().empty())
      throw std::invalid_argument(option + " needs values separated by commas, not '" + text + "'");
    if (comma == std::string::npos) return out;
    begin = comma + 1;
  }
}

int64_t whole_number(const std::string& option, const std::string& text, int64_t least, int64_t most) {
  int64_t value = 0;
  bool good = !text.empty() && text.size() <= 18 && text.find_first_not_of("0123456789") == std::string::npos;
  if (good) value = std::stoll(text);
  good = good && value >= least && value <= most;
  if (!good)
    throw std::invalid_argument(option + " needs a whole number from " + std::to_string(least) + " to " +
                                std::to_string(most) + ", not '" + text + "'");
  return value;
}

std::vector<int64_t> whole_numbers(const std::string& option, const std::string& text, int64_t most) {
  std::vector<int64_t> out;
  for (const std::string& part : split(option, text)) out.push_back(whole_number(option, part, 1, most));
  return out;
}

std::vector<Size> sizes(const std::string& option, const std::string& text) {
  std::vector<Size> out;
  for (const std::string& part : split(option, text)) {
    const size_t x = part.find('x');
    if (x == std::string::npos)
      throw std::invalid_argument(option + " needs WIDTHxHEIGHT, not '" + part + "'");
    const Size size{whole_number(option, part.substr(0, x), 1, 16384),
                    whole_number(option, part.substr(x + 1), 1, 16384)};
    if (size.width % kPatch != 0 || size.height % kPatch != 0)
      throw std::invalid_argument("both sides of " + option + " must be multiples of 14, unlike '" + part +
                                  "'");
    out.push_back(size);
  }
  return out;
}

std::vector<std::string> words(const std::string& option, const std::string& text,
                               const std::vector<std::string>& allowed) {
  std::vector<std::string> out = split(option, text);
  for (const std::string& word : out) {
    if (std::find(allowed.begin(), allowed.end(), word) != allowed.end()) continue;
    std::string list;
    for (const std::string& a : allowed) list += (list.empty() ? "" : ", ") + a;
    throw std::invalid_argument(option + " knows " + list + "; not '" + word + "'");
  }
  return out;
}

using Setter = std::function<void(const std::string&, const std::string&)>;

std::map<std::string, Setter> setters(Options& o) {
  const auto text = [](std::string& to) { return Setter([&to](auto&, auto& value) { to = value; }); };
  const auto count = [](int& to, int64_t least, int64_t most) {
    return Setter(
        [&to, least, most](auto& name, auto& value) { to = int(whole_number(name, value, least, most)); });
  };
  const auto counts = [](std::vector<int64_t>& to, int64_t most) {
    return Setter([&to, most](auto& name, auto& value) { to = whole_numbers(name, value, most); });
  };
  const auto list = [](std::vector<std::string>& to) {
    return Setter([&to](auto& name, auto& value) { to = split(name, value); });
  };
  return {
      {"--device", text(o.device)},
      {"--json", text(o.json)},
      {"--markdown", text(o.markdown)},
      {"--svg", text(o.svg)},
      {"--upstream", text(o.upstream)},
      {"--python", text(o.python)},
      {"--venv", text(o.venv)},
      {"--dacpp", text(o.dacpp)},
      {"--onnx-folder", text(o.onnx_folder)},
      {"--dacpp-model", list(o.dacpp_models)},
      {"--dacpp-arguments", text(o.dacpp_arguments)},
      {"--model", list(o.models)},
      {"--attention", list(o.attentions)},
      {"--precision",
       [&o](auto& name, auto& value) {
         o.precisions = words(name, value, {"auto", "fp32", "tf32", "bf16", "fp16", "int8", "fp8"});
       }},
      {"--mode",
       [&o](auto& name, auto& value) {
         o.modes = words(name, value, {"minimal", "balanced", "max"});
       }},
      {"--peers",
       [&o](auto& name, auto& value) {
         o.peers =
             words(name, value,
                   {"upstream", "upstream-autocast", "upstream-bf16", "upstream-compile",
                    "upstream-compile-bf16", "upstream-compile-parts", "upstream-compile-parts-bf16",
                    "onnxruntime", "onnxruntime-bf16", "openvino", "openvino-bf16", "depth-anything.cpp"});
       }},
      {"--size", [&o](auto& name, auto& value) { o.sizes = sizes(name, value); }},
      {"--batch", counts(o.batches, 1024)},
      {"--views", counts(o.views, 1024)},
      {"--threads", counts(o.threads, 1024)},
      {"--runs", count(o.runs, 1, 100000)},
      {"--warm-up", count(o.warm_up, 0, 1000)},
      {"--images", count(o.images, 1, 100000)},
      {"--load",
       [&o](auto& name, auto& value) {
         o.load = words(name, value, {"equal", "mixed"}).front();
       }},
      {"--scenes", count(o.scenes, 1, 100000)},
      {"--neighbours", count(o.neighbours, 1, 1024)},
      {"--seconds",
       [&o](auto& name, auto& value) { o.seconds = double(whole_number(name, value, 1, 86400)); }},
      {"--seed",
       [&o](auto& name, auto& value) { o.seed = uint64_t(whole_number(name, value, 0, 999999999)); }},
  };
}

}  // namespace

Options parse_options(const std::vector<std::string>& arguments,
                      const std::vector<std::string>& known_works) {
  Options o;
  const std::map<std::string, Setter> known = setters(o);
  std::vector<std::string> names;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--help" || argument == "-h") {
      o.help = true;
    } else if (argument == "--quick") {
      o.quick = true;
    } else if (argument.rfind("--", 0) == 0) {
      const auto setter = known.find(argument);
      if (setter == known.end()) throw std::invalid_argument("unknown option '" + argument + "'");
      if (i + 1 >= arguments.size() || arguments[i + 1].rfind("--", 0) == 0)
        throw std::invalid_argument(argument + " needs a value");
      setter->second(argument, arguments[++i]);
      const std::string& value = arguments[i];
      o.given[argument] = size_t(1 + std::count(value.begin(), value.end(), ','));
    } else {
      names.push_back(argument);
    }
  }
  if (o.help) return o;
  if (names.empty()) throw std::invalid_argument("say which work to do");
  if (names[0] == "write-model") {
    if (names.size() != 3)
      throw std::invalid_argument("write-model needs the name of a configuration and a folder");
    o.write_name = names[1];
    o.write_folder = names[2];
    return o;
  }
  for (const std::string& name : names) {
    if (name == "all") {
      o.works.insert(o.works.end(), known_works.begin(), known_works.end());
      continue;
    }
    if (std::find(known_works.begin(), known_works.end(), name) == known_works.end()) {
      std::string list;
      for (const std::string& work : known_works) list += work + ", ";
      throw std::invalid_argument("there is no work '" + name + "'; there are " + list +
                                  "all and write-model");
    }
    o.works.push_back(name);
  }
  return o;
}

void check_taken(const Options& options, const std::map<std::string, std::string>& takes) {
  static const std::set<std::string> kCommon = {"--device", "--runs",     "--warm-up", "--seconds",
                                                "--json",   "--markdown", "--svg"};
  const auto has = [](const std::string& list, const std::string& word) {
    return (" " + list + " ").find(" " + word + " ") != std::string::npos;
  };
  for (const auto& [option, values] : options.given) {
    bool taken = kCommon.count(option) > 0;
    std::string works;
    for (const auto& [work, list] : takes) {
      const bool one = has(list, option + "=1");
      if (one && values > 1)
        throw std::invalid_argument("work " + work + " takes one " + option + ", not " +
                                    std::to_string(values));
      taken = taken || one || has(list, option);
      works += (works.empty() ? "" : ", ") + work;
    }
    if (!taken) throw std::invalid_argument("no work asked for takes " + option + " (" + works + ")");
  }
}

std::string usage(const std::string& works) {
  return "usage: da3-bench WORK... [options]\n"
         "       da3-bench write-model NAME FOLDER [--seed N]\n"
         "\n"
         "Measures on this machine and prints medians. Works:\n" +
         works +
         "  all         all of them\n"
         "write-model writes the synthetic model NAME as model.safetensors and config.json, for other "
         "programs.\n"
         "\n"
         "Lists are separated by commas.\n"
         "  --quick             few runs of small cases, to see that everything works\n"
         "  --device D          auto, cpu, cuda, cuda:N, mps\n"
         "  --precision LIST    auto, fp32, tf32, bf16, fp16, int8, fp8; what the device lacks is reported "
         "as skipped\n"
         "  --model LIST        synthetic:NAME, da3-demo, a file, a folder or a repository id\n"
         "  --size LIST         WIDTHxHEIGHT of the network's input, multiples of 14\n"
         "  --batch LIST, --views LIST, --threads LIST\n"
         "  --attention LIST    back ends of attention (model, batching)\n"
         "  --images N          batching: images of the full size (20); --load equal or mixed: one of the "
         "two\n"
         "  --mode LIST         minimal, balanced, max (matrix and model)\n"
         "  --runs N            runs that count; --warm-up N: runs before that do not\n"
         "  --seconds N         most for the runs of one group of alternatives\n"
         "  --neighbours N      model: every case once more beside N processes that compute\n"
         "  --scenes N          held-out scenes for AbsRel, trained models only\n"
         "  --json FILE, --markdown FILE, --svg FOLDER\n"
         "compare, and peers of preprocess:\n"
         "  --upstream DIR      checkout of the Python implementation; --python PYTHON that has its "
         "packages\n"
         "  --venv DIR          virtual environment with onnxruntime and openvino\n"
         "  --onnx-folder DIR   keeps exported ONNX files for later runs\n"
         "  --dacpp PATH        program of depth-anything.cpp; --dacpp-model LIST of files for it, each a "
         "peer "
         "of its own;\n"
         "                      --dacpp-arguments TEXT\n"
         "  --peers LIST        upstream, upstream-autocast, upstream-bf16, upstream-compile, "
         "upstream-compile-bf16,\n"
         "                      upstream-compile-parts, upstream-compile-parts-bf16,\n"
         "                      onnxruntime, onnxruntime-bf16, openvino, openvino-bf16, "
         "depth-anything.cpp\n";
}

}  // namespace da3::bench
