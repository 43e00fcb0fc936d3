// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "demo/image_feeder.h"
#include "demo/input.h"
#include "demo/options.h"
#include "demo/progress.h"
#include "demo/report.h"

namespace fs = std::filesystem;
using namespace da3::demo;

namespace {

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "da3-demo-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Folder() { fs::remove_all(path_); }
  fs::path operator/(const std::string& name) const { return path_ / name; }
  const fs::path& path() const { return path_; }
  fs::path write(const std::string& name, const std::string& bytes = "x") const {
    std::ofstream(path_ / name, std::ios::binary) << bytes;
    return path_ / name;
  }

 private:
  fs::path path_;
};

Options parse(std::vector<std::string> words) {
  words.insert(words.begin(), "da3-demo");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  return parse_options(int(words.size()), argv.data());
}

std::string usage_error(const std::vector<std::string>& words) {
  try {
    parse(words);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "accepted";
}

template <typename Body>
std::string demo_error(Body&& body) {
  try {
    body();
  } catch (const DemoError& e) {
    return e.what();
  }
  return "accepted";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Options into(const fs::path& outdir) {
  Options options;
  options.outdir = outdir.string();
  return options;
}

// A 2x1 picture, 24 bits.
std::string bmp() {
  std::string bytes(
      "BM\x3e\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x02\0\0\0\x01\0\0\0\x01\0\x18\0\0\0\0\0\x08\0\0\0", 38);
  bytes.append(16, '\0');
  return bytes + std::string("\x10\x20\x30\x40\x50\x60\0\0", 8);
}

}  // namespace

TEST_CASE("options: without a model it is the one that ships, at the size it was trained at") {
  const Options options = parse({"in.mp4", "out"});
  CHECK(options.input == "in.mp4");
  CHECK(options.outdir == "out");
  CHECK(options.model == "da3-demo");
  CHECK(!options.model_given);
  CHECK(!options.render);
  CHECK(options.views == 1);
  CHECK(options.process_res == 196);
  CHECK(!options.max_frames);
  CHECK(parse({"--process-res", "504", "in.mp4", "out"}).process_res == 504);
  CHECK(parse({"--model", "m", "in.mp4", "out"}).process_res == 504);
}

TEST_CASE("options: a rendered clip has no input, groups of views and an end") {
  const Options options = parse({"--render", "out"});
  CHECK(options.render);
  CHECK(options.input.empty());
  CHECK(options.outdir == "out");
  CHECK(options.views == 4);
  CHECK(options.max_frames == 96);
  const Options chosen = parse({"--render", "out", "--views=1", "--max-frames=5"});
  CHECK(chosen.views == 1);
  CHECK(chosen.max_frames == 5);
  CHECK(usage_error({"--render"}) == "OUTDIR is needed");
  CHECK(contains(usage_error({"--render", "in.mp4", "out"}), "more than OUTDIR: \"out\""));
}

TEST_CASE("options: everything, before and behind the words") {
  const Options options = parse({"--model", "m", "in", "--device=cuda:1", "--precision", "bf16", "out",
                                 "--views", "4", "--process-res=112", "--max-frames", "20", "--verbose"});
  CHECK(options.model == "m");
  CHECK(options.model_given);
  CHECK(options.device == "cuda:1");
  CHECK(options.precision == "bf16");
  CHECK(options.views == 4);
  CHECK(options.process_res == 112);
  CHECK(options.max_frames == 20);
  CHECK(options.verbose);
}

TEST_CASE("options: a name that begins with a dash comes after --") {
  CHECK(parse({"--", "-in.mp4", "out"}).input == "-in.mp4");
}

TEST_CASE("options: help needs nothing else") {
  CHECK(parse({"--help"}).help);
  CHECK(contains(usage_text(), "--process-res N"));
}

TEST_CASE("options: what makes no sense is refused by name and value") {
  CHECK(contains(usage_error({}), "INPUT and OUTDIR"));
  CHECK(contains(usage_error({"in"}), "INPUT and OUTDIR"));
  CHECK(contains(usage_error({"in", "out", "more"}), "\"more\""));
  CHECK(contains(usage_error({"--frobnicate", "in", "out"}), "--frobnicate"));
  CHECK(contains(usage_error({"in", "out", "--model"}), "--model needs a value"));
  CHECK(contains(usage_error({"in", "out", "--model", ""}), "--model is empty"));
  CHECK(contains(usage_error({"", "out"}), "INPUT is empty"));
  CHECK(contains(usage_error({"in", "out", "--precision", "int4"}), "\"int4\""));
}

TEST_CASE("options: numbers are whole, in range, and nothing but numbers") {
  for (const char* bad : {"0", "-1", "1025", "2.5", "4x", "", " 4", "99999999999999999999"}) {
    CAPTURE(bad);
    CHECK(contains(usage_error({"in", "out", std::string("--views=") + bad}),
                   "--views is a whole number from 1 to 1024"));
  }
  CHECK(contains(usage_error({"in", "out", "--process-res", "13"}), "from 14 to 8190, not \"13\""));
  CHECK(contains(usage_error({"in", "out", "--max-frames", "0"}),
                 "--max-frames is a whole number from 1, not \"0\""));
}

TEST_CASE("natural order counts numbers") {
  std::vector<std::string> names = {"f10.png", "f2.png", "f1.png", "a", "f02b", "f2", "f100.png", "f"};
  std::sort(names.begin(), names.end(), natural_less);
  CHECK(names == std::vector<std::string>{"a", "f", "f1.png", "f2", "f2.png", "f02b", "f10.png", "f100.png"});
}

TEST_CASE("natural order is an order, for leading zeros and huge numbers, too") {
  const std::vector<std::string> names = {"",
                                          "0",
                                          "00",
                                          "01",
                                          "1",
                                          "1a",
                                          "a1",
                                          "a01",
                                          "a001b",
                                          "a1b",
                                          "a-1",
                                          "\xff",
                                          "99999999999999999999999",
                                          "99999999999999999999998"};
  for (const auto& a : names) {
    CHECK(!natural_less(a, a));
    for (const auto& b : names) {
      if (a != b) CHECK(natural_less(a, b) != natural_less(b, a));
      for (const auto& c : names) {
        if (natural_less(a, b) && natural_less(b, c))
          CHECK_MESSAGE(natural_less(a, c), a << ' ' << b << ' ' << c);
      }
    }
  }
}

TEST_CASE("input: a folder gives its images in order, and nothing else") {
  Folder folder;
  for (const char* name : {"b10.PNG", "b9.jpg", "b11.jpeg", "c.webp", "d.bmp", "e.tif", "f.tiff", "notes.txt",
                           ".hidden.png", "video.mp4", "png"}) {
    folder.write(name);
  }
  fs::create_directory(folder / "folder.png");
  const Input input = inspect_input(folder.path());
  CHECK(input.kind == Input::Kind::images);
  std::vector<std::string> names;
  for (const auto& file : input.files) names.push_back(file.filename().string());
  CHECK(names ==
        std::vector<std::string>{"b9.jpg", "b10.PNG", "b11.jpeg", "c.webp", "d.bmp", "e.tif", "f.tiff"});
}

TEST_CASE("input: a file is judged by its content, not its name") {
  Folder folder;
  CHECK(inspect_input(folder.write("a.mp4", std::string("\x89PNG\r\n\x1a\n....", 12))).kind ==
        Input::Kind::images);
  CHECK(inspect_input(folder.write("b.png", "no image, may be a video")).kind == Input::Kind::video);
  CHECK(inspect_input(folder.write("c", "\xff\xd8\xff\xe0")).kind == Input::Kind::images);
  CHECK(inspect_input(folder.write("d", "RIFF....WEBPVP8 ")).kind == Input::Kind::images);
  CHECK(inspect_input(folder.write("e", "RIFF....AVI LIST")).kind == Input::Kind::video);
  CHECK(inspect_input(folder.write("f", std::string("II*\0", 4))).kind == Input::Kind::images);
  CHECK(inspect_input(folder.write("g", std::string("MM\0*", 4))).kind == Input::Kind::images);
  CHECK(inspect_input(folder.write("h", bmp())).kind == Input::Kind::images);
}

TEST_CASE("input: what is not there, empty, or a folder without images") {
  Folder folder;
  CHECK(contains(demo_error([&] { inspect_input(folder / "no.mp4"); }), "does not exist"));
  CHECK(contains(demo_error([&] { inspect_input(folder.path()); }), "holds no images"));
  CHECK(contains(demo_error([&] { inspect_input(folder.write("e.mp4", "")); }), "is empty"));
  CHECK(contains(demo_error([&] { inspect_input(folder.write("file") / "x"); }), "file"));
}

TEST_CASE("an image is decoded whatever it is called; a broken one is named") {
  gst_init(nullptr, nullptr);
  Folder folder;
  const SamplePtr sample = decode_image(folder.write("picture.png", bmp()));
  REQUIRE(sample);
  int width = 0, height = 0;
  const GstStructure* caps = gst_caps_get_structure(gst_sample_get_caps(sample.get()), 0);
  CHECK(gst_structure_get_int(caps, "width", &width));
  CHECK(gst_structure_get_int(caps, "height", &height));
  CHECK(width == 2);
  CHECK(height == 1);
  const std::string broken =
      demo_error([&] { decode_image(folder.write("broken.bmp", bmp().substr(0, 20))); });
  CHECK(contains(broken, "Cannot decode the image"));
  CHECK(contains(broken, "broken.bmp"));
  CHECK(contains(demo_error([&] { decode_image(folder.write("text.png", "hello")); }), "not a png, jpeg"));
  CHECK(contains(demo_error([&] { decode_image(folder / "gone.png"); }), "missing"));
}

TEST_CASE("the folder is created, and results of an earlier run go") {
  Folder folder;
  const Input input{Input::Kind::video, {folder.write("in.mp4")}};
  prepare_folder(into(folder / "new/deep"), input);
  CHECK(fs::is_directory(folder / "new/deep"));
  folder.write("depth.mp4");
  folder.write("summary.json");
  folder.write("mine.txt");
  prepare_folder(into(folder.path()), input);
  CHECK(!fs::exists(folder / "depth.mp4"));
  CHECK(!fs::exists(folder / "summary.json"));
  CHECK(fs::exists(folder / "mine.txt"));
  CHECK(fs::exists(folder / "in.mp4"));
}

TEST_CASE("an input that would be overwritten is kept, also by another name of it") {
  Folder folder;
  folder.write("depth.mp4", "precious");
  fs::create_hard_link(folder / "depth.mp4", folder / "linked.mp4");
  fs::create_symlink(folder / "depth.mp4", folder / "pointer.mp4");
  for (const char* name : {"depth.mp4", "linked.mp4", "pointer.mp4"}) {
    const Input input{Input::Kind::video, {folder / name}};
    CHECK(contains(demo_error([&] { prepare_folder(into(folder.path()), input); }), "would be overwritten"));
  }
  folder.write("preview.png");
  const Input images{Input::Kind::images, {folder.write("a.png"), folder / "preview.png"}};
  CHECK(contains(demo_error([&] { prepare_folder(into(folder.path()), images); }), "preview.png"));
  CHECK(fs::exists(folder / "preview.png"));
  CHECK(fs::file_size(folder / "depth.mp4") == 8);
}

TEST_CASE("a folder that cannot be") {
  Folder folder;
  const Input input{Input::Kind::video, {folder.write("in.mp4")}};
  CHECK(contains(demo_error([&] { prepare_folder(into(folder / "in.mp4"), input); }), "is not a folder"));
  CHECK(contains(demo_error([&] { prepare_folder(into(folder / "in.mp4/out"), input); }),
                 "Cannot create the folder"));
}

TEST_CASE("the reserve is not seen and can be given back twice") {
  Folder folder;
  Reserve reserve(folder.path());
  CHECK(fs::is_empty(folder.path()));
  reserve.release();
  reserve.release();
  Reserve nowhere(folder / "missing");
  CHECK(fs::is_empty(folder.path()));
}

TEST_CASE("a report without frames says so and leaves nothing but itself") {
  Folder folder;
  folder.write("depth.mp4", "");
  folder.write("poses.tum", "# header");
  Outcome outcome;
  outcome.frames = {{"depth.mp4", 0}, {"depth.mkv", 0}, {"poses.jsonl", 0}, {"poses.tum", 0}};
  const auto files = write_report(into(folder.path()), outcome);
  CHECK(files == std::vector<std::string>{"summary.json"});
  REQUIRE(outcome.error);
  CHECK(std::string(outcome.error->what()) == "The input has no frames.");
  CHECK(!fs::exists(folder / "poses.tum"));
}

TEST_CASE("a lost frame is an error, a model without poses is none") {
  Folder folder;
  folder.write("depth.mp4");
  folder.write("poses.tum", "# header");
  Outcome outcome;
  outcome.frames_in = 3;
  outcome.frames = {{"depth.mp4", 3}, {"depth.mkv", 3}, {"poses.jsonl", 3}, {"poses.tum", 0}};
  CHECK(write_report(into(folder.path()), outcome) ==
        std::vector<std::string>{"depth.mp4", "poses.tum", "summary.json"});
  CHECK(!outcome.error);
  outcome.frames["depth.mkv"] = 2;
  write_report(into(folder.path()), outcome);
  REQUIRE(outcome.error);
  CHECK(std::string(outcome.error->what()) == "depth.mkv has 2 of 3 frames.");
  std::ifstream file(folder / "summary.json");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  CHECK(contains(text, "\"frames_out\": 2"));
  CHECK(contains(text, "\"error\": \"depth.mkv has 2 of 3 frames.\""));
}

TEST_CASE("a summary that cannot be written is an error") {
  Folder folder;
  fs::create_directory(folder / "summary.json");
  Outcome outcome;
  outcome.frames_in = 1;
  const auto files = write_report(into(folder.path()), outcome);
  REQUIRE(outcome.error);
  CHECK(contains(outcome.error->what(), "summary.json"));
  CHECK(files.empty());
}

TEST_CASE("times read like a clock") {
  CHECK(clock_text(0) == "0:00");
  CHECK(clock_text(59.6) == "1:00");
  CHECK(clock_text(75) == "1:15");
  CHECK(clock_text(3700) == "1:01:40");
}
