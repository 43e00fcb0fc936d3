// SPDX-License-Identifier: MIT
//
// Work `compare`: the same network, weights, pictures and threads through this engine and through the peers
// that the user has, by turns in one run. From 8-bit pixels of the network's size to depth and cameras in
// host memory. Peers that are not there are rows that say why.
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/synthetic.h"
#include "works/dacpp.h"
#include "works/engine_worker.h"
#include "works/write_model.h"

namespace da3::bench {
namespace {

namespace fs = std::filesystem;

constexpr char kOurs[] = "gst-da3";

// What all of one comparison share.
struct Case {
  std::string model, folder;  // name, and the folder with its file
  std::string pictures;       // raw RGB
  std::string onnx;           // folder of exported networks
  Size size;
  int64_t batch = 1, views = 1, threads = 0;
  std::string device;
};

struct Peer {
  std::string kind;  // what --peers calls it
  std::string name;  // what its row says
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

// Another network, other weights or another shape is another file.
std::string onnx_name(const Case& c, const std::string& precision) {
  const Row answer = in_child([&]() -> Row { return {{"hash", Checkpoint::open(c.folder)->hash()}}; });
  std::string name = fs::path(c.model.substr(c.model.find(':') + 1)).filename().string();
  for (char& letter : name)
    if (!std::isalnum(static_cast<unsigned char>(letter)) && letter != '-' && letter != '_') letter = '_';
  return name + "-" + answer.value("hash", "") + "-" + c.size.text() + "-batch" + std::to_string(c.batch) +
         "-views" + std::to_string(c.views) + "-" + precision;
}

// The network as a file, exported unless it is there. A large one has files beside it: each has a folder of
// its own, which gets its name when it is complete.
std::string exported_onnx(const Options& o, const Case& c, const std::string& precision) {
  const fs::path folder = fs::path(c.onnx) / onnx_name(c, precision);
  if (fs::exists(folder / "network.onnx")) return folder / "network.onnx";
  need_upstream(o);
  const fs::path partial = folder.string() + ".part";
  fs::remove_all(partial);
  fs::create_directories(partial);
  {
    Worker worker = Worker::spawn({python_of(o), script("export_onnx.py"), o.upstream, c.folder,
                                   partial / "network.onnx", std::to_string(c.batch), std::to_string(c.views),
                                   std::to_string(c.size.height), std::to_string(c.size.width), precision});
    worker.hear(1800);
  }
  fs::rename(partial, folder);
  return folder / "network.onnx";
}

// `exported`: the precision of the file.
Worker start_onnx(const Options& o, const Case& c, const std::string& engine, const std::string& precision,
                  const std::string& exported) {
  if (o.venv.empty()) throw std::runtime_error("no --venv given");
  const std::string python = o.venv + "/bin/python";
  if (!std::ifstream(python)) throw std::runtime_error("--venv '" + o.venv + "' is no virtual environment");
  std::vector<std::string> command = {python,        script("onnx_peer.py"),
                                      "--engine",    engine,
                                      "--onnx",      exported_onnx(o, c, exported),
                                      "--pictures",  c.pictures,
                                      "--precision", precision,
                                      "--device",    c.device};
  const auto shape = shape_arguments(c);
  command.insert(command.end(), shape.begin(), shape.end());
  return Worker::spawn(command);
}

// Each file of depth-anything.cpp is a peer, named after it.
void add_dacpp(const Options& o, std::vector<Peer>* out) {
  constexpr char kKind[] = "depth-anything.cpp";
  const auto file_name = [](const std::string& path) { return fs::path(path).filename().string(); };
  const std::vector<std::string> models =
      o.dacpp_models.empty() ? std::vector<std::string>{""} : o.dacpp_models;
  for (const std::string& model : models) {
    const bool unique = std::count_if(models.begin(), models.end(), [&](const std::string& other) {
                          return file_name(other) == file_name(model);
                        }) == 1;
    const std::string suffix = model.empty() ? "" : " " + (unique ? file_name(model) : model);
    out->push_back({kKind, kKind + suffix, [model](const Options& o, const Case& c) {
                      if (c.batch * c.views != 1) throw std::runtime_error("it is compared on one picture");
                      return start_dacpp({o.dacpp, model, o.dacpp_arguments, c.pictures, c.size, c.threads});
                    }});
  }
}

std::vector<Peer> peers(const Options& options) {
  std::vector<Peer> out;
  const auto add = [&](const char* name, std::function<Worker(const Options&, const Case&)> start) {
    out.push_back({name, name, std::move(start)});
  };
  for (const auto& [name, mode] : {std::pair{"upstream", "eager"},
                                   {"upstream-autocast", "autocast"},
                                   {"upstream-bf16", "bf16"},
                                   {"upstream-compile", "compile"},
                                   {"upstream-compile-bf16", "compile-bf16"},
                                   {"upstream-compile-parts", "compile-parts"},
                                   {"upstream-compile-parts-bf16", "compile-parts-bf16"}})
    add(name, [mode = std::string(mode)](auto& o, auto& c) { return start_upstream(o, c, mode); });
  add("onnxruntime", [](auto& o, auto& c) { return start_onnx(o, c, "onnxruntime", "fp32", "fp32"); });
  add("onnxruntime-bf16", [](auto& o, auto& c) { return start_onnx(o, c, "onnxruntime", "bf16", "bf16"); });
  // It reduces the precision itself.
  add("openvino", [](auto& o, auto& c) { return start_onnx(o, c, "openvino", "fp32", "fp32"); });
  add("openvino-bf16", [](auto& o, auto& c) { return start_onnx(o, c, "openvino", "bf16", "fp32"); });
  add_dacpp(options, &out);
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

bool wanted(const Options& o, const Peer& peer) {
  return o.peers.empty() || std::find(o.peers.begin(), o.peers.end(), peer.kind) != o.peers.end();
}

std::vector<Alternative> alternatives_of(const Options& o, const Case& c, std::vector<EngineSetup>* setups) {
  std::vector<Alternative> out;
  std::vector<std::string> precisions = o.precisions;
  if (precisions.empty())
    precisions = c.device.rfind("cuda", 0) == 0 ? std::vector<std::string>{"fp32", "bf16"}
                                                : std::vector<std::string>{"fp32", "bf16", "int8"};
  for (const std::string& precision : fp32_first(precisions)) {
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
    out.back().subject["peer"] = kOurs;
    out.back().subject["model"] = c.model;
  }
  for (const Peer& peer : peers(o)) {
    if (!wanted(o, peer)) continue;
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

// Ours in fp32, without TF32; null when it was not asked for or gave nothing.
const Outcome* reference_of(const std::vector<Outcome>& outcomes) {
  for (const Outcome& outcome : outcomes)
    if (outcome.row.value("peer", "") == kOurs && outcome.row.value("precision", "") == "fp32" &&
        !outcome.row.value("tf32", false) && outcome.row.contains("median_ms"))
      return &outcome;
  return nullptr;
}

void add_against(const Outcome& reference, const Outcome& outcome, Row* row) {
  if (row->contains("median_ms"))
    (*row)["time_over_ours_fp32"] =
        row->at("median_ms").get<double>() / reference.row.at("median_ms").get<double>();
  if (outcome.result.empty() || reference.result.empty()) return;
  try {
    const Row errors = compare_results(PassResult::read(outcome.result), PassResult::read(reference.result));
    for (const auto& [key, value] : errors.items()) (*row)[key] = value;
  } catch (const std::exception& e) {
    (*row)["remark"] = e.what();
  }
}

// Every figure beside those of our engine in fp32, if it is there.
void finish(Context& context, std::vector<Outcome>& outcomes, const std::vector<EngineSetup>& setups) {
  for (Outcome& outcome : outcomes) outcome.worker.reset();
  const Outcome* reference = reference_of(outcomes);
  // Work that is needed, whatever a peer does beyond it.
  const Row ready = {{"gflop", gflop_of(setups.front())}};
  for (size_t i = 0; i < outcomes.size(); ++i) {
    Row row = {{"work", "compare"}};
    for (const auto& [key, value] : outcomes[i].row.items()) row[key] = value;
    if (outcomes[i].ready.contains("version")) row["version"] = outcomes[i].ready["version"];
    if (outcomes[i].ready.contains("load_ms")) row["load_ms"] = outcomes[i].ready["load_ms"];
    if (ready["gflop"] > 0) add_rates(context, setups[i], ready, &row);
    if (reference) add_against(*reference, outcomes[i], &row);
    context.add(row);
  }
}

std::vector<std::string> models_of(const Options& o) {
  if (!o.models.empty()) return o.models;
  if (o.quick) return {"synthetic:da3-small"};
  return {"synthetic:da3-small", "synthetic:da3-base", "synthetic:da3-large"};
}

// The folder with the model's file, which Python peers need, too; a name that leads nowhere stays as it is.
std::string folder_of(const Options& o, const std::string& model, const TemporaryFolder& folder) {
  if (model.rfind("synthetic:", 0) == 0) {
    const std::string written = folder / "model";
    in_child([&]() -> Row {
      write_model(model.substr(model.find(':') + 1), written, o.seed);
      return {{"done", true}};
    });
    return written;
  }
  try {
    const fs::path source = source_of_model(model);
    if (fs::is_directory(source)) return source;
    return source.filename() == "model.safetensors" ? source.parent_path().string() : model;
  } catch (const std::exception&) {
    return model;
  }
}

void compare_case(Context& context, const Case& c, const TemporaryFolder& folder) {
  write_pictures(c);
  std::vector<EngineSetup> setups;
  const std::vector<Alternative> alternatives = alternatives_of(context.options, c, &setups);
  std::vector<Outcome> outcomes = run_alternatives(alternatives, context.plan(10, 600), folder.path());
  finish(context, outcomes, setups);
}

void run(Context& context) {
  const Options& o = context.options;
  const auto or_default = [](const auto& given, auto otherwise) { return given.empty() ? otherwise : given; };
  const std::vector<Size> sizes =
      or_default(o.sizes, o.quick ? std::vector<Size>{{84, 56}} : std::vector<Size>{{504, 504}, {504, 280}});
  const std::vector<int64_t> one = {1};
  for (const std::string& model : models_of(o)) {
    const TemporaryFolder folder;
    Case c;
    c.model = model;
    c.folder = folder_of(o, model, folder);
    c.onnx = o.onnx_folder.empty() ? folder / "onnx" : o.onnx_folder;
    c.threads = first_or(o.threads, int64_t(std::max(1u, std::thread::hardware_concurrency())));
    c.device = context.report().machine().value("device", "cpu");
    for (const Size& size : sizes)
      for (const int64_t batch : or_default(o.batches, one))
        for (const int64_t views : or_default(o.views, one)) {
          c.size = size;
          c.batch = batch;
          c.views = views;
          c.pictures = folder / ("pictures-" + size.text() + ".rgb");
          compare_case(context, c, folder);
        }
  }
}

DA3_BENCH_WORK(
    90, "compare", "other engines with the same weights and pictures, by turns", run,
    "--model --size --batch --views --precision --threads=1 --seed --peers --upstream --python --venv "
    "--onnx-folder --dacpp --dacpp-model --dacpp-arguments");

}  // namespace
}  // namespace da3::bench
