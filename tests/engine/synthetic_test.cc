// SPDX-License-Identifier: MIT
#include "engine/checkpoint/synthetic.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numeric>
#include <thread>

#include "engine/checkpoint/checkpoint.h"
#include "goldens.h"
#include "sha256.h"

namespace synthetic = da3::synthetic;

namespace {

using Shape = std::vector<int64_t>;

size_t count_of(const Shape& shape) {
  return static_cast<size_t>(std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>()));
}

std::vector<float> weight(const std::string& key, const Shape& shape, uint64_t seed = 0,
                          const std::vector<synthetic::ValueFactor>& factors = {}, unsigned threads = 0) {
  std::vector<float> values(count_of(shape));
  synthetic::fill_weight(values.data(), key, shape, seed, factors, threads);
  return values;
}

std::string bits(float value) {
  char text[9];
  std::snprintf(text, sizeof text, "%08x", std::bit_cast<uint32_t>(value));
  return text;
}

std::vector<float> input(const std::string& name, int64_t b, int64_t s, int64_t h, int64_t w,
                         uint64_t seed = 0) {
  std::vector<float> values(static_cast<size_t>(b * s * 3 * h * w));
  synthetic::fill_input(values.data(), name, b, s, h, w, seed);
  return values;
}

std::vector<uint8_t> rgb(int width, int height, int index) {
  std::vector<uint8_t> bytes(static_cast<size_t>(width) * height * 3);
  synthetic::fill_rgb(bytes.data(), width, height, index);
  return bytes;
}

struct Sum {
  double sum = 0, squares = 0;
  size_t tensors = 0, parameters = 0;
};

// Adds all tensors of a model, its "model." replaced by `prefix`.
void add_model(const nlohmann::json& keys, const std::string& prefix, Sum* total) {
  for (const auto& [key, shape] : keys.items()) {
    const auto values = weight(prefix + key.substr(6), shape.get<Shape>());
    double sum = 0, squares = 0;
    for (const float value : values) {
      sum += value;
      squares += static_cast<double>(value) * value;
    }
    total->sum += sum;
    total->squares += squares;
    total->tensors += 1;
    total->parameters += values.size();
  }
}

}  // namespace

TEST_SUITE("numbers") {
  TEST_CASE("hash functions: published vectors") {
    CHECK(synthetic::fnv1a64("") == 0xcbf29ce484222325ull);
    CHECK(synthetic::fnv1a64("a") == 0xaf63dc4c8601ec8cull);
    CHECK(synthetic::fnv1a64("foobar") == 0x85944171f73967e8ull);
    CHECK(synthetic::splitmix64(0) == 0xe220a8397b1dcdafull);
    CHECK(synthetic::splitmix64(0x9e3779b97f4a7c15ull) == 0x6e789e6aa1b965f4ull);
  }

  TEST_CASE("bytes above 127 are hashed unsigned") {
    CHECK(synthetic::fnv1a64("\xff") == ((0xcbf29ce484222325ull ^ 0xff) * 0x100000001b3ull));
  }

  TEST_CASE("unit stays in [-1, 1) and depends on key, index and seed") {
    double least = 1, most = -1, mean = 0;
    for (uint64_t i = 0; i < 100000; ++i) {
      const double u = synthetic::unit("key", i, 0);
      least = std::min(least, u);
      most = std::max(most, u);
      mean += u / 100000;
    }
    CHECK(least >= -1.0);
    CHECK(least < -0.999);
    CHECK(most < 1.0);
    CHECK(most > 0.999);
    CHECK(std::abs(mean) < 0.01);
    CHECK(synthetic::unit("key", 0, 0) != synthetic::unit("kez", 0, 0));
    CHECK(synthetic::unit("key", 0, 0) != synthetic::unit("key", 1, 0));
    CHECK(synthetic::unit("key", 0, 0) != synthetic::unit("key", 0, 1));
    CHECK(std::isfinite(synthetic::unit("key", std::numeric_limits<uint64_t>::max(), ~0ull)));
  }
}

TEST_SUITE("weights") {
  struct Expected {
    const char* key;
    Shape shape;
    std::vector<const char*> first;
    const char* last;
  };

  TEST_CASE("bit for bit, one of each rule") {
    const Expected cases[] = {
        {"model.backbone.pretrained.cls_token", {1, 1, 384}, {"3ec7b0e9", "3e314c83"}, "3e85680b"},
        {"model.backbone.pretrained.pos_embed", {1, 1370, 384}, {"bd696c1f", "3e8b7224"}, "3eba2fda"},
        {"model.backbone.pretrained.patch_embed.proj.bias", {384}, {"3d1b9034", "bc191038"}, "3d41c4dd"},
        {"model.backbone.pretrained.blocks.0.norm1.weight", {384}, {"3f879dcd", "3f717108"}, "3f8875d1"},
        {"model.backbone.pretrained.blocks.0.ls1.gamma", {384}, {"3efb9e6b", "3e92d46e"}, "3ef694ba"},
        {"model.backbone.pretrained.blocks.0.attn.qkv.weight",
         {1152, 384},
         {"3d45178e", "bccbf93f"},
         "3cc23a2b"},
        {"model.head.resize_layers.0.weight", {48, 48, 4, 4}, {"3c901726", "3e442dd2"}, "be5d233c"},
        {"model.head.scratch.output_conv2.2.weight", {2, 32, 1, 1}, {"3e3bd6aa", "3d8ac89d"}, "3e4cbd3d"},
        {"model.head.scratch.output_conv2_aux.3.5.bias",
         {7},
         {"3d1c1ad2", "bca2c186", "3fbf0086"},
         "3d40c219"},
        {"model.cam_dec.fc_fov.0.weight", {2, 768}, {"3c6bece5", "3c6a1410"}, "3c5fade1"},
        {"model.cam_dec.fc_fov.0.bias", {2}, {"3f839132", "3f79bd44"}, "3f79bd44"},
        {"model.cam_dec.fc_qvec.bias", {4}, {"bd23c348", "3d071cc9", "3d380e1a", "3f7db40c"}, "3f7db40c"},
    };
    for (const Expected& expected : cases) {
      CAPTURE(expected.key);
      const auto values = weight(expected.key, expected.shape);
      for (size_t i = 0; i < expected.first.size(); ++i) CHECK(bits(values[i]) == expected.first[i]);
      CHECK(bits(values.back()) == expected.last);
    }
  }

  TEST_CASE("bit for bit: all check values of the goldens") {
    const auto manifest = da3::test::golden_json("manifest.json");
    if (!manifest) return;
    CHECK(!manifest->at("weight_check").empty());
    for (const auto& check : manifest->at("weight_check")) {
      const auto values = weight(check["key"], check["shape"].get<Shape>());
      CAPTURE(check["key"].get<std::string>());
      for (size_t i = 0; i < check["first_bits"].size(); ++i)
        CHECK(bits(values[i]) == check["first_bits"][i].get<std::string>());
      CHECK(bits(values.back()) == check["last_bits"].get<std::string>());
      const double sum = std::accumulate(values.begin(), values.end(), 0.0);
      CHECK(sum == doctest::Approx(check["sum"].get<double>()).epsilon(1e-8));
    }
  }

  TEST_CASE("sums over whole models") {
    const auto manifest = da3::test::golden_json("manifest.json");
    const auto keys = da3::test::golden_json("state_keys.json");
    if (!manifest || !keys) return;
    // The giant ones take seconds: DA3_TEST_THOROUGH asks for them.
    const bool thorough = std::getenv("DA3_TEST_THOROUGH") != nullptr;
    for (const auto& [name, expected] : manifest->at("models").items()) {
      if (!thorough && expected["parameters"].get<size_t>() > 200'000'000) continue;
      CAPTURE(name);
      Sum total;
      if (name == "da3nested-giant-large") {
        add_model(keys->at("da3-giant"), "model.da3.", &total);
        add_model(keys->at("da3metric-large"), "model.da3_metric.", &total);
      } else {
        add_model(keys->at(name), "model.", &total);
      }
      CHECK(total.tensors == expected["tensors"].get<size_t>());
      CHECK(total.parameters == expected["parameters"].get<size_t>());
      CHECK(total.sum == doctest::Approx(expected["sum"].get<double>()).epsilon(1e-8));
      CHECK(total.squares == doctest::Approx(expected["sum_of_squares"].get<double>()).epsilon(1e-8));
    }
  }

  TEST_CASE("the fast loop is the formula, for every length and number of threads") {
    for (const int64_t n : {1, 7, 8, 9, 63, 65, 1000, 200001, 262144}) {
      CAPTURE(n);
      const auto values = weight("model.x.gamma", {n}, 5, {}, 1);
      for (int64_t i = 0; i<n; i += n> 1000 ? 37 : 1)
        REQUIRE(values[i] == static_cast<float>(0.4 + 0.2 * synthetic::unit("model.x.gamma", i, 5)));
      REQUIRE(values.back() == static_cast<float>(0.4 + 0.2 * synthetic::unit("model.x.gamma", n - 1, 5)));
      for (const unsigned threads : {0u, 2u, 3u, 64u})
        CHECK(weight("model.x.gamma", {n}, 5, {}, threads) == values);
    }
  }

  TEST_CASE("constants belong to one element of one key") {
    const std::string key = ".da3_metric.head.scratch.sky_output_conv2.2.bias";
    CHECK(weight("model" + key, {1})[0] < -0.7f);
    CHECK(weight("model.head.scratch.sky_output_conv2.2.bias", {1})[0] > -0.1f);
    CHECK(weight("model.head.scratch.output_conv2_aux.2.5.bias", {7})[2] < 0.1f);
    CHECK(weight("model.da3.head.scratch.output_conv2_aux.3.5.bias", {7})[2] > 1.4f);
  }

  TEST_CASE("constants beyond a short tensor are not written") {
    float guarded[4] = {7, 7, 7, 7};
    synthetic::fill_weight(guarded, "model.cam_dec.fc_qvec.bias", {3}, 0);
    CHECK(guarded[3] == 7.0f);
    synthetic::fill_weight(guarded, "model.cam_dec.fc_fov.0.bias", {1}, 0);
    CHECK(guarded[1] != 1.0f);
  }

  TEST_CASE("the gain of a head's last layer is the depth head's alone") {
    const auto largest = [](const std::string& key) {
      float most = 0;
      for (const float value : weight(key, {2, 32, 1, 1})) most = std::max(most, std::abs(value));
      return most;
    };
    const double limit = std::sqrt(3.0 / 32);
    CHECK(largest("model.head.scratch.output_conv2.2.weight") <= 0.7 * limit);
    CHECK(largest("model.gs_head.scratch.output_conv2.2.weight") > 0.9 * limit);
    CHECK(largest("model.head.scratch.output_conv2_aux.1.5.weight") <= 0.5 * limit);
    CHECK(largest("model.head.scratch.output_conv2_aux.1.0.weight") > 0.9 * limit);
  }

  TEST_CASE("value factors, and the seed") {
    const auto plain = weight("model.x.attn.qkv.weight", {30, 20});
    const auto scaled = weight("model.x.attn.qkv.weight", {30, 20}, 0, {{".attn.qkv.", 0.02}, {"_token", 5}});
    for (size_t i = 0; i < plain.size(); ++i)
      CHECK(scaled[i] == static_cast<float>(static_cast<double>(plain[i]) * 0.02));
    CHECK(weight("model.x.attn.qkv.weight", {30, 20}, 1) != plain);
  }

  TEST_CASE("nothing is written for an empty shape, one number for a scalar") {
    float guarded[2] = {7, 7};
    for (const Shape& shape : {Shape{0}, Shape{3, 0}, Shape{0, 3}, Shape{-1}, Shape{-2, -2}})
      synthetic::fill_weight(guarded, "model.x.weight", shape, 0);
    CHECK(guarded[0] == 7.0f);
    synthetic::fill_weight(guarded, "model.x.weight", {}, 0);
    CHECK(guarded[0] != 7.0f);
    CHECK(guarded[1] == 7.0f);
  }
}

TEST_SUITE("inputs") {
  TEST_CASE("first values, one case") {
    const auto values = input("small_s1_56x70", 1, 1, 56, 70);
    CHECK(values[0] == doctest::Approx(-1.44967747).epsilon(1e-8));
    CHECK(values[1] == doctest::Approx(-1.59172118).epsilon(1e-8));
    CHECK(values[2] == doctest::Approx(-1.69851947).epsilon(1e-8));
    CHECK(values[3] == doctest::Approx(-1.60548151).epsilon(1e-8));
  }

  TEST_CASE("inputs of all cases") {
    const auto manifest = da3::test::golden_json("manifest.json");
    if (!manifest) return;
    size_t values_seen = 0, different = 0;
    for (const auto& item : manifest->at("cases")) {
      CAPTURE(item["name"].get<std::string>());
      const auto values =
          input(item["input"], item["B"], item["S"], item["H"], item["W"], item["input_seed"]);
      for (size_t i = 0; i < item["first_input_values"].size(); ++i)
        CHECK(values[i] == doctest::Approx(item["first_input_values"][i].get<double>()).epsilon(1e-8));
      const auto path = da3::test::golden_path(item["file"]);
      if (!path) continue;
      const auto checkpoint = da3::Checkpoint::open(*path);
      const auto stored = checkpoint->tensors().find("input");
      if (stored == checkpoint->tensors().end()) continue;
      const size_t stride = item["tensors"]["input"].value("stride", size_t{1});
      const auto* expected = static_cast<const float*>(stored->second.data);
      for (size_t i = 0; i < stored->second.bytes / sizeof(float); ++i) {
        REQUIRE(i * stride < values.size());
        ++values_seen;
        different += values[i * stride] != expected[i];
        CHECK(std::abs(values[i * stride] - expected[i]) <= 2.5e-7f);
      }
    }
    MESSAGE(values_seen << " stored input values, " << different << " of them differ in the last bit");
    CHECK(values_seen > 0);
  }

  TEST_CASE("views, channels, names and seeds differ; a view does not depend on how many there are") {
    const auto two = input("x", 1, 2, 4, 6), one = input("x", 1, 1, 4, 6), batch = input("x", 2, 1, 4, 6);
    CHECK(std::equal(one.begin(), one.end(), two.begin()));
    CHECK(two == batch);
    CHECK(!std::equal(one.begin(), one.end(), two.begin() + one.size()));
    CHECK(input("y", 1, 1, 4, 6) != one);
    CHECK(input("x", 1, 1, 4, 6, 1) != one);
    for (const float value : two) CHECK(std::abs(value) < 2.5f);
  }

  TEST_CASE("nothing is written for sizes of zero or less") {
    float guarded = 7;
    synthetic::fill_input(&guarded, "x", 0, 1, 1, 1, 0);
    synthetic::fill_input(&guarded, "x", 1, 1, -1, 1, 0);
    CHECK(guarded == 7.0f);
    uint8_t byte = 7;
    synthetic::fill_rgb(&byte, 0, 5, 0);
    synthetic::fill_rgb(&byte, 5, -5, 0);
    CHECK(byte == 7);
  }
}

TEST_SUITE("images") {
  TEST_CASE("the hash of the tests' own sha256") {
    CHECK(da3::test::sha256({}) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    const std::string abc = "abc", long_text(200, 'a');
    CHECK(da3::test::sha256({abc.begin(), abc.end()}) ==
          "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(da3::test::sha256({long_text.begin(), long_text.end()}) ==
          "c2a908d98f5df987ade41b5fce213067efbcc21ef2240212a41e54b5e7c28ae5");
  }

  TEST_CASE("640x480 bit for bit") {
    CHECK(da3::test::sha256(rgb(640, 480, 0)) ==
          "854d2295e756e31a9386418a48ed9d187490eff68ee0263b2fd587cd9f6336ed");
    CHECK(rgb(640, 480, 1) != rgb(640, 480, 0));
  }

  TEST_CASE("source images of the preprocessing cases") {
    const auto manifest = da3::test::golden_json("manifest.json");
    if (!manifest) return;
    size_t images = 0;
    for (const auto& item : manifest->at("preprocess")) {
      if (!item.contains("sha256_source_rgb")) continue;
      CAPTURE(item["name"].get<std::string>());
      CHECK(da3::test::sha256(rgb(item["width"], item["height"], 0)) ==
            item["sha256_source_rgb"].get<std::string>());
      ++images;
    }
    CHECK(images > 0);
  }
}
