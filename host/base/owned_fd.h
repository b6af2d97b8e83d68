// A file descriptor that its owner closes, and reading a file to its end.
//
//   const OwnedFd file(open(path, O_RDONLY | O_CLOEXEC));
//   if (file.get() < 0 || !ReadToEnd(file.get(), bytes_max, &bytes)) … errno …
//
// For one thread at a time.
#ifndef CALLOUT_HOST_BASE_OWNED_FD_H_
#define CALLOUT_HOST_BASE_OWNED_FD_H_

#include <unistd.h>

#include <cstddef>
#include <string>
#include <utility>

namespace callout::host {

class OwnedFd {
 public:
  explicit OwnedFd(int fd = -1) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(other.Release()) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~OwnedFd() {
    if (fd_ >= 0) close(fd_);
  }

  int get() const { return fd_; }  // negative: none
  // Gives up ownership.
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

// Reads the rest of the file into `bytes`, up to `bytes_max` bytes. False with errno
// set if it cannot be read.
bool ReadToEnd(int fd, size_t bytes_max, std::string* bytes);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_OWNED_FD_H_
