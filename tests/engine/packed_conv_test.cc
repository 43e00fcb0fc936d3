// SPDX-License-Identifier: MIT
#include "engine/network/packed_conv.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <thread>
#include <vector>

#include "engine/kernels/maps.h"
#include "engine/kernels/winograd.h"
#include "engine/network/conv.h"
#include "engine/network/dpt.h"
#include "instruction_sets.h"
#include "tiny_model.h"

using namespace da3;
using at::Tensor;

namespace {

double relative_error(const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return ((x - y).abs().max() / y.abs().max()).item<double>();
}

Tensor together(const Tensor& map) {
  return map.contiguous(at::MemoryFormat::ChannelsLast);
}

Tensor plain(const Tensor& x, const Tensor& w, const Tensor& b, int64_t stride = 1, int64_t rows = 1) {
  return at::conv2d(x, w, b, {stride, stride}, {rows, w.size(2) / 2});
}

// Null where this LibTorch has no such kernels; then there is nothing to test.
std::shared_ptr<const PackedConv> layer(int64_t in, int64_t out, Tensor* weight, Tensor* bias,
                                        int64_t stride = 1) {
  at::manual_seed(5);
  *weight = at::randn({out, in, 3, 3});
  *bias = at::randn({out});
  return PackedConv::make(*weight, *bias, stride);
}

// Answers every question with numbers that depend on the key only, as parameters that are trained or not.
class RandomWeights : public WeightSource {
 public:
  explicit RandomWeights(bool trained = false) : trained_(trained) {}
  Tensor take(const std::string& key, const std::vector<int64_t>& shape) override {
    uint64_t seed = 7;
    for (const char c : key) seed = seed * 131 + uint64_t(c);
    at::manual_seed(seed);
    double inputs = 1;
    for (size_t i = 1; i < shape.size(); ++i) inputs *= double(shape[i]);
    return (at::randn(shape) / std::sqrt(inputs)).set_requires_grad(trained_);
  }
  void declare(const std::string&, const std::vector<int64_t>&) override {}

 private:
  bool trained_;
};

Placement bfloat16() {
  Placement p;
  p.compute = at::kBFloat16;
  return p;
}

// All of a map that is given out in bands, halo rows checked against their neighbours.
Tensor collect(const ResizedMap& resized, bool whole, int64_t band_rows) {
  std::vector<std::vector<Tensor>> rows(static_cast<size_t>(resized.map.size(0)));
  for_resized_bands(resized, whole, band_rows, [&](int64_t image, int64_t row, const Tensor& band) {
    const int64_t count = band.size(2) - 2;
    if (row == 0) CHECK(band.narrow(2, 0, 1).abs().max().item<double>() == 0);
    if (row + count == resized.height) CHECK(band.narrow(2, count + 1, 1).abs().max().item<double>() == 0);
    for (int64_t n = 0; n < band.size(0); ++n) {
      auto& of = rows[size_t(image + n)];
      const Tensor item = band.narrow(0, n, 1);
      if (row > 0) CHECK(at::equal(of.back().narrow(2, of.back().size(2) - 1, 1), item.narrow(2, 0, 1)));
      of.push_back(item.narrow(2, 1, count).clone());
    }
  });
  std::vector<Tensor> items;
  for (const auto& r : rows) items.push_back(at::cat(r, 2));
  return at::cat(items, 0);
}

// Runs the body with the vector loops and with the plain ones.
template <typename Body>
void with_both_loops(Body&& body) {
  for (const bool plain_loops : {false, true}) {
    CAPTURE(plain_loops);
    const test::Limited limited(plain_loops ? kernels::Instructions::none : kernels::Instructions::all);
    body();
  }
}

HeadConfig small_head(bool dual) {
  return {dual, 32, {32, 48, 64, 96}};
}

std::array<Tensor, 4> random_tokens(int64_t images, int64_t patches, int64_t width) {
  at::manual_seed(11);
  std::array<Tensor, 4> out;
  for (Tensor& t : out) t = at::randn({images, patches, width});
  return out;
}

}  // namespace

TEST_SUITE("packed convolution") {
  TEST_CASE("equals the plain one to rounding, for any size") {
    Tensor w, b;
    const auto packed = layer(32, 48, &w, &b);
    if (!packed) return;
    for (const auto& [rows, columns] :
         std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {1, 9}, {5, 3}, {37, 50}}) {
      const Tensor x = together(at::randn({2, 32, rows, columns})), expected = plain(x, w, b);
      CHECK(relative_error(packed->forward(x, 1, 1, false), expected) < 3e-6);
      CHECK(relative_error(packed->forward(x, 1, 1, true), at::relu(expected)) < 3e-6);
      CHECK(packed->forward(x, 1, 1, false).is_contiguous(at::MemoryFormat::ChannelsLast));
    }
  }

  TEST_CASE("sizes by turns, more than it keeps layouts for, on several threads: each its own result") {
    Tensor w, b;
    const auto packed = layer(32, 48, &w, &b, 2);
    if (!packed) return;
    std::vector<Tensor> inputs, expected;
    for (const int64_t side : {4, 9, 16, 40}) {
      inputs.push_back(together(at::randn({1, 32, side, side + 3})));
      expected.push_back(at::conv2d(inputs.back(), w, b, {2, 2}, {1, 1}));
    }
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (size_t t = 0; t < 3; ++t)
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < 24; ++i) {
          const size_t which = (i + t) % inputs.size();
          if (relative_error(packed->forward(inputs[which], 1, 1, false), expected[which]) > 3e-6) ++wrong;
        }
      });
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
  }

  TEST_CASE("no padding above and below, a stride of two, no bias") {
    Tensor w, b;
    const auto packed = layer(32, 48, &w, &b), halving = layer(32, 48, &w, &b, 2);
    const auto bare = PackedConv::make(w, {}, 1);
    if (!packed) return;
    const Tensor x = together(at::randn({1, 32, 11, 13}));
    CHECK(relative_error(packed->forward(x, 0, 1, false), plain(x, w, b, 1, 0)) < 3e-6);
    CHECK(relative_error(halving->forward(x, 1, 1, false), plain(x, w, b, 2)) < 3e-6);
    CHECK(relative_error(bare->forward(x, 1, 1, false), plain(x, w, {})) < 3e-6);
  }

  TEST_CASE("a sum is written over its operand, and only there") {
    Tensor w, b;
    const auto packed = layer(32, 32, &w, &b);
    if (!packed) return;
    const Tensor x = together(at::randn({2, 32, 9, 7})), base = together(at::randn({2, 32, 9, 7}));
    const Tensor expected = base + plain(x, w, b), before = x.clone();
    const Tensor y = packed->add_to(base, x, 1, 1);
    CHECK((y.data_ptr() == base.data_ptr()));
    CHECK(relative_error(y, expected) < 3e-6);
    CHECK(at::equal(x, before));
  }

  TEST_CASE("a sum into a map of another size or order is an error") {
    Tensor w, b;
    const auto packed = layer(32, 32, &w, &b);
    if (!packed) return;
    const Tensor x = together(at::randn({1, 32, 9, 7}));
    CHECK_THROWS(packed->add_to(together(at::randn({1, 32, 8, 7})), x, 1, 1));
    CHECK_THROWS(packed->add_to(together(at::randn({2, 32, 9, 7})), x, 1, 1));
    CHECK_THROWS(packed->add_to(at::randn({1, 32, 9, 7}), x, 1, 1));
  }

  TEST_CASE("any memory order is taken; weights are not shared") {
    Tensor w, b;
    const auto packed = layer(32, 48, &w, &b);
    if (!packed) return;
    const Tensor x = at::randn({1, 32, 6, 8}), expected = plain(x, w, b);
    w.zero_();
    b.zero_();
    CHECK(relative_error(packed->forward(x, 1, 1, false), expected) < 3e-6);
    const Tensor turned = x.transpose(2, 3).contiguous().transpose(2, 3);
    CHECK(relative_error(packed->forward(turned, 1, 1, false), expected) < 3e-6);
  }

  TEST_CASE("the same input gives the same bits") {
    Tensor w, b;
    const auto packed = layer(32, 48, &w, &b);
    if (!packed) return;
    const Tensor x = together(at::randn({1, 32, 30, 40}));
    CHECK(at::equal(packed->forward(x, 1, 1, true), packed->forward(x, 1, 1, true)));
  }

  TEST_CASE("another number of channels is an error") {
    Tensor w, b;
    const auto packed = layer(32, 48, &w, &b);
    if (!packed) return;
    CHECK_THROWS(packed->forward(together(at::randn({1, 31, 6, 8})), 1, 1, false));
  }

  TEST_CASE("trained, small and other weights stay plain") {
    CHECK_FALSE(PackedConv::make(at::randn({64, 64, 3, 3}).set_requires_grad(true), {}, 1));
    CHECK_FALSE(PackedConv::make(at::randn({8, 8, 3, 3}), {}, 1));
    CHECK_FALSE(PackedConv::make(at::ones({64, 64, 3, 3}, at::kDouble), {}, 1));
  }
}

namespace {

// The kernel on tensors, in blocks of one.
template <typename T>
void run_winograd(const kernels::WinogradConv& conv, const Tensor& x, int64_t row_padding, bool relu,
                  bool add, Tensor* out) {
  kernels::WinogradConv::Job<T> job{
      static_cast<const T*>(x.data_ptr()), x.size(0), x.size(2), x.size(3), row_padding,
      static_cast<T*>(out->data_ptr())};
  job.relu = relu;
  job.add = add;
  for (int64_t i = conv.blocks(job); i-- > 0;) conv.run(job, i, i + 1);
}

struct WinogradCase {
  int64_t in, out, items, rows, columns;
};

}  // namespace

TEST_SUITE("Winograd convolution") {
  TEST_CASE("equals the plain one up to its rounding, for every size of edge") {
    if (!kernels::WinogradConv::available()) return;
    at::manual_seed(3);
    for (const auto& [in, out, items, rows, columns] : std::vector<WinogradCase>{{16, 32, 1, 1, 1},
                                                                                 {32, 64, 2, 3, 5},
                                                                                 {48, 32, 1, 4, 4},
                                                                                 {64, 32, 1, 21, 38},
                                                                                 {128, 128, 1, 9, 13},
                                                                                 {256, 96, 3, 6, 7},
                                                                                 {16, 32, 5, 40, 33}}) {
      CAPTURE(in);
      CAPTURE(rows);
      const Tensor w = at::randn({out, in, 3, 3}), b = at::randn({out});
      const kernels::WinogradConv conv(w.data_ptr<float>(), b.data_ptr<float>(), out, in);
      const Tensor x = together(at::randn({items, in, rows, columns}));
      const Tensor expected = plain(x.to(at::kDouble), w.to(at::kDouble), b.to(at::kDouble));
      Tensor y = together(at::full({items, out, rows, columns}, -7.0));
      run_winograd<float>(conv, x, 1, false, false, &y);
      CHECK(relative_error(y, expected) < 1e-5);
      CHECK(((y - expected).pow(2).mean() / expected.pow(2).mean()).sqrt().item<double>() < 2e-6);
      const Tensor base = together(at::randn({items, out, rows, columns}));
      y = base.clone();
      run_winograd<float>(conv, x, 1, true, true, &y);
      CHECK(relative_error(y, at::relu(base + expected)) < 1e-5);
      if (rows < 3) continue;
      y = together(at::full({items, out, rows - 2, columns}, -7.0));
      run_winograd<float>(conv, x, 0, false, false, &y);
      CHECK(relative_error(y, expected.narrow(2, 1, rows - 2)) < 1e-5);
    }
  }

  TEST_CASE("maps in bfloat16 lose no more than their own rounding") {
    if (!kernels::WinogradConv::available()) return;
    at::manual_seed(4);
    const Tensor w = at::randn({32, 64, 3, 3}), x = together(at::randn({1, 64, 18, 22})).to(at::kBFloat16);
    const kernels::WinogradConv conv(w.data_ptr<float>(), nullptr, 32, 64);
    const Tensor expected = plain(x.to(at::kFloat), w, {});
    Tensor y = together(at::zeros({1, 32, 18, 22})).to(at::kBFloat16);
    run_winograd<uint16_t>(conv, x, 1, false, false, &y);
    const double scale = expected.abs().max().item<double>();
    CHECK(((y.to(at::kFloat) - expected).abs() - expected.abs() / 250).max().item<double>() < 1e-5 * scale);
  }

  TEST_CASE("how work is divided changes no bit") {
    if (!kernels::WinogradConv::available()) return;
    const Tensor w = at::randn({32, 32, 3, 3}), x = together(at::randn({1, 32, 61, 75}));
    const kernels::WinogradConv conv(w.data_ptr<float>(), nullptr, 32, 32);
    Tensor a = together(at::zeros({1, 32, 61, 75})), b = together(at::ones({1, 32, 61, 75}));
    run_winograd<float>(conv, x, 1, false, false, &a);
    kernels::WinogradConv::Job<float> job{x.data_ptr<float>(), 1, 61, 75, 1, b.data_ptr<float>()};
    REQUIRE(conv.blocks(job) > 2);
    conv.run(job, 0, conv.blocks(job));
    CHECK(at::equal(a, b));
  }

  TEST_CASE("what is not a number reaches its neighbourhood and nothing further than its tile") {
    if (!kernels::WinogradConv::available()) return;
    const Tensor w = at::randn({32, 16, 3, 3});
    const kernels::WinogradConv conv(w.data_ptr<float>(), nullptr, 32, 16);
    Tensor x = at::zeros({1, 16, 16, 16});
    x[0][3][5][5] = std::numeric_limits<float>::quiet_NaN();
    x = together(x);
    Tensor y = together(at::zeros({1, 32, 16, 16}));
    run_winograd<float>(conv, x, 1, true, false, &y);
    CHECK(y.narrow(2, 4, 3).narrow(3, 4, 3).isnan().all().item<bool>());
    CHECK_FALSE(y.narrow(2, 8, 8).isnan().any().item<bool>());
    CHECK_FALSE(y.narrow(3, 8, 8).isnan().any().item<bool>());
  }

  TEST_CASE("without AVX-512 there is none") {
    const test::Limited limited(kernels::Instructions::none);
    const std::vector<float> w(32 * 32 * 9);
    CHECK_FALSE(kernels::WinogradConv::available());
    CHECK_THROWS_AS(kernels::WinogradConv(w.data(), nullptr, 32, 32), std::invalid_argument);
  }

  TEST_CASE("layers that do not fit are refused") {
    const std::vector<float> w(64 * 64 * 9);
    CHECK_FALSE(kernels::WinogradConv::fits(8, 32));
    CHECK_FALSE(kernels::WinogradConv::fits(16, 16));
    CHECK_FALSE(kernels::WinogradConv::fits(0, 32));
    CHECK_THROWS_AS(kernels::WinogradConv(w.data(), nullptr, 32, 24), std::invalid_argument);
    CHECK_THROWS_AS(kernels::WinogradConv(w.data(), nullptr, 48, 32), std::invalid_argument);
    CHECK_THROWS_AS(kernels::WinogradConv(w.data(), nullptr, 32, 0), std::invalid_argument);
  }
}

TEST_SUITE("convolution layers") {
  TEST_CASE("laid out, plain or trained: the same numbers") {
    RandomWeights fixed, trained(true);
    Placement unpacked;
    unpacked.prepack = false;
    const auto check = [&](int64_t kernel) {
      const Conv2d a(Scope(fixed, "c.", {}), 64, 96, kernel), b(Scope(trained, "c.", {}), 64, 96, kernel),
          c(Scope(fixed, "c.", unpacked), 64, 96, kernel),
          d(Scope(fixed, "c.", {}), 64, 96, kernel, 1, true, MapSize::large);
      CHECK(c.weight.defined());
      CHECK(b.weight.requires_grad());
      const Tensor x = at::randn({2, 64, 9, 14}), base = at::randn({2, 96, 9, 14});
      const Tensor expected = at::conv2d(x, c.weight, c.bias, {1, 1}, {kernel / 2, kernel / 2});
      for (const Conv2d* conv : {&a, &b, &c, &d}) {
        const double bound = conv == &d ? 1e-5 : 3e-6;
        CHECK(relative_error((*conv)(x).detach(), expected) < bound);
        CHECK(relative_error(conv->forward_relu(x).detach(), at::relu(expected)) < bound);
        CHECK(relative_error(conv->add_to(base.clone(), x).detach(), base + expected) < bound);
        CHECK(relative_error(conv->add_to(together(base.clone()), x).detach(), base + expected) < bound);
      }
      CHECK_THROWS(d(at::randn({1, 32, 9, 14})));
      CHECK(a.fusible());
      CHECK_FALSE(b.fusible());
      CHECK_FALSE(b.channels_last());
    };
    test::with_every_instruction_set([&] {
      check(1);
      check(3);
    });
  }

  TEST_CASE("gradients reach the weights and leave the operand of a sum alone") {
    RandomWeights trained(true);
    const Conv2d conv(Scope(trained, "c.", {}), 32, 32, 3);
    const Tensor x = at::randn({1, 32, 5, 5}), base = at::randn({1, 32, 5, 5}), before = base.clone();
    conv.add_to(base, conv.forward_relu(x)).sum().backward();
    CHECK(conv.weight.grad().abs().sum().item<double>() > 0);
    CHECK(at::equal(base, before));
  }

  TEST_CASE("a transposed convolution as a linear layer") {
    RandomWeights fixed, trained(true);
    for (const int64_t kernel : {2, 4}) {
      const UpConv2d a(Scope(fixed, "u.", {}), 32, kernel), b(Scope(trained, "u.", {}), 32, kernel);
      const Tensor x = at::randn({2, 32, 5, 7});
      CHECK((a(x).sizes() == at::IntArrayRef({2, 32, 5 * kernel, 7 * kernel})));
      CHECK(relative_error(a(x), b(x).detach()) < 3e-6);
      CHECK(relative_error(a(together(x)), b(x).detach()) < 3e-6);
    }
  }

  TEST_CASE("bfloat16 is close to float32 and stays bfloat16") {
    RandomWeights fixed;
    const Tensor x = at::randn({2, 64, 9, 14}), base = at::randn({2, 64, 9, 14});
    const Conv2d b(Scope(fixed, "c.", {}), 64, 64, 3);
    test::with_every_instruction_set([&] {
      for (const MapSize maps : {MapSize::small, MapSize::large}) {
        const Conv2d a(Scope(fixed, "c.", bfloat16()), 64, 64, 3, 1, true, maps);
        CHECK((a(x).scalar_type() == at::kBFloat16));
        CHECK(relative_error(a(x), b(x)) < 0.02);
        CHECK(relative_error(a.forward_relu(x), at::relu(b(x))) < 0.02);
        CHECK(relative_error(a.forward_rows(x, false), b(x).narrow(2, 1, 7)) < 0.02);
        CHECK(relative_error(a.add_to(together(base).to(at::kBFloat16), x), base + b(x)) < 0.02);
        CHECK_THROWS(a(at::randn({1, 32, 9, 14})));
        if (!kernels::Bfloat16Conv::available()) continue;
        // By tiles, to the bit.
        const Tensor w = Scope(fixed, "c.", bfloat16()).take("weight", {64, 64, 3, 3}).to(at::kBFloat16),
                     bias = Scope(fixed, "c.", bfloat16()).take("bias", {64});
        const kernels::Bfloat16Conv conv(static_cast<uint16_t*>(w.contiguous().data_ptr()),
                                         bias.data_ptr<float>(), 64, 64);
        const Tensor from = together(x).to(at::kBFloat16), y = at::empty_like(from);
        const kernels::Bfloat16Conv::Job job{static_cast<uint16_t*>(from.data_ptr()), 2, 9, 14, 1,
                                             static_cast<uint16_t*>(y.data_ptr())};
        conv.run(job, 0, conv.pieces(job));
        CHECK(at::equal(a(x), y));
      }
    });
    const UpConv2d c(Scope(fixed, "u.", bfloat16()), 64, 2), d(Scope(fixed, "u.", {}), 64, 2);
    CHECK((c(x).scalar_type() == at::kBFloat16));
    CHECK(relative_error(c(x), d(x)) < 0.02);
  }

  TEST_CASE("heads take the type of the backbone, and are never in 8 bits") {
    RandomWeights fixed;
    Placement p = bfloat16();
    CHECK((Scope(fixed, "", p).for_head().placement().compute == at::kBFloat16));
    CHECK((Scope(fixed, "", p).in_float().placement().compute == at::kFloat));
    p.int8 = true;
    CHECK((Scope(fixed, "", p).for_head().placement().compute == at::kBFloat16));
    CHECK_FALSE(Scope(fixed, "", p).for_head().placement().int8);
    CHECK_FALSE(Scope(fixed, "", p).in_float().placement().int8);
  }

  TEST_CASE("the last layer in float32, whole and by rows") {
    RandomWeights fixed;
    for (const int64_t channels : {32, 20}) {
      const LastConv last(Scope(fixed, "l.", bfloat16()), channels, 3);
      const Tensor x = together(at::randn({2, channels, 7, 9}));
      const Tensor expected = last(x);
      CHECK((expected.scalar_type() == at::kFloat));
      with_both_loops([&] {
        for (const auto type : {at::kFloat, at::kBFloat16}) {
          Tensor out = at::full({2, 3, 7, 9}, -1.0);
          last.write(x.to(type).narrow(2, 0, 4), 0, 0, &out);
          CHECK(out.narrow(2, 4, 3).eq(-1.0).all().item<bool>());
          last.write(x.to(type).narrow(2, 4, 3), 0, 4, &out);
          CHECK(relative_error(out, last(x.to(type))) < 2e-6);
        }
        Tensor out = at::full({2, 3, 7, 9}, -1.0);
        last.write(x.narrow(0, 1, 1), 1, 0, &out);
        CHECK(out[0].eq(-1.0).all().item<bool>());
        CHECK(relative_error(out[1], expected[1]) < 2e-6);
      });
    }
  }
}

TEST_SUITE("resized maps") {
  TEST_CASE("bands of any height make the whole map") {
    for (const int64_t channels : {16, 6}) {
      const Tensor map = together(at::randn({2, channels, 5, 7}));
      const Tensor expected = at::upsample_bilinear2d(map, {13, 18}, true);
      with_both_loops([&] {
        for (const int64_t rows : {0, 1, 2, 4, 12, 13, 50})
          CHECK(relative_error(collect({map, 13, 18, {}, {}}, false, rows), expected) < 1e-6);
        CHECK(relative_error(collect({map, 13, 18, {}, {}}, true, 0), expected) < 1e-6);
      });
    }
  }

  TEST_CASE("maps and results of one row or column, and smaller results") {
    for (const auto& [h, w, to_h, to_w] : std::vector<std::array<int64_t, 4>>{
             {1, 1, 4, 5}, {1, 6, 3, 6}, {4, 4, 1, 1}, {9, 8, 4, 5}, {3, 3, 3, 3}}) {
      const Tensor map = together(at::randn({1, 16, h, w}));
      CHECK(relative_error(collect({map, to_h, to_w, {}, {}}, false, 2),
                           at::upsample_bilinear2d(map, {to_h, to_w}, true)) < 1e-6);
    }
    CHECK_THROWS_AS(kernels::ResizeAxis(0, 4), std::invalid_argument);
    CHECK_THROWS_AS(kernels::ResizeAxis(4, 0), std::invalid_argument);
  }

  TEST_CASE("with an embedding") {
    const UvEmbedding uv;
    const ImageShape image{26, 36};
    for (const int64_t channels : {32, 8}) {
      const Tensor map = together(at::randn({1, channels, 5, 7}));
      const auto& tables = uv.tables(channels, 13, 18, image, at::kCPU);
      const Tensor expected = uv.add(at::upsample_bilinear2d(map, {13, 18}, true), image, true);
      CHECK(relative_error(uv.add(expected.contiguous() * 0, image, true),
                           uv.add(expected * 0, image, true)) == 0);
      with_both_loops([&] {
        CHECK(relative_error(collect({map, 13, 18, tables.pixel_rows, tables.pixel_columns}, false, 5),
                             expected) < 1e-6);
      });
    }
  }

  TEST_CASE("bfloat16 is rounded once") {
    const Tensor map = together(at::randn({1, 32, 6, 6})).to(at::kBFloat16);
    const Tensor exact = at::upsample_bilinear2d(map.to(at::kFloat), {11, 11}, true);
    with_both_loops([&] {
      const Tensor mine = collect({map, 11, 11, {}, {}}, false, 3).to(at::kFloat);
      CHECK(((mine - exact).abs() / (exact.abs() + 1e-6)).max().item<double>() < 1.0 / 250);
    });
  }

  TEST_CASE("added to a finer map, with its relu") {
    RandomWeights fixed, trained(true);
    const Conv2d layer(Scope(fixed, "c.", {}), 16, 16, 3), other(Scope(trained, "c.", {}), 16, 16, 3);
    const Tensor z = together(at::randn({2, 16, 4, 5})), sum = together(at::randn({2, 16, 7, 9}));
    const Tensor expected = sum + at::upsample_bilinear2d(z, {7, 9}, true);
    with_both_loops([&] {
      const MapAndRelu v = add_resized(layer, sum.clone(), z);
      CHECK(relative_error(v.map, expected) < 1e-6);
      CHECK(at::equal(v.relu, at::relu(v.map)));
    });
    const MapAndRelu plain_ops = add_resized(other, sum.clone(), z);
    CHECK(relative_error(plain_ops.map, expected) < 1e-6);
    CHECK(at::equal(plain_ops.relu, at::relu(plain_ops.map)));
  }

  TEST_CASE("what is not a number stays one") {
    RandomWeights fixed;
    const Conv2d layer(Scope(fixed, "c.", {}), 16, 16, 3);
    for (const auto type : {at::kFloat, at::kBFloat16}) {
      const Tensor z = together(at::zeros({1, 16, 2, 2})).to(type);
      const Tensor sum = together(at::full({1, 16, 2, 2}, std::numeric_limits<double>::quiet_NaN())).to(type);
      const Conv2d& of = layer;
      with_both_loops([&] {
        const MapAndRelu v = add_resized(of, sum.clone(), z);
        CHECK(v.map.isnan().all().item<bool>());
        CHECK(v.relu.isnan().all().item<bool>());
      });
    }
  }

  TEST_CASE("and convolved: as if the map had been there") {
    RandomWeights fixed, trained(true);
    for (const int64_t channels : {16, 64}) {
      const Conv2d conv(Scope(fixed, "c.", {}), channels, 32, 3),
          other(Scope(trained, "c.", {}), channels, 32, 3),
          large(Scope(fixed, "c.", {}), channels, 32, 3, 1, true, MapSize::large);
      const Tensor map = together(at::randn({2, channels, 9, 7}));
      const Tensor expected = conv(at::upsample_bilinear2d(map, {31, 22}, true));
      CHECK(relative_error(resize_and_convolve(conv, map, 31, 22), expected) < 3e-6);
      CHECK(relative_error(resize_and_convolve(other, map, 31, 22).detach(), expected) < 3e-6);
      CHECK(relative_error(resize_and_convolve(large, map, 31, 22), expected) < 1e-5);
    }
  }
}

namespace {

// Writes down which keys are asked for; its copies, too.
class Listed : public SyntheticWeights {
 public:
  Listed(std::vector<std::string>* keys, bool keepable)
      : SyntheticWeights(0, {}, 1), keys_(keys), keepable_(keepable) {}
  Tensor take(const std::string& key, const std::vector<int64_t>& shape) override {
    keys_->push_back(key);
    return SyntheticWeights::take(key, shape);
  }
  std::shared_ptr<WeightSource> keep() const override {
    return keepable_ ? std::make_shared<Listed>(*this) : nullptr;
  }

 private:
  std::vector<std::string>* keys_;
  bool keepable_;
};

int64_t encoder_keys(const std::vector<std::string>& keys) {
  return std::count_if(keys.begin(), keys.end(),
                       [](const std::string& k) { return k.find(".cam_enc.") != std::string::npos; });
}

}  // namespace

TEST_CASE("the camera encoder is built when cameras are given, if its weights can wait") {
  const ModelConfig config = test::tiny_config(test::tiny_any_view());
  std::vector<std::string> now, later;
  std::unique_ptr<Network> eager, lazy;
  {
    Listed a(&now, false), b(&later, true);
    eager = make_network(config, a, {});
    lazy = make_network(config, b, {});
  }
  CHECK(encoder_keys(now) > 10);
  CHECK(encoder_keys(later) == 0);
  const Tensor image = test::make_image("lake", 1, 2);
  NetworkOptions known;
  std::tie(known.extrinsics, known.intrinsics) = test::make_cameras(1, 2);
  CHECK(at::equal(eager->forward(image, {}, {}).depth, lazy->forward(image, {}, {}).depth));
  CHECK(encoder_keys(later) == 0);
  const Tensor expected = eager->forward(image, known, {}).depth;
  CHECK(at::equal(expected, lazy->forward(image, known, {}).depth));
  CHECK(encoder_keys(later) == encoder_keys(now));
  CHECK(at::equal(expected, lazy->forward(image, known, {}).depth));
  CHECK(encoder_keys(later) == encoder_keys(now));
}

TEST_SUITE("heads") {
  TEST_CASE("laid out, plain or trained, alone or together, listened to or not: the same maps") {
    RandomWeights fixed, trained(true);
    const ImageShape image{70, 98};
    const auto tokens = random_tokens(2, image.rows() * image.columns(), 64);
    const DualDptHead a(Scope(fixed, "h.", {}), 64, small_head(true)),
        b(Scope(trained, "h.", {}), 64, small_head(true));
    const DepthMaps expected = b.forward(tokens, image, true, {});
    int heard = 0;
    const Tracer trace([&](const std::string&, const Tensor& t) { heard += t.defined(); });
    for (const bool listen : {false, true}) {
      const DepthMaps maps = a.forward(tokens, image, true, listen ? trace : Tracer());
      CHECK(relative_error(maps.depth, expected.depth.detach()) < 3e-5);
      CHECK(relative_error(maps.confidence, expected.confidence.detach()) < 3e-5);
      CHECK(relative_error(maps.ray, expected.ray.detach()) < 3e-5);
      CHECK(relative_error(maps.ray_confidence, expected.ray_confidence.detach()) < 3e-5);
    }
    CHECK(heard > 30);
    const DepthMaps without_ray = a.forward(tokens, image, false, {});
    CHECK(relative_error(without_ray.depth, expected.depth.detach()) < 1e-5);
    std::array<Tensor, 4> second;
    for (size_t k = 0; k < 4; ++k) second[k] = tokens[k].narrow(0, 1, 1);
    CHECK(relative_error(a.forward(second, image, false, {}).depth, expected.depth.detach().narrow(0, 1, 1)) <
          1e-5);
  }

  TEST_CASE("depth and sky") {
    RandomWeights fixed, trained(true);
    const ImageShape image{56, 42};
    const auto tokens = random_tokens(2, image.rows() * image.columns(), 64);
    const MonoDptHead a(Scope(fixed, "h.", {}), 64, small_head(false)),
        b(Scope(trained, "h.", {}), 64, small_head(false));
    const DepthMaps mine = a.forward(tokens, image, {}), expected = b.forward(tokens, image, {});
    CHECK(relative_error(mine.depth, expected.depth.detach()) < 1e-5);
    CHECK(relative_error(mine.sky, expected.sky.detach()) < 1e-5);
  }

  TEST_CASE("tokens are not changed") {
    RandomWeights fixed;
    const ImageShape image{42, 42};
    const auto tokens = random_tokens(1, 9, 64);
    std::array<Tensor, 4> before;
    for (size_t k = 0; k < 4; ++k) before[k] = tokens[k].clone();
    for (const Placement& p : {Placement(), bfloat16()}) {
      DualDptHead(Scope(fixed, "h.", p), 64, small_head(true)).forward(tokens, image, true, {});
      MonoDptHead(Scope(fixed, "h.", p), 64, small_head(false)).forward(tokens, image, {});
    }
    for (size_t k = 0; k < 4; ++k) CHECK(at::equal(tokens[k], before[k]));
  }

  TEST_CASE("bfloat16 maps: depth of a random head within two per cent for most pixels") {
    RandomWeights fixed;
    const ImageShape image{70, 98};
    const auto tokens = random_tokens(1, image.rows() * image.columns(), 64);
    const DualDptHead a(Scope(fixed, "h.", bfloat16()), 64, small_head(true)),
        b(Scope(fixed, "h.", {}), 64, small_head(true));
    const DepthMaps mine = a.forward(tokens, image, true, {}), exact = b.forward(tokens, image, true, {});
    CHECK((mine.depth.scalar_type() == at::kFloat));
    CHECK((mine.ray.scalar_type() == at::kFloat));
    CHECK(((mine.depth - exact.depth).abs() / exact.depth).median().item<double>() < 0.02);
    CHECK_FALSE(at::equal(mine.depth, exact.depth));  // it is really another arithmetic
    CHECK(relative_error(mine.ray, exact.ray) < 0.05);
  }
}
