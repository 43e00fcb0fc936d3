// SPDX-License-Identifier: MIT
#include "engine/runtime/cpu_allocator.h"

#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include <thread>

#include "engine/runtime/pass_memory.h"

using namespace da3;

namespace {

constexpr int64_t kFloats = int64_t(3) << 18;  // 3 MiB

at::Tensor make(int64_t floats = kFloats) {
  return at::zeros({floats}, at::TensorOptions(at::kFloat));
}

}  // namespace

TEST_CASE("pool of blocks: a pass gets the memory of the one before; tensors from before and after live on") {
  const at::Tensor before = make();
  use_block_pool();
  use_block_pool();
  const void* first = nullptr;
  {
    const PassBlocks pass;
    first = make().data_ptr();
  }
  {
    const PassBlocks pass;
    CHECK(make().data_ptr() == first);
    const at::Tensor a = make(), b = make();
    CHECK(a.data_ptr() != b.data_ptr());
  }
  const at::Tensor after = make();
  trim_block_pool();
  CHECK((before + after).abs().sum().item<double>() == 0);
}

TEST_CASE("pool of blocks: a result outlives its pass and is not written over") {
  use_block_pool();
  at::Tensor result;
  {
    const PassBlocks pass;
    result = make() + 1;
  }
  for (int i = 0; i < 3; ++i) {
    const PassBlocks pass;
    make().fill_(7);
  }
  CHECK(result.eq(1).all().item<bool>());
  at::Tensor grown = result.clone();
  grown.resize_({2 * kFloats});
  CHECK(grown.narrow(0, 0, kFloats).eq(1).all().item<bool>());
}

TEST_CASE("pool of blocks: what another thread takes during a pass is not the pass's") {
  use_block_pool();
  trim_block_pool();
  const PassBlocks pass;
  const size_t before = kept_block_bytes();
  // Weights that are loaded meanwhile, and freed before they are needed.
  std::thread([] { make(); }).join();
  CHECK(kept_block_bytes() == before);
  make();
  if (const size_t after = kept_block_bytes(); after != before) CHECK(after >= size_t(kFloats) * 4);
  // A pass of another thread keeps what is its own.
  std::thread([] {
    const PassBlocks other;
    const at::Tensor a = make(), b = make();
  }).join();
  CHECK((kept_block_bytes() == before || kept_block_bytes() >= size_t(kFloats) * 8));
}

TEST_CASE("pool of blocks: what a pass takes is still counted") {
  use_block_pool();
  const PassMemory memory(at::kCPU);
  {
    const PassBlocks pass;
    const at::Tensor a = make(), b = make();
  }
  CHECK(memory.peak() >= 2 * kFloats * 4);
  CHECK(memory.peak() < 3 * kFloats * 4);
}

TEST_CASE("pool of blocks: too much is LibTorch's own error") {
  use_block_pool();
  const PassBlocks pass;
  CHECK_THROWS_AS(at::empty({int64_t(1) << 60}, at::TensorOptions(at::kByte)), c10::Error);
  CHECK(make().size(0) == kFloats);
}
