// SPDX-License-Identifier: MIT
//
// What a run found: rows of named values, as JSON, as Markdown tables and as lines while it runs.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace da3::bench {

// Keys in the order of insertion. Times end in _ms, memory in _mb (MiB), rates in _s; "skipped" holds the
// reason why a row has no figures. What was not measured is absent, never 0 and never null.
using Row = nlohmann::ordered_json;

class Report {
 public:
  // `machine` becomes the first row, with work = "machine".
  explicit Report(Row machine);

  // Every row needs "work". Numbers that are not finite are left out. Throws std::invalid_argument.
  void add(Row row);
  const std::vector<Row>& rows() const { return rows_; }
  const Row& machine() const { return machine_; }
  std::vector<Row> rows_of(const std::string& work) const;

  // A list: the machine, then all rows.
  std::string json() const;
  // The machine, the command and one table for each work; columns that no row of the work has are left out.
  std::string markdown(const std::string& command) const;

 private:
  Row machine_;
  std::vector<Row> rows_;
};

// A line for a person: what the row is about, then its main figures.
std::string line_of(const Row& row);
// "12.3 ms" without the unit: four significant digits, no exponent.
std::string number_text(double value);
// The name of the row among those of its work: the values that tell it from others.
std::string label_of(const Row& row);

// The whole file or nothing. Throws std::runtime_error with name and reason.
void write_file(const std::string& path, const std::string& content);

}  // namespace da3::bench
