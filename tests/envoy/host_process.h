// SPDX-License-Identifier: Apache-2.0

// Runs the callout host as a process, on free ports.
//
//   HostProcess host({"--plugin=" + BuiltPlugin("basic")});
//   … host.port("plaintext") …
//
// For one thread.
#ifndef CALLOUT_TESTS_ENVOY_HOST_PROCESS_H_
#define CALLOUT_TESTS_ENVOY_HOST_PROCESS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "child_process.h"

namespace callout::tests {

// Of the build that the test program belongs to.
std::string BuiltFile(const std::string& path);
inline std::string BuiltPlugin(const std::string& name) {
  return BuiltFile("plugins/" + name + ".so");
}

// --transport= by CALLOUT_TEST_TRANSPORT, so that every suite can run on both.
std::string TransportOption();

class HostProcess {
 public:
  // Plaintext, without TLS, on free ports where `options` has no address. Returns once it
  // listens.
  explicit HostProcess(const std::vector<std::string>& options);
  // The same, with `socket`, which listens already, as its plaintext listener: a service manager's,
  // who keeps it open whatever becomes of the host.
  HostProcess(const std::vector<std::string>& options, int socket);

  // `listener`: plaintext, health or admin.
  uint16_t port(const std::string& listener);

  // The value of the metric now, with its labels as they stand on the page; -1: there is none.
  double Metric(const std::string& name);

  // SIGTERM; the exit status.
  int Terminate() { return process_.Terminate(); }
  std::string Output() { return process_.Output(); }
  std::optional<std::string> AwaitLine(const std::string& prefix) {
    return process_.AwaitLine(prefix);
  }
  pid_t pid() const { return process_.pid(); }

 private:
  ChildProcess process_;
};

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_ENVOY_HOST_PROCESS_H_
