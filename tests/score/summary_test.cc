// SPDX-License-Identifier: MIT
#include "score/summary.h"

#include <doctest/doctest.h>

#include <cmath>

namespace da3::score {
namespace {

using doctest::Approx;

TEST_CASE("nothing measured is not a number, and no frame") {
  const Totals totals = Summary().totals();
  CHECK(totals.depths == 0);
  CHECK(totals.pairs == 0);
  CHECK(totals.lenses == 0);
  CHECK(totals.trajectories == 0);
  for (const double value : {totals.abs_rel, totals.delta1, totals.rotation_deg, totals.translation_deg,
                             totals.auc30, totals.fov_error, totals.ate, totals.ate_relative}) {
    CHECK(std::isnan(value));
  }
}

TEST_CASE("depth is the mean of frames, not of pixels") {
  Summary summary;
  summary.add(DepthScore{0.1, 0.9, 1, 1});
  summary.add(DepthScore{0.3, 0.5, 1, 1000000});
  const Totals totals = summary.totals();
  CHECK(totals.depths == 2);
  CHECK(totals.abs_rel == Approx(0.2));
  CHECK(totals.delta1 == Approx(0.7));
}

TEST_CASE("angles are medians, and the area is that of auc()") {
  Summary summary;
  const std::vector<PairError> errors = {{1, 5}, {2, 40}, {90, 7}, {3.5, NAN}, {30, 30}};
  summary.add(errors);
  const Totals totals = summary.totals();
  CHECK(totals.pairs == 5);
  CHECK(totals.rotation_deg == 3.5);
  CHECK(totals.translation_deg == 7);  // lower median of 5, 7, 30, 40
  CHECK(totals.auc30 == Approx(auc(errors, 30)));
}

TEST_CASE("pairs without a direction leave its median undefined") {
  Summary summary;
  summary.add(PairError{2, NAN});
  CHECK(summary.totals().rotation_deg == 2);
  CHECK(std::isnan(summary.totals().translation_deg));
  CHECK(summary.totals().auc30 == Approx(28.0 / 30));
}

TEST_CASE("a trajectory that stands still counts for the error alone") {
  Summary summary;
  summary.add(TrajectoryScore{0.5, 0.1, 5, 10});
  summary.add(TrajectoryScore{0.1, NAN, 0, 10});
  CHECK(summary.totals().trajectories == 2);
  CHECK(summary.totals().ate == Approx(0.3));
  CHECK(summary.totals().ate_relative == Approx(0.1));
}

TEST_CASE("fields of view are medians") {
  Summary summary;
  for (const double error : {0.5, 0.01, 0.02}) summary.add_fov(error);
  CHECK(summary.totals().lenses == 3);
  CHECK(summary.totals().fov_error == 0.02);
}

TEST_CASE("the median is exact while all values are kept") {
  RunningMedian median;
  CHECK(std::isnan(median.value()));
  for (int i = 100; i > 0; --i) median.add(i);
  CHECK(median.value() == 50);
  CHECK(median.count() == 100);
}

TEST_CASE("the median of very many values stays near the true one") {
  RunningMedian median;
  const int64_t count = 5 * int64_t(RunningMedian::kExact);
  for (int64_t i = 0; i < count; ++i) median.add(double(i) / double(count));
  CHECK(median.count() == count);
  CHECK(median.value() == Approx(0.5).epsilon(1e-5));
}

}  // namespace
}  // namespace da3::score
