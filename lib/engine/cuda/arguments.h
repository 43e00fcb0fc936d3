// SPDX-License-Identifier: MIT
//
// What the kernels of kernels.cu.inc are given. Read by the compiler of the host and, put in front of the
// kernels, by that of the device: no includes, and types of the same size for both.
#ifndef DA3_ENGINE_CUDA_ARGUMENTS_H
#define DA3_ENGINE_CUDA_ARGUMENTS_H

namespace da3::cuda {

constexpr int kWarp = 32;
// Threads of a block at most. A row of add_norm or quantise lies in their registers, kQuads times four values
// each.
constexpr int kThreads = 256;
constexpr int kQuads = 4;
// Of norm_rope: values of a head, and the threads that share them.
constexpr int kHeadValues = 64;
constexpr int kHeadThreads = kHeadValues / 4;

// A residual sum and the layer norm of it, computed in float. T is the type of the kernel. Rows are dense,
// and a block does one; every pointer to float is a multiple of 16, every other one of four T.
struct AddNormArguments {
  const float* x;       // [rows][width]
  const void* add;      // T [rows][width], or null
  const float* scale;   // [width], what `add` is multiplied by; or null: 1
  float* sum;           // [rows][width], x + add * scale; or null
  void* normed;         // T [rows][width], the norm of that; or null
  const float* weight;  // [width]
  const float* bias;    // [width]
  float eps;
  int width;  // a multiple of 4, at most 4 * kQuads * kThreads
};

// Heads of 64 values, normalised, rotated and laid out head by head; as kernels/qk_norm_rope.h. Aligned as
// above.
struct NormRopeArguments {
  const void* from;        // T, heads of one token side by side
  void* to;                // T [batch][heads][tokens][64]
  const float* weight;     // [64], or null: no norm
  const float* bias;       // [64]
  const float* cosine;     // [positions][64], token t takes row t modulo positions; or null: no rotation
  const float* sine;       // [positions][64]
  long long batch_stride;  // in T, multiples of 4
  long long token_stride;
  unsigned count;  // batch * heads * tokens
  unsigned heads;
  unsigned tokens;
  unsigned positions;
  float eps;
};

// Rows in 8-bit floats (e4m3: no infinities, at most 448), each with a scale of its own: x ~ scale * to,
// where scale is the largest magnitude of the row over 448. A row with a value that is not finite gets a NaN
// for a scale, a row of zeros 1. Aligned as above; `to` is a multiple of 4.
struct QuantiseArguments {
  const void* x;      // T [rows][width]
  unsigned char* to;  // [rows][width]
  float* scale;       // [rows]
  int width;          // a multiple of 4, at most 4 * kQuads * kThreads
};

// Both compilers must agree.
static_assert(sizeof(AddNormArguments) == 64 && sizeof(NormRopeArguments) == 88 &&
              sizeof(QuantiseArguments) == 32);

}  // namespace da3::cuda

#endif
