// SPDX-License-Identifier: MIT
//
// The engine through its border: opening and sharing models, and loads that nobody wants any more.
#include "engine_api.h"

using namespace da3;
using namespace da3::test;

// In a process of its own, or before all others: the number is the process's, and in force once anything was
// computed.
TEST_SUITE("threads") {
  TEST_CASE("threads are the first one's choice") {
    const auto first = open(Models::any_view(), 0, DA3_PRECISION_AUTO, "cpu", nullptr, 2);
    std::vector<std::string> notices;
    const auto same = open(Models::any_view(), 0, DA3_PRECISION_AUTO, "cpu", &notices, 2);
    CHECK(notices.empty());
    const auto other = open(Models::any_view(), 0, DA3_PRECISION_AUTO, "cpu", &notices, 3);
    REQUIRE(notices.size() == 1);
    CHECK(notices[0].find("threads") != std::string::npos);
    CHECK(std::string(first->info().runtime).find("2 CPU threads") != std::string::npos);
  }

  TEST_CASE("and stay so when passes have run") {
    const auto first = open(Models::any_view());
    const Pictures pictures(1, 1, 14, 14);
    Ticket ticket;
    ticket.submit(*first, pictures.request());
    CHECK(ticket.code() == DA3_OK);
    std::vector<std::string> notices;
    open(Models::any_view(), 0, DA3_PRECISION_FP32, "cpu", &notices);
    CHECK(notices.empty());  // no wish
    open(Models::any_view(), 0, DA3_PRECISION_FP32, "cpu", &notices, 5);
    REQUIRE(notices.size() == 1);
    CHECK(notices[0].find("threads=5") != std::string::npos);
  }
}

TEST_SUITE("open") {
  TEST_CASE("a folder: what the model is") {
    std::vector<std::string> notices;
    const auto engine = open(Models::any_view(), 3, DA3_PRECISION_FP32, "cpu", &notices);
    const Da3ModelInfo& info = engine->info();
    CHECK(std::string(info.name) == "tiny");
    CHECK(std::string(info.source) == Models::any_view());
    CHECK(std::string(info.weights_hash).size() == 16);
    CHECK(std::string(info.licence) == "");
    CHECK(std::string(info.device) == "cpu");
    CHECK(std::string(info.runtime).find("LibTorch ") == 0);
    CHECK(info.precision == DA3_PRECISION_FP32);
    CHECK(info.kind == DA3_KIND_RELATIVE);
    CHECK(info.outputs == kAllOutputs);
    CHECK(info.max_batch == 3);
    CHECK(info.synthetic == 0);
    CHECK(info.focal_normalised == 0);
    uint64_t parameters = 0;
    for (const auto& k : network_keys(tiny_config(tiny_any_view()))) {
      uint64_t n = 1;
      for (int64_t s : k.shape) n *= uint64_t(s);
      parameters += n;
    }
    CHECK(info.parameters == parameters);
    CHECK(notices.empty());
  }

  TEST_CASE("other kinds of models") {
    CHECK(open(Models::mono())->info().outputs == (DA3_OUTPUT_DEPTH | DA3_OUTPUT_SKY));
    const auto nested = open(Models::nested());
    CHECK(nested->info().kind == DA3_KIND_METRIC);
    CHECK(nested->info().outputs == kAllOutputs);
    // What a request cannot get is not promised either.
    CHECK(open(Models::gaussians())->info().outputs == kAllOutputs);
  }

  TEST_CASE("a synthetic model: says so, and the seed makes another one") {
    std::vector<std::string> notices;
    const auto engine = open("synthetic:da3-small", 0, DA3_PRECISION_FP32, "cpu", &notices);
    CHECK(engine->info().synthetic == 1);
    CHECK(std::string(engine->info().name) == "da3-small");
    CHECK(std::string(engine->info().source) == "synthetic:da3-small");
    CHECK(engine->info().max_batch >= 1);
    REQUIRE(notices.size() == 1);
    CHECK(notices[0].find("not a trained model") != std::string::npos);
    const auto zero = open("synthetic:da3-small?seed=0");
    CHECK(std::string(zero->info().weights_hash) == engine->info().weights_hash);
    const auto other = open("synthetic:da3-small?seed=5");
    CHECK(std::string(other->info().weights_hash) != engine->info().weights_hash);
    const Pictures pictures(1, 1, 14, 14);
    Ticket a, b, c;
    a.submit(*engine, pictures.request());
    b.submit(*other, pictures.request());
    c.submit(*zero, pictures.request());
    CHECK(!same_bits(depth_of(a.data()), depth_of(b.data())));
    CHECK(same_bits(depth_of(a.data()), depth_of(c.data())));
  }

  TEST_CASE("no model") {
    const Refusal r = open_refusal("");
    CHECK(r.code == DA3_ERROR_SETTINGS);
    CHECK(r.says("synthetic:da3-small"));
    Da3EngineConfig config{};
    config.struct_size = sizeof config;
    CHECK(refusal_of([&] { EngineModule::instance().open(config); }).code == DA3_ERROR_SETTINGS);
  }

  TEST_CASE("a model that is not there, that is none, that does not fit") {
    const TempDir temp;
    const Refusal missing = open_refusal(temp / "none.safetensors");
    CHECK(missing.code == DA3_ERROR_NOT_FOUND);
    CHECK(missing.says("none.safetensors"));
    CHECK(open_refusal(temp.write("text.safetensors", "hello, this is no tensor")).code ==
          DA3_ERROR_WRONG_TYPE);
    const json any_view = tiny_any_view();
    StoredTensors tensors = synthetic_tensors(tiny_config(any_view));
    const std::string whole = file_of(tensors);
    CHECK(open_refusal(temp.write("cut.safetensors", whole.substr(0, whole.size() - 1))).code ==
          DA3_ERROR_WRONG_TYPE);
    tensors.erase("model.cam_dec.fc_t.bias");
    const Refusal incomplete = open_refusal(write_model(temp, "incomplete", any_view, tensors));
    CHECK(incomplete.code == DA3_ERROR_WRONG_TYPE);
    CHECK(incomplete.says("1 keys missing"));
    CHECK(incomplete.detail.find("cam_dec.fc_t.bias") != std::string::npos);
    temp.write("incomplete/config.json", R"({"model_name": "da3-gigantic"})");
    CHECK(open_refusal(temp / "incomplete").says("da3-gigantic"));
  }

  TEST_CASE("synthetic models that are none") {
    CHECK(open_refusal("synthetic:da3-enormous").code == DA3_ERROR_SETTINGS);
    CHECK(open_refusal("synthetic:da3-enormous").says("da3-small"));
    CHECK(open_refusal("synthetic:").code == DA3_ERROR_SETTINGS);
    for (const char* query :
         {"?seed=", "?seed=-1", "?seed=1x", "?seed=99999999999999999999", "?sead=1", "?", "?seed=1&x=2"}) {
      CAPTURE(query);
      const Refusal r = open_refusal(std::string("synthetic:da3-small") + query);
      CHECK(r.code == DA3_ERROR_SETTINGS);
      CHECK(r.says("synthetic:NAME?seed=N"));
    }
  }

  TEST_CASE("devices") {
    for (const char* word : {"gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:1000", "cpu:0", " cpu"}) {
      CAPTURE(word);
      const Refusal r = open_refusal(Models::any_view(), word);
      CHECK(r.code == DA3_ERROR_SETTINGS);
      CHECK(r.says(std::string("'") + word + "'"));
      CHECK(r.says("cuda:N"));
    }
    if (!at::hasCUDA()) {
      for (const char* word : {"cuda", "cuda:0", "cuda:7"}) {
        const Refusal r = open_refusal(Models::any_view(), word);
        CHECK(r.code == DA3_ERROR_DEVICE);
        CHECK(r.says("CPU build"));
        CHECK(r.says("device=cpu"));
      }
    }
    if (!at::hasMPS()) CHECK(open_refusal(Models::any_view(), "mps").code == DA3_ERROR_DEVICE);
  }

  TEST_CASE("precisions of the CPU") {
    const Refusal r = open_refusal(Models::any_view(), "cpu", DA3_PRECISION_FP16);
    CHECK(r.code == DA3_ERROR_UNSUPPORTED);
    CHECK(r.says("fp16"));
    CHECK(r.says("bf16"));
    const Refusal eight = open_refusal(Models::any_view(), "cpu", DA3_PRECISION_FP8);
    CHECK(eight.code == DA3_ERROR_UNSUPPORTED);
    CHECK(eight.says("precision=fp8 is for CUDA only. Use precision=int8"));
    CHECK(open(Models::any_view(), 0, DA3_PRECISION_BF16)->info().precision == DA3_PRECISION_BF16);
    CHECK(open(Models::any_view(), 0, DA3_PRECISION_INT8)->info().precision == DA3_PRECISION_INT8);
    CHECK(open(Models::any_view(), 0)->info().process_res == 504);
    Da3EngineConfig config{};
    config.struct_size = sizeof config;
    config.model = "synthetic:da3-small";
    const int unknown = 42;
    std::memcpy(&config.precision, &unknown, sizeof unknown);
    const Refusal number = refusal_of([&] { EngineModule::instance().open(config); });
    CHECK(number.code == DA3_ERROR_SETTINGS);
    CHECK(number.says("42"));
  }

  TEST_CASE("auto: what runs is native, and the plan says why") {
    Da3EngineConfig config{};
    config.struct_size = sizeof config;
    config.model = Models::any_view().c_str();
    config.device = "cpu";
    const auto engine = EngineModule::instance().open(config);
    const Da3ModelInfo& info = engine->info();
    const bool native = traits_of(at::kCPU).native_bf16;
    CHECK((info.precision == DA3_PRECISION_FP32 || (native && info.precision == DA3_PRECISION_BF16)));
    CHECK(info.attention != DA3_ATTENTION_AUTO);
    CHECK(info.performance_mode == DA3_PERFORMANCE_BALANCED);
    const std::string plan = info.plan;
    CHECK(plan.find(std::string("precision ") + name_of(info.precision)) != std::string::npos);
    CHECK(plan.find(std::string("attention ") + name_of(info.attention)) != std::string::npos);
    CHECK(plan.find(native ? " ms" : "the only one") != std::string::npos);
    // Measured once: the second gets the same engine, whatever a second measurement would have said.
    CHECK(EngineModule::instance().open(config)->info().plan == plan);
    // Who asked for what the first one was given shares its engine, and is told what is true of his own wish.
    config.precision = info.precision;
    config.max_batch = 3;
    const auto wished = EngineModule::instance().open(config);
    CHECK(wished->stats().users == 2);
    const std::string other = wished->info().plan;
    CHECK(other.find(std::string("precision ") + name_of(info.precision) + " (as asked)") !=
          std::string::npos);
    CHECK(other.find("max-batch 3 (as asked)") != std::string::npos);
    CHECK(std::string(engine->info().plan) == plan);
  }

  TEST_CASE("performance modes") {
    const auto with = [](Da3PerformanceMode mode) {
      Da3EngineConfig config{};
      config.struct_size = sizeof config;
      config.model = Models::any_view().c_str();
      config.device = "cpu";
      config.precision = DA3_PRECISION_FP32;
      config.performance_mode = mode;
      return EngineModule::instance().open(config);
    };
    const auto minimal = with(DA3_PERFORMANCE_MINIMAL), balanced = with(DA3_PERFORMANCE_BALANCED),
               most = with(DA3_PERFORMANCE_MAX);
    CHECK(minimal->info().max_batch == 1);
    CHECK(balanced->info().max_batch == 32);
    CHECK(most->info().max_batch == 64);
    CHECK(minimal->info().performance_mode == DA3_PERFORMANCE_MINIMAL);
    CHECK(std::string(minimal->info().plan).find("as in the file") != std::string::npos);
    CHECK(std::string(most->info().plan).find("laid out") != std::string::npos);
    // The result is the same.
    const Pictures pictures(1, 2);
    Ticket a, b, c;
    a.submit(*minimal, pictures.request());
    b.submit(*balanced, pictures.request());
    c.submit(*most, pictures.request());
    const Tensor depth = depth_of(b.data());
    CHECK(at::allclose(depth_of(a.data()), depth, 1e-4, 1e-5));
    CHECK(at::allclose(depth_of(c.data()), depth, 1e-4, 1e-5));
  }

  TEST_CASE("attention back ends give the same depth") {
    const auto with = [](Da3Attention attention) {
      Da3EngineConfig config{};
      config.struct_size = sizeof config;
      config.model = Models::any_view().c_str();
      config.device = "cpu";
      config.precision = DA3_PRECISION_FP32;
      config.attention = attention;
      return EngineModule::instance().open(config);
    };
    const auto plain = with(DA3_ATTENTION_PLAIN);
    CHECK(plain->info().attention == DA3_ATTENTION_PLAIN);
    const Refusal flash = refusal_of([&] { with(DA3_ATTENTION_FLASH); });
    CHECK(flash.code == DA3_ERROR_UNSUPPORTED);
    CHECK(flash.says("attention=flash"));
    CHECK(flash.says("plain"));
    if (!has_attention(DA3_ATTENTION_FUSED, at::kCPU, 16)) {
      CHECK(refusal_of([&] { with(DA3_ATTENTION_FUSED); }).says("attention=fused"));
      return;
    }
    const auto fused = with(DA3_ATTENTION_FUSED);
    CHECK(fused->info().attention == DA3_ATTENTION_FUSED);
    const Pictures pictures(2, 3);
    Ticket a, b;
    a.submit(*plain, pictures.request());
    b.submit(*fused, pictures.request());
    CHECK(at::allclose(depth_of(a.data()), depth_of(b.data()), 1e-4, 1e-5));
  }

  TEST_CASE("numbers that are no mode and no attention") {
    for (const bool mode : {true, false}) {
      Da3EngineConfig config{};
      config.struct_size = sizeof config;
      config.model = "synthetic:da3-small";
      const int unknown = 42;
      if (mode)
        std::memcpy(&config.performance_mode, &unknown, sizeof unknown);
      else
        std::memcpy(&config.attention, &unknown, sizeof unknown);
      const Refusal r = refusal_of([&] { EngineModule::instance().open(config); });
      CHECK(r.code == DA3_ERROR_SETTINGS);
      CHECK(r.says(mode ? "performance mode number 42" : "attention number 42"));
    }
  }

  TEST_CASE("a caller of another interface version") {
    Da3EngineConfig config{};
    config.struct_size = DA3_ENGINE_CONFIG_SIZE_1 - 1;
    config.model = "synthetic:da3-small";
    CHECK(refusal_of([&] { EngineModule::instance().open(config); }).code == DA3_ERROR_LIBRARY);
  }

  TEST_CASE("an error is optional, and clearing it is safe") {
    const Da3EngineApi& api = EngineModule::instance().api();
    Da3EngineConfig config{};
    config.struct_size = sizeof config;
    CHECK(api.open(&config, nullptr) == nullptr);
    CHECK(api.open(nullptr, nullptr) == nullptr);
    Da3Error error{};
    CHECK(api.open(&config, &error) == nullptr);
    CHECK(error.message != nullptr);
    api.error_clear(&error);
    CHECK(error.message == nullptr);
    api.error_clear(&error);
    api.error_clear(nullptr);
    api.close(nullptr);
    api.result_unref(nullptr);
    CHECK(std::string(api.runtime()).find("LibTorch") == 0);
  }
}

TEST_SUITE("sharing") {
  TEST_CASE("the same weights are loaded once, also from another folder") {
    const auto a = open(Models::any_view(), 1), b = open(Models::any_view() + "/model.safetensors", 5);
    // The texts live in the model: one model, one text.
    CHECK(a->info().weights_hash == b->info().weights_hash);
    CHECK(a->info().max_batch == 1);
    CHECK(b->info().max_batch == 5);
    const TempDir temp;
    const auto copy = open(write_model(temp, "copy", tiny_any_view()));
    CHECK(copy->info().weights_hash == a->info().weights_hash);
  }

  TEST_CASE("another precision, other weights or another configuration are another engine") {
    const auto a = open(Models::any_view());
    CHECK(open(Models::any_view(), 0, DA3_PRECISION_BF16)->info().weights_hash != a->info().weights_hash);
    CHECK(open(Models::mono())->info().weights_hash != a->info().weights_hash);
    const TempDir temp;
    StoredTensors tensors = synthetic_tensors(tiny_config(tiny_any_view()));
    tensors["model.cam_dec.fc_t.bias"] = store(at::zeros({3}, at::TensorOptions(at::kFloat)));
    const auto other = open(write_model(temp, "other", tiny_any_view(), tensors));
    CHECK(std::string(other->info().weights_hash) != a->info().weights_hash);
    // The same file and name, but other layers go to the head.
    json layers = tiny_any_view();
    layers["config"]["net"]["out_layers"] = {2, 3, 5, 7};
    const auto changed = open(write_model(temp, "changed", layers));
    CHECK(changed->info().weights_hash != a->info().weights_hash);
    const Pictures pictures(1, 1);
    Ticket x, y;
    x.submit(*a, pictures.request());
    y.submit(*changed, pictures.request());
    CHECK(!same_bits(depth_of(x.data()), depth_of(y.data())));
  }

  TEST_CASE("one closes, the other works on; all close, and it opens again") {
    const Pictures pictures(1, 1);
    auto a = open(Models::any_view()), b = open(Models::any_view());
    a.reset();
    Ticket first, second;
    first.submit(*b, pictures.request());
    CHECK(first.code() == DA3_OK);
    b.reset();
    const auto c = open(Models::any_view());
    second.submit(*c, pictures.request());
    CHECK(same_bits(depth_of(first.data()), depth_of(second.data())));
  }

  TEST_CASE("many threads open and close at once") {
    std::vector<std::thread> threads;
    std::atomic<int> good{0};
    const Pictures pictures(1, 1, 14, 14);
    for (int t = 0; t < 6; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < 4; ++i) {
          const auto engine = open(t % 2 ? Models::any_view() : Models::mono());
          Ticket ticket;
          ticket.submit(*engine, pictures.request());
          if (ticket.code() == DA3_OK) ++good;
        }
      });
    for (auto& t : threads) t.join();
    CHECK(good == 24);
  }
}

namespace {

// Somebody who opens a model and may change his mind; blocks at a weight if he is told to.
struct Opener {
  std::atomic<int> asked{0};
  std::atomic<bool> cancelled{false};
  int cancel_at = 0;     // the question that is answered with yes; 0: none
  Gate* gate = nullptr;  // passed once at half of the weights
  Da3EngineConfig config = config_of(Models::mono());

  Opener() {
    // Nothing is left to measure.
    config.precision = DA3_PRECISION_FP32;
    config.attention = DA3_ATTENTION_PLAIN;
    config.user = this;
    config.cancelled = [](void* user) {
      auto* self = static_cast<Opener*>(user);
      const bool now = ++self->asked == self->cancel_at;
      return int32_t(now || self->cancelled);
    };
    config.progress = [](void* user, Da3ProgressStage stage, double part) {
      auto* self = static_cast<Opener*>(user);
      if (self->gate && stage == DA3_PROGRESS_LOADING && part > 0.3 && part < 1)
        std::exchange(self->gate, nullptr)->pass();
    };
  }
  Refusal refusal() {
    return refusal_of([&] { EngineModule::instance().open(config); });
  }
};

}  // namespace

TEST_SUITE("a load that nobody wants any more") {
  TEST_CASE("ends at whatever weight it is, and the next one loads anew") {
    Opener patient;
    const auto before = EngineModule::instance().open(patient.config)->stats();
    const int questions = patient.asked;
    CHECK(questions > 20);
    for (const int at : {1, 2, questions / 2, questions}) {
      CAPTURE(at);
      Opener opener;
      opener.cancel_at = at;
      const Refusal r = opener.refusal();
      CHECK(r.code == DA3_ERROR_CANCELLED);
      CHECK(!r.message.empty());
      CHECK(opener.asked == at);  // not asked again
    }
    Opener opener;
    const auto engine = EngineModule::instance().open(opener.config);
    CHECK(opener.asked == questions);
    CHECK(engine->stats().cache_misses == before.cache_misses + 1);
    // There it is: hardly a question, and still an answer.
    Opener late;
    CHECK(EngineModule::instance().open(late.config) != nullptr);
    CHECK(late.asked < 5);
  }

  TEST_CASE("an older caller is not asked") {
    Opener opener;
    opener.cancelled = true;
    opener.config.struct_size = offsetof(Da3EngineConfig, cancelled);
    CHECK(EngineModule::instance().open(opener.config) != nullptr);
    CHECK(opener.asked == 0);
  }

  TEST_CASE("waiting for somebody else's: ends too, and the other goes on") {
    Gate gate;
    Opener first, second;
    first.gate = &gate;
    second.cancel_at = 3;  // the first one is asked before it waits
    auto loaded = std::async(std::launch::async, [&] { return EngineModule::instance().open(first.config); });
    gate.wait_until_reached();
    CHECK(second.refusal().code == DA3_ERROR_CANCELLED);  // would hang if it waited
    gate.open();
    const auto engine = loaded.get();
    CHECK(engine->stats().users == 1);
  }

  TEST_CASE("somebody else's that is given up: whoever waits loads it himself") {
    Gate gate;
    Opener first, second;
    first.gate = &gate;
    auto given_up = std::async(std::launch::async, [&] { return first.refusal(); });
    gate.wait_until_reached();
    auto loaded =
        std::async(std::launch::async, [&] { return EngineModule::instance().open(second.config); });
    while (second.asked < 3) std::this_thread::yield();  // of which some while it waits
    first.cancelled = true;
    gate.open();
    CHECK(given_up.get().code == DA3_ERROR_CANCELLED);
    const auto engine = loaded.get();
    CHECK(engine->stats().users == 1);
    CHECK(second.asked > 20);
  }

  TEST_CASE("a warm-up is asked for it as well, also one that has not begun") {
    Opener opener;
    const auto engine = EngineModule::instance().open(opener.config);
    opener.cancelled = true;
    CHECK(refusal_of([&] { engine->warm_up(shape_of()); }).code == DA3_ERROR_CANCELLED);
    CHECK(engine->shape_stats(shape_of()).measured == 0);
    opener.cancelled = false;
    opener.cancel_at = opener.asked + 3;
    CHECK(refusal_of([&] { engine->warm_up(shape_of()); }).code == DA3_ERROR_CANCELLED);
    const uint64_t some = engine->shape_stats(shape_of()).measured;
    CHECK(engine->warm_up(shape_of()));
    CHECK(engine->shape_stats(shape_of()).measured > some);
  }
}
