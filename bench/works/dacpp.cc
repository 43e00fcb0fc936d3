// SPDX-License-Identifier: MIT
#include "works/dacpp.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <regex>
#include <sstream>
#include <stdexcept>

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

}  // namespace

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
  return Worker::fork([=](Channel& channel) {
    forget_bound();
    bool has_run = false;
    channel.reply({{"ready", true}});
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
