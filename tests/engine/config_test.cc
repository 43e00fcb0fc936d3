// SPDX-License-Identifier: MIT
//
// What a config.json says, what it may not say, and what tensor shapes say without one.
#include "engine/network/config.h"

#include <doctest/doctest.h>

#include <functional>

#include "tiny_model.h"

using namespace da3;
using namespace da3::test;

namespace {

// The refusal of tiny_any_view() after a change.
Refusal refused(const std::function<void(json&)>& change, json description = tiny_any_view()) {
  change(description);
  const Refusal r = refusal_of([&] { config_from_json(description.dump()); });
  CHECK(r.code == DA3_ERROR_WRONG_TYPE);
  CHECK(r.says("config.json"));
  return r;
}

Refusal refused_text(const std::string& text) {
  const Refusal r = refusal_of([&] { config_from_json(text); });
  CHECK(r.code == DA3_ERROR_WRONG_TYPE);
  CHECK(r.says("config.json"));
  return r;
}

json& net(json& description) {
  return description["config"]["net"];
}

std::shared_ptr<Checkpoint> checkpoint_with(const TempDir& temp,
                                            const std::map<std::string, std::vector<int64_t>>& shapes) {
  StoredTensors tensors;
  for (const auto& [key, shape] : shapes)
    tensors[key] = store(at::zeros(shape, at::TensorOptions(at::kFloat)));
  return Checkpoint::open(temp.write("model.safetensors", file_of(tensors)));
}

}  // namespace

TEST_SUITE("built in") {
  TEST_CASE("every name, with what upstream's table says") {
    struct Row {
      const char* name;
      int64_t width;
      int depth, heads, alt_start;
      bool dual, gaussians, nested, focal;
    };
    const Row rows[] = {{"da3-small", 384, 12, 6, 4, true, false, false, false},
                        {"da3-base", 768, 12, 12, 4, true, false, false, false},
                        {"da3-large", 1024, 24, 16, 8, true, false, false, false},
                        {"da3-giant", 1536, 40, 24, 13, true, true, false, false},
                        {"da3mono-large", 1024, 24, 16, -1, false, false, false, false},
                        {"da3metric-large", 1024, 24, 16, -1, false, false, false, true},
                        {"da3nested-giant-large", 1536, 40, 24, 13, true, true, true, false}};
    CHECK(builtin_config_names().size() == std::size(rows));
    for (const Row& r : rows) {
      CAPTURE(r.name);
      const ModelConfig c = builtin_config(r.name);
      CHECK(c.name == r.name);
      CHECK(c.backbone.width == r.width);
      CHECK(c.backbone.depth == r.depth);
      CHECK(c.backbone.heads == r.heads);
      CHECK(c.backbone.alt_start == r.alt_start);
      CHECK(c.backbone.cat_token == (r.alt_start >= 0));
      CHECK(c.head.dual == r.dual);
      CHECK(c.cameras == r.dual);
      CHECK(c.gaussians.has_value() == r.gaussians);
      CHECK(c.nested() == r.nested);
      CHECK(c.focal_normalised == r.focal);
    }
    CHECK(builtin_config("da3nested-giant-large").metric->focal_normalised);
  }

  TEST_CASE("global blocks: odd ones from alt_start on") {
    const BackboneConfig giant = builtin_config("da3-giant").backbone;
    std::vector<int> global;
    for (int i = 0; i < giant.depth; ++i)
      if (giant.is_global(i)) global.push_back(i);
    CHECK(global == std::vector<int>{13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39});
    const BackboneConfig mono = builtin_config("da3mono-large").backbone;
    for (int i = 0; i < mono.depth; ++i) CHECK(!mono.is_global(i));
  }

  TEST_CASE("a name that is none: all names") {
    const Refusal r = refusal_of([] { builtin_config("da3-tiny"); });
    CHECK(r.code == DA3_ERROR_SETTINGS);
    CHECK(r.says("'da3-tiny'"));
    for (const auto& name : builtin_config_names()) CHECK(r.says(name));
  }
}

TEST_SUITE("config.json") {
  TEST_CASE("the name alone is enough") {
    for (const auto& name : builtin_config_names()) {
      const ModelConfig c = config_from_json(json{{"model_name", name}}.dump());
      CHECK(c.name == name);
      CHECK(network_keys(c).size() == network_keys(builtin_config(name)).size());
    }
  }

  TEST_CASE("an incomplete tree under config falls back to the name") {
    CHECK(config_from_json(R"({"model_name": "da3-base", "config": {}})").backbone.width == 768);
    CHECK(config_from_json(R"({"model_name": "da3-base", "config": {"net": {}}})").backbone.width == 768);
    CHECK(config_from_json(R"({"model_name": "da3-base", "config": 7})").backbone.width == 768);
  }

  TEST_CASE("as published: the whole tree, with a preset backbone") {
    const char* text = R"({"model_name": "da3-base", "config": {
      "__object__": {"path": "x", "name": "DepthAnything3Net", "args": "as_params"},
      "net": {"__object__": {"name": "DinoV2"}, "name": "vitb", "out_layers": [5, 7, 9, 11], "alt_start": 4,
              "qknorm_start": 4, "rope_start": 4, "cat_token": true},
      "head": {"__object__": {"name": "DualDPT"}, "dim_in": 1536, "output_dim": 2, "features": 128,
               "out_channels": [96, 192, 384, 768]},
      "cam_enc": {"dim_out": 768}, "cam_dec": {"dim_in": 1536}}})";
    const ModelConfig c = config_from_json(text), b = builtin_config("da3-base");
    CHECK(c.backbone.width == b.backbone.width);
    CHECK(c.backbone.heads == b.backbone.heads);
    CHECK(c.backbone.ffn_hidden == b.backbone.ffn_hidden);
    CHECK(c.backbone.out_layers == b.backbone.out_layers);
    CHECK(c.head.out_channels == b.head.out_channels);
    CHECK(c.cameras);
    const auto x = network_keys(c), y = network_keys(b);
    REQUIRE(x.size() == y.size());
    for (size_t i = 0; i < x.size(); ++i) {
      CHECK(x[i].key == y[i].key);
      CHECK(x[i].shape == y[i].shape);
    }
  }

  TEST_CASE("the tree wins over the name, whatever that is") {
    json d = tiny_any_view();
    d["model_name"] = "da3-large";
    CHECK(tiny_config(d).backbone.width == 64);
    d.erase("model_name");
    CHECK(tiny_config(d).name == "custom");
  }

  TEST_CASE("a custom backbone: every field") {
    json d = tiny_any_view();
    net(d)["ffn_layer"] = "swiglu";
    const ModelConfig c = tiny_config(d);
    CHECK(c.backbone.width == 64);
    CHECK(c.backbone.depth == 8);
    CHECK(c.backbone.heads == 4);
    CHECK(c.backbone.ffn_hidden == 96);
    CHECK(c.backbone.pos_grid == 6);
    CHECK(c.backbone.swiglu);
    CHECK(c.backbone.feature_width() == 128);
    net(d).erase("ffn_hidden");
    CHECK(tiny_config(d).backbone.ffn_hidden == 256);
  }

  TEST_CASE("nested") {
    const ModelConfig c = tiny_config(tiny_nested());
    REQUIRE(c.nested());
    CHECK(c.head.dual);
    CHECK(!c.metric->head.dual);
    CHECK(c.metric->backbone.alt_start == -1);
    CHECK(!c.focal_normalised);
  }

  TEST_CASE("the size that a model is meant for") {
    json d = tiny_any_view();
    CHECK(tiny_config(d).process_res == 504);
    d["process_res"] = 252;
    CHECK(tiny_config(d).process_res == 252);
  }
  TEST_CASE("a size that is none") {
    for (const json& bad : {json(250), json(0), json(-14), json("252"), json(14000)}) {
      refused([&](json& d) { d["process_res"] = bad; });
    }
  }

  TEST_CASE("is not JSON") {
    for (const char* text : {"", "{", "not json", "{\"model_name\": }", "\xff\xfe"})
      CHECK(refused_text(text).says("is not valid JSON"));
  }

  TEST_CASE("is JSON of another kind") {
    for (const char* text : {"[]", "[1, 2]", "7", "\"da3-small\"", "null", "true"})
      CHECK(refused_text(text).says("is not a JSON object"));
  }

  TEST_CASE("unknown name, no name") {
    const Refusal unknown = refused_text(R"({"model_name": "da3-huge"})");
    CHECK(unknown.says("'da3-huge'"));
    CHECK(unknown.says("da3-small"));
    CHECK(refused_text("{}").says("neither a 'model_name' nor a complete 'config'"));
    CHECK(refused_text(R"({"model_name": ""})").says("neither"));
    CHECK(refused_text(R"({"model_name": 7})").says("wrong type"));
    CHECK(refused_text(R"({"model_name": null})").says("wrong type"));
  }

  TEST_CASE("missing fields are named") {
    for (const char* field : {"depth", "num_heads", "out_layers"}) {
      CAPTURE(field);
      CHECK(refused([&](json& d) { net(d).erase(field); }).says(std::string("'") + field + "'"));
    }
    for (const char* field : {"features", "out_channels"}) {
      CAPTURE(field);
      CHECK(refused([&](json& d) { d["config"]["head"].erase(field); }).says(std::string("'") + field + "'"));
    }
    CHECK(refused([](json& d) { net(d).erase("embed_dim"); }).says("unknown backbone ''"));
  }

  TEST_CASE("an unknown preset") {
    CHECK(refused([](json& d) {
            net(d).erase("embed_dim");
            net(d)["name"] = "vith";
          }).says("'vith' (vits, vitb, vitl, vitg)"));
  }

  TEST_CASE("values of the wrong type") {
    for (const char* field : {"embed_dim", "depth", "num_heads", "alt_start"})
      for (const json& value : {json("8"), json(8.5), json(nullptr), json::array({8}), json(true)}) {
        CAPTURE(field);
        CAPTURE(value.dump());
        CHECK(refused([&](json& d) { net(d)[field] = value; }).says(std::string("'") + field + "'"));
      }
    CHECK(refused([](json& d) { net(d)["cat_token"] = "yes"; }).says("wrong type"));
    CHECK(refused([](json& d) { net(d)["ffn_layer"] = 3; }).says("wrong type"));
    CHECK(refused([](json& d) { d["config"]["net"] = "vits"; }).says("wrong type"));
    CHECK(refused([](json& d) { d["config"]["head"]["__object__"] = "DPT"; }).says("wrong type"));
    refused([](json& d) { d["config"]["head"] = nullptr; });
    refused([](json& d) { d["config"]["head"] = json::array(); });
    refused([](json& d) { net(d)["out_layers"] = "1,3,5,7"; });
    refused([](json& d) { net(d)["out_layers"] = {1, 3, 5}; });
    refused([](json& d) { net(d)["out_layers"] = {1, 3, 5, "7"}; });
  }

  TEST_CASE("impossible numbers") {
    for (const char* field : {"embed_dim", "depth", "num_heads", "ffn_hidden", "pos_grid"})
      for (const int64_t value : {int64_t(0), int64_t(-1), int64_t(-5), int64_t(1) << 40}) {
        CAPTURE(field);
        CAPTURE(value);
        CHECK(refused([&](json& d) { net(d)[field] = value; }).says(std::to_string(value)));
      }
    refused([](json& d) { d["config"]["head"]["features"] = 0; });
    refused([](json& d) { d["config"]["head"]["features"] = 20; });
    refused([](json& d) { d["config"]["head"]["out_channels"] = {16, 16, 32, -32}; });
    refused([](json& d) { d["config"]["head"]["out_channels"] = {16, 16, 30, 32}; });
    refused([](json& d) { d["config"]["head"]["out_channels"] = {0, 16, 32, 32}; });
  }

  TEST_CASE("a width that the heads do not divide") {
    CHECK(refused([](json& d) { net(d)["num_heads"] = 5; }).says("num_heads does not divide"));
    CHECK(refused([](json& d) { net(d)["num_heads"] = 32; }).says("no multiple of 4"));
    // Without rotary positions the width of a head is free.
    json d = tiny_mono();
    net(d)["num_heads"] = 32;
    CHECK(tiny_config(d).backbone.heads == 32);
  }

  TEST_CASE("blocks: alt_start and out_layers") {
    CHECK(refused([](json& d) { net(d)["rope_start"] = 3; }).says("'alt_start' and 'rope_start'"));
    CHECK(refused([](json& d) { net(d)["qknorm_start"] = -1; }).says("'qknorm_start'"));
    for (const int value : {0, 8, 100})
      CHECK(refused([&](json& d) {
              net(d)["alt_start"] = net(d)["rope_start"] = net(d)["qknorm_start"] = value;
            }).says("alt_start outside"));
    for (const std::vector<int>& layers :
         {std::vector<int>{1, 3, 5, 8}, {1, 1, 5, 7}, {7, 5, 3, 1}, {1, 5, 3, 7}, {0, 1, 2, 100}})
      CHECK(refused([&](json& d) { net(d)["out_layers"] = layers; }).says("out_layers that do not rise"));
    CHECK(refused([](json& d) { net(d)["out_layers"] = {-1, 3, 5, 7}; }).says("negative"));
  }

  TEST_CASE("words that are not known are not guessed") {
    CHECK(refused([](json& d) { net(d)["ffn_layer"] = "moe"; }).says("'moe'"));
    CHECK(refused([](json& d) {
            d["config"]["head"]["__object__"]["name"] = "TripleDPT";
          }).says("'TripleDPT'"));
  }

  TEST_CASE("parts that do not go together") {
    // A head without confidence and rays has no cameras, Gaussians need cameras.
    refused([](json& d) { d["config"]["head"]["__object__"]["name"] = "DPT"; });
    refused([](json& d) { d["config"].erase("cam_dec"); }, tiny_any_view(true));
    refused([](json& d) { d["config"]["gs_head"] = tiny_head("GSDPT"); }, tiny_mono());
    refused([](json& d) { d["config"]["gs_adapter"]["sh_degree"] = 3; }, tiny_any_view(true));
    // The metric branch finds sky, the other one poses.
    refused([](json& d) { d["config"]["metric"] = d["config"]["anyview"]; }, tiny_nested());
    refused([](json& d) { d["config"]["anyview"] = d["config"]["metric"]; }, tiny_nested());
    // Sixteen heads in the camera encoder, whatever the width.
    CHECK(refused([](json& d) {
            net(d)["embed_dim"] = 40;
            net(d)["num_heads"] = 2;
          }).says("16"));
  }

  TEST_CASE("a broken branch of a nested model is not passed over") {
    CHECK(
        refused([](json& d) { d["config"]["metric"]["net"].erase("depth"); }, tiny_nested()).says("'depth'"));
    // Without one of them the name decides, and this one is unknown.
    CHECK(refused([](json& d) { d["config"].erase("metric"); }, tiny_nested()).says("'tiny-nested'"));
  }
}

TEST_SUITE("by shapes") {
  TEST_CASE("every width") {
    const TempDir temp;
    const std::string cls = "model.backbone.pretrained.cls_token", cameras = "model.cam_dec.fc_t.weight";
    const std::tuple<int64_t, bool, const char*> rows[] = {{384, true, "da3-small"},
                                                           {768, true, "da3-base"},
                                                           {1024, true, "da3-large"},
                                                           {1024, false, "da3mono-large"},
                                                           {1536, true, "da3-giant"}};
    for (const auto& [width, with_cameras, name] : rows) {
      CAPTURE(name);
      std::map<std::string, std::vector<int64_t>> shapes = {{cls, {1, 1, width}}};
      if (with_cameras) shapes[cameras] = {3, 2 * width};
      CHECK(detect_config(*checkpoint_with(temp, shapes)).name == name);
      CHECK(da3::config_of(*checkpoint_with(temp, shapes)).name == name);
    }
  }

  TEST_CASE("names of training checkpoints and names without prefix") {
    const TempDir temp;
    CHECK(detect_config(*checkpoint_with(temp, {{"module.net.pretrained.cls_token", {1, 1, 384}}})).name ==
          "da3-small");
    CHECK(detect_config(*checkpoint_with(temp, {{"backbone.pretrained.cls_token", {1, 1, 768}}})).name ==
          "da3-base");
    CHECK(detect_config(*checkpoint_with(temp, {{"module.net.pretrained.cls_token", {1, 1, 1024}},
                                                {"module.all_heads.camera_head.fc_t.weight", {3, 2048}}}))
              .name == "da3-large");
  }

  TEST_CASE("nested") {
    const TempDir temp;
    CHECK(detect_config(
              *checkpoint_with(temp, {{"model.da3.backbone.pretrained.cls_token", {1, 1, 1536}},
                                      {"model.da3_metric.backbone.pretrained.cls_token", {1, 1, 1024}}}))
              .nested());
  }

  TEST_CASE("config.json wins over shapes") {
    const TempDir temp;
    temp.write("config.json", R"({"model_name": "da3-base"})");
    const auto checkpoint = checkpoint_with(temp, {{"model.backbone.pretrained.cls_token", {1, 1, 384}}});
    CHECK(da3::config_of(*checkpoint).name == "da3-base");
  }

  TEST_CASE("another network, another width, a token of another kind") {
    const TempDir temp;
    const auto refused_shapes = [&](const std::map<std::string, std::vector<int64_t>>& shapes) {
      const Refusal r = refusal_of([&] { detect_config(*checkpoint_with(temp, shapes)); });
      CHECK(r.code == DA3_ERROR_WRONG_TYPE);
      CHECK(r.says(temp / "model.safetensors"));
      return r;
    };
    CHECK(refused_shapes({{"bert.embeddings.weight", {10, 4}}}).says("no Depth Anything 3 network"));
    CHECK(
        refused_shapes({{"model.backbone.pretrained.cls_token", {384}}}).says("no Depth Anything 3 network"));
    const Refusal width = refused_shapes({{"model.backbone.pretrained.cls_token", {1, 1, 500}}});
    CHECK(width.says("500"));
    CHECK(width.says("config.json"));
  }
}
