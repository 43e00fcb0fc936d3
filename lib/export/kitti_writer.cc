// SPDX-License-Identifier: MIT
#include "export/pose_format.h"
#include "export/text_file.h"

namespace da3::exporter {
namespace {

// Readers of this format take every line of the pose file as twelve numbers, so what is to be said is said in
// the sidecar, whose readers skip '#'.
class KittiWriter final : public PoseWriter {
 public:
  KittiWriter(const std::string& path, PoseDirection direction)
      : poses_(path), times_(sidecar_path(path)), direction_(direction) {}

  PoseOutcome write(const PoseRecord& record) override {
    PoseMatrix pose;
    if (const PoseOutcome outcome = pose_of(record, direction_, pose); outcome != PoseOutcome::written)
      return outcome;
    write_header();
    if (!has_unit_ || kind_ != record.kind) {
      times_.write_line(std::string("# unit: ") + unit_sentence(record.kind));
      has_unit_ = true;
      kind_ = record.kind;
    }
    std::string line;
    for (int i = 0; i < pose.size(); ++i) {
      if (i > 0) line.push_back(' ');
      append_number(line, pose.data()[i]);
    }
    // Times first: a full disk between the two leaves a time too many, and never a pose without one.
    std::string time;
    if (record.time_ns) {
      append_seconds(time, *record.time_ns);
    } else {
      time = "nan";
    }
    times_.write_line(time);
    poses_.write_line(line);
    return PoseOutcome::written;
  }

  void close() override {
    write_header();
    times_.close();
    poses_.close();
  }
  void cancel() noexcept override {
    poses_.cancel();
    times_.cancel();
  }
  void uncancel() noexcept override {
    poses_.uncancel();
    times_.uncancel();
  }

 private:
  // Beside a device or a pipe there is no place for a second file.
  static std::string sidecar_path(const std::string& path) {
    return is_ordinary_path(path) ? path + ".times.txt" : "/dev/null";
  }

  void write_header() {
    if (has_header_) return;
    times_.write_line(
        std::string("# gst-da3 trajectory, KITTI format: times of the poses in the file beside this one") +
        "\n# poses: 3x4 matrix [R|t], row by row\n# time: " + time_sentence +
        "; nan: the frame had none\n# direction: " + direction_name(direction_) + " (" +
        direction_sentence(direction_) + ")\n# axes: " + axes_sentence + "\n# world: " + world_sentence);
    has_header_ = true;
  }

  TextFile poses_, times_;
  const PoseDirection direction_;
  bool has_header_ = false, has_unit_ = false;
  DepthKind kind_ = DepthKind::none;
};

}  // namespace

std::unique_ptr<PoseWriter> make_kitti_writer(const std::string& path, PoseDirection direction) {
  return std::make_unique<KittiWriter>(path, direction);
}

}  // namespace da3::exporter
