// SPDX-License-Identifier: MIT
//
// The progress line on stderr: one line that is written over on a terminal, else a line every few seconds.
#pragma once

#include <cstdint>
#include <string>

namespace da3::demo {

class Progress {
 public:
  Progress();
  // How often update() is worth calling [ms].
  unsigned interval_ms() const { return on_terminal_ ? 200 : 1000; }
  // `total` 0: not known; `seconds` since the first frame was read.
  void update(std::uint64_t frames, std::uint64_t total, double seconds);
  // The last word; nothing if there was no frame.
  void finish(std::uint64_t frames, std::uint64_t total, double seconds);
  // Makes room for a line of other text.
  void interrupt_line();

 private:
  const bool on_terminal_;
  bool line_open_ = false;
  double last_line_ = 0;
};

// 75 -> "1:15", 3700 -> "1:01:40".
std::string clock_text(double seconds);

}  // namespace da3::demo
