// SPDX-License-Identifier: MIT
//
// The command line of da3-bench: what it understands and how it refuses.
#include "core/options.h"

#include <doctest/doctest.h>

#include <stdexcept>

using namespace da3::bench;

namespace {

const std::vector<std::string> kWorks = {"ceiling", "model"};

Options parse(const std::vector<std::string>& arguments) {
  return parse_options(arguments, kWorks);
}

std::string refusal(const std::vector<std::string>& arguments) {
  try {
    parse(arguments);
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

bool refuses(const std::vector<std::string>& arguments, const std::string& part) {
  const std::string text = refusal(arguments);
  INFO(text);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("an option that no work takes, or several values where one takes one") {
  const std::vector<std::string> names = {"one", "two"};
  const auto check = [&](std::vector<std::string> arguments,
                         const std::map<std::string, std::string>& takes) -> std::string {
    arguments.insert(arguments.begin(), "one");
    try {
      check_taken(parse_options(arguments, names), takes);
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  CHECK(check({"--json", "x", "--runs", "3"}, {{"one", ""}}).empty());
  CHECK(check({"--batch", "1,2"}, {{"one", "--size --batch"}}).empty());
  CHECK(check({"--batch", "1"}, {{"one", "--size"}}) == "no work asked for takes --batch (one)");
  // Of two works one is enough,
  CHECK(check({"--batch", "1"}, {{"one", "--size"}, {"two", "--batch=1"}}).empty());
  // but for each that takes it, it has to be as it can take it.
  CHECK(check({"--batch", "1,2"}, {{"one", "--batch"}, {"two", "--batch=1"}}) ==
        "work two takes one --batch, not 2");
  // No name is a part of another.
  CHECK(!check({"--dacpp", "x"}, {{"one", "--dacpp-model"}}).empty());
}

TEST_CASE("a full command line") {
  const Options o = parse({"model",
                           "ceiling",
                           "--quick",
                           "--device",
                           "cuda:1",
                           "--precision",
                           "fp32,bf16",
                           "--size",
                           "504x280,14x28",
                           "--batch",
                           "1,2",
                           "--views",
                           "5",
                           "--threads",
                           "2",
                           "--runs",
                           "3",
                           "--warm-up",
                           "0",
                           "--json",
                           "a.json",
                           "--model",
                           "synthetic:da3-small,folder"});
  CHECK(o.works == std::vector<std::string>{"model", "ceiling"});
  CHECK(o.quick);
  CHECK(o.device == "cuda:1");
  CHECK(o.precisions == std::vector<std::string>{"fp32", "bf16"});
  CHECK(o.sizes == std::vector<Size>{{504, 280}, {14, 28}});
  CHECK(o.batches == std::vector<int64_t>{1, 2});
  CHECK(o.views == std::vector<int64_t>{5});
  CHECK(o.runs == 3);
  CHECK(o.warm_up == 0);
  CHECK(o.json == "a.json");
  CHECK(o.models.size() == 2);
}

TEST_CASE("peers, their files and the folder of exported networks") {
  const Options o = parse({"model", "--peers", "onnxruntime-bf16,depth-anything.cpp", "--dacpp-model",
                           "a.gguf,b.gguf", "--onnx-folder", "kept"});
  CHECK(o.peers == std::vector<std::string>{"onnxruntime-bf16", "depth-anything.cpp"});
  CHECK(o.dacpp_models == std::vector<std::string>{"a.gguf", "b.gguf"});
  CHECK(o.onnx_folder == "kept");
}

TEST_CASE("all works, help, writing a model") {
  CHECK(parse({"all"}).works == kWorks);
  CHECK(parse({"--help"}).help);
  CHECK(parse({"nonsense", "-h"}).help);
  const Options o = parse({"write-model", "da3-small", "out", "--seed", "7"});
  CHECK(o.write_name == "da3-small");
  CHECK(o.write_folder == "out");
  CHECK(o.seed == 7);
}

TEST_CASE("works that are none") {
  CHECK(refuses({}, "which work"));
  CHECK(refuses({"--quick"}, "which work"));
  CHECK(refuses({"modle"}, "'modle'"));
  CHECK(refuses({"modle"}, "ceiling, model, all and write-model"));
  CHECK(refuses({"model", "ceilings"}, "'ceilings'"));
  CHECK(refuses({"write-model"}, "needs the name"));
  CHECK(refuses({"write-model", "da3-small"}, "and a folder"));
  CHECK(refuses({"write-model", "da3-small", "a", "b"}, "and a folder"));
}

TEST_CASE("options that are none or lack their value") {
  CHECK(refuses({"model", "--fast"}, "'--fast'"));
  CHECK(refuses({"model", "--json"}, "--json needs a value"));
  CHECK(refuses({"model", "--json", "--quick"}, "--json needs a value"));
  CHECK(refuses({"model", "--precision", "fp12"}, "'fp12'"));
  CHECK(refuses({"model", "--precision", "fp32,"}, "separated by commas"));
  CHECK(refuses({"model", "--mode", "turbo"}, "minimal, balanced, max"));
  CHECK(refuses({"model", "--peers", "tensorrt"}, "'tensorrt'"));
  CHECK(refuses({"model", "--dacpp-model", "a.gguf,"}, "separated by commas"));
  CHECK(refuses({"model", "--onnx-folder"}, "--onnx-folder needs a value"));
}

TEST_CASE("numbers and sizes out of range") {
  CHECK(refuses({"model", "--runs", "0"}, "1 to 100000, not '0'"));
  CHECK(refuses({"model", "--runs", "ten"}, "'ten'"));
  CHECK(refuses({"model", "--runs", "-1"}, "'-1'"));
  CHECK(refuses({"model", "--batch", "1,,2"}, "separated by commas"));
  CHECK(refuses({"model", "--batch", "99999999999999999999"}, "whole number"));
  CHECK(refuses({"model", "--threads", "0"}, "'0'"));
  CHECK(refuses({"model", "--neighbours", "0"}, "--neighbours"));
  CHECK(refuses({"model", "--size", "504"}, "WIDTHxHEIGHT"));
  CHECK(refuses({"model", "--size", "504x500"}, "multiples of 14"));
  CHECK(refuses({"model", "--size", "0x14"}, "'0'"));
  CHECK(refuses({"model", "--size", "x"}, "''"));
}
