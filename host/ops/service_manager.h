// SPDX-License-Identifier: Apache-2.0

// Tells systemd, or what does as it does, how far the process is (sd_notify(3)).
//
//   ServiceManager manager = ServiceManager::FromEnvironment();
//   manager.Ready();  …  manager.Stopping();
//
// Own code, as sd_notify(3) shows it: one datagram. libsystemd would bring five more
// libraries into the process and the image.
//
// One thread.
//
// Tested by tests/deploy/commands_test.py.
#ifndef CALLOUT_HOST_OPS_SERVICE_MANAGER_H_
#define CALLOUT_HOST_OPS_SERVICE_MANAGER_H_

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"

namespace callout::host {

class ServiceManager {
 public:
  // By $NOTIFY_SOCKET, a path or an abstract name ("@…"), which is then taken out of the
  // environment: workers and plugins are not the service. Unset: nobody is told.
  static ServiceManager FromEnvironment();

  // OK also if nobody is to be told. UNAVAILABLE names the socket and the reason.
  absl::Status Ready() const { return Tell("READY=1"); }
  absl::Status Stopping() const { return Tell("STOPPING=1"); }

 private:
  explicit ServiceManager(std::string socket) : socket_(std::move(socket)) {}
  absl::Status Tell(std::string_view state) const;

  std::string socket_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_OPS_SERVICE_MANAGER_H_
