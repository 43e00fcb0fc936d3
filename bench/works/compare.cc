// SPDX-License-Identifier: MIT
//
// Work `compare`: the same network, weights, pictures and threads through this engine and through the peers
// that the user has, by turns in one run. From 8-bit pixels of the network's size to depth and cameras in
// host memory. Peers that are not there are rows that say why.
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "engine/checkpoint/synthetic.h"
#include "works/dacpp.h"
#include "works/engine_worker.h"
#include "works/write_model.h"

namespace da3::bench {
namespace {

// What all of one comparison share.
struct Case {
  std::string model, folder;  // name, and the folder with its file
  std::string pictures;       // raw RGB
  std::string onnx;           // file to be exported
  std::string results;        // folder
  Size size;
  int64_t batch = 1, views = 1, threads = 0;
  std::string device;
};

struct Peer {
  std::string name;
  std::function<Worker(const Options&, const Case&)> start;
};

std::vector<std::string> shape_arguments(const Case& c) {
  return {"--width",   std::to_string(c.size.width), "--height", std::to_string(c.size.height),
          "--batch",   std::to_string(c.batch),      "--views",  std::to_string(c.views),
          "--threads", std::to_string(c.threads)};
}

std::string script(const char* name) {
  return std::string(DA3_BENCH_SCRIPTS "/") + name;
}

void need_upstream(const Options& o) {
  if (o.upstream.empty()) throw std::runtime_error("no --upstream given");
  struct stat found;
  if (stat((o.upstream + "/src/depth_anything_3/cfg.py").c_str(), &found) != 0)
    throw std::runtime_error("--upstream '" + o.upstream +
                             "' is no checkout of Depth-Anything-3 (no src/depth_anything_3)");
}

std::string python_of(const Options& o) {
  return o.python.empty() ? "python3" : o.python;
}

Worker start_upstream(const Options& o, const Case& c, const std::string& mode) {
  need_upstream(o);
  std::vector<std::string> command = {python_of(o), script("upstream_peer.py"),
                                      "--upstream", o.upstream,
                                      "--folder",   c.folder,
                                      "--pictures", c.pictures,
                                      "--mode",     mode,
                                      "--device",   c.device};
  const auto shape = shape_arguments(c);
  command.insert(command.end(), shape.begin(), shape.end());
  return Worker::spawn(command);
}

// Once for each case; the file is kept.
void export_onnx(const Options& o, const Case& c) {
  if (std::ifstream(c.onnx)) return;
  need_upstream(o);
  Worker worker = Worker::spawn({python_of(o), script("export_onnx.py"), o.upstream, c.folder, c.onnx,
                                 std::to_string(c.batch), std::to_string(c.views),
                                 std::to_string(c.size.height), std::to_string(c.size.width)});
  worker.hear(1800);
}

Worker start_onnx(const Options& o, const Case& c, const std::string& engine, const std::string& precision) {
  if (o.venv.empty()) throw std::runtime_error("no --venv given");
  const std::string python = o.venv + "/bin/python";
  if (!std::ifstream(python)) throw std::runtime_error("--venv '" + o.venv + "' is no virtual environment");
  export_onnx(o, c);
  std::vector<std::string> command = {
      python,     script("onnx_peer.py"), "--engine", engine,     "--onnx", c.onnx, "--pictures",
      c.pictures, "--precision",          precision,  "--device", c.device};
  const auto shape = shape_arguments(c);
  command.insert(command.end(), shape.begin(), shape.end());
  return Worker::spawn(command);
}

std::vector<Peer> peers() {
  std::vector<Peer> out;
  for (const auto& [name, mode] : {std::pair{"upstream", "eager"},
                                   {"upstream-autocast", "autocast"},
                                   {"upstream-bf16", "bf16"},
                                   {"upstream-compile", "compile"},
                                   {"upstream-compile-bf16", "compile-bf16"}})
    out.push_back(
        {name, [mode = std::string(mode)](auto& o, auto& c) { return start_upstream(o, c, mode); }});
  out.push_back({"onnxruntime", [](auto& o, auto& c) { return start_onnx(o, c, "onnxruntime", "fp32"); }});
  out.push_back({"openvino", [](auto& o, auto& c) { return start_onnx(o, c, "openvino", "fp32"); }});
  out.push_back({"openvino-bf16", [](auto& o, auto& c) { return start_onnx(o, c, "openvino", "bf16"); }});
  out.push_back(
      {"depth-anything.cpp", [](const Options& o, const Case& c) {
         if (c.batch * c.views != 1) throw std::runtime_error("it is compared on one picture");
         return start_dacpp({o.dacpp, o.dacpp_model, o.dacpp_arguments, c.pictures, c.size, c.threads});
       }});
  return out;
}

void write_pictures(const Case& c) {
  std::ofstream file(c.pictures, std::ios::binary);
  std::vector<char> pixels(size_t(c.size.width * c.size.height * 3));
  for (int64_t i = 0; i < c.batch * c.views; ++i) {
    synthetic::fill_rgb(reinterpret_cast<uint8_t*>(pixels.data()), int(c.size.width), int(c.size.height),
                        int(i));
    file.write(pixels.data(), std::streamsize(pixels.size()));
  }
  file.close();
  if (!file) throw std::runtime_error("cannot write '" + c.pictures + "'");
}

bool wanted(const Options& o, const std::string& name) {
  return o.peers.empty() || std::find(o.peers.begin(), o.peers.end(), name) != o.peers.end();
}

std::vector<Alternative> alternatives_of(const Options& o, const Case& c, std::vector<EngineSetup>* setups) {
  std::vector<Alternative> out;
  std::vector<std::string> precisions = o.precisions;
  if (precisions.empty())
    precisions = c.device.rfind("cuda", 0) == 0 ? std::vector<std::string>{"fp32", "bf16"}
                                                : std::vector<std::string>{"fp32", "bf16", "int8"};
  for (const std::string& precision : precisions) {
    EngineSetup setup;
    setup.model = c.folder;
    setup.device = o.device;
    setup.precision = precision;
    setup.size = c.size;
    setup.batch = c.batch;
    setup.views = c.views;
    setup.threads = c.threads;
    setups->push_back(setup);
    out.push_back(engine_alternative(setup));
    out.back().subject["peer"] = "gst-da3";
    out.back().subject["model"] = c.model;
  }
  for (const Peer& peer : peers()) {
    if (!wanted(o, peer.name)) continue;
    EngineSetup setup = setups->front();
    setups->push_back(setup);
    Row subject = {{"peer", peer.name},
                   {"model", c.model},
                   {"size", c.size.text()},
                   {"batch", c.batch},
                   {"views", c.views}};
    out.push_back({subject, [&o, c, start = peer.start] { return start(o, c); }});
  }
  return out;
}

// Every figure beside those of our engine in fp32.
void finish(Context& context, std::vector<Outcome>& outcomes, const std::vector<EngineSetup>& setups) {
  for (Outcome& outcome : outcomes) outcome.worker.reset();
  const Outcome& reference = outcomes.front();
  const double gflop = reference.ready.value("gflop", 0.0);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    Row row = {{"work", "compare"}};
    for (const auto& [key, value] : outcomes[i].row.items()) row[key] = value;
    if (outcomes[i].ready.contains("version")) row["version"] = outcomes[i].ready["version"];
    if (outcomes[i].ready.contains("load_ms")) row["load_ms"] = outcomes[i].ready["load_ms"];
    // Work that is needed, whatever a peer does beyond it.
    Row ready = {{"gflop", gflop}};
    if (gflop > 0) add_rates(context, setups[i], ready, &row);
    if (row.contains("median_ms") && reference.row.contains("median_ms"))
      row["time_over_ours_fp32"] = row["median_ms"].get<double>() / reference.row["median_ms"].get<double>();
    if (!outcomes[i].result.empty() && !reference.result.empty()) {
      try {
        const Row errors =
            compare_results(PassResult::read(outcomes[i].result), PassResult::read(reference.result));
        for (const auto& [key, value] : errors.items()) row[key] = value;
      } catch (const std::exception& e) {
        row["remark"] = e.what();
      }
    }
    context.add(row);
  }
}

std::vector<std::string> models_of(const Options& o) {
  if (!o.models.empty()) return o.models;
  if (o.quick) return {"synthetic:da3-small"};
  return {"synthetic:da3-small", "synthetic:da3-base", "synthetic:da3-large"};
}

void run(Context& context) {
  const Options& o = context.options;
  const int64_t cores = std::max(1u, std::thread::hardware_concurrency());
  const auto first = [](const auto& list, auto otherwise) {
    return list.empty() ? decltype(otherwise)(otherwise) : decltype(otherwise)(list.front());
  };
  std::vector<Size> sizes = o.sizes;
  if (sizes.empty())
    sizes = o.quick ? std::vector<Size>{{84, 56}} : std::vector<Size>{{504, 504}, {504, 280}};
  for (const std::string& model : models_of(o)) {
    const TemporaryFolder folder;
    Case c;
    c.model = model;
    c.folder = model;
    if (model.rfind("synthetic:", 0) == 0) {
      c.folder = folder / "model";
      in_child([&]() -> Row {
        write_model(model.substr(model.find(':') + 1), c.folder, o.seed);
        return {{"done", true}};
      });
    }
    c.batch = first(o.batches, int64_t(1));
    c.views = first(o.views, int64_t(1));
    c.threads = first(o.threads, cores);
    const std::string device = context.report().machine().value("device", "cpu");
    c.device = device;
    for (const Size& size : sizes) {
      c.size = size;
      c.pictures = folder / ("pictures-" + size.text() + ".rgb");
      c.onnx = folder / ("network-" + size.text() + ".onnx");
      write_pictures(c);
      std::vector<EngineSetup> setups;
      const std::vector<Alternative> alternatives = alternatives_of(o, c, &setups);
      std::vector<Outcome> outcomes = run_alternatives(alternatives, context.plan(10, 600), folder.path());
      finish(context, outcomes, setups);
    }
  }
}

DA3_BENCH_WORK(90, "compare", "other engines with the same weights and pictures, by turns", run);

}  // namespace
}  // namespace da3::bench
