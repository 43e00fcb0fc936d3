// SPDX-License-Identifier: MIT
//
// From a file's tensors to a network's parameters: all of them, no others, in the right shape, without a
// copy.
#include "engine/network/weights.h"

#include <ATen/Parallel.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

#include "engine/network/ops.h"
#include "tiny_model.h"

using namespace da3;
using namespace da3::test;

namespace {

const std::string kNorm = "model.head.scratch.output_conv2_aux.";

Tensor run(const Network& network, bool rays = true) {
  NetworkOptions options;
  options.want_ray = rays;
  const NetworkOutput out = network.forward(make_image("lake", 1, 2), options, {});
  std::vector<Tensor> parts = {out.depth.flatten()};
  for (const Tensor& t : {out.confidence, out.ray, out.ray_confidence, out.extrinsics, out.sky})
    if (t.defined()) parts.push_back(t.flatten());
  return at::cat(parts);
}

std::shared_ptr<Checkpoint> opened(const TempDir& temp, const std::string& file) {
  return Checkpoint::open(temp.write("model.safetensors", file));
}

// The network of a file, checked and built as the engine does it.
Tensor run_file(const std::string& file, const json& description = tiny_any_view()) {
  const TempDir temp;
  const auto checkpoint = opened(temp, file);
  const ModelConfig config = tiny_config(description);
  CheckpointWeights weights(checkpoint);
  weights.check(network_keys(config));
  return run(*make_network(config, weights, {}));
}

Refusal refused(const StoredTensors& tensors, const json& description = tiny_any_view()) {
  const TempDir temp;
  const auto checkpoint = opened(temp, file_of(tensors));
  const Refusal r =
      refusal_of([&] { CheckpointWeights(checkpoint).check(network_keys(tiny_config(description))); });
  CHECK(r.code == DA3_ERROR_WRONG_TYPE);
  CHECK(r.says(temp / "model.safetensors"));
  return r;
}

StoredTensors tiny_tensors() {
  return synthetic_tensors(tiny_config(tiny_any_view()));
}

void rename(StoredTensors* tensors, const std::string& from, const std::string& to) {
  auto node = tensors->extract(from);
  REQUIRE(!node.empty());
  node.key() = to;
  tensors->insert(std::move(node));
}

// As official files store it: the one LayerNorm, under `level`.
StoredTensors with_shared_norm(int level) {
  StoredTensors t = tiny_tensors();
  for (const char* part : {".2.weight", ".2.bias"}) {
    const Stored norm = t.at(kNorm + "3" + part);
    for (const char* l : {"0", "1", "2", "3"}) t.erase(kNorm + l + part);
    t[kNorm + std::to_string(level) + part] = norm;
  }
  return t;
}

// The name that a training checkpoint gave a parameter.
std::string training_name(std::string key) {
  const std::pair<const char*, const char*> renames[] = {
      {"model.backbone.", "module.net."},
      {"camera_token", "camera_token_extra"},
      {"model.cam_enc.", "module.all_heads.camera_cond_head."},
      {"model.cam_dec.backbone.", "module.all_heads.camera_head.more_mlps."},
      {"model.cam_dec.", "module.all_heads.camera_head."},
      {".fc_qvec.", ".fc_rot."},
      {"model.head.", "module.all_heads.head."},
      {"_aux.", "_ray."},
  };
  for (const auto& [from, to] : renames)
    if (const size_t at = key.find(from); at != std::string::npos)
      key.replace(at, std::string(from).size(), to);
  return key;
}

const Tensor& expected() {
  static const Tensor value = run(*make_tiny(tiny_any_view()));
  return value;
}

bool inside(const void* p, const Checkpoint& checkpoint) {
  for (const auto& [name, view] : checkpoint.tensors()) {
    const char* begin = static_cast<const char*>(view.data);
    if (p >= begin && p < begin + std::max<size_t>(view.bytes, 1)) return true;
  }
  return false;
}

// Remembers what it handed out.
struct Recorder : WeightSource {
  explicit Recorder(WeightSource& source) : inner(source) {}
  Tensor take(const std::string& key, const std::vector<int64_t>& shape) override {
    taken[key] = inner.take(key, shape);
    return taken[key];
  }
  void declare(const std::string& key, const std::vector<int64_t>&) override { declared.push_back(key); }
  WeightSource& inner;
  std::map<std::string, Tensor> taken;
  std::vector<std::string> declared;
};

// So many threads for LibTorch; afterwards as many as before.
class Threads {
 public:
  explicit Threads(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  const int before_;
};

// A source of nothing, for parts that ask nothing.
struct Silent : WeightSource {
  explicit Silent(bool by_several) : several(by_several) {}
  Tensor take(const std::string&, const std::vector<int64_t>&) override { return {}; }
  void declare(const std::string&, const std::vector<int64_t>&) override {}
  bool concurrent() const override { return several; }
  bool several;
};

bool is_laid_out(const std::string& key) {
  for (const char* part : {".attn.qkv.", ".attn.proj.", ".mlp.", ".ls1.", ".ls2.", ".pose_branch.",
                           ".cam_dec.", ".projects.", ".resize_layers.", ".scratch.", ".patch_embed."})
    if (key.find(part) != std::string::npos) return true;
  return false;
}

}  // namespace

TEST_SUITE("a complete file") {
  TEST_CASE("gives the network that its values give") {
    CHECK(same_bits(run_file(file_of(tiny_tensors())), expected()));
    for (const json& d : {tiny_mono(), tiny_nested()})
      CHECK(same_bits(run_file(file_of(synthetic_tensors(tiny_config(d))), d), run(*make_tiny(d))));
  }

  TEST_CASE("float32 parameters are views into the mapped file") {
    const TempDir temp;
    const auto checkpoint = opened(temp, file_of(tiny_tensors()));
    CheckpointWeights weights(checkpoint);
    const Scope scope = Scope(weights, "model.", {}) / "backbone" / "pretrained";
    CHECK((scope / "blocks" / 0 / "mlp" / "fc1").take("weight", {96, 64}).data_ptr() ==
          checkpoint->tensors().at("model.backbone.pretrained.blocks.0.mlp.fc1.weight").data);
    const LayerNorm norm(scope / "norm", 64, 1e-5);
    CHECK(inside(norm.weight.data_ptr(), *checkpoint));
    const Conv2d conv(Scope(weights, "model.head.projects.0.", {}), 128, 16, 1);
    CHECK(inside(conv.weight.data_ptr(), *checkpoint));
    CHECK(inside(conv.bias.data_ptr(), *checkpoint));
  }

  TEST_CASE("a whole network keeps no second copy") {
    const TempDir temp;
    const auto checkpoint = opened(temp, file_of(tiny_tensors()));
    CheckpointWeights weights(checkpoint);
    Recorder recorder(weights);
    const auto network = make_network(tiny_config(tiny_any_view()), recorder, {});
    CHECK(recorder.taken.size() + recorder.declared.size() == tiny_tensors().size());
    for (const auto& [key, t] : recorder.taken) {
      CHECK_MESSAGE(inside(t.data_ptr(), *checkpoint), key);
      // The network holds this very tensor, or has let it go for one that is laid out for its kernels.
      const bool held = t.storage().use_count() + t.use_count() > 2;
      CHECK_MESSAGE((held || is_laid_out(key)), key);
    }
    CHECK(same_bits(run(*network), expected()));
  }

  TEST_CASE("parameters that are never computed with are not read") {
    SyntheticWeights weights(0, {}, 1);
    Recorder recorder(weights);
    make_network(tiny_config(tiny_any_view()), recorder, {});
    for (const auto& key : recorder.declared)
      CHECK_MESSAGE((key.find("output_conv1_aux.") != std::string::npos ||
                     key.find("output_conv2_aux.") != std::string::npos),
                    key);
    for (const char* level : {"0", "1", "2"})
      CHECK(recorder.taken.count("model.head.scratch.output_conv1_aux." + std::string(level) + ".0.weight") ==
            0);
  }

  TEST_CASE("data that is not aligned is copied, not misread") {
    CHECK(same_bits(run_file(file_of(tiny_tensors(), {}, /*misalign=*/true)), expected()));
  }

  TEST_CASE("half precision and double files") {
    const ModelConfig config = tiny_config(tiny_any_view());
    for (const auto& [type, tolerance] :
         {std::pair<at::ScalarType, double>{at::kHalf, 0.005}, {at::kBFloat16, 0.04}, {at::kDouble, 0.0}}) {
      CAPTURE(std::string(at::toString(type)));
      const Tensor out = run_file(file_of(synthetic_tensors(config, type)));
      CHECK(rms_distance(out, expected()) <= tolerance);
      // The rounded weights are really used ...
      CHECK(same_bits(out, expected()) == (type == at::kDouble));
      // ... and nothing else is.
      struct Rounded : WeightSource {
        at::ScalarType type;
        SyntheticWeights inner{0, {}, 1};
        Tensor take(const std::string& key, const std::vector<int64_t>& shape) override {
          return inner.take(key, shape).to(type).to(at::kFloat);
        }
        void declare(const std::string&, const std::vector<int64_t>&) override {}
      } rounded;
      rounded.type = type;
      CHECK(same_bits(out, run(*make_network(config, rounded, {}))));
    }
  }

  TEST_CASE("mixed types in one file") {
    StoredTensors t = tiny_tensors();
    SyntheticWeights weights(0, {}, 1);
    const std::string key = "model.cam_dec.fc_t.weight";
    t[key] = store(weights.take(key, t.at(key).shape).to(at::kDouble));
    CHECK(same_bits(run_file(file_of(t)), expected()));
  }
}

TEST_SUITE("parts of a network") {
  TEST_CASE("are all built, each once; in order where the source wants it so") {
    for (const int threads : {1, 2, 5})
      for (const int64_t count : {0, 1, 2, 3, 40}) {
        CAPTURE(threads);
        CAPTURE(count);
        const Threads these(threads);
        std::vector<std::atomic<int>> built(static_cast<size_t>(count));
        build_each(Silent(true), count, [&](int64_t i) { ++built.at(size_t(i)); });
        CHECK(std::all_of(built.begin(), built.end(), [](const auto& n) { return n == 1; }));
        std::vector<int64_t> order, expected(static_cast<size_t>(count));
        for (int64_t i = 0; i < count; ++i) expected[size_t(i)] = i;
        build_each(Silent(false), count, [&](int64_t i) { order.push_back(i); });
        CHECK(order == expected);
      }
  }

  TEST_CASE("within a part they are built on its thread") {
    const Threads three(3);
    std::atomic<int> elsewhere{0};
    build_each(Silent(true), 6, [&](int64_t) {
      const auto here = std::this_thread::get_id();
      build_each(Silent(true), 4, [&](int64_t) { elsewhere += std::this_thread::get_id() != here; });
    });
    CHECK(elsewhere == 0);
  }

  TEST_CASE("an exception of any part is the caller's, and no other part begins") {
    for (const int threads : {1, 3}) {
      const Threads these(threads);
      std::atomic<int> begun{0};
      CHECK_THROWS_WITH(build_each(Silent(true), 1000,
                                   [&](int64_t i) {
                                     ++begun;
                                     if (i > 1) throw std::runtime_error("from the third on");
                                   }),
                        "from the third on");
      CHECK(begun > 2);
      CHECK(begun <= 2 + threads);  // each thread may have been about to begin one
    }
  }

  TEST_CASE("take their scratch out of the same memory, type by type") {
    std::vector<const void*> floats, others;
    build_each(Silent(false), 3, [&](int64_t) {
      const Tensor large = scratch({64, 8}, at::kFloat), other = scratch({100}, at::kBFloat16);
      CHECK((large.scalar_type() == at::kFloat));
      CHECK((large.sizes() == at::IntArrayRef({64, 8})));
      CHECK((other.scalar_type() == at::kBFloat16));
      CHECK(scratch({3, 5}, at::kFloat).data_ptr() == large.data_ptr());
      floats.push_back(large.data_ptr());
      others.push_back(other.data_ptr());
    });
    CHECK(std::count(floats.begin(), floats.end(), floats.front()) == 3);
    CHECK(std::count(others.begin(), others.end(), others.front()) == 3);
    CHECK(floats.front() != others.front());
  }

  TEST_CASE("get new scratch when it does not fit, for another type and outside") {
    build_each(Silent(false), 1, [&](int64_t) {
      const Tensor small = scratch({8}, at::kFloat).fill_(1), large = scratch({9000}, at::kFloat).fill_(2);
      CHECK(small.sum().item<float>() == 8);  // still there for who holds it
      CHECK(scratch({8}, at::kFloat).data_ptr() == large.data_ptr());
      const Tensor a = scratch({4}, at::kDouble), b = scratch({4}, at::kDouble);
      CHECK((a.scalar_type() == at::kDouble));
      CHECK(a.data_ptr() != b.data_ptr());
    });
    const Tensor a = scratch({4}, at::kFloat), b = scratch({4}, at::kFloat);
    CHECK(a.data_ptr() != b.data_ptr());
    CHECK(a.numel() == 4);
  }

  TEST_CASE("built by several threads they compute the same bits, and say what is missing") {
    const TempDir temp;
    for (const json& d : {tiny_any_view(), tiny_mono(), tiny_nested()}) {
      const ModelConfig config = tiny_config(d);
      const auto checkpoint = opened(temp, file_of(synthetic_tensors(config)));
      for (const auto compute : {at::kFloat, at::kBFloat16})
        for (const bool int8 : {false, true}) {
          Placement placement;
          placement.compute = compute;
          placement.int8 = int8;
          const auto built_by = [&](int threads) {
            CheckpointWeights weights(checkpoint);
            const Threads these(threads);
            return make_network(config, weights, placement);
          };
          const Tensor expected = run(*built_by(1));
          for (const int threads : {2, 3}) CHECK(same_bits(run(*built_by(threads)), expected));
        }
    }
    StoredTensors t = tiny_tensors();
    t.erase("model.backbone.pretrained.blocks.5.mlp.fc2.weight");
    CheckpointWeights weights(opened(temp, file_of(t)));
    const Threads three(3);
    const Refusal r = refusal_of([&] { make_network(tiny_config(tiny_any_view()), weights, {}); });
    CHECK(r.code == DA3_ERROR_WRONG_TYPE);
    CHECK(r.says("blocks.5.mlp.fc2.weight"));
  }
}

TEST_SUITE("the shared LayerNorm of the ray branch") {
  TEST_CASE("stored once, under any level") {
    for (int level = 0; level < 4; ++level) {
      CAPTURE(level);
      CHECK(same_bits(run_file(file_of(with_shared_norm(level))), expected()));
    }
  }

  TEST_CASE("it is really this one: other values give other rays and the same depth") {
    StoredTensors t = with_shared_norm(0);
    t[kNorm + "0.2.bias"] = store(at::full({32}, 0.5, at::TensorOptions(at::kFloat)));
    const Tensor out = run_file(file_of(t));
    CHECK(distance(out, expected()) > 1e-3);
    const int64_t pixels = 2 * 42 * 56;
    CHECK(same_bits(out.narrow(0, 0, 2 * pixels), expected().narrow(0, 0, 2 * pixels)));
  }

  TEST_CASE("with the aliases of an official file") {
    json metadata = {{"format", "pt"}};
    for (const char* level : {"1", "2", "3"})
      for (const char* part : {".2.weight", ".2.bias"}) metadata[kNorm + level + part] = kNorm + "0" + part;
    CHECK(same_bits(run_file(file_of(with_shared_norm(0), metadata)), expected()));
  }

  TEST_CASE("stored nowhere: missing, not filled up") {
    StoredTensors t = with_shared_norm(0);
    t.erase(kNorm + "0.2.weight");
    const Refusal r = refused(t);
    CHECK(r.says("missing"));
    CHECK(r.detail.find(kNorm + "3.2.weight") != std::string::npos);
    CHECK(r.detail.find(kNorm + "3.2.bias") == std::string::npos);
  }

  TEST_CASE("stored in another shape") {
    StoredTensors t = with_shared_norm(0);
    t[kNorm + "0.2.weight"] = store(at::ones({16}, at::TensorOptions(at::kFloat)));
    CHECK(refused(t).detail.find("is [16], must be [32]") != std::string::npos);
  }
}

TEST_SUITE("other names") {
  TEST_CASE("without the prefix, and with two of them") {
    for (const std::string prefix : {"", "module.model.", "model.model."}) {
      CAPTURE(prefix);
      StoredTensors t;
      for (auto& [key, value] : tiny_tensors()) t[prefix + key.substr(6)] = value;
      CHECK(same_bits(run_file(file_of(t)), expected()));
    }
  }

  TEST_CASE("of training checkpoints, whose camera token has another name and a namesake") {
    StoredTensors t;
    for (auto& [key, value] : with_shared_norm(0)) t[training_name(key)] = value;
    t["module.net.pretrained.camera_token"] = store(at::full({1, 2, 64}, 9.0, at::TensorOptions(at::kFloat)));
    REQUIRE(t.count("module.all_heads.head.scratch.output_conv2_ray.0.2.weight") == 1);
    CHECK(same_bits(run_file(file_of(t)), expected()));
  }
}

TEST_SUITE("a file that does not fit") {
  const std::string kToken = "model.backbone.pretrained.cls_token";

  TEST_CASE("a tensor is missing") {
    StoredTensors t = tiny_tensors();
    t.erase(kToken);
    const Refusal r = refused(t);
    CHECK(r.says("1 keys missing, 0 extra, 0 of another shape"));
    CHECK(r.says(kToken));
    CHECK(r.detail.find(kToken + " [1, 1, 64]") != std::string::npos);
  }

  TEST_CASE("a tensor that is never computed with is missing all the same") {
    StoredTensors t = tiny_tensors();
    t.erase("model.head.scratch.output_conv1_aux.0.0.weight");
    CHECK(refused(t).says("output_conv1_aux.0.0.weight"));
  }

  TEST_CASE("a tensor too many") {
    StoredTensors t = tiny_tensors();
    t["model.extra.weight"] = store(at::ones({2, 3}, at::TensorOptions(at::kFloat)));
    const Refusal r = refused(t);
    CHECK(r.says("0 keys missing, 1 extra, 0 of another shape"));
    CHECK(r.detail.find("model.extra.weight [2, 3]") != std::string::npos);
  }

  TEST_CASE("a tensor of another shape, transposed, or of another rank") {
    for (const auto& shape : {std::vector<int64_t>{96, 63}, {64, 96}, {96 * 64}, {96, 64, 1}}) {
      StoredTensors t = tiny_tensors();
      t["model.backbone.pretrained.blocks.3.mlp.fc1.weight"] =
          store(at::ones(shape, at::TensorOptions(at::kFloat)));
      const Refusal r = refused(t);
      CHECK(r.says("0 keys missing, 0 extra, 1 of another shape"));
      CHECK(r.detail.find("must be [96, 64]") != std::string::npos);
    }
  }

  TEST_CASE("everything at once: all of it is listed") {
    StoredTensors t = tiny_tensors();
    t.erase(kToken);
    t.erase("model.cam_dec.fc_t.bias");
    rename(&t, "model.head.norm.weight", "model.head.norm.scale");
    t["model.backbone.pretrained.norm.bias"] = store(at::ones({7}, at::TensorOptions(at::kFloat)));
    t["model.cam_dec.fc_t.weight"] = store(at::ones({3, 128}, at::TensorOptions(at::kInt)));
    const Refusal r = refused(t);
    CHECK(r.says("3 keys missing, 1 extra, 1 of another shape, 1 of a type that is no float"));
    CHECK(r.says("config.json"));
    for (const std::string name :
         {"backbone.pretrained.cls_token [1, 1, 64]", "cam_dec.fc_t.bias [3]", "head.norm.weight [128]",
          "head.norm.scale [128]", "backbone.pretrained.norm.bias: is [7], must be [64]",
          "cam_dec.fc_t.weight: I32"})
      CHECK_MESSAGE(r.detail.find("model." + name) != std::string::npos, name);
  }

  TEST_CASE("whole numbers are no weights") {
    StoredTensors t = tiny_tensors();
    t[kToken] = store(at::ones({1, 1, 64}, at::TensorOptions(at::kInt)));
    const Refusal r = refused(t);
    CHECK(r.says("1 of a type that is no float"));
    CHECK(r.detail.find(kToken + ": I32") != std::string::npos);
  }

  TEST_CASE("another model of the same family") {
    json wider = tiny_any_view();
    wider["config"]["net"]["embed_dim"] = 80;
    const Refusal r = refused(tiny_tensors(), wider);
    CHECK(r.says("of another shape"));
    CHECK(refused(synthetic_tensors(tiny_config(tiny_mono()))).says("keys missing"));
  }

  TEST_CASE("asking without a check still finds what is wrong") {
    const TempDir temp;
    StoredTensors t = tiny_tensors();
    t[kToken] = store(at::ones({1, 1, 64}, at::TensorOptions(at::kInt)));
    CheckpointWeights weights(opened(temp, file_of(t)));
    CHECK(refusal_of([&] { weights.take("model.none", {1}); }).says("'model.none' [1]"));
    CHECK(refusal_of([&] { weights.take(kToken, {1, 1, 64}); }).says("no floating-point"));
    CHECK(refusal_of([&] { weights.take("model.cam_dec.fc_t.bias", {4}); }).code == DA3_ERROR_WRONG_TYPE);
  }

  TEST_CASE("two names for one parameter") {
    const TempDir temp;
    StoredTensors t = tiny_tensors();
    t["module.net.pretrained.cls_token"] = t.at(kToken);
    const auto checkpoint = opened(temp, file_of(t));
    const Refusal r = refusal_of([&] { CheckpointWeights{checkpoint}; });
    CHECK(r.code == DA3_ERROR_WRONG_TYPE);
    CHECK(r.says("module.net.pretrained.cls_token"));
  }
}

TEST_SUITE("placement") {
  TEST_CASE("cameras: float32, and attention that any device has in it") {
    KeyList keys;
    for (const auto& [chosen, expected] :
         std::vector<std::pair<Da3Attention, Da3Attention>>{{DA3_ATTENTION_AUTO, DA3_ATTENTION_AUTO},
                                                            {DA3_ATTENTION_PLAIN, DA3_ATTENTION_PLAIN},
                                                            {DA3_ATTENTION_FUSED, DA3_ATTENTION_AUTO},
                                                            {DA3_ATTENTION_FLASH, DA3_ATTENTION_AUTO},
                                                            {DA3_ATTENTION_EFFICIENT, DA3_ATTENTION_AUTO},
                                                            {DA3_ATTENTION_CUDNN, DA3_ATTENTION_AUTO}}) {
      Placement half;
      half.compute = at::kHalf;
      half.attention = chosen;
      const Scope scope(keys, "model.", half), cameras = scope.in_float();
      CHECK((cameras.placement().compute == at::kFloat));
      CHECK(cameras.placement().attention == expected);
      CHECK(scope.placement().attention == chosen);  // the backbone keeps it
      CHECK(scope.for_head().placement().attention == chosen);
    }
  }
}
