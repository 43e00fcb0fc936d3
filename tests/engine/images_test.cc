// SPDX-License-Identifier: MIT
#include "engine/runtime/images.h"

#include <doctest/doctest.h>

#include <memory>
#include <random>
#include <vector>

#include "engine/runtime/inference.h"
#include "tiny_model.h"

using namespace da3;
using at::Tensor;

namespace {

// Rows with something between them that is not theirs.
struct Picture {
  Picture(int width, int height, int padding, unsigned seed)
      : stride(3 * width + padding), pixels(size_t(stride) * size_t(height), 0xEE) {
    std::mt19937 random(seed);
    for (int y = 0; y < height; ++y)
      for (int i = 0; i < 3 * width; ++i) pixels[size_t(y * stride + i)] = uint8_t(random());
  }
  Da3View view() const { return {pixels.data(), stride}; }
  Da3View upside_down(int height) const { return {pixels.data() + int64_t(height - 1) * stride, -stride}; }
  int stride;
  std::vector<uint8_t> pixels;
};

Item item_of(int width, int height, std::vector<Da3View> views) {
  Item item;
  item.width = width;
  item.height = height;
  item.views = std::move(views);
  return item;
}

}  // namespace

TEST_CASE("images: the formula, where rows are padded or stored from below") {
  const int width = 5, height = 3;
  const Picture a(width, height, 0, 1), b(width, height, 7, 2);
  const std::vector<Item> items = {item_of(width, height, {a.view(), b.view()}),
                                   item_of(width, height, {b.upside_down(height), a.view()})};
  const Tensor images = make_images(items, at::kCPU);
  REQUIRE((images.sizes() == at::IntArrayRef({2, 2, 3, height, width})));
  const double mean[3] = {0.485, 0.456, 0.406}, deviation[3] = {0.229, 0.224, 0.225};
  for (int i = 0; i < 2; ++i)
    for (int v = 0; v < 2; ++v)
      for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x)
          for (int c = 0; c < 3; ++c) {
            const Da3View& view = items[size_t(i)].views[size_t(v)];
            const int value = view.rgb[y * view.stride + 3 * x + c];
            CHECK(images[i][v][c][y][x].item<float>() ==
                  doctest::Approx((value / 255.0 - mean[c]) / deviation[c]).epsilon(1e-6));
          }
}

TEST_CASE("images: arithmetic, as on a GPU, gives the bits of the table, for every value of a byte") {
  Picture all(16, 32, 5, 3);
  for (int i = 0; i < 512; ++i) {  // each channel has each value
    uint8_t* pixel = all.pixels.data() + i / 16 * all.stride + i % 16 * 3;
    pixel[0] = uint8_t(i);
    pixel[1] = uint8_t(i * 7);
    pixel[2] = uint8_t(255 - i);
  }
  const Picture other(16, 32, 0, 4);
  const std::vector<Item> items = {item_of(16, 32, {all.view(), other.view()}),
                                   item_of(16, 32, {other.upside_down(32), all.view()})};
  const Tensor table = images_by_table(items), arithmetic = images_by_arithmetic(items, at::kCPU);
  CHECK(arithmetic.is_contiguous());
  CHECK(table.equal(arithmetic));
}

TEST_CASE("images: pictures that differ are told apart") {
  const Picture a(8, 8, 0, 5), b(8, 8, 0, 6);
  const auto one = [](const Picture& p) { return std::vector<Item>{item_of(8, 8, {p.view()})}; };
  CHECK_FALSE(images_by_arithmetic(one(a), at::kCPU).equal(images_by_arithmetic(one(b), at::kCPU)));
  CHECK_FALSE(images_by_table(one(a)).equal(images_by_table(one(b))));
}

TEST_CASE(
    "what is in host memory as floats already is not copied; other types and orders become dense floats") {
  const Tensor here = at::arange(12, at::TensorOptions(at::kFloat)).view({3, 4});
  CHECK(to_host(here).data_ptr() == here.data_ptr());
  const Tensor turned = to_host(here.t());
  CHECK(turned.is_contiguous());
  CHECK(turned.equal(here.t()));
  const Tensor half = to_host(here.to(at::kBFloat16));
  CHECK((half.scalar_type() == at::kFloat));
  CHECK(half.equal(here));
}

TEST_CASE("a result of a batch holds its own planes, not those of its neighbours") {
  ModelRequest request;
  request.config = test::tiny_config(test::tiny_any_view());
  const auto model = load_model(request, {});
  const Picture a(28, 28, 0, 7), b(28, 28, 0, 8);
  std::vector<Item> items = {item_of(28, 28, {a.view()}), item_of(28, 28, {b.view()}),
                             item_of(28, 28, {a.view()})};
  for (Item& item : items) item.outputs = DA3_OUTPUT_DEPTH | DA3_OUTPUT_CONFIDENCE;
  const auto results = Inference(*model).run(items);
  REQUIRE(results.size() == 3);
  for (const auto& result : results) {
    REQUIRE(result->owned.size() == 2);
    for (const Tensor& plane : result->owned)
      CHECK(plane.storage().nbytes() == size_t(plane.numel()) * sizeof(float));
    CHECK(result->data.depth == result->owned.front().data_ptr<float>());
    CHECK(result->data.sky == nullptr);  // was not asked for
    CHECK(result->data.extrinsics == nullptr);
  }
  const Tensor &first = results[0]->owned[0], &other = results[1]->owned[0], &again = results[2]->owned[0];
  CHECK(at::allclose(first, again, 1e-4, 1e-5));
  CHECK_FALSE(at::allclose(first, other, 1e-4, 1e-5));
}
