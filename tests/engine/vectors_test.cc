// SPDX-License-Identifier: MIT
//
// Single operations against numbers that upstream's modules gave for small inputs, and against their own
// definition.
#include <doctest/doctest.h>
#include <torch/version.h>

#include <cmath>

#include "engine/kernels/flash_attention.h"
#include "engine/network/attention.h"
#include "engine/network/backbone.h"
#include "engine/network/cameras.h"
#include "engine/network/dpt.h"
#include "engine/network/gaussians.h"
#include "engine/network/ops.h"
#include "instruction_sets.h"
#include "tiny_model.h"

using namespace da3;
using namespace da3::test;

namespace {

void check_values(const Tensor& mine, std::initializer_list<double> expected, double tolerance = 1e-5) {
  const Tensor flat = mine.to(at::kDouble).contiguous().flatten();
  REQUIRE(size_t(flat.numel()) == expected.size());
  int64_t i = 0;
  for (const double e : expected) {
    CAPTURE(i);
    CHECK(std::abs(flat[i].item<double>() - e) <= tolerance * (1 + std::abs(e)));
    ++i;
  }
}

Tensor uv(int64_t channels, int64_t rows, int64_t columns, ImageShape image) {
  return UvEmbedding().add(at::zeros({1, channels, rows, columns}, at::TensorOptions(at::kFloat)), image,
                           true)[0];
}

// One head of 64 channels, channel j = j / 64.
Tensor rope_input() {
  return (at::arange(64, at::TensorOptions(at::kFloat)) / 64).view({1, 1, 1, 64});
}

RopeTable rope_at(int64_t y, int64_t x) {
  return make_rope_table(at::tensor({y, x}, at::TensorOptions(at::kLong)).view({1, 2}), 64);
}

// A backbone whose position grid is g(row, column) in every channel.
struct GridSource : WeightSource {
  Tensor take(const std::string& key, const std::vector<int64_t>& shape) override {
    Tensor out = at::zeros(shape, at::TensorOptions(at::kFloat));
    if (!key.ends_with("pos_embed")) return out;
    for (int r = 0; r < 37; ++r)
      for (int c = 0; c < 37; ++c) out[0][1 + r * 37 + c].fill_(r + 0.01 * c * c);
    out[0][0].fill_(-7);
    return out;
  }
  void declare(const std::string&, const std::vector<int64_t>&) override {}
};

Tensor position_embedding(int64_t height, int64_t width) {
  BackboneConfig config;
  config.width = 16;
  config.depth = 4;
  config.heads = 1;
  config.ffn_hidden = 16;
  config.out_layers = {0, 1, 2, 3};
  GridSource source;
  const Backbone backbone(Scope(source, "model.", {}), config);
  Tensor position;
  backbone.forward(at::zeros({1, 1, 3, height, width}, at::TensorOptions(at::kFloat)), {},
                   Tracer([&](const std::string& name, const Tensor& value) {
                     if (name == "tokens.pos_embed") position = value.clone();
                   }));
  return position.select(2, 0)[0];  // [1 + P], the first channel
}

// The pose encoding that the vectors use.
Tensor example_encoding() {
  return at::tensor({0.1f, -0.2f, 0.3f, 0.1f, 0.2f, -0.3f, 0.8f, 1.0f, 1.2f}, at::TensorOptions(at::kFloat))
      .view({1, 1, 9});
}

}  // namespace

TEST_SUITE("positions in the head") {
  TEST_CASE("a map of 3x2, eight channels") {
    const Tensor map = uv(8, 2, 3, {280, 420});
    check_values(map.select(1, 0).select(1, 0) / 0.1, {-0.5266885, -0.0554416, 0.8500584, 0.9984619,
                                                       -0.2738080, -0.0277315, 0.9617844, 0.9996154});
    // The middle column is u = 0.
    check_values(map.select(1, 0).select(1, 1).narrow(0, 0, 4) / 0.1, {0, 0, 1, 1});
  }

  TEST_CASE("a map of 36x27, 96 channels") {
    const Tensor corner = uv(96, 27, 36, {378, 504}).select(1, 0).select(1, 0);
    check_values(corner.narrow(0, 0, 4), {-0.0701698, -0.0598783, -0.0505442, -0.0423564});
    check_values(corner.narrow(0, 24, 4), {0.0712475, 0.0800911, 0.0862861, 0.0905866});
    check_values(corner.narrow(0, 48, 4), {-0.0546164, -0.0459027, -0.0383548, -0.0319222});
    check_values(corner.narrow(0, 72, 4), {0.0837678, 0.0888422, 0.0923521, 0.0947680});
  }

  TEST_CASE("the shape of the image counts, not only that of the map") {
    CHECK(!same_bits(uv(8, 4, 4, {56, 56}), uv(8, 4, 4, {56, 112})));
    CHECK(same_bits(uv(8, 4, 4, {56, 112}), uv(8, 4, 4, {28, 56})));
  }

  TEST_CASE("only in place writes into the map") {
    const UvEmbedding embedding;
    const Tensor map = at::ones({2, 8, 4, 4}, at::TensorOptions(at::kFloat)), before = map.clone();
    const Tensor copy = embedding.add(map, {56, 56}, false);
    CHECK(same_bits(map, before));
    const Tensor same = embedding.add(map, {56, 56}, true);
    CHECK(same.data_ptr() == map.data_ptr());
    CHECK(same_bits(copy, map));
    CHECK(same_bits(copy[0], copy[1]));
  }

  TEST_CASE("more shapes than are kept") {
    const UvEmbedding embedding;
    auto add = [&](int64_t n) {
      return embedding.add(at::zeros({1, 4, 2, n}, at::TensorOptions(at::kFloat)), {28, 14 * n}, true);
    };
    const Tensor first = add(5);
    for (int64_t n = 1; n < 400; ++n) add(n);
    CHECK(same_bits(first, add(5)));
  }
}

TEST_SUITE("rotary positions") {
  TEST_CASE("position (2, 5)") {
    const Tensor out = apply_rope(rope_input(), rope_at(2, 5)).flatten();
    const std::pair<int64_t, double> expected[] = {{0, -0.2273244},  {1, -0.2638471},  {15, 0.2213747},
                                                   {16, -0.1040367}, {17, 0.0344313},  {31, 0.4904529},
                                                   {32, 0.8610243},  {33, 0.0140124},  {47, 0.6671575},
                                                   {48, -0.2667155}, {49, -0.9229596}, {63, 1.0311166}};
    for (const auto& [channel, value] : expected) {
      CAPTURE(channel);
      CHECK(out[channel].item<double>() == doctest::Approx(value).epsilon(1e-5));
    }
  }

  TEST_CASE("(0, 0) turns nothing, and lengths stay") {
    CHECK(same_bits(apply_rope(rope_input(), rope_at(0, 0)), rope_input()));
    const Tensor out = apply_rope(rope_input(), rope_at(30, 17));
    CHECK(out.norm().item<double>() == doctest::Approx(rope_input().norm().item<double>()).epsilon(1e-6));
    CHECK(!same_bits(out, rope_input()));
  }

  TEST_CASE("products see the difference of positions only") {
    const Tensor q = rope_input(), k = rope_input().flip({3});
    auto product = [&](int64_t y1, int64_t x1, int64_t y2, int64_t x2) {
      return (apply_rope(q, rope_at(y1, x1)) * apply_rope(k, rope_at(y2, x2))).sum().item<double>();
    };
    CHECK(product(3, 4, 5, 9) == doctest::Approx(product(13, 24, 15, 29)).epsilon(1e-4));
    CHECK(product(3, 4, 5, 9) != doctest::Approx(product(4, 3, 9, 5)).epsilon(1e-3));
  }

  TEST_CASE("a table repeats over views") {
    const Tensor positions = at::tensor({0, 0, 1, 1, 1, 2}, at::TensorOptions(at::kLong)).view({3, 2});
    const RopeTable table = make_rope_table(positions, 16);
    const Tensor x =
        make_image("lake", 1, 1, 14, 2 * 16).flatten().narrow(0, 0, 2 * 6 * 16).view({1, 2, 6, 16});
    const Tensor all = apply_rope(x, table);
    for (int64_t view = 0; view < 2; ++view)
      CHECK(same_bits(all.narrow(2, 3 * view, 3), apply_rope(x.narrow(2, 3 * view, 3), table)));
  }
}

TEST_SUITE("positions in the backbone") {
  TEST_CASE("a grid of 37x37 resampled to 27x36") {
    const Tensor out = position_embedding(378, 504).narrow(0, 1, 27 * 36).view({27, 36});
    const std::tuple<int64_t, int64_t, double> expected[] = {{0, 0, 0.1386065},   {0, 1, 0.1495967},
                                                             {0, 35, 13.0368500}, {13, 17, 20.9487629},
                                                             {26, 0, 35.7525864}, {26, 35, 48.6508102}};
    for (const auto& [r, c, value] : expected)
      CHECK(out[r][c].item<double>() == doctest::Approx(value).epsilon(1e-5));
  }

  TEST_CASE("518x518 takes the grid as it is, and the class row never changes") {
    const Tensor square = position_embedding(518, 518);
    CHECK(square[0].item<float>() == -7);
    CHECK(square[1 + 5 * 37 + 3].item<float>() == doctest::Approx(5.09));
    CHECK(square[37 * 37].item<float>() == doctest::Approx(36 + 12.96));
    CHECK(position_embedding(14, 28)[0].item<float>() == -7);
  }

  TEST_CASE("as many patches in another shape are no reason to take it") {
    // 1369 = 37 * 37 = 1 * 1369: not square.
    const Tensor line = position_embedding(14, 14 * 1369);
    CHECK(line[1].item<float>() != doctest::Approx(0.0).epsilon(1e-6));
  }
}

TEST_SUITE("cameras") {
  TEST_CASE("a pose encoding decoded") {
    const Cameras cameras = decode_cameras(example_encoding(), 378, 504);
    const Tensor e = cameras.extrinsics[0][0];
    check_values(e.select(1, 3), {-0.0333333, 0.0666667, -0.3666667});
    // World to camera: the transpose of the listed rotation.
    check_values(e.narrow(1, 0, 3).t(), {0.6666667, 0.6666666, 0.3333333, -0.5641025, 0.7435898, -0.3589743,
                                         -0.4871795, 0.0512821, 0.8717949});
    check_values(cameras.intrinsics[0][0], {368.3473511, 0, 252, 0, 345.9621887, 189, 0, 0, 1}, 2e-6);
  }

  TEST_CASE("and encoded again: unit quaternion, the same angles") {
    const Cameras cameras = decode_cameras(example_encoding(), 378, 504);
    check_values(encode_cameras(cameras.extrinsics, cameras.intrinsics, 378, 504),
                 {0.1, -0.2, 0.3, 0.1132277, 0.2264554, -0.3396831, 0.9058216, 1.0, 1.2});
  }

  TEST_CASE("a field of view of zero gives a long lens, not infinity") {
    Tensor encoding = example_encoding().clone();
    encoding.narrow(2, 7, 2).zero_();
    const Tensor k = decode_cameras(encoding, 378, 504).intrinsics[0][0];
    CHECK(k[0][0].item<float>() == doctest::Approx(252 / 1e-6));
    CHECK(k[1][1].item<float>() == doctest::Approx(189 / 1e-6));
  }

  TEST_CASE("a quaternion of zero length is no crash") {
    Tensor encoding = example_encoding().clone();
    encoding.narrow(2, 3, 4).zero_();
    CHECK(decode_cameras(encoding, 378, 504).extrinsics.numel() == 12);
  }

  TEST_CASE("views and items keep their places, cropped principal points are forgotten") {
    auto [e, k] = make_cameras(2, 3);
    Tensor moved = k.clone();
    moved.select(3, 2).narrow(2, 0, 2).add_(5);
    const Tensor encoding = encode_cameras(e, k, 42, 56);
    CHECK(same_bits(encoding, encode_cameras(e, moved, 42, 56)));
    for (int64_t b = 0; b < 2; ++b)
      for (int64_t s = 0; s < 3; ++s)
        CHECK(same_bits(encoding[b][s], encode_cameras(e.narrow(0, b, 1).narrow(1, s, 1),
                                                       k.narrow(0, b, 1).narrow(1, s, 1), 42, 56)[0][0]));
    const Cameras back = decode_cameras(encoding, 42, 56);
    CHECK(distance(back.extrinsics, e) < 1e-5);
    CHECK(distance(back.intrinsics, k) < 1e-5);
  }
}

TEST_SUITE("Gaussians") {
  TEST_CASE("two by three pixels") {
    const Cameras cameras = decode_cameras(example_encoding(), 2, 3);
    CHECK(cameras.intrinsics[0][0][0][0].item<float>() == doctest::Approx(2.1925437).epsilon(1e-6));
    const auto options = at::TensorOptions(at::kFloat);
    const Tensor raw = (0.01 * (at::arange(37, options) + 1)).expand({1, 1, 2, 3, 37}).contiguous();
    const Gaussians g =
        make_gaussians({}, raw, at::full({1, 1, 2, 3}, 0.3, options), at::full({1, 1, 2, 3}, 2.0, options),
                       cameras.extrinsics, cameras.intrinsics, {}, {});
    check_values(g.means[0][0], {-0.1993792, -0.8286858, 2.5653975});
    check_values(g.means[0][5], {1.8296151, -1.0495557, 1.6797049});
    check_values(g.scales[0][0], {3.6169598, 3.6347716, 3.6525798});
    check_values(g.rotations[0][0], {0.8361935, 0.2239805, 0.1493203, 0.4778249});
    check_values(g.harmonics[0][0][0], {0.1, 0.0012885, 0.0040577, 0.0030000, -0.0006373, 0.0008718,
                                        0.0015399, 0.0011607, 0.0003930});
    check_values(g.opacities[0], {0.3, 0.3, 0.3, 0.3, 0.3, 0.3});
  }

  TEST_CASE("given cameras scale centres and distances, at most threefold") {
    const auto [given, k] = make_cameras(1, 4, 28, 42);
    const auto options = at::TensorOptions(at::kFloat);
    const Tensor raw = at::zeros({1, 4, 28, 42, 37}, options)
                           .index_fill_(4, at::tensor({8}, at::TensorOptions(at::kLong)), 1.0);
    const Tensor opacity = at::full({1, 4, 28, 42}, 0.5, options),
                 depth = at::full({1, 4, 28, 42}, 2.0, options);
    auto made = [&, k = k](const Tensor& predicted, const Tensor& known) {
      return make_gaussians({}, raw, opacity, depth, predicted, k, known, {});
    };
    auto scaled = [&](const Tensor& poses, double factor) {
      Tensor out = poses.clone();
      out.select(3, 3).mul_(factor);
      return out;
    };
    const Tensor plain = made(given, {}).means;
    CHECK(distance(made(given, given).means, plain) < 1e-5);
    CHECK(distance(made(scaled(given, 0.5), given).means, plain * 1.0) > 1e-2);
    // Predicted at half the size: everything twice as far from the origin.
    CHECK(distance(made(scaled(given, 0.5), given).means, made(scaled(given, 0.5), {}).means * 2) < 1e-5);
    CHECK(distance(made(scaled(given, 0.01), given).means, made(scaled(given, 0.01), {}).means * 3) < 1e-5);
    CHECK(distance(made(scaled(given, 100.0), given).means, made(scaled(given, 100.0), {}).means / 3) < 1e-5);
  }

  TEST_CASE("two given cameras cannot fix a scale") {
    const auto [given, k] = make_cameras(1, 2, 14, 14);
    const auto options = at::TensorOptions(at::kFloat);
    const Tensor raw = at::ones({1, 2, 14, 14, 37}, options), map = at::ones({1, 2, 14, 14}, options);
    const Tensor moved = given + 0.0;
    moved.select(3, 3).mul_(0.25);
    const Gaussians with = make_gaussians({}, raw, map, map, moved, k, given, {});
    CHECK(same_bits(with.means, make_gaussians({}, raw, map, map, moved, k, {}, {}).means));
  }
}

TEST_SUITE("attention") {
  TEST_CASE("which back ends there are: LibTorch's, and ours on the CPU") {
    constexpr bool fused = TORCH_VERSION_MAJOR >= 2;
    CHECK(has_attention(DA3_ATTENTION_AUTO));
    CHECK(has_attention(DA3_ATTENTION_PLAIN));
    CHECK(has_attention(DA3_ATTENTION_FUSED) == (fused || kernels::FlashAttention<float>::available()));
    CHECK(has_attention(DA3_ATTENTION_FUSED, at::Device(at::kCUDA, 0)) == fused);
    CHECK(has_attention(DA3_ATTENTION_FUSED, at::kCPU, 16) == fused);
    CHECK(has_attention(DA3_ATTENTION_FUSED, at::kCPU, 64, at::kHalf) == fused);
    CHECK(!has_own_attention(at::Device(at::kCUDA, 0), 64, at::kFloat));
    const Limited limited(kernels::Instructions::none);
    CHECK(has_attention(DA3_ATTENTION_FUSED) == fused);
  }

  TEST_CASE("equals its definition, for single and many queries") {
    const auto options = at::TensorOptions(at::kFloat);
    const Tensor all = make_image("lake", 1, 1, 28, 28 * 8).flatten().narrow(0, 0, 3 * 2 * 3 * 40 * 16);
    const Tensor qkv = all.view({3, 2, 3, 40, 16}).to(options);
    for (const int64_t queries : {1, 40}) {
      const Tensor q = qkv[0].narrow(2, 0, queries);
      const Tensor p =
          at::softmax(at::matmul(q.to(at::kDouble), qkv[1].to(at::kDouble).transpose(2, 3)) / 4.0, -1);
      const Tensor expected = at::matmul(p, qkv[2].to(at::kDouble));
      CHECK(distance(attention(q, qkv[1], qkv[2]), expected) < 1e-5);
    }
  }
}
