// SPDX-License-Identifier: MIT
//
// Work `ceiling`: the rates of matrix product, 3x3 convolution and memory that every other figure is compared
// with. Each rate is that of the best operator there is for it on this machine, of LibTorch or our own; the
// others are listed too.
#include "works/ceiling.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <torch/version.h>

#include <memory>
#include <stdexcept>

#include "core/stats.h"
#include "core/worker.h"
#include "engine/kernels/bfloat16_conv.h"
#include "engine/kernels/winograd.h"
#include "engine/network/balanced_for.h"
#include "engine/network/int8_layer.h"
#include "engine/network/tiled_linear.h"
#include "engine/runtime/device.h"
#include "works/libtorch.h"
#include "works/work.h"

namespace da3::bench {
namespace {

using at::Tensor;
using c10::IValue;

// A way to compute something, ready to run.
struct Candidate {
  std::string name;
  std::function<std::function<void()>()> prepare;  // throws when the machine or LibTorch lacks it
};

struct MatmulShape {
  int64_t rows, in, out;
  std::string text() const {
    return std::to_string(rows) + "x" + std::to_string(in) + "x" + std::to_string(out);
  }
  double operations() const { return 2.0 * double(rows) * double(in) * double(out); }
};

IValue no_scalars() {
  return c10::List<c10::optional<at::Scalar>>();
}

Tensor random_floats(at::IntArrayRef shape, const at::Device& device, at::ScalarType type) {
  return at::randn(shape, at::TensorOptions(at::kFloat)).to(device, type);
}

// Laid out anew for oneDNN. Newer versions take the weight as it is, older ones in the type of oneDNN.
Tensor packed(const std::string& name, const Tensor& weight, std::vector<IValue> more) {
  const auto call = [&](const Tensor& w) {
    std::vector<IValue> arguments = {w};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return call_for_tensor(name, arguments);
  };
  try {
    return call(weight);
  } catch (const c10::Error&) {
    return call(call_for_tensor("aten::to_mkldnn", {weight}));
  }
}

std::function<void()> int8_linear(const MatmulShape& s) {
  const auto bytes = at::TensorOptions(at::kByte), floats = at::TensorOptions(at::kFloat);
  const Tensor x = at::randint(0, 255, {s.rows, s.in}, bytes);
  const Tensor w = at::randint(-127, 127, {s.out, s.in}, at::TensorOptions(at::kChar));
  const Tensor laid_out = call_for_tensor("onednn::qlinear_prepack", {w, std::vector<int64_t>{s.rows, s.in}});
  const Tensor scales = at::full({s.out}, 0.01, floats),
               zeros = at::zeros({s.out}, at::TensorOptions(at::kInt));
  return [=] {
    call_for_tensor("onednn::qlinear_pointwise",
                    {x, 0.02, int64_t(128), laid_out, scales, zeros, IValue(), 1.0, int64_t(0),
                     IValue(int64_t(at::kFloat)), std::string("none"), no_scalars(), std::string()});
  };
}

// As the engine's layers: rows are quantised, too.
std::function<void()> our_int8_linear(const MatmulShape& s) {
  const Tensor x = random_floats({s.rows, s.in}, at::kCPU, at::kFloat),
               w = random_floats({s.out, s.in}, at::kCPU, at::kFloat);
  const auto layer = std::make_shared<const Int8Layer>(w, Tensor());
  return [=] { layer->forward(x, at::kFloat); };
}

// By whole tiles.
std::function<void()> our_bfloat16_linear(const MatmulShape& s, at::ScalarType type) {
  if (!TiledLinear::runs(type)) throw std::runtime_error("it takes bfloat16, on a processor with AMX");
  const Tensor x = random_floats({s.rows, s.in}, at::kCPU, type),
               w = random_floats({s.out, s.in}, at::kCPU, type);
  const auto layer = std::make_shared<const TiledLinear>(w, Tensor());
  return [=] { layer->forward(x); };
}

std::function<void()> our_bfloat16_convolution(const Tensor& x, const Tensor& weight) {
  using kernels::Bfloat16Conv;
  if (x.scalar_type() != at::kBFloat16 || !Bfloat16Conv::available())
    throw std::runtime_error("it takes bfloat16, on a processor with AMX");
  const Tensor y = at::empty_like(x), w = weight.contiguous();
  const auto conv = std::make_shared<const Bfloat16Conv>(static_cast<const uint16_t*>(w.data_ptr()), nullptr,
                                                         w.size(0), w.size(1));
  return [=] {
    const Bfloat16Conv::Job job{
        static_cast<const uint16_t*>(x.data_ptr()), x.size(0), x.size(2), x.size(3), 1,
        static_cast<uint16_t*>(y.data_ptr())};
    balanced_for(conv->pieces(job), 1, [&](int64_t begin, int64_t end) { conv->run(job, begin, end); });
  };
}

template <typename T>
std::function<void()> our_convolution(std::shared_ptr<const kernels::WinogradConv> conv, const Tensor& x) {
  const Tensor y = at::empty_like(x);
  return [=] {
    const kernels::WinogradConv::Job<T> job{
        static_cast<const T*>(x.data_ptr()), x.size(0), x.size(2), x.size(3), 1,
        static_cast<T*>(y.data_ptr())};
    balanced_for(conv->blocks(job), 1, [&](int64_t begin, int64_t end) { conv->run(job, begin, end); });
  };
}

// By Winograd's filtering, on a channels-last map with as many channels out as in.
std::function<void()> our_convolution(const Tensor& x, const Tensor& weight) {
  using kernels::WinogradConv;
  const int64_t channels = x.size(1);
  if (!WinogradConv::available()) throw std::runtime_error("this processor has no AVX-512");
  if (!WinogradConv::fits(channels, channels)) throw std::runtime_error("it does not fit these channels");
  const auto conv = std::make_shared<const WinogradConv>(weight.contiguous().data_ptr<float>(), nullptr,
                                                         channels, channels);
  if (x.scalar_type() == at::kFloat) return our_convolution<float>(conv, x);
  if (x.scalar_type() == at::kBFloat16) return our_convolution<uint16_t>(conv, x);
  throw std::runtime_error("it takes float32 and bfloat16");
}

std::vector<Candidate> cpu_matmul(const MatmulShape& s, const std::string& precision) {
  if (precision == "int8") {
    return {{"ours", [s] { return our_int8_linear(s); }},
            {"onednn qlinear", [s] { return int8_linear(s); }},
            {"_int_mm", [s] {
               const auto chars = at::TensorOptions(at::kChar);
               const Tensor a = at::randint(-127, 127, {s.rows, s.in}, chars),
                            b = at::randint(-127, 127, {s.out, s.in}, chars).t();
               return [=] { call_for_tensor("aten::_int_mm", {a, b}); };
             }}};
  }
  const at::ScalarType type = scalar_of(precision);
  return {{"ours", [s, type] { return our_bfloat16_linear(s, type); }},
          {"mm",
           [s, type] {
             const Tensor a = random_floats({s.rows, s.in}, at::kCPU, type),
                          b = random_floats({s.in, s.out}, at::kCPU, type);
             return [=] { at::mm(a, b); };
           }},
          {"linear",
           [s, type] {
             const Tensor a = random_floats({s.rows, s.in}, at::kCPU, type),
                          w = random_floats({s.out, s.in}, at::kCPU, type);
             return [=] { at::linear(a, w); };
           }},
          {"onednn packed linear", [s, type] {
             const Tensor a = random_floats({s.rows, s.in}, at::kCPU, type),
                          w = random_floats({s.out, s.in}, at::kCPU, type);
             const Tensor laid_out = packed("mkldnn::_reorder_linear_weight", w, {s.rows});
             return [=] {
               call_for_tensor("mkldnn::_linear_pointwise",
                               {a, laid_out, IValue(), std::string("none"), no_scalars(), std::string()});
             };
           }}};
}

std::vector<Candidate> cuda_matmul(const MatmulShape& s, const std::string& precision, at::Device device) {
  if (precision == "int8") {
    return {{"_int_mm", [=] {
               const auto chars = at::TensorOptions(at::kChar);
               const Tensor a = at::randint(-127, 127, {s.rows, s.in}, chars).to(device),
                            b = at::randint(-127, 127, {s.out, s.in}, chars).to(device).t();
               return [=] { call_for_tensor("aten::_int_mm", {a, b}); };
             }}};
  }
  if (precision == "fp8") {
    return {{"_scaled_mm", [=]() -> std::function<void()> {
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 1)
               const Tensor
                   a = random_floats({s.rows, s.in}, device, at::kFloat).to(at::ScalarType::Float8_e4m3fn),
                   b = random_floats({s.out, s.in}, device, at::kFloat).to(at::ScalarType::Float8_e4m3fn).t();
               const Tensor one = at::ones({}, at::TensorOptions(at::kFloat).device(device));
               return [=] {
                 call_for_tensor("aten::_scaled_mm",
                                 {a, b, one, one, IValue(), IValue(), IValue(int64_t(at::kBFloat16)), true});
               };
#else
               throw std::runtime_error("this LibTorch has no fp8 tensors");
#endif
             }}};
  }
  const at::ScalarType type = scalar_of(precision);
  const bool tf32 = precision == "tf32";
  return {{"mm", [=] {
             const Tensor a = random_floats({s.rows, s.in}, device, type),
                          b = random_floats({s.in, s.out}, device, type);
             return [=] {
               at::globalContext().setAllowTF32CuBLAS(tf32);
               at::mm(a, b);
             };
           }}};
}

// Runs all candidates in turn; `base` rows get operator, times and the rate.
void measure(const std::vector<Candidate>& candidates, const Row& base, double operations, at::Device device,
             const RunPlan& plan, Row* rows) {
  std::vector<Turn> turns;
  for (const Candidate& c : candidates) {
    Turn turn;
    try {
      const auto body = c.prepare();
      // On a GPU several calls share one wait.
      const int repeats = device.is_cuda() ? 20 : 1;
      turn.once = [=] {
        return milliseconds_of([&] {
                 for (int i = 0; i < repeats; ++i) body();
                 synchronize(device);
               }) /
               repeats;
      };
    } catch (const std::exception& e) {
      turn.failure = first_line(e.what());
    }
    turns.push_back(std::move(turn));
  }
  run_in_turn(turns, plan);
  for (size_t i = 0; i < turns.size(); ++i) {
    Row row = base;
    row["operator"] = candidates[i].name;
    turns[i].failure = first_line(turns[i].failure);
    add_times(turns[i], &row);
    if (row.contains("median_ms")) row["gflops"] = operations / row["median_ms"].get<double>() / 1e6;
    rows->push_back(row);
  }
}

at::Device prepare(const std::string& device_name, int64_t threads) {
  set_threads(unsigned(threads));
  return select_device(device_name);
}

std::vector<Candidate> convolutions(const std::string& precision, at::Device device, int64_t channels,
                                    int64_t side) {
  const at::ScalarType type = scalar_of(precision);
  const bool tf32 = precision == "tf32";
  const auto input = [=] { return random_floats({1, channels, side, side}, device, type); };
  const auto weight = [=] { return random_floats({channels, channels, 3, 3}, device, type); };
  const auto last = at::MemoryFormat::ChannelsLast;
  const auto plain = [=](const Tensor& x, const Tensor& w) {
    return [=] {
      if (device.is_cuda()) at::globalContext().setAllowTF32CuDNN(tf32);
      at::conv2d(x, w, {}, 1, 1);
    };
  };
  std::vector<Candidate> out = {
      {"conv2d", [=] { return plain(input(), weight()); }},
      {"conv2d channels last", [=] { return plain(input().contiguous(last), weight().contiguous(last)); }}};
  if (device.is_cpu()) {
    out.push_back({"ours, Winograd",
                   [=] { return our_convolution(input().contiguous(last), weight().to(at::kFloat)); }});
    out.push_back(
        {"ours, tiles", [=] { return our_bfloat16_convolution(input().contiguous(last), weight()); }});
    out.push_back({"onednn packed convolution", [=] {
                     const std::vector<int64_t> one = {1, 1};
                     const Tensor x = input().contiguous(last);
                     const Tensor w =
                         packed("mkldnn::_reorder_convolution_weight", weight(),
                                {one, one, one, int64_t(1), std::vector<int64_t>{1, channels, side, side}});
                     return [=] {
                       call_for_tensor("mkldnn::_convolution_pointwise",
                                       {x, w, IValue(), one, one, one, int64_t(1), std::string("none"),
                                        no_scalars(), std::string()});
                     };
                   }});
  }
  return out;
}

std::function<void()> triad(at::Device device, int64_t count) {
  const auto floats = at::TensorOptions(at::kFloat).device(device);
  const Tensor a = at::zeros({count}, floats), b = at::ones({count}, floats), c = at::ones({count}, floats);
  if (!device.is_cpu())
    return [=]() mutable {
      Tensor out = a;
      at::add_out(out, b, c, 3);
    };
  return [=] {
    float* to = a.data_ptr<float>();
    const float *x = b.data_ptr<float>(), *y = c.data_ptr<float>();
    at::parallel_for(0, count, 1 << 16, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to[i] = x[i] + 3.0f * y[i];
    });
  };
}

std::vector<std::string> precisions_for(bool cuda, const std::vector<std::string>& wanted) {
  if (!wanted.empty()) return wanted;
  return cuda ? std::vector<std::string>{"fp32", "tf32", "bf16", "fp16", "int8", "fp8"}
              : std::vector<std::string>{"fp32", "bf16", "int8"};
}

void run(Context& context) {
  const Options& o = context.options;
  const std::string device = o.device;
  const bool cuda = context.report().machine().value("device", "").rfind("cuda", 0) == 0;
  const std::vector<std::string> precisions = precisions_for(cuda, o.precisions);
  const RunPlan plan = context.plan(20, 15);
  std::vector<int64_t> threads = o.threads;
  if (threads.empty()) threads = {0};
  for (const int64_t t : threads) {
    using Measure = std::function<Row()>;
    for (const Measure& body :
         {Measure([&] { return measure_matmul(device, t, precisions, o.quick, plan); }),
          Measure([&] { return measure_convolution(device, t, precisions, o.quick, plan); }),
          Measure([&] { return measure_bandwidth(device, t, o.quick, plan); })}) {
      const Row answer = in_child(body, 1800);
      for (const Row& row : answer["rows"]) context.add(row);
    }
  }
}

}  // namespace

Row measure_matmul(const std::string& device_name, int64_t threads,
                   const std::vector<std::string>& precisions, bool quick, const RunPlan& plan) {
  const at::Device device = prepare(device_name, threads);
  const c10::InferenceMode inference;
  // The products of a network: tokens of one 504x504 image by the feed-forward layer of da3-large, and a
  // square.
  std::vector<MatmulShape> shapes = {{1297, 1024, 4096}, {2048, 2048, 2048}};
  if (device.is_cuda()) shapes = {{20752, 1024, 4096}, {8192, 8192, 8192}};
  if (quick) shapes = {{256, 256, 256}};
  Row rows = Row::array();
  for (const std::string& asked : precisions) {
    const std::string precision =
        asked == "auto" ? name_of(select_precision(DA3_PRECISION_AUTO, device)) : asked;
    for (const MatmulShape& s : shapes) {
      const Row base = {{"work", "ceiling"},
                        {"case", "matmul"},
                        {"precision", precision},
                        {"shape", s.text()},
                        {"threads", at::get_num_threads()}};
      if (device.is_cpu() && (precision == "tf32" || precision == "fp8")) {
        Row row = base;
        row["skipped"] = "a CPU does not have this precision";
        rows.push_back(row);
        continue;
      }
      measure(device.is_cuda() ? cuda_matmul(s, precision, device) : cpu_matmul(s, precision), base,
              s.operations(), device, plan, &rows);
    }
  }
  return {{"rows", rows}};
}

Row measure_convolution(const std::string& device_name, int64_t threads,
                        const std::vector<std::string>& precisions, bool quick, const RunPlan& plan) {
  const at::Device device = prepare(device_name, threads);
  const c10::InferenceMode inference;
  // A fusion block of da3-base at 504x504.
  const int64_t channels = quick              ? 32
                           : device.is_cuda() ? 256
                                              : 128,
                side = quick              ? 36
                       : device.is_cuda() ? 288
                                          : 144;
  Row rows = Row::array();
  for (const std::string& precision : precisions) {
    if (precision == "int8" || precision == "fp8" || precision == "auto") continue;
    if (device.is_cpu() && precision == "tf32") continue;
    const double operations = 2.0 * 9 * double(channels * channels) * double(side * side);
    const std::string shape =
        std::to_string(channels) + " channels " + std::to_string(side) + "x" + std::to_string(side);
    measure(convolutions(precision, device, channels, side),
            {{"work", "ceiling"},
             {"case", "convolution 3x3"},
             {"precision", precision},
             {"shape", shape},
             {"threads", at::get_num_threads()}},
            operations, device, plan, &rows);
  }
  return {{"rows", rows}};
}

Row measure_bandwidth(const std::string& device_name, int64_t threads, bool quick, const RunPlan& plan) {
  const at::Device device = prepare(device_name, threads);
  const c10::InferenceMode inference;
  // Far larger than any cache.
  const int64_t count = quick ? 1 << 20 : int64_t(1) << (device.is_cuda() ? 28 : 26);
  const auto body = triad(device, count);
  std::vector<Turn> turns = {{stopwatch([&] {
    body();
    synchronize(device);
  })}};
  run_in_turn(turns, plan);
  Row row = {{"work", "ceiling"},
             {"case", "memory triad"},
             {"precision", "fp32"},
             {"shape", number_text(3.0 * double(count) * 4 / 1e6) + " MB"},
             {"threads", at::get_num_threads()}};
  add_times(turns[0], &row);
  // Two arrays are read and one is written; that a processor may read what it overwrites is not counted.
  if (row.contains("median_ms"))
    row["gbytes_per_s"] = 3.0 * double(count) * 4 / row["median_ms"].get<double>() / 1e6;
  Row rows = Row::array();
  rows.push_back(row);
  return {{"rows", rows}};
}

DA3_BENCH_WORK(10, "ceiling", "matrix products, 3x3 convolutions and memory: what the machine can do at best",
               run, "--precision --threads");

}  // namespace da3::bench
