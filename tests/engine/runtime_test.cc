// SPDX-License-Identifier: MIT
//
// What lies between the border and the network: settings of the process, the plan, the size of weights.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <stdexcept>
#include <thread>
#include <vector>

#include "engine/kernels/flash_attention.h"
#include "engine/network/attention.h"
#include "engine/network/block.h"
#include "engine/runtime/cpu_allocator.h"
#include "engine/runtime/device.h"
#include "engine/runtime/memory.h"
#include "engine/runtime/model.h"
#include "engine/runtime/pass_memory.h"
#include "engine/runtime/plan.h"
#include "engine/runtime/processors.h"
#include "engine/runtime/scoped_math.h"
#include "instruction_sets.h"
#include "tiny_model.h"

using namespace da3;
using namespace da3::test;

namespace {

struct Flags {
  bool benchmark = at::globalContext().benchmarkCuDNN(), blas = at::globalContext().allowTF32CuBLAS(),
       cudnn = at::globalContext().allowTF32CuDNN();
  bool operator==(const Flags&) const = default;
};

Wish wish(Da3Precision precision, Da3Attention attention,
          Da3PerformanceMode mode = DA3_PERFORMANCE_BALANCED) {
  return {mode, precision, attention};
}

// Asked at every candidate that is measured.
struct Questions {
  std::atomic<int> asked{0};
  int last = 1 << 30;  // from this one on the answer is yes
  Cancelled answer() {
    return [this] { return ++asked >= last; };
  }
};

}  // namespace

TEST_SUITE("settings of the process") {
  TEST_CASE("are back after the last pass, in whatever order passes end") {
    const Flags before;
    for (const bool first_ends_first : {true, false}) {
      auto a = std::make_unique<ScopedMath>(MathSettings{true, true});
      CHECK(Flags{}.benchmark);
      CHECK(Flags{}.blas);
      auto b = std::make_unique<ScopedMath>(MathSettings{false, true});
      (first_ends_first ? a : b).reset();
      (first_ends_first ? b : a).reset();
      CHECK(Flags{} == before);
    }
  }

  TEST_CASE("nobody computes with less accuracy than he asked for") {
    const ScopedMath exact(MathSettings{false, false});
    CHECK(!Flags{}.blas);
    {
      const ScopedMath quick(MathSettings{true, true});
      CHECK(!Flags{}.blas);
      CHECK(!Flags{}.cudnn);
      CHECK(Flags{}.benchmark);  // changes no accuracy
    }
    CHECK(!Flags{}.benchmark);
    CHECK(!Flags{}.blas);
  }

  // In a process of its own, before any pass.
  TEST_CASE("usual threads" * doctest::skip()) {
    const auto threads = [] { return unsigned(at::get_num_threads()); };
    const unsigned cores = usable_cores();
    const std::vector<const char*> variables = {"OMP_NUM_THREADS", "MKL_NUM_THREADS",   "OMP_PROC_BIND",
                                                "OMP_PLACES",      "GOMP_CPU_AFFINITY", "KMP_AFFINITY"};
    for (const char* variable : variables) unsetenv(variable);
    // One: LibTorch does not know this processor.
    for (const unsigned given : {1u, cores + 3}) {
      at::set_num_threads(int(given));
      CHECK(set_threads(0));
      CHECK(threads() == cores);
    }
    for (unsigned given = 2; given <= std::min(cores, 4u); ++given) {
      at::set_num_threads(int(given));
      CHECK(set_threads(0));
      CHECK(threads() == given);
    }
    for (const char* variable : variables) {
      setenv(variable, "1", 1);
      at::set_num_threads(int(cores + 1));
      CHECK(set_threads(0));
      CHECK(threads() == cores + 1);
      unsetenv(variable);
    }
    // A wish is in force from then on.
    CHECK(set_threads(cores + 2));
    CHECK(set_threads(0));
    CHECK(threads() == cores + 2);
  }

  TEST_CASE("threads: once passes have run, their number stays, and another wish is told") {
    CHECK(set_threads(0));  // no wish
    threads_are_used();
    const auto now = unsigned(at::get_num_threads());
    CHECK(!set_threads(now + 1));
    CHECK(unsigned(at::get_num_threads()) == now);
    CHECK(set_threads(now));
    CHECK(set_threads(0));
    threads_are_used();
    CHECK(!set_threads(now + 2));
  }
}

// Whether "auto" leaves a choice.
bool is_measured(const ModelConfig& config) {
  const Policy policy = make_policy(DA3_PERFORMANCE_BALANCED, traits_of(at::kCPU, config));
  return policy.precisions.size() > 1 || policy.attentions.size() > 1;
}

TEST_SUITE("plan") {
  TEST_CASE("is measured once for each question; the attention asked for is part of it") {
    const ModelConfig config = tiny_config(tiny_any_view());
    const auto asked_for = [&](const Wish& w) {
      Questions questions;
      make_plan(config, "plan-once", at::kCPU, w, questions.answer());
      return questions.asked.load();
    };
    const Wish free = wish(DA3_PRECISION_AUTO, DA3_ATTENTION_AUTO);
    const DeviceTraits traits = traits_of(at::kCPU, config);
    const Policy policy = make_policy(DA3_PERFORMANCE_BALANCED, traits);
    const bool precision = policy.precisions.size() > 1, attention = policy.attentions.size() > 1;
    CHECK((asked_for(free) > 0) == (precision || attention));
    CHECK(asked_for(free) == 0);
    // Asked for by name it may be slower than what auto takes, and another precision the best beside it.
    const Da3Attention other = policy.quick_attention == DA3_ATTENTION_PLAIN && traits.attention.size() > 1
                                   ? traits.attention.back()
                                   : DA3_ATTENTION_PLAIN;
    const int expected = precision && other != policy.quick_attention ? int(policy.precisions.size()) : 0;
    CHECK(asked_for(wish(DA3_PRECISION_AUTO, other)) == expected);
    CHECK(asked_for(wish(DA3_PRECISION_AUTO, other)) == 0);
    CHECK(asked_for(wish(DA3_PRECISION_FP32, DA3_ATTENTION_PLAIN)) == 0);
  }

  TEST_CASE("attention is not measured where a kernel of our own runs") {
    const ModelConfig config = builtin_config("da3-small");
    REQUIRE(config.backbone.width == 64 * config.backbone.heads);
    for (const Da3Precision precision : {DA3_PRECISION_FP32, DA3_PRECISION_BF16, DA3_PRECISION_INT8}) {
      Questions questions;
      const Plan plan =
          make_plan(config, "plan-own", at::kCPU, wish(precision, DA3_ATTENTION_AUTO), questions.answer());
      if (!kernels::FlashAttention<float>::available()) continue;
      CHECK(questions.asked == 0);
      CHECK(plan.attention == DA3_ATTENTION_FUSED);
      CHECK(plan.text.find("attention fused (a kernel of our own)") != std::string::npos);
      const Plan asked = make_plan(config, "plan-own", at::kCPU, wish(precision, DA3_ATTENTION_PLAIN));
      CHECK(asked.attention == DA3_ATTENTION_PLAIN);
    }
    // On other processors, and for heads of another width, there is none.
    Questions questions;
    const ModelConfig narrow = tiny_config(tiny_any_view());
    make_plan(narrow, "plan-own", at::kCPU, wish(DA3_PRECISION_FP32, DA3_ATTENTION_AUTO), questions.answer());
    const size_t candidates =
        make_policy(DA3_PERFORMANCE_BALANCED, traits_of(at::kCPU, narrow)).attentions.size();
    CHECK(questions.asked == (candidates > 1 ? int(candidates) : 0));
    const Limited limited(kernels::Instructions::none);
    Questions again;
    ModelConfig small = config;
    small.process_res = 28;  // a short measurement
    const Plan plan =
        make_plan(small, "plan-none", at::kCPU, wish(DA3_PRECISION_FP32, DA3_ATTENTION_AUTO), again.answer());
    CHECK(plan.text.find("of our own") == std::string::npos);
  }

  TEST_CASE("fused is refused where nothing fuses heads of that width") {
    const ModelConfig narrow = tiny_config(tiny_any_view()), wide = builtin_config("da3-small");
    const auto refused = [](const ModelConfig& config, Da3Precision precision) {
      return refusal_of(
          [&] { make_plan(config, "plan-fused", at::kCPU, wish(precision, DA3_ATTENTION_FUSED)); });
    };
    if (has_attention(DA3_ATTENTION_FUSED, at::kCPU, 16)) {  // LibTorch 2
      CHECK(refused(narrow, DA3_PRECISION_FP32).message.empty());
    } else {
      const Refusal r = refused(narrow, DA3_PRECISION_FP32);
      CHECK(r.code == DA3_ERROR_UNSUPPORTED);
      CHECK(r.says("attention=fused cannot run on cpu in fp32 with heads of 16"));
      CHECK(r.says("plain"));
      CHECK(
          make_plan(narrow, "plan-fused", at::kCPU, wish(DA3_PRECISION_FP32, DA3_ATTENTION_AUTO)).attention ==
          DA3_ATTENTION_PLAIN);
    }
    // Heads of 64 depend on the processor, in bf16 on other instructions than in fp32.
    for (const auto& [precision, type] :
         {std::pair{DA3_PRECISION_FP32, at::kFloat}, std::pair{DA3_PRECISION_BF16, at::kBFloat16}}) {
      CHECK(refused(wide, precision).message.empty() ==
            has_attention(DA3_ATTENTION_FUSED, at::kCPU, 64, type));
      const Limited limited(kernels::Instructions::none);
      CHECK(refused(wide, precision).message.empty() ==
            has_attention(DA3_ATTENTION_FUSED, at::kCPU, 16, type));
    }
  }

  TEST_CASE("can be given up between two candidates, and is then measured by the next one") {
    const ModelConfig config = tiny_config(tiny_any_view());
    const Wish free = wish(DA3_PRECISION_AUTO, DA3_ATTENTION_AUTO);
    if (!is_measured(config)) return;
    for (const int last : {1, 2}) {
      Questions questions;
      questions.last = last;
      const Refusal r =
          refusal_of([&] { make_plan(config, "plan-given-up", at::kCPU, free, questions.answer()); });
      CHECK(r.code == DA3_ERROR_CANCELLED);
      CHECK(questions.asked == last);
    }
    Questions questions;
    CHECK(!make_plan(config, "plan-given-up", at::kCPU, free, questions.answer()).text.empty());
    CHECK(questions.asked >= 2);
  }

  TEST_CASE("whoever has nothing to measure does not wait for those who have") {
    const ModelConfig config = tiny_config(tiny_any_view());
    const Wish free = wish(DA3_PRECISION_AUTO, DA3_ATTENTION_AUTO);
    if (!is_measured(config)) return;
    const std::string known = make_plan(config, "plan-known", at::kCPU, free).text;
    std::promise<void> reached, go;
    auto gate = go.get_future().share();
    std::atomic<bool> first{true};
    auto slow = std::async(std::launch::async, [&] {
      return make_plan(config, "plan-slow", at::kCPU, free, [&] {
        if (first.exchange(false)) {
          reached.set_value();
          gate.wait();
        }
        return false;
      });
    });
    reached.get_future().wait();
    // Would hang if they waited.
    CHECK(make_plan(config, "plan-known", at::kCPU, free).text == known);
    CHECK(make_plan(config, "plan-new", at::kCPU, wish(DA3_PRECISION_FP32, DA3_ATTENTION_PLAIN)).precision ==
          DA3_PRECISION_FP32);
    CHECK(make_plan(config, "plan-new", at::kCPU,
                    wish(DA3_PRECISION_AUTO, DA3_ATTENTION_AUTO, DA3_PERFORMANCE_MINIMAL))
              .text.find("not measured") != std::string::npos);
    // Whoever has something to measure waits for its turn, and can give that up.
    Questions questions;
    questions.last = 2;
    CHECK(refusal_of([&] { make_plan(config, "plan-new", at::kCPU, free, questions.answer()); }).code ==
          DA3_ERROR_CANCELLED);
    go.set_value();
    CHECK(!slow.get().text.empty());
  }
}

namespace {

// A model in a file, loaded by so many threads.
struct Loading {
  explicit Loading(int threads) : before(at::get_num_threads()) { at::set_num_threads(threads); }
  ~Loading() { at::set_num_threads(before); }
  std::shared_ptr<const Model> load(const Progress& progress = {}, const Cancelled& cancelled = {}) {
    const TempDir temp;
    temp.write("config.json", tiny_any_view().dump());
    const auto file =
        temp.write("model.safetensors", file_of(synthetic_tensors(tiny_config(tiny_any_view()))));
    return load_model(resolve_model(file, "cpu", wish(DA3_PRECISION_FP32, DA3_ATTENTION_PLAIN)), {}, progress,
                      cancelled);
  }
  const int before;
};

}  // namespace

TEST_SUITE("loading") {
  TEST_CASE("by several threads: the caller alone hears how far it is, and is asked") {
    const auto here = std::this_thread::get_id();
    for (const int threads : {1, 2, 4}) {
      std::vector<double> parts;
      std::atomic<int> elsewhere{0}, asked{0};
      const auto model = Loading(threads).load(
          [&](double part) {
            elsewhere += std::this_thread::get_id() != here;
            parts.push_back(part);
          },
          [&] {
            elsewhere += std::this_thread::get_id() != here;
            ++asked;
            return false;
          });
      CHECK(model->network != nullptr);
      CHECK(elsewhere == 0);
      CHECK(asked > 0);
      REQUIRE(!parts.empty());
      CHECK(std::is_sorted(parts.begin(), parts.end()));
      CHECK(parts.front() > 0);
      CHECK(parts.back() < 1);
    }
  }

  TEST_CASE("by several threads can be given up at any question") {
    for (const int last : {1, 2, 5, 10}) {
      std::atomic<int> asked{0};
      const Refusal r = refusal_of([&] { Loading(3).load({}, [&] { return ++asked >= last; }); });
      CHECK(r.code == DA3_ERROR_CANCELLED);
      CHECK(!r.message.empty());
      CHECK(asked == last);
    }
  }

  TEST_CASE("an exception of the caller's own ends it") {
    CHECK_THROWS_WITH(Loading(3).load([](double) { throw std::runtime_error("no more"); }), "no more");
  }
}

TEST_SUITE("size of the weights") {
  TEST_CASE("by the type they are kept in") {
    const ModelConfig config = tiny_config(tiny_any_view());
    uint64_t parameters = 0;
    for (const auto& k : network_keys(config)) {
      uint64_t n = 1;
      for (const int64_t side : k.shape) n *= uint64_t(side);
      parameters += n;
    }
    const auto bytes = [&](Da3Precision p, Da3Precision beside = DA3_PRECISION_FP32) {
      return weight_bytes_of(config, p, beside);
    };
    CHECK(bytes(DA3_PRECISION_FP32) == 4 * parameters);
    CHECK(bytes(DA3_PRECISION_BF16) == 2 * parameters);
    CHECK(bytes(DA3_PRECISION_FP16) == 2 * parameters);
    // The matrices of the blocks a byte each, whatever is beside them.
    const BackboneConfig& b = config.backbone;
    const uint64_t matrices = uint64_t(b.depth * (4 * b.width * b.width + 2 * b.width * b.ffn_hidden));
    CHECK(bytes(DA3_PRECISION_INT8) == matrices + 4 * (parameters - matrices));
    // But for the projections beside bfloat16, which have two bytes.
    const auto projections = uint64_t(b.depth * b.width * b.width);
    CHECK(bytes(DA3_PRECISION_INT8, DA3_PRECISION_BF16) ==
          matrices + projections + 2 * (parameters - matrices));
    CHECK(bytes(DA3_PRECISION_FP8, DA3_PRECISION_BF16) == bytes(DA3_PRECISION_INT8, DA3_PRECISION_BF16));
    CHECK_FALSE(projection_in_8_bits(at::kBFloat16));
    CHECK(projection_in_8_bits(at::kFloat));
  }

  TEST_CASE("of a nested model: both branches") {
    const ModelConfig nested = tiny_config(tiny_nested()), any_view = tiny_config(tiny_any_view()),
                      mono = tiny_config(tiny_mono());
    CHECK(weight_bytes_of(nested, DA3_PRECISION_INT8, DA3_PRECISION_FP32) ==
          weight_bytes_of(any_view, DA3_PRECISION_INT8, DA3_PRECISION_FP32) +
              weight_bytes_of(mono, DA3_PRECISION_INT8, DA3_PRECISION_FP32));
  }
}

TEST_CASE("free memory of the CPU: what passes have kept is there for the next one") {
  use_block_pool();
  constexpr int64_t kBytes = int64_t(256) << 20;
  trim_block_pool();
  CHECK(kept_block_bytes() == 0);
  {
    const PassBlocks pass;
    at::zeros({kBytes}, at::TensorOptions(at::kByte));
  }
  if (kept_block_bytes() == 0) return;  // no pool on this system
  CHECK(kept_block_bytes() >= uint64_t(kBytes));
  const auto system = free_main_memory();
  REQUIRE(system);
  // They are resident, so the system does not count them.
  CHECK(device_memory(at::kCPU, 0).free > *system + uint64_t(kBytes) / 2);
  trim_block_pool();
  CHECK(kept_block_bytes() == 0);
}
