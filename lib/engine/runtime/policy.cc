// SPDX-License-Identifier: MIT
#include "engine/runtime/policy.h"

#include <algorithm>

#include "engine/api/engine_error.h"

namespace da3 {
namespace {

constexpr int64_t kTypicalPixels = 512 * 512;
constexpr int kTensorCores = 70, kNativeBf16 = 80;  // CUDA compute capabilities; of fp8: device.cc

std::vector<Da3Precision> precisions_of(const DeviceTraits& d) {
  std::vector<Da3Precision> out = {DA3_PRECISION_FP32};
  // bf16 before fp16: its range is that of float32, and no activation overflows.
  if (d.native_bf16) out.push_back(DA3_PRECISION_BF16);
  if (d.native_fp16 && d.kind != DeviceKind::cpu) out.push_back(DA3_PRECISION_FP16);
  return out;
}

bool runs(Da3Attention kind, const DeviceTraits& d) {
  if (std::find(d.attention.begin(), d.attention.end(), kind) == d.attention.end()) return false;
  switch (kind) {
    case DA3_ATTENTION_FLASH:
    case DA3_ATTENTION_CUDNN:
      return d.kind == DeviceKind::cuda && d.capability >= kNativeBf16;
    case DA3_ATTENTION_EFFICIENT:
      return d.kind == DeviceKind::cuda && d.capability >= 50;
    default:
      return true;
  }
}

std::vector<Da3Attention> attentions_of(const DeviceTraits& d) {
  std::vector<Da3Attention> out;
  for (const Da3Attention kind : {DA3_ATTENTION_FUSED, DA3_ATTENTION_FLASH, DA3_ATTENTION_CUDNN,
                                  DA3_ATTENTION_EFFICIENT, DA3_ATTENTION_PLAIN})
    if (runs(kind, d)) out.push_back(kind);
  return out;
}

Da3Precision quick_precision_of(const DeviceTraits& d) {
  switch (d.kind) {
    case DeviceKind::cuda:
      return d.native_bf16 ? DA3_PRECISION_BF16 : d.native_fp16 ? DA3_PRECISION_FP16 : DA3_PRECISION_FP32;
    case DeviceKind::mps:
      return DA3_PRECISION_FP32;
    default:
      return d.native_bf16 ? DA3_PRECISION_BF16 : DA3_PRECISION_FP32;
  }
}

std::string list(const std::vector<Da3Attention>& kinds) {
  std::string out = "auto";
  for (const Da3Attention kind : kinds) out += std::string(", ") + name_of(kind);
  return out;
}

}  // namespace

Policy make_policy(Da3PerformanceMode mode, const DeviceTraits& d) {
  Policy p;
  p.precisions = precisions_of(d);
  p.quick_precision = quick_precision_of(d);
  p.attentions = attentions_of(d);
  p.quick_attention = p.attentions.front();
  if (d.native_bf16) p.beside_8_bits = DA3_PRECISION_BF16;
  const bool cpu = d.kind == DeviceKind::cpu, cuda = d.kind == DeviceKind::cuda;
  switch (mode) {
    case DA3_PERFORMANCE_MINIMAL:
      break;
    case DA3_PERFORMANCE_BALANCED:
      p.repetitions = 2;
      p.prepack = cpu;
      p.record_passes = p.begin_ahead = cuda;
      p.head_pixels = cpu ? 0 : 8 * kTypicalPixels;
      p.batch_limit = 32;
      break;
    case DA3_PERFORMANCE_MAX:
      p.repetitions = 5;
      p.least_gain = 0.02;
      p.prepack = cpu;
      p.record_passes = p.begin_ahead = cuda;
      p.tf32 = cuda && d.capability >= kNativeBf16;
      p.choose_convolutions = cuda;
      p.head_pixels = cpu ? 0 : 32 * kTypicalPixels;
      p.batch_limit = 64;
      break;
  }
  return p;
}

bool in_8_bits(Da3Precision precision) {
  return precision == DA3_PRECISION_INT8 || precision == DA3_PRECISION_FP8;
}

Da3Precision beside(Da3Precision precision, const Policy& policy) {
  return in_8_bits(precision) ? policy.beside_8_bits : precision;
}

void check_precision(Da3Precision wanted, const DeviceTraits& d) {
  if (wanted == DA3_PRECISION_FP16 && d.kind == DeviceKind::cpu)
    throw EngineError(DA3_ERROR_UNSUPPORTED,
                      "precision=fp16 is not supported on the CPU. Use precision=bf16, fp32 or auto.");
  if (wanted == DA3_PRECISION_INT8 && d.kind != DeviceKind::cpu)
    throw EngineError(DA3_ERROR_UNSUPPORTED,
                      "precision=int8 is for the CPU only. Use precision=bf16, fp16 or auto on this device.");
  if (wanted == DA3_PRECISION_FP8 && d.kind != DeviceKind::cuda)
    throw EngineError(DA3_ERROR_UNSUPPORTED, std::string("precision=fp8 is for CUDA only. Use precision=") +
                                                 (d.kind == DeviceKind::cpu ? "int8, bf16" : "fp16") +
                                                 ", fp32 or auto on this device.");
  if (wanted == DA3_PRECISION_FP8 && !d.native_fp8)
    throw EngineError(DA3_ERROR_UNSUPPORTED,
                      std::string("precision=fp8 needs a GPU of compute capability 8.9 or newer") +
                          (d.capability > 0 ? "" : ", and this one's is not known (libcuda was not found)") +
                          ". Use precision=bf16, fp16, fp32 or auto.");
  if (wanted == DA3_PRECISION_BF16 && d.kind == DeviceKind::mps)
    throw EngineError(DA3_ERROR_UNSUPPORTED,
                      "precision=bf16 is not supported on MPS. Use precision=fp16, fp32 or auto.");
  if (wanted == DA3_PRECISION_BF16 && d.kind == DeviceKind::cuda && d.capability > 0 &&
      d.capability < kNativeBf16)
    throw EngineError(
        DA3_ERROR_UNSUPPORTED,
        "precision=bf16 needs a GPU of compute capability 8.0 or newer; on this one it would be "
        "emulated. Use precision=fp16, fp32 or auto.");
  if (wanted == DA3_PRECISION_FP16 && d.kind == DeviceKind::cuda && d.capability > 0 &&
      d.capability < kTensorCores)
    throw EngineError(DA3_ERROR_UNSUPPORTED,
                      "precision=fp16 needs a GPU of compute capability 7.0 or newer; on this one it is "
                      "slower than fp32. Use precision=fp32 or auto.");
}

void check_widths(Da3Precision precision, int64_t width, int64_t ffn_hidden) {
  if (precision != DA3_PRECISION_FP8 || (width % 16 == 0 && ffn_hidden % 16 == 0)) return;
  throw EngineError(DA3_ERROR_UNSUPPORTED,
                    "precision=fp8 needs layers whose widths are multiples of 16, not " +
                        std::to_string(width) + " and " + std::to_string(ffn_hidden) +
                        ". Use precision=bf16, fp16, fp32 or auto.");
}

void check_attention(Da3Attention wanted, const DeviceTraits& d, const std::string& with) {
  if (wanted == DA3_ATTENTION_AUTO || runs(wanted, d)) return;
  throw EngineError(DA3_ERROR_UNSUPPORTED, std::string("attention=") + name_of(wanted) + " cannot run on " +
                                               d.name + " " + with + ". Use one of " +
                                               list(attentions_of(d)) + ".");
}

void check_together(Da3Attention wanted, Da3Precision precision) {
  const bool half_alone = wanted == DA3_ATTENTION_FLASH || wanted == DA3_ATTENTION_CUDNN;
  if (!half_alone || precision == DA3_PRECISION_BF16 || precision == DA3_PRECISION_FP16 ||
      precision == DA3_PRECISION_FP8)
    return;
  throw EngineError(DA3_ERROR_UNSUPPORTED, std::string("attention=") + name_of(wanted) +
                                               " computes in half precision, not in " + name_of(precision) +
                                               ". Use precision=bf16 or fp16, or attention=auto.");
}

size_t first_worth_taking(const std::vector<double>& milliseconds, double least_gain) {
  size_t best = 0;
  for (size_t i = 1; i < milliseconds.size(); ++i)
    if (milliseconds[i] < milliseconds[best] * (1 - least_gain)) best = i;
  return best;
}

int64_t images_at_once(const Policy& policy, int64_t width, int64_t height) {
  return std::max<int64_t>(1, policy.head_pixels / (width * height));
}

const char* name_of(Da3Precision precision) {
  switch (precision) {
    case DA3_PRECISION_FP16:
      return "fp16";
    case DA3_PRECISION_BF16:
      return "bf16";
    case DA3_PRECISION_FP32:
      return "fp32";
    case DA3_PRECISION_INT8:
      return "int8";
    case DA3_PRECISION_FP8:
      return "fp8";
    default:
      return "auto";
  }
}

const char* name_of(Da3Attention attention) {
  switch (attention) {
    case DA3_ATTENTION_PLAIN:
      return "plain";
    case DA3_ATTENTION_FUSED:
      return "fused";
    case DA3_ATTENTION_FLASH:
      return "flash";
    case DA3_ATTENTION_EFFICIENT:
      return "efficient";
    case DA3_ATTENTION_CUDNN:
      return "cudnn";
    default:
      return "auto";
  }
}

const char* name_of(Da3PerformanceMode mode) {
  switch (mode) {
    case DA3_PERFORMANCE_MINIMAL:
      return "minimal";
    case DA3_PERFORMANCE_MAX:
      return "max";
    default:
      return "balanced";
  }
}

}  // namespace da3
