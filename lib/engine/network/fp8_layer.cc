// SPDX-License-Identifier: MIT
#include "engine/network/fp8_layer.h"

#include <torch/version.h>

#include <exception>
#include <limits>
#include <map>
#include <mutex>
#include <stdexcept>

#include "engine/cuda/fused.h"
#include "engine/network/registered_operator.h"

// The first release whose product takes a scale for each row.
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 5)
#define DA3_HAS_FP8
#endif

namespace da3 {

using at::Tensor;

#ifdef DA3_HAS_FP8

namespace {

constexpr double kLargest = 448;  // of e4m3
constexpr int64_t kMultiple = 16;
constexpr at::ScalarType kE4m3 = at::kFloat8_e4m3fn;

const registered::Operator& product() {
  static const registered::Operator found = registered::find("aten::_scaled_mm", "");
  return found;
}

struct Rows {
  Tensor values;  // e4m3 [rows, width]
  Tensor scale;   // float32 [rows, 1]
};

// By a kernel of our own where there is one, else by operators, to the same values.
Rows quantised(const Tensor& x) {
  if (const auto own = cuda::quantise_rows({x})) return {own->values.view(kE4m3), own->scale};
  const Tensor wide = x.to(at::kFloat), largest = wide.abs().amax(1, /*keepdim=*/true);
  Tensor scale = largest / kLargest;
  scale = at::where(scale < std::numeric_limits<float>::min(), at::ones_like(scale), scale);
  scale.masked_fill_(largest.isfinite().logical_not(), std::numeric_limits<double>::quiet_NaN());
  return {(wide * scale.reciprocal()).nan_to_num(0, 0, 0).clamp(-kLargest, kLargest).to(kE4m3), scale};
}

std::string first_line(const char* text) {
  const std::string all = text;
  return all.substr(0, all.find('\n'));
}

std::string try_on(at::Device device) {
  if (!registered::usable(product(), "self", 8)) return "this LibTorch has no product of 8-bit floats";
  try {
    const c10::InferenceMode inference;
    // Noise, without touching anybody's random numbers.
    const auto some = [&](int64_t rows, int64_t columns, double step) {
      const Tensor waves = at::arange(rows * columns, at::TensorOptions(at::kFloat)).mul(step).sin();
      return waves.mul(437.585).frac().view({rows, columns}).to(device);
    };
    const Tensor weight = some(48, 64, 0.37), bias = some(1, 48, 0.7)[0], x = some(20, 64, 0.91);
    const Tensor y = Fp8Layer(weight, bias, at::kBFloat16).forward(x.to(at::kBFloat16)).to(at::kFloat);
    const Tensor exact = at::linear(x, weight, bias);
    const double error = ((y - exact).norm() / exact.norm()).item<double>();
    if (error < 0.06) return "";
    return "its product of 8-bit floats is wrong here (a relative error of " + std::to_string(error) + ")";
  } catch (const std::exception& e) {
    return first_line(e.what());
  }
}

}  // namespace

std::string Fp8Layer::refusal(at::Device device) {
  static std::mutex lock;
  static std::map<std::string, std::string> known;
  const std::lock_guard<std::mutex> guard(lock);
  const auto found = known.find(device.str());
  return found != known.end() ? found->second : known.emplace(device.str(), try_on(device)).first->second;
}

Fp8Layer::Fp8Layer(const Tensor& weight, const Tensor& bias, at::ScalarType type)
    : bias_(bias.defined() ? bias.to(type, /*non_blocking=*/false, /*copy=*/true) : bias), type_(type) {
  if (weight.dim() != 2 || weight.size(0) % kMultiple != 0 || weight.size(1) % kMultiple != 0)
    throw std::invalid_argument(
        "A layer in 8-bit floats has multiples of 16 inputs and outputs, not weights " +
        c10::str(weight.sizes()) + ".");
  const Rows rows = quantised(weight.contiguous());
  if (!rows.scale.isfinite().all().item<bool>())
    throw std::invalid_argument("A weight of a layer in 8-bit floats is not finite.");
  weight_ = rows.values;
  scale_ = rows.scale.t().contiguous();
}

Tensor Fp8Layer::forward(const Tensor& x) const {
  TORCH_CHECK(x.scalar_type() == type_ && x.dim() > 0 && x.size(-1) == weight_.size(1), "a layer of ",
              weight_.size(1), " inputs in ", type_, " cannot take ", x.sizes(), " in ", x.scalar_type());
  auto sizes = x.sizes().vec();
  sizes.back() = weight_.size(0);
  if (x.numel() == 0) return at::empty(sizes, x.options());
  const Rows rows = quantised(x.reshape({-1, x.size(-1)}).contiguous());
  // Sums in the tensor cores' own precision: twice as fast, and 8 bits hide the difference.
  const bool fast_sums = x.is_cuda();
  return registered::call(*product(), {rows.values, weight_.t(), rows.scale, scale_,
                                       registered::optional_tensor(bias_), c10::IValue(), type_, fast_sums})
      .view(sizes);
}

#else

std::string Fp8Layer::refusal(at::Device) {
  return "LibTorch " TORCH_VERSION " has no product of 8-bit floats with a scale for each row; 2.5 has it";
}

Fp8Layer::Fp8Layer(const Tensor&, const Tensor&, at::ScalarType type) : type_(type) {
  throw std::logic_error("This LibTorch has no 8-bit floats.");
}

Tensor Fp8Layer::forward(const Tensor& x) const {
  return x;
}

#endif

}  // namespace da3
