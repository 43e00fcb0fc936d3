// SPDX-License-Identifier: MIT
#include "export/pose_writer.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <Eigen/Geometry>
#include <atomic>
#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "export/text_file.h"

namespace fs = std::filesystem;
using namespace da3::exporter;
using nlohmann::json;

namespace {

// A folder that goes away with the test.
class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "da3-export-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream file(path);
  REQUIRE(file.good());
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> data_lines_of(const std::string& path) {
  std::vector<std::string> lines = lines_of(path);
  std::erase_if(lines, [](const std::string& line) { return line.starts_with("#"); });
  return lines;
}

std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<double> numbers_of(const std::string& line) {
  std::istringstream stream(line);
  stream.imbue(std::locale::classic());
  std::vector<double> values;
  for (double value; stream >> value;) values.push_back(value);
  CHECK(stream.eof());
  return values;
}

const Eigen::Matrix3d example_rotation =
    (Eigen::AngleAxisd(0.7, Eigen::Vector3d(1, 2, 3).normalized())).toRotationMatrix();
const Eigen::Vector3d example_translation(0.25, -1.5, 3.125);

PoseRecord example(std::int64_t frame = 0) {
  PoseRecord record;
  record.frame = frame;
  record.window = frame / 2;
  record.view = int(frame % 2);
  record.views = 2;
  record.time_ns = frame * 83'333'333;
  const auto& r = example_rotation;
  const auto& t = example_translation;
  record.world_to_camera = {r(0, 0), r(0, 1), r(0, 2), t(0),    r(1, 0), r(1, 1),
                            r(1, 2), t(1),    r(2, 0), r(2, 1), r(2, 2), t(2)};
  record.intrinsics = Intrinsics{500.5, 501.25, 320, 180, 640, 360};
  record.source = SourceRegion{1920, 1080, 0, 2.5, 1920, 1075};
  record.kind = DepthKind::relative;
  record.depth = PlaneStats{0.5, 9.5, 2.25, 0.75, 8, 0.998};
  record.confidence = PlaneStats{1, 4, 2, 1.125, 3.5, 1};
  record.model = "da3-small";
  record.weights = "0123456789abcdef";
  record.device = "cpu";
  record.precision = "fp32";
  record.batch = 3;
  record.inference_ns = 1'500'000;
  return record;
}

constexpr auto c2w = PoseDirection::camera_to_world;
constexpr auto w2c = PoseDirection::world_to_camera;

template <typename Body>
FileError file_error(Body&& body) {
  try {
    body();
  } catch (const FileError& e) {
    return e;
  }
  FAIL("no FileError was thrown");
  return FileError(FileError::Step::open, 0, "");
}

}  // namespace

TEST_CASE("tum: camera to world has the camera centre and the inverse rotation") {
  Folder folder;
  auto writer = make_pose_writer("tum", folder / "p", c2w);
  CHECK(writer->write(example(12)) == PoseOutcome::written);
  const auto lines = data_lines_of(folder / "p");
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].starts_with("0.999999996 "));
  const auto v = numbers_of(lines[0]);
  REQUIRE(v.size() == 8);
  const Eigen::Vector3d centre = -example_rotation.transpose() * example_translation;
  for (int i = 0; i < 3; ++i) CHECK(v[1 + i] == doctest::Approx(centre(i)).epsilon(1e-8));
  const Eigen::Quaterniond q(v[7], v[4], v[5], v[6]);
  CHECK((q.toRotationMatrix() - example_rotation.transpose()).cwiseAbs().maxCoeff() < 1e-8);
  CHECK(q.norm() == doctest::Approx(1).epsilon(1e-8));
}

TEST_CASE("tum: world to camera is written as it came") {
  Folder folder;
  auto writer = make_pose_writer("tum", folder / "p", w2c);
  writer->write(example());
  const auto v = numbers_of(data_lines_of(folder / "p").at(0));
  CHECK(v[1] == 0.25);
  CHECK(v[2] == -1.5);
  CHECK(v[3] == 3.125);
  CHECK((Eigen::Quaterniond(v[7], v[4], v[5], v[6]).toRotationMatrix() - example_rotation).norm() < 1e-8);
}

TEST_CASE("tum: qw is never negative, also for half turns") {
  Folder folder;
  auto writer = make_pose_writer("tum", folder / "p", c2w);
  for (double angle : {3.0, 3.141592653589793, 3.3, -3.0}) {
    PoseRecord record = example();
    const Eigen::Matrix3d r = Eigen::AngleAxisd(angle, Eigen::Vector3d::UnitY()).toRotationMatrix();
    for (int i = 0; i < 9; ++i) (*record.world_to_camera)[(i / 3) * 4 + i % 3] = r(i / 3, i % 3);
    CHECK(writer->write(record) == PoseOutcome::written);
  }
  for (const auto& line : data_lines_of(folder / "p")) {
    const auto v = numbers_of(line);
    CHECK(v.at(7) >= 0);
    CHECK(std::abs(v[4] * v[4] + v[5] * v[5] + v[6] * v[6] + v[7] * v[7] - 1) < 1e-8);
  }
}

TEST_CASE("tum: the header says direction, axes, unit and where a new world begins") {
  Folder folder;
  auto writer = make_pose_writer("tum", folder / "p", w2c);
  for (int i = 0; i < 4; ++i) writer->write(example(i));
  PoseRecord metric = example(4);
  metric.kind = DepthKind::metric;
  writer->write(metric);
  const std::string text = text_of(folder / "p");
  CHECK(text.starts_with("# gst-da3 trajectory, TUM format: timestamp tx ty tz qx qy qz qw\n"));
  CHECK(text.find("# direction: w2c (world to camera: X_camera = R * X_world + t)\n") != text.npos);
  CHECK(text.find("# axes: OpenCV camera: x right, y down, z forward\n") != text.npos);
  CHECK(text.find("# unit: relative") < text.find("# unit: metre\n"));
  for (const char* window : {"# window: 0\n", "# window: 1\n", "# window: 2\n"}) {
    const auto at = text.find(window);
    CHECK(at != text.npos);
    CHECK(text.find(window, at + 1) == text.npos);
  }
}

TEST_CASE("tum: a last window of one frame is told, windows of one frame alone are not") {
  Folder folder;
  PoseRecord last = example(2);
  last.views = 1;
  {
    auto writer = make_pose_writer("tum", folder / "p", w2c);
    writer->write(example(0));
    writer->write(example(1));
    writer->write(last);
  }
  CHECK(text_of(folder / "p").find("# window: 1\n") != std::string::npos);
  {
    auto writer = make_pose_writer("tum", folder / "q", w2c);
    writer->write(last);
  }
  CHECK(text_of(folder / "q").find("# window") == std::string::npos);
}

TEST_CASE("kitti: twelve numbers a line and nothing else; header and times beside it") {
  Folder folder;
  auto writer = make_pose_writer("kitti", folder / "p", w2c);
  for (int i = 0; i < 3; ++i) CHECK(writer->write(example(i)) == PoseOutcome::written);
  writer->close();
  const auto poses = lines_of(folder / "p");
  REQUIRE(poses.size() == 3);
  for (const auto& line : poses) {
    const auto v = numbers_of(line);
    REQUIRE(v.size() == 12);
    for (int i = 0; i < 12; ++i) {
      CHECK(v[i] == doctest::Approx((*example().world_to_camera)[i]).epsilon(1e-8));
    }
  }
  CHECK(data_lines_of(folder / "p.times.txt") ==
        std::vector<std::string>{"0.000000000", "0.083333333", "0.166666666"});
  CHECK(text_of(folder / "p.times.txt").find("# direction: w2c") != std::string::npos);
}

TEST_CASE("kitti: camera to world is the inverse") {
  Folder folder;
  auto writer = make_pose_writer("kitti", folder / "p", c2w);
  writer->write(example());
  const auto v = numbers_of(lines_of(folder / "p").at(0));
  Eigen::Matrix4d pose = Eigen::Matrix4d::Identity(), original = Eigen::Matrix4d::Identity();
  for (int i = 0; i < 12; ++i) {
    pose(i / 4, i % 4) = v.at(i);
    original(i / 4, i % 4) = (*example().world_to_camera)[i];
  }
  CHECK((pose * original - Eigen::Matrix4d::Identity()).cwiseAbs().maxCoeff() < 1e-8);
}

TEST_CASE("kitti: a frame without a time keeps its pose") {
  Folder folder;
  auto writer = make_pose_writer("kitti", folder / "p", c2w);
  PoseRecord record = example();
  record.time_ns.reset();
  CHECK(writer->write(record) == PoseOutcome::written);
  CHECK(lines_of(folder / "p").size() == 1);
  CHECK(data_lines_of(folder / "p.times.txt") == std::vector<std::string>{"nan"});
}

TEST_CASE("jsonl: a header object, then everything about each frame") {
  Folder folder;
  auto writer = make_pose_writer("jsonl", folder / "p", c2w);
  writer->write(example(0));
  writer->write(example(3));
  const auto lines = lines_of(folder / "p");
  REQUIRE(lines.size() == 3);
  const json header = json::parse(lines[0]);
  CHECK(header["type"] == "header");
  CHECK(header["version"] == 1);
  CHECK(header["direction"] == "c2w");
  CHECK(header["axes"].get<std::string>().find("OpenCV") == 0);
  const json frame = json::parse(lines[2]);
  CHECK(frame["type"] == "frame");
  CHECK(frame["frame"] == 3);
  CHECK(frame["window"] == 1);
  CHECK(frame["view"] == 1);
  CHECK(frame["views"] == 2);
  CHECK(frame["pts"].get<double>() == doctest::Approx(0.249999999));
  CHECK(frame["direction"] == "c2w");
  CHECK(frame["axes"] == "opencv");
  CHECK(frame["kind"] == "relative");
  CHECK(frame["unit"] == "relative");
  CHECK(frame["intrinsics"]["fy"] == 501.25);
  CHECK(frame["intrinsics"]["width"] == 640);
  CHECK(frame["source"] == json::parse(R"({"width":1920,"height":1080,"x":0,"y":2.5,"w":1920,"h":1075})"));
  CHECK(frame["depth"]["p98"] == 8);
  CHECK(frame["confidence"]["median"] == 2);
  CHECK(frame["model"] == "da3-small");
  CHECK(frame["inference_ms"] == 1.5);
  const Eigen::Vector3d centre = -example_rotation.transpose() * example_translation;
  for (int i = 0; i < 3; ++i) {
    CHECK(frame["pose"][i].size() == 4);
    CHECK(frame["pose"][i][3].get<double>() == doctest::Approx(centre(i)).epsilon(1e-8));
    CHECK(frame["pose"][i][0].get<double>() == doctest::Approx(example_rotation(0, i)).epsilon(1e-8));
  }
}

TEST_CASE("jsonl: a frame without a pose is kept, and says so") {
  Folder folder;
  auto writer = make_pose_writer("jsonl", folder / "p", c2w);
  PoseRecord record;
  record.frame = 7;
  CHECK(writer->write(record) == PoseOutcome::no_pose);
  const json frame = json::parse(lines_of(folder / "p").at(1));
  CHECK(frame["frame"] == 7);
  for (const char* key : {"pose", "pts", "intrinsics", "source", "depth", "confidence", "model"}) {
    CHECK_MESSAGE(frame.at(key).is_null(), key);
  }
  CHECK(!frame.contains("pose_error"));
}

TEST_CASE("jsonl: values that JSON cannot say become null, and every line stays JSON") {
  Folder folder;
  auto writer = make_pose_writer("jsonl", folder / "p", c2w);
  PoseRecord record = example();
  record.depth->max = std::numeric_limits<double>::infinity();
  record.intrinsics->fx = std::numeric_limits<double>::quiet_NaN();
  record.model = "quote \" back \\ tab \t bell \x07 bad \xff\xc0\xaf cut \xe2\x82";
  record.device = "euro \xe2\x82\xac";
  writer->write(record);
  const json frame = json::parse(lines_of(folder / "p").at(1));
  CHECK(frame["depth"]["max"].is_null());
  CHECK(frame["intrinsics"]["fx"].is_null());
  CHECK(frame["model"].get<std::string>().find("quote \" back \\ tab \t bell \x07 bad ") == 0);
  CHECK(frame["device"] == "euro \xe2\x82\xac");
}

TEST_CASE("numbers: a float survives the file, also the smallest and the largest") {
  Folder folder;
  auto writer = make_pose_writer("kitti", folder / "p", w2c);
  const float values[] = {1.0f / 3,
                          std::numeric_limits<float>::max(),
                          std::numeric_limits<float>::denorm_min(),
                          -123456.789f,
                          16777217.0f,
                          0.1f};
  for (float value : values) {
    PoseRecord record = example();
    (*record.world_to_camera)[3] = value;
    writer->write(record);
  }
  const auto lines = lines_of(folder / "p");
  for (std::size_t i = 0; i < std::size(values); ++i) {
    std::istringstream stream(lines.at(i));
    std::string word;
    for (int column = 0; column < 4; ++column) stream >> word;
    CHECK(std::strtof(word.c_str(), nullptr) == values[i]);
  }
}

TEST_CASE("numbers: a comma locale changes nothing") {
  const char* comma = nullptr;
  for (const char* name : {"de_DE.UTF-8", "de_DE.utf8", "de_DE", "fr_FR.UTF-8", "fr_FR.utf8"}) {
    if ((comma = std::setlocale(LC_ALL, name)) != nullptr) break;
  }
  if (comma == nullptr) MESSAGE("no comma locale on this machine: only the C locale was tried");
  Folder folder;
  make_pose_writer("tum", folder / "p", w2c)->write(example(1));
  std::setlocale(LC_ALL, "C");
  CHECK(data_lines_of(folder / "p").at(0).starts_with("0.083333333 0.25 -1.5 3.125 "));
}

TEST_CASE("times are exact to the nanosecond, far from zero and before it") {
  Folder folder;
  auto writer = make_pose_writer("tum", folder / "p", c2w);
  for (std::int64_t time : {std::int64_t(1'700'000'000'123'456'789), std::int64_t(-1),
                            std::int64_t(-2'500'000'000), std::numeric_limits<std::int64_t>::min()}) {
    PoseRecord record = example();
    record.time_ns = time;
    writer->write(record);
  }
  const auto lines = data_lines_of(folder / "p");
  CHECK(lines.at(0).starts_with("1700000000.123456789 "));
  CHECK(lines.at(1).starts_with("-0.000000001 "));
  CHECK(lines.at(2).starts_with("-2.500000000 "));
  CHECK(lines.at(3).starts_with("-9223372036.854775808 "));
}

TEST_CASE("zero is written without a sign") {
  Folder folder;
  PoseRecord record = example();
  record.world_to_camera = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
  make_pose_writer("kitti", folder / "p", c2w)->write(record);
  CHECK(lines_of(folder / "p").at(0) == "1 0 0 0 0 1 0 0 0 0 1 0");
}

TEST_CASE("each line is in the file before the next one is written") {
  for (const auto& format : pose_formats()) {
    CAPTURE(format);
    Folder folder;
    auto writer = make_pose_writer(format, folder / "p", c2w);
    std::size_t before = 0;
    for (int i = 0; i < 3; ++i) {
      writer->write(example(i));
      const std::string text = text_of(folder / "p");
      CHECK(text.size() > before);
      CHECK(text.ends_with("\n"));
      before = text.size();
    }
  }
}

TEST_CASE("a file without frames still says what it would have held") {
  Folder folder;
  for (const auto& format : pose_formats()) {
    CAPTURE(format);
    make_pose_writer(format, folder / format, c2w)->close();
  }
  CHECK(json::parse(text_of(folder / "jsonl"))["type"] == "header");
  CHECK(text_of(folder / "tum").starts_with("# gst-da3"));
  CHECK(text_of(folder / "kitti").empty());
  CHECK(text_of(folder / "kitti.times.txt").starts_with("# gst-da3"));
}

TEST_CASE("an existing longer file is overwritten, not patched") {
  Folder folder;
  std::ofstream(folder / "p") << std::string(100'000, 'x');
  auto writer = make_pose_writer("tum", folder / "p", c2w);
  writer->write(example());
  writer->close();
  CHECK(text_of(folder / "p").find('x' + std::string("x")) == std::string::npos);
  CHECK(text_of(folder / "p").size() < 2000);
}

TEST_CASE("tum and kitti skip a frame without a pose and go on") {
  for (const char* format : {"tum", "kitti"}) {
    CAPTURE(format);
    Folder folder;
    auto writer = make_pose_writer(format, folder / "p", c2w);
    PoseRecord none = example(0);
    none.world_to_camera.reset();
    CHECK(writer->write(none) == PoseOutcome::no_pose);
    CHECK(writer->write(example(1)) == PoseOutcome::written);
    CHECK(data_lines_of(folder / "p").size() == 1);
  }
}

TEST_CASE("tum skips a frame without a time") {
  Folder folder;
  auto writer = make_pose_writer("tum", folder / "p", c2w);
  PoseRecord record = example();
  record.time_ns.reset();
  CHECK(writer->write(record) == PoseOutcome::no_time);
  CHECK(data_lines_of(folder / "p").empty());
}

TEST_CASE("a pose that is none is never written: not finite, mirrored, scaled, zero") {
  const auto broken = [](int index, double value) {
    PoseRecord record = example();
    (*record.world_to_camera)[index] = value;
    return record;
  };
  PoseRecord mirrored = example(), scaled = example(), zero = example();
  for (int i : {0, 1, 2}) (*mirrored.world_to_camera)[i] *= -1;
  for (int i : {0, 1, 2, 4, 5, 6, 8, 9, 10}) (*scaled.world_to_camera)[i] *= 1.01;
  zero.world_to_camera->fill(0);
  const std::vector<PoseRecord> bad = {broken(3, std::numeric_limits<double>::quiet_NaN()),
                                       broken(7, -std::numeric_limits<double>::infinity()),
                                       broken(0, std::numeric_limits<double>::quiet_NaN()),
                                       mirrored,
                                       scaled,
                                       zero};
  for (const auto& format : pose_formats()) {
    CAPTURE(format);
    Folder folder;
    auto writer = make_pose_writer(format, folder / "p", c2w);
    for (const auto& record : bad) CHECK(writer->write(record) == PoseOutcome::bad_pose);
    if (format == "kitti") CHECK(lines_of(folder / "p").empty());
    if (format == "tum") CHECK(data_lines_of(folder / "p").empty());
    if (format != "jsonl") continue;
    for (const auto& line : lines_of(folder / "p")) {
      const json object = json::parse(line);
      if (object["type"] == "frame") CHECK((object["pose"].is_null() && object.contains("pose_error")));
    }
  }
}

TEST_CASE("rotation noise of a float network is no reason to skip") {
  Folder folder;
  PoseRecord record = example();
  for (int i : {0, 5, 10}) (*record.world_to_camera)[i] += 2e-5;
  CHECK(make_pose_writer("tum", folder / "p", c2w)->write(record) == PoseOutcome::written);
}

TEST_CASE("an unknown format is refused and no file appears") {
  Folder folder;
  try {
    make_pose_writer("csv", folder / "p", c2w);
    FAIL("accepted");
  } catch (const std::invalid_argument& e) {
    CHECK(std::string(e.what()).find("\"csv\"") != std::string::npos);
    CHECK(std::string(e.what()).find("jsonl, tum, kitti") != std::string::npos);
  }
  CHECK(!fs::exists(folder / "p"));
}

TEST_CASE("open errors name the path and the reason") {
  Folder folder;
  std::ofstream(folder / "file") << "kept";
  const auto missing = file_error([&] { make_pose_writer("tum", folder / "no/p", c2w); });
  CHECK(missing.step() == FileError::Step::open);
  CHECK(missing.error_number() == ENOENT);
  CHECK(std::string(missing.what()).find(folder / "no/p") != std::string::npos);
  CHECK(std::string(missing.what()).find("the folder does not exist") != std::string::npos);
  CHECK(file_error([&] { make_pose_writer("tum", folder / "", c2w); }).error_number() == EISDIR);
  CHECK(file_error([&] { make_pose_writer("jsonl", folder / "file/p", c2w); }).error_number() == ENOTDIR);
  CHECK(file_error([&] { make_pose_writer("jsonl", "/dev/fd/9999", c2w); }).error_number() == EBADF);
  CHECK(text_of(folder / "file") == "kept");
}

TEST_CASE("kitti: a sidecar that cannot be made is an error at open") {
  Folder folder;
  fs::create_directory(folder / "p.times.txt");
  const auto error = file_error([&] { make_pose_writer("kitti", folder / "p", c2w); });
  CHECK(error.error_number() == EISDIR);
  CHECK(std::string(error.what()).find("p.times.txt") != std::string::npos);
}

TEST_CASE("a full disk is found at the line that does not fit") {
  for (const auto& format : pose_formats()) {
    CAPTURE(format);
    auto writer = make_pose_writer(format, "/dev/full", c2w);
    const auto error = file_error([&] { writer->write(example()); });
    CHECK(error.disk_full());
    CHECK(error.step() == FileError::Step::write);
    CHECK(std::string(error.what()) == "Cannot write \"/dev/full\": the disk is full.");
  }
}

TEST_CASE("a file that cannot grow ends with a whole line") {
  // A file size limit stands in for a full disk where nothing can be mounted: writes are cut short in the
  // same way.
  struct rlimit before {};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  for (const auto& format : pose_formats()) {
    CAPTURE(format);
    Folder folder;
    auto writer = make_pose_writer(format, folder / "p", c2w);
    struct rlimit limit = before;
    limit.rlim_cur = 5000;
    setrlimit(RLIMIT_FSIZE, &limit);
    int written = 0;
    const auto error = file_error([&] {
      for (;; ++written) writer->write(example(written));
    });
    setrlimit(RLIMIT_FSIZE, &before);
    CHECK(error.error_number() == EFBIG);
    CHECK(written > 2);
    const std::string text = text_of(folder / "p");
    CHECK(text.ends_with("\n"));
    CHECK(text.size() <= 5000);
    CHECK(data_lines_of(folder / "p").size() == std::size_t(written) + (format == "jsonl" ? 1 : 0));
  }
  std::signal(SIGXFSZ, handler);
}

TEST_CASE("a full tmpfs: every line before is whole, and writing goes on when there is space again") {
  Folder folder;
  const std::string disk = folder / "disk";
  fs::create_directory(disk);
  if (mount("none", disk.c_str(), "tmpfs", 0, "size=64k") != 0) {
    MESSAGE("tmpfs cannot be mounted here: not tried");
    return;
  }
  {
    std::ofstream(disk + "/ballast") << std::string(40'000, 'x') << std::flush;
    auto writer = make_pose_writer("jsonl", disk + "/p", c2w);
    int written = 0;
    const auto error = file_error([&] {
      for (;; ++written) writer->write(example(written));
    });
    CHECK(error.disk_full());
    CHECK(written > 5);
    CHECK(lines_of(disk + "/p").size() == std::size_t(written) + 1);
    for (const auto& line : lines_of(disk + "/p")) CHECK(json::accept(line));
    fs::remove(disk + "/ballast");
    CHECK(writer->write(example(written)) == PoseOutcome::written);
    CHECK(lines_of(disk + "/p").size() == std::size_t(written) + 2);
    CHECK(json::parse(lines_of(disk + "/p").back())["frame"] == written);
  }
  umount(disk.c_str());
}

TEST_CASE("a FIFO that nobody reads is an error, not a wait") {
  Folder folder;
  REQUIRE(mkfifo((folder / "p").c_str(), 0600) == 0);
  const auto error = file_error([&] { make_pose_writer("tum", folder / "p", c2w); });
  CHECK(error.error_number() == ENXIO);
  CHECK(std::string(error.what()).find("start the reader first") != std::string::npos);
}

TEST_CASE("a FIFO gets the lines; a reader that leaves is an error and no signal") {
  Folder folder;
  REQUIRE(mkfifo((folder / "p").c_str(), 0600) == 0);
  const int reader = open((folder / "p").c_str(), O_RDONLY | O_NONBLOCK);
  auto writer = make_pose_writer("kitti", folder / "p", w2c);
  writer->write(example());
  char bytes[4096];
  const auto got = read(reader, bytes, sizeof bytes);
  REQUIRE(got > 0);
  CHECK(numbers_of(std::string(bytes, std::size_t(got))).size() == 12);
  CHECK(!fs::exists(folder / "p.times.txt"));
  close(reader);
  const auto error = file_error([&] { writer->write(example()); });
  CHECK(error.error_number() == EPIPE);
  CHECK(std::string(error.what()).find("the reader has gone") != std::string::npos);
}

TEST_CASE("cancel wakes a write that waits for a slow reader, and no line is torn") {
  Folder folder;
  REQUIRE(mkfifo((folder / "p").c_str(), 0600) == 0);
  const int reader = open((folder / "p").c_str(), O_RDONLY | O_NONBLOCK);
  TextFile file(folder / "p");
  std::atomic<int> written = 0;
  bool cancelled = false;
  std::thread blocked([&] {
    try {
      for (;;) {
        file.write_line(std::string(999, 'a'));
        ++written;
      }
    } catch (const Cancelled&) {
      cancelled = true;
    }
  });
  file.cancel();
  blocked.join();
  CHECK(cancelled);
  std::string all;
  char bytes[65536];
  for (ssize_t got; (got = read(reader, bytes, sizeof bytes)) > 0;) all.append(bytes, std::size_t(got));
  CHECK(all.size() == std::size_t(written) * 1000);
  file.uncancel();
  file.write_line("again");
  CHECK(read(reader, bytes, sizeof bytes) == 6);
  close(reader);
}

TEST_CASE("writing after close is an error") {
  Folder folder;
  TextFile file(folder / "p");
  file.write_line("one");
  file.close();
  file.close();
  CHECK(file_error([&] { file.write_line("two"); }).error_number() == EBADF);
  CHECK(text_of(folder / "p") == "one\n");
}

TEST_CASE("/dev/fd/N writes to the descriptor the process has, without emptying it") {
  Folder folder;
  const int fd = open((folder / "p").c_str(), O_RDWR | O_CREAT, 0600);
  REQUIRE(write(fd, "before\n", 7) == 7);
  {
    auto writer = make_pose_writer("kitti", "/dev/fd/" + std::to_string(fd), c2w);
    writer->write(example());
    writer->close();
  }
  CHECK(write(fd, "after\n", 6) == 6);
  close(fd);
  const auto lines = lines_of(folder / "p");
  REQUIRE(lines.size() == 3);
  CHECK(lines[0] == "before");
  CHECK(lines[2] == "after");
}
