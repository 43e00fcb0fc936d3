// SPDX-License-Identifier: MIT
//
// What this processor has of what kernels are written for. No LibTorch.
#pragma once

namespace da3::kernels {

// AVX-512: F, BW, VL and DQ.
bool has_avx512();
// And its products of bfloat16.
bool has_avx512_bf16();
// And its dot products of 8-bit integers.
bool has_avx512_vnni();
// And products of whole tiles, of bfloat16 and of 8-bit integers (AMX), which the system lets this process
// use.
bool has_amx();

// For tests: the processors that are not at hand. Holds for the whole process until it is called again;
// returns what held before.
enum class Instructions { none, no_bfloat16, no_tiles, all };
Instructions limit_instructions(Instructions most);

}  // namespace da3::kernels
