// SPDX-License-Identifier: MIT
#include "engine/checkpoint/checkpoint.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>

#include "engine/checkpoint/locate.h"
#include "temp_files.h"

using da3::Checkpoint;
using da3::DType;
using da3::EngineError;
using da3::test::safetensors;
using da3::test::TempDir;
using da3::test::Variable;
using da3::test::with_header;
namespace fs = std::filesystem;

namespace {

struct Failure {
  Da3ErrorCode code = DA3_OK;
  std::string message, detail;
};

// What Checkpoint::open() says of `model`; a case fails when it says nothing.
Failure failure_of(const std::string& model) {
  try {
    Checkpoint::open(model);
  } catch (const EngineError& error) {
    INFO("message: ", error.what());
    CHECK(std::string(error.what()).find("\n") == std::string::npos);
    CHECK(std::string(error.what()).size() > 20);
    return {error.code(), error.what(), error.detail()};
  }
  FAIL("no error for ", model);
  return {};
}

bool says(const Failure& failure, const std::string& text) {
  if (failure.message.find(text) != std::string::npos) return true;
  MESSAGE("\"" << failure.message << "\" lacks \"" << text << "\"");
  return false;
}

// A cache and a home of the test's own, so that the caches of whoever runs it play no part.
struct Caches {
  TempDir temp;
  Variable hub{"HF_HUB_CACHE", std::nullopt}, home{"HF_HOME", std::nullopt},
      xdg{"XDG_CACHE_HOME", std::nullopt}, user{"HOME", temp / "home"};
};

const std::string kCommit = "0123456789abcdef0123456789abcdef01234567";

// A repository as huggingface_hub lays it out: files are links to blobs.
void cache_repository(const TempDir& temp, const std::string& cache, const std::string& folder,
                      const std::string& content, const std::string& commit = kCommit, bool main = true) {
  const std::string root = cache + "/" + folder;
  temp.write(root + "/blobs/weights-" + commit, content);
  temp.write(root + "/blobs/config-" + commit, "{\"model_name\": \"da3-small\"}");
  const std::string snapshot = root + "/snapshots/" + commit;
  temp.link("../../blobs/weights-" + commit, snapshot + "/model.safetensors");
  temp.link("../../blobs/config-" + commit, snapshot + "/config.json");
  if (main) temp.write(root + "/refs/main", commit);
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets +
         "}";
}

// The error for a file with this header and so many bytes of data.
Failure header_failure(const std::string& header, size_t data_bytes) {
  const TempDir temp;
  const Failure failure =
      failure_of(temp.write("model.safetensors", with_header(header, std::string(data_bytes, 'x'))));
  CHECK(failure.code == DA3_ERROR_WRONG_TYPE);
  CHECK(says(failure, temp / "model.safetensors"));
  return failure;
}

// The error for a file with this content.
Failure content_failure(const std::string& content, const std::string& name = "model.safetensors") {
  const TempDir temp;
  const Failure failure = failure_of(temp.write(name, content));
  CHECK(failure.code == DA3_ERROR_WRONG_TYPE);
  CHECK(says(failure, temp / name));
  return failure;
}

}  // namespace

TEST_SUITE("files") {
  TEST_CASE("a file: names, shapes, values, metadata, no copy") {
    const TempDir temp;
    const std::string path = temp.write(
        "x.safetensors", safetensors({{"b", {4, 5}}, {"a", {1, 2, 3}}}, R"({"format": "pt", "c": "a"})"));
    const auto checkpoint = Checkpoint::open(path);
    REQUIRE(checkpoint->tensors().size() == 2);
    const auto& a = checkpoint->tensors().at("a");
    CHECK(a.dtype == DType::f32);
    CHECK(a.shape == std::vector<int64_t>{3});
    CHECK(a.bytes == 12);
    CHECK(static_cast<const float*>(a.data)[2] == 3.0f);
    const auto& b = checkpoint->tensors().at("b");
    CHECK(static_cast<const char*>(b.data) - static_cast<const char*>(a.data) == 12);
    CHECK(checkpoint->metadata().at("c") == "a");
    CHECK(checkpoint->metadata().at("format") == "pt");
    CHECK(!checkpoint->config_json());
    CHECK(checkpoint->source() == path);
    CHECK(checkpoint->licence() == "");
  }

  TEST_CASE("tensors outlive every other reference but the checkpoint's, and the file's name") {
    const TempDir temp;
    const std::string path = temp.write("x.safetensors", safetensors({{"a", {1, 2}}}));
    const auto checkpoint = Checkpoint::open(path);
    fs::remove(path);
    CHECK(static_cast<const float*>(checkpoint->tensors().at("a").data)[1] == 2.0f);
  }

  TEST_CASE("every dtype, scalars and empty tensors") {
    const std::pair<const char*, size_t> types[] = {{"F32", 4}, {"F16", 2},  {"BF16", 2},    {"F64", 8},
                                                    {"I64", 8}, {"I32", 4},  {"I16", 2},     {"I8", 1},
                                                    {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
    const TempDir temp;
    for (const auto& [name, bytes] : types) {
      CAPTURE(name);
      const std::string size = std::to_string(bytes);
      const std::string header = "{" + entry("scalar", name, "[]", "[0," + size + "]") + "," +
                                 entry("empty", name, "[3,0]", "[" + size + "," + size + "]") + "}";
      const auto checkpoint =
          Checkpoint::open(temp.write("x.safetensors", with_header(header, std::string(bytes, 'x'))));
      const auto& scalar = checkpoint->tensors().at("scalar");
      CHECK(std::string(da3::name_of(scalar.dtype)) == name);
      CHECK(da3::size_of(scalar.dtype) == bytes);
      CHECK(scalar.shape.empty());
      CHECK(scalar.bytes == bytes);
      CHECK(checkpoint->tensors().at("empty").bytes == 0);
      CHECK(checkpoint->hash().size() == 16);
    }
  }

  TEST_CASE("config.json beside a file, and beside the target of a link") {
    const TempDir temp;
    const std::string path = temp.write("real/x.safetensors", safetensors({{"a", {1}}}));
    temp.write("real/config.json", "{\"model_name\": \"da3-base\"}");
    temp.link(path, "elsewhere/link.safetensors");
    CHECK(Checkpoint::open(path)->config_json() == "{\"model_name\": \"da3-base\"}");
    CHECK(Checkpoint::open(temp / "elsewhere/link.safetensors")->config_json() ==
          "{\"model_name\": \"da3-base\"}");
    temp.write("elsewhere/config.json", "{}");
    CHECK(Checkpoint::open(temp / "elsewhere/link.safetensors")->config_json() == "{}");
  }

  TEST_CASE("a folder, also by a path that ends in a slash") {
    const TempDir temp;
    temp.write("m/model.safetensors", safetensors({{"a", {1}}}));
    temp.write("m/config.json", "{}");
    CHECK(Checkpoint::open(temp / "m")->source() == (temp / "m"));
    CHECK(Checkpoint::open(temp / "m/")->config_json() == "{}");
  }

  TEST_CASE("a folder with one model of another name") {
    const TempDir temp;
    temp.write("m/da3-small.safetensors", safetensors({{"a", {1}}}));
    temp.write("m/README.md", "text");
    CHECK(Checkpoint::open(temp / "m")->tensors().count("a") == 1);
  }

  TEST_CASE("~ and file:// are understood") {
    const Caches caches;
    caches.temp.write("home/m.safetensors", safetensors({{"a", {1}}}));
    CHECK(Checkpoint::open("~/m.safetensors")->tensors().size() == 1);
    CHECK(Checkpoint::open("file://" + (caches.temp / "home/m.safetensors"))->tensors().size() == 1);
  }
}

TEST_SUITE("shards") {
  const char* const kIndex = R"({"metadata": {"total_size": 8},
    "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})";

  TEST_CASE("an index and its shards, by folder and by file") {
    const TempDir temp;
    temp.write("m/model-00001-of-00002.safetensors", safetensors({{"a", {1}}}, R"({"x": "1"})"));
    temp.write("m/model-00002-of-00002.safetensors", safetensors({{"b", {2}}}, R"({"y": "2"})"));
    const std::string index = temp.write("m/model.safetensors.index.json", kIndex);
    temp.write("m/config.json", "{}");
    const auto checkpoint = Checkpoint::open(temp / "m");
    CHECK(checkpoint->tensors().size() == 2);
    CHECK(*static_cast<const float*>(checkpoint->tensors().at("b").data) == 2.0f);
    CHECK(checkpoint->metadata().size() == 2);
    CHECK(checkpoint->config_json() == "{}");
    CHECK(Checkpoint::open(index)->source() == index);
    // The same tensors in one file are the same model.
    CHECK(Checkpoint::open(temp.write("one.safetensors", safetensors({{"a", {1}}, {"b", {2}}})))->hash() ==
          checkpoint->hash());
  }

  TEST_CASE("a shard is missing") {
    const TempDir temp;
    temp.write("m/model-00001-of-00002.safetensors", safetensors({{"a", {1}}}));
    temp.write("m/model.safetensors.index.json", kIndex);
    const Failure failure = failure_of(temp / "m");
    CHECK(failure.code == DA3_ERROR_WRONG_TYPE);
    CHECK(says(failure, "model-00002-of-00002.safetensors"));
    CHECK(says(failure, "2 shards, 1 of them missing"));
  }

  TEST_CASE("a shard is truncated: the message names the shard") {
    const TempDir temp;
    const std::string whole = safetensors({{"b", {2}}});
    temp.write("m/model-00001-of-00002.safetensors", safetensors({{"a", {1}}}));
    temp.write("m/model-00002-of-00002.safetensors", whole.substr(0, whole.size() - 1));
    temp.write("m/model.safetensors.index.json", kIndex);
    const Failure failure = failure_of(temp / "m");
    CHECK(says(failure, "model-00002-of-00002.safetensors is truncated"));
  }

  TEST_CASE("a tensor of the index is in no shard, or in another") {
    const TempDir temp;
    temp.write("m/model-00001-of-00002.safetensors", safetensors({{"a", {1}}}));
    temp.write("m/model-00002-of-00002.safetensors", safetensors({{"c", {2}}}));
    temp.write("m/model.safetensors.index.json", kIndex);
    CHECK(says(failure_of(temp / "m"),
               "tensor b is in model-00002-of-00002.safetensors, but it is in no shard"));
    temp.write("m/model-00001-of-00002.safetensors", safetensors({{"a", {1}}, {"b", {1}}}));
    CHECK(says(failure_of(temp / "m"), "but it is in " + (temp / "m/model-00001-of-00002.safetensors")));
  }

  TEST_CASE("a tensor is in two shards") {
    const TempDir temp;
    temp.write("m/model-00001-of-00002.safetensors", safetensors({{"a", {1}}}));
    temp.write("m/model-00002-of-00002.safetensors", safetensors({{"a", {1}}, {"b", {2}}}));
    temp.write("m/model.safetensors.index.json", kIndex);
    CHECK(says(failure_of(temp / "m"), "tensor a is stored twice"));
  }

  TEST_CASE("an index that leads out of its folder") {
    for (const char* shard : {"../x.safetensors", "/etc/passwd", "..", "", "a\\\\b"}) {
      CAPTURE(shard);
      const Failure failure = content_failure(std::string(R"({"weight_map": {"a": ")") + shard + "\"}}",
                                              "model.safetensors.index.json");
      CHECK(says(failure, "must be a file in the same folder"));
    }
  }

  TEST_CASE("an index that is none") {
    const auto index = [](const char* text) { return content_failure(text, "model.safetensors.index.json"); };
    CHECK(says(index("{}"), "no \"weight_map\""));
    CHECK(says(index("{\"weight_map\": {}}"), "lists no tensors"));
    CHECK(says(index("{\"weight_map\": []}"), "no JSON object"));
    CHECK(says(index("{\"weight_map\": {\"a\": 1}}"), "no text"));
    CHECK(says(index("{\"weight_map\": {\"a\": \"x\", \"a\": \"y\"}}"), "names \"a\" twice"));
    CHECK(says(index("{\"weight_map\": "), "not JSON"));
    CHECK(says(index("<!DOCTYPE html><html>"), "web page"));
    CHECK(says(index("\n"), "blank"));
  }
}

namespace {

// A checkpoint of one tensor, told apart by its value, in FOLDER/da3-demo.
std::string ship(const TempDir& temp, const std::string& folder, float value) {
  temp.write(folder + "/da3-demo/model.safetensors", safetensors({{"a", {value}}}));
  temp.write(folder + "/da3-demo/config.json", "{\"folder\":\"" + folder + "\"}");
  return temp / folder;
}

float value_of(const std::string& model) {
  return *static_cast<const float*>(Checkpoint::open(model)->tensors().at("a").data);
}

}  // namespace

TEST_SUITE("the checkpoint that ships") {
  TEST_CASE("by name, and when no model is given") {
    const TempDir temp;
    const Variable path("DA3_MODEL_PATH", ship(temp, "models", 7));
    for (const char* model : {"", "da3-demo"}) {
      CHECK(value_of(model) == 7);
      CHECK(Checkpoint::open(model)->config_json().value() == "{\"folder\":\"models\"}");
      CHECK(Checkpoint::open(model)->source() == temp / "models/da3-demo");
    }
  }

  TEST_CASE("the first folder that has it wins; empty ones and those without it are passed over") {
    const TempDir temp;
    const std::string second = ship(temp, "second", 2), third = ship(temp, "third", 3);
    const Variable path("DA3_MODEL_PATH", "::" + temp.mkdir("first") + ":" + second + ":" + third);
    CHECK(value_of("") == 2);
  }

  TEST_CASE("a folder of that name where the program runs is not meant") {
    const TempDir temp;
    ship(temp, ".", 1);
    const Variable path("DA3_MODEL_PATH", ship(temp, "models", 2));
    const fs::path before = fs::current_path();
    fs::current_path(temp.path());
    CHECK(value_of("da3-demo") == 2);
    CHECK(value_of("./da3-demo") == 1);
    fs::current_path(before);
  }

  TEST_CASE("a tilde is the home folder") {
    const TempDir temp;
    ship(temp, "models", 4);
    const Variable home("HOME", temp.path().string()), path("DA3_MODEL_PATH", "~/models");
    CHECK(value_of("") == 4);
  }

  TEST_CASE("the installation is found from where its module lies, behind the variable") {
    const TempDir temp;
    const std::string installed = temp.mkdir("prefix/share/gst-da3/models");
    const Variable path("DA3_MODEL_PATH", temp / "mine");
    for (const char* module : {"prefix/lib/any-linux-gnu/gst-da3/libda3engine.so",
                               "prefix/lib64/gst-da3/x.so", "prefix/bin/da3-train"}) {
      const auto folders = da3::model_folders(temp / module);
      REQUIRE(folders.size() >= 2);
      CHECK(folders[0] == temp / "mine");
      CHECK(folders[1] == installed);
    }
    // Too deep, or beside the prefix: only the folder it was configured for is left.
    CHECK(da3::model_folders(temp / "prefix/a/b/c/d/e/x.so").size() == 2);
    CHECK(da3::model_folders(temp / "x.so").size() == 2);
  }

  TEST_CASE("one that is there and unusable is said to be, and not passed over") {
    const TempDir temp;
    temp.write("broken/da3-demo/config.json", "{}");
    temp.mkdir("dangling");
    temp.link("nowhere", "dangling/da3-demo");
    const std::string good = ship(temp, "good", 1);
    {
      const Variable path("DA3_MODEL_PATH", temp / "broken" + ":" + good);
      CHECK(says(failure_of(""), "holds no *.safetensors file"));
    }
    const Variable path("DA3_MODEL_PATH", temp / "dangling" + ":" + good);
    CHECK(says(failure_of(""), "does not exist"));
  }
}

TEST_SUITE("missing and unreadable") {
  TEST_CASE("no model, and the one that ships is not there") {
    const TempDir temp;
    const Variable path("DA3_MODEL_PATH", temp / "one" + ":" + temp / "two");
    for (const char* model : {"", "da3-demo"}) {
      const Failure failure = failure_of(model);
      CHECK(failure.code == DA3_ERROR_NOT_FOUND);
      CHECK(says(failure, temp / "one/da3-demo"));
      CHECK(says(failure, temp / "two/da3-demo"));
      CHECK(says(failure, "DA3_MODEL_PATH"));
      CHECK(says(failure, "synthetic:da3-small"));
    }
  }

  TEST_CASE("a synthetic model is not opened here") {
    const Failure failure = failure_of("synthetic:da3-small?seed=1");
    CHECK(failure.code == DA3_ERROR_WRONG_TYPE);
    CHECK(says(failure, "synthetic:da3-small?seed=1 is a formula"));
  }

  TEST_CASE("missing file: the path, and what is there instead") {
    const TempDir temp;
    temp.write("da3-small.safetensors", "x");
    const Failure failure = failure_of(temp / "da3-smal.safetensors");
    CHECK(failure.code == DA3_ERROR_NOT_FOUND);
    CHECK(says(failure, temp / "da3-smal.safetensors"));
    CHECK(says(failure, "da3-small.safetensors"));
  }

  TEST_CASE("missing file in a missing folder: the first folder that is missing") {
    const TempDir temp;
    const Failure failure = failure_of(temp / "no/such/model.safetensors");
    CHECK(failure.code == DA3_ERROR_NOT_FOUND);
    CHECK(says(failure, "nor does the folder " + (temp / "no") + ";"));
  }

  TEST_CASE("a file where a folder is expected") {
    const TempDir temp;
    temp.write("file", "x");
    CHECK(failure_of(temp / "file/model.safetensors").code == DA3_ERROR_NOT_FOUND);
  }

  TEST_CASE("a link to nothing, and links in a circle") {
    const TempDir temp;
    temp.link("gone.safetensors", "link.safetensors");
    Failure failure = failure_of(temp / "link.safetensors");
    CHECK(failure.code == DA3_ERROR_NOT_FOUND);
    CHECK(says(failure, "gone.safetensors"));
    temp.link("b.safetensors", "a.safetensors");
    temp.link("a.safetensors", "b.safetensors");
    failure = failure_of(temp / "a.safetensors");
    CHECK(failure.code == DA3_ERROR_OPEN_READ);
  }

  TEST_CASE("no permission") {
    const TempDir temp;
    chmod(temp.path().c_str(), 0755);
    const std::string path = temp.write("x.safetensors", safetensors({{"a", {1}}}));
    chmod(path.c_str(), 0);
    // Permissions do not bind root: ask as somebody else.
    const uid_t user = geteuid();
    if (user == 0) REQUIRE(seteuid(65534) == 0);
    Failure failure;
    try {
      Checkpoint::open(path);
    } catch (const EngineError& error) {
      failure = {error.code(), error.what(), error.detail()};
    }
    if (user == 0) REQUIRE(seteuid(user) == 0);
    CHECK(failure.code == DA3_ERROR_OPEN_READ);
    CHECK(says(failure, path));
    CHECK(says(failure, "permission"));
  }

  TEST_CASE("a folder without weights: what is there") {
    const TempDir temp;
    temp.write("m/notes.txt", "x");
    Failure failure = failure_of(temp / "m");
    CHECK(failure.code == DA3_ERROR_NOT_FOUND);
    CHECK(says(failure, "holds: notes.txt"));
    temp.write("m/pytorch_model.bin", "x");
    CHECK(says(failure_of(temp / "m"), "save_file()"));
    CHECK(says(failure_of(temp.mkdir("empty")), "it is empty"));
  }

  TEST_CASE("a folder with several models") {
    const TempDir temp;
    temp.write("m/a.safetensors", "x");
    temp.write("m/b.safetensors", "x");
    const Failure failure = failure_of(temp / "m");
    CHECK(failure.code == DA3_ERROR_WRONG_TYPE);
    CHECK(says(failure, "a.safetensors, b.safetensors"));
  }

  TEST_CASE("what is neither file nor folder does not block") {
    const TempDir temp;
    REQUIRE(mkfifo((temp / "pipe.safetensors").c_str(), 0600) == 0);
    const Failure failure = failure_of(temp / "pipe.safetensors");
    CHECK(failure.code == DA3_ERROR_WRONG_TYPE);
    CHECK(says(failure, "no regular file"));
    CHECK(failure_of("/dev/zero").code == DA3_ERROR_WRONG_TYPE);
    temp.mkdir("m/model.safetensors");
    CHECK(says(failure_of(temp / "m"), "is a folder"));
  }

  TEST_CASE("config.json given as the model") {
    const TempDir temp;
    const Failure failure = failure_of(temp.write("config.json", "{}"));
    CHECK(failure.code == DA3_ERROR_WRONG_TYPE);
    CHECK(says(failure, "give the folder"));
  }

  TEST_CASE("a broken config.json is not passed over") {
    const TempDir temp;
    const std::string path = temp.write("model.safetensors", safetensors({{"a", {1}}}));
    const auto with_config = [&](const std::string& text) {
      temp.write("config.json", text);
      const Failure failure = failure_of(path);
      CHECK(failure.code == DA3_ERROR_WRONG_TYPE);
      CHECK(says(failure, temp / "config.json"));
      return failure;
    };
    with_config("{\"model_name\": ");
    with_config("");
    with_config("{\"a\": 1, \"a\": 2}");
    CHECK(says(with_config("<!DOCTYPE html>"), "web page"));
    CHECK(says(with_config("version https://git-lfs.github.com/spec/v1\nsize 9\n"), "Git LFS pointer"));
    with_config(std::string(100000, '['));
    fs::remove(temp / "config.json");
    temp.link("gone", "config.json");
    CHECK(failure_of(path).code == DA3_ERROR_OPEN_READ);
  }

  TEST_CASE("a web address is not fetched, and its repository is named") {
    const Failure failure =
        failure_of("https://huggingface.co/depth-anything/DA3-BASE/resolve/main/model.safetensors");
    CHECK(failure.code == DA3_ERROR_NOT_FOUND);
    CHECK(says(failure, "\"hf download depth-anything/DA3-BASE\""));
    CHECK(says(failure_of("http://example.com/model.safetensors"), "give the path"));
  }

  TEST_CASE("the bare name of an official model") {
    const Failure failure = failure_of("da3-base");
    CHECK(failure.code == DA3_ERROR_NOT_FOUND);
    CHECK(says(failure, "depth-anything/DA3-BASE"));
    CHECK(says(failure, "synthetic:da3-base"));
  }

  TEST_CASE("an endless path") {
    CHECK(failure_of("/" + std::string(100000, 'a')).code == DA3_ERROR_NOT_FOUND);
  }
}

TEST_SUITE("not safetensors") {
  TEST_CASE("zero bytes, few bytes") {
    CHECK(says(content_failure(""), "is empty"));
    CHECK(says(content_failure(std::string("\x08\0\0\0", 4)), "only 4 bytes"));
    CHECK(says(content_failure(std::string(8, '\0')), "only 8 bytes"));
  }

  TEST_CASE("web page") {
    CHECK(says(content_failure("<!DOCTYPE html>\n<html><body>Not Found</body></html>"), "web page"));
    CHECK(says(content_failure("\xEF\xBB\xBF\n  <HTML>"), "web page"));
    CHECK(says(content_failure("<?xml version=\"1.0\"?><Error/>"), "web page"));
  }

  TEST_CASE("Git LFS pointer") {
    const Failure failure =
        content_failure("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 137197852\n");
    CHECK(says(failure, "Git LFS pointer"));
    CHECK(says(failure, "137197852 bytes"));
    CHECK(says(failure, "git lfs pull"));
  }

  TEST_CASE("pickles, zipped and bare") {
    for (const std::string& content :
         {std::string("PK\x03\x04") + std::string(100, '\0'), std::string("\x80\x02}q\x00.", 6),
          std::string("\x80\x04\x95") + std::string(50, '\0')}) {
      const Failure failure = content_failure(content, "model.pth");
      CHECK(says(failure, "pickle"));
      CHECK(says(failure, "save_file()"));
    }
  }

  TEST_CASE("other formats are named") {
    CHECK(says(content_failure("GGUF" + std::string(40, '\3'), "model.gguf"), "GGUF"));
    CHECK(says(content_failure("\x1f\x8b\x08" + std::string(40, '\3')), "gzip"));
    CHECK(says(content_failure("\x89HDF\r\n\x1a\n" + std::string(40, '\3')), "HDF5"));
    CHECK(says(content_failure("PK\x03\x04" + std::string(26, '\0') + "a.npy" + std::string(40, '\0')),
               ".npz"));
  }

  TEST_CASE("text: its first line") {
    CHECK(says(content_failure("Entry not found\nmore"), "begins with: Entry not found"));
    CHECK(says(content_failure("{\"error\": \"Access to model is restricted\"}"), "JSON text"));
    // Also where the cut after 100 bytes falls into a character.
    CHECK(says(content_failure(std::string(99, 'a') + "\xC3\xA9\xC3\xA9"), "aaaa?"));
  }

  TEST_CASE("header length over file size") {
    std::string content(64, '\1');
    const Failure failure = content_failure(content);
    CHECK(says(failure, "header length"));
    CHECK(says(failure, "72340172838076673"));
    CHECK(says(failure, "64 bytes"));
  }

  TEST_CASE("truncated within the header") {
    const std::string whole = safetensors({{"tensor", {1, 2, 3}}});
    const Failure failure = content_failure(whole.substr(0, 30));
    CHECK(says(failure, "is truncated"));
    CHECK(says(failure, "header length over file size"));
  }

  TEST_CASE("random bytes") {
    std::string content;
    for (int i = 0; i < 500; ++i) content += static_cast<char>(i * 151 + 7);
    CHECK(says(content_failure(content), "is no safetensors file"));
    CHECK(says(content_failure(std::string("\x10\0\0\0\0\0\0\0", 8) + std::string(40, '\xff')),
               "no JSON header"));
  }
}

TEST_SUITE("damaged header") {
  TEST_CASE("truncated at every byte: expected and real size") {
    const std::string whole = safetensors({{"a", {1, 2, 3}}, {"b", {4}}}, R"({"k": "v"})");
    const TempDir temp;
    for (size_t size = 0; size < whole.size(); ++size) {
      CAPTURE(size);
      const Failure failure = failure_of(temp.write("x.safetensors", whole.substr(0, size)));
      CHECK(failure.code == DA3_ERROR_WRONG_TYPE);
    }
    const Failure failure = content_failure(whole.substr(0, whole.size() - 5));
    CHECK(says(failure, "is truncated"));
    CHECK(says(failure, "a file of " + std::to_string(whole.size()) + " bytes"));
    CHECK(says(failure, "it has " + std::to_string(whole.size() - 5) + " bytes"));
    CHECK(says(failure, "5 bytes are missing"));
  }

  TEST_CASE("every bit of the header flipped: an error or another header, never a crash") {
    const std::string whole = safetensors({{"a", {1, 2, 3}}, {"b", {4}}}, R"({"k": "v"})");
    const TempDir temp;
    size_t refused = 0;
    for (size_t bit = 0; bit < (whole.size() - 16) * 8; ++bit) {
      std::string damaged = whole;
      damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
      try {
        const auto checkpoint = Checkpoint::open(temp.write("x.safetensors", damaged));
        CHECK(checkpoint->hash().size() == 16);
      } catch (const EngineError& error) {
        ++refused;
        CHECK(error.code() == DA3_ERROR_WRONG_TYPE);
      }
    }
    CHECK(refused > 500);
  }

  TEST_CASE("longer than its header says") {
    const Failure failure = content_failure(safetensors({{"a", {1}}}) + "tail");
    CHECK(says(failure, "is damaged"));
  }

  TEST_CASE("header is not JSON, or JSON of another kind") {
    const Failure failure = header_failure("{\"a\": nonsense}", 0);
    CHECK(says(failure, "not JSON"));
    CHECK(!failure.detail.empty());
    CHECK(says(header_failure("{}", 0), "no tensors"));
    CHECK(says(header_failure("{\"a\": 1}", 0), "no description"));
    CHECK(says(header_failure("{\"a\": {}}", 0), "no dtype"));
    CHECK(says(header_failure("{\"a\": {\"dtype\": \"F32\"}}", 0), "no shape"));
    CHECK(says(header_failure("{\"a\": {\"dtype\": \"F32\", \"shape\": [1]}}", 4), "no data_offsets"));
    CHECK(says(header_failure("{" + entry("a", "F32", "[1]", "[0]") + "}", 4), "no data_offsets"));
    CHECK(says(header_failure("{\"\xff\": {}}", 0), "not JSON"));
  }

  TEST_CASE("metadata that is no map of texts") {
    const std::string tensor = "," + entry("a", "F32", "[1]", "[0,4]") + "}";
    CHECK(says(header_failure("{\"__metadata__\": []" + tensor, 4), "__metadata__"));
    CHECK(says(header_failure("{\"__metadata__\": {\"k\": 1}" + tensor, 4), "__metadata__"));
  }

  TEST_CASE("nested too deeply") {
    CHECK(says(header_failure("{\"a\":" + std::string(200000, '[') + std::string(200000, ']') + "}", 0),
               "deeply"));
    CHECK(says(header_failure("{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}", 0), "deeply"));
  }

  TEST_CASE("unknown dtype") {
    const Failure failure = header_failure("{" + entry("model.x", "F4", "[1]", "[0,4]") + "}", 4);
    CHECK(says(failure, "\"model.x\""));
    CHECK(says(failure, "\"F4\""));
  }

  TEST_CASE("dtype, shape and bytes disagree") {
    const Failure failure = header_failure("{" + entry("a", "F16", "[3, 2]", "[0,24]") + "}", 24);
    CHECK(says(failure, "dtype F16 and shape [3, 2] needs 12 bytes, its offsets give 24 bytes"));
  }

  TEST_CASE("shapes that are none") {
    for (const char* shape : {"[-1]", "[1.5]", "[\"1\"]", "[null]", "[18446744073709551615]", "[1e3]"}) {
      CAPTURE(shape);
      CHECK(says(header_failure("{" + entry("a", "F32", shape, "[0,4]") + "}", 4), "whole numbers"));
    }
  }

  TEST_CASE("a product of sides that overflows") {
    const char* shape = "[4294967296, 4294967296]";
    CHECK(says(header_failure("{" + entry("a", "F32", shape, "[0,0]") + "}", 4),
               "more bytes than there can be"));
    CHECK(says(header_failure("{" + entry("a", "F32", "[4611686018427387904]", "[0,0]") + "}", 4),
               "more bytes"));
  }

  TEST_CASE("offsets that are none") {
    for (const char* offsets : {"[4,0]", "[-4,0]", "[0,18446744073709551615]", "[\"0\",4]", "[0.0,4]"}) {
      CAPTURE(offsets);
      CHECK(says(header_failure("{" + entry("a", "F32", "[1]", offsets) + "}", 4), "offsets"));
    }
  }

  TEST_CASE("offsets beyond the file") {
    const std::string offsets = "[9223372036854775800,9223372036854775804]";
    CHECK(says(header_failure("{" + entry("a", "F32", "[1]", offsets) + "}", 4), "outside the file"));
    CHECK(says(header_failure("{" + entry("a", "F32", "[2]", "[0,8]") + "}", 4), "is truncated"));
  }

  TEST_CASE("overlapping tensors, and a gap between them") {
    const std::string a = "{" + entry("a", "F32", "[2]", "[0,8]") + ",";
    const Failure failure = header_failure(a + entry("b", "F32", "[2]", "[4,12]") + "}", 12);
    CHECK(says(failure, "\"a\" and \"b\" overlap"));
    CHECK(says(header_failure(a + entry("b", "F32", "[2]", "[0,8]") + "}", 8), "overlap"));
    CHECK(says(header_failure(a + entry("b", "F32", "[1]", "[12,16]") + "}", 16), "belong to no tensor"));
  }

  TEST_CASE("a name twice") {
    const std::string a = entry("a", "F32", "[1]", "[0,4]"), again = entry("a", "F32", "[1]", "[4,8]");
    CHECK(says(header_failure("{" + a + "," + again + "}", 8), "names \"a\" twice"));
    CHECK(says(header_failure(
                   "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4),
               "names \"dtype\" twice"));
  }
}

TEST_SUITE("Hugging Face cache") {
  const std::string kRepository = "models--depth-anything--DA3-SMALL";
  const std::string kId = "depth-anything/DA3-SMALL";

  TEST_CASE("found by $HF_HUB_CACHE, $HF_HOME, $XDG_CACHE_HOME and $HOME") {
    const std::string file = safetensors({{"a", {1}}});
    const auto check = [&](const Caches& caches, const std::string& cache) {
      cache_repository(caches.temp, cache, kRepository, file);
      const auto checkpoint = Checkpoint::open(kId);
      CHECK(checkpoint->tensors().size() == 1);
      CHECK(checkpoint->config_json() == "{\"model_name\": \"da3-small\"}");
      CHECK(checkpoint->source() == (caches.temp / (cache + "/" + kRepository + "/snapshots/" + kCommit)));
      CHECK(checkpoint->licence() == "Apache-2.0");
    };
    SUBCASE("HF_HUB_CACHE") {
      const Caches caches;
      const Variable variable("HF_HUB_CACHE", caches.temp / "hub cache");
      check(caches, "hub cache");
    }
    SUBCASE("HF_HOME") {
      const Caches caches;
      const Variable variable("HF_HOME", "~/hf");
      check(caches, "home/hf/hub");
    }
    SUBCASE("XDG_CACHE_HOME") {
      const Caches caches;
      const Variable variable("XDG_CACHE_HOME", caches.temp / "xdg");
      check(caches, "xdg/huggingface/hub");
    }
    SUBCASE("HOME") {
      const Caches caches;
      check(caches, "home/.cache/huggingface/hub");
    }
  }

  TEST_CASE("the first cache wins") {
    const Caches caches;
    const Variable variable("HF_HUB_CACHE", caches.temp / "hub");
    cache_repository(caches.temp, "hub", kRepository, safetensors({{"first", {1}}}));
    cache_repository(caches.temp, "home/.cache/huggingface/hub", kRepository, safetensors({{"second", {1}}}));
    CHECK(Checkpoint::open(kId)->tensors().count("first") == 1);
  }

  TEST_CASE("a revision: a branch, a commit, or the only one there is") {
    const Caches caches;
    const Variable variable("HF_HUB_CACHE", caches.temp / "hub");
    const std::string other = "ffffffffffffffffffffffffffffffffffffffff";
    cache_repository(caches.temp, "hub", kRepository, safetensors({{"old", {1}}}), other, false);
    CHECK(Checkpoint::open(kId)->tensors().count("old") == 1);
    cache_repository(caches.temp, "hub", kRepository, safetensors({{"new", {1}}}));
    caches.temp.write("hub/" + kRepository + "/refs/refs/pr/1", other + "\n");
    CHECK(Checkpoint::open(kId)->tensors().count("new") == 1);
    CHECK(Checkpoint::open(kId + "@main")->tensors().count("new") == 1);
    CHECK(Checkpoint::open(kId + "@" + other)->tensors().count("old") == 1);
    CHECK(Checkpoint::open(kId + "@refs/pr/1")->tensors().count("old") == 1);
    const Failure failure = failure_of(kId + "@v2");
    CHECK(failure.code == DA3_ERROR_NOT_FOUND);
    CHECK(says(failure, "no revision v2"));
    CHECK(says(failure, "--revision v2"));
    fs::remove(caches.temp / ("hub/" + kRepository + "/refs/main"));
    CHECK(says(failure_of(kId), "several snapshots"));
  }

  TEST_CASE("a file, a snapshot and a repository folder given by path") {
    const Caches caches;
    cache_repository(caches.temp, "hub", "models--depth-anything--DA3-GIANT", safetensors({{"a", {1}}}));
    const std::string folder = caches.temp / "hub/models--depth-anything--DA3-GIANT";
    for (const std::string& path : {folder, folder + "/", folder + "/snapshots/" + kCommit,
                                    folder + "/snapshots/" + kCommit + "/model.safetensors"}) {
      CAPTURE(path);
      const auto checkpoint = Checkpoint::open(path);
      CHECK(checkpoint->config_json());
      CHECK(checkpoint->licence() == "CC-BY-NC-4.0");
    }
  }

  TEST_CASE("a folder that exists wins over the cache") {
    const Caches caches;
    const Variable variable("HF_HUB_CACHE", caches.temp / "hub");
    cache_repository(caches.temp, "hub", kRepository, safetensors({{"cache", {1}}}));
    caches.temp.write("work/depth-anything/DA3-SMALL/model.safetensors", safetensors({{"here", {1}}}));
    const fs::path before = fs::current_path();
    fs::current_path(caches.temp / "work");
    const auto checkpoint = Checkpoint::open(kId);
    fs::current_path(before);
    CHECK(checkpoint->tensors().count("here") == 1);
    CHECK(checkpoint->licence() == "Apache-2.0");
  }

  TEST_CASE("not in any cache: folders searched, command, licence, what is there") {
    const Caches caches;
    const Variable hub("HF_HUB_CACHE", caches.temp / "hub");
    const Variable home("HF_HOME", caches.temp / "hf");
    cache_repository(caches.temp, "hub", kRepository, safetensors({{"a", {1}}}));
    const Failure failure = failure_of("depth-anything/DA3-LARGE-1.1");
    CHECK(failure.code == DA3_ERROR_NOT_FOUND);
    CHECK(says(failure, caches.temp / "hub,"));
    CHECK(says(failure, caches.temp / "hf/hub,"));
    CHECK(says(failure, caches.temp / "home/.cache/huggingface/hub)"));
    CHECK(says(failure, "\"hf download depth-anything/DA3-LARGE-1.1\""));
    CHECK(says(failure, "CC-BY-NC-4.0"));
    CHECK(says(failure, "The cache holds: depth-anything/DA3-SMALL"));
  }

  TEST_CASE("an interrupted download") {
    const Caches caches;
    const Variable variable("HF_HUB_CACHE", caches.temp / "hub");
    caches.temp.mkdir("hub/" + kRepository + "/blobs");
    CHECK(says(failure_of(kId), "no snapshot"));
    caches.temp.write("hub/" + kRepository + "/refs/main", kCommit);
    CHECK(says(failure_of(kId), kCommit + ", which is not there"));
    caches.temp.write("hub/" + kRepository + "/snapshots/" + kCommit + "/README.md", "x");
    CHECK(says(failure_of(kId), "it holds README.md"));
    caches.temp.link("../../blobs/gone",
                     "hub/" + kRepository + "/snapshots/" + kCommit + "/model.safetensors");
    const Failure failure = failure_of(kId);
    CHECK(failure.code == DA3_ERROR_NOT_FOUND);
    CHECK(says(failure, "blobs/gone, which does not exist"));
    CHECK(says(failure, "\"hf download depth-anything/DA3-SMALL\""));
  }

  TEST_CASE("names that try to leave the cache, or are no repository") {
    const Caches caches;
    caches.temp.write("home/.cache/huggingface/hub/secret/model.safetensors", safetensors({{"a", {1}}}));
    for (const char* id : {"depth-anything/DA3-SMALL@../../secret", "../secret", "a/b/c", "owner/", "/name",
                           "a@b/c", "owner/name@", "own er/na me"}) {
      CAPTURE(id);
      CHECK(failure_of(id).code == DA3_ERROR_NOT_FOUND);
    }
    const std::string repository = "home/.cache/huggingface/hub/" + kRepository;
    caches.temp.write(repository + "/refs/main", "../../secret");
    CHECK(failure_of(kId).code == DA3_ERROR_NOT_FOUND);
  }
}

TEST_SUITE("licence and hash") {
  TEST_CASE("licence by the folder of the weights") {
    const TempDir temp;
    const auto licence = [&](const std::string& folder) {
      temp.write(folder + "/model.safetensors", safetensors({{"a", {1}}}));
      return Checkpoint::open(temp / folder)->licence();
    };
    for (const char* name : {"DA3-SMALL", "DA3-BASE", "DA3MONO-LARGE", "DA3METRIC-LARGE", "da3-small"})
      CHECK(licence(name) == "Apache-2.0");
    for (const char* name : {"DA3-LARGE", "DA3-LARGE-1.1", "DA3-GIANT", "DA3-GIANT-1.1",
                             "DA3NESTED-GIANT-LARGE", "DA3NESTED-GIANT-LARGE-1.1"})
      CHECK(licence(name) == "CC-BY-NC-4.0");
    CHECK(licence("DA3-SMALL-mine") == "");
    CHECK(licence("DA3-SMALL/finetuned") == "");
    CHECK(licence("models--somebody--DA3-SMALL/snapshots/abc") == "");
    CHECK(licence("models--depth-anything--DA9-SMALL/snapshots/DA3-SMALL") == "");
  }

  TEST_CASE("a checkpoint that is held is read once") {
    const TempDir temp;
    temp.write("m/model.safetensors", safetensors({{"a", {1}}}));
    temp.write("m/config.json", "{}");
    const auto first = Checkpoint::open(temp / "m");
    CHECK(Checkpoint::open(temp / "m") == first);
    CHECK(Checkpoint::open(temp / "m/")->hash() == first->hash());
    // By another name it says another source.
    const auto file = Checkpoint::open(temp / "m/model.safetensors");
    CHECK(file != first);
    CHECK(file->source() != first->source());
  }

  TEST_CASE("a file that changed is read again, though the old one is held") {
    const TempDir temp;
    temp.write("m/model.safetensors", safetensors({{"a", {1}}}));
    const auto first = Checkpoint::open(temp / "m");
    SUBCASE("another model") {
      temp.write("m/new", safetensors({{"a", {1, 2}}}));
      std::filesystem::rename(temp / "m/new", temp / "m/model.safetensors");
      const auto second = Checkpoint::open(temp / "m");
      CHECK(second->tensors().at("a").shape == std::vector<int64_t>{2});
      CHECK(second->hash() != first->hash());
      // What is held stays what it was.
      CHECK(*static_cast<const float*>(first->tensors().at("a").data) == 1.0f);
    }
    SUBCASE("a configuration came") {
      temp.write("m/config.json", "{}");
      CHECK_FALSE(first->config_json().has_value());
      CHECK(Checkpoint::open(temp / "m")->config_json() == "{}");
    }
    SUBCASE("the model went") {
      std::filesystem::remove(temp / "m/model.safetensors");
      CHECK(failure_of(temp / "m").code == DA3_ERROR_NOT_FOUND);
    }
  }

  TEST_CASE("a shard that changed is read again") {
    const TempDir temp;
    temp.write("m/model-00001-of-00002.safetensors", safetensors({{"a", {1}}}));
    temp.write("m/model-00002-of-00002.safetensors", safetensors({{"b", {2}}}));
    temp.write("m/model.safetensors.index.json", R"({"weight_map": {"a": "model-00001-of-00002.safetensors",
      "b": "model-00002-of-00002.safetensors"}})");
    const auto first = Checkpoint::open(temp / "m");
    CHECK(Checkpoint::open(temp / "m") == first);
    temp.write("m/new", safetensors({{"b", {2, 3}}}));
    std::filesystem::rename(temp / "m/new", temp / "m/model-00002-of-00002.safetensors");
    CHECK(Checkpoint::open(temp / "m")->tensors().at("b").shape == std::vector<int64_t>{2});
  }

  TEST_CASE("the hash follows names, shapes and content, not the file") {
    const TempDir temp;
    const auto hash = [&](const std::string& content) {
      return Checkpoint::open(temp.write("x.safetensors", content))->hash();
    };
    const std::string same = hash(safetensors({{"a", {1, 2}}, {"b", {3}}}));
    CHECK(same.size() == 16);
    CHECK(same.find_first_not_of("0123456789abcdef") == std::string::npos);
    CHECK(hash(safetensors({{"a", {1, 2}}, {"b", {3}}}, R"({"k": "v"})")) == same);
    CHECK(hash(safetensors({{"a", {1, 2}}, {"b", {4}}})) != same);
    CHECK(hash(safetensors({{"a", {1, 2}}, {"c", {3}}})) != same);
    CHECK(hash(safetensors({{"a", {1}}, {"b", {2, 3}}})) != same);
    const std::string bytes(8, '\1');
    CHECK(hash(with_header("{" + entry("a", "F32", "[2]", "[0,8]") + "}", bytes)) !=
          hash(with_header("{" + entry("a", "F32", "[1,2]", "[0,8]") + "}", bytes)));
    CHECK(hash(with_header("{" + entry("a", "F16", "[4]", "[0,8]") + "}", bytes)) !=
          hash(with_header("{" + entry("a", "BF16", "[4]", "[0,8]") + "}", bytes)));
  }

  TEST_CASE("the hash samples a large tensor at its begin, middle and end") {
    const TempDir temp;
    std::vector<float> values(1 << 20, 0.5f);
    const auto hash = [&] {
      return Checkpoint::open(temp.write("x.safetensors", safetensors({{"a", values}})))->hash();
    };
    const std::string first = hash();
    for (const size_t at : {size_t{0}, values.size() / 2, values.size() - 1}) {
      values[at] = 0.25f;
      CHECK(hash() != first);
      values[at] = 0.5f;
    }
    CHECK(hash() == first);
  }
}
