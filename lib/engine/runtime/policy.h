// SPDX-License-Identifier: MIT
//
// What a device gets under a performance mode: tables, and nothing that has to be measured (plan.h does
// that). No LibTorch: devices that are not at hand are tested by their traits.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/api/engine.h"

namespace da3 {

enum class DeviceKind { cpu, cuda, mps };

// What a device and this LibTorch really have.
struct DeviceTraits {
  DeviceKind kind = DeviceKind::cpu;
  std::string name;          // for messages: "cpu", "cuda:0", "mps"
  bool native_bf16 = false;  // products in hardware, not emulated
  bool native_fp16 = false;
  bool native_int8 = false;             // 8-bit dot products (CPU)
  bool native_fp8 = false;              // products of 8-bit floats (CUDA)
  int capability = 0;                   // CUDA: 10 * major + minor
  std::vector<Da3Attention> attention;  // back ends that this LibTorch has, PLAIN among them
};

struct Policy {
  // What precision=auto and attention=auto may choose, the more accurate or more robust first. Where nothing
  // is measured the first of `quick_...`.
  std::vector<Da3Precision> precisions;
  Da3Precision quick_precision = DA3_PRECISION_FP32;
  std::vector<Da3Attention> attentions;
  Da3Attention quick_attention = DA3_ATTENTION_PLAIN;
  // What precision=int8 and fp8 leave to others (attention, heads) and their activations are in.
  Da3Precision beside_8_bits = DA3_PRECISION_FP32;
  int repetitions = 0;               // of a measurement; 0: nothing is measured
  double least_gain = 0.05;          // what a later candidate must be faster by
  bool prepack = false;              // CPU: weights laid out for the kernels, beside the file's
  bool tf32 = false;                 // CUDA: float32 products with 10 bits of mantissa
  bool choose_convolutions = false;  // CUDA: cuDNN measures its algorithms for each shape
  bool record_passes = false;        // CUDA: a pass is done again as a graph
  bool begin_ahead = false;          // CUDA: a full batch is handed over while another one is computed
  // GPU: images through a head at once: so many pixels, but at least one image. The CPU takes one at a time.
  int64_t head_pixels = 0;
  uint32_t batch_limit = 1;  // largest batch that is learned by itself
};

Policy make_policy(Da3PerformanceMode mode, const DeviceTraits& device);

// Whether linear layers of the backbone are in 8 bits.
bool in_8_bits(Da3Precision precision);
// What everything else computes in.
Da3Precision beside(Da3Precision precision, const Policy& policy);

// Throw EngineError(UNSUPPORTED) for what the device cannot do; AUTO passes.
void check_precision(Da3Precision wanted, const DeviceTraits& device);
// `with`: what else it depends on, for the message.
void check_attention(Da3Attention wanted, const DeviceTraits& device,
                     const std::string& with = "with this LibTorch");
// And for layers of the backbone that are not made for `precision`.
void check_widths(Da3Precision precision, int64_t width, int64_t ffn_hidden);
// And for a back end of attention that does not compute in `precision`.
void check_together(Da3Attention wanted, Da3Precision precision);

// Of measured times, the more accurate or more robust first: the first that is taken, since a later one has
// to be faster by `least_gain`. Infinite times cannot run; not empty.
size_t first_worth_taking(const std::vector<double>& milliseconds, double least_gain);
// Images of this size that go through a head at once on a GPU, at least one.
int64_t images_at_once(const Policy& policy, int64_t width, int64_t height);

const char* name_of(Da3Precision precision);
const char* name_of(Da3Attention attention);
const char* name_of(Da3PerformanceMode mode);

}  // namespace da3
