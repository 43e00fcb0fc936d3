// SPDX-License-Identifier: MIT
#include "cases.h"

#include <cstdlib>
#include <future>
#include <map>
#include <stdexcept>

namespace da3::test {
namespace {

const std::vector<train::ViewSet>& scenes(int views) {
  static std::map<int, std::vector<train::ViewSet>> made;
  std::vector<train::ViewSet>& sets = made[views];
  if (sets.empty()) {
    scene::Renderer renderer;
    for (uint64_t i = 0; i < kScenes; ++i)
      sets.push_back(train::make_view_set(train::held_out_set(i, views, kWidth, kHeight), renderer));
  }
  return sets;
}

std::vector<float> copy(const float* values, size_t count) {
  if (values == nullptr) throw std::runtime_error("The engine leaves out what was asked for.");
  return {values, values + count};
}

Answer answer_of(const Da3ResultData& d) {
  const size_t views = d.n_views;
  if (d.width != kWidth || d.height != kHeight || d.ray_width != kRayWidth || d.ray_height != kRayHeight)
    throw std::runtime_error("The engine answers in another size.");
  Answer a;
  a.depth = copy(d.depth, views * kPixels);
  a.confidence = copy(d.confidence, views * kPixels);
  a.ray = copy(d.ray, views * kRays * 6);
  const std::vector<float> extrinsics = copy(d.extrinsics, views * 12),
                           intrinsics = copy(d.intrinsics, views * 9);
  using Rows34 = Eigen::Matrix<float, 3, 4, Eigen::RowMajor>;
  using Rows3 = Eigen::Matrix<float, 3, 3, Eigen::RowMajor>;
  for (size_t v = 0; v < views; ++v) {
    a.extrinsics.push_back(Eigen::Map<const Rows34>(extrinsics.data() + v * 12).cast<double>());
    a.intrinsics.push_back(Eigen::Map<const Rows3>(intrinsics.data() + v * 9).cast<double>());
  }
  return a;
}

void on_done(void* user, Da3Result* result, const Da3Error* error) {
  auto& promise = *static_cast<std::promise<Answer>*>(user);
  const Da3EngineApi& api = EngineModule::instance().api();
  try {
    if (result == nullptr)
      throw std::runtime_error(error && error->message ? error->message : "inference failed");
    Answer answer = answer_of(*api.result_data(result));
    api.result_unref(result);
    promise.set_value(std::move(answer));
  } catch (...) {
    promise.set_exception(std::current_exception());
  }
}

Answer ask(Engine& engine, const train::ViewSet& set, Da3RefViewStrategy reference) {
  std::vector<Da3View> views;
  for (int v = 0; v < set.description.views; ++v)
    views.push_back({set.rgb.data() + size_t(v) * kPixels * 3, 3 * kWidth});
  std::promise<Answer> promise;
  Da3Request r{};
  r.struct_size = sizeof r;
  r.stream = &promise;
  r.views = views.data();
  r.n_views = uint32_t(views.size());
  r.width = kWidth;
  r.height = kHeight;
  r.outputs = DA3_OUTPUT_DEPTH | DA3_OUTPUT_CONFIDENCE | DA3_OUTPUT_POSE | DA3_OUTPUT_RAY;
  r.ref_view_strategy = reference;
  r.done = on_done;
  r.user = &promise;
  engine.submit(r);
  return promise.get_future().get();
}

std::vector<float> true_rays(const train::ViewSet& set, const std::vector<Matrix34>& extrinsics) {
  std::vector<float> out;
  out.reserve(extrinsics.size() * kRays * 6);
  for (size_t v = 0; v < extrinsics.size(); ++v) {
    const Matrix34 pose = geometry::invert(extrinsics[v]);
    const Matrix3& k = set.intrinsics[v];
    for (int y = 0; y < kRayHeight; ++y) {
      for (int x = 0; x < kRayWidth; ++x) {
        const double across = (x + 0.5) * kWidth / kRayWidth, down = (y + 0.5) * kHeight / kRayHeight;
        const Eigen::Vector3d ray((across - k(0, 2)) / k(0, 0), (down - k(1, 2)) / k(1, 1), 1);
        const Eigen::Vector3d direction = pose.leftCols<3>() * ray;
        for (int i = 0; i < 3; ++i) out.push_back(float(direction[i]));
        for (int i = 0; i < 3; ++i) out.push_back(float(pose(i, 3)));
      }
    }
  }
  return out;
}

Answer true_answer(const train::ViewSet& set) {
  Answer a;
  a.depth = set.depth;
  for (float& d : a.depth)
    if (d <= 0) d = 100;  // sky, which counts nowhere
  a.confidence.assign(a.depth.size(), 1.0f);
  const Matrix34 first = geometry::invert(set.extrinsics.front());
  for (const Matrix34& e : set.extrinsics) a.extrinsics.push_back(geometry::compose(e, first));
  a.intrinsics = set.intrinsics;
  a.ray = true_rays(set, a.extrinsics);
  return a;
}

}  // namespace

const Cases& true_answers(int views) {
  static std::map<int, Cases> known;
  Cases& cases = known[views];
  if (cases.empty())
    for (const train::ViewSet& set : scenes(views)) cases.push_back({set, true_answer(set)});
  return cases;
}

std::unique_ptr<Engine> open_shipped(Da3Precision precision, Da3PerformanceMode mode) {
  Da3EngineConfig config{};
  config.struct_size = sizeof config;
  config.model = "da3-demo";
  const char* device = std::getenv("DA3_TEST_DEVICE");
  config.device = device ? device : "cpu";
  config.precision = precision;
  config.performance_mode = mode;
  return EngineModule::instance().open(config);
}

const Cases& answers(const Question& question) {
  static std::map<Question, Cases> known;
  Cases& cases = known[question];
  if (cases.empty()) {
    const auto engine = open_shipped(question.precision, question.mode);
    Cases made;
    for (const train::ViewSet& set : scenes(question.views))
      made.push_back({set, ask(*engine, set, question.reference)});
    cases = std::move(made);
  }
  return cases;
}

}  // namespace da3::test
