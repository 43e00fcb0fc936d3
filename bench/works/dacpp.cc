// SPDX-License-Identifier: MIT
#include "works/dacpp.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <regex>
#include <stdexcept>
#include <string_view>

#include "core/accuracy.h"
#include "core/spinning.h"
#include "core/turns.h"

namespace da3::bench {
namespace {

// Its own bench mode: the median of three passes after one load, depth and pose.
constexpr char kUsualArguments[] =
    "depth --model {model} --input {image} --threads {threads} --pose {image}.json --repeat 3";
// That mode writes no depth.
constexpr char kResultArguments[] =
    "depth --model {model} --input {image} --threads {threads} --pose {image}.json --pfm {image}.pfm";

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size())
    text.replace(at, what.size(), by);
  return text;
}

std::string quoted(const std::string& word) {
  return "'" + replaced(word, "'", "'\\''") + "'";
}

std::string output_of(const std::string& command) {
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe) throw std::runtime_error("cannot run the program");
  std::string out;
  char buffer[4096];
  size_t n;
  while ((n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0) out.append(buffer, n);
  const int status = pclose(pipe);
  if (status != 0) {
    while (!out.empty() && out.back() == '\n') out.pop_back();
    throw std::runtime_error("it failed (" + out.substr(out.find_last_of('\n') + 1) +
                             "); does it need other --dacpp-arguments than \"" + kUsualArguments + "\"?");
  }
  return out;
}

// A picture that every program reads: PPM.
void write_ppm(const std::string& raw, const Size& size, const std::string& path) {
  std::ifstream in(raw, std::ios::binary);
  std::ofstream out(path, std::ios::binary);
  out << "P6\n" << size.width << " " << size.height << "\n255\n" << in.rdbuf();
  out.close();
  if (!in || !out) throw std::runtime_error("cannot write '" + path + "'");
}

std::string filled_in(const DacppSetup& s, const std::string& image, std::string arguments) {
  arguments = replaced(arguments, "{model}", quoted(s.model));
  arguments = replaced(arguments, "{image}", quoted(image));
  return quoted(s.program) + " " + replaced(arguments, "{threads}", std::to_string(s.threads));
}

// The depth of one more run. `command` writes it to `file`.
void write_result(const std::string& command, const std::string& file, const std::string& path) {
  std::remove(file.c_str());
  output_of(command);
  PassResult result;
  result.depth = read_pfm(file);
  result.write(path);
}

// The parts of a GGUF file's header, in the order of the file.
class GgufHeader {
 public:
  explicit GgufHeader(const std::string& path) : file_(path, std::ios::binary) {}

  // Elements by the number of their type.
  std::map<uint32_t, double> elements() {
    char magic[4] = "";
    file_.read(magic, sizeof magic);
    if (std::string_view(magic, sizeof magic) != "GGUF" || number<uint32_t>() < 2) return {};
    const auto tensors = number<uint64_t>(), values = number<uint64_t>();
    for (uint64_t i = 0; i < values && file_; ++i) {
      skip_text();
      skip_value(number<uint32_t>());
    }
    std::map<uint32_t, double> out;
    for (uint64_t i = 0; i < tensors && file_; ++i) {
      skip_text();
      double count = 1;
      for (auto sides = number<uint32_t>(); sides > 0 && file_; --sides) count *= double(number<uint64_t>());
      const auto type = number<uint32_t>();
      number<uint64_t>();  // where it lies
      out[type] += count;
    }
    return file_ ? out : std::map<uint32_t, double>{};
  }

 private:
  template <typename T>
  T number() {
    T value{};
    file_.read(reinterpret_cast<char*>(&value), sizeof value);
    return file_ ? value : T{};
  }
  void skip(uint64_t bytes) {
    if (bytes > uint64_t(1) << 32)
      file_.setstate(std::ios::failbit);
    else
      file_.seekg(std::streamoff(bytes), std::ios::cur);
  }
  void skip_text() { skip(number<uint64_t>()); }
  void skip_value(uint32_t type) {
    constexpr uint32_t kText = 8, kList = 9;
    static constexpr uint8_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == kText) return skip_text();
    if (type >= std::size(kBytes)) return file_.setstate(std::ios::failbit);
    if (type != kList) return skip(kBytes[type]);
    const auto of = number<uint32_t>();
    const auto count = number<uint64_t>();
    if (of == kList || of >= std::size(kBytes)) return file_.setstate(std::ios::failbit);
    if (of != kText) return skip(count * kBytes[of]);
    for (uint64_t i = 0; i < count && file_; ++i) skip_text();
  }

  std::ifstream file_;
};

}  // namespace

std::string precision_of_gguf(const std::string& path) {
  static const std::map<uint32_t, const char*> kNames = {
      {0, "fp32"},  {1, "fp16"},  {2, "q4_0"},  {3, "q4_1"},  {6, "q5_0"},  {7, "q5_1"}, {8, "q8_0"},
      {10, "q2_k"}, {11, "q3_k"}, {12, "q4_k"}, {13, "q5_k"}, {14, "q6_k"}, {30, "bf16"}};
  const std::map<uint32_t, double> elements = GgufHeader(path).elements();
  const auto most = std::max_element(elements.begin(), elements.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == elements.end() || kNames.count(most->first) == 0) return "";
  return kNames.at(most->first);
}

double printed_milliseconds(const std::string& output) {
  static const std::regex kTime(R"(([0-9]+(?:\.[0-9]+)?)\s*(ms|s)\b)");
  double found = -1;
  for (std::sregex_iterator i(output.begin(), output.end(), kTime), end; i != end; ++i)
    found = std::stod((*i)[1]) * ((*i)[2] == "s" ? 1000 : 1);
  if (found >= 0) return found;
  std::string text = output;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  throw std::runtime_error("it printed no time: " + text.substr(text.find_last_of('\n') + 1));
}

std::vector<float> read_pfm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  int64_t width = 0, height = 0;
  double scale = 0;
  file >> kind >> width >> height >> scale;
  file.get();
  if (!file) throw std::runtime_error("cannot read '" + path + "'");
  constexpr int64_t kMost = 1 << 16;
  if (kind != "Pf" || scale >= 0 || width < 1 || height < 1 || width > kMost || height > kMost)
    throw std::runtime_error("'" + path + "' is no PFM file of one little-endian float a pixel");
  std::vector<float> out(size_t(width * height));
  // The bottom row is the first one.
  for (int64_t y = height; y-- > 0 && file;)
    file.read(reinterpret_cast<char*>(out.data() + y * width), std::streamsize(width) * 4);
  if (!file) throw std::runtime_error("'" + path + "' ends early");
  return out;
}

Worker start_dacpp(const DacppSetup& s) {
  if (s.program.empty()) throw std::runtime_error("no --dacpp given");
  if (access(s.program.c_str(), X_OK) != 0)
    throw std::runtime_error("--dacpp '" + s.program + "' is no program");
  if (s.model.empty())
    throw std::runtime_error("no --dacpp-model given: its own converter makes one of write-model's folder");
  if (access(s.model.c_str(), R_OK) != 0)
    throw std::runtime_error("--dacpp-model '" + s.model + "' cannot be read");
  const std::string image = s.pictures + ".ppm";
  write_ppm(s.pictures, s.size, image);
  const bool usual = s.arguments.empty();
  const std::string command = filled_in(s, image, usual ? kUsualArguments : s.arguments);
  const std::string for_result = usual ? filled_in(s, image, kResultArguments) : "";
  const std::string precision = precision_of_gguf(s.model);
  return Worker::fork([=](Channel& channel) {
    forget_bound();
    bool has_run = false;
    Row ready = {{"ready", true}, {"threads", s.threads}};
    if (!precision.empty()) ready["precision"] = precision;
    channel.reply(ready);
    while (const auto request = channel.next()) {
      try {
        const std::string what = request->value("do", "");
        if (what == "result") {
          if (!usual) throw std::runtime_error("its depth is compared with its usual arguments only");
          write_result(for_result, image + ".pfm", request->at("path").get<std::string>());
          channel.reply({{"done", true}});
          continue;
        }
        double milliseconds = 0;
        if (what != "memory" || !has_run) milliseconds = printed_milliseconds(output_of(command));
        has_run = true;
        rusage usage{};
        getrusage(RUSAGE_CHILDREN, &usage);
        if (what == "memory")
          channel.reply({{"peak_rss_mb", double(usage.ru_maxrss) / 1024}});
        else
          channel.reply({{"ms", milliseconds}});
      } catch (const std::exception& e) {
        channel.reply({{"error", e.what()}});
      }
    }
  });
}

}  // namespace da3::bench
