// SPDX-License-Identifier: Apache-2.0

// Listening sockets that a service manager has opened for this process and passes on
// (systemd's socket activation, sd_listen_fds(3)). It keeps them open while a service
// restarts, so that clients wait for the new process instead of being refused.
//
//   absl::StatusOr<PassedSockets> passed = TakePassedSockets();
//   passed->find("plaintext");     // by FileDescriptorName= of the .socket unit
//
// For the start of the process, once: the variables are then taken out of the environment.
//
// Tested by tests/deploy/commands_test.py.
#ifndef CALLOUT_HOST_NET_PASSED_SOCKETS_H_
#define CALLOUT_HOST_NET_PASSED_SOCKETS_H_

#include <functional>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "host/base/owned_fd.h"

namespace callout::host {

using PassedSockets = std::map<std::string, OwnedFd, std::less<>>;

// None if there are none, or they are for another process. INVALID_ARGUMENT if the variables are
// malformed, two have one name, or a descriptor is no listening stream socket.
absl::StatusOr<PassedSockets> TakePassedSockets();

}  // namespace callout::host

#endif  // CALLOUT_HOST_NET_PASSED_SOCKETS_H_
