// SPDX-License-Identifier: Apache-2.0

// A descriptor on which one thread or process waits, and which others make readable.
//
//   auto wake = std::make_shared<Wake>();
//   wake->Set();  …  poll(wake->fd(), …); wake->Clear();
//
// Any thread. Set is safe in a signal handler.
#ifndef CALLOUT_HOST_BASE_WAKE_H_
#define CALLOUT_HOST_BASE_WAKE_H_

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

namespace callout::host {

class Wake {
 public:
  Wake() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}
  // Takes ownership of an inherited eventfd.
  explicit Wake(int fd) : fd_(fd) {}
  ~Wake() {
    if (fd_ >= 0) close(fd_);
  }
  Wake(const Wake&) = delete;
  Wake& operator=(const Wake&) = delete;

  int fd() const { return fd_; }
  void Set() const {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(fd_, &one, sizeof(one));
  }
  void Clear() const {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = read(fd_, &count, sizeof(count));
  }

 private:
  const int fd_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_WAKE_H_
