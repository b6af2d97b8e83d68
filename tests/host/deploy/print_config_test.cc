// SPDX-License-Identifier: Apache-2.0

// What is printed for each target, against files in golden/. To write them anew, and look at
// the difference:  CALLOUT_WRITE_GOLDEN=1 build/tests/host/deploy/deploy_test
// --gtest_filter='PrintConfig*'
#include "host/deploy/print_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/host/deploy/made_instance.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct Target {
  DeployTarget target;
  const char* name;
};
constexpr Target kNamedTargets[] = {
    {DeployTarget::kEnvoy, "envoy"},
    {DeployTarget::kEnvoyGateway, "envoy_gateway"},
    {DeployTarget::kIstio, "istio"},
    {DeployTarget::kKgateway, "kgateway"},
    {DeployTarget::kAgentgateway, "agentgateway"},
    {DeployTarget::kGke, "gke"},
    {DeployTarget::kGcloud, "gcloud"},
};

Config ListeningEverywhere() {
  Config config;
  config.plaintext_address = *ParseAddress("0.0.0.0:8080");
  config.secure_address = *ParseAddress("0.0.0.0:8443");
  config.health_check_address = *ParseAddress("0.0.0.0:8000");
  return config;
}

EnvoyNeeds Headers() {
  return NeedsOf(ListeningEverywhere(),
                 MadeChain({MadeInstance("stamp", {CALLOUT_REQUEST_HEADERS})}));
}

// All that makes lines appear.
EnvoyNeeds Everything() {
  Config config = ListeningEverywhere();
  config.stream_limits.header_bytes_max = 98304;
  config.stream_limits.header_count_max = 200;
  return NeedsOf(config,
                 MadeChain({MadeInstance("guard", {CALLOUT_REQUEST_HEADERS, CALLOUT_REQUEST_BODY},
                                         R"({"max_whole_body_bytes": 2000000,
                                  "match": {"attributes": {"source.address": "10.0.0.1"}}})"),
                            MadeInstance("count",
                                         {CALLOUT_RESPONSE_HEADERS, CALLOUT_RESPONSE_BODY,
                                          CALLOUT_RESPONSE_TRAILERS},
                                         R"({"policy": "continue"})")}));
}

std::string Read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void ExpectGolden(const std::string& name, const std::string& text) {
  const std::string path = CALLOUT_SOURCE_ROOT "/tests/host/deploy/golden/" + name + ".yaml";
  if (getenv("CALLOUT_WRITE_GOLDEN") != nullptr) std::ofstream(path) << text;
  EXPECT_EQ(Read(path), text) << path;
}

TEST(PrintConfig, IsWhatItWasForEveryTarget) {
  for (const auto& [target, name] : kNamedTargets) {
    ExpectGolden(std::string(name) + "_headers", PrintConfig(target, Headers()));
    ExpectGolden(std::string(name) + "_everything", PrintConfig(target, Everything()));
  }
}

TEST(PrintConfig, LeavesNoMarkerAndNoEmptyLine) {
  for (const auto& [target, name] : kNamedTargets) {
    for (const EnvoyNeeds& needs :
         {Headers(), Everything(), NeedsOf(ListeningEverywhere(), Chain())}) {
      const std::string text = PrintConfig(target, needs);
      EXPECT_THAT(text, Not(HasSubstr("{{"))) << name;
      EXPECT_THAT(text, Not(HasSubstr("\n\n"))) << name;
    }
  }
}

TEST(PrintConfig, NamesAUnixSocketWhereTheHostListensOnOne) {
  Config config;
  config.plaintext_address = *ParseAddress("unix:/run/callout/callout.sock");
  const EnvoyNeeds needs =
      NeedsOf(config, MadeChain({MadeInstance("stamp", {CALLOUT_REQUEST_HEADERS})}));
  EXPECT_THAT(PrintConfig(DeployTarget::kEnvoy, needs),
              HasSubstr("{pipe: {path: \"/run/callout/callout.sock\"}}"));
  EXPECT_THAT(PrintConfig(DeployTarget::kEnvoyGateway, needs),
              HasSubstr("- unix: {path: \"/run/callout/callout.sock\"}"));
}

TEST(PrintConfig, SpeaksTlsWhereTheHostHasNothingElse) {
  Config config;
  config.secure_address = *ParseAddress("0.0.0.0:8443");
  config.client_ca_path = "/ca.pem";
  const std::string text = PrintConfig(DeployTarget::kEnvoy, NeedsOf(config, Chain()));
  EXPECT_THAT(text, HasSubstr("UpstreamTlsContext"));
  EXPECT_THAT(text, HasSubstr("tls_certificates:"));
  EXPECT_THAT(text, HasSubstr("port_value: 8443"));
}

TEST(PrintConfig, SaysWhereATargetCannotWaitAsLongAsTheHostMayTake) {
  Config config = ListeningEverywhere();
  config.stream_limits.hook_deadline_ms = 20000;
  const EnvoyNeeds needs =
      NeedsOf(config, MadeChain({MadeInstance("slow", {CALLOUT_REQUEST_HEADERS})}));
  EXPECT_THAT(PrintConfig(DeployTarget::kGcloud, needs),
              HasSubstr("timeout: 10s  # the most there is; the host may take 20000 ms"));
  EXPECT_THAT(PrintConfig(DeployTarget::kEnvoy, needs), HasSubstr("message_timeout: 30s"));
}

TEST(PrintConfig, AnOverrideThatTheHostDoesNotCountOnIsNotAllowed) {
  EnvoyNeeds needs = Headers();
  needs.mode_override = EnvoyModeOverride::kIgnored;
  for (const auto& [target, name] : kNamedTargets) {
    const std::string text = PrintConfig(target, needs);
    EXPECT_THAT(text, Not(HasSubstr("verride:"))) << name;
    EXPECT_THAT(text, Not(HasSubstr("# A plugin may change these modes"))) << name;
  }
}

TEST(PrintConfig, ARestartWithoutDelayIsWarnedOf) {
  EnvoyNeeds needs = Headers();
  needs.drain_delay_ms = 0;
  EXPECT_THAT(PrintConfig(DeployTarget::kEnvoy, needs),
              HasSubstr("# With --drain_delay_ms=0 a restart of the host loses requests"));
}

}  // namespace
}  // namespace callout::host
