// SPDX-License-Identifier: MIT
//
// Passes from pixels to results, whole and in halves, beside the network itself.
#include "engine/runtime/inference.h"

#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "engine/api/engine_error.h"
#include "engine/checkpoint/synthetic.h"
#include "engine/runtime/images.h"
#include "tiny_model.h"

using namespace da3;
using at::Tensor;

namespace {

constexpr int kWidth = 56, kHeight = 42;
constexpr uint32_t kAll =
    DA3_OUTPUT_DEPTH | DA3_OUTPUT_CONFIDENCE | DA3_OUTPUT_SKY | DA3_OUTPUT_POSE | DA3_OUTPUT_RAY;

std::shared_ptr<const Model> load(const test::json& description) {
  ModelRequest request;
  request.config = test::tiny_config(description);
  return load_model(request, {});
}

// Items of two views each, all different; owns their pixels.
struct Items {
  explicit Items(int count, uint32_t outputs = kAll) {
    for (int i = 0; i < count; ++i) {
      Item& item = items.emplace_back();
      item.width = kWidth;
      item.height = kHeight;
      item.outputs = outputs;
      for (int v = 0; v < 2; ++v) {
        auto& picture = pixels.emplace_back(std::make_unique<std::vector<uint8_t>>(3 * kWidth * kHeight));
        synthetic::fill_rgb(picture->data(), kWidth, kHeight, 2 * i + v);
        item.views.push_back({picture->data(), 3 * kWidth});
      }
    }
  }
  std::vector<std::unique_ptr<std::vector<uint8_t>>> pixels;
  std::vector<Item> items;
};

bool near(const float* found, const Tensor& expected) {
  if (!found || !expected.defined()) return !found && !expected.defined();
  const Tensor e = expected.contiguous();
  return at::allclose(at::from_blob(const_cast<float*>(found), e.sizes(), at::TensorOptions(at::kFloat)), e,
                      1e-4, 1e-5);
}

}  // namespace

TEST_SUITE("passes of every kind of network") {
  TEST_CASE("each item of a batch gets what the network gives for it alone") {
    for (const test::json& description : {test::tiny_any_view(), test::tiny_mono(), test::tiny_nested()}) {
      CAPTURE(description.dump());
      const auto model = load(description);
      const Items batch(3);
      const auto results = Inference(*model).run(batch.items);
      REQUIRE(results.size() == 3);
      NetworkOptions options;
      options.want_ray = true;
      for (size_t b = 0; b < 3; ++b) {
        const Tensor image = make_images({batch.items[b]}, at::kCPU);
        const NetworkOutput alone = model->network->forward(image, options, {});
        const Da3ResultData& d = results[b]->data;
        CHECK(near(d.depth, alone.depth));
        CHECK(near(d.confidence, alone.confidence));
        CHECK(near(d.sky, alone.sky));
        CHECK(near(d.ray, alone.ray));
        CHECK(near(d.ray_confidence, alone.ray_confidence));
        CHECK(near(d.extrinsics, alone.extrinsics));
        CHECK(near(d.intrinsics, alone.intrinsics));
        CHECK(d.batch == 3);
      }
    }
  }

  TEST_CASE("cameras solved from rays that nobody asked to see") {
    const auto model = load(test::tiny_any_view());
    Items batch(2, DA3_OUTPUT_DEPTH | DA3_OUTPUT_POSE);
    for (Item& item : batch.items) item.use_ray_pose = true;
    const auto results = Inference(*model).run(batch.items);
    NetworkOptions options;
    options.use_ray_pose = true;
    for (size_t b = 0; b < 2; ++b) {
      const NetworkOutput alone =
          model->network->forward(make_images({batch.items[b]}, at::kCPU), options, {});
      CHECK(near(results[b]->data.extrinsics, alone.extrinsics));
      CHECK(results[b]->data.ray == nullptr);
    }
  }

  TEST_CASE("the nested model and the far sky need maps that nobody asked to see") {
    for (const test::json& description : {test::tiny_mono(), test::tiny_nested()}) {
      const auto model = load(description);
      const Items all(2), depth(2, DA3_OUTPUT_DEPTH);
      Inference inference(*model);
      const auto with = inference.run(all.items), without = inference.run(depth.items);
      for (size_t b = 0; b < 2; ++b) {
        CHECK(std::memcmp(with[b]->data.depth, without[b]->data.depth,
                          2 * kWidth * kHeight * sizeof(float)) == 0);
        CHECK(without[b]->data.confidence == nullptr);
        CHECK(without[b]->data.sky == nullptr);
        CHECK(without[b]->data.extrinsics == nullptr);
        CHECK(without[b]->data.kind == with[b]->data.kind);
        CHECK(without[b]->data.scale_factor == with[b]->data.scale_factor);
      }
    }
  }
}

TEST_SUITE("passes in halves") {
  TEST_CASE("two under way: each gives what it gives alone, to the bit") {
    const auto model = load(test::tiny_any_view());
    Inference inference(*model);
    const Items a(2), b(1);
    const auto whole_a = inference.run(a.items), whole_b = inference.run(b.items);
    auto first = inference.begin(a.items), second = inference.begin(b.items);
    const auto half_a = inference.finish(std::move(first), a.items);
    const auto half_b = inference.finish(std::move(second), b.items);
    const auto same = [](const auto& x, const auto& y) {
      REQUIRE(x.size() == y.size());
      for (size_t i = 0; i < x.size(); ++i)
        CHECK(std::memcmp(x[i]->data.depth, y[i]->data.depth, 2 * kWidth * kHeight * sizeof(float)) == 0);
    };
    same(whole_a, half_a);
    same(whole_b, half_b);
  }

  TEST_CASE("the CPU computes while the thread waits, and records nothing") {
    const auto model = load(test::tiny_any_view());
    Inference inference(*model);
    CHECK_FALSE(inference.works_beside());
    const Items items(1);
    for (int i = 0; i < 6; ++i) {
      inference.run(items.items);
      CHECK_FALSE(inference.replayed());
    }
    CHECK_FALSE(inference.forget_recordings());
    CHECK(inference.take_remark().empty());
  }

  TEST_CASE("a pass that was never finished leaves nothing behind") {
    const auto model = load(test::tiny_any_view());
    Inference inference(*model);
    const Items items(2);
    inference.begin(items.items).reset();
    CHECK(inference.run(items.items).size() == 2);
  }

  TEST_CASE("what can be recorded: nothing that asks the device, or needs cameras of the host") {
    const auto any_view = load(test::tiny_any_view()), mono = load(test::tiny_mono());
    NetworkOptions options;
    CHECK(any_view->network->recordable(1, options));
    CHECK(any_view->network->recordable(2, options));
    CHECK_FALSE(any_view->network->recordable(3, options));  // chooses a reference view
    CHECK(mono->network->recordable(5, options));
    options.extrinsics = at::zeros({1, 2, 3, 4});
    CHECK_FALSE(any_view->network->recordable(2, options));
  }

  TEST_CASE("what is recorded for one set of outputs, size or batch is not given to another") {
    const Items items(1);
    const Item& item = items.items.front();
    const NetworkOptions options;
    const auto key = recording_key(item, 1, options);
    CHECK(recording_key(item, 1, options) == key);
    CHECK(recording_key(item, 2, options) != key);
    const std::function<void(Item&, NetworkOptions&)> changes[] = {
        [](Item& i, auto&) { i.outputs = DA3_OUTPUT_DEPTH; },
        [](Item& i, auto&) { i.outputs = DA3_OUTPUT_DEPTH | DA3_OUTPUT_CONFIDENCE; },
        [](Item& i, auto&) { i.width = 70; },
        [](Item& i, auto&) { i.height = 70; },
        [](Item& i, auto&) { i.views.resize(1); },
        [](Item&, auto& o) { o.use_ray_pose = true; },
        [](Item&, auto& o) { o.want_pose = false; },
        [](Item&, auto& o) { o.want_ray = true; },
        [](Item&, auto& o) { o.head_chunk = 1; },
        [](Item&, auto& o) { o.ref_view_strategy = DA3_REF_VIEW_FIRST; }};
    for (const auto& change : changes) {
      Item other = item;
      NetworkOptions o = options;
      change(other, o);
      CHECK(recording_key(other, 1, o) != key);
    }
  }
}
