// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "temp_files.h"
#include "train/curve.h"
#include "train/loader.h"
#include "train/sample.h"
#include "train/schedule.h"

using namespace da3;
using namespace da3::train;
using geometry::Matrix34;

TEST_CASE("train: phases are read, and what is none is named") {
  const auto phases = parse_phases("30x8@56,5x4@252");
  REQUIRE(phases.size() == 2);
  CHECK(phases[0].steps == 30);
  CHECK(phases[1].images == 4);
  CHECK(phases[1].long_side == 252);
}
TEST_CASE("train: no phase at all") {
  CHECK_THROWS_AS(parse_phases(""), std::invalid_argument);
}
TEST_CASE("train: phase without a side") {
  CHECK_THROWS_AS(parse_phases("30x8"), std::invalid_argument);
}
TEST_CASE("train: phase without steps") {
  CHECK_THROWS_AS(parse_phases("0x8@56"), std::invalid_argument);
}
TEST_CASE("train: side that is no multiple of the patch") {
  CHECK_THROWS_AS(parse_phases("3x8@57"), std::invalid_argument);
}
TEST_CASE("train: negative number of images") {
  CHECK_THROWS_AS(parse_phases("3x-8@56"), std::invalid_argument);
}

TEST_CASE("train: a step's plan depends on the step alone, and the rate ends near zero") {
  Schedule s;
  s.phases = parse_phases("400x8@126,600x4@252");
  double highest = 0;
  for (int64_t step = 0; step < s.steps(); ++step) {
    const StepPlan p = s.plan(step), again = s.plan(step);
    CHECK(p.views == again.views);
    CHECK(p.width == again.width);
    CHECK(p.known_cameras == again.known_cameras);
    CHECK(p.width % 14 == 0);
    CHECK(p.height % 14 == 0);
    CHECK(p.width <= (step < 400 ? 126 : 252));
    CHECK(p.views >= 1);
    CHECK(p.views <= 6);
    if (p.known_cameras) CHECK(p.views > 1);
    highest = std::max(highest, p.learning_rate);
  }
  CHECK(highest == doctest::Approx(s.learning_rate));
  CHECK(s.plan(0).learning_rate < 0.02 * s.learning_rate);
  CHECK(s.plan(s.steps() - 1).learning_rate < 1e-3 * s.learning_rate);
}

TEST_CASE("train: heads learn in a third of the steps, and in half of the last phase") {
  Schedule s;
  s.phases = parse_phases("600x8@84,400x8@126,1000x4@196");
  int before = 0, at_last = 0;
  for (int64_t step = 0; step < s.steps(); ++step) {
    const StepPlan p = s.plan(step);
    CAPTURE(step);
    CHECK(p.maps == s.plan(step).maps);
    if (p.ray) CHECK(p.maps);
    (step < 1000 ? before : at_last) += p.maps;
    CHECK(p.sets >= 2);
    CHECK(p.sets % 2 == 0);  // two parts of one size
  }
  CHECK(before > 250);
  CHECK(before < 450);
  CHECK(at_last > 450);
  CHECK(at_last < 550);
}

TEST_CASE("train: the rate stays for a tenth of a run and then falls, fast at first") {
  Schedule s;
  s.phases = parse_phases("2000x8@84");
  const auto rate = [&](int64_t step) { return s.plan(step).learning_rate; };
  CHECK(rate(50) < s.learning_rate);
  CHECK(rate(120) == doctest::Approx(s.learning_rate));
  CHECK(rate(199) == doctest::Approx(s.learning_rate));
  for (int64_t step = 202; step < 2000; ++step) CHECK(rate(step) < rate(step - 1));
  CHECK(rate(300) - rate(400) > rate(1400) - rate(1500));
}

TEST_CASE("train: a schedule described is the options that make it") {
  Schedule s;
  s.phases = parse_phases("600x8@84,400x4@126");
  s.learning_rate = 0.001;
  s.seed = 7;
  CHECK(describe(s) == "--phases 600x8@84,400x4@126 --rate 0.001 --seed 7");
  s.views = 2;
  s.distinct = 5;
  CHECK(describe(s) == "--phases 600x8@84,400x4@126 --rate 0.001 --seed 7 --views 2 --distinct 5");
}

TEST_CASE("train: sets of few small views share their scene with neighbours, and nothing else") {
  const auto same_scene = [](const SetDescription& a, const SetDescription& b) {
    return a.scene_seed == b.scene_seed && a.family == b.family;
  };
  for (const int width : {56, 84, 126, 196}) {
    for (const int views : {1, 2, 4, 5, 6}) {
      CAPTURE(width);
      CAPTURE(views);
      const int pictures = width <= 84 ? 8 : width <= 126 ? 4 : 2;
      const uint64_t neighbours = views >= pictures ? 1 : uint64_t(pictures / views);
      for (uint64_t i = 0; i < 24; ++i) {
        CAPTURE(i);
        const SetDescription a = training_set(3, i, views, width, 42),
                             b = training_set(3, i + 1, views, width, 42);
        CHECK(same_scene(a, b) == (i / neighbours == (i + 1) / neighbours));
        CHECK(a.view_seed != b.view_seed);
        CHECK(!same_scene(a, training_set(4, i, views, width, 42)));
      }
    }
  }
}

TEST_CASE("train: held-out scenes are never trained on") {
  std::set<scene::Family> families;
  for (uint64_t i = 0; i < 400; ++i) {
    const SetDescription d = training_set(1, i, 2, 56, 42);
    CHECK(d.scene_seed >= kFirstTrainingSeed);
    CHECK(d.family != kHeldOutFamily);
    families.insert(d.family);
    CHECK(held_out_set(i, 1, 56, 42).scene_seed < kFirstTrainingSeed);
    CHECK(held_out_set(i, 1, 56, 42).family != kHeldOutFamily);
    CHECK(held_out_family_set(i, 1, 56, 42).family == kHeldOutFamily);
  }
  CHECK(families.size() == scene::kFamilies - 1);
}

namespace {

// Median relative difference between the depth of view b and that of a point seen by view a, where both see
// it.
double disagreement(const ViewSet& set, size_t a, size_t b, bool wrong_sign) {
  const SetDescription& d = set.description;
  const size_t pixels = size_t(d.width) * size_t(d.height);
  Matrix34 to_b = geometry::compose(set.extrinsics[b], geometry::invert(set.extrinsics[a]));
  if (wrong_sign) to_b.col(3) *= -1;
  const auto& k = set.intrinsics[a];
  std::vector<double> differences;
  for (int y = 2; y < d.height; y += 4) {
    for (int x = 2; x < d.width; x += 4) {
      const double z = set.depth[a * pixels + size_t(y * d.width + x)];
      if (z <= 0) continue;
      const Eigen::Vector3d p(z * (x + 0.5 - k(0, 2)) / k(0, 0), z * (y + 0.5 - k(1, 2)) / k(1, 1), z);
      const Eigen::Vector3d q = to_b.leftCols<3>() * p + to_b.col(3);
      const int u = int(std::floor(q.x() / q.z() * k(0, 0) + k(0, 2)));
      const int v = int(std::floor(q.y() / q.z() * k(1, 1) + k(1, 2)));
      if (q.z() <= 0 || u < 0 || v < 0 || u >= d.width || v >= d.height) continue;
      const double seen = set.depth[b * pixels + size_t(v * d.width + u)];
      if (seen > 0) differences.push_back(std::abs(seen - q.z()) / q.z());
    }
  }
  if (differences.size() < 10) return 1;
  std::nth_element(differences.begin(), differences.begin() + ptrdiff_t(differences.size() / 2),
                   differences.end());
  return differences[differences.size() / 2];
}

}  // namespace

TEST_CASE("train: depth, pose and intrinsics of a set belong together") {
  scene::Renderer renderer(1);
  SetDescription d = held_out_set(0, 3, 112, 84);
  d.path_share = 0;
  const ViewSet set = make_view_set(d, renderer);
  CHECK(disagreement(set, 0, 1, false) < 0.03);
  CHECK(disagreement(set, 2, 0, false) < 0.03);
  CHECK(disagreement(set, 0, 1, true) > 0.03);  // what a wrong sign would look like
}

TEST_CASE("train: a set depends on its description alone") {
  scene::Renderer one(1), two(2);
  const SetDescription d = training_set(7, 3, 2, 56, 42);
  const ViewSet a = make_view_set(d, one), b = make_view_set(d, two);
  CHECK(a.rgb == b.rgb);
  CHECK(a.depth == b.depth);
  CHECK(a.extrinsics == b.extrinsics);
  const ViewSet other = make_view_set(training_set(8, 3, 2, 56, 42), one);
  CHECK(a.depth != other.depth);
}

TEST_CASE("train: neighbours are other pictures of one place, as if each had been made alone") {
  scene::Renderer renderer(1);
  const SetDescription a = training_set(7, 0, 2, 56, 42), b = training_set(7, 1, 2, 56, 42);
  const scene::Scene place = scene::Scene::make(a.family, a.scene_seed);
  const ViewSet first = make_view_set(a, place, renderer), second = make_view_set(b, place, renderer);
  CHECK(first.rgb != second.rgb);
  CHECK(first.extrinsics != second.extrinsics);
  const ViewSet alone = make_view_set(b, renderer);
  CHECK(second.rgb == alone.rgb);
  CHECK(second.depth == alone.depth);
  CHECK(second.extrinsics == alone.extrinsics);
  CHECK(second.intrinsics == alone.intrinsics);
}

TEST_CASE("train: a loader that builds a scene once for its sets gives the same sets") {
  // Twice eight of one scene; then neighbours that are not next to each other.
  const auto describe = [](int64_t step) {
    std::vector<SetDescription> sets;
    for (uint64_t i = 0; i < 16; ++i) sets.push_back(training_set(1, uint64_t(step) * 16 + i, 1, 28, 28));
    std::swap(sets[3], sets[12]);
    return sets;
  };
  scene::Renderer renderer(1);
  Loader loader(describe, 2, 3, 1);
  for (int64_t step = 2; step < 5; ++step) {
    const Batch batch = loader.next();
    const std::vector<SetDescription> wanted = describe(step);
    REQUIRE(batch.size() == wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) {
      CAPTURE(i);
      const ViewSet alone = make_view_set(wanted[i], renderer);
      CHECK(batch[i].description.view_seed == wanted[i].view_seed);
      CHECK(batch[i].rgb == alone.rgb);
      CHECK(batch[i].depth == alone.depth);
    }
  }
}

TEST_CASE("train: one set among neighbours that cannot be made is an error, not a hang") {
  const auto describe = [](int64_t) {
    std::vector<SetDescription> sets;
    for (uint64_t i = 0; i < 4; ++i) sets.push_back(training_set(1, i, 2, 28, 28));
    sets[2].height = 0;
    return sets;
  };
  for (const int threads : {1, 3}) {
    Loader loader(describe, 0, threads, 2);
    CHECK_THROWS(loader.next());
  }
}

TEST_CASE("train: a loader keeps the order, whatever the threads") {
  const auto describe = [](int64_t step) {
    return std::vector<SetDescription>{training_set(1, uint64_t(step), 1, 28, 28),
                                       training_set(2, uint64_t(step), 1, 28, 28)};
  };
  Loader plain(describe, 5, 1, 0), busy(describe, 5, 3, 4);
  for (int64_t step = 5; step < 12; ++step) {
    const Batch a = plain.next(), b = busy.next();
    REQUIRE(a.size() == 2);
    REQUIRE(b.size() == 2);
    for (size_t i = 0; i < 2; ++i) {
      CHECK(a[i].description.scene_seed == describe(step)[i].scene_seed);
      CHECK(a[i].rgb == b[i].rgb);
    }
  }
}

TEST_CASE("train: a set that cannot be made is an error of the loader, not a hang") {
  const auto describe = [](int64_t) {
    SetDescription d = training_set(1, 1, 1, 28, 28);
    d.width = 0;
    return std::vector<SetDescription>{d};
  };
  Loader loader(describe, 0, 2, 0);
  CHECK_THROWS(loader.next());
  CHECK_THROWS(loader.next());  // and stays one
}

TEST_CASE("train: curves become a picture") {
  const test::TempDir dir;
  write_curves(dir / "a.svg", "title", {{"loss", {{0, 2}, {1, 1}, {2, 0.5}}}, {"empty", {}}});
  std::ifstream in(dir / "a.svg");
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  CHECK(text.find("<polyline") != std::string::npos);
  CHECK(text.find("</svg>") != std::string::npos);
  CHECK(text.find("nan") == std::string::npos);
}
TEST_CASE("train: curves that cannot be written") {
  CHECK_THROWS_AS(write_curves("/nonexistent/a.svg", "t", {}), std::runtime_error);
}
