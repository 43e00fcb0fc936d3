// SPDX-License-Identifier: MIT
//
// da3-bench: how fast and how exact things are on this machine. README.md in this folder says how it
// measures.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/chart.h"
#include "core/machine.h"
#include "core/options.h"
#include "core/spinning.h"
#include "core/worker.h"
#include "works/libtorch.h"
#include "works/work.h"
#include "works/write_model.h"

namespace {

using namespace da3::bench;

std::vector<std::string> work_names() {
  std::vector<std::string> out;
  for (const Work& work : works()) out.emplace_back(work.name);
  return out;
}

std::string help() {
  std::string lines;
  for (const Work& work : works()) {
    std::string name = work.name;
    name.resize(std::max<size_t>(12, name.size() + 1), ' ');
    lines += "  " + name + work.summary + "\n";
  }
  return usage(lines);
}

// Words with blanks in quotes, so that the line can be pasted.
std::string command_line(const std::vector<std::string>& arguments) {
  std::string out = "da3-bench";
  for (const std::string& a : arguments)
    out += a.find_first_of(" \"'$") == std::string::npos ? " " + a : " '" + a + "'";
  return out;
}

void write_outputs(const Options& options, const Report& report, const std::vector<std::string>& arguments) {
  if (!options.json.empty()) write_file(options.json, report.json());
  if (!options.markdown.empty()) write_file(options.markdown, report.markdown(command_line(arguments)));
  if (options.svg.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(options.svg, error);
  if (error) throw std::runtime_error("cannot make the folder '" + options.svg + "': " + error.message());
  for (const std::string& name : options.works) {
    const std::string picture = svg_of_work(name, report.rows_of(name));
    if (!picture.empty()) write_file(options.svg + "/" + name + ".svg", picture);
  }
}

void check_options(const Options& options) {
  std::map<std::string, std::string> takes;
  for (const Work& work : works())
    if (std::find(options.works.begin(), options.works.end(), work.name) != options.works.end())
      takes[work.name] = work.takes;
  check_taken(options, takes);
}

int measure(const Options& options, const std::vector<std::string>& arguments) {
  Row machine = describe_machine();
  const Row libtorch = in_child([&] { return describe_libtorch(options.device); });
  for (const auto& [key, value] : libtorch.items()) machine[key] = value;
  machine["spinning"] = describe_spinning();
  Report report(machine);
  for (const auto& [key, value] : machine.items())
    std::printf("%s: %s\n", key.c_str(),
                value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
  Context context(options, report);
  for (const std::string& name : options.works) {
    for (const Work& work : works()) {
      if (name != work.name) continue;
      try {
        work.run(context);
      } catch (const std::exception& e) {
        // The others are still worth having.
        context.add({{"work", name}, {"skipped", first_line(e.what())}});
      }
    }
    write_outputs(options, report, arguments);  // what there is so far
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  prefer_own_models();
  try {
    const Options options = parse_options(arguments, work_names());
    if (options.help) {
      std::fputs(help().c_str(), stdout);
      return 0;
    }
    if (!options.write_name.empty()) {
      write_model(options.write_name, options.write_folder, options.seed);
      std::printf("%s/model.safetensors\n", options.write_folder.c_str());
      return 0;
    }
    check_options(options);
    bound_spinning(argv);
    return measure(options, arguments);
  } catch (const std::invalid_argument& e) {
    std::fprintf(stderr, "da3-bench: %s\n(da3-bench --help says more)\n", e.what());
    return 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "da3-bench: %s\n", first_line(e.what()).c_str());
    return 1;
  }
}
