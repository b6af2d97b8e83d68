// SPDX-License-Identifier: Apache-2.0

// Owns a file descriptor and closes it. To read files, use host/base/file.h.
//
//   const OwnedFd socket(accept4(…));
//
// For one thread at a time.
#ifndef CALLOUT_HOST_BASE_OWNED_FD_H_
#define CALLOUT_HOST_BASE_OWNED_FD_H_

#include <unistd.h>

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

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_OWNED_FD_H_
