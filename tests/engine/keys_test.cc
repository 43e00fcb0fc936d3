// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/checkpoint/checkpoint.h"
#include "goldens.h"

using da3::published_key;
using da3::published_keys;
using da3::shared_norm_candidates;
using da3::TensorView;

namespace {

using Names = std::vector<std::string>;
using Map = std::map<std::string, std::string>;

bool is_shared_norm(const std::string& key) {
  for (const char* level : {"0", "1", "2", "3"})
    for (const char* end : {".2.weight", ".2.bias"})
      if (key.ends_with(std::string("output_conv2_aux.") + level + end)) return true;
  return false;
}

std::map<std::string, TensorView> tensors(const Names& names) {
  std::map<std::string, TensorView> result;
  for (const std::string& name : names) result[name] = {};
  return result;
}

}  // namespace

TEST_SUITE("published names") {
  TEST_CASE("official names stay") {
    for (const char* key :
         {"model.backbone.pretrained.cls_token", "model.backbone.pretrained.camera_token",
          "model.backbone.pretrained.blocks.11.attn.q_norm.weight",
          "model.backbone.pretrained.blocks.0.mlp.w12.bias",
          "model.head.scratch.refinenet4_aux.resConfUnit2.conv1.weight",
          "model.head.scratch.sky_output_conv2.0.weight", "model.head.scratch.output_conv2_aux.0.2.bias",
          "model.cam_enc.trunk.3.ls2.gamma", "model.cam_dec.backbone.2.weight",
          "model.cam_dec.fc_qvec.weight", "model.gs_head.images_merger.4.weight",
          "model.da3.backbone.pretrained.norm.weight", "model.da3_metric.head.resize_layers.3.bias"}) {
      CHECK(published_key(key) == key);
    }
  }

  TEST_CASE("all official names of all models stay, and come back when the prefix is cut off") {
    const auto keys = da3::test::golden_json("state_keys.json");
    if (!keys) return;
    size_t count = 0;
    for (const auto& model : *keys) {
      for (const auto& [key, shape] : model.items()) {
        ++count;
        REQUIRE(published_key(key) == key);
        REQUIRE(published_key(key.substr(6)) == key);
        REQUIRE(published_key("module." + key.substr(6)) == key);
        for (const char* branch : {"model.da3.", "model.da3_metric."}) {
          const std::string nested = branch + key.substr(6);
          REQUIRE(published_key(nested) == nested);
          REQUIRE(published_key(nested.substr(6)) == nested);
        }
        REQUIRE(shared_norm_candidates(key, {}).empty() == !is_shared_norm(key));
      }
    }
    CHECK(count > 3000);
  }

  TEST_CASE("training checkpoints") {
    const std::pair<const char*, const char*> renames[] = {
        {"module.backbone.pretrained.norm.bias", "model.backbone.pretrained.norm.bias"},
        {"module.net.pretrained.cls_token", "model.backbone.pretrained.cls_token"},
        {"net.pretrained.cls_token", "model.backbone.pretrained.cls_token"},
        {"module.net.pretrained.camera_token_extra", "model.backbone.pretrained.camera_token"},
        {"module.all_heads.camera_cond_head.pose_branch.fc1.weight", "model.cam_enc.pose_branch.fc1.weight"},
        {"module.all_heads.camera_head.fc_t.weight", "model.cam_dec.fc_t.weight"},
        {"module.all_heads.camera_head.more_mlps.0.weight", "model.cam_dec.backbone.0.weight"},
        {"module.all_heads.camera_head.fc_rot.bias", "model.cam_dec.fc_qvec.bias"},
        {"module.all_heads.head.projects.0.weight", "model.head.projects.0.weight"},
        {"all_heads.head.scratch.output_conv2_additional.sky_mask.2.bias",
         "model.head.scratch.sky_output_conv2.2.bias"},
        {"module.all_heads.head.scratch.refinenet1_ray.out_conv.bias",
         "model.head.scratch.refinenet1_aux.out_conv.bias"},
        {"module.all_heads.head.scratch.output_conv2_ray.0.2.weight",
         "model.head.scratch.output_conv2_aux.0.2.weight"},
        {"gaussian_param_head.images_merger.0.weight", "model.gs_head.images_merger.0.weight"},
        {"module.model.head.norm.weight", "model.head.norm.weight"},
    };
    for (const auto& [stored, published] : renames) {
      CHECK(published_key(stored) == published);
      CHECK(published_key(published_key(stored)) == published);
    }
  }

  TEST_CASE("foreign names are left as they are, for the list of unexpected keys") {
    for (const char* key : {"", "model.", "foo", "foo.weight", "optimizer.state.0", "header.x",
                            "pretrained.cls_token", "xbackbone.a", "model"})
      CHECK(published_key(key) == key);
  }

  TEST_CASE("all names of a checkpoint: the extra camera token wins in either order") {
    for (const char* prefix : {"module.net.", "model.backbone."}) {
      const std::string token = std::string(prefix) + "pretrained.camera_token";
      const auto names = published_keys(tensors({token, token + "_extra", "model.x"}));
      CHECK(names.size() == 2);
      CHECK(names.at("model.backbone.pretrained.camera_token") == token + "_extra");
    }
    // Here the extra one sorts before the other.
    CHECK(published_keys(tensors({"model.backbone.a.camera_token_extra", "net.a.camera_token"}))
              .at("model.backbone.a.camera_token") == "model.backbone.a.camera_token_extra");
  }

  TEST_CASE("two tensors that claim one name") {
    for (const auto& names :
         {Names{"model.head.a", "head.a"}, Names{"module.net.a", "model.backbone.a", "net.b"},
          Names{"model.backbone.a.camera_token_extra", "net.a.camera_token_extra"}}) {
      try {
        published_keys(tensors(names));
        FAIL_CHECK("no error");
      } catch (const da3::EngineError& error) {
        CHECK(error.code() == DA3_ERROR_WRONG_TYPE);
        const std::string message = error.what();
        CHECK(message.find(names[0]) != std::string::npos);
        CHECK(message.find("twice") != std::string::npos);
      }
    }
  }
}

TEST_SUITE("shared norm") {
  const std::string kLevel = "model.head.scratch.output_conv2_aux.";

  TEST_CASE("key first, then every level") {
    CHECK(shared_norm_candidates(kLevel + "3.2.weight", {}) ==
          Names{kLevel + "3.2.weight", kLevel + "0.2.weight", kLevel + "1.2.weight", kLevel + "2.2.weight"});
    CHECK(shared_norm_candidates(kLevel + "0.2.bias", {}) ==
          Names{kLevel + "0.2.bias", kLevel + "1.2.bias", kLevel + "2.2.bias", kLevel + "3.2.bias"});
  }

  TEST_CASE("below the nested prefix, and without one") {
    for (const std::string prefix : {"model.da3.", "da3.", ""}) {
      const std::string level = prefix + "head.scratch.output_conv2_aux.";
      CHECK(shared_norm_candidates(level + "3.2.bias", {}) ==
            Names{level + "3.2.bias", level + "0.2.bias", level + "1.2.bias", level + "2.2.bias"});
    }
  }

  TEST_CASE("metadata names the stored level") {
    const Map metadata = {{kLevel + "3.2.weight", kLevel + "1.2.weight"}, {"format", "pt"}};
    CHECK(shared_norm_candidates(kLevel + "3.2.weight", metadata) ==
          Names{kLevel + "3.2.weight", kLevel + "1.2.weight", kLevel + "0.2.weight", kLevel + "2.2.weight"});
    CHECK(shared_norm_candidates(kLevel + "3.2.bias", metadata)[1] == kLevel + "0.2.bias");
  }

  TEST_CASE("metadata of a checkpoint without prefix") {
    const std::string level = kLevel.substr(6);
    const auto names =
        shared_norm_candidates(kLevel + "3.2.weight", {{level + "3.2.weight", level + "2.2.weight"}});
    REQUIRE(names.size() == 5);
    CHECK(names[1] == level + "2.2.weight");
    CHECK(names[2] == kLevel + "2.2.weight");
  }

  TEST_CASE("an alias to something else is not believed") {
    for (const std::string& target :
         {kLevel + "0.2.bias", kLevel + "0.5.weight", std::string("model.x"), std::string()}) {
      const auto names = shared_norm_candidates(kLevel + "3.2.weight", {{kLevel + "3.2.weight", target}});
      CHECK(names.size() == 4);
      CHECK(std::count(names.begin(), names.end(), target) == 0);
    }
  }

  TEST_CASE("other keys have no candidates") {
    for (const std::string& key :
         {kLevel + "3.0.weight", kLevel + "3.5.bias", kLevel + "4.2.weight", kLevel + "12.2.weight", kLevel,
          kLevel + "3.2.weight.x", kLevel + "3.2.gamma",
          std::string("model.head.scratch.output_conv1_aux.3.2.weight"),
          std::string("model.gs_head.scratch.output_conv2_aux.3.2.weight"), std::string(),
          std::string("model.backbone.pretrained.norm.weight")})
      CHECK(shared_norm_candidates(key, {{key, kLevel + "0.2.weight"}}).empty());
  }
}
