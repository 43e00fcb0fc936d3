// SPDX-License-Identifier: MIT
#include "core/report.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <stdexcept>

namespace da3::bench {
namespace {

struct Column {
  const char* key;
  const char* title;
};

// What a row is about, then what was found, in the order of tables. Other keys follow as they come.
constexpr Column kSubject[] = {
    {"peer", "engine"},         {"model", "model"},           {"case", "case"},         {"size", "size"},
    {"forming", "forming"},     {"batch", "batch"},           {"views", "views"},       {"mode", "mode"},
    {"precision", "precision"}, {"attention", "attention"},   {"operator", "operator"}, {"shape", "shape"},
    {"threads", "threads"},     {"neighbours", "neighbours"},
};
constexpr Column kFigures[] = {
    {"median_ms", "median ms"},
    {"p5_ms", "p5 ms"},
    {"p95_ms", "p95 ms"},
    {"p99_ms", "p99 ms"},
    {"runs", "runs"},
    {"images_per_s", "images/s"},
    {"learned_over_this", "learned / this"},
    {"learned_over_this_p5", "at p5"},
    {"learned_over_best", "learned / best"},
    {"gflop", "GFLOP"},
    {"gflops", "GFLOP/s"},
    {"gbytes_per_s", "GB/s"},
    {"ceiling_share", "of ceiling"},
    {"speedup", "speed-up"},
    {"peak_rss_mb", "peak MiB"},
    {"device_peak_mb", "device MiB"},
    {"depth_rel_err_median", "depth error median"},
    {"depth_rel_err_p99", "depth error p99"},
    {"pose_angle_deg", "pose angle deg"},
    {"abs_rel", "AbsRel"},
    {"abs_rel_change", "AbsRel change"},
};
// Shares and relative errors are shown in percent.
const std::set<std::string> kPercent = {"ceiling_share",  "depth_rel_err_median", "depth_rel_err_p99",
                                        "abs_rel_change", "engine_share",         "engine_share_possible"};

bool is_subject(const std::string& key) {
  return std::any_of(std::begin(kSubject), std::end(kSubject), [&](const Column& c) { return key == c.key; });
}

std::string cell(const std::string& key, const Row& value) {
  std::string text;
  if (value.is_string()) {
    text = value.get<std::string>();
  } else if (value.is_number_integer() || value.is_boolean()) {
    text = value.is_boolean() ? (value.get<bool>() ? "yes" : "no") : value.dump();
  } else if (value.is_number()) {
    text = kPercent.count(key) ? number_text(100 * value.get<double>()) + " %"
                               : number_text(value.get<double>());
  } else {
    text = value.dump();
  }
  // A table cell is one line and has no bar.
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.replace(at, 1, "\\|");
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::vector<Column> columns_of(const std::vector<Row>& rows, std::vector<std::string>& others) {
  std::vector<Column> out;
  std::set<std::string> known = {"work"};
  auto add = [&](const Column& c) {
    known.insert(c.key);
    if (std::any_of(rows.begin(), rows.end(), [&](const Row& r) { return r.contains(c.key); }))
      out.push_back(c);
  };
  for (const Column& c : kSubject) add(c);
  for (const Column& c : kFigures) add(c);
  others.reserve(1024);  // the columns point into it
  for (const Row& row : rows)
    for (const auto& [key, value] : row.items())
      if (key != "skipped" && others.size() < 1024 && known.insert(key).second) others.push_back(key);
  for (const std::string& key : others) out.push_back({key.c_str(), key.c_str()});
  const bool skipped =
      std::any_of(rows.begin(), rows.end(), [](const Row& r) { return r.contains("skipped"); });
  if (skipped) out.push_back({"skipped", "skipped because"});
  return out;
}

std::string table(const std::vector<Row>& rows) {
  std::vector<std::string> others;
  const std::vector<Column> columns = columns_of(rows, others);
  std::string head = "|", rule = "|", body;
  for (const Column& c : columns) {
    head += std::string(" ") + c.title + " |";
    rule += is_subject(c.key) ? "---|" : "---:|";
  }
  for (const Row& row : rows) {
    body += "|";
    for (const Column& c : columns)
      body += " " + (row.contains(c.key) ? cell(c.key, row[c.key]) : std::string()) + " |";
    body += "\n";
  }
  return head + "\n" + rule + "\n" + body;
}

}  // namespace

Report::Report(Row machine) {
  machine_["work"] = "machine";
  for (const auto& [key, value] : machine.items())
    if (key != "work") machine_[key] = value;
}

void Report::add(Row row) {
  if (!row.is_object() || !row.contains("work") || !row["work"].is_string() || row["work"] == "machine")
    throw std::invalid_argument("a row is an object that names its work");
  Row clean;
  for (const auto& [key, value] : row.items()) {
    if (value.is_null() || (value.is_number_float() && !std::isfinite(value.get<double>()))) continue;
    clean[key] = value;
  }
  rows_.push_back(std::move(clean));
}

std::vector<Row> Report::rows_of(const std::string& work) const {
  std::vector<Row> out;
  for (const Row& row : rows_)
    if (row["work"] == work) out.push_back(row);
  return out;
}

std::string Report::json() const {
  std::string out = "[\n " + machine_.dump();
  for (const Row& row : rows_) out += ",\n " + row.dump();
  return out + "\n]\n";
}

std::string Report::markdown(const std::string& command) const {
  std::string out = "```\n" + command + "\n```\n\n";
  for (const auto& [key, value] : machine_.items())
    if (key != "work") out += "* " + key + ": " + cell(key, value) + "\n";
  std::vector<std::string> works;
  for (const Row& row : rows_) {
    const auto name = row["work"].get<std::string>();
    if (std::find(works.begin(), works.end(), name) == works.end()) works.push_back(name);
  }
  for (const std::string& name : works) out += "\n## " + name + "\n\n" + table(rows_of(name));
  return out;
}

std::string number_text(double value) {
  if (!std::isfinite(value)) return "-";
  const double size = std::fabs(value);
  char text[64];
  if (size >= 1000 || value == 0) {
    std::snprintf(text, sizeof text, "%.0f", value);
  } else if (size >= 1e-4) {
    const int digits = std::max(0, 3 - int(std::floor(std::log10(size))));
    std::snprintf(text, sizeof text, "%.*f", digits, value);
  } else {
    std::snprintf(text, sizeof text, "%.2e", value);
  }
  return text;
}

std::string label_of(const Row& row) {
  std::string out;
  for (const Column& c : kSubject) {
    if (!row.contains(c.key)) continue;
    const std::string key = c.key;
    const std::string unit = key == "batch" || key == "views" || key == "neighbours" ? key + " " : "";
    out += (out.empty() ? "" : ", ") + unit + cell(c.key, row[c.key]) +
           (key != "threads"  ? ""
            : row[c.key] == 1 ? " thread"
                              : " threads");
  }
  return out;
}

std::string line_of(const Row& row) {
  std::string out = row.value("work", "") + ": " + label_of(row);
  if (row.contains("skipped")) return out + ": skipped, " + row["skipped"].get<std::string>();
  bool first = true;
  for (const Column& c : kFigures) {
    if (!row.contains(c.key) || std::string(c.key) == "runs") continue;
    out += std::string(first ? ": " : ", ") + c.title + " " + cell(c.key, row[c.key]);
    first = false;
  }
  return out;
}

void write_file(const std::string& path, const std::string& content) {
  // A file appears whole; a device or a pipe (/dev/null, /dev/stdout) is written to, not replaced.
  std::error_code unknown;
  const auto kind = std::filesystem::status(path, unknown).type();
  const bool replaced =
      kind == std::filesystem::file_type::regular || kind == std::filesystem::file_type::not_found;
  const std::string written = replaced ? path + ".part" : path;
  std::ofstream file(written, std::ios::binary);
  file << content;
  file.close();
  if (!file || (replaced && std::rename(written.c_str(), path.c_str()) != 0)) {
    const std::string reason = std::strerror(errno);
    if (replaced) std::remove(written.c_str());
    throw std::runtime_error("cannot write '" + path + "': " + reason);
  }
}

}  // namespace da3::bench
