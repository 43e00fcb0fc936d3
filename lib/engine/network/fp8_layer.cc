// SPDX-License-Identifier: MIT
#include "engine/network/fp8_layer.h"

#include <c10/util/Exception.h>
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

// By a kernel of our own where there is one, else by operators, to the same values but for the last bit of a
// scale.
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

// Noise, without touching anybody's random numbers; row i times 2^((i % period) - period / 2), so that a
// scale that is applied to another row shows.
Tensor noise(int64_t rows, int64_t columns, double step, int64_t period, at::Device device) {
  const Tensor waves = at::arange(rows * columns, at::TensorOptions(at::kFloat)).mul(step).sin();
  const Tensor powers =
      at::arange(rows, at::TensorOptions(at::kFloat)).remainder(period) - double(period / 2);
  return (waves.mul(437.585).frac().view({rows, columns}) * at::pow(2.0, powers).unsqueeze(1)).to(device);
}

// What is wrong with small layers, or empty.
std::string mistake_on(at::Device device) {
  constexpr int64_t kIn = 96, kOut = 80;
  const Tensor weight = noise(kOut, kIn, 0.37, 7, device), bias = weight.select(1, 0) * 3;
  const Fp8Layer layer(weight, bias, at::kBFloat16);
  // One row, an odd number of them, and a picture's.
  for (const int64_t rows : {1, 35, 1297}) {
    const Tensor x = noise(rows, kIn, 0.91, 9, device).to(at::kBFloat16), wide = x.to(at::kFloat);
    const Tensor y = layer.forward(x).to(at::kFloat), exact = at::linear(wide, weight, bias);
    // As large as a sum of so many independent errors of 1/16 may be.
    const Tensor size = wide.norm(2, 1, true) * weight.norm(2, 1).unsqueeze(0) + bias.abs();
    const double worst = ((y - exact).abs() / size).max().item<double>();
    if (!(worst < 0.03)) return "its product of 8-bit floats is wrong here";
  }
  Tensor x = noise(3, kIn, 0.91, 9, device).to(at::kBFloat16);
  x.select(0, 1).select(0, 5).fill_(std::numeric_limits<float>::infinity());
  const Tensor finite = layer.forward(x).isfinite().all(1);
  if (finite[0].item<bool>() && !finite[1].item<bool>() && finite[2].item<bool>()) return "";
  return "its product of 8-bit floats hides what is not finite";
}

// `certain`: it would be so again.
std::string try_on(at::Device device, bool* certain) {
  *certain = true;
  if (!registered::usable(product(), "self", 8)) return "this LibTorch has no product of 8-bit floats";
  try {
    const c10::InferenceMode inference;
    return mistake_on(device);
  } catch (const c10::OutOfMemoryError& e) {
    *certain = false;
    return first_line(e.what());
  } catch (const std::exception& e) {
    return first_line(e.what());
  }
}

}  // namespace

std::string Fp8Layer::refusal(at::Device device) {
  static std::mutex lock;
  static std::map<std::string, std::string> known;
  const std::lock_guard<std::mutex> guard(lock);
  if (const auto found = known.find(device.str()); found != known.end()) return found->second;
  bool certain = false;
  std::string why = try_on(device, &certain);
  if (certain) known.emplace(device.str(), why);
  return why;
}

Fp8Layer::Fp8Layer(const Tensor& weight, const Tensor& bias, at::ScalarType type, bool scales_apart)
    : bias_(bias.defined() ? bias.to(type, /*non_blocking=*/false, /*copy=*/true) : bias),
      type_(type),
      scales_apart_(scales_apart) {
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
  try {
    if (!scales_apart_) return multiply(rows.values, rows.scale, scale_, bias_, type_).view(sizes);
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const std::exception&) {
    scales_apart_ = true;
  }
  // Where the device's libraries have no product with scales for rows of this shape: scales by themselves.
  const Tensor one = at::ones({}, rows.scale.options());
  Tensor y = multiply(rows.values, one, one, {}, at::kFloat).mul_(rows.scale).mul_(scale_);
  if (bias_.defined()) y.add_(bias_);
  return y.to(type_).view(sizes);
}

Tensor Fp8Layer::multiply(const Tensor& x, const Tensor& scale, const Tensor& weight_scale,
                          const Tensor& bias, at::ScalarType type) const {
  // GPUs of 2022 sum 8-bit floats at full speed in fewer bits than float32 has.
  const bool fast_sums = x.is_cuda();
  return registered::call(*product(), {x, weight_.t(), scale, weight_scale, registered::optional_tensor(bias),
                                       c10::IValue(), type, fast_sums});
}

#else

std::string Fp8Layer::refusal(at::Device) {
  return "LibTorch " TORCH_VERSION " has no product of 8-bit floats with a scale for each row";
}

Fp8Layer::Fp8Layer(const Tensor&, const Tensor&, at::ScalarType type, bool) : type_(type) {
  throw std::logic_error("This LibTorch has no 8-bit floats.");
}

Tensor Fp8Layer::forward(const Tensor& x) const {
  return x;
}

#endif

}  // namespace da3
