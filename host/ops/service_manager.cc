// SPDX-License-Identifier: Apache-2.0

#include "host/ops/service_manager.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "host/base/owned_fd.h"

namespace callout::host {
namespace {

constexpr char kVariable[] = "NOTIFY_SOCKET";

}  // namespace

ServiceManager ServiceManager::FromEnvironment() {
  const char* socket = getenv(kVariable);
  ServiceManager manager(socket == nullptr ? "" : socket);
  unsetenv(kVariable);
  return manager;
}

absl::Status ServiceManager::Tell(std::string_view state) const {
  if (socket_.empty()) return absl::OkStatus();
  const auto failed = [&](const char* why) {
    return absl::UnavailableError(fmt::format("cannot tell the service manager {} on {}={}: {}",
                                              state, kVariable, socket_, why));
  };
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (socket_.size() >= sizeof(address.sun_path)) return failed("the name is too long");
  memcpy(address.sun_path, socket_.data(), socket_.size());
  if (socket_[0] == '@') address.sun_path[0] = '\0';
  const OwnedFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return failed(strerror(errno));
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
  const auto sent = sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                           reinterpret_cast<const sockaddr*>(&address), size);
  return sent == static_cast<ssize_t>(state.size()) ? absl::OkStatus() : failed(strerror(errno));
}

}  // namespace callout::host
