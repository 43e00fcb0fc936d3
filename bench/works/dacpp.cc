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

#include "core/turns.h"

namespace da3::bench {
namespace {

// Its own bench mode: the median of three passes after one load, depth and pose.
constexpr char kUsualArguments[] =
    "depth --model {model} --input {image} --threads {threads} --pose {image}.json --repeat 3";

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
  std::string arguments = s.arguments.empty() ? kUsualArguments : s.arguments;
  arguments = replaced(arguments, "{model}", quoted(s.model));
  arguments = replaced(arguments, "{image}", quoted(image));
  arguments = replaced(arguments, "{threads}", std::to_string(s.threads));
  const std::string command = quoted(s.program) + " " + arguments;
  return Worker::fork([command](Channel& channel) {
    channel.reply({{"ready", true}});
    while (const auto request = channel.next()) {
      try {
        const std::string what = request->value("do", "");
        if (what == "result") {
          channel.reply({{"error", "its depth is not compared"}});
          continue;
        }
        const double milliseconds = printed_milliseconds(output_of(command));
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
