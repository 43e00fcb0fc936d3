// SPDX-License-Identifier: MIT
//
// Works `model` and `matrix`: whole passes of the engine, from 8-bit pixels to results in host memory.
#include <signal.h>
#include <sys/prctl.h>

#include <algorithm>
#include <numeric>
#include <thread>

#include "works/engine_worker.h"

namespace da3::bench {
namespace {

struct Grid {
  std::vector<std::string> models, precisions, attentions, modes;
  std::vector<std::pair<int64_t, int64_t>> batch_and_views;
  std::vector<int64_t> threads = {0};
};

bool on_cuda(const Context& context) {
  return context.report().machine().value("device", "").rfind("cuda", 0) == 0;
}

template <typename T>
std::vector<T> or_default(const std::vector<T>& given, std::vector<T> otherwise) {
  return given.empty() ? otherwise : given;
}

// The checkpoint that ships is meant for smaller pictures.
std::vector<Size> sizes_of(const Options& o, const std::string& model) {
  if (!o.sizes.empty()) return o.sizes;
  if (o.quick) return {{140, 84}};
  if (model == kTrainedModel) return {{196, 154}};
  return {{504, 504}, {504, 280}, {518, 294}};
}

Grid make_grid(const Context& context) {
  const Options& o = context.options;
  const bool cuda = on_cuda(context);
  Grid grid;
  grid.models =
      or_default(o.models, o.quick ? std::vector<std::string>{"synthetic:da3-small"}
                                   : std::vector<std::string>{"synthetic:da3-small", "synthetic:da3-base",
                                                              "synthetic:da3-large", kTrainedModel});
  grid.precisions =
      fp32_first(or_default(o.precisions, cuda ? std::vector<std::string>{"fp32", "bf16", "fp16"}
                                               : std::vector<std::string>{"fp32", "bf16", "int8"}));
  grid.attentions = or_default(o.attentions, {"auto"});
  grid.modes = or_default(o.modes, {""});
  grid.threads = or_default(o.threads, {int64_t(0)});
  if (!o.batches.empty() || !o.views.empty()) {
    for (const int64_t b : or_default(o.batches, {int64_t(1)}))
      for (const int64_t v : or_default(o.views, {int64_t(1)})) grid.batch_and_views.emplace_back(b, v);
  } else if (o.quick) {
    grid.batch_and_views = {{1, 1}, {1, 2}};
  } else {
    grid.batch_and_views = {{1, 1}, {2, 1}, {4, 1}, {1, 2}, {1, 4}, {1, 5}, {1, 20}};
    if (cuda) grid.batch_and_views.insert(grid.batch_and_views.end(), {{8, 1}, {16, 1}, {32, 1}});
  }
  return grid;
}

// Against the alternative in fp32, if there is one.
void add_errors(const std::vector<Outcome>& all, Outcome* outcome) {
  const auto reference = std::find_if(all.begin(), all.end(), [](const Outcome& o) {
    return o.row.value("precision", "") == "fp32" && !o.row.value("tf32", false) && !o.result.empty();
  });
  if (reference == all.end() || outcome->result.empty()) return;
  const PassResult result = PassResult::read(outcome->result);
  outcome->row["depth_mean"] =
      std::accumulate(result.depth.begin(), result.depth.end(), 0.0) / double(result.depth.size());
  const Row errors = compare_results(result, PassResult::read(reference->result));
  for (const auto& [key, value] : errors.items()) outcome->row[key] = value;
}

// On held-out scenes; only what was trained has anything to lose.
void add_scores(const Context& context, std::vector<Outcome>* all) {
  int scenes = context.options.scenes;
  if (scenes == 0) scenes = context.options.quick ? 2 : 16;
  double in_fp32 = 0;
  for (Outcome& outcome : *all) {
    if (!outcome.worker || outcome.ready.value("synthetic", true) || outcome.row.contains("neighbours"))
      continue;
    Row score;
    try {
      score = outcome.worker->ask({{"do", "score"}, {"scenes", scenes}}, 3600);
    } catch (const std::exception& e) {
      outcome.row["remark"] = e.what();  // has times all the same
      continue;
    }
    const double abs_rel = score.value("abs_rel", 0.0);
    outcome.row["abs_rel"] = abs_rel;
    if (outcome.row.value("precision", "") == "fp32" && !outcome.row.value("tf32", false)) in_fp32 = abs_rel;
    if (in_fp32 > 0) outcome.row["abs_rel_change"] = abs_rel / in_fp32 - 1;
  }
}

// Processes that keep a core busy each, while somebody wants them to.
class Neighbours {
 public:
  explicit Neighbours(int count) {
    for (int i = 0; i < count; ++i) processes_.push_back(busy());
    signal(SIGSTOP);
  }
  ~Neighbours() { signal(SIGCONT); }
  Neighbours(const Neighbours&) = delete;
  Neighbours& operator=(const Neighbours&) = delete;

  // Busy until the value is gone.
  std::shared_ptr<void> wake() {
    signal(SIGCONT);
    return {this, [](Neighbours* self) { self->signal(SIGSTOP); }};
  }

 private:
  static Worker busy() {
    return Worker::fork([](Channel& channel) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);  // another signal would not reach one that stands still
      std::thread([] {
        volatile double x = 1;
        for (;;) x = x * 1.0000001 + 1e-9;
      }).detach();
      channel.next();
    });
  }
  void signal(int which) {
    for (const Worker& process : processes_) kill(process.id(), which);
  }
  std::vector<Worker> processes_;
};

// Alternatives of one kind of pass: all precisions and back ends of attention, each beside neighbours too if
// there are any.
void measure_group(Context& context, const std::string& work, const std::vector<EngineSetup>& setups,
                   const RunPlan& plan, int count = 0) {
  const TemporaryFolder folder;
  Neighbours neighbours(count);
  std::vector<Alternative> alternatives;
  std::vector<const EngineSetup*> setup_of;
  for (const EngineSetup& setup : setups)
    for (const bool beside : {false, true}) {
      if (beside && count == 0) continue;
      Alternative alternative = engine_alternative(setup);
      if (!setup.mode.empty()) alternative.subject["mode"] = setup.mode;
      if (beside) {
        alternative.subject["neighbours"] = count;
        alternative.around = [&neighbours] { return neighbours.wake(); };
        alternative.shares = alternatives.size() - 1;
      }
      alternatives.push_back(std::move(alternative));
      setup_of.push_back(&setup);
    }
  std::vector<Outcome> outcomes = run_alternatives(alternatives, plan, folder.path());
  add_scores(context, &outcomes);
  for (Outcome& outcome : outcomes) add_errors(outcomes, &outcome);
  for (Outcome& outcome : outcomes) outcome.worker.reset();  // the ceiling is measured alone
  for (size_t i = 0; i < outcomes.size(); ++i) {
    Row row = {{"work", work}};
    for (const auto& [key, value] : outcomes[i].row.items()) row[key] = value;
    add_rates(context, *setup_of[i], outcomes[i].ready, &row);
    context.add(row);
  }
}

// The alternatives that belong beside each other.
std::vector<EngineSetup> alternatives_of(const Grid& grid, const EngineSetup& base) {
  std::vector<EngineSetup> out;
  for (const std::string& mode : grid.modes)
    for (const std::string& precision : grid.precisions)
      for (const std::string& attention : grid.attentions) {
        EngineSetup setup = base;
        setup.mode = mode;
        setup.precision = precision;
        setup.attention = attention;
        out.push_back(setup);
      }
  return out;
}

void run_model(Context& context) {
  const Grid grid = make_grid(context);
  const bool chosen = !context.options.batches.empty() || !context.options.views.empty();
  for (const std::string& model : grid.models) {
    const std::vector<Size> sizes = sizes_of(context.options, model);
    for (const Size& size : sizes)
      for (const auto& [batch, views] : grid.batch_and_views)
        for (const int64_t threads : grid.threads) {
          // Batches and views at the first size are enough unless they were asked for; twenty views of a
          // large model take minutes on a CPU.
          const bool many = batch * views > 1;
          if (!chosen && many && !(size == sizes.front())) continue;
          const bool light = model.find("small") != std::string::npos || model == kTrainedModel;
          if (!chosen && views >= 20 && !on_cuda(context) && !light) {
            context.add({{"work", "model"},
                         {"model", model},
                         {"size", size.text()},
                         {"batch", batch},
                         {"views", views},
                         {"skipped", "takes minutes on a CPU; --views 20 measures it"}});
            continue;
          }
          EngineSetup base;
          base.model = model;
          base.device = context.options.device;
          base.size = size;
          base.batch = batch;
          base.views = views;
          base.threads = threads;
          const RunPlan plan = context.plan(many ? 5 : 10, 120);
          measure_group(context, "model", alternatives_of(grid, base), plan, context.options.neighbours);
        }
  }
}

// Performance modes by precisions, five views of 504x504 in one pass: the work of the fork's device report.
void run_matrix(Context& context) {
  const Options& o = context.options;
  const bool cuda = on_cuda(context);
  const std::string model =
      first_or(o.models, std::string(o.quick ? "synthetic:da3-small" : "synthetic:da3-large"));
  const std::vector<std::string> precisions = fp32_first(
      or_default(o.precisions, cuda ? std::vector<std::string>{"fp32", "tf32", "fp16", "bf16", "auto"}
                                    : std::vector<std::string>{"fp32", "bf16", "int8", "auto"}));
  for (const std::string& mode : or_default(o.modes, {std::string("minimal"), "balanced", "max"})) {
    std::vector<EngineSetup> setups;
    for (const std::string& precision : precisions) {
      EngineSetup setup;
      setup.model = model;
      setup.device = o.device;
      setup.precision = precision;
      setup.mode = mode;
      setup.size = first_or(o.sizes, o.quick ? Size{84, 84} : Size{504, 504});
      setup.views = first_or(o.views, int64_t(5));
      setup.threads = first_or(o.threads, int64_t(0));
      setups.push_back(setup);
    }
    measure_group(context, "matrix", setups, context.plan(5, 300));
  }
}

DA3_BENCH_WORK(
    20, "model", "passes: models, sizes, batches, views, precisions; speed, memory and error", run_model,
    "--model --size --batch --views --precision --attention --mode --threads --neighbours --scenes");
const WorkRegistration matrix(Work{
    70, "matrix", "performance modes by precisions, da3-large, five views of 504x504", run_matrix,
    "--model=1 --size=1 --views=1 --precision --mode --threads=1 --scenes"});

}  // namespace
}  // namespace da3::bench
