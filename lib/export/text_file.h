// SPDX-License-Identifier: MIT
//
// A text file that is written line by line: a line is in the file, whole, when write_line() returns, or it is
// not there at all. Regular files, FIFOs, devices and /dev/stdout.
//
// Threading: one writer; cancel() and uncancel() may be called from any thread.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace da3::exporter {

// A system call failed; `error_number()` is its errno and what() one sentence with the path and the reason.
class FileError : public std::runtime_error {
 public:
  enum class Step { open, write, close };
  FileError(Step step, int error_number, const std::string& message)
      : std::runtime_error(message), step_(step), error_number_(error_number) {}
  Step step() const { return step_; }
  int error_number() const { return error_number_; }
  bool disk_full() const;

 private:
  Step step_;
  int error_number_;
};

// A blocked write was interrupted by cancel(). Nothing is wrong with the file.
class Cancelled : public std::runtime_error {
 public:
  Cancelled() : std::runtime_error("writing was cancelled") {}
};

// True if `path` is, or would become, an ordinary file in a folder; false for FIFOs, devices and /dev/stdout.
bool is_ordinary_path(const std::string& path);

class TextFile {
 public:
  // Creates or empties `path`. "/dev/stdout", "/dev/stderr" and "/dev/fd/N" mean the descriptor the process
  // already has. A FIFO that nobody reads is an error, not a wait. Throws FileError.
  explicit TextFile(const std::string& path);
  ~TextFile();
  TextFile(const TextFile&) = delete;
  TextFile& operator=(const TextFile&) = delete;

  // Writes `line` (which may be several, separated by newlines) and a newline. When the disk fills up, what
  // was already written of it is taken back, so the file ends with the last whole line. A FIFO gets lines of
  // up to PIPE_BUF bytes whole or not at all. Throws FileError or Cancelled.
  void write_line(std::string_view line);
  // Closes and checks: some file systems report a failed write only now. Further calls do nothing. Throws
  // FileError.
  void close();

  // Wakes a write that waits for the reader of a FIFO; writes throw Cancelled until uncancel().
  void cancel() noexcept;
  void uncancel() noexcept;

  const std::string& path() const { return path_; }

 private:
  void write_all(std::string_view bytes);
  void wait_writable();
  [[noreturn]] void fail(FileError::Step step, int error_number) const;

  std::string path_;
  int fd_ = -1;
  int wake_fd_ = -1;
  bool regular_ = false;
  std::int64_t size_ = 0;  // whole lines only
};

}  // namespace da3::exporter
