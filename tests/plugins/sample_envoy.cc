// SPDX-License-Identifier: Apache-2.0

#include "sample_envoy.h"

#include <utility>

namespace callout::tests {

void SampleEnvoy::Start(const std::string& plugin, const nlohmann::json& filter,
                        const std::string& config, const nlohmann::json& routes,
                        std::vector<nlohmann::json> filters_ahead,
                        const std::vector<std::string>& host_options) {
  std::vector<std::string> options = host_options;
  options.push_back("--plugin=" + BuiltPlugin(plugin));
  if (!config.empty()) options.push_back("--plugin_config=" + plugin + "=" + config);
  host_ = std::make_unique<HostProcess>(options);
  EnvoyConfig envoy;
  envoy.backend_port = backend_.port();
  envoy.hosts["host"] = {host_->port("plaintext")};
  std::vector<nlohmann::json> filters = std::move(filters_ahead);
  filters.push_back(ExtProc(filter));
  envoy.listeners.push_back({.name = "sample", .filters = std::move(filters), .routes = routes});
  envoy_.emplace(MakeBootstrap(envoy));
}

void SampleEnvoy::TearDown() {
  if (!envoy_.has_value()) return;
  for (const char* counter : {".spurious_msgs_received", ".rejected_header_mutations"}) {
    for (const auto& [name, value] : envoy_->CountersEndingWith(counter)) {
      EXPECT_EQ(value, 0u) << name;
    }
  }
  EXPECT_EQ(host_->Terminate(), 0) << host_->Output();
}

HttpMessage SampleEnvoy::Send(ClientRequest request) {
  request.headers.emplace_back(kTestIdHeader, "1");
  return Exchange(envoy_->port("sample"), std::move(request));
}

HttpMessage SampleEnvoy::Received() {
  std::optional<HttpMessage> request = backend_.TakeRequest("1");
  EXPECT_TRUE(request.has_value()) << "the backend got no request";
  return std::move(request).value_or(HttpMessage{});
}

nlohmann::json BufferedBodies() {
  return {
      {"processing_mode", {{"request_body_mode", "BUFFERED"}, {"response_body_mode", "BUFFERED"}}}};
}

}  // namespace callout::tests
