// SPDX-License-Identifier: MIT
//
// da3-train: trains the checkpoint that ships, and scores any checkpoint on rendered scenes.
#if defined(__linux__)
#include <malloc.h>
#endif

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "train/run.h"

namespace {

std::atomic<bool> stop_wanted{false};

void on_signal(int) {
  stop_wanted = true;
}

constexpr const char* kUsage =
    R"(usage: da3-train FOLDER [options]        train, or go on with the run in FOLDER
       da3-train --score MODEL [options]   score a checkpoint on held-out scenes

A run writes into FOLDER: model.safetensors and config.json (the checkpoint so far), state.safetensors (to go on
from), history.jsonl and loss.svg. Ctrl-C saves and stops; the same command goes on.

  --phases TEXT       STEPSxIMAGES@SIDE,...  (default 1500x48@84,3000x32@126,4800x24@196)
  --rate X            learning rate (default 0.002)
  --seed N            of weights and data (default 1)
  --views N           sets of N views only (default: 1 to 6)
  --distinct N        the data of N steps, again and again: can the network learn them by heart?
  --config FILE       config.json of another any-view model
  --device NAME       cpu, cuda, cuda:N (default cpu)
  --precision P       of products: auto (default: bf16 where native), fp32, bf16
  --threads N         for rendering; 0 = all processors (default)
  --replicas N        split a batch over N threads (default: 2 on the CPU, else 1); other N, other rounding
  --ahead N           steps rendered in advance (default: 0 on the CPU, else 8)
  --evaluate-every N  steps between scores on held-out scenes (default 500)
  --stop-after N      stop after N steps of this call
  --sets N            sets to score with --score (default 224)
  --size WxH          picture size to score with --score (default 196x154)
  --json FILE         write the scores of --score there
)";

// Every step takes blocks of the same sizes: they are kept, for the system clears every page that it hands
// out anew.
void keep_memory() {
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_ARENA_MAX, 1);
#endif
}

struct Options {
  da3::train::RunOptions run;
  std::string score, json;
  int sets = 224, width = 196, height = 154;
};

long long whole(const std::string& name, const std::string& text, long long low, long long high) {
  char* end = nullptr;
  const long long v = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end || v < low || v > high)
    throw std::invalid_argument(name + " needs a whole number from " + std::to_string(low) + " to " +
                                std::to_string(high) + ", not '" + text + "'.");
  return v;
}

void parse_size(const std::string& text, Options& o) {
  const size_t x = text.find('x');
  if (x == std::string::npos) throw std::invalid_argument("--size needs WxH, not '" + text + "'.");
  o.width = int(whole("--size", text.substr(0, x), 14, 4004));
  o.height = int(whole("--size", text.substr(x + 1), 14, 4004));
  if (o.width % 14 || o.height % 14)
    throw std::invalid_argument("--size needs multiples of 14, not '" + text + "'.");
}

Options parse(const std::vector<std::string>& words) {
  Options o;
  o.run.schedule.phases = da3::train::parse_phases("1500x48@84,3000x32@126,4800x24@196");
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& w = words[i];
    if (w.rfind("--", 0) != 0) {
      if (!o.run.folder.empty()) throw std::invalid_argument("There is one FOLDER too many: '" + w + "'.");
      o.run.folder = w;
      continue;
    }
    if (i + 1 >= words.size()) throw std::invalid_argument(w + " needs a value, or is unknown.");
    const std::string& v = words[++i];
    if (w == "--phases")
      o.run.schedule.phases = da3::train::parse_phases(v);
    else if (w == "--rate")
      o.run.schedule.learning_rate = std::atof(v.c_str());
    else if (w == "--seed")
      o.run.schedule.seed = uint64_t(whole(w, v, 0, 1ll << 40));
    else if (w == "--views")
      o.run.schedule.views = int(whole(w, v, 0, 64));
    else if (w == "--distinct")
      o.run.schedule.distinct = whole(w, v, 0, 1ll << 40);
    else if (w == "--config")
      o.run.config = v;
    else if (w == "--device")
      o.run.device = v;
    else if (w == "--precision") {
      if (v != "auto" && v != "fp32" && v != "bf16")
        throw std::invalid_argument("--precision is auto, fp32 or bf16, not '" + v + "'.");
      o.run.precision = v;
    } else if (w == "--threads")
      o.run.threads = int(whole(w, v, 0, 1024));
    else if (w == "--replicas")
      o.run.replicas = int(whole(w, v, 0, 256));
    else if (w == "--ahead")
      o.run.ahead = int(whole(w, v, 0, 1000));
    else if (w == "--evaluate-every")
      o.run.evaluate_every = whole(w, v, 1, 1ll << 40);
    else if (w == "--stop-after")
      o.run.stop_after = whole(w, v, 0, 1ll << 40);
    else if (w == "--score")
      o.score = v;
    else if (w == "--sets")
      o.sets = int(whole(w, v, 1, 100000));
    else if (w == "--size")
      parse_size(v, o);
    else if (w == "--json")
      o.json = v;
    else
      throw std::invalid_argument("There is no option " + w + ".");
  }
  if (!(o.run.schedule.learning_rate > 0 && o.run.schedule.learning_rate < 1))
    throw std::invalid_argument("--rate needs a number between 0 and 1.");
  if (o.score.empty() == o.run.folder.empty())
    throw std::invalid_argument("Give a FOLDER, or --score MODEL.");
  return o;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty() || words[0] == "--help" || words[0] == "-h") {
    std::fputs(kUsage, words.empty() ? stderr : stdout);
    return words.empty() ? 2 : 0;
  }
  Options options;
  try {
    options = parse(words);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "da3-train: %s\n%s", e.what(), kUsage);
    return 2;
  }
  keep_memory();
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  try {
    if (!options.score.empty()) {
      da3::train::score_model(options.score, options.run.device, options.sets, options.width, options.height,
                              options.run.threads, options.json);
      return 0;
    }
    const bool done = da3::train::train(options.run, stop_wanted);
    std::printf("%s: %s\n", done ? "done" : "stopped; the same command goes on", options.run.folder.c_str());
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "da3-train: %s\n", e.what());
    return 1;
  }
}
