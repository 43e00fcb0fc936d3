// SPDX-License-Identifier: MIT
//
// Work `attention`: one attention layer with each back end that this LibTorch has, and the engine's own
// choice, at the shapes of the published benchmarks.
#include "engine/network/attention.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <cmath>
#include <stdexcept>

#include "core/worker.h"
#include "engine/network/ops.h"
#include "engine/runtime/device.h"
#include "works/libtorch.h"
#include "works/work.h"

namespace da3::bench {
namespace {

using at::Tensor;
using c10::IValue;

struct Shape {
  const char* name;
  int64_t batch, heads, tokens, width;
  double operations() const { return 4.0 * double(batch * heads * tokens) * double(tokens * width); }
  std::string text() const {
    return "B" + std::to_string(batch) + " H" + std::to_string(heads) + " d" + std::to_string(width) + " " +
           std::to_string(tokens) + " tokens";
  }
};

constexpr Shape kShapes[] = {
    {"layer", 2, 8, 256, 64},  {"layer", 2, 8, 1024, 64},  {"layer", 2, 8, 2048, 64},
    {"ViT-L", 1, 16, 529, 64}, {"ViT-L", 1, 16, 1297, 64}, {"ViT-L", 1, 16, 1369, 64},
};
constexpr Shape kQuickShapes[] = {{"layer", 2, 2, 64, 64}, {"ViT-L", 1, 4, 100, 64}};

using Attend = std::function<Tensor(const Tensor&, const Tensor&, const Tensor&)>;

struct BackEnd {
  const char* name;
  bool cpu, cuda;
  Attend attend;
};

Tensor by_hand(const Tensor& q, const Tensor& k, const Tensor& v) {
  const double scale = 1 / std::sqrt(double(q.size(3)));
  return at::matmul(at::softmax(at::matmul(q, k.transpose(-2, -1)) * scale, -1), v);
}

std::vector<BackEnd> back_ends() {
  const auto op = [](std::string name, std::vector<IValue> more) {
    return [=](const Tensor& q, const Tensor& k, const Tensor& v) {
      std::vector<IValue> arguments = {q, k, v};
      arguments.insert(arguments.end(), more.begin(), more.end());
      return call_for_tensor("aten::" + name, arguments);
    };
  };
  return {{"by hand", true, true, by_hand},
          {"math", true, true, op("_scaled_dot_product_attention_math", {})},
          {"fused", true, false, op("_scaled_dot_product_flash_attention_for_cpu", {})},
          {"flash", false, true, op("_scaled_dot_product_flash_attention", {})},
          {"memory efficient", false, true, op("_scaled_dot_product_efficient_attention", {IValue(), false})},
          {"cudnn", false, true, op("_scaled_dot_product_cudnn_attention", {IValue(), false})},
          {"ours", true, true,
           [](const Tensor& q, const Tensor& k, const Tensor& v) { return attention(q, k, v); }}};
}

// Largest difference over the root mean square of the exact result.
double error_of(const Tensor& result, const Tensor& exact) {
  const Tensor difference = (result.to(at::kCPU, at::kDouble) - exact).abs().max();
  return difference.item<double>() / exact.pow(2).mean().sqrt().item<double>();
}

Row measure(const std::string& device_name, int64_t threads, const std::string& precision, const Shape& shape,
            const RunPlan& plan) {
  set_threads(unsigned(threads));
  const at::Device device = select_device(device_name);
  const c10::InferenceMode inference;
  if (device.is_cuda()) at::globalContext().setAllowTF32CuBLAS(precision == "tf32");
  at::manual_seed(7);
  const auto input = [&] {
    return at::randn({shape.batch, shape.heads, shape.tokens, shape.width}).to(device, scalar_of(precision));
  };
  const Tensor q = input(), k = input(), v = input();
  const auto exact_of = [](const Tensor& t) { return t.to(at::kCPU, at::kDouble); };
  const Tensor exact = by_hand(exact_of(q), exact_of(k), exact_of(v));

  Row rows = Row::array();
  std::vector<Turn> turns;
  for (const BackEnd& back_end : back_ends()) {
    if (device.is_cuda() ? !back_end.cuda : !back_end.cpu) continue;
    Row row = {{"work", "attention"},    {"case", shape.name},         {"shape", shape.text()},
               {"precision", precision}, {"attention", back_end.name}, {"threads", at::get_num_threads()}};
    Turn turn;
    try {
      row["error"] = error_of(back_end.attend(q, k, v), exact);
      const Attend attend = back_end.attend;
      const int repeats = device.is_cuda() ? 20 : 1;
      turn.once = [=] {
        return milliseconds_of([&] {
                 for (int i = 0; i < repeats; ++i) attend(q, k, v);
                 synchronize(device);
               }) /
               repeats;
      };
    } catch (const std::exception& e) {
      turn.failure = first_line(e.what());
    }
    rows.push_back(row);
    turns.push_back(std::move(turn));
  }
  run_in_turn(turns, plan);
  for (size_t i = 0; i < turns.size(); ++i) {
    add_times(turns[i], &rows[i]);
    if (!rows[i].contains("median_ms")) continue;
    rows[i]["gflop"] = shape.operations() / 1e9;
    rows[i]["gflops"] = shape.operations() / rows[i]["median_ms"].get<double>() / 1e6;
  }
  return {{"rows", rows}};
}

void run(Context& context) {
  const Options& o = context.options;
  const bool cuda = context.report().machine().value("device", "").rfind("cuda", 0) == 0;
  std::vector<std::string> precisions = o.precisions;
  if (precisions.empty())
    precisions =
        cuda ? std::vector<std::string>{"fp32", "bf16", "fp16"} : std::vector<std::string>{"fp32", "bf16"};
  const std::vector<Shape> shapes = o.quick
                                        ? std::vector<Shape>(std::begin(kQuickShapes), std::end(kQuickShapes))
                                        : std::vector<Shape>(std::begin(kShapes), std::end(kShapes));
  const int64_t threads = first_or(o.threads, int64_t(0));
  RunPlan plan = context.plan(50, 20);
  if (!o.quick && o.warm_up < 0) plan.warm_up = 10;
  for (const std::string& precision : precisions)
    for (const Shape& shape : shapes) {
      Row answer;
      try {
        answer = in_child([&] { return measure(o.device, threads, precision, shape, plan); });
      } catch (const std::exception& e) {
        context.add({{"work", "attention"},
                     {"case", shape.name},
                     {"shape", shape.text()},
                     {"precision", precision},
                     {"skipped", first_line(e.what())}});
        continue;
      }
      for (Row row : answer["rows"]) {
        const double ceiling = row.contains("gflops") ? context.ceiling(o.device, threads, precision) : 0;
        if (ceiling > 0) row["ceiling_share"] = row["gflops"].get<double>() / ceiling;
        context.add(row);
      }
    }
}

DA3_BENCH_WORK(50, "attention", "one attention layer with every back end there is", run,
               "--precision --threads=1");

}  // namespace
}  // namespace da3::bench
