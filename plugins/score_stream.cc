// SPDX-License-Identifier: MIT
#include "score_stream.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace da3::plugin {
namespace {

constexpr size_t kLeastTrajectory = 3;

// Means of the pairs of one frame.
struct Mean {
  double sum = 0;
  int count = 0;
  void add(double value) {
    sum += value;
    ++count;
  }
  std::optional<double> value() const { return count ? std::optional(sum / count) : std::nullopt; }
};

std::optional<double> number(double value) {
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

class JsonLine {
 public:
  explicit JsonLine(const char* type) : text_(std::string("{\"type\":\"") + type + "\"") {}
  void add(const char* key, int64_t value) { put(key, std::to_string(value)); }
  void add(const char* key, std::optional<double> value) {
    if (!value || !std::isfinite(*value)) return put(key, "null");
    // Six digits are more than a score is good for; to_chars knows no locale.
    std::array<char, 32> digits;
    const auto end =
        std::to_chars(digits.data(), digits.data() + digits.size(), *value, std::chars_format::general, 6);
    put(key, std::string(digits.data(), end.ptr));
  }
  std::string end() { return text_ + "}"; }

 private:
  void put(const char* key, const std::string& value) { text_ += std::string(",\"") + key + "\":" + value; }
  std::string text_;
};

// Appends "label 1.23unit, "; nothing without a value.
void say(std::string* text, const char* label, std::optional<double> value, int digits, const char* unit) {
  if (!value) return;
  std::array<char, 64> words;
  std::snprintf(words.data(), words.size(), "%s%s %.*f%s", text->empty() ? "" : ", ", label, digits, *value,
                unit);
  *text += words.data();
}

std::optional<double> percent(std::optional<double> share) {
  return share ? std::optional(100 * *share) : std::nullopt;
}

}  // namespace

std::optional<FrameScore> ScoreStream::take(const FramePair& pair) {
  ++frames_;
  if (!pair.has_truth || !pair.has_prediction) {
    ++(pair.has_truth ? no_prediction_ : no_truth_);
    return std::nullopt;
  }
  FrameScore score;
  score.frame = pair.frame;
  score.window = pair.window;
  score.view = pair.view;
  score.depth = pair.depth;
  score.fov_error = pair.fov_error;
  if (pair.depth) summary_.add(*pair.depth);
  if (pair.fov_error) summary_.add_fov(*pair.fov_error);
  score_poses(pair, &score);
  return score;
}

void ScoreStream::score_poses(const FramePair& pair, FrameScore* score) {
  if (window_ != pair.window) end_window();
  // A view of its own is its own world: there is nothing to compare it with.
  if (pair.views < 2 || !pair.predicted_pose || !pair.true_pose) return;
  window_ = pair.window;
  Mean rotation, translation;
  const size_t count = truth_.size();
  for (size_t i = count > kReach ? count - kReach : 0; i < count; ++i) {
    const score::PairError error =
        score::score_pair(estimate_[i], *pair.predicted_pose, truth_[i], *pair.true_pose);
    summary_.add(error);
    rotation.add(error.rotation_deg);
    if (!std::isnan(error.translation_deg)) translation.add(error.translation_deg);
  }
  score->rotation_deg = rotation.value();
  score->translation_deg = translation.value();
  estimate_.push_back(*pair.predicted_pose);
  truth_.push_back(*pair.true_pose);
}

void ScoreStream::end_window() {
  if (truth_.size() >= kLeastTrajectory) summary_.add(*score::score_trajectory(estimate_, truth_));
  window_.reset();
  estimate_.clear();
  truth_.clear();
}

StreamScore ScoreStream::score() const {
  StreamScore result{frames_, no_truth_, no_prediction_, {}};
  if (truth_.size() < kLeastTrajectory) {
    result.totals = summary_.totals();
    return result;
  }
  score::Summary now = summary_;
  now.add(*score::score_trajectory(estimate_, truth_));
  result.totals = now.totals();
  return result;
}

std::string frame_json(const FrameScore& score, std::optional<double> seconds) {
  const auto& depth = score.depth;
  JsonLine line("frame");
  line.add("frame", score.frame);
  line.add("time", seconds);
  line.add("window", score.window);
  line.add("view", int64_t(score.view));
  line.add("abs_rel", depth ? number(depth->abs_rel) : std::nullopt);
  line.add("delta1", depth ? number(depth->delta1) : std::nullopt);
  line.add("scale", depth ? number(depth->scale) : std::nullopt);
  line.add("pixels", depth ? depth->pixels : 0);
  line.add("rotation_error_deg", score.rotation_deg);
  line.add("translation_direction_error_deg", score.translation_deg);
  line.add("fov_error", score.fov_error);
  return line.end();
}

std::string summary_json(const StreamScore& score) {
  const score::Totals& totals = score.totals;
  JsonLine line("summary");
  line.add("frames", int64_t(score.frames));
  line.add("scored", int64_t(score.scored()));
  line.add("without_truth", int64_t(score.no_truth));
  line.add("without_prediction", int64_t(score.no_prediction));
  line.add("abs_rel", number(totals.abs_rel));
  line.add("delta1", number(totals.delta1));
  line.add("pairs", totals.pairs);
  line.add("rotation_error_deg", number(totals.rotation_deg));
  line.add("translation_direction_error_deg", number(totals.translation_deg));
  line.add("auc30", number(totals.auc30));
  line.add("fov_error", number(totals.fov_error));
  line.add("trajectories", totals.trajectories);
  line.add("ate", number(totals.ate));
  line.add("ate_relative", number(totals.ate_relative));
  return line.end();
}

std::string frame_text(const FrameScore& score) {
  std::string text;
  if (score.depth) {
    say(&text, "AbsRel", score.depth->abs_rel, 4, "");
    say(&text, "delta1", score.depth->delta1, 4, "");
  }
  say(&text, "rotation", score.rotation_deg, 2, " deg");
  say(&text, "direction", score.translation_deg, 2, " deg");
  say(&text, "field of view", percent(score.fov_error), 2, " %");
  return "frame " + std::to_string(score.frame) + ": " + (text.empty() ? "nothing to compare" : text);
}

std::string summary_text(const StreamScore& score) {
  const score::Totals& totals = score.totals;
  std::string text;
  say(&text, "AbsRel", number(totals.abs_rel), 4, "");
  say(&text, "delta1", number(totals.delta1), 4, "");
  say(&text, "rotation", number(totals.rotation_deg), 2, " deg");
  say(&text, "direction", number(totals.translation_deg), 2, " deg");
  say(&text, "AUC@30", number(totals.auc30), 3, "");
  say(&text, "field of view", percent(number(totals.fov_error)), 2, " %");
  say(&text, "ATE", number(totals.ate), 3, " m");
  say(&text, "of the path", percent(number(totals.ate_relative)), 2, " %");
  return std::to_string(score.scored()) + " of " + std::to_string(score.frames) + " frames scored" +
         (text.empty() ? "" : ": " + text);
}

}  // namespace da3::plugin
