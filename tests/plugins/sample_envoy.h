// SPDX-License-Identifier: Apache-2.0

// A plugin of this repository behind a real Envoy: one listener, one ext_proc filter, one
// backend.
//
//   class RedirectEnvoyTest : public SampleEnvoy {};
//   TEST_F(RedirectEnvoyTest, …) {
//     Start("redirect", {});
//     EXPECT_EQ(Send({}).status, 301);
//   }
//
// After the test Envoy must have nothing to complain about. Skipped where there is no
// Envoy, failed there with CI=true.
#ifndef CALLOUT_TESTS_PLUGINS_SAMPLE_ENVOY_H_
#define CALLOUT_TESTS_PLUGINS_SAMPLE_ENVOY_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../envoy/backend.h"
#include "../envoy/client.h"
#include "../envoy/envoy_config.h"
#include "../envoy/envoy_fixture.h"
#include "../envoy/host_process.h"

namespace callout::tests {

class SampleEnvoy : public EnvoyFixture {
 protected:
  // `filter` holds fields of Envoy's ExternalProcessor (processing_mode, mutation_rules, …);
  // `config` is the plugin's configuration; `routes` stand ahead of the one to the backend,
  // `filters_ahead` (whole HTTP filters) ahead of the plugin's; `host_options` are further ones.
  void Start(const std::string& plugin, const nlohmann::json& filter,
             const std::string& config = "", const nlohmann::json& routes = nlohmann::json::array(),
             std::vector<nlohmann::json> filters_ahead = {},
             const std::vector<std::string>& host_options = {});
  void TearDown() override;

  // The client's request with the header by which the backend's is found again.
  HttpMessage Send(ClientRequest request);
  // What the backend got of the request sent last; fails the test if it got none.
  HttpMessage Received();
  bool BackendGotOne() { return backend_.TakeRequest("1").has_value(); }

  Backend& backend() { return backend_; }
  EnvoyProcess& envoy() { return *envoy_; }
  HostProcess& host() { return *host_; }

 private:
  Backend backend_;
  std::unique_ptr<HostProcess> host_;
  std::optional<EnvoyProcess> envoy_;
};

// BUFFERED bodies both ways.
nlohmann::json BufferedBodies();

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_PLUGINS_SAMPLE_ENVOY_H_
