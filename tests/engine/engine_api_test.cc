// SPDX-License-Identifier: MIT
//
// The real engine through its border, as the elements use it: the module is loaded at run time and runs
// checkpoints of tiny networks.
#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <fstream>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include "engine/api/engine_module.h"
#include "engine/kernels/instructions.h"
#include "engine/network/attention.h"
#include "engine/runtime/device.h"
#include "geometry/pose_align.h"
#include "geometry/rigid.h"
#include "tiny_model.h"

using namespace da3;
using namespace da3::test;

namespace {

constexpr int kWidth = 56, kHeight = 42;
constexpr uint32_t kAllOutputs = DA3_OUTPUT_DEPTH | DA3_OUTPUT_CONFIDENCE | DA3_OUTPUT_POSE | DA3_OUTPUT_RAY;

// Folders of tiny models, made once.
class Models {
 public:
  static const std::string& any_view() { return get("any-view", tiny_any_view()); }
  static const std::string& mono() { return get("mono", tiny_mono()); }
  static const std::string& nested() { return get("nested", tiny_nested()); }
  static const std::string& gaussians() { return get("gaussians", tiny_any_view(true)); }
  static const TempDir& temp() { return instance().temp_; }

 private:
  static Models& instance() {
    static Models models;
    return models;
  }
  static const std::string& get(const std::string& name, const json& description) {
    auto& paths = instance().paths_;
    const auto found = paths.find(name);
    if (found != paths.end()) return found->second;
    return paths[name] = write_model(instance().temp_, name, description);
  }
  TempDir temp_;
  std::map<std::string, std::string> paths_;
};

std::unique_ptr<Engine> open(const std::string& model, uint32_t max_batch = 0,
                             Da3Precision precision = DA3_PRECISION_FP32, const char* device = "cpu",
                             std::vector<std::string>* notices = nullptr, uint32_t threads = 0) {
  Da3EngineConfig config{};
  config.struct_size = sizeof config;
  config.model = model.c_str();
  config.device = device;
  config.precision = precision;
  config.max_batch = max_batch;
  config.threads = threads;
  // Not measured: results are compared to the bit.
  config.attention = has_attention(DA3_ATTENTION_FUSED) ? DA3_ATTENTION_FUSED : DA3_ATTENTION_PLAIN;
  config.user = notices;
  if (notices)
    config.notice = [](void* user, const char* text) {
      static_cast<std::vector<std::string>*>(user)->push_back(text);
    };
  return EngineModule::instance().open(config);
}

// Pixels of some views; `padding` bytes between rows hold rubbish.
class Pictures {
 public:
  Pictures(int index, int views, int width = kWidth, int height = kHeight, int padding = 0)
      : width_(width), height_(height) {
    for (int v = 0; v < views; ++v) {
      std::vector<uint8_t> dense(size_t(width) * height * 3);
      synthetic::fill_rgb(dense.data(), width, height, index * 17 + v);
      std::vector<uint8_t> rows(size_t(3 * width + padding) * height, 0xEE);
      for (int y = 0; y < height; ++y)
        std::copy_n(dense.begin() + y * 3 * width, 3 * width, rows.begin() + y * (3 * width + padding));
      pixels_.push_back(std::move(rows));
      views_.push_back({pixels_.back().data(), 3 * width + padding});
    }
  }
  Da3Request request(uint32_t outputs = DA3_OUTPUT_DEPTH, const void* stream = nullptr) const {
    Da3Request r{};
    r.struct_size = sizeof r;
    r.stream = stream;
    r.views = views_.data();
    r.n_views = uint32_t(views_.size());
    r.width = width_;
    r.height = height_;
    r.outputs = outputs;
    r.ref_view_strategy = DA3_REF_VIEW_SADDLE_BALANCED;
    return r;
  }
  // What the network gets, by the definition.
  Tensor normalised() const {
    const float mean[3] = {0.485f, 0.456f, 0.406f}, deviation[3] = {0.229f, 0.224f, 0.225f};
    Tensor out = at::empty({1, int64_t(views_.size()), 3, height_, width_}, at::TensorOptions(at::kFloat));
    float* p = out.data_ptr<float>();
    for (const Da3View& view : views_)
      for (int c = 0; c < 3; ++c)
        for (int y = 0; y < height_; ++y)
          for (int x = 0; x < width_; ++x)
            *p++ = (float(view.rgb[y * view.stride + 3 * x + c]) / 255.0f - mean[c]) / deviation[c];
    return out;
  }

 private:
  int width_, height_;
  std::deque<std::vector<uint8_t>> pixels_;
  std::vector<Da3View> views_;
};

// A place where a callback waits until the test lets it go.
class Gate {
 public:
  void open() {
    const std::lock_guard<std::mutex> guard(lock_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock<std::mutex> guard(lock_);
    reached_ = true;
    changed_.notify_all();
    changed_.wait(guard, [&] { return open_; });
  }
  void wait_until_reached() {
    std::unique_lock<std::mutex> guard(lock_);
    changed_.wait(guard, [&] { return reached_; });
  }

 private:
  std::mutex lock_;
  std::condition_variable changed_;
  bool open_ = false, reached_ = false;
};

// What became of a request.
class Ticket {
 public:
  explicit Ticket(Gate* gate = nullptr) : gate_(gate) {}
  ~Ticket() {
    if (result_) EngineModule::instance().api().result_unref(result_);
  }
  Ticket(const Ticket&) = delete;

  void submit(Engine& engine, Da3Request request) {
    request.done = done;
    request.user = this;
    engine.submit(request);
  }
  // Waits for the callback.
  Da3ErrorCode code() {
    wait();
    return code_;
  }
  const std::string& message() {
    wait();
    return message_;
  }
  const Da3ResultData& data() {
    wait();
    REQUIRE_MESSAGE(result_ != nullptr, message_);
    return *EngineModule::instance().api().result_data(result_);
  }
  int calls() {
    const std::lock_guard<std::mutex> guard(lock_);
    return calls_;
  }
  std::vector<Ticket*>* order = nullptr;  // appended to on completion
  std::mutex* order_lock = nullptr;

 private:
  static void done(void* user, Da3Result* result, const Da3Error* error) {
    auto* self = static_cast<Ticket*>(user);
    if (self->order) {
      const std::lock_guard<std::mutex> guard(*self->order_lock);
      self->order->push_back(self);
    }
    if (self->gate_) self->gate_->pass();
    const std::lock_guard<std::mutex> guard(self->lock_);
    ++self->calls_;
    self->result_ = result;
    if (error) {
      self->code_ = error->code;
      self->message_ = error->message ? error->message : "";
    }
    self->changed_.notify_all();
  }
  void wait() {
    std::unique_lock<std::mutex> guard(lock_);
    changed_.wait(guard, [&] { return calls_ > 0; });
  }

  Gate* gate_;
  std::mutex lock_;
  std::condition_variable changed_;
  int calls_ = 0;
  Da3ErrorCode code_ = DA3_OK;
  std::string message_;
  Da3Result* result_ = nullptr;
};

Tensor plane(const float* data, std::vector<int64_t> shape) {
  REQUIRE(data != nullptr);
  return at::from_blob(const_cast<float*>(data), shape, at::TensorOptions(at::kFloat)).clone();
}

Tensor depth_of(const Da3ResultData& d) {
  return plane(d.depth, {d.n_views, d.height, d.width});
}

Da3Shape shape_of(int width = kWidth, int height = kHeight) {
  Da3Shape shape{};
  shape.struct_size = sizeof shape;
  shape.width = width;
  shape.height = height;
  shape.n_views = 1;
  return shape;
}

Da3EngineConfig config_of(const std::string& model) {
  Da3EngineConfig config{};
  config.struct_size = sizeof config;
  config.model = model.c_str();
  config.device = "cpu";
  return config;
}

Refusal open_refusal(const std::string& model, const char* device = "cpu",
                     Da3Precision precision = DA3_PRECISION_FP32) {
  return refusal_of([&] { open(model, 0, precision, device); });
}

// The refusal of a request that must not be accepted.
Refusal submit_refusal(Engine& engine, Da3Request request) {
  Ticket ticket;
  const Refusal r = refusal_of([&] { ticket.submit(engine, request); });
  CHECK(ticket.calls() == 0);
  CHECK(r.code != DA3_OK);
  CHECK(!r.message.empty());
  return r;
}

// Keeps the engine's worker inside a callback, so that what is submitted meanwhile waits.
struct Busy {
  Gate gate;
  Ticket ticket{&gate};
  Pictures pictures{99, 1, 14, 14};
  explicit Busy(Engine& engine, const void* stream = nullptr) {
    ticket.submit(engine, pictures.request(DA3_OUTPUT_DEPTH, stream));
    gate.wait_until_reached();
  }
  ~Busy() {
    gate.open();
    ticket.code();
  }
};

// The network of a folder, used directly. (Of the same file: sums over rows depend on where in memory they
// lie.)
class Direct {
 public:
  Direct(const std::string& folder, const json& description)
      : weights_(Checkpoint::open(folder)), network_(make_network(tiny_config(description), weights_, {})) {}
  // As the engine does: image by image through the heads (other sums round differently).
  NetworkOutput operator()(const Pictures& pictures, NetworkOptions options = {}) const {
    options.head_chunk = 1;
    return network_->forward(pictures.normalised(), options, {});
  }

 private:
  CheckpointWeights weights_;
  std::unique_ptr<Network> network_;
};

geometry::Matrix34 pose_at(const float* p) {
  geometry::Matrix34 m;
  for (int i = 0; i < 12; ++i) m(i / 4, i % 4) = p[i];
  return m;
}

}  // namespace

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
    CHECK(EngineModule::instance().open(config)->info().plan == info.plan);
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
    if (!has_attention(DA3_ATTENTION_FUSED)) return;
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

TEST_SUITE("results") {
  TEST_CASE("are the network's, bit for bit, for every output") {
    const auto engine = open(Models::any_view(), 1);
    const Direct network(Models::any_view(), tiny_any_view());
    for (const int views : {1, 2, 4}) {
      const Pictures pictures(3, views, kWidth, kHeight, views == 2 ? 13 : 0);
      Ticket ticket;
      ticket.submit(*engine, pictures.request(kAllOutputs));
      const Da3ResultData& d = ticket.data();
      NetworkOptions options;
      options.want_ray = true;
      const NetworkOutput out = network(pictures, options);
      CHECK(d.struct_size == sizeof d);
      CHECK(d.n_views == uint32_t(views));
      CHECK(d.width == kWidth);
      CHECK(d.height == kHeight);
      CHECK(d.ray_width == 32);
      CHECK(d.ray_height == 24);
      CHECK(same_bits(depth_of(d), out.depth[0]));
      CHECK(same_bits(plane(d.confidence, {views, kHeight, kWidth}), out.confidence[0]));
      CHECK(same_bits(plane(d.ray, {views, 24, 32, 6}), out.ray[0]));
      CHECK(same_bits(plane(d.ray_confidence, {views, 24, 32}), out.ray_confidence[0]));
      CHECK(same_bits(plane(d.extrinsics, {views, 3, 4}), out.extrinsics[0]));
      CHECK(same_bits(plane(d.intrinsics, {views, 3, 3}), out.intrinsics[0]));
      CHECK(d.sky == nullptr);
      CHECK(d.kind == DA3_KIND_RELATIVE);
      CHECK(d.scale_factor == 1.0f);
      CHECK(d.batch == 1);
      CHECK(d.queued_ns >= 0);
      CHECK(d.inference_ns > 0);
    }
  }

  TEST_CASE("hold what was asked for and nothing else; depth always") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(1, 2);
    for (const uint32_t outputs : {0u, uint32_t(DA3_OUTPUT_CONFIDENCE), uint32_t(DA3_OUTPUT_POSE),
                                   uint32_t(DA3_OUTPUT_RAY | DA3_OUTPUT_DEPTH)}) {
      CAPTURE(outputs);
      Ticket ticket;
      ticket.submit(*engine, pictures.request(outputs));
      const Da3ResultData& d = ticket.data();
      CHECK(d.depth != nullptr);
      CHECK((d.confidence != nullptr) == bool(outputs & DA3_OUTPUT_CONFIDENCE));
      CHECK((d.extrinsics != nullptr) == bool(outputs & DA3_OUTPUT_POSE));
      CHECK((d.intrinsics != nullptr) == bool(outputs & DA3_OUTPUT_POSE));
      CHECK((d.ray != nullptr) == bool(outputs & DA3_OUTPUT_RAY));
      CHECK((d.ray_width != 0) == bool(outputs & DA3_OUTPUT_RAY));
    }
  }

  TEST_CASE("the ray pose and the reference strategy reach the network") {
    const auto engine = open(Models::any_view());
    const Direct network(Models::any_view(), tiny_any_view());
    const Pictures pictures(3, 3);
    Da3Request request = pictures.request(DA3_OUTPUT_POSE);
    request.use_ray_pose = 1;
    request.ref_view_strategy = DA3_REF_VIEW_MIDDLE;
    Ticket ticket;
    ticket.submit(*engine, request);
    NetworkOptions options;
    options.use_ray_pose = true;
    options.ref_view_strategy = DA3_REF_VIEW_MIDDLE;
    const NetworkOutput out = network(pictures, options);
    CHECK(same_bits(plane(ticket.data().extrinsics, {3, 3, 4}), out.extrinsics[0]));
    CHECK(same_bits(depth_of(ticket.data()), out.depth[0]));
    CHECK(ticket.data().ray == nullptr);
  }

  TEST_CASE("of a mono model") {
    const auto engine = open(Models::mono());
    const Pictures pictures(3, 2);
    Ticket ticket;
    ticket.submit(*engine, pictures.request(DA3_OUTPUT_SKY));
    const NetworkOutput out = Direct(Models::mono(), tiny_mono())(pictures);
    CHECK(same_bits(depth_of(ticket.data()), out.depth[0]));
    CHECK(same_bits(plane(ticket.data().sky, {2, kHeight, kWidth}), out.sky[0]));
  }

  TEST_CASE("of a nested model are metric, unless nothing could be fitted") {
    const Pictures pictures(3, 2);
    const auto engine = open(Models::nested());
    Ticket ticket;
    ticket.submit(*engine, pictures.request(DA3_OUTPUT_CONFIDENCE));
    const NetworkOutput out = Direct(Models::nested(), tiny_nested())(pictures);
    CHECK(same_bits(depth_of(ticket.data()), out.depth[0]));
    CHECK(ticket.data().kind == DA3_KIND_METRIC);
    CHECK(ticket.data().metric_valid == 1);
    CHECK(ticket.data().scale_factor == out.scale[0].item<float>());
    CHECK(ticket.data().extrinsics == nullptr);

    const TempDir temp;
    StoredTensors tensors = synthetic_tensors(tiny_config(tiny_nested()));
    tensors["model.da3_metric.head.scratch.sky_output_conv2.2.bias"] =
        store(at::full({1}, 100.0, at::TensorOptions(at::kFloat)));
    const auto sky = open(write_model(temp, "sky", tiny_nested(), tensors));
    Ticket all_sky;
    all_sky.submit(*sky, pictures.request());
    CHECK(sky->info().kind == DA3_KIND_METRIC);
    CHECK(all_sky.data().kind == DA3_KIND_RELATIVE);
    CHECK(all_sky.data().metric_valid == 0);
    CHECK(all_sky.data().scale_factor == 1.0f);
  }

  TEST_CASE("outlive references, engine and pixels") {
    const Da3EngineApi& api = EngineModule::instance().api();
    auto engine = open(Models::any_view());
    Tensor before;
    struct Kept {
      Gate gate;
      Da3Result* result = nullptr;
    } kept;
    kept.gate.open();
    {
      const Pictures pictures(1, 1);
      Da3Request request = pictures.request();
      request.user = &kept;
      request.done = [](void* user, Da3Result* result, const Da3Error*) {
        static_cast<Kept*>(user)->result = result;
        static_cast<Kept*>(user)->gate.pass();
      };
      engine->submit(request);
      kept.gate.wait_until_reached();
      before = depth_of(*api.result_data(kept.result));
    }
    CHECK(api.result_ref(kept.result) == kept.result);
    api.result_unref(kept.result);
    engine.reset();
    CHECK(same_bits(depth_of(*api.result_data(kept.result)), before));
    api.result_unref(kept.result);
  }
}

TEST_SUITE("known cameras") {
  TEST_CASE("come back as given, and depth is in their units") {
    const auto engine = open(Models::any_view(), 4);
    const Direct network(Models::any_view(), tiny_any_view());
    for (const int views : {1, 2, 3}) {
      CAPTURE(views);
      const Pictures pictures(5, views);
      auto [e, k] = make_cameras(1, views);
      e.select(3, 3).mul_(2.5);
      Da3Request request = pictures.request(DA3_OUTPUT_POSE | DA3_OUTPUT_CONFIDENCE);
      std::vector<float> extrinsics(e.data_ptr<float>(), e.data_ptr<float>() + e.numel());
      request.extrinsics = extrinsics.data();
      request.intrinsics = k.data_ptr<float>();
      Ticket ticket;
      ticket.submit(*engine, request);
      std::fill(extrinsics.begin(), extrinsics.end(), -1.0f);  // submit() has copied them
      CHECK(same_bits(plane(ticket.data().extrinsics, {views, 3, 4}), e[0]));
      CHECK(same_bits(plane(ticket.data().intrinsics, {views, 3, 3}), k[0]));

      std::vector<geometry::Matrix34> given, predicted;
      for (int v = 0; v < views; ++v) given.push_back(pose_at(e.data_ptr<float>() + v * 12));
      NetworkOptions options;
      options.extrinsics = e.clone();
      float* p = options.extrinsics.data_ptr<float>();
      for (const auto& pose : geometry::normalise_extrinsics(given))
        for (int i = 0; i < 12; ++i) *p++ = float(pose.data()[i]);
      options.intrinsics = k;
      const NetworkOutput out = network(pictures, options);
      for (int v = 0; v < views; ++v) predicted.push_back(pose_at(out.extrinsics.data_ptr<float>() + v * 12));
      const double scale = geometry::align_trajectories(given, predicted).scale;
      CHECK(same_bits(plane(ticket.data().confidence, {views, kHeight, kWidth}), out.confidence[0]));
      CHECK(distance(depth_of(ticket.data()), out.depth[0] / scale) < 1e-6);
      CHECK((scale == 1.0) == (views == 1));
    }
  }

  TEST_CASE("twice as far apart: depth is twice as large") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(5, 3);
    auto [e, k] = make_cameras(1, 3);
    auto run = [&, k = k](const Tensor& extrinsics) {
      Da3Request request = pictures.request();
      request.extrinsics = extrinsics.data_ptr<float>();
      request.intrinsics = k.data_ptr<float>();
      Ticket ticket;
      ticket.submit(*engine, request);
      CHECK(ticket.data().extrinsics == nullptr);  // not asked for
      return depth_of(ticket.data());
    };
    const Tensor once = run(e);
    const Tensor twice = e.clone();
    twice.select(3, 3).mul_(2);
    CHECK(distance(run(twice), once * 2) < 1e-3);
  }

  TEST_CASE("that the network's poses cannot be compared with fail their item, and only once") {
    // A camera decoder that makes no number of anything.
    const TempDir temp;
    StoredTensors tensors = synthetic_tensors(tiny_config(tiny_any_view()));
    int spoilt = 0;
    for (auto& [name, stored] : tensors) {
      if (name.find("cam_dec.fc_t.bias") == std::string::npos) continue;
      ++spoilt;
      stored = store(at::full(stored.shape, NAN, at::TensorOptions(at::kFloat)));
    }
    REQUIRE(spoilt == 1);
    const auto engine = open(write_model(temp, "no-poses", tiny_any_view(), tensors), 4);
    const Pictures pictures(5, 2);
    const auto [e, k] = make_cameras(1, 2);
    Da3Request request = pictures.request();
    request.extrinsics = e.data_ptr<float>();
    request.intrinsics = k.data_ptr<float>();
    std::deque<Ticket> tickets(3);
    {
      const Busy busy(*engine);
      for (Ticket& t : tickets) t.submit(*engine, request);
    }
    for (Ticket& t : tickets) {
      CHECK(t.code() == DA3_ERROR_FAILED);
      CHECK(t.message().find("not finite") != std::string::npos);
    }
    const Da3EngineStats s = engine->stats();
    CHECK(s.batch_histogram[2] == 1);
    CHECK(s.batches == 2);  // with the one that kept it busy: nothing was run again
    CHECK(s.failed == 3);
    // Who does not ask for poses is served.
    Ticket plain;
    plain.submit(*engine, pictures.request());
    CHECK(plain.code() == DA3_OK);
  }

  TEST_CASE("differ between the items of a batch") {
    const auto engine = open(Models::any_view(), 4);
    const Pictures pictures(5, 3);
    const auto [e, k] = make_cameras(3, 3);
    std::vector<Tensor> alone;
    std::deque<Ticket> tickets;
    auto submit = [&, &e = e, &k = k](int64_t b) {
      Da3Request request = pictures.request();
      request.extrinsics = e.data_ptr<float>() + b * 36;
      request.intrinsics = k.data_ptr<float>() + b * 27;
      tickets.emplace_back();
      tickets.back().submit(*engine, request);
    };
    for (int64_t b = 0; b < 3; ++b) {
      submit(b);
      alone.push_back(depth_of(tickets.back().data()));
    }
    {
      const Busy busy(*engine);
      for (int64_t b = 0; b < 3; ++b) submit(b);
    }
    for (size_t b = 0; b < 3; ++b) {
      CHECK(tickets[3 + b].data().batch == 3);
      CHECK(distance(depth_of(tickets[3 + b].data()), alone[b]) < 1e-3);
    }
  }

  TEST_CASE("that are incomplete or impossible are refused before they can spoil a batch") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(5, 2);
    const auto [e, k] = make_cameras(1, 2);
    Da3Request request = pictures.request();
    request.extrinsics = e.data_ptr<float>();
    CHECK(submit_refusal(*engine, request).says("both or none"));
    request.extrinsics = nullptr;
    request.intrinsics = k.data_ptr<float>();
    CHECK(submit_refusal(*engine, request).says("both or none"));
    for (const float value : {NAN, INFINITY, -INFINITY}) {
      const Tensor bad_e = e.clone(), bad_k = k.clone();
      bad_e[0][1][2][3] = value;
      bad_k[0][1][0][0] = value;
      request.extrinsics = bad_e.data_ptr<float>();
      request.intrinsics = k.data_ptr<float>();
      CHECK(submit_refusal(*engine, request).says("view 1"));
      request.extrinsics = e.data_ptr<float>();
      request.intrinsics = bad_k.data_ptr<float>();
      CHECK(submit_refusal(*engine, request).says("view 1"));
    }
    for (const double focal : {0.0, -300.0}) {
      const Tensor bad_k = k.clone();
      bad_k[0][0][1][1] = focal;
      request.intrinsics = bad_k.data_ptr<float>();
      CHECK(submit_refusal(*engine, request).says("focal"));
    }
    const Tensor no_rotation = e.clone();
    no_rotation[0][0].zero_();
    request.extrinsics = no_rotation.data_ptr<float>();
    request.intrinsics = k.data_ptr<float>();
    CHECK(submit_refusal(*engine, request).says("rotation"));
    const Tensor mirrored = e.clone();
    mirrored[0][1].select(1, 1).neg_();
    request.extrinsics = mirrored.data_ptr<float>();
    CHECK(submit_refusal(*engine, request).says("rotation"));
  }
}

TEST_SUITE("requests that are refused") {
  TEST_CASE("sizes, strides, pixels") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(1, 2);
    for (const auto& [w, h] :
         {std::pair<int, int>{55, 42}, {56, 43}, {0, 42}, {56, 0}, {-14, 42}, {7, 7}, {13, 14}}) {
      Da3Request request = pictures.request();
      request.width = w;
      request.height = h;
      const Refusal r = submit_refusal(*engine, request);
      CHECK(r.code == DA3_ERROR_SETTINGS);
      CHECK(r.says(std::to_string(w) + "x" + std::to_string(h)));
      CHECK(r.says("multiple of 14"));
    }
    for (const int stride : {3 * kWidth - 1, 0, -3 * kWidth}) {
      Da3Request request = pictures.request();
      const std::vector<Da3View> views = {request.views[0], {request.views[1].rgb, stride}};
      request.views = views.data();
      CHECK(submit_refusal(*engine, request).says("View 1"));
    }
    Da3Request request = pictures.request();
    const std::vector<Da3View> views = {{nullptr, 3 * kWidth}, request.views[1]};
    request.views = views.data();
    CHECK(submit_refusal(*engine, request).says("View 0"));
    // A width whose rows would not fit a stride.
    request = pictures.request();
    request.width = 14 * 100000000;
    CHECK(submit_refusal(*engine, request).code == DA3_ERROR_SETTINGS);
  }

  TEST_CASE("incomplete ones") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(1, 1);
    Da3Request request = pictures.request();
    request.n_views = 0;
    CHECK(submit_refusal(*engine, request).says("incomplete"));
    request = pictures.request();
    request.views = nullptr;
    CHECK(submit_refusal(*engine, request).says("incomplete"));
    request = pictures.request();
    request.struct_size = DA3_REQUEST_SIZE_1 - 4;
    CHECK(submit_refusal(*engine, request).code == DA3_ERROR_SETTINGS);
    request = pictures.request();  // no done()
    CHECK(refusal_of([&] { engine->submit(request); }).code == DA3_ERROR_SETTINGS);
    const int unknown = 9;
    std::memcpy(&request.ref_view_strategy, &unknown, sizeof unknown);
    CHECK(submit_refusal(*engine, request).says("9"));
  }

  TEST_CASE("outputs that the model does not have") {
    const Pictures pictures(1, 1);
    const auto any_view = open(Models::any_view()), mono = open(Models::mono()),
               gaussians = open(Models::gaussians());
    const Refusal sky = submit_refusal(*any_view, pictures.request(DA3_OUTPUT_SKY));
    CHECK(sky.code == DA3_ERROR_UNSUPPORTED);
    CHECK(sky.says("sky"));
    CHECK(sky.says("'tiny'"));
    const Refusal several =
        submit_refusal(*mono, pictures.request(DA3_OUTPUT_POSE | DA3_OUTPUT_CONFIDENCE | DA3_OUTPUT_SKY));
    CHECK(several.code == DA3_ERROR_UNSUPPORTED);
    CHECK(several.says("does not compute confidence, pose"));
    CHECK(several.says("has depth, sky"));
    CHECK(submit_refusal(*gaussians, pictures.request(DA3_OUTPUT_GAUSSIANS)).says("Gaussians"));
    CHECK(submit_refusal(*mono, pictures.request(1u << 20)).code == DA3_ERROR_UNSUPPORTED);
    Da3Request ray_pose = pictures.request();
    ray_pose.use_ray_pose = 1;
    CHECK(submit_refusal(*mono, ray_pose).says("ray"));
    const auto [e, k] = make_cameras(1, 1);
    Da3Request known = pictures.request();
    known.extrinsics = e.data_ptr<float>();
    known.intrinsics = k.data_ptr<float>();
    const Refusal cameras = submit_refusal(*mono, known);
    CHECK(cameras.code == DA3_ERROR_UNSUPPORTED);
    CHECK(cameras.says("'tiny-mono' has no camera encoder"));
  }

  TEST_CASE("and the engine lives on") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(1, 1);
    submit_refusal(*engine, pictures.request(DA3_OUTPUT_SKY));
    Ticket ticket;
    ticket.submit(*engine, pictures.request());
    CHECK(ticket.code() == DA3_OK);
  }

  TEST_CASE("more memory than there is: one error for this request, the next one works") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(1, 1);
    Da3Request request = pictures.request();
    // More bytes than a processor can address; no pixel is ever read.
    request.width = request.height = 7000000;
    const std::vector<Da3View> views = {{request.views[0].rgb, 3 * 7000000}};
    request.views = views.data();
    Ticket too_large, next;
    too_large.submit(*engine, request);
    CHECK(too_large.code() == DA3_ERROR_NO_MEMORY);
    CHECK(too_large.message().find("7000000x7000000") != std::string::npos);
    next.submit(*engine, pictures.request());
    CHECK(next.code() == DA3_OK);
    CHECK(too_large.calls() == 1);
  }
}

TEST_SUITE("batches") {
  TEST_CASE("requests that wait together run together, with the same results") {
    const auto engine = open(Models::any_view(), 4);
    std::deque<Pictures> pictures;
    std::vector<Tensor> alone;
    for (int i = 0; i < 4; ++i) {
      pictures.emplace_back(i, 2);
      Ticket ticket;
      ticket.submit(*engine, pictures.back().request());
      CHECK(ticket.data().batch == 1);
      alone.push_back(depth_of(ticket.data()));
    }
    std::deque<Ticket> tickets(4);
    const char streams[4] = {};
    {
      const Busy busy(*engine);
      for (size_t i = 0; i < 4; ++i)
        tickets[i].submit(*engine, pictures[i].request(DA3_OUTPUT_DEPTH, &streams[i]));
    }
    for (size_t i = 0; i < 4; ++i) {
      CHECK(tickets[i].data().batch == 4);
      CHECK(distance(depth_of(tickets[i].data()), alone[i]) < 2e-5);
      CHECK(distance(depth_of(tickets[i].data()), alone[(i + 1) % 4]) > 1e-3);
    }
  }

  TEST_CASE("of two clients of one engine, and never more than the smaller cap") {
    const auto a = open(Models::any_view(), 8), b = open(Models::any_view(), 2);
    std::deque<Ticket> tickets(5);
    const Pictures pictures(1, 1);
    {
      const Busy busy(*a);
      for (size_t i = 0; i < 5; ++i) tickets[i].submit(i % 2 ? *b : *a, pictures.request());
    }
    for (auto& t : tickets) {
      CHECK(t.code() == DA3_OK);
      CHECK(t.data().batch <= 3);
    }
    CHECK(tickets[0].data().batch == 2);
  }

  TEST_CASE("different requests run apart, in the order of their stream") {
    const auto engine = open(Models::any_view(), 8);
    const Pictures small(1, 1, 14, 14), large(1, 1, 28, 14), pair(1, 2, 14, 14);
    std::vector<Ticket*> order;
    std::mutex lock;
    std::deque<Ticket> tickets(9);
    {
      const Busy busy(*engine);
      for (size_t i = 0; i < 9; ++i) {
        tickets[i].order = &order;
        tickets[i].order_lock = &lock;
        tickets[i].submit(*engine, (i % 3 == 0 ? small : i % 3 == 1 ? large : pair).request());
      }
    }
    for (auto& t : tickets) CHECK(t.data().batch == 1);
    REQUIRE(order.size() == 9);
    for (size_t i = 0; i < 9; ++i) CHECK(order[i] == &tickets[i]);
  }
}

TEST_SUITE("cancelling and closing") {
  TEST_CASE("cancel takes out what waits of this stream, waits for what runs, touches nothing else") {
    const auto engine = open(Models::any_view()), other = open(Models::any_view());
    const Pictures pictures(1, 1, 14, 14);
    const char stream_a = 0, stream_b = 0;
    Gate gate;
    Ticket running(&gate), waiting_1, waiting_2, of_b, of_other;
    running.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    gate.wait_until_reached();
    waiting_1.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    waiting_2.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    of_b.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_b));
    of_other.submit(*other, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    auto cancelled = std::async(std::launch::async, [&] {
      engine->cancel(&stream_a);
      return running.calls();
    });
    CHECK(waiting_1.code() == DA3_ERROR_CANCELLED);
    CHECK(waiting_2.code() == DA3_ERROR_CANCELLED);
    CHECK(!waiting_1.message().empty());
    CHECK(running.calls() == 0);
    CHECK(of_b.calls() == 0);
    gate.open();
    CHECK(cancelled.get() == 1);  // it came back after the running one
    CHECK(running.code() == DA3_OK);
    CHECK(of_b.code() == DA3_OK);
    CHECK(of_other.code() == DA3_OK);
    for (Ticket* t : {&running, &waiting_1, &waiting_2, &of_b, &of_other}) CHECK(t->calls() == 1);
    // The stream can go on.
    Ticket again;
    again.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    CHECK(again.code() == DA3_OK);
  }

  TEST_CASE("cancel without waiting takes out the same, and does not wait") {
    const auto engine = open(Models::any_view()), other = open(Models::any_view());
    const Pictures pictures(1, 1, 14, 14);
    const char stream_a = 0, stream_b = 0;
    Gate gate;
    Ticket running(&gate), waiting_1, waiting_2, of_b, of_other, later;
    running.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    gate.wait_until_reached();
    waiting_1.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    waiting_2.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    of_b.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_b));
    of_other.submit(*other, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    CHECK(engine->cancel_waiting(&stream_a));  // would hang if it waited
    CHECK(waiting_1.calls() == 1);
    CHECK(waiting_2.calls() == 1);
    CHECK(waiting_1.code() == DA3_ERROR_CANCELLED);
    CHECK(waiting_2.code() == DA3_ERROR_CANCELLED);
    CHECK(running.calls() == 0);
    CHECK(engine->cancel_waiting(&stream_a));
    CHECK(engine->cancel_waiting(nullptr));
    later.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    gate.open();
    CHECK(running.code() == DA3_OK);  // its callback had begun
    for (Ticket* t : {&of_b, &of_other, &later}) CHECK(t->code() == DA3_OK);
    for (Ticket* t : {&running, &waiting_1, &waiting_2, &of_b, &of_other, &later}) CHECK(t->calls() == 1);
    const Da3EngineStats s = engine->stats();
    CHECK(s.submitted == s.completed + s.failed + s.cancelled + s.expired + s.waiting + s.running);
  }

  TEST_CASE("threads submit and cancel without waiting: every request is answered exactly once") {
    const auto engine = open(Models::any_view(), 3);
    const Pictures pictures(1, 1, 14, 14);
    constexpr size_t kThreads = 3, kEach = 60;
    std::deque<Ticket> tickets[kThreads];
    std::vector<std::thread> threads;
    const char streams[kThreads] = {};
    const uint64_t cancelled = engine->stats().cancelled;
    for (size_t t = 0; t < kThreads; ++t) {
      tickets[t].resize(kEach);
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < kEach; ++i) {
          tickets[t][i].submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &streams[t]));
          if (t == 0 && i % 8 == 7) engine->cancel_waiting(&streams[t]);
          if (i % 16 == 15) tickets[t][i].code();
        }
      });
    }
    for (auto& t : threads) t.join();
    uint64_t told = 0;
    for (size_t t = 0; t < kThreads; ++t)
      for (Ticket& ticket : tickets[t]) {
        const bool good = ticket.code() == DA3_OK;
        CHECK((good || (t == 0 && ticket.code() == DA3_ERROR_CANCELLED)));
        told += !good;
      }
    for (const char& stream : streams) engine->cancel(&stream);
    for (auto& list : tickets)
      for (Ticket& ticket : list) CHECK(ticket.calls() == 1);
    CHECK(engine->stats().cancelled - cancelled == told);
  }

  TEST_CASE("cancel of a stream without requests returns at once, however busy the engine is") {
    const auto engine = open(Models::any_view());
    const char busy_stream = 0, idle_stream = 0;
    engine->cancel(nullptr);
    const Busy busy(*engine, &busy_stream);
    engine->cancel(&idle_stream);
    CHECK(true);
  }

  TEST_CASE("close finishes what waits as cancelled, waits for what runs, and other clients go on") {
    auto engine = open(Models::any_view());
    const auto other = open(Models::any_view());
    const Pictures pictures(1, 1, 14, 14);
    Gate gate;
    Ticket running(&gate), of_other;
    std::deque<Ticket> waiting(5);
    running.submit(*engine, pictures.request());
    gate.wait_until_reached();
    of_other.submit(*other, pictures.request());
    for (Ticket& t : waiting) t.submit(*engine, pictures.request());
    auto closed = std::async(std::launch::async, [&] { engine.reset(); });
    for (Ticket& t : waiting) CHECK(t.code() == DA3_ERROR_CANCELLED);
    CHECK(of_other.calls() == 0);
    gate.open();
    closed.get();
    CHECK(running.calls() == 1);
    CHECK(running.code() == DA3_OK);
    CHECK(of_other.code() == DA3_OK);
    for (Ticket& t : waiting) CHECK(t.calls() == 1);
  }

  TEST_CASE("close of an idle engine, and right after a submit") {
    open(Models::any_view());
    const Pictures pictures(1, 1, 14, 14);
    for (int i = 0; i < 20; ++i) {
      Ticket ticket;
      auto engine = open(Models::any_view());
      ticket.submit(*engine, pictures.request());
      engine.reset();
      CHECK(ticket.calls() == 1);
      CHECK((ticket.code() == DA3_OK || ticket.code() == DA3_ERROR_CANCELLED));
    }
  }

  TEST_CASE("threads submit and cancel at once: every request is answered exactly once, in order") {
    const auto engine = open(Models::any_view(), 3);
    const Pictures small(1, 1, 14, 14), large(2, 1, 14, 28);
    constexpr size_t kThreads = 4, kEach = 40;
    std::mutex locks[kThreads];
    std::vector<Ticket*> orders[kThreads];
    std::deque<Ticket> tickets[kThreads];
    std::vector<std::thread> threads;
    const char streams[kThreads] = {};
    for (size_t t = 0; t < kThreads; ++t) {
      tickets[t].resize(kEach);
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < kEach; ++i) {
          tickets[t][i].order = &orders[t];
          tickets[t][i].order_lock = &locks[t];
          tickets[t][i].submit(*engine, ((i / 3) % 2 ? large : small).request(DA3_OUTPUT_DEPTH, &streams[t]));
          if (t != 0) continue;
          if (i % 8 == 3) tickets[t][i].code();  // the first half of eight is done
          if (i % 8 == 7) engine->cancel(&streams[t]);
        }
      });
    }
    for (auto& t : threads) t.join();
    size_t cancelled = 0;
    for (size_t t = 0; t < kThreads; ++t) {
      for (Ticket& ticket : tickets[t]) {
        const bool good = ticket.code() == DA3_OK;
        CHECK((good || (t == 0 && ticket.code() == DA3_ERROR_CANCELLED)));
        cancelled += !good;
      }
      CHECK(orders[t].size() == kEach);
    }
    // Where nothing was cancelled the order is that of submission.
    for (size_t t = 1; t < kThreads; ++t)
      for (size_t i = 0; i < kEach; ++i) CHECK(orders[t][i] == &tickets[t][i]);
    CHECK(cancelled <= kEach / 2);
    engine->cancel(nullptr);
    for (auto& list : tickets)
      for (Ticket& ticket : list) CHECK(ticket.calls() == 1);
  }
}

namespace {

// Every kind of network, and what it gives.
struct Kind {
  const char* name;
  const std::string& (*model)();
  uint32_t outputs;
  int views;
};
const Kind kKinds[] = {
    {"any view, one", Models::any_view, kAllOutputs, 1},
    {"any view, three", Models::any_view, kAllOutputs, 3},
    {"mono with sky", Models::mono, DA3_OUTPUT_DEPTH | DA3_OUTPUT_SKY, 1},
    {"nested with sky", Models::nested, kAllOutputs, 2},
    {"with Gaussians", Models::gaussians, DA3_OUTPUT_DEPTH | DA3_OUTPUT_CONFIDENCE, 1},
};

// All planes of a result.
std::vector<Tensor> planes_of(const Da3ResultData& d) {
  std::vector<Tensor> out;
  const int64_t v = d.n_views, h = d.height, w = d.width;
  const auto add = [&](const float* data, std::vector<int64_t> shape) {
    if (data) out.push_back(plane(data, std::move(shape)));
  };
  add(d.depth, {v, h, w});
  add(d.confidence, {v, h, w});
  add(d.sky, {v, h, w});
  add(d.ray, {v, d.ray_height, d.ray_width, 6});
  add(d.extrinsics, {v, 3, 4});
  add(d.intrinsics, {v, 3, 3});
  return out;
}

// Runs the pictures in one batch, in this order; returns the planes of each.
std::vector<std::vector<Tensor>> run_together(Engine& engine, const std::deque<Pictures>& pictures,
                                              const std::vector<size_t>& order, uint32_t outputs) {
  std::deque<Ticket> tickets(order.size());
  {
    const Busy busy(engine);
    for (size_t i = 0; i < order.size(); ++i) tickets[i].submit(engine, pictures[order[i]].request(outputs));
  }
  std::vector<std::vector<Tensor>> out(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    CHECK(tickets[i].data().batch == order.size());
    out[i] = planes_of(tickets[i].data());
  }
  return out;
}

double greatest_distance(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, distance(a[i], b[i]));
  return worst;
}

bool all_same_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i)
    if (!same_bits(a[i], b[i])) return false;
  return true;
}

// float32 with sums in another order; the tiny networks amplify little.
constexpr double kRounding = 5e-5;
// 8 bits of mantissa: two units in the last place, for processors that add up in another order. (Where our
// own kernels run the bits are the same.)
constexpr double kRoundingBf16 = 0.01, kRoundingInt8 = 0.01;

}  // namespace

TEST_SUITE("a batch never changes a result") {
  TEST_CASE("any size and composition: the result of the item alone, up to rounding") {
    for (const Kind& kind : kKinds) {
      CAPTURE(kind.name);
      const auto engine = open(kind.model(), 5);
      std::deque<Pictures> pictures;
      std::vector<std::vector<Tensor>> alone;
      for (int i = 0; i < 5; ++i) {
        pictures.emplace_back(i, kind.views);
        Ticket ticket;
        ticket.submit(*engine, pictures.back().request(kind.outputs));
        CHECK(ticket.data().batch == 1);
        alone.push_back(planes_of(ticket.data()));
        CHECK(alone.back().size() >= 2);
      }
      const std::vector<std::vector<size_t>> compositions = {{0, 1},          {1, 0},          {2, 2, 2},
                                                             {0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {3, 0, 3, 1}};
      for (const auto& order : compositions) {
        const auto together = run_together(*engine, pictures, order, kind.outputs);
        for (size_t i = 0; i < order.size(); ++i) {
          CHECK(greatest_distance(together[i], alone[order[i]]) < kRounding);
          // And of no other item.
          CHECK(greatest_distance(together[i], alone[(order[i] + 1) % 5]) > 10 * kRounding);
        }
      }
    }
  }

  TEST_CASE("as many as the engine ever learns to put together: the same") {
    for (const Kind& kind : kKinds) {
      CAPTURE(kind.name);
      const auto engine = open(kind.model(), 32);
      std::deque<Pictures> pictures;
      std::vector<std::vector<Tensor>> alone;
      for (int i = 0; i < 3; ++i) {
        pictures.emplace_back(i, kind.views);
        Ticket ticket;
        ticket.submit(*engine, pictures.back().request(kind.outputs));
        alone.push_back(planes_of(ticket.data()));
      }
      for (const size_t size : {8, 17, 32}) {
        CAPTURE(size);
        std::vector<size_t> order;
        for (size_t i = 0; i < size; ++i) order.push_back((i * i + i / 5) % 3);
        const auto together = run_together(*engine, pictures, order, kind.outputs);
        for (size_t i = 0; i < size; ++i) {
          CHECK(greatest_distance(together[i], alone[order[i]]) < kRounding);
          CHECK(greatest_distance(together[i], alone[(order[i] + 1) % 3]) > 10 * kRounding);
        }
      }
    }
  }

  TEST_CASE("the same batch twice: the same bits") {
    for (const Kind& kind : kKinds) {
      CAPTURE(kind.name);
      const auto engine = open(kind.model(), 4);
      std::deque<Pictures> pictures;
      for (int i = 0; i < 4; ++i) pictures.emplace_back(i, kind.views);
      const auto once = run_together(*engine, pictures, {0, 1, 2, 3}, kind.outputs);
      const auto twice = run_together(*engine, pictures, {0, 1, 2, 3}, kind.outputs);
      for (size_t i = 0; i < 4; ++i) CHECK(all_same_bits(once[i], twice[i]));
    }
  }

  TEST_CASE("at a fixed size the place in the batch and the neighbours do not matter") {
    for (const Kind& kind : kKinds) {
      CAPTURE(kind.name);
      const auto engine = open(kind.model(), 4);
      std::deque<Pictures> pictures;
      for (int i = 0; i < 8; ++i) pictures.emplace_back(i, kind.views);
      const auto reference = run_together(*engine, pictures, {0, 1, 2, 3}, kind.outputs);
      const auto reversed = run_together(*engine, pictures, {3, 2, 1, 0}, kind.outputs);
      const auto strangers = run_together(*engine, pictures, {0, 5, 6, 7}, kind.outputs);
      const auto turned = run_together(*engine, pictures, {1, 2, 3, 0}, kind.outputs);
      // Sums are in the same order wherever an item is in our own kernels; what runs without AVX-512 may have
      // another one for the rows that are left over at the end.
      const bool same_bits = kernels::has_avx512();
      for (size_t i = 0; i < 4; ++i) {
        for (const auto& planes : {reversed[3 - i], turned[(i + 3) % 4]}) {
          CHECK(greatest_distance(planes, reference[i]) < kRounding);
          if (same_bits) CHECK(all_same_bits(planes, reference[i]));
        }
      }
      // In its place an item gives the same bits, whoever is beside it.
      CHECK(all_same_bits(strangers[0], reference[0]));
    }
  }

  TEST_CASE("in half precision and with 8-bit layers too, within their rounding") {
    const DeviceTraits traits = traits_of(at::kCPU);
    struct Case {
      const char* name;
      Da3Precision precision;
      bool native;
      double bound;  // of the greatest distance
    };
    for (const Case& c : {Case{"bf16", DA3_PRECISION_BF16, traits.native_bf16, kRoundingBf16},
                          Case{"int8", DA3_PRECISION_INT8, traits.native_int8, kRoundingInt8}}) {
      if (!c.native) {
        MESSAGE(c.name << " is not native on this processor: its batches are not compared here");
        continue;
      }
      for (const Kind& kind : kKinds) {
        CAPTURE(std::string(c.name));
        CAPTURE(std::string(kind.name));
        const auto engine = open(kind.model(), 4, c.precision);
        CHECK(engine->info().precision == c.precision);
        std::deque<Pictures> pictures;
        std::vector<std::vector<Tensor>> alone;
        for (int i = 0; i < 8; ++i) {
          pictures.emplace_back(i, kind.views);
          Ticket ticket;
          ticket.submit(*engine, pictures.back().request(kind.outputs));
          CHECK(ticket.data().batch == 1);
          alone.push_back(planes_of(ticket.data()));
        }
        const std::vector<size_t> order = {0, 1, 2, 3};
        const auto together = run_together(*engine, pictures, order, kind.outputs);
        const auto again = run_together(*engine, pictures, order, kind.outputs);
        const auto reversed = run_together(*engine, pictures, {3, 2, 1, 0}, kind.outputs);
        const auto strangers = run_together(*engine, pictures, {0, 5, 6, 7}, kind.outputs);
        for (size_t i = 0; i < 4; ++i) {
          CHECK(all_same_bits(again[i], together[i]));
          CHECK(greatest_distance(together[i], alone[i]) < c.bound);
          CHECK(greatest_distance(reversed[3 - i], together[i]) < c.bound);
          // And of no other item.
          CHECK(greatest_distance(together[i], alone[(i + 1) % 4]) > 10 * c.bound);
        }
        CHECK(all_same_bits(strangers[0], together[0]));
      }
    }
  }

  TEST_CASE("what spoils one item stays in it") {
    const auto engine = open(Models::any_view(), 3);
    std::deque<Pictures> pictures;
    for (int i = 0; i < 3; ++i) pictures.emplace_back(i, 2);
    auto [e, k] = make_cameras(1, 2);
    // Cameras at one place have no scale: whatever that gives, the neighbours have theirs.
    const Tensor same_place = e.clone();
    same_place.select(3, 3).zero_();
    std::deque<Ticket> tickets(3), clean(3);
    const auto run = [&](std::deque<Ticket>& to, const Tensor& middle, const Tensor& k) {
      const Busy busy(*engine);
      for (size_t i = 0; i < 3; ++i) {
        Da3Request r = pictures[i].request();
        r.extrinsics = (i == 1 ? middle : e).data_ptr<float>();
        r.intrinsics = k.data_ptr<float>();
        to[i].submit(*engine, r);
      }
    };
    run(tickets, same_place, k);
    run(clean, e, k);
    for (const size_t i : {0, 2}) {
      CHECK(tickets[i].data().batch == 3);
      CHECK(same_bits(depth_of(tickets[i].data()), depth_of(clean[i].data())));
    }
  }
}

TEST_SUITE("deadlines") {
  TEST_CASE("what is late ends as expired, if it wants to, and costs no pass") {
    const auto engine = open(Models::any_view(), 4);
    const Pictures pictures(1, 1);
    Ticket late, late_but_wanted, in_time;
    Da3Request r = pictures.request();
    r.deadline_ns = 1;
    {
      const Busy busy(*engine);
      late_but_wanted.submit(*engine, r);
      r.flags = DA3_REQUEST_DROP_EXPIRED;
      late.submit(*engine, r);
      r.deadline_ns =
          std::chrono::steady_clock::now().time_since_epoch().count() + int64_t(3600) * 1'000'000'000;
      in_time.submit(*engine, r);
    }
    CHECK(late.code() == DA3_ERROR_EXPIRED);
    CHECK(!late.message().empty());
    CHECK(late_but_wanted.code() == DA3_OK);
    CHECK(in_time.code() == DA3_OK);
    CHECK(engine->stats().expired == 1);
  }

  TEST_CASE("that are none are refused") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(1, 1);
    Da3Request r = pictures.request();
    r.deadline_ns = -1;
    CHECK(submit_refusal(*engine, r).says("deadline"));
    r.deadline_ns = 0;
    r.flags = 1u << 7;
    CHECK(submit_refusal(*engine, r).says("flags"));
  }

  TEST_CASE("a caller that does not know them is served") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(1, 1);
    Da3Request r = pictures.request();
    r.struct_size = DA3_REQUEST_SIZE_1;
    r.deadline_ns = -1;  // beyond what it says it filled
    r.flags = 0xffffffffu;
    Ticket ticket;
    ticket.submit(*engine, r);
    CHECK(ticket.code() == DA3_OK);
    Da3EngineConfig config = config_of(Models::any_view());
    config.struct_size = DA3_ENGINE_CONFIG_SIZE_1;
    config.cache_ttl_ms = -1;
    CHECK(EngineModule::instance().open(config) != nullptr);
  }
}

TEST_SUITE("statistics") {
  TEST_CASE("every request is counted once") {
    const auto engine = open(Models::any_view(), 4);
    const Da3EngineStats before = engine->stats();
    CHECK(before.struct_size == sizeof before);
    const Pictures pictures(1, 1);
    const char stream = 0;
    std::deque<Ticket> tickets(6);
    {
      const Busy busy(*engine);
      for (size_t i = 0; i < 4; ++i) tickets[i].submit(*engine, pictures.request());
      for (size_t i = 4; i < 6; ++i) tickets[i].submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream));
      CHECK(engine->stats().waiting == 6);
      engine->cancel(&stream);
      CHECK(engine->stats().waiting == 4);
    }
    for (auto& t : tickets) t.code();
    const Da3EngineStats s = engine->stats();
    CHECK(s.submitted - before.submitted == 7);  // with the one that kept it busy
    CHECK(s.completed - before.completed == 5);
    CHECK(s.cancelled - before.cancelled == 2);
    CHECK(s.submitted == s.completed + s.failed + s.cancelled + s.expired + s.waiting + s.running);
    CHECK(s.batch_histogram[3] - before.batch_histogram[3] == 1);
    CHECK(s.batch_histogram[0] - before.batch_histogram[0] == 1);
    CHECK(s.service.p95_ns >= s.service.p50_ns);
    CHECK(s.service.p50_ns > 0);
    CHECK(s.queue_wait.count >= 5);
    CHECK(s.memory_weights == engine->info().parameters * 4);
    const auto in_8_bits = open(Models::any_view(), 1, DA3_PRECISION_INT8);
    const uint64_t least = in_8_bits->info().parameters, weights = in_8_bits->stats().memory_weights;
    CHECK(weights > least);
    CHECK(weights < 4 * least);
    CHECK(s.memory_used > 0);
    CHECK(s.memory_free > 0);
    CHECK(s.memory_budget > 0);
    CHECK(s.memory_budget <= s.memory_free * 2);
    const Da3ShapeStats shape = engine->shape_stats(shape_of());
    CHECK(shape.measured >= 1);
    CHECK(shape.batch_cap == 4);
    CHECK(shape.service.p95_ns > 0);
    CHECK(shape.memory_single > 0);
    CHECK(engine->shape_stats(shape_of(140, 140)).measured == 0);
  }

  TEST_CASE("of an older caller are not written beyond its structure") {
    const auto engine = open(Models::any_view());
    Da3EngineStats s{};
    s.waiting = s.running = 77;
    s.struct_size = offsetof(Da3EngineStats, running);
    // Through the table, as C callers do.
    const Da3EngineApi& api = EngineModule::instance().api();
    Da3EngineConfig config = config_of(Models::any_view());
    Da3Error error{};
    Da3Engine* handle = api.open(&config, &error);
    REQUIRE(handle != nullptr);
    api.stats(handle, &s);
    CHECK(s.waiting == 0);
    CHECK(s.running == 77);
    CHECK(s.struct_size == offsetof(Da3EngineStats, running));
    api.close(handle);
  }

  TEST_CASE("streams and users") {
    const auto engine = open(Models::any_view()), other = open(Models::any_view());
    const uint32_t streams = engine->stats().streams;
    const char a = 0, b = 0;
    engine->stream_begin(&a, {sizeof(Da3Stream), 2, 0});
    other->stream_begin(&a, {sizeof(Da3Stream), 2, 0});
    engine->stream_begin(&b, {sizeof(Da3Stream), 0, 33'000'000});
    CHECK(engine->stats().streams == streams + 3);
    CHECK(engine->stats().users == 2);
    engine->drain(&a);
    engine->stream_end(&a);
    engine->stream_end(&a);
    CHECK(engine->stats().streams == streams + 2);
    // A stream that ended is served all the same.
    const Pictures pictures(1, 1);
    Ticket ticket;
    ticket.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &a));
    CHECK(ticket.code() == DA3_OK);
  }
}

TEST_SUITE("warm-up") {
  TEST_CASE("learns what passes cost, says how far it is, and submits nothing") {
    struct Seen {
      std::vector<double> loading, warm_up;
    } seen;
    Da3EngineConfig config = config_of(Models::mono());
    config.user = &seen;
    config.progress = [](void* user, Da3ProgressStage stage, double part) {
      auto* s = static_cast<Seen*>(user);
      (stage == DA3_PROGRESS_LOADING ? s->loading : s->warm_up).push_back(part);
    };
    const auto engine = EngineModule::instance().open(config);
    REQUIRE(seen.loading.size() >= 2);
    CHECK(seen.loading.front() == 0);
    CHECK(seen.loading.back() == 1);
    CHECK(seen.warm_up.empty());
    CHECK(engine->warm_up(shape_of()));
    CHECK(seen.warm_up.front() == 0);
    CHECK(seen.warm_up.back() == 1);
    for (const auto* list : {&seen.loading, &seen.warm_up}) CHECK(std::is_sorted(list->begin(), list->end()));
    CHECK(engine->stats().submitted == 0);
    const Da3ShapeStats s = engine->shape_stats(shape_of());
    CHECK(s.measured >= 3);
    CHECK(s.single_ns > 0);
    CHECK(s.cap_ns >= s.single_ns);
    CHECK(s.batch_cap >= 1);
    CHECK(s.items_per_second > 0);
    CHECK(s.memory_cap >= s.memory_single);
  }

  TEST_CASE("of what cannot be computed is refused as a request is") {
    const auto engine = open(Models::mono());
    const auto refusal = [&](const Da3Shape& shape) { return refusal_of([&] { engine->warm_up(shape); }); };
    CHECK(refusal(shape_of(55, 42)).says("multiple of 14"));
    Da3Shape shape = shape_of();
    shape.outputs = DA3_OUTPUT_POSE;
    CHECK(refusal(shape).code == DA3_ERROR_UNSUPPORTED);
    shape = shape_of();
    shape.n_views = 0;
    CHECK(refusal(shape).code == DA3_ERROR_SETTINGS);
    shape = shape_of();
    shape.use_ray_pose = 1;
    CHECK(refusal(shape).says("ray"));
  }

  TEST_CASE("can be stopped from its own progress") {
    struct Stop {
      Engine* engine = nullptr;
    } stop;
    Da3EngineConfig config = config_of(Models::any_view());
    config.user = &stop;
    config.progress = [](void* user, Da3ProgressStage stage, double part) {
      auto* s = static_cast<Stop*>(user);
      if (stage == DA3_PROGRESS_WARM_UP && part > 0) s->engine->warm_up_stop();
    };
    const auto engine = EngineModule::instance().open(config);
    stop.engine = engine.get();
    CHECK(refusal_of([&] { engine->warm_up(shape_of()); }).code == DA3_ERROR_CANCELLED);
  }
}

TEST_SUITE("the model cache") {
  TEST_CASE("keeps a model for the time asked for, and counts") {
    const std::string& model = Models::gaussians();
    Da3EngineConfig config = config_of(model);
    config.cache_ttl_ms = 3'600'000;
    const auto watch = open(Models::any_view());
    const auto before = watch->stats();
    EngineModule::instance().open(config).reset();
    const auto kept = watch->stats();
    CHECK(kept.cache_misses == before.cache_misses + 1);
    CHECK(kept.cache_memory > before.cache_memory);
    CHECK(kept.cache_evictions == before.cache_evictions);
    config.cache_ttl_ms = 0;
    EngineModule::instance().open(config).reset();
    const auto freed = watch->stats();
    CHECK(freed.cache_hits == kept.cache_hits + 1);
    CHECK(freed.cache_misses == kept.cache_misses);
    CHECK(freed.cache_memory == before.cache_memory);
    CHECK(freed.cache_evictions == kept.cache_evictions + 1);
  }

  TEST_CASE("settings that mean nothing are refused") {
    Da3EngineConfig config = config_of(Models::any_view());
    for (const float fraction : {-0.1f, 1.5f, NAN, INFINITY}) {
      config.memory_fraction = fraction;
      CHECK(refusal_of([&] { EngineModule::instance().open(config); }).says("memory-fraction"));
    }
    config.memory_fraction = 0.5f;
    config.cache_ttl_ms = -1;
    CHECK(refusal_of([&] { EngineModule::instance().open(config); }).says("cache-ttl"));
  }

  TEST_CASE("a model that cannot be loaded is tried again") {
    const TempDir temp;
    StoredTensors tensors = synthetic_tensors(tiny_config(tiny_mono()));
    const StoredTensors whole = tensors;
    tensors.erase(tensors.begin());
    const std::string folder = write_model(temp, "model", tiny_mono(), tensors);
    CHECK(open_refusal(folder).code == DA3_ERROR_WRONG_TYPE);
    write_model(temp, "model", tiny_mono(), whole);
    CHECK(open(folder) != nullptr);
  }

#ifdef __linux__
  TEST_CASE("many users of a model hold one copy of its weights") {
    const auto resident = [] {
      std::ifstream file("/proc/self/statm");
      uint64_t size = 0, pages = 0;
      file >> size >> pages;
      return pages * 4096;
    };
    const std::string model = "synthetic:da3-small?seed=77";
    const uint64_t none = resident();
    std::vector<std::unique_ptr<Engine>> engines;
    engines.push_back(open(model));
    const uint64_t one = resident();
    for (int i = 0; i < 7; ++i) engines.push_back(open(model));
    const uint64_t eight = resident();
    const uint64_t weights = engines[0]->stats().memory_weights;
    CHECK(weights > 80'000'000);
    CHECK(one > none);
    CHECK(eight < one + weights / 4);
    CHECK(engines[0]->stats().users == 8);
  }
#endif
}
