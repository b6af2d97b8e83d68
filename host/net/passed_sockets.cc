// SPDX-License-Identifier: Apache-2.0

#include "host/net/passed_sockets.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace callout::host {
namespace {

constexpr int kFirstDescriptor = 3;  // SD_LISTEN_FDS_START
constexpr int kSocketsMax = 16;

std::string TakeVariable(const char* name) {
  const char* value = getenv(name);
  std::string text = value == nullptr ? "" : value;
  unsetenv(name);
  return text;
}

int SocketOption(int fd, int option) {
  int value = -1;
  socklen_t size = sizeof(value);
  return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

bool IsListening(int fd) {
  return SocketOption(fd, SO_TYPE) == SOCK_STREAM && SocketOption(fd, SO_ACCEPTCONN) == 1;
}

}  // namespace

absl::StatusOr<PassedSockets> TakePassedSockets() {
  const std::string pid = TakeVariable("LISTEN_PID");
  const std::string count_text = TakeVariable("LISTEN_FDS");
  const std::string names_text = TakeVariable("LISTEN_FDNAMES");
  PassedSockets sockets;
  if (count_text.empty() || pid != std::to_string(getpid())) return sockets;
  int count = 0;
  if (!absl::SimpleAtoi(count_text, &count) || count < 0 || count > kSocketsMax) {
    return absl::InvalidArgumentError(
        fmt::format("LISTEN_FDS={}: expected a number from 0 to {}", count_text, kSocketsMax));
  }
  const std::vector<std::string> names = absl::StrSplit(names_text, ':');
  for (int i = 0; i < count; ++i) {
    const int fd = kFirstDescriptor + i;
    const std::string name = static_cast<size_t>(i) < names.size() ? names[i] : "";
    if (!IsListening(fd)) {
      return absl::InvalidArgumentError(fmt::format(
          "descriptor {} of LISTEN_FDS={} is no listening stream socket; use ListenStream= and "
          "Accept=no in the .socket unit",
          fd, count_text));
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (!sockets.emplace(name, OwnedFd(fd)).second) {
      return absl::InvalidArgumentError(fmt::format(
          "LISTEN_FDNAMES={}: '{}' is there twice; give each socket unit a FileDescriptorName=",
          names_text, name));
    }
  }
  return sockets;
}

}  // namespace callout::host
