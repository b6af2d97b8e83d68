// SPDX-License-Identifier: Apache-2.0

// Helpers for tests with sockets: descriptors that close themselves, and blocking connections and
// exchanges with a time limit that only a failing test reaches.
#ifndef CALLOUT_TESTS_HOST_SOCKETS_H_
#define CALLOUT_TESTS_HOST_SOCKETS_H_

#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "host/net/address.h"

namespace callout::host {

inline constexpr int kGiveUpMs = 30000;

// A descriptor, closed at the end.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { Close(); }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

inline Address ParsedAddress(const std::string& text) {
  auto address = ParseAddress(text);
  EXPECT_TRUE(address.ok()) << address.status();
  return address.ok() ? *address : Address{};
}

// An unconnected blocking socket for `address`.
inline Descriptor MakeSocket(const Address& address) {
  return Descriptor(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
}

inline Descriptor Connect(const Address& address) {
  Descriptor fd = MakeSocket(address);
  EXPECT_EQ(connect(fd.get(), address.get(), address.size), 0)
      << address.ToString() << ": " << strerror(errno);
  return fd;
}

inline bool WaitReadable(int fd) {
  pollfd polled = {fd, POLLIN, 0};
  return poll(&polled, 1, kGiveUpMs) == 1;
}

// Everything that the other end sends until it closes, or until `done(text)`.
template <class Done>
std::string ReadUntil(int fd, Done done) {
  std::string text;
  while (!done(text)) {
    if (!WaitReadable(fd)) {
      ADD_FAILURE() << "nothing more came after: " << text;
      break;
    }
    char buffer[4096];
    const ssize_t size = recv(fd, buffer, sizeof(buffer), 0);
    if (size <= 0) break;
    text.append(buffer, static_cast<size_t>(size));
  }
  return text;
}

inline std::string ReadToEnd(int fd) {
  return ReadUntil(fd, [](const std::string&) { return false; });
}

inline std::string ReadBytes(int fd, size_t size) {
  return ReadUntil(fd, [size](const std::string& text) { return text.size() >= size; });
}

// False if the other end has closed.
inline bool Write(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t size = send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (size < 0) return false;
    text.remove_prefix(static_cast<size_t>(size));
  }
  return true;
}

// A value that one thread sets and for which another waits.
template <class T>
class Watched {
 public:
  template <class Change>
  void Update(Change change) {
    std::lock_guard lock(mutex_);
    change(value_);
    changed_.notify_all();
  }
  template <class Condition>
  [[nodiscard]] bool Await(Condition condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::milliseconds(kGiveUpMs),
                             [&] { return condition(value_); });
  }
  T Get() {
    std::lock_guard lock(mutex_);
    return value_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  T value_{};
};

// A temporary directory, removed at the end.
class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "callout-XXXXXX").string();
    if (mkdtemp(pattern.data()) != nullptr) path_ = pattern;
    EXPECT_FALSE(path_.empty()) << pattern << ": " << strerror(errno);
  }
  ~TempDir() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string Path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_SOCKETS_H_
