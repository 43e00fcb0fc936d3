// SPDX-License-Identifier: MIT
//
// Bar charts as SVG, drawn by hand: no library, no font files.
#pragma once

#include <string>
#include <vector>

#include "core/report.h"

namespace da3::bench {

struct Bar {
  std::string label;
  double value = 0;
  std::string group;  // bars of one group have one colour, named in the legend; "" for none
};

struct Chart {
  std::string title;
  std::string unit;      // of the values, under the axis
  double reference = 0;  // above 0: a line at this value
  std::string reference_label;
  std::vector<Bar> bars;
};

// Horizontal bars from 0, longest scale for the largest value. Values that are not finite or below 0 are
// shown as missing. Text is escaped.
std::string svg_chart(const Chart& chart);

// The main figure of a work: one bar for each row that has it, or nothing when no row has.
std::string svg_of_work(const std::string& work, const std::vector<Row>& rows);

}  // namespace da3::bench
