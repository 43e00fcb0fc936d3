// SPDX-License-Identifier: MIT
//
// The kernels of engine/cuda/kernels.cu.inc on the CPU: the same text, with CUDA's words defined as C++. The
// threads of a block are threads, and blocks run one after the other. To be included once in a program.
#pragma once

#include <barrier>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "engine/cuda/kernels.h"

namespace da3::test {

struct CudaIndex {
  unsigned x = 0;
};

// The threads of one block: where they wait for each other and what the lanes of a warp exchange.
class CudaBlock {
 public:
  explicit CudaBlock(unsigned threads) : all_(std::ptrdiff_t(threads)) {
    for (unsigned t = 0; t < threads; t += cuda::kWarp) warps_.push_back(std::make_unique<Warp>());
  }
  void wait() { all_.arrive_and_wait(); }
  float shuffle(unsigned thread, float value, unsigned lanes) {
    Warp& warp = *warps_[thread / cuda::kWarp];
    const unsigned lane = thread % cuda::kWarp;
    warp.values[lane] = value;
    warp.lanes.arrive_and_wait();
    const float out = warp.values[lane ^ lanes];
    warp.lanes.arrive_and_wait();
    return out;
  }

 private:
  struct Warp {
    std::barrier<> lanes{cuda::kWarp};
    float values[cuda::kWarp] = {};
  };
  std::barrier<> all_;
  std::vector<std::unique_ptr<Warp>> warps_;
};

inline thread_local CudaBlock* cuda_block = nullptr;
inline thread_local CudaIndex threadIdx, blockIdx, blockDim;

inline void run_blocks(cuda::Grid grid, const std::function<void()>& kernel) {
  CudaBlock block(grid.threads);
  std::vector<std::jthread> threads;
  for (unsigned t = 0; t < grid.threads; ++t)
    threads.emplace_back([&, t] {
      cuda_block = &block;
      threadIdx.x = t;
      blockDim.x = grid.threads;
      for (unsigned b = 0; b < grid.blocks; ++b) {
        blockIdx.x = b;
        kernel();
        block.wait();
      }
    });
}

}  // namespace da3::test

namespace da3::cuda {

// In single steps, by the definition of the format.
inline float half_to_float(unsigned short bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  float size;
  if (exponent == 31)
    size = fraction ? NAN : INFINITY;
  else
    size = exponent ? std::ldexp(float(1024 + fraction), exponent - 25) : std::ldexp(float(fraction), -24);
  return bits & 0x8000 ? -size : size;
}

inline unsigned short float_to_half(float v) {
  const unsigned short sign = std::signbit(v) ? 0x8000 : 0;
  if (std::isnan(v)) return 0x7fff;
  const float size = std::fabs(v);
  if (size >= 65520) return sign | 0x7c00;
  const int exponent = size < 0x1p-14f ? -14 : std::ilogb(size);
  const int fraction = int(std::nearbyint(std::ldexp(size, 10 - exponent)));  // 1024 is the leading bit
  return sign | (unsigned short)((exponent + 14) * 1024 + fraction);
}

}  // namespace da3::cuda

#define DA3_CUDA_EMULATED
#define DA3_UNROLL
#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)
#define __syncthreads() da3::test::cuda_block->wait()
#define __shfl_xor_sync(mask, value, lanes) \
  da3::test::cuda_block->shuffle(threadIdx.x, (value), unsigned(lanes))
#define __uint_as_float(bits) std::bit_cast<float>(bits)
#define __float_as_uint(value) std::bit_cast<unsigned>(value)
#define sqrtf std::sqrt
namespace da3::cuda {
using test::blockDim, test::blockIdx, test::threadIdx;
}
#include "engine/cuda/kernels.cu.inc"
#undef sqrtf
#undef __float_as_uint
#undef __uint_as_float
#undef __shfl_xor_sync
#undef __syncthreads
#undef __launch_bounds__
#undef __shared__
#undef __device__
#undef __global__
#undef DA3_UNROLL
#undef DA3_CUDA_EMULATED

namespace da3::test {

// As Kernels::start(), at once.
inline void start_emulated(cuda::Kernel kernel, cuda::Element element, cuda::Grid grid,
                           const void* arguments) {
  using Sums = void (*)(cuda::AddNormArguments);
  using Heads = void (*)(cuda::NormRopeArguments);
  using EightBits = void (*)(cuda::QuantiseArguments);
  constexpr Sums kSums[] = {da3_add_norm_float32, da3_add_norm_bfloat16, da3_add_norm_float16};
  constexpr Heads kHeads[] = {da3_norm_rope_float32, da3_norm_rope_bfloat16, da3_norm_rope_float16};
  constexpr EightBits kEightBits[] = {da3_quantise_float32, da3_quantise_bfloat16, da3_quantise_float16};
  run_blocks(grid, [&] {
    if (kernel == cuda::Kernel::add_norm)
      kSums[size_t(element)](*static_cast<const cuda::AddNormArguments*>(arguments));
    else if (kernel == cuda::Kernel::norm_rope)
      kHeads[size_t(element)](*static_cast<const cuda::NormRopeArguments*>(arguments));
    else
      kEightBits[size_t(element)](*static_cast<const cuda::QuantiseArguments*>(arguments));
  });
}

}  // namespace da3::test
