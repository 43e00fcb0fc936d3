// SPDX-License-Identifier: MIT
//
// Kernels of our own for CUDA tensors where LibTorch takes several operators: residual sums with the layer
// norm that follows, queries and keys, and rows in 8-bit floats. Computed in float, rounded once. They know
// no gradients.
//
// They are there only where everything goes well: NVRTC compiles them, the driver loads them, and what they
// give for a small input is what LibTorch's operators give. Else the caller takes the operators, as with
// DA3_CUDA_KERNELS=0 in the environment (read when a device and a type are first asked for).
//
// Work goes to the current stream of the device. All functions are thread-safe.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <optional>
#include <string>

#include "engine/cuda/kernels.h"

namespace da3::cuda {

using at::Tensor;

// Layer normalisation: float32 [width] each, or both undefined: none.
struct Norm {
  Tensor weight, bias;
  double eps = 0;
  bool defined() const { return weight.defined() || bias.defined(); }
};

// sum = x + add * scale, and the layer norm of it.
struct AddNormJob {
  Tensor x;      // float32 [.., width], contiguous; width a multiple of 4, at most 4096
  Tensor add;    // like x, in `type`; or undefined
  Tensor scale;  // float32 [width]; or undefined: 1
  Norm norm;
  at::ScalarType type = at::kFloat;  // of `add` and of the norm: float32, bfloat16 or float16
};

struct SumAndNorm {
  Tensor sum;     // float32, or undefined: nothing to add
  Tensor normed;  // in the type of the job, or undefined: no norm
};

// Queries or keys as attention takes them, see take_heads() in network/block.h. The tables are
// [positions, 64], float32, as make_rope_table() lays them out.
struct HeadsJob {
  Tensor x;  // [batch, tokens, heads, 64], heads dense and side by side
  Norm norm;
  Tensor cosine, sine;  // or both undefined: no rotation
};

// Rows in e4m3 with a scale each: x ~ scale * values. See QuantiseArguments.
struct QuantiseJob {
  Tensor x;  // float32, bfloat16 or float16 [rows, width], dense; width a multiple of 4, at most 4096
};

struct EightBitRows {
  Tensor values;  // uint8, the bits of e4m3; like x
  Tensor scale;   // float32 [rows, 1]
};

// Whether the kernels for sums, norms and heads are there for this type on this device. The first call for
// them compiles and tries them; it waits for the device, so it is put off (false, and nothing remembered)
// while the current stream is recorded for a graph. A failure is remembered and not tried again. Never
// throws; `why_not` gets one line.
bool has_fused(at::Device device, at::ScalarType type, std::string* why_not = nullptr);

// Nothing where has_fused() or refusal() say no, and when a kernel cannot be started, which has_fused() then
// remembers. Rows in 8 bits are tried by themselves when they are first asked for. Throw c10::Error as
// LibTorch's operators do when memory is short.
std::optional<SumAndNorm> add_norm(const AddNormJob& job);
std::optional<Tensor> take_heads(const HeadsJob& job);  // [batch, heads, tokens, 64] in the type of x
std::optional<EightBitRows> quantise_rows(const QuantiseJob& job);

// Whether these functions may do something for tensors of this device: it is one of CUDA.
bool serves(at::Device device);

// Why the kernels cannot do this, whatever the device; empty: they can.
std::string refusal(const AddNormJob& job);
std::string refusal(const HeadsJob& job);
std::string refusal(const QuantiseJob& job);

// What is below is for the functions above and for tests, which run the kernels on the CPU.

// Starts a kernel: with AddNormArguments, NormRopeArguments or QuantiseArguments.
using Start = std::function<void(Kernel kernel, Element element, Grid grid, const void* arguments)>;
// A job without a refusal.
SumAndNorm add_norm_by(const Start& start, const AddNormJob& job);
Tensor take_heads_by(const Start& start, const HeadsJob& job);
EightBitRows quantise_rows_by(const Start& start, const QuantiseJob& job);
// Compares the kernels with LibTorch's operators. What differs, or empty. Throws what `start` throws.
std::string self_check(const Start& start, at::Device device, at::ScalarType type);  // all but rows
std::string self_check_rows(const Start& start, at::Device device, at::ScalarType type);
// While it lives, `start` serves the tensors of the CPU. One at a time, and none while others compute.
class ServesCpu {
 public:
  explicit ServesCpu(Start start);
  ~ServesCpu();
  ServesCpu(const ServesCpu&) = delete;
  ServesCpu& operator=(const ServesCpu&) = delete;

 private:
  const Start start_;
};

}  // namespace da3::cuda
