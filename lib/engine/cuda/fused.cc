// SPDX-License-Identifier: MIT
#include "engine/cuda/fused.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <climits>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include "engine/cuda/driver.h"

namespace da3::cuda {
namespace {

std::optional<Element> element_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return Element::float32;
    case at::kBFloat16:
      return Element::bfloat16;
    case at::kHalf:
      return Element::float16;
    default:
      return std::nullopt;
  }
}

// Four values are moved at a time.
bool is_aligned(const Tensor& t) {
  return reinterpret_cast<uintptr_t>(t.data_ptr()) % (4 * t.element_size()) == 0;
}

// Dense float32 of this shape, on the device of `beside`.
bool is_table(const Tensor& t, at::IntArrayRef sizes, const Tensor& beside) {
  return t.defined() && t.scalar_type() == at::kFloat && t.sizes() == sizes && t.is_contiguous() &&
         t.device() == beside.device() && is_aligned(t);
}

bool is_norm(const Norm& norm, int64_t width, const Tensor& beside) {
  return is_table(norm.weight, {width}, beside) && is_table(norm.bias, {width}, beside);
}

bool wants_gradients(std::initializer_list<const Tensor*> tensors) {
  if (!at::GradMode::is_enabled()) return false;
  for (const Tensor* t : tensors)
    if (t->defined() && t->requires_grad()) return true;
  return false;
}

const float* floats_of(const Tensor& t) {
  return t.defined() ? static_cast<const float*>(t.data_ptr()) : nullptr;
}

}  // namespace

std::string refusal(const AddNormJob& job) {
  const Tensor& x = job.x;
  if (!x.defined() || x.scalar_type() != at::kFloat || x.dim() < 1 || !x.is_contiguous() || !is_aligned(x))
    return "x must be dense float32";
  const int64_t width = x.size(-1);
  if (x.numel() == 0 || width % 4 != 0 || width > kMaxWidth || x.numel() / width > INT_MAX)
    return "the width must be a multiple of 4 up to " + std::to_string(kMaxWidth) + ", with at least one row";
  if (!element_of(job.type)) return "the type must be float32, bfloat16 or float16";
  const Tensor& add = job.add;
  if (add.defined() && (add.scalar_type() != job.type || add.sizes() != x.sizes() || !add.is_contiguous() ||
                        add.device() != x.device() || !is_aligned(add)))
    return "what is added must be dense, of the same shape and of the type of the job";
  if (job.scale.defined() && (!add.defined() || !is_table(job.scale, {width}, x)))
    return "the scale must be float32 [width], of something that is added";
  if (job.norm.defined() && !is_norm(job.norm, width, x))
    return "weight and bias must both be float32 [width]";
  if (!job.norm.defined() && !add.defined()) return "there is nothing to add and no norm";
  if (wants_gradients({&x, &add, &job.scale, &job.norm.weight, &job.norm.bias}))
    return "gradients are wanted";
  return "";
}

std::string refusal(const HeadsJob& job) {
  const Tensor& x = job.x;
  if (!x.defined() || !element_of(x.scalar_type()) || x.dim() != 4 || x.size(3) != kHeadValues)
    return "x must be [batch, tokens, heads, 64] in float32, bfloat16 or float16";
  if (x.numel() == 0 || x.numel() / kHeadValues > INT_MAX) return "there must be between 1 and 2^31 heads";
  if (x.stride(3) != 1 || x.stride(2) != kHeadValues || x.stride(1) < 0 || x.stride(1) % 4 != 0 ||
      x.stride(0) < 0 || x.stride(0) % 4 != 0 || !is_aligned(x))
    return "the heads of a token must lie side by side, tokens and items multiples of four values apart";
  if (job.norm.defined() && !is_norm(job.norm, kHeadValues, x))
    return "weight and bias must both be float32 [64]";
  if (job.cosine.defined() || job.sine.defined()) {
    const int64_t positions = job.cosine.defined() && job.cosine.dim() == 2 ? job.cosine.size(0) : 0;
    if (positions < 1 || positions > INT_MAX || !is_table(job.cosine, {positions, kHeadValues}, x) ||
        !is_table(job.sine, {positions, kHeadValues}, x))
      return "cosine and sine must both be float32 [positions, 64]";
  }
  if (wants_gradients({&x, &job.norm.weight, &job.norm.bias})) return "gradients are wanted";
  return "";
}

std::string refusal(const QuantiseJob& job) {
  const Tensor& x = job.x;
  if (!x.defined() || !element_of(x.scalar_type()) || x.dim() != 2 || !x.is_contiguous() || !is_aligned(x))
    return "x must be dense [rows, width] in float32, bfloat16 or float16";
  if (x.numel() == 0 || x.size(1) % 4 != 0 || x.size(1) > kMaxWidth || x.size(0) > INT_MAX)
    return "the width must be a multiple of 4 up to " + std::to_string(kMaxWidth) + ", with at least one row";
  if (wants_gradients({&x})) return "gradients are wanted";
  return "";
}

SumAndNorm add_norm_by(const Start& start, const AddNormJob& job) {
  const int64_t width = job.x.size(-1);
  SumAndNorm out;
  AddNormArguments arguments{};
  arguments.x = floats_of(job.x);
  arguments.width = int(width);
  if (job.add.defined()) {
    out.sum = at::empty(job.x.sizes(), job.x.options());
    arguments.add = job.add.data_ptr();
    arguments.scale = floats_of(job.scale);
    arguments.sum = static_cast<float*>(out.sum.data_ptr());
  }
  if (job.norm.defined()) {
    out.normed = at::empty(job.x.sizes(), job.x.options().dtype(job.type));
    arguments.normed = out.normed.data_ptr();
    arguments.weight = floats_of(job.norm.weight);
    arguments.bias = floats_of(job.norm.bias);
    arguments.eps = float(job.norm.eps);
  }
  start(Kernel::add_norm, *element_of(job.type), grid_of_rows(job.x.numel() / width, width), &arguments);
  return out;
}

Tensor take_heads_by(const Start& start, const HeadsJob& job) {
  const Tensor& x = job.x;
  const int64_t batch = x.size(0), tokens = x.size(1), heads = x.size(2), count = batch * tokens * heads;
  const Tensor out = at::empty({batch, heads, tokens, kHeadValues}, x.options());
  NormRopeArguments arguments{};
  arguments.from = x.data_ptr();
  arguments.to = out.data_ptr();
  arguments.batch_stride = x.stride(0);
  arguments.token_stride = x.stride(1);
  arguments.count = unsigned(count);
  arguments.heads = unsigned(heads);
  arguments.tokens = unsigned(tokens);
  arguments.weight = floats_of(job.norm.weight);
  arguments.bias = floats_of(job.norm.bias);
  arguments.eps = float(job.norm.eps);
  arguments.cosine = floats_of(job.cosine);
  arguments.sine = floats_of(job.sine);
  arguments.positions = job.cosine.defined() ? unsigned(job.cosine.size(0)) : 1;
  start(Kernel::norm_rope, *element_of(x.scalar_type()), grid_of_heads(count), &arguments);
  return out;
}

EightBitRows quantise_rows_by(const Start& start, const QuantiseJob& job) {
  const Tensor& x = job.x;
  const EightBitRows out{at::empty(x.sizes(), x.options().dtype(at::kByte)),
                         at::empty({x.size(0), 1}, x.options().dtype(at::kFloat))};
  QuantiseArguments arguments{};
  arguments.x = x.data_ptr();
  arguments.to = static_cast<unsigned char*>(out.values.data_ptr());
  arguments.scale = static_cast<float*>(out.scale.data_ptr());
  arguments.width = int(x.size(1));
  start(Kernel::quantise, *element_of(x.scalar_type()), grid_of_rows(x.size(0), x.size(1)), &arguments);
  return out;
}

namespace {

// Made-up values between -2 and 2, without touching anybody's random numbers.
Tensor made_up(at::IntArrayRef sizes, double step, at::Device device) {
  int64_t count = 1;
  for (const int64_t size : sizes) count *= size;
  return at::arange(count, at::TensorOptions(at::kDouble).device(device))
      .mul(step)
      .sin()
      .mul(2)
      .to(at::kFloat)
      .reshape(sizes);
}

// Equal up to a step of `type` here and there. Not so where one is not a number.
bool agree(const Tensor& mine, const Tensor& exact, at::ScalarType type) {
  const double step = type == at::kFloat ? 1e-5 : type == at::kHalf ? 1.0 / 1024 : 1.0 / 128;
  if (mine.scalar_type() != type || mine.sizes() != exact.sizes()) return false;
  return at::allclose(mine.to(at::kDouble), exact.to(at::kDouble), step, /*atol=*/1e-5);
}

bool check_add_norm(const Start& start, at::Device device, at::ScalarType type, int64_t width) {
  AddNormJob job;
  job.x = made_up({3, width}, 0.37, device) * 3;
  job.add = made_up({3, width}, 0.73, device).to(type);
  job.scale = made_up({width}, 1.1, device);
  job.norm = {made_up({width}, 0.61, device), made_up({width}, 0.29, device), 1e-6};
  job.type = type;
  const Tensor sum = job.x + job.add.to(at::kFloat) * job.scale;
  const SumAndNorm both = add_norm_by(start, job);
  const Tensor normed = at::layer_norm(sum, {width}, job.norm.weight, job.norm.bias, job.norm.eps);
  if (!agree(both.sum, sum, at::kFloat) || !agree(both.normed, normed, type)) return false;
  AddNormJob alone = job;  // the norm of x
  alone.add = alone.scale = Tensor();
  const Tensor plain = at::layer_norm(job.x, {width}, job.norm.weight, job.norm.bias, job.norm.eps);
  if (!agree(add_norm_by(start, alone).normed, plain, type)) return false;
  job.scale = Tensor();  // the sum
  job.norm = {};
  return agree(add_norm_by(start, job).sum, job.x + job.add.to(at::kFloat), at::kFloat);
}

// (u, v) becomes (u cos - v sin, v cos + u sin) in both halves of a head. x: float32 [.., tokens, 64].
Tensor turned(const Tensor& x, const Tensor& cosine, const Tensor& sine) {
  const auto part = [](const Tensor& t, int64_t i) { return t.narrow(-1, 16 * i, 16); };
  std::vector<Tensor> out;
  for (const int64_t i : {0, 2}) {
    const Tensor u = part(x, i), v = part(x, i + 1), c = part(cosine, i), s = part(sine, i);
    out.push_back(u * c - v * s);
    out.push_back(v * c + u * s);
  }
  return at::cat(out, -1);
}

bool check_take_heads(const Start& start, at::Device device, at::ScalarType type) {
  constexpr int64_t kBatch = 2, kTokens = 6, kHeads = 3, kPositions = 3;
  HeadsJob job;
  job.x = made_up({kBatch, kTokens, 3, kHeads, kHeadValues}, 0.37, device).to(type).select(2, 1);
  job.norm = {made_up({kHeadValues}, 0.61, device), made_up({kHeadValues}, 0.29, device), 1e-5};
  const Tensor angles = made_up({kPositions, kHeadValues}, 0.83, device);
  job.cosine = angles.cos();
  job.sine = angles.sin();
  const Tensor x = job.x.transpose(1, 2).to(at::kFloat);
  const Tensor normed = at::layer_norm(x, {kHeadValues}, job.norm.weight, job.norm.bias, job.norm.eps);
  const Tensor cosine = job.cosine.repeat({kTokens / kPositions, 1});
  const Tensor sine = job.sine.repeat({kTokens / kPositions, 1});
  if (!agree(take_heads_by(start, job), turned(normed, cosine, sine), type)) return false;
  HeadsJob some = job;
  some.norm = {};
  if (!agree(take_heads_by(start, some), turned(x, cosine, sine), type)) return false;
  job.cosine = job.sine = Tensor();
  return agree(take_heads_by(start, job), normed, type);
}

// What e4m3 with these bits is: a sign, 4 bits of exponent and 3 of fraction. No LibTorch that knows the type
// is needed.
Tensor from_e4m3(const Tensor& bits) {
  const Tensor all = bits.to(at::kInt), size = all.bitwise_and(0x7f);
  const Tensor exponent = size.div(8, "floor"), fraction = size.remainder(8).to(at::kDouble);
  const Tensor normal = (fraction / 8 + 1) * at::pow(2.0, exponent.to(at::kDouble) - 7);
  const Tensor value = at::where(exponent > 0, normal, fraction / 512);
  return at::where(all > 0x7f, -value, value);
}

bool check_quantise(const Start& start, at::Device device, at::ScalarType type, int64_t width) {
  QuantiseJob job;
  job.x = made_up({3, width}, 0.37, device).to(type);
  job.x.select(0, 1).mul_(1.0 / 64);
  const EightBitRows out = quantise_rows_by(start, job);
  const Tensor x = job.x.to(at::kDouble), largest = std::get<0>(x.abs().max(1, /*keepdim=*/true));
  if (!agree(out.scale / (largest / 448).to(at::kFloat), at::ones_like(out.scale), at::kFloat)) return false;
  // Half a step of three bits, or of the smallest values.
  const Tensor wrong = (from_e4m3(out.values) * out.scale.to(at::kDouble) - x).abs();
  return wrong.le(x.abs() / 15.9 + largest / 448 / 1000).all().item<bool>();
}

}  // namespace

std::string self_check(const Start& start, at::Device device, at::ScalarType type) {
  for (const int64_t width : {int64_t(64), int64_t(1536), kMaxWidth})
    if (!check_add_norm(start, device, type, width))
      return "sums and norms of width " + std::to_string(width) + " differ from LibTorch's";
  if (!check_take_heads(start, device, type)) return "queries and keys differ from LibTorch's";
  return "";
}

std::string self_check_rows(const Start& start, at::Device device, at::ScalarType type) {
  for (const int64_t width : {int64_t(64), kMaxWidth})
    if (!check_quantise(start, device, type, width))
      return "rows of " + std::to_string(width) + " values in 8 bits are not what they were";
  return "";
}

namespace {

// LibTorch tells its streams to those who know no CUDA header since one of its later releases.
template <typename S>
constexpr bool kTellsStreams = requires(const S& stream) {
  stream.native_handle();
};

// The CUstream that LibTorch's operators go to now on this device.
template <typename S = c10::Stream>
void* current_stream(at::Device device) {
  [[maybe_unused]] const S stream = c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).getStream(device);
  if constexpr (kTellsStreams<S>)
    return stream.native_handle();
  else
    throw CudaError("this LibTorch does not tell its streams");
}

std::string first_line(const char* text) {
  const std::string all = text;
  return all.substr(0, all.find('\n'));
}

// What is tried together: rows in 8 bits by themselves, since most models do not need them.
enum class Group { blocks, rows };

// Remembers what is available on which device in which type.
class Availability {
 public:
  // Null, and why, when not.
  const Kernels* find(Group group, at::Device device, at::ScalarType type, std::string* why_not) {
    const std::lock_guard<std::mutex> guard(lock_);
    const Key key{group, int(device.index()), type};
    auto found = known_.find(key);
    if (found == known_.end()) {
      bool put_off = false;
      Outcome outcome = make(group, device, type, &put_off);
      if (put_off) {
        if (why_not) *why_not = outcome.error;
        return nullptr;
      }
      found = known_.emplace(key, std::move(outcome)).first;
    }
    if (why_not) *why_not = found->second.error;
    return found->second.kernels;
  }

  void give_up(Group group, at::Device device, at::ScalarType type, std::string why) {
    const std::lock_guard<std::mutex> guard(lock_);
    known_[{group, int(device.index()), type}] = {nullptr, std::move(why)};
  }

 private:
  using Key = std::tuple<Group, int, at::ScalarType>;
  struct Outcome {
    const Kernels* kernels = nullptr;
    std::string error;
  };

  static Outcome make(Group group, at::Device device, at::ScalarType type, bool* put_off);

  std::mutex lock_;
  std::map<Key, Outcome> known_;
};

Availability& availability() {
  static Availability all;
  return all;
}

Start starter(const Kernels& kernels, at::Device device) {
  return [&kernels, stream = current_stream(device)](Kernel kernel, Element element, Grid grid,
                                                     const void* arguments) {
    kernels.start(kernel, element, grid, arguments, stream);
  };
}

Availability::Outcome Availability::make(Group group, at::Device device, at::ScalarType type, bool* put_off) {
  const char* const wish = std::getenv("DA3_CUDA_KERNELS");
  if (wish && std::string(wish) == "0") return {nullptr, "turned off by DA3_CUDA_KERNELS=0"};
  try {
    if (!at::hasCUDA()) return {nullptr, "this LibTorch is not built for CUDA"};
    if (device.index() >= int(at::detail::getCUDAHooks().getNumGPUs()))
      return {nullptr, "there is no device " + device.str()};
    const c10::DeviceGuard guard(device);
    void* const stream = current_stream(device);
    if (is_capturing(driver(), stream)) {
      *put_off = true;
      return {nullptr, "not tried yet: a graph is being recorded"};
    }
    const Kernels& kernels = kernels_on(device.index());
    const auto check = group == Group::blocks ? self_check : self_check_rows;
    std::string differs = check(starter(kernels, device), device, type);
    if (!differs.empty()) return {nullptr, std::move(differs)};
    return {&kernels, ""};
  } catch (const std::exception& e) {
    return {nullptr, first_line(e.what())};
  }
}

// Of ServesCpu, or null.
const Start* start_on_cpu = nullptr;

template <typename Job, typename Run>
auto run(Group group, const Job& job, at::ScalarType type, Run by)
    -> std::optional<decltype(by(Start(), job))> {
  if (!job.x.defined() || !serves(job.x.device()) || !refusal(job).empty()) return std::nullopt;
  const at::Device device = job.x.device();
  try {
    if (device.is_cpu()) return by(*start_on_cpu, job);
    const Kernels* const kernels = availability().find(group, device, type, nullptr);
    if (!kernels) return std::nullopt;
    const c10::DeviceGuard guard(device);
    return by(starter(*kernels, device), job);
  } catch (const CudaError& e) {
    availability().give_up(group, device, type, e.what());
    return std::nullopt;
  }
}

}  // namespace

ServesCpu::ServesCpu(Start start) : start_(std::move(start)) {
  start_on_cpu = &start_;
}

ServesCpu::~ServesCpu() {
  start_on_cpu = nullptr;
}

bool serves(at::Device device) {
  return device.is_cuda() || (start_on_cpu && device.is_cpu());
}

bool has_fused(at::Device device, at::ScalarType type, std::string* why_not) {
  std::string why;
  bool out = false;
  try {
    if (!device.is_cuda())
      why = "these kernels are for CUDA, not for " + device.str();
    else if (!element_of(type))
      why = std::string("there are no such kernels for ") + c10::toString(type);
    else if (!device.has_index())
      why = "the device must have a number";
    else
      out = availability().find(Group::blocks, device, type, &why) != nullptr;
  } catch (const std::exception& e) {
    why = first_line(e.what());
  }
  if (why_not) *why_not = out ? "" : why;
  return out;
}

std::optional<SumAndNorm> add_norm(const AddNormJob& job) {
  return run(Group::blocks, job, job.type, add_norm_by);
}

std::optional<EightBitRows> quantise_rows(const QuantiseJob& job) {
  return run(Group::rows, job, job.x.defined() ? job.x.scalar_type() : at::kFloat, quantise_rows_by);
}

std::optional<Tensor> take_heads(const HeadsJob& job) {
  return run(Group::blocks, job, job.x.defined() ? job.x.scalar_type() : at::kFloat, take_heads_by);
}

}  // namespace da3::cuda
