// SPDX-License-Identifier: Apache-2.0

// Runs the real callout-host as a child process, with all listeners on free ports, and programs
// that end by themselves.
//
//   TestHost host({"--plugin=" + BuiltPlugin("basic")});
//   … PlaintextChannel(host.address("plaintext")) …
//   EXPECT_EQ(host.Terminate(), 0);
//
// For one thread.
#ifndef CALLOUT_TESTS_INTEGRATION_TEST_HOST_H_
#define CALLOUT_TESTS_INTEGRATION_TEST_HOST_H_

#include <signal.h>

#include <string>
#include <vector>

#include "child_process.h"
#include "host/net/address.h"
#include "host_process.h"

namespace callout::tests {

// The host's command line: `environment` is NAME=VALUE each.
std::vector<std::string> HostCommand(const std::vector<std::string>& options,
                                     const std::vector<std::string>& environment = {});

class TestHost {
 public:
  // Free ports for secure, plaintext, health and admin, unless an option says
  // otherwise. Returns once the last of them listens.
  explicit TestHost(const std::vector<std::string>& options,
                    const std::vector<std::string>& environment = {});

  // "127.0.0.1:4711", "unix:/path": as logged. Fails the test if there is no
  // such listener.
  std::string address(const std::string& listener);

  pid_t pid() const { return process_.pid(); }
  void Signal(int number) { kill(process_.pid(), number); }
  // Waits for a log line with `prefix` and returns the rest of it.
  std::string AwaitLog(const std::string& prefix) {
    return process_.AwaitLine(prefix).value_or("");
  }
  std::string Log() { return process_.Output(); }
  // SIGTERM; the exit status.
  int Terminate() { return process_.Terminate(); }
  int AwaitEnd() { return process_.AwaitEnd(); }

 private:
  ChildProcess process_;
};

struct Finished {
  int exit_status = -1;
  std::string output;  // standard output and error
};

// Runs the host until it ends by itself: --check, --help, a failing start.
Finished RunHost(const std::vector<std::string>& options,
                 const std::vector<std::string>& environment = {});

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_INTEGRATION_TEST_HOST_H_
