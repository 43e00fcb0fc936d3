// SPDX-License-Identifier: MIT
//
// Processes that do what they are told, one line of JSON at a time. Each configuration that is measured lives
// in one of its own, so that its memory is its own, none inherits the threads of another, and alternatives
// can be run in turn.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/report.h"

namespace da3::bench {

// The worker's end.
class Channel {
 public:
  Channel(int in, int out) : in_(in), out_(out) {}
  // The next request; nothing when the other side is gone.
  std::optional<Row> next();
  void reply(const Row& row);

 private:
  int in_, out_;
  std::string rest_;
};

class Worker {
 public:
  using Body = std::function<void(Channel&)>;
  // Runs `body` in a child of this process. The caller must not have threads that matter (LibTorch's pools do
  // not survive a fork): whoever forks computes nothing. An exception of `body` becomes the next answer's
  // error.
  static Worker fork(const Body& body);
  // Starts a program that reads requests from its standard input and answers on its standard output. What it
  // says on standard error is kept for error messages. It does not get this program's bound on spinning
  // (spinning.h). Throws std::runtime_error when it cannot be started.
  static Worker spawn(const std::vector<std::string>& command,
                      const std::vector<std::string>& environment = {});

  Worker(Worker&& other) noexcept;
  Worker& operator=(Worker&&) = delete;
  // Lets the process end, and ends it when it does not within some seconds.
  ~Worker();

  // Waits for one answer. Throws std::runtime_error: the text under "error" of the answer, or that the
  // process died (how, and the last it said) or took longer than `seconds`.
  Row ask(const Row& request, double seconds = 600);
  // The answer to no request: what it says when it is ready.
  Row hear(double seconds = 600);
  pid_t id() const { return pid_; }

 private:
  Worker(pid_t pid, int in, int out, int errors);
  [[noreturn]] void died();
  std::string last_words() const;
  pid_t pid_ = -1;
  int in_ = -1, out_ = -1;  // read answers, write requests
  int errors_ = -1;         // a file with its standard error, or -1
  std::string rest_;
};

// What `body` returns, computed in a child of this process. Throws std::runtime_error.
Row in_child(const std::function<Row()>& body, double seconds = 600);

}  // namespace da3::bench
