// SPDX-License-Identifier: MIT
#include "core/worker.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <set>
#include <stdexcept>
#include <utility>

#include "core/spinning.h"

namespace da3::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

struct Pipe {
  int read = -1, write = -1;
  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
      throw std::runtime_error(std::string("no pipe: ") + std::strerror(errno));
    read = ends[0];
    write = ends[1];
  }
};

bool write_all(int out, const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(out, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += size_t(n);
  }
  return true;
}

// A whole line out of `rest`, if there is one.
std::optional<std::string> take_line(std::string& rest) {
  const size_t end = rest.find('\n');
  if (end == std::string::npos) return std::nullopt;
  std::string line = rest.substr(0, end);
  rest.erase(0, end + 1);
  return line;
}

// More bytes; false at the end of the stream.
bool read_more(int in, std::string& rest) {
  char buffer[65536];
  ssize_t n;
  do {
    n = ::read(in, buffer, sizeof buffer);
  } while (n < 0 && errno == EINTR);
  if (n <= 0) return false;
  rest.append(buffer, size_t(n));
  return true;
}

[[noreturn]] void run_child(const Worker::Body& body, int in, int out) {
  // Whoever started this is gone: nobody wants the answer.
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  Channel channel(in, out);
  try {
    body(channel);
  } catch (const std::exception& e) {
    channel.reply({{"error", e.what()}});
  }
  std::fflush(stdout);
  std::fflush(stderr);
  _exit(0);  // no destructors of the parent's objects
}

// This process's ends of the pipes to its workers. A forked worker must not hold those of its elders: they
// would never see the end of their requests.
std::set<int>& open_ends() {
  static std::set<int> ends;
  return ends;
}

void ignore_broken_pipes() {
  static const bool once = [] { return signal(SIGPIPE, SIG_IGN) != SIG_ERR; }();
  (void)once;
}

}  // namespace

std::optional<Row> Channel::next() {
  for (;;) {
    if (const auto line = take_line(rest_)) return Row::parse(*line);
    if (!read_more(in_, rest_)) return std::nullopt;
  }
}

void Channel::reply(const Row& row) {
  write_all(out_, row.dump(-1, ' ', false, Row::error_handler_t::replace) + "\n");
}

Worker Worker::fork(const Body& body) {
  ignore_broken_pipes();
  const Pipe requests, answers;
  std::fflush(stdout);
  std::fflush(stderr);
  const pid_t pid = ::fork();
  if (pid < 0) throw std::runtime_error(std::string("cannot start a process: ") + std::strerror(errno));
  if (pid == 0) {
    close(requests.write);
    close(answers.read);
    for (const int end : open_ends()) close(end);
    open_ends().clear();
    run_child(body, requests.read, answers.write);
  }
  close(requests.read);
  close(answers.write);
  return Worker(pid, answers.read, requests.write, -1);
}

Worker Worker::spawn(const std::vector<std::string>& command, const std::vector<std::string>& environment) {
  ignore_broken_pipes();
  if (command.empty()) throw std::runtime_error("no program to start");
  const Pipe requests, answers, failure;
  std::FILE* errors = std::tmpfile();
  if (!errors) throw std::runtime_error(std::string("no temporary file: ") + std::strerror(errno));
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  std::fflush(stdout);
  const pid_t pid = ::fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGPIPE, SIG_DFL);
    forget_bound();
    for (const std::string& variable : environment) putenv(const_cast<char*>(variable.c_str()));
    dup2(requests.read, STDIN_FILENO);
    dup2(answers.write, STDOUT_FILENO);
    dup2(fileno(errors), STDERR_FILENO);
    execvp(arguments[0], arguments.data());
    const int reason = errno;
    (void)!::write(failure.write, &reason, sizeof reason);
    _exit(127);
  }
  close(requests.read);
  close(answers.write);
  close(failure.write);
  const int kept = dup(fileno(errors));
  std::fclose(errors);
  Worker worker(pid, answers.read, requests.write, kept);
  int reason = 0;
  // Closed without a byte once the program runs.
  const bool failed = pid < 0 || ::read(failure.read, &reason, sizeof reason) == ssize_t(sizeof reason);
  close(failure.read);
  if (failed)
    throw std::runtime_error("cannot start '" + command[0] + "': " + std::strerror(pid < 0 ? errno : reason));
  return worker;
}

Worker::Worker(pid_t pid, int in, int out, int errors) : pid_(pid), in_(in), out_(out), errors_(errors) {
  open_ends().insert({in, out});
}

Worker::Worker(Worker&& other) noexcept
    : pid_(other.pid_),
      in_(other.in_),
      out_(other.out_),
      errors_(other.errors_),
      rest_(std::move(other.rest_)) {
  other.pid_ = other.in_ = other.out_ = other.errors_ = -1;
}

Worker::~Worker() {
  open_ends().erase(in_);
  open_ends().erase(out_);
  if (out_ >= 0) close(out_);  // the end of its requests
  if (pid_ > 0) {
    const auto give_up = SteadyClock::now() + std::chrono::seconds(5);
    // Its end of the answers closes when it is gone.
    std::string ignored;
    bool open = in_ >= 0;
    while (open && SteadyClock::now() < give_up) {
      pollfd wait{in_, POLLIN, 0};
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(give_up - SteadyClock::now()).count();
      if (poll(&wait, 1, int(std::max<long>(1, left))) > 0) open = read_more(in_, ignored);
    }
    if (open) kill(pid_, SIGKILL);
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
  }
  if (in_ >= 0) close(in_);
  if (errors_ >= 0) close(errors_);
}

std::string Worker::last_words() const {
  if (errors_ < 0) return {};
  const off_t size = lseek(errors_, 0, SEEK_END);
  const off_t begin = std::max<off_t>(0, size - 2000);
  std::string text(size_t(size - begin), '\0');
  const ssize_t n = pread(errors_, text.data(), text.size(), begin);
  text.resize(n > 0 ? size_t(n) : 0);
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  const size_t line = text.find_last_of('\n');
  return line == std::string::npos ? text : text.substr(line + 1);
}

void Worker::died() {
  int status = 0;
  const pid_t pid = std::exchange(pid_, -1);
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  std::string how = "the process ended";
  if (WIFSIGNALED(status)) how = std::string("the process died of signal ") + strsignal(WTERMSIG(status));
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
    how = "the process ended with status " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) how += " (out of memory?)";
  const std::string words = last_words();
  throw std::runtime_error(how + (words.empty() ? "" : ": " + words));
}

Row Worker::hear(double seconds) {
  if (pid_ < 0) throw std::runtime_error("the process is gone");
  const auto end = SteadyClock::now() +
                   std::chrono::duration_cast<SteadyClock::duration>(std::chrono::duration<double>(seconds));
  for (;;) {
    while (const auto line = take_line(rest_)) {
      // Programs print things of their own.
      if (line->empty() || line->front() != '{') continue;
      Row answer = Row::parse(*line, nullptr, false);
      if (answer.is_discarded()) continue;
      if (answer.contains("error")) throw std::runtime_error(answer.value("error", "failed"));
      return answer;
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - SteadyClock::now()).count();
    pollfd wait{in_, POLLIN, 0};
    const int ready = left > 0 ? poll(&wait, 1, int(std::min<long>(left, 1 << 30))) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) {
      kill(pid_, SIGKILL);
      throw std::runtime_error("no answer within " + number_text(seconds) + " s");
    }
    if (!read_more(in_, rest_)) died();
  }
}

Row Worker::ask(const Row& request, double seconds) {
  if (pid_ < 0) throw std::runtime_error("the process is gone");
  write_all(out_, request.dump() + "\n");  // if it is gone, hear() knows more
  return hear(seconds);
}

Row in_child(const std::function<Row()>& body, double seconds) {
  Worker worker = Worker::fork([&](Channel& channel) { channel.reply(body()); });
  return worker.hear(seconds);
}

}  // namespace da3::bench
