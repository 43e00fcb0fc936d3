// SPDX-License-Identifier: MIT
#include "engine/runtime/policy.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "engine/api/engine_error.h"

using namespace da3;

namespace {

const std::vector<Da3Attention> kEverything = {DA3_ATTENTION_PLAIN, DA3_ATTENTION_FUSED, DA3_ATTENTION_FLASH,
                                               DA3_ATTENTION_EFFICIENT, DA3_ATTENTION_CUDNN};
const Da3PerformanceMode kModes[] = {DA3_PERFORMANCE_MINIMAL, DA3_PERFORMANCE_BALANCED, DA3_PERFORMANCE_MAX};

DeviceTraits cpu(bool bf16) {
  DeviceTraits d;
  d.name = "cpu";
  d.native_bf16 = bf16;
  d.attention = kEverything;
  return d;
}

DeviceTraits cuda(int capability) {
  DeviceTraits d;
  d.kind = DeviceKind::cuda;
  d.name = "cuda:0";
  d.capability = capability;
  d.native_fp16 = capability >= 70;
  d.native_bf16 = capability >= 80;
  d.native_fp8 = capability >= 89;
  d.attention = kEverything;
  return d;
}

DeviceTraits mps() {
  DeviceTraits d;
  d.kind = DeviceKind::mps;
  d.name = "mps";
  d.native_fp16 = true;
  d.attention = {DA3_ATTENTION_PLAIN, DA3_ATTENTION_FUSED};
  return d;
}

template <typename T>
bool has(const std::vector<T>& list, T value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

std::string refusal(Da3Precision precision, const DeviceTraits& d) {
  try {
    check_precision(precision, d);
  } catch (const EngineError& e) {
    CHECK(e.code() == DA3_ERROR_UNSUPPORTED);
    return e.what();
  }
  return {};
}

std::string refusal(Da3Attention attention, const DeviceTraits& d) {
  try {
    check_attention(attention, d);
  } catch (const EngineError& e) {
    CHECK(e.code() == DA3_ERROR_UNSUPPORTED);
    return e.what();
  }
  return {};
}

}  // namespace

TEST_CASE("policy: auto considers bf16 only where it is native") {
  for (const Da3PerformanceMode mode : kModes) {
    CHECK(has(make_policy(mode, cpu(true)).precisions, DA3_PRECISION_BF16));
    CHECK_FALSE(has(make_policy(mode, cpu(false)).precisions, DA3_PRECISION_BF16));
    CHECK(has(make_policy(mode, cuda(80)).precisions, DA3_PRECISION_BF16));
    CHECK_FALSE(has(make_policy(mode, cuda(75)).precisions, DA3_PRECISION_BF16));
    CHECK_FALSE(has(make_policy(mode, mps()).precisions, DA3_PRECISION_BF16));
  }
}

TEST_CASE("policy: auto never chooses what loses accuracy by design, nor fp16 on the CPU") {
  DeviceTraits d = cpu(true);
  d.native_int8 = d.native_fp16 = true;
  for (const Da3PerformanceMode mode : kModes) {
    CHECK_FALSE(has(make_policy(mode, d).precisions, DA3_PRECISION_INT8));
    CHECK_FALSE(has(make_policy(mode, cuda(90)).precisions, DA3_PRECISION_FP8));
    CHECK_FALSE(has(make_policy(mode, d).precisions, DA3_PRECISION_FP16));
    // Whoever is equally fast and more accurate comes first.
    CHECK(make_policy(mode, d).precisions.front() == DA3_PRECISION_FP32);
  }
}

TEST_CASE("policy: what 8-bit layers leave to others is in bf16 only where that is native") {
  for (const Da3PerformanceMode mode : kModes) {
    CHECK(make_policy(mode, cpu(true)).beside_8_bits == DA3_PRECISION_BF16);
    CHECK(make_policy(mode, cpu(false)).beside_8_bits == DA3_PRECISION_FP32);
  }
}

TEST_CASE("policy: without measuring, the table decides by what is native") {
  CHECK(make_policy(DA3_PERFORMANCE_MINIMAL, cpu(true)).quick_precision == DA3_PRECISION_BF16);
  CHECK(make_policy(DA3_PERFORMANCE_MINIMAL, cpu(false)).quick_precision == DA3_PRECISION_FP32);
  CHECK(make_policy(DA3_PERFORMANCE_MINIMAL, cuda(90)).quick_precision == DA3_PRECISION_BF16);
  CHECK(make_policy(DA3_PERFORMANCE_MINIMAL, cuda(75)).quick_precision == DA3_PRECISION_FP16);
  CHECK(make_policy(DA3_PERFORMANCE_MINIMAL, cuda(61)).quick_precision == DA3_PRECISION_FP32);
  CHECK(make_policy(DA3_PERFORMANCE_MINIMAL, mps()).quick_precision == DA3_PRECISION_FP32);
}

TEST_CASE("policy: the modes differ in real settings") {
  const Policy minimal = make_policy(DA3_PERFORMANCE_MINIMAL, cpu(true)),
               balanced = make_policy(DA3_PERFORMANCE_BALANCED, cpu(true)),
               most = make_policy(DA3_PERFORMANCE_MAX, cpu(true));
  CHECK(minimal.repetitions == 0);
  CHECK(balanced.repetitions > 0);
  CHECK(most.repetitions > balanced.repetitions);
  CHECK_FALSE(minimal.prepack);
  CHECK(balanced.prepack);
  CHECK(minimal.batch_limit == 1);
  CHECK(balanced.batch_limit > minimal.batch_limit);
  CHECK(most.batch_limit > balanced.batch_limit);
  CHECK(most.least_gain < balanced.least_gain);
  // Heads: by the mode on a GPU; on the CPU one image at a time whatever the mode, so nothing is set there.
  CHECK(make_policy(DA3_PERFORMANCE_MINIMAL, cuda(90)).head_pixels == 0);
  CHECK(make_policy(DA3_PERFORMANCE_BALANCED, cuda(90)).head_pixels > 0);
  CHECK(make_policy(DA3_PERFORMANCE_MAX, cuda(90)).head_pixels >
        make_policy(DA3_PERFORMANCE_BALANCED, cuda(90)).head_pixels);
  for (const Policy& p : {minimal, balanced, most}) CHECK(p.head_pixels == 0);
}

TEST_CASE("policy: what is less accurate has to be faster by the least gain") {
  const double never = std::numeric_limits<double>::infinity();
  CHECK(first_worth_taking({10}, 0.05) == 0);
  CHECK(first_worth_taking({10, 9.6}, 0.05) == 0);
  CHECK(first_worth_taking({10, 9.4}, 0.05) == 1);
  CHECK(first_worth_taking({10, 9.6}, 0.02) == 1);
  CHECK(first_worth_taking({10, 9.4, 9.2}, 0.05) == 1);
  CHECK(first_worth_taking({10, 9.4, 8.8}, 0.05) == 2);
  CHECK(first_worth_taking({10, 12, 20}, 0.05) == 0);
  CHECK(first_worth_taking({10, never}, 0.05) == 0);
  CHECK(first_worth_taking({never, 10}, 0.05) == 1);
  CHECK(first_worth_taking({never, never}, 0.05) == 0);
}

TEST_CASE("policy: images through a head at once on a GPU, by the mode") {
  const Policy minimal = make_policy(DA3_PERFORMANCE_MINIMAL, cuda(90)),
               balanced = make_policy(DA3_PERFORMANCE_BALANCED, cuda(90)),
               most = make_policy(DA3_PERFORMANCE_MAX, cuda(90));
  CHECK(images_at_once(minimal, 140, 140) == 1);
  CHECK(images_at_once(balanced, 512, 512) == 8);
  CHECK(images_at_once(most, 512, 512) == 32);
  CHECK(images_at_once(balanced, 504, 280) == 14);
  CHECK(images_at_once(balanced, 5040, 5040) == 1);  // larger than what is meant for all
}

TEST_CASE("policy: attention that needs half precision is refused beside any other") {
  for (const Da3Attention kind : {DA3_ATTENTION_FLASH, DA3_ATTENTION_CUDNN}) {
    CHECK_NOTHROW(check_together(kind, DA3_PRECISION_BF16));
    CHECK_NOTHROW(check_together(kind, DA3_PRECISION_FP16));
    CHECK_THROWS_AS(check_together(kind, DA3_PRECISION_FP32), EngineError);
    CHECK_THROWS_AS(check_together(kind, DA3_PRECISION_INT8), EngineError);
  }
  for (const Da3Attention kind :
       {DA3_ATTENTION_AUTO, DA3_ATTENTION_PLAIN, DA3_ATTENTION_FUSED, DA3_ATTENTION_EFFICIENT})
    CHECK_NOTHROW(check_together(kind, DA3_PRECISION_FP32));
}

TEST_CASE("policy: TF32 and cuDNN's measurements are for max on CUDA alone") {
  CHECK(make_policy(DA3_PERFORMANCE_MAX, cuda(90)).tf32);
  CHECK(make_policy(DA3_PERFORMANCE_MAX, cuda(90)).choose_convolutions);
  CHECK_FALSE(make_policy(DA3_PERFORMANCE_MAX, cuda(75)).tf32);  // has none
  CHECK_FALSE(make_policy(DA3_PERFORMANCE_BALANCED, cuda(90)).tf32);
  CHECK_FALSE(make_policy(DA3_PERFORMANCE_MINIMAL, cuda(90)).choose_convolutions);
  CHECK_FALSE(make_policy(DA3_PERFORMANCE_MAX, cpu(true)).tf32);
  CHECK_FALSE(make_policy(DA3_PERFORMANCE_MAX, mps()).choose_convolutions);
  // The layout for the processor's kernels is for processors.
  CHECK_FALSE(make_policy(DA3_PERFORMANCE_MAX, cuda(90)).prepack);
  CHECK_FALSE(make_policy(DA3_PERFORMANCE_BALANCED, mps()).prepack);
}

TEST_CASE("policy: passes are recorded and begun ahead on CUDA alone, and not by minimal") {
  for (const Da3PerformanceMode mode : {DA3_PERFORMANCE_BALANCED, DA3_PERFORMANCE_MAX}) {
    CHECK(make_policy(mode, cuda(90)).record_passes);
    CHECK(make_policy(mode, cuda(90)).begin_ahead);
    for (const DeviceTraits& other : {cpu(true), mps()}) {
      CHECK_FALSE(make_policy(mode, other).record_passes);
      CHECK_FALSE(make_policy(mode, other).begin_ahead);
    }
  }
  CHECK_FALSE(make_policy(DA3_PERFORMANCE_MINIMAL, cuda(90)).record_passes);
  CHECK_FALSE(make_policy(DA3_PERFORMANCE_MINIMAL, cuda(90)).begin_ahead);
}

TEST_CASE("policy: attention back ends by device") {
  const Policy gpu = make_policy(DA3_PERFORMANCE_BALANCED, cuda(90));
  CHECK(has(gpu.attentions, DA3_ATTENTION_FLASH));
  CHECK(has(gpu.attentions, DA3_ATTENTION_CUDNN));
  CHECK(has(gpu.attentions, DA3_ATTENTION_EFFICIENT));
  const Policy old_gpu = make_policy(DA3_PERFORMANCE_BALANCED, cuda(75));
  CHECK_FALSE(has(old_gpu.attentions, DA3_ATTENTION_FLASH));
  CHECK_FALSE(has(old_gpu.attentions, DA3_ATTENTION_CUDNN));
  CHECK(has(old_gpu.attentions, DA3_ATTENTION_EFFICIENT));
  for (const DeviceTraits& d : {cpu(true), mps()}) {
    const Policy p = make_policy(DA3_PERFORMANCE_BALANCED, d);
    CHECK_FALSE(has(p.attentions, DA3_ATTENTION_FLASH));
    CHECK_FALSE(has(p.attentions, DA3_ATTENTION_CUDNN));
    CHECK_FALSE(has(p.attentions, DA3_ATTENTION_EFFICIENT));
    CHECK(p.quick_attention == DA3_ATTENTION_FUSED);
  }
}

TEST_CASE("policy: an older LibTorch leaves explicit products") {
  DeviceTraits d = cpu(false);
  d.attention = {DA3_ATTENTION_PLAIN};
  for (const Da3PerformanceMode mode : kModes) {
    const Policy p = make_policy(mode, d);
    CHECK(p.attentions == std::vector<Da3Attention>{DA3_ATTENTION_PLAIN});
    CHECK(p.quick_attention == DA3_ATTENTION_PLAIN);
  }
  CHECK(refusal(DA3_ATTENTION_FUSED, d).find("plain") != std::string::npos);
}

TEST_CASE("policy: what a device cannot do is refused with what it can") {
  CHECK(refusal(DA3_PRECISION_FP16, cpu(true)).find("bf16") != std::string::npos);
  CHECK(refusal(DA3_PRECISION_INT8, cuda(90)).find("CPU") != std::string::npos);
  CHECK(refusal(DA3_PRECISION_INT8, mps()).find("CPU") != std::string::npos);
  CHECK(refusal(DA3_PRECISION_FP8, cpu(true)).find("CUDA only. Use precision=int8") != std::string::npos);
  CHECK(refusal(DA3_PRECISION_FP8, mps()).find("CUDA only. Use precision=fp16") != std::string::npos);
  CHECK(refusal(DA3_PRECISION_FP8, cuda(80)).find("8.9 or newer. Use") != std::string::npos);
  CHECK(refusal(DA3_PRECISION_FP8, cuda(0)).find("not known") != std::string::npos);
  CHECK(refusal(DA3_PRECISION_BF16, mps()).find("fp16") != std::string::npos);
  CHECK(refusal(DA3_PRECISION_BF16, cuda(75)).find("8.0") != std::string::npos);
  CHECK(refusal(DA3_PRECISION_FP16, cuda(61)).find("7.0") != std::string::npos);
  CHECK(refusal(DA3_ATTENTION_FLASH, cpu(true)).find("fused") != std::string::npos);
  CHECK(refusal(DA3_ATTENTION_CUDNN, cuda(75)).find("efficient") != std::string::npos);
  CHECK(refusal(DA3_ATTENTION_EFFICIENT, mps()).find("cpu") == std::string::npos);
}

TEST_CASE("policy: 8-bit floats are for layers of whole sixteens") {
  CHECK_NOTHROW(check_widths(DA3_PRECISION_FP8, 384, 1536));
  CHECK_NOTHROW(check_widths(DA3_PRECISION_INT8, 40, 100));
  for (const auto& [width, hidden] : {std::pair{40, 160}, {64, 100}}) try {
      check_widths(DA3_PRECISION_FP8, width, hidden);
      FAIL("not refused");
    } catch (const EngineError& e) {
      CHECK(e.code() == DA3_ERROR_UNSUPPORTED);
      CHECK(std::string(e.what()).find("not " + std::to_string(width)) != std::string::npos);
      CHECK(std::string(e.what()).find("precision=bf16") != std::string::npos);
    }
}

TEST_CASE("policy: what a device can do is not refused") {
  CHECK(refusal(DA3_PRECISION_BF16, cpu(false)).empty());  // emulated, but correct: an explicit wish
  CHECK(refusal(DA3_PRECISION_INT8, cpu(true)).empty());
  CHECK(refusal(DA3_PRECISION_FP8, cuda(89)).empty());
  CHECK(refusal(DA3_PRECISION_FP16, mps()).empty());
  CHECK(refusal(DA3_PRECISION_BF16, cuda(80)).empty());
  CHECK(refusal(DA3_ATTENTION_FLASH, cuda(80)).empty());
  CHECK(refusal(DA3_ATTENTION_AUTO, cpu(true)).empty());
  CHECK(refusal(DA3_PRECISION_AUTO, mps()).empty());
}
