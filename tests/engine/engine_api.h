// SPDX-License-Identifier: MIT
//
// The real engine through its border, as the elements use it: the module is loaded at run time and runs
// checkpoints of tiny networks. What the tests of it share.
#pragma once

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

namespace da3::test {

inline constexpr int kWidth = 56, kHeight = 42;
inline constexpr uint32_t kAllOutputs =
    DA3_OUTPUT_DEPTH | DA3_OUTPUT_CONFIDENCE | DA3_OUTPUT_POSE | DA3_OUTPUT_RAY;

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

inline std::unique_ptr<Engine> open(const std::string& model, uint32_t max_batch = 0,
                                    Da3Precision precision = DA3_PRECISION_FP32, const char* device = "cpu",
                                    std::vector<std::string>* notices = nullptr, uint32_t threads = 0) {
  Da3EngineConfig config{};
  config.struct_size = sizeof config;
  config.model = model.c_str();
  config.device = device;
  config.precision = precision;
  config.max_batch = max_batch;
  config.threads = threads;
  // Not measured: results are compared to the bit. Tiny models have heads of 16.
  config.attention =
      has_attention(DA3_ATTENTION_FUSED, at::kCPU, 16) ? DA3_ATTENTION_FUSED : DA3_ATTENTION_PLAIN;
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

inline Tensor plane(const float* data, std::vector<int64_t> shape) {
  REQUIRE(data != nullptr);
  return at::from_blob(const_cast<float*>(data), shape, at::TensorOptions(at::kFloat)).clone();
}

inline Tensor depth_of(const Da3ResultData& d) {
  return plane(d.depth, {d.n_views, d.height, d.width});
}

inline Da3Shape shape_of(int width = kWidth, int height = kHeight) {
  Da3Shape shape{};
  shape.struct_size = sizeof shape;
  shape.width = width;
  shape.height = height;
  shape.n_views = 1;
  return shape;
}

inline Da3EngineConfig config_of(const std::string& model) {
  Da3EngineConfig config{};
  config.struct_size = sizeof config;
  config.model = model.c_str();
  config.device = "cpu";
  return config;
}

inline Refusal open_refusal(const std::string& model, const char* device = "cpu",
                            Da3Precision precision = DA3_PRECISION_FP32) {
  return refusal_of([&] { open(model, 0, precision, device); });
}

// The refusal of a request that must not be accepted.
inline Refusal submit_refusal(Engine& engine, Da3Request request) {
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

inline geometry::Matrix34 pose_at(const float* p) {
  geometry::Matrix34 m;
  for (int i = 0; i < 12; ++i) m(i / 4, i % 4) = p[i];
  return m;
}

}  // namespace da3::test
