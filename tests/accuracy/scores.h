// SPDX-License-Identifier: MIT
//
// One number for each thing that can be wrong with an answer, over all cases; and the ways to be wrong.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cases.h"

namespace da3::test {

// Mean distance of what is seen from the first camera [m]: the unit that the network was taught.
double unit_of(const train::ViewSet& set);

struct DepthError {
  double abs_rel, delta1;
};
// Means over the views, each scaled by the ratio of its medians.
DepthError depth_error(const Cases& cases);
// AbsRel with one scale a set, mean over the sets.
double depth_error_of_sets(const Cases& cases);
// Mean error of log depth, in unit_of(), of the surer half of all pixels of all views, over that of the other
// half.
double confidence_ratio(const Cases& cases);

// The world of the answers must be the camera of the first view.
// Median angle of the rays to the true ones [degrees].
double ray_angle(const Cases& cases);
// Median factor, 1 or more, between the lengths of the rays and of the true ones.
double ray_length(const Cases& cases);
// Median angle between the directions of the ray maps' origins and of the true camera centres [degrees].
double ray_origin_angle(const Cases& cases);

// Medians over all pairs [degrees].
double rotation_error(const Cases& cases);
double direction_error(const Cases& cases);
// Median over the sets of the factor, 1 or more, between the scale that brings depth to metres and the one
// that brings translations there.
double unit_factor(const Cases& cases);
// Median relative error of the angle of view.
double fov_error(const Cases& cases);

// Changes one set's answer.
struct Wrong {
  std::string what;
  std::function<void(Case&)> apply;
};
Cases with(Cases cases, const Wrong& wrong);
// Each set gets the answer to the next one.
Cases with_answers_of_the_next(Cases cases);

const std::vector<Wrong>& wrong_depths();
const std::vector<Wrong>& wrong_depths_between_views();
const std::vector<Wrong>& wrong_confidences();
const std::vector<Wrong>& wrong_rays();
const std::vector<Wrong>& wrong_rays_between_views();
const std::vector<Wrong>& wrong_rotations();
const std::vector<Wrong>& wrong_directions();
const std::vector<Wrong>& wrong_units();
const std::vector<Wrong>& wrong_angles_of_view();

}  // namespace da3::test
