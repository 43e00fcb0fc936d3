// SPDX-License-Identifier: MIT
#include "scores.h"

#include <algorithm>
#include <cmath>

#include "score/metrics.h"
#include "score/summary.h"

namespace da3::test {
namespace {

double median(std::vector<double> values) {
  score::RunningMedian m;
  for (const double v : values) m.add(v);
  return m.value();
}

// What has no direction is wrong.
double degrees_between(const Eigen::Vector3d& said, const Eigen::Vector3d& truth) {
  if (!(said.norm() > 1e-9) || !said.allFinite()) return 180;
  return std::atan2(said.cross(truth).norm(), said.dot(truth)) * 180 / M_PI;
}

double factor(double a, double b) {
  return std::exp(std::abs(std::log(a / b)));
}

const float* view(const std::vector<float>& planes, int v) {
  return planes.data() + size_t(v) * kPixels;
}

Eigen::Vector3d triple(const float* p) {
  return {p[0], p[1], p[2]};
}

// All rays of the cases beside the true ones: direction and origin of each.
template <typename Body>
void for_each_ray(const Cases& cases, Body&& body) {
  const Cases& truth = true_answers(cases.front().views());
  for (size_t i = 0; i < cases.size(); ++i)
    for (size_t r = 0; r < cases[i].answer.ray.size(); r += 6)
      body(cases[i].answer.ray.data() + r, truth[i].answer.ray.data() + r);
}

score::PairError error_of(const Case& c, int i, int j) {
  return score::score_pair(c.answer.extrinsics[size_t(i)], c.answer.extrinsics[size_t(j)],
                           c.truth.extrinsics[size_t(i)], c.truth.extrinsics[size_t(j)]);
}

double median_of_pairs(const Cases& cases, double score::PairError::*which) {
  std::vector<double> errors;
  for (const Case& c : cases)
    for (int i = 0; i < c.views(); ++i)
      for (int j = i + 1; j < c.views(); ++j)
        if (const double e = error_of(c, i, j).*which; !std::isnan(e)) errors.push_back(e);
  return median(std::move(errors));
}

}  // namespace

double unit_of(const train::ViewSet& set) {
  double sum = 0, count = 0;
  for (size_t v = 0; v < set.extrinsics.size(); ++v) {
    const Matrix34 to_first = geometry::compose(set.extrinsics.front(), geometry::invert(set.extrinsics[v]));
    const Matrix3& k = set.intrinsics[v];
    for (int p = 0; p < int(kPixels); ++p) {
      const double z = set.depth[v * kPixels + size_t(p)];
      if (z <= 0) continue;
      const double x = p % kWidth + 0.5, y = p / kWidth + 0.5;
      const Eigen::Vector3d at(z * (x - k(0, 2)) / k(0, 0), z * (y - k(1, 2)) / k(1, 1), z);
      sum += (to_first.leftCols<3>() * at + to_first.col(3)).norm();
      ++count;
    }
  }
  return sum / count;
}

DepthError depth_error(const Cases& cases) {
  score::Summary summary;
  for (const Case& c : cases)
    for (int v = 0; v < c.views(); ++v)
      if (const auto s = score::score_depth(view(c.answer.depth, v), view(c.truth.depth, v), kPixels, true))
        summary.add(*s);
  return {summary.totals().abs_rel, summary.totals().delta1};
}

double depth_error_of_sets(const Cases& cases) {
  score::Summary summary;
  for (const Case& c : cases)
    if (const auto s =
            score::score_depth(c.answer.depth.data(), c.truth.depth.data(), c.answer.depth.size(), true))
      summary.add(*s);
  return summary.totals().abs_rel;
}

double confidence_ratio(const Cases& cases) {
  struct Pixel {
    float confidence;
    uint32_t drawn;  // in no order that has to do with the picture where confidences are equal
    double error;
  };
  std::vector<Pixel> pixels;
  for (const Case& c : cases) {
    const double unit = unit_of(c.truth);
    for (size_t p = 0; p < c.truth.depth.size(); ++p)
      if (c.truth.depth[p] > 0)
        pixels.push_back({c.answer.confidence[p], uint32_t(p) * 2654435761u,
                          std::abs(std::log(unit * c.answer.depth[p] / c.truth.depth[p]))});
  }
  std::sort(pixels.begin(), pixels.end(), [](const Pixel& a, const Pixel& b) {
    return a.confidence != b.confidence ? a.confidence > b.confidence : a.drawn < b.drawn;
  });
  double sure = 0, unsure = 0;
  for (size_t i = 0; i < pixels.size(); ++i) (i < pixels.size() / 2 ? sure : unsure) += pixels[i].error;
  return sure / unsure;
}

double ray_angle(const Cases& cases) {
  std::vector<double> angles;
  for_each_ray(cases, [&](const float* said, const float* truth) {
    angles.push_back(degrees_between(triple(said), triple(truth)));
  });
  return median(std::move(angles));
}

double ray_length(const Cases& cases) {
  std::vector<double> factors;
  for_each_ray(cases, [&](const float* said, const float* truth) {
    factors.push_back(factor(triple(said).norm(), triple(truth).norm()));
  });
  return median(std::move(factors));
}

double ray_origin_angle(const Cases& cases) {
  std::vector<double> angles;
  for_each_ray(cases, [&](const float* said, const float* truth) {
    if (triple(truth + 3).norm() > score::kStill)
      angles.push_back(degrees_between(triple(said + 3), triple(truth + 3)));
  });
  return median(std::move(angles));
}

double rotation_error(const Cases& cases) {
  return median_of_pairs(cases, &score::PairError::rotation_deg);
}

double direction_error(const Cases& cases) {
  return median_of_pairs(cases, &score::PairError::translation_deg);
}

double unit_factor(const Cases& cases) {
  std::vector<double> factors;
  for (const Case& c : cases) {
    const auto depth =
        score::score_depth(c.answer.depth.data(), c.truth.depth.data(), c.answer.depth.size(), true);
    std::vector<double> scales;
    for (int i = 0; i < c.views(); ++i) {
      for (int j = i + 1; j < c.views(); ++j) {
        const auto distance = [&](const std::vector<Matrix34>& poses) {
          return (geometry::camera_centre(poses[size_t(i)]) - geometry::camera_centre(poses[size_t(j)]))
              .norm();
        };
        if (distance(c.truth.extrinsics) > score::kStill)
          scales.push_back(distance(c.truth.extrinsics) / std::max(distance(c.answer.extrinsics), 1e-9));
      }
    }
    if (depth && !scales.empty()) factors.push_back(factor(depth->scale, median(std::move(scales))));
  }
  return median(std::move(factors));
}

double fov_error(const Cases& cases) {
  std::vector<double> errors;
  for (const Case& c : cases)
    for (size_t v = 0; v < c.answer.intrinsics.size(); ++v)
      errors.push_back(score::fov_error({c.answer.intrinsics[v], kWidth, kHeight},
                                        {c.truth.intrinsics[v], kWidth, kHeight}));
  return median(std::move(errors));
}

Cases with(Cases cases, const Wrong& wrong) {
  for (Case& c : cases) wrong.apply(c);
  return cases;
}

Cases with_answers_of_the_next(Cases cases) {
  for (size_t i = 0; i + 1 < cases.size(); ++i) std::swap(cases[i].answer, cases[i + 1].answer);
  return cases;
}

}  // namespace da3::test
