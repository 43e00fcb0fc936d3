// SPDX-License-Identifier: MIT
//
// Work `batching`: the comparison of batching.h beside the other works. With --images, --batches or --rounds
// the command line goes to it as it is.
#include <fstream>
#include <sstream>

#include "batching.h"
#include "works/engine_worker.h"

namespace da3::bench {
namespace {

std::string joined(const std::vector<int64_t>& numbers) {
  std::string out;
  for (const int64_t n : numbers) out += (out.empty() ? "" : ",") + std::to_string(n);
  return out;
}

std::vector<std::string> arguments_of(const Options& o, const std::string& json) {
  std::vector<std::string> out;
  if (o.quick) out.push_back("--quick");
  for (const std::string& model : o.models) out.insert(out.end(), {"--model", model});
  if (!o.sizes.empty()) out.insert(out.end(), {"--size", o.sizes.front().text()});
  if (!o.batches.empty()) out.insert(out.end(), {"--batches", joined(o.batches)});
  if (!o.precisions.empty()) out.insert(out.end(), {"--precision", o.precisions.front()});
  if (!o.threads.empty()) out.insert(out.end(), {"--threads", std::to_string(o.threads.front())});
  if (o.runs > 0) out.insert(out.end(), {"--rounds", std::to_string(o.runs)});
  if (o.warm_up >= 0) out.insert(out.end(), {"--warm-up", std::to_string(o.warm_up)});
  out.insert(out.end(), {"--device", o.device, "--json", json});
  return out;
}

void run(Context& context) {
  const TemporaryFolder folder;
  const std::string json = folder / "batching.json";
  in_child(
      [&]() -> Row {
        std::vector<std::string> arguments = arguments_of(context.options, json);
        std::vector<char*> pointers;
        for (std::string& a : arguments) pointers.push_back(a.data());
        if (bench_batching(int(pointers.size()), pointers.data()) != 0)
          throw std::runtime_error("the comparison of batches failed; its message is above");
        return {{"done", true}};
      },
      4 * 3600);
  std::ifstream file(json);
  for (const Row& found : Row::parse(file)) {
    Row row = {{"work", "batching"}};
    for (const auto& [key, value] : found.items()) row[key == "work" ? "case" : key] = value;
    context.add(row);
  }
}

DA3_BENCH_WORK(60, "batching", "images through the engine with fixed batches and with the learned one", run);

}  // namespace
}  // namespace da3::bench
