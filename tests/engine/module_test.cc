// SPDX-License-Identifier: MIT
//
// A loaded engine stays loaded, so every case runs in a process of its own.
#include <dlfcn.h>
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "engine/api/engine_module.h"
#include "temp_files.h"

using da3::Engine;
using da3::EngineError;
using da3::EngineModule;
using da3::test::TempDir;
using da3::test::Variable;
namespace fs = std::filesystem;

namespace {

constexpr const char* kVariable = "DA3_ENGINE_PATH";
constexpr const char* kFile = "libda3engine.so";

std::string library(const char* variable) {
  const char* path = std::getenv(variable);
  REQUIRE_MESSAGE(path != nullptr, variable, " is not set; meson sets it");
  return path;
}

std::string fake_engine() {
  return library("DA3_FAKE_ENGINE");
}

// Runs `work` in a child; returns the text it makes.
std::string in_child(const std::function<std::string()>& work) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::string text;
    try {
      text = work();
    } catch (const std::exception& error) {
      text = std::string("unexpected: ") + error.what();
    }
    for (size_t at = 0; at < text.size();) {
      const ssize_t n = write(ends[1], text.data() + at, text.size() - at);
      if (n <= 0) break;
      at += static_cast<size_t>(n);
    }
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  return text;
}

// Code, message and detail of a failure, or what `work` returns.
std::string outcome(const std::function<std::string()>& work) {
  try {
    return work();
  } catch (const EngineError& error) {
    return std::to_string(error.code()) + "|" + error.what() + "|" + error.detail();
  }
}

std::string loaded_path() {
  return EngineModule::instance().path();
}

// What loading says with DA3_ENGINE_PATH set to `path`.
std::string load_from(const std::string& path) {
  return in_child([&] {
    const Variable variable(kVariable, path);
    return outcome(loaded_path);
  });
}

bool says(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE("\"" << text << "\" lacks \"" << part << "\"");
  return false;
}

const std::string kLibraryError = std::to_string(DA3_ERROR_LIBRARY) + "|";

// Copies the probe to `place` and lets it look for the engine from there.
std::string probe(const fs::path& place, const std::optional<std::string>& chosen = std::nullopt) {
  fs::create_directories(place.parent_path());
  fs::copy_file(library("DA3_MODULE_PROBE"), place);
  return in_child([&]() -> std::string {
    const Variable variable(kVariable, chosen);
    void* handle = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return dlerror();
    const auto run = reinterpret_cast<int (*)(char*, size_t)>(dlsym(handle, "da3_probe"));
    if (run == nullptr) return "no probe";
    char text[8192];
    const int code = run(text, sizeof text);
    return code == DA3_OK ? text : std::to_string(code) + "|" + text;
  });
}

std::string with_engine(const std::function<std::string(const EngineModule&)>& work) {
  return in_child([&] {
    const Variable variable(kVariable, fake_engine());
    return outcome([&] { return work(EngineModule::instance()); });
  });
}

Da3EngineConfig config_for(const char* model) {
  Da3EngineConfig config{};
  config.struct_size = sizeof config;
  config.model = model;
  return config;
}

}  // namespace

TEST_SUITE("$DA3_ENGINE_PATH") {
  TEST_CASE("a file, and a folder with the file in it") {
    CHECK(load_from(fake_engine()) == fake_engine());
    const TempDir temp;
    fs::copy_file(fake_engine(), temp / kFile);
    CHECK(load_from(temp.path()) == (temp / kFile));
  }

  TEST_CASE("the same module for everyone, also when threads ask at once") {
    const std::string text = in_child([] {
      const Variable variable(kVariable, fake_engine());
      const EngineModule* modules[4] = {};
      {
        std::vector<std::jthread> threads;
        for (auto& module : modules) threads.emplace_back([&module] { module = &EngineModule::instance(); });
      }
      for (const auto* module : modules)
        if (module != modules[0]) return "different";
      return "same";
    });
    CHECK(text == "same");
  }

  TEST_CASE("a file that is not there: path, variable, and no other engine instead") {
    const TempDir temp;
    const std::string text = load_from(temp / "gone.so");
    CHECK(text.starts_with(kLibraryError));
    CHECK(says(text, temp / "gone.so"));
    CHECK(says(text, kVariable));
    CHECK(says(text, "does not exist"));
    CHECK(says(load_from(temp.path()), temp / kFile));
  }

  TEST_CASE("a file that is no library: the loader's message") {
    const TempDir temp;
    for (const std::string& content : {std::string("text"), std::string(),
                                       std::string("\x7f"
                                                   "ELF")}) {
      const std::string text = load_from(temp.write("broken.so", content));
      CHECK(text.starts_with(kLibraryError));
      CHECK(says(text, "cannot be loaded ("));
      CHECK(says(text, "setup.sh"));
    }
  }

  TEST_CASE("a truncated library") {
    const TempDir temp;
    fs::copy_file(fake_engine(), temp / "cut.so");
    fs::resize_file(temp / "cut.so", 100);
    CHECK(says(load_from(temp / "cut.so"), "cannot be loaded ("));
  }

  TEST_CASE("a library that needs what is not there") {
    const std::string text = load_from(library("DA3_FAKE_UNDEFINED"));
    CHECK(text.starts_with(kLibraryError));
    CHECK(says(text, "da3_function_that_does_not_exist"));
  }

  TEST_CASE("a library that is no engine") {
    const std::string text = load_from(library("DA3_FAKE_NO_ENTRY"));
    CHECK(text.starts_with(kLibraryError));
    CHECK(says(text, "not the inference engine"));
    CHECK(says(text, DA3_ENGINE_ENTRY));
  }

  TEST_CASE("an engine of another interface version has its own message") {
    const std::string text = load_from(library("DA3_FAKE_OTHER_ABI"));
    CHECK(text.starts_with(kLibraryError));
    CHECK(says(text, "another version"));
    CHECK(says(text, "interface version " + std::to_string(DA3_ENGINE_ABI)));
    CHECK(says(text, "build or install plugin and engine together"));
  }

  TEST_CASE("a failure is not kept, a success is") {
    const TempDir temp;
    const std::string text = in_child([&] {
      std::string steps;
      for (const std::string& path : {temp / "gone.so", library("DA3_FAKE_NO_ENTRY"),
                                      library("DA3_FAKE_OTHER_ABI"), fake_engine(), temp / "gone.so"}) {
        const Variable variable(kVariable, path);
        steps += outcome(loaded_path) == fake_engine() ? "+" : "-";
      }
      return steps;
    });
    CHECK(text == "---++");
  }

  TEST_CASE("a file that appears after the first attempt") {
    const TempDir temp;
    const std::string text = in_child([&] {
      const Variable variable(kVariable, temp / kFile);
      const std::string first = outcome(loaded_path).substr(0, kLibraryError.size());
      fs::copy_file(fake_engine(), temp / kFile);
      return first + outcome(loaded_path);
    });
    CHECK(text == kLibraryError + (temp / kFile));
  }
}

TEST_SUITE("search") {
  TEST_CASE("beside the library that searches") {
    const TempDir temp;
    fs::copy_file(fake_engine(), temp / kFile);
    CHECK(probe(temp / "probe.so") == (temp / kFile));
  }

  TEST_CASE("an empty variable is none") {
    const TempDir temp;
    fs::copy_file(fake_engine(), temp / kFile);
    CHECK(probe(temp / "probe.so", "") == (temp / kFile));
  }

  TEST_CASE("in a build folder: from plugins/ and from tests/engine/") {
    const TempDir temp;
    temp.mkdir("lib/engine");
    fs::copy_file(fake_engine(), temp / "lib/engine/libda3engine.so");
    CHECK(probe(temp / "plugins/probe.so") == (temp / "lib/engine/libda3engine.so"));
    CHECK(probe(temp / "tests/engine/probe.so") == (temp / "lib/engine/libda3engine.so"));
  }

  TEST_CASE("in an installation that was moved") {
    const TempDir temp;
    temp.mkdir("lib/gst-da3");
    fs::copy_file(fake_engine(), temp / "lib/gst-da3/libda3engine.so");
    CHECK(probe(temp / "lib/gstreamer-1.0/probe.so") == (temp / "lib/gst-da3/libda3engine.so"));
  }

  TEST_CASE("through a link to the library") {
    const TempDir temp;
    temp.mkdir("build/lib/engine");
    fs::copy_file(fake_engine(), temp / "build/lib/engine/libda3engine.so");
    temp.mkdir("build/plugins");
    fs::copy_file(library("DA3_MODULE_PROBE"), temp / "build/plugins/probe.so");
    temp.link(temp / "build/plugins/probe.so", "home/plugins/probe.so");
    const std::string text = in_child([&]() -> std::string {
      const Variable variable(kVariable, std::nullopt);
      void* handle = dlopen((temp / "home/plugins/probe.so").c_str(), RTLD_NOW | RTLD_LOCAL);
      if (handle == nullptr) return dlerror();
      char text[8192];
      reinterpret_cast<int (*)(char*, size_t)>(dlsym(handle, "da3_probe"))(text, sizeof text);
      return text;
    });
    CHECK(text == (temp / "build/lib/engine/libda3engine.so"));
  }

  TEST_CASE("an engine that cannot be loaded is passed over for one that can") {
    const TempDir temp;
    temp.write("plugins/libda3engine.so", "text");
    temp.mkdir("lib/engine");
    fs::copy_file(fake_engine(), temp / "lib/engine/libda3engine.so");
    CHECK(probe(temp / "plugins/probe.so") == (temp / "lib/engine/libda3engine.so"));
  }

  TEST_CASE("nothing anywhere: every place, the loader's message, the remedy") {
    // With an engine on the loader's path there is no such case.
    if (in_child([] { return std::string(dlopen(kFile, RTLD_NOW) != nullptr ? "there" : ""); }) == "there")
      return;
    const TempDir temp;
    const std::string text = probe(temp / "plugins/probe.so");
    CHECK(text.starts_with(kLibraryError));
    CHECK(says(text, "not installed"));
    CHECK(says(text, temp / "plugins/libda3engine.so"));
    CHECK(says(text, temp / "lib/engine/libda3engine.so"));
    CHECK(says(text, "/nonexistent/gst-da3/libda3engine.so"));
    CHECK(says(text, "cannot open shared object file"));
    CHECK(says(text, "scripts/setup.sh"));
    CHECK(says(text, kVariable));
  }

  TEST_CASE(
      "one that cannot be loaded and nothing else: its message, not that of the places that are empty") {
    if (in_child([] { return std::string(dlopen(kFile, RTLD_NOW) != nullptr ? "there" : ""); }) == "there")
      return;
    const TempDir temp;
    temp.mkdir("lib/engine");
    fs::copy_file(library("DA3_FAKE_UNDEFINED"), temp / "lib/engine/libda3engine.so");
    const std::string text = probe(temp / "plugins/probe.so");
    CHECK(
        says(text, "The inference engine " + (temp / "lib/engine/libda3engine.so") + " cannot be loaded ("));
    CHECK(says(text, "da3_function_that_does_not_exist"));
  }
}

TEST_SUITE("calls") {
  TEST_CASE("open, info, submit, close") {
    CHECK(with_engine([](const EngineModule& module) {
            std::string text;
            {
              const auto engine = module.open(config_for("good"));
              Da3Request request{};
              request.n_views = 1;
              engine->submit(request);
              text = std::string(engine->info().name) + module.api().runtime();
            }
            return text + module.api().runtime();
          }) == "fake0100");
  }

  TEST_CASE("a failing open: code, message, detail, and the texts are given back") {
    CHECK(with_engine([](const EngineModule& module) {
            return outcome([&] { return module.open(config_for("missing")) ? "" : ""; }) +
                   module.api().runtime();
          }) == std::to_string(DA3_ERROR_NOT_FOUND) + "|no such model|searched here00");
  }

  TEST_CASE("a failing open without code and message is a failure all the same") {
    const std::string text = with_engine([](const EngineModule& module) {
      return outcome([&] { return module.open(config_for("silent")) ? "" : ""; }) + module.api().runtime();
    });
    CHECK(text.starts_with(std::to_string(DA3_ERROR_FAILED) + "|"));
    CHECK(says(text, "without a message"));
    CHECK(text.ends_with("|00"));
  }

  TEST_CASE("a failing submit: code and message, and the engine lives on") {
    CHECK(with_engine([](const EngineModule& module) {
            const auto engine = module.open(config_for("good"));
            const Da3Request request{};
            const std::string text = outcome([&] {
              engine->submit(request);
              return std::string();
            });
            return text + module.api().runtime();
          }) == std::to_string(DA3_ERROR_SETTINGS) + "|a request needs views|01");
  }

  TEST_CASE("a failing submit that only returns its code") {
    const std::string text = with_engine([](const EngineModule& module) {
      const auto engine = module.open(config_for("good"));
      Da3Request request{};
      request.n_views = 2;
      return outcome([&] {
        engine->submit(request);
        return std::string();
      });
    });
    CHECK(text.starts_with(std::to_string(DA3_ERROR_NO_MEMORY) + "|"));
    CHECK(text.ends_with("|only the return value says it"));
  }
}
