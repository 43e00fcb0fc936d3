// SPDX-License-Identifier: MIT
#include "train/run.h"

#include <fstream>

#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/safetensors_writer.h"
#include "tiny.h"
#include "train/probes.h"

// After LibTorch, some builds of which have a CHECK of their own.
#include <doctest/doctest.h>

using namespace da3;
using namespace da3::train;
using test::TempDir;

namespace {

const std::atomic<bool> kGoOn{false};

RunOptions tiny_run(const TempDir& dir, const std::string& name, int64_t steps) {
  RunOptions o;
  o.folder = dir / name;
  o.config = dir.write("config.json", test::tiny_train_config());
  o.schedule = test::tiny_schedule(steps);
  o.threads = 2;
  o.evaluate_every = 1000000;
  return o;
}

std::string content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TensorView view_of(const std::vector<float>& data, std::vector<int64_t> shape) {
  return {DType::f32, std::move(shape), data.data(), data.size() * sizeof(float)};
}

}  // namespace

TEST_CASE("train: a run that was stopped ends with the same bits as one that was not") {
  const TempDir dir;
  RunOptions whole = tiny_run(dir, "whole", 5), parts = tiny_run(dir, "parts", 5);
  CHECK(train::train(whole, kGoOn));
  parts.stop_after = 2;
  CHECK(!train::train(parts, kGoOn));
  CHECK(!train::train(parts, kGoOn));
  CHECK(train::train(parts, kGoOn));
  CHECK(content(dir / "whole/model.safetensors") == content(dir / "parts/model.safetensors"));
  CHECK(content(dir / "whole/history.jsonl") == content(dir / "parts/history.jsonl"));
  CHECK(content(dir / "whole/loss.svg").find("</svg>") != std::string::npos);
}

TEST_CASE("train: a run whose heads rest in some steps resumes with the same bits and logs what it did") {
  const TempDir dir;
  RunOptions whole = tiny_run(dir, "whole", 1), parts = tiny_run(dir, "parts", 1);
  whole.schedule.phases = parts.schedule.phases = {{7, 2, 56}, {1, 2, 56}};
  CHECK(train::train(whole, kGoOn));
  parts.stop_after = 3;
  CHECK(!train::train(parts, kGoOn));
  CHECK(!train::train(parts, kGoOn));
  CHECK(train::train(parts, kGoOn));
  CHECK(content(dir / "whole/model.safetensors") == content(dir / "parts/model.safetensors"));
  CHECK(content(dir / "whole/history.jsonl") == content(dir / "parts/history.jsonl"));
  std::ifstream in(dir / "whole/history.jsonl");
  int without = 0, steps = 0;
  for (std::string line; std::getline(in, line);) {
    const test::json row = test::json::parse(line);
    if (!row.contains("loss")) continue;  // scores
    const StepPlan plan = whole.schedule.plan(row["step"].get<int64_t>());
    CHECK(row.contains("depth") == plan.maps);
    CHECK(row.contains("ray") == plan.ray);
    CHECK(row.contains("match") == (plan.views > 1));
    CHECK(row["probe"].get<double>() > 0);
    without += !plan.maps;
    ++steps;
  }
  CHECK(steps == 8);
  CHECK(without > 0);
}

TEST_CASE("train: a run that goes on under another schedule says so, and only then") {
  const TempDir dir;
  RunOptions o = tiny_run(dir, "run", 4);
  o.stop_after = 2;
  CHECK(!train::train(o, kGoOn));
  o.stop_after = 1;
  CHECK(!train::train(o, kGoOn));
  CHECK(content(dir / "run/history.jsonl").find("from here on") == std::string::npos);
  o.schedule.learning_rate /= 2;
  CHECK(train::train(o, kGoOn));
  const std::string history = content(dir / "run/history.jsonl");
  const size_t at = history.find("from here on");
  REQUIRE(at != std::string::npos);
  CHECK(history.find(describe(o.schedule), at) != std::string::npos);
  CHECK(history.find("from here on", at + 1) == std::string::npos);
}

TEST_CASE("train: token probes are kept in the state and not in the checkpoint") {
  const TempDir dir;
  train::train(tiny_run(dir, "run", 1), kGoOn);
  const auto has = [](const Checkpoint& c, const std::string& part) {
    for (const auto& [name, view] : c.tensors())
      if (name.find(part) != std::string::npos) return true;
    return false;
  };
  CHECK(!has(*Checkpoint::open(dir / "run"), kProbePrefix));
  CHECK(has(*Checkpoint::open(dir / "run/state.safetensors"), std::string("value.") + kProbePrefix));
}

TEST_CASE("train: a state without the token probes is refused and kept") {
  const TempDir dir;
  RunOptions o = tiny_run(dir, "run", 2);
  o.stop_after = 1;
  train::train(o, kGoOn);
  {
    const auto state = Checkpoint::open(dir / "run/state.safetensors");
    std::map<std::string, TensorView> rest;
    for (const auto& [name, view] : state->tensors())
      if (name.find(kProbePrefix) == std::string::npos) rest[name] = view;
    CHECK(rest.size() < state->tensors().size());
    write_safetensors(dir / "old.safetensors", rest, state->metadata());
  }
  std::filesystem::rename(dir / "old.safetensors", dir / "run/state.safetensors");
  const std::string before = content(dir / "run/state.safetensors");
  CHECK_THROWS_WITH_AS(train::train(o, kGoOn), doctest::Contains("probe."), std::runtime_error);
  CHECK(content(dir / "run/state.safetensors") == before);
}

TEST_CASE("train: the checkpoint is one that the loader takes, with the published names") {
  const TempDir dir;
  train::train(tiny_run(dir, "run", 1), kGoOn);
  const auto checkpoint = Checkpoint::open(dir / "run");
  const ModelConfig config = config_of(*checkpoint);
  CheckpointWeights weights(checkpoint);
  weights.check(network_keys(config));
  CHECK(config.backbone.width == 32);
  CHECK(checkpoint->tensors().count("model.head.scratch.output_conv2_aux.0.2.weight") == 1);
  CHECK(checkpoint->tensors().count("model.head.scratch.output_conv2_aux.3.2.weight") == 0);
  CHECK(checkpoint->tensors().at("model.backbone.pretrained.cls_token").dtype == DType::f16);
}

TEST_CASE("train: a signal stops a run before its first step and keeps a state") {
  const TempDir dir;
  const std::atomic<bool> now{true};
  CHECK(!train::train(tiny_run(dir, "run", 5), now));
  CHECK(std::filesystem::exists(dir / "run/state.safetensors"));
}

TEST_CASE("train: a state of another model is refused and kept") {
  const TempDir dir;
  RunOptions o = tiny_run(dir, "run", 1);
  train::train(o, kGoOn);
  const std::string before = content(dir / "run/state.safetensors");
  test::json other = test::json::parse(test::tiny_train_config());
  other["config"]["net"]["embed_dim"] = 64;
  o.config = dir.write("other.json", other.dump());
  CHECK_THROWS_WITH_AS(train::train(o, kGoOn), doctest::Contains("another model"), std::runtime_error);
  CHECK(content(dir / "run/state.safetensors") == before);
}

TEST_CASE("train: models without cameras are refused") {
  const TempDir dir;
  RunOptions o = tiny_run(dir, "run", 1);
  o.config = dir.write("mono.json", test::tiny_mono().dump());
  CHECK_THROWS_AS(train::train(o, kGoOn), std::invalid_argument);
}

TEST_CASE("train: a configuration that is not there") {
  const TempDir dir;
  RunOptions o = tiny_run(dir, "run", 1);
  o.config = dir / "none.json";
  CHECK_THROWS_AS(train::train(o, kGoOn), std::runtime_error);
}

TEST_CASE("train: a folder that cannot be made") {
  const TempDir dir;
  RunOptions o = tiny_run(dir, "run", 1);
  o.folder = dir.write("file", "x") + "/run";
  CHECK_THROWS(train::train(o, kGoOn));
}

TEST_CASE("train: a checkpoint is scored on both kinds of held-out scenes") {
  const TempDir dir;
  train::train(tiny_run(dir, "run", 1), kGoOn);
  score_model(dir / "run", "cpu", 1, 56, 42, 1, dir / "scores.json");
  const test::json scores = test::json::parse(content(dir / "scores.json"));
  REQUIRE(scores.size() == 8);
  for (const auto& row : scores) {
    CHECK(row["abs_rel"].is_number());
    CHECK(row["delta1"].get<double>() <= 1);
    CHECK(row["rotation_error_deg"].is_null() == (row["views"] == 1));
  }
}

TEST_CASE("train: scoring what is no checkpoint") {
  const TempDir dir;
  CHECK_THROWS(score_model(dir / "none", "cpu", 1, 56, 42, 1, ""));
}

TEST_CASE("safetensors: what is written is read again") {
  const TempDir dir;
  const std::vector<float> a = {1, 2, 3, 4, 5, 6}, scalar = {7};
  const uint8_t byte = 9;
  const TensorView small{DType::u8, {1}, &byte, 1};
  write_safetensors(dir / "a.safetensors",
                    {{"a", view_of(a, {2, 3})}, {"s", view_of(scalar, {})}, {"0", small}},
                    {{"format", "pt"}});
  const auto c = Checkpoint::open(dir / "a.safetensors");
  REQUIRE(c->tensors().size() == 3);
  const TensorView& v = c->tensors().at("a");
  CHECK(v.shape == std::vector<int64_t>({2, 3}));
  CHECK(std::equal(a.begin(), a.end(), static_cast<const float*>(v.data)));
  CHECK(reinterpret_cast<uintptr_t>(v.data) % sizeof(float) == 0);
  CHECK(c->metadata().at("format") == "pt");
  CHECK(!std::filesystem::exists(dir / "a.safetensors.part"));
}

TEST_CASE("safetensors: data that do not fit their shape") {
  const TempDir dir;
  const std::vector<float> a = {1, 2, 3};
  CHECK_THROWS_AS(write_safetensors(dir / "a", {{"a", view_of(a, {2, 3})}}), std::invalid_argument);
  CHECK(!std::filesystem::exists(dir / "a"));
}

TEST_CASE("safetensors: a folder that is not there") {
  const std::vector<float> a = {1};
  CHECK_THROWS_WITH_AS(write_safetensors("/nonexistent/a", {{"a", view_of(a, {1})}}),
                       doctest::Contains("/nonexistent/a"), std::runtime_error);
}

TEST_CASE("safetensors: a full disk leaves the old file") {
  if (!std::filesystem::exists("/dev/full")) return;
  const TempDir dir;
  const std::vector<float> a(1 << 16, 1.0f);
  write_safetensors(dir / "a", {{"a", view_of({a[0]}, {1})}});
  const std::string before = content(dir / "a");
  std::filesystem::create_symlink("/dev/full", dir / "a.part");
  CHECK_THROWS_AS(write_safetensors(dir / "a", {{"a", view_of(a, {1 << 16})}}), std::runtime_error);
  CHECK(content(dir / "a") == before);
}
