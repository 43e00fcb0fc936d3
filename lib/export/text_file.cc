// SPDX-License-Identifier: MIT
#include "export/text_file.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <system_error>

namespace da3::exporter {
namespace {

// A reader that went away must become EPIPE here, not a signal that ends the host application.
class SigpipeBlocked {
 public:
  SigpipeBlocked() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~SigpipeBlocked() {
    if (!was_pending_) {
      const timespec now{0, 0};
      while (sigtimedwait(&pipe_, nullptr, &now) < 0 && errno == EINTR) {
      }
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_{}, before_{};
  bool was_pending_ = false;
};

// The descriptor that `path` is another name of, or -1.
int inherited_descriptor(const std::string& path) {
  if (path == "/dev/stdout") return STDOUT_FILENO;
  if (path == "/dev/stderr") return STDERR_FILENO;
  constexpr std::string_view prefix = "/dev/fd/";
  if (path.rfind(prefix, 0) != 0) return -1;
  int number = -1;
  const char* end = path.data() + path.size();
  const auto [rest, error] = std::from_chars(path.data() + prefix.size(), end, number);
  return error == std::errc() && rest == end && number >= 0 ? number : -1;
}

std::string reason(int error_number) {
  switch (error_number) {
    case ENOENT:
      return "the folder does not exist";
    case ENOSPC:
      return "the disk is full";
    case EDQUOT:
      return "the disk quota is used up";
    case EISDIR:
      return "it is a folder";
    case ENXIO:
      return "it is a FIFO that nobody reads (start the reader first)";
    case EPIPE:
      return "the reader has gone";
    default:
      return std::generic_category().message(error_number);
  }
}

}  // namespace

bool is_ordinary_path(const std::string& path) {
  if (inherited_descriptor(path) >= 0) return false;
  struct stat info {};
  return stat(path.c_str(), &info) != 0 || S_ISREG(info.st_mode);
}

bool FileError::disk_full() const {
  return error_number_ == ENOSPC || error_number_ == EDQUOT;
}

TextFile::TextFile(const std::string& path) : path_(path) {
  if (const int inherited = inherited_descriptor(path); inherited >= 0) {
    fd_ = fcntl(inherited, F_DUPFD_CLOEXEC, 0);
    if (fd_ < 0) fail(FileError::Step::open, errno);
  } else {
    // Non-blocking only for the open: a FIFO without a reader then fails instead of waiting for ever.
    do {
      fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
    } while (fd_ < 0 && errno == EINTR);
    if (fd_ < 0) fail(FileError::Step::open, errno);
    fcntl(fd_, F_SETFL, fcntl(fd_, F_GETFL) & ~O_NONBLOCK);
    struct stat info {};
    regular_ = fstat(fd_, &info) == 0 && S_ISREG(info.st_mode);
  }
  wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd_ < 0) {
    const int error_number = errno;
    ::close(fd_);
    fail(FileError::Step::open, error_number);
  }
}

TextFile::~TextFile() {
  if (fd_ >= 0) ::close(fd_);
  if (wake_fd_ >= 0) ::close(wake_fd_);
}

void TextFile::fail(FileError::Step step, int error_number) const {
  const char* verb = step == FileError::Step::open ? "open" : "write";
  throw FileError(step, error_number,
                  "Cannot " + std::string(verb) + " \"" + path_ + "\": " + reason(error_number) + ".");
}

void TextFile::wait_writable() {
  pollfd fds[2] = {{fd_, POLLOUT, 0}, {wake_fd_, POLLIN, 0}};
  while (poll(fds, 2, -1) < 0) {
    if (errno != EINTR) fail(FileError::Step::write, errno);
  }
  if (fds[1].revents != 0) throw Cancelled();
}

void TextFile::write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    std::size_t chunk = bytes.size();
    if (!regular_) {
      // A pipe that polls writable takes this much without blocking.
      wait_writable();
      chunk = std::min<std::size_t>(chunk, PIPE_BUF);
    }
    const ssize_t written = ::write(fd_, bytes.data(), chunk);
    if (written >= 0) {
      bytes.remove_prefix(std::size_t(written));
    } else if (errno != EINTR && errno != EAGAIN) {
      fail(FileError::Step::write, errno);
    }
  }
}

void TextFile::write_line(std::string_view line) {
  if (fd_ < 0) fail(FileError::Step::write, EBADF);
  std::string bytes;
  bytes.reserve(line.size() + 1);
  bytes.append(line).push_back('\n');
  if (!regular_) {
    const SigpipeBlocked blocked;
    write_all(bytes);
    return;
  }
  try {
    write_all(bytes);
  } catch (const FileError&) {
    // Taking back never needs space; if it fails all the same, the first error is the one to report.
    if (ftruncate(fd_, size_) == 0) lseek(fd_, size_, SEEK_SET);
    throw;
  }
  size_ += std::int64_t(bytes.size());
}

void TextFile::close() {
  if (fd_ < 0) return;
  const int fd = fd_;
  fd_ = -1;
  if (::close(fd) < 0 && errno != EINTR) fail(FileError::Step::close, errno);
}

void TextFile::cancel() noexcept {
  const std::uint64_t one = 1;
  // Can only fail when the counter is already set, which is what is wanted.
  [[maybe_unused]] const ssize_t written = ::write(wake_fd_, &one, sizeof one);
}

void TextFile::uncancel() noexcept {
  std::uint64_t count;
  [[maybe_unused]] const ssize_t got = ::read(wake_fd_, &count, sizeof count);
}

}  // namespace da3::exporter
