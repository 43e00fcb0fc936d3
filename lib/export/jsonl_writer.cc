// SPDX-License-Identifier: MIT
#include <cmath>

#include "export/pose_format.h"
#include "export/text_file.h"

namespace da3::exporter {
namespace {

// Length of the UTF-8 sequence at `s` (RFC 3629), 0 if it is none.
std::size_t utf8_length(const unsigned char* s, std::size_t left) {
  if (s[0] < 0x80) return 1;
  const std::size_t length = s[0] >= 0xC2 && s[0] < 0xE0   ? 2
                             : s[0] >= 0xE0 && s[0] < 0xF0 ? 3
                             : s[0] >= 0xF0 && s[0] < 0xF5 ? 4
                                                           : 0;
  if (length == 0 || length > left) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((s[i] & 0xC0) != 0x80) return 0;
  }
  const bool overlong = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xF0 && s[1] < 0x90);
  const bool surrogate = s[0] == 0xED && s[1] >= 0xA0;
  const bool too_high = s[0] == 0xF4 && s[1] >= 0x90;
  return overlong || surrogate || too_high ? 0 : length;
}

// A JSON object in the making; keys come in the order of the calls. Values that JSON has no number for are
// null.
class Object {
 public:
  Object& text(const char* key, const std::string& value) {
    start(key);
    quote(value);
    return *this;
  }
  Object& text_or_null(const char* key, const std::string& value) {
    return value.empty() ? null(key) : text(key, value);
  }
  Object& integer(const char* key, std::int64_t value) {
    start(key);
    out_ += std::to_string(value);
    return *this;
  }
  Object& number(const char* key, double value) {
    if (!std::isfinite(value)) return null(key);
    start(key);
    append_number(out_, value);
    return *this;
  }
  Object& raw(const char* key, const std::string& json) {
    start(key);
    out_ += json;
    return *this;
  }
  Object& null(const char* key) { return raw(key, "null"); }
  std::string done() const { return out_ + "}"; }

 private:
  void start(const char* key) {
    out_ += out_.size() > 1 ? ",\"" : "\"";
    out_ += key;
    out_ += "\":";
  }
  void quote(const std::string& value) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(value.data());
    out_.push_back('"');
    for (std::size_t i = 0; i < value.size();) {
      const std::size_t length = utf8_length(bytes + i, value.size() - i);
      if (length == 0) {
        out_ += "\\ufffd";
        ++i;
        continue;
      }
      if (value[i] == '"' || value[i] == '\\') {
        out_.push_back('\\');
        out_.push_back(value[i]);
      } else if (bytes[i] < 0x20) {
        constexpr char hex[] = "0123456789abcdef";
        out_ += "\\u00";
        out_.push_back(hex[bytes[i] >> 4]);
        out_.push_back(hex[bytes[i] & 15]);
      } else {
        out_.append(value, i, length);
      }
      i += length;
    }
    out_.push_back('"');
  }

  std::string out_ = "{";
};

std::string matrix_json(const PoseMatrix& pose) {
  std::string out = "[";
  for (int row = 0; row < 3; ++row) {
    out += row > 0 ? ",[" : "[";
    for (int column = 0; column < 4; ++column) {
      if (column > 0) out.push_back(',');
      append_number(out, pose(row, column));
    }
    out.push_back(']');
  }
  return out + "]";
}

std::string stats_json(const std::optional<PlaneStats>& stats) {
  if (!stats) return "null";
  return Object()
      .number("min", stats->min)
      .number("max", stats->max)
      .number("median", stats->median)
      .number("p2", stats->p2)
      .number("p98", stats->p98)
      .number("valid_fraction", stats->valid_fraction)
      .done();
}

std::string intrinsics_json(const std::optional<Intrinsics>& k) {
  if (!k) return "null";
  return Object()
      .number("fx", k->fx)
      .number("fy", k->fy)
      .number("cx", k->cx)
      .number("cy", k->cy)
      .integer("width", k->width)
      .integer("height", k->height)
      .done();
}

std::string source_json(const std::optional<SourceRegion>& source) {
  if (!source) return "null";
  return Object()
      .integer("width", source->width)
      .integer("height", source->height)
      .number("x", source->x)
      .number("y", source->y)
      .number("w", source->w)
      .number("h", source->h)
      .done();
}

class JsonlWriter final : public PoseWriter {
 public:
  JsonlWriter(const std::string& path, PoseDirection direction) : file_(path), direction_(direction) {}

  PoseOutcome write(const PoseRecord& record) override {
    write_header();
    PoseMatrix pose;
    const PoseOutcome outcome = pose_of(record, direction_, pose);
    Object line;
    line.text("type", "frame")
        .integer("frame", record.frame)
        .integer("window", record.window)
        .integer("view", record.view)
        .integer("views", record.views);
    if (record.time_ns) {
      std::string seconds;
      append_seconds(seconds, *record.time_ns);
      line.raw("pts", seconds);
    } else {
      line.null("pts");
    }
    line.raw("pose", outcome == PoseOutcome::written ? matrix_json(pose) : "null");
    if (outcome == PoseOutcome::bad_pose) line.text("pose_error", "not a finite rigid transform");
    line.text("direction", direction_name(direction_))
        .text("axes", "opencv")
        .raw("intrinsics", intrinsics_json(record.intrinsics))
        .raw("source", source_json(record.source))
        .text("kind", kind_name(record.kind))
        .text("unit", unit_name(record.kind))
        .raw("depth", stats_json(record.depth))
        .raw("confidence", stats_json(record.confidence));
    if (record.sky_fraction) line.number("sky_fraction", *record.sky_fraction);
    line.text("role", record.truth ? "truth" : "prediction").text_or_null("model", record.model);
    if (!record.model.empty()) {
      line.text_or_null("weights", record.weights)
          .text_or_null("device", record.device)
          .text_or_null("precision", record.precision)
          .integer("batch", record.batch)
          .number("inference_ms", double(record.inference_ns) / 1e6);
    }
    file_.write_line(line.done());
    return outcome;
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
    file_.write_line(
        Object()
            .text("type", "header")
            .text("format", "gst-da3-poses")
            .integer("version", 1)
            .text("direction", direction_name(direction_))
            .text("pose", std::string("3x4 [R|t], ") + direction_sentence(direction_))
            .text("axes", axes_sentence)
            .text("world", world_sentence)
            .text("pts", time_sentence)
            .text("intrinsics",
                  "pixels of a width x height image, origin at the top left corner of the top left pixel")
            .text(
                "source",
                "the part (x, y, w, h) of the original width x height picture that this image shows, in its "
                "pixels: fx * w / intrinsics.width is fx there")
            .text("unit",
                  "t and depth of each frame: metre, or relative (unknown scale, one for each window)")
            .done());
    has_header_ = true;
  }

  TextFile file_;
  const PoseDirection direction_;
  bool has_header_ = false;
};

}  // namespace

std::unique_ptr<PoseWriter> make_jsonl_writer(const std::string& path, PoseDirection direction) {
  return std::make_unique<JsonlWriter>(path, direction);
}

}  // namespace da3::exporter
