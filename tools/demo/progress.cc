// SPDX-License-Identifier: MIT
#include "progress.h"

#include <unistd.h>

#include <cstdio>

namespace da3::demo {
namespace {

constexpr double line_period_s = 5;

std::string line_text(std::uint64_t frames, std::uint64_t total, double seconds) {
  const double fps = frames > 0 && seconds > 0 ? double(frames) / seconds : 0;
  char speed[32];
  std::snprintf(speed, sizeof speed, ", %.2f fps", fps);
  std::string line = "frame " + std::to_string(frames);
  // The total is an estimate that may turn out too small.
  if (total >= frames && total > 0) line += " of " + std::to_string(total);
  line += speed;
  if (total > frames && fps > 0) line += ", ETA " + clock_text(double(total - frames) / fps);
  return line;
}

}  // namespace

std::string clock_text(double seconds) {
  const auto whole = static_cast<unsigned long>(seconds + 0.5);
  char text[40];
  if (whole >= 3600) {
    std::snprintf(text, sizeof text, "%lu:%02lu:%02lu", whole / 3600, whole / 60 % 60, whole % 60);
  } else {
    std::snprintf(text, sizeof text, "%lu:%02lu", whole / 60, whole % 60);
  }
  return text;
}

Progress::Progress() : on_terminal_(isatty(STDERR_FILENO) != 0) {}

void Progress::update(std::uint64_t frames, std::uint64_t total, double seconds) {
  if (on_terminal_) {
    std::fprintf(stderr, "\r\033[K%s", line_text(frames, total, seconds).c_str());
    std::fflush(stderr);
    line_open_ = true;
  } else if (seconds - last_line_ >= line_period_s) {
    std::fprintf(stderr, "%s\n", line_text(frames, total, seconds).c_str());
    last_line_ = seconds;
  }
}

void Progress::finish(std::uint64_t frames, std::uint64_t total, double seconds) {
  interrupt_line();
  if (frames > 0) std::fprintf(stderr, "%s\n", line_text(frames, total, seconds).c_str());
}

void Progress::interrupt_line() {
  if (!line_open_) return;
  std::fputs("\r\033[K", stderr);
  line_open_ = false;
}

}  // namespace da3::demo
