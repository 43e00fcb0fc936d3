// SPDX-License-Identifier: MIT
//
// Work `preprocess`: pictures to the size of the network, from pixels and from JPEG, several at once.
//
// Case `raw`: lib/image (one or two 8-bit steps, as da3preprocess does) against the same steps by cv::resize.
// Case `raw I420`: what decoders give; to RGB first, here and by cv::cvtColor (which repeats chroma, with
// integers). Case `jpeg`: a file in memory to normalised float planes, decoded at full size, and decoded at
// the smallest of 1/8, 1/4 and 1/2 that is not below the target.
//
// `equal` says whether the bytes are those of cv::resize on the picture decoded at full size. Peers in Python
// get the same picture or file, and as many cores as there are threads.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <stdexcept>
#include <thread>

#include "core/worker.h"
#include "engine/checkpoint/synthetic.h"
#include "image/jpeg.h"
#include "image/resize.h"
#include "image/yuv.h"
#include "works/jpeg.h"
#include "works/work.h"

namespace da3::bench {
namespace {

struct Source {
  const char* name;
  int width, height;
};
constexpr Source kSources[] = {{"640x480", 640, 480}, {"1920x1080", 1920, 1080}, {"3840x2160", 3840, 2160}};

using Bytes = std::vector<uint8_t>;

// Smooth areas, edges and grain: what a JPEG of a scene has.
Bytes picture(int width, int height) {
  Bytes out(size_t(width) * size_t(height) * 3);
  synthetic::fill_rgb(out.data(), width, height, 1);
  cv::Mat view(height, width, CV_8UC3, out.data());
  cv::GaussianBlur(view, view, {5, 5}, 1.2);
  return out;
}

cv::Mat resized(const cv::Mat& in, const image::Size& size) {
  if (in.cols == size.width && in.rows == size.height) return in;
  cv::Mat out;
  const bool grows = size.width > in.cols || size.height > in.rows;
  cv::resize(in, out, {size.width, size.height}, 0, 0, grows ? cv::INTER_CUBIC : cv::INTER_AREA);
  return out;
}

// Upstream's way: to the boundary, then to multiples of 14.
cv::Mat two_steps(const cv::Mat& in, const image::ProcessPlan& plan) {
  return resized(resized(in, plan.boundary), plan.final);
}

Bytes by_library(const Bytes& rgb, int width, int height, const image::ProcessPlan& plan) {
  Bytes out(size_t(plan.final.width) * size_t(plan.final.height) * 3);
  image::resize_rgb({rgb.data(), width, height, 3 * width}, plan,
                    {out.data(), plan.final.width, plan.final.height, 3 * plan.final.width});
  return out;
}

// Interleaved bytes to normalised planes.
[[maybe_unused]] std::vector<float> to_tensor(const uint8_t* rgb, int pixels) {
  static const auto table = [] {
    constexpr float kMean[] = {0.485f, 0.456f, 0.406f}, kDeviation[] = {0.229f, 0.224f, 0.225f};
    std::array<std::array<float, 256>, 3> t;
    for (size_t c = 0; c < 3; ++c)
      for (size_t v = 0; v < 256; ++v) t[c][v] = (float(v) / 255.0f - kMean[c]) / kDeviation[c];
    return t;
  }();
  std::vector<float> out(size_t(pixels) * 3);
  for (int i = 0; i < pixels; ++i)
    for (size_t c = 0; c < 3; ++c) out[c * size_t(pixels) + size_t(i)] = table[c][rgb[3 * i + int(c)]];
  return out;
}

// `count` pictures by `threads` threads; milliseconds of all.
double many(int threads, int count, const std::function<void()>& one) {
  return milliseconds_of([&] {
    std::atomic<int> next{0};
    const auto work = [&] {
      while (next.fetch_add(1) < count) one();
    };
    std::vector<std::jthread> pool;
    for (int t = 1; t < threads; ++t) pool.emplace_back(work);
    work();
  });
}

struct Way {
  std::string name;
  std::function<void()> one;
  std::string failure = {};
  Row more = Row::object();
  std::function<double()> milliseconds = {};  // instead of `one`: of all pictures
};

cv::Mat view_of(const Bytes& rgb, int width, int height) {
  return {height, width, CV_8UC3, const_cast<uint8_t*>(rgb.data())};
}

bool equal(const cv::Mat& expected, const Bytes& ours) {
  return expected.isContinuous() && expected.total() * 3 == ours.size() &&
         std::memcmp(expected.data, ours.data(), ours.size()) == 0;
}

std::vector<Way> raw_ways(const Source& source, const Bytes& rgb, const image::ProcessPlan& plan) {
  const auto one = [&rgb, source, plan] { return by_library(rgb, source.width, source.height, plan); };
  const auto mat = [&rgb, source] { return view_of(rgb, source.width, source.height); };
  return {{"ours", [one] { one(); }, {}, {{"equal", equal(two_steps(mat(), plan), one())}}},
          {"two-step cv2", [mat, plan] { two_steps(mat(), plan); }}};
}

// As da3preprocess takes it: chroma filled in, colours rounded once.
image::ConstYuv i420_view(const Bytes& planes, int width, int height) {
  image::ConstYuv yuv;
  const uint8_t* chroma = planes.data() + std::ptrdiff_t(width) * height;
  yuv.data[0] = planes.data();
  yuv.data[1] = chroma;
  yuv.data[2] = chroma + std::ptrdiff_t(width / 2) * (height / 2);
  yuv.stride[0] = width;
  yuv.stride[1] = yuv.stride[2] = width / 2;
  yuv.width = width;
  yuv.height = height;
  yuv.half_width = yuv.half_height = true;
  return yuv;
}

Bytes i420_of(const Bytes& rgb, int width, int height) {
  Bytes out(rgb.size() / 2);
  cv::Mat planes(height * 3 / 2, width, CV_8UC1, out.data());
  cv::cvtColor(view_of(rgb, width, height), planes, cv::COLOR_RGB2YUV_I420);
  return out;
}

// The picture in RGB stays with the thread.
std::vector<Way> i420_ways(const Source& source, const Bytes& planes, const image::ProcessPlan& plan) {
  const auto ours = [=, &planes] {
    static thread_local Bytes rgb;
    rgb.resize(size_t(source.width) * size_t(source.height) * 3);
    image::yuv_to_rgb(i420_view(planes, source.width, source.height), {},
                      {rgb.data(), source.width, source.height, 3 * source.width});
    by_library(rgb, source.width, source.height, plan);
  };
  const auto by_opencv = [=, &planes] {
    static thread_local cv::Mat rgb;
    const cv::Mat in(source.height * 3 / 2, source.width, CV_8UC1, const_cast<uint8_t*>(planes.data()));
    cv::cvtColor(in, rgb, cv::COLOR_YUV2RGB_I420);
    two_steps(rgb, plan);
  };
  return {{"ours", ours}, {"cv2 to RGB, two-step cv2", by_opencv}};
}

// At full size, or reduced as far as the target allows. The memory stays with the thread.
struct Decoded {
  image::Size size;
  Bytes rgb;
};
const Decoded& decoded(const Bytes& file, const image::ProcessPlan& plan, bool reduced) {
  static thread_local image::JpegDecoder decoder;
  static thread_local Decoded out;
  out.size = decoder.open(file.data(), file.size());
  if (reduced) out.size = decoder.scale_to(plan.boundary);
  const size_t stride = 3 * size_t(out.size.width);
  out.rgb.resize(stride * size_t(out.size.height));
  decoder.decode(out.rgb.data(), stride);
  return out;
}

Bytes from_jpeg(const Bytes& file, const image::ProcessPlan& plan, bool reduced) {
  const Decoded& picture = decoded(file, plan, reduced);
  const auto small =
      image::plan_process_size(picture.size, std::max(plan.boundary.width, plan.boundary.height),
                               image::ProcessResMethod::upper_bound_resize);
  if (small.final != plan.final) throw std::runtime_error("the reduced picture ends at another size");
  return by_library(picture.rgb, picture.size.width, picture.size.height, small);
}

// As a float array, then normalised, then transposed: the steps of the Python way.
void tensor_by_opencv(const cv::Mat& rgb) {
  cv::Mat floats;
  rgb.convertTo(floats, CV_32FC3, 1.0 / 255);
  cv::subtract(floats, cv::Scalar(0.485, 0.456, 0.406), floats);
  cv::divide(floats, cv::Scalar(0.229, 0.224, 0.225), floats);
  std::vector<cv::Mat> planes;
  cv::split(floats, planes);
}

std::vector<Way> jpeg_ways(const Bytes& file, const image::ProcessPlan& plan) {
  const auto by_opencv = [=, &file] {
    const Decoded& picture = decoded(file, plan, false);
    return two_steps(view_of(picture.rgb, picture.size.width, picture.size.height), plan);
  };
  const auto ours = [=, &file](const char* name, bool reduced) -> Way {
    const auto one = [=, &file] {
      to_tensor(from_jpeg(file, plan, reduced).data(), plan.final.width * plan.final.height);
    };
    return {name, one, {}, {{"equal", equal(by_opencv(), from_jpeg(file, plan, reduced))}}};
  };
  return {ours("ours", false), ours("ours, reduced scale", true), {"decode, two-step cv2, tensor", [=] {
                                                                     tensor_by_opencv(by_opencv());
                                                                   }}};
}

// What the peers read.
class TemporaryFile {
 public:
  explicit TemporaryFile(const Bytes& bytes) {
    path_ = std::filesystem::temp_directory_path() / ("da3-bench-" + std::to_string(getpid()) + ".picture");
    std::ofstream out(path_, std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
    if (!out.flush()) throw std::runtime_error("cannot write " + path_.string());
  }
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

struct Case {
  const char* kind;  // raw, raw I420 or jpeg
  const Source& source;
  const Bytes& bytes;
  int threads, count;
};

// The Python ways of the published benchmarks, in a thread pool: the product's, with PIL and cv2, and for
// files that with PIL alone.
Way python_way(const Options& o, const Case& c, const std::string& what, std::shared_ptr<Worker>* keep) {
  // Twelve workers were found best for files, on any number of cores.
  const int workers = c.kind == std::string("jpeg") ? 12 : c.threads;
  Way way{"Python, " + what + ", " + std::to_string(workers) + (workers == 1 ? " worker" : " workers"), {}};
  if (o.python.empty()) {
    way.failure = "no --python given";
    return way;
  }
  try {
    const TemporaryFile file(c.bytes);
    auto worker = std::make_shared<Worker>(
        Worker::spawn({o.python, DA3_BENCH_SCRIPTS "/preprocess_peer.py", c.kind, what, file.path(),
                       std::to_string(c.source.width), std::to_string(c.source.height),
                       std::to_string(workers), std::to_string(c.threads)}));
    worker->hear(120);
    *keep = worker;
  } catch (const std::exception& e) {
    way.failure = e.what();
  }
  return way;
}

void measure_ways(Context& context, const Case& c, std::vector<Way> ways) {
  std::vector<std::string> peers;
  if (c.kind != std::string("raw I420")) peers.push_back("PIL and cv2");
  if (c.kind == std::string("jpeg")) peers.push_back("PIL");
  for (const std::string& peer : peers) {
    std::shared_ptr<Worker> python;
    Way way = python_way(context.options, c, peer, &python);
    if (python)
      way.milliseconds = [python, c] {
        return python->ask({{"do", "run"}, {"count", c.count}}).at("ms").get<double>();
      };
    ways.push_back(std::move(way));
  }
  std::vector<Turn> turns;
  for (const Way& way : ways) {
    Turn turn;
    turn.failure = way.failure;
    turn.once = way.milliseconds;
    if (way.one) turn.once = [one = way.one, c] { return many(c.threads, c.count, one); };
    turns.push_back(std::move(turn));
  }
  run_in_turn(turns, context.plan(15, 20));
  for (size_t i = 0; i < turns.size(); ++i) {
    Row row = {{"work", "preprocess"},  {"peer", ways[i].name}, {"case", c.kind},
               {"size", c.source.name}, {"threads", c.threads}, {"batch", c.count}};
    add_times(turns[i], &row);
    if (row.contains("median_ms")) row["images_per_s"] = 1000.0 * c.count / row["median_ms"].get<double>();
    for (const auto& [key, value] : ways[i].more.items()) row[key] = value;
    context.add(row);
  }
}

void run(Context& context) {
  const Options& o = context.options;
  cv::setNumThreads(1);  // threads have a picture each
  std::vector<int64_t> threads = o.threads;
  const int64_t cores = std::max(1u, std::thread::hardware_concurrency());
  if (threads.empty()) {
    for (int64_t t = 1; t < cores; t *= 2) threads.push_back(t);
    threads.push_back(cores);
    if (o.quick) threads = {1, 2};
  }
  for (const Source& source : kSources) {
    if (o.quick && source.width > 640) continue;
    const image::ProcessPlan plan = image::plan_process_size({source.width, source.height}, 504,
                                                             image::ProcessResMethod::upper_bound_resize);
    const Bytes rgb = picture(source.width, source.height);
    const Bytes i420 = i420_of(rgb, source.width, source.height);
    const Bytes file = encode_jpeg(rgb, source.width, source.height, 90);
    for (const int64_t t : threads) {
      const int count = o.quick ? 4 : int(4 * t);
      measure_ways(context, {"raw", source, rgb, int(t), count}, raw_ways(source, rgb, plan));
      measure_ways(context, {"raw I420", source, i420, int(t), count}, i420_ways(source, i420, plan));
      measure_ways(context, {"jpeg", source, file, int(t), count}, jpeg_ways(file, plan));
    }
  }
}

DA3_BENCH_WORK(40, "preprocess",
               "pictures to the size of the network: 640x480 to 4K, raw, I420 and JPEG, threads", run,
               "--threads --python");

}  // namespace
}  // namespace da3::bench
