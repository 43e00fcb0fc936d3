// SPDX-License-Identifier: MIT
#include <Eigen/Geometry>

#include "export/pose_format.h"
#include "export/text_file.h"

namespace da3::exporter {
namespace {

class TumWriter final : public PoseWriter {
 public:
  TumWriter(const std::string& path, PoseDirection direction) : file_(path), direction_(direction) {}

  PoseOutcome write(const PoseRecord& record) override {
    PoseMatrix pose;
    if (const PoseOutcome outcome = pose_of(record, direction_, pose); outcome != PoseOutcome::written)
      return outcome;
    if (!record.time_ns) return PoseOutcome::no_time;
    write_header();
    write_context(record);

    std::string line;
    append_seconds(line, *record.time_ns);
    Eigen::Quaterniond q(Eigen::Matrix3d(pose.leftCols<3>()));
    q.normalize();
    if (q.w() < 0) q.coeffs() = -q.coeffs();
    const Eigen::Vector3d t = pose.col(3);
    for (double value : {t.x(), t.y(), t.z(), q.x(), q.y(), q.z(), q.w()}) {
      line.push_back(' ');
      append_number(line, value);
    }
    file_.write_line(line);
    return PoseOutcome::written;
  }

  void close() override {
    write_header();
    file_.close();
  }
  void cancel() noexcept override { file_.cancel(); }
  void uncancel() noexcept override { file_.uncancel(); }

 private:
  void write_header() {
    if (has_header_) return;
    // In one piece: an interrupted header is written again.
    file_.write_line(std::string("# gst-da3 trajectory, TUM format: timestamp tx ty tz qx qy qz qw") +
                     "\n# timestamp: " + time_sentence + "\n# direction: " + direction_name(direction_) +
                     " (" + direction_sentence(direction_) + ")\n# axes: " + axes_sentence +
                     "\n# world: " + world_sentence);
    has_header_ = true;
  }

  // The unit once and when it changes; the window where windows are more than one frame. The last one may be
  // of one frame all the same.
  void write_context(const PoseRecord& record) {
    if (!has_unit_ || kind_ != record.kind) {
      file_.write_line(std::string("# unit: ") + unit_sentence(record.kind));
      has_unit_ = true;
      kind_ = record.kind;
    }
    if (has_window_ ? window_ != record.window : record.views > 1) {
      file_.write_line("# window: " + std::to_string(record.window));
      has_window_ = true;
      window_ = record.window;
    }
  }

  TextFile file_;
  const PoseDirection direction_;
  bool has_header_ = false, has_unit_ = false, has_window_ = false;
  DepthKind kind_ = DepthKind::none;
  std::int64_t window_ = 0;
};

}  // namespace

std::unique_ptr<PoseWriter> make_tum_writer(const std::string& path, PoseDirection direction) {
  return std::make_unique<TumWriter>(path, direction);
}

}  // namespace da3::exporter
