// SPDX-License-Identifier: Apache-2.0

#include "host/net/listener.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "host/base/owned_fd.h"

namespace callout::host {
namespace {

absl::Status Failure(const Address& address, int error) {
  const std::string what = fmt::format("cannot listen on {}: ", address.ToString());
  switch (error) {
    case EADDRINUSE:
      return absl::AlreadyExistsError(what +
                                      "address already in use; is another callout-host running?");
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(
          what + (address.family() == AF_UNIX
                      ? "permission denied; the directory must be writable"
                      : "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE"));
    case EADDRNOTAVAIL:
      return absl::UnavailableError(what + "this machine has no such address");
    case EAFNOSUPPORT:
      return absl::UnavailableError(what + "IPv6 is disabled on this machine; use 0.0.0.0");
    case EMFILE:
    case ENFILE:
      return absl::UnavailableError(what + "no free file descriptor; raise ulimit -n");
    default:
      return absl::UnavailableError(what + strerror(error));
  }
}

// Removes a socket file on which nobody listens.
absl::Status ClearUnixPath(const Address& address) {
  const std::string path = address.unix_path();
  struct stat status;
  if (lstat(path.c_str(), &status) != 0) return absl::OkStatus();  // bind says what is wrong
  if (!S_ISSOCK(status.st_mode)) {
    return absl::AlreadyExistsError(fmt::format(
        "cannot listen on {}: a file that is not a socket exists there; remove it or choose "
        "another path",
        address.ToString()));
  }
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (probe < 0) return Failure(address, errno);
  const int error = connect(probe, address.get(), address.size) == 0 ? 0 : errno;
  close(probe);
  switch (error) {
    case ECONNREFUSED:
      break;
    case ENOENT:
      return absl::OkStatus();
    case EACCES:
      return Failure(address, error);
    default:  // connected, or as good as: EAGAIN is a full backlog
      return Failure(address, EADDRINUSE);
  }
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return Failure(address, errno);
  return absl::OkStatus();
}

// Through a descriptor of the socket's file, so that a file that replaces it is not changed.
absl::Status SetUnixMode(const Address& address, unsigned mode) {
  const OwnedFd file(open(address.unix_path().c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat status;
  const bool is_socket =
      file.get() >= 0 && fstat(file.get(), &status) == 0 && S_ISSOCK(status.st_mode);
  if (is_socket && chmod(fmt::format("/proc/self/fd/{}", file.get()).c_str(), mode) == 0) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(
      fmt::format("cannot give {} the mode {:04o}: {}", address.ToString(), mode,
                  file.get() >= 0 && !is_socket ? "it is not a socket" : strerror(errno)));
}

absl::Status SetOption(const Address& address, int fd, int level, int option, int value) {
  if (setsockopt(fd, level, option, &value, sizeof(value)) == 0) return absl::OkStatus();
  return Failure(address, errno);
}

}  // namespace

absl::StatusOr<ListenSocket> ListenSocket::Bind(const Address& address,
                                                std::optional<unsigned> unix_mode) {
  if (address.family() == AF_UNIX) {
    if (absl::Status status = ClearUnixPath(address); !status.ok()) return status;
  }
  const int fd = socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return Failure(address, errno);
  ListenSocket result(fd, address);
  if (absl::Status status = result.BindDescriptor(); !status.ok()) return status;
  // Nobody can connect before Listen.
  if (address.family() == AF_UNIX && unix_mode.has_value()) {
    if (absl::Status status = SetUnixMode(address, *unix_mode); !status.ok()) return status;
  }
  return result;
}

absl::StatusOr<ListenSocket> ListenSocket::Adopt(int fd) {
  ListenSocket result(fd, Address{});
  result.bound_.size = sizeof(result.bound_.storage);
  const int flags = fcntl(fd, F_GETFL);
  if (getsockname(fd, result.bound_.get(), &result.bound_.size) != 0 || flags < 0 ||
      fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return absl::UnavailableError(
        fmt::format("cannot use descriptor {} that was passed on: {}", fd, strerror(errno)));
  }
  return result;
}

absl::Status ListenSocket::Listen() {
  return listen(fd_, kBacklog) == 0 ? absl::OkStatus() : Failure(bound_, errno);
}

absl::StatusOr<ListenSocket> ListenSocket::Open(const Address& address) {
  absl::StatusOr<ListenSocket> socket = Bind(address);
  if (!socket.ok()) return socket;
  if (absl::Status status = socket->Listen(); !status.ok()) return status;
  return socket;
}

absl::Status ListenSocket::BindDescriptor() {
  absl::Status status;
  if (bound_.family() != AF_UNIX) {
    status = SetOption(bound_, fd_, SOL_SOCKET, SO_REUSEADDR, 1);
  }
  // Set explicitly, so that the system's default does not decide.
  if (bound_.family() == AF_INET6)
    status.Update(SetOption(bound_, fd_, IPPROTO_IPV6, IPV6_V6ONLY, 0));
  if (!status.ok()) return status;
  if (bind(fd_, bound_.get(), bound_.size) != 0) return Failure(bound_, errno);
  if (bound_.family() == AF_UNIX) {
    struct stat made;
    if (lstat(bound_.unix_path().c_str(), &made) == 0) {
      unix_device_ = made.st_dev;
      unix_inode_ = made.st_ino;
    }
  }
  if (bound_.family() == AF_UNIX) return absl::OkStatus();
  bound_.size = sizeof(bound_.storage);
  if (getsockname(fd_, bound_.get(), &bound_.size) != 0) return Failure(bound_, errno);
  return absl::OkStatus();
}

ListenSocket::ListenSocket(ListenSocket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      bound_(other.bound_),
      unix_device_(other.unix_device_),
      unix_inode_(std::exchange(other.unix_inode_, 0)) {}

ListenSocket& ListenSocket::operator=(ListenSocket&& other) noexcept {
  if (this != &other) {
    Close();
    fd_ = std::exchange(other.fd_, -1);
    bound_ = other.bound_;
    unix_device_ = other.unix_device_;
    unix_inode_ = std::exchange(other.unix_inode_, 0);
  }
  return *this;
}

void ListenSocket::Close() {
  if (unix_inode_ != 0) {
    const std::string path = bound_.unix_path();
    struct stat now;
    if (lstat(path.c_str(), &now) == 0 && now.st_dev == unix_device_ && now.st_ino == unix_inode_) {
      unlink(path.c_str());
    }
    unix_inode_ = 0;
  }
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

}  // namespace callout::host
