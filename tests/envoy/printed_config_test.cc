// SPDX-License-Identifier: Apache-2.0

// What --print_config=envoy prints, run by a real Envoy: only the addresses that its first lines
// name are changed.
#include <gmock/gmock.h>

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "backend.h"
#include "client.h"
#include "envoy_fixture.h"
#include "host_process.h"

namespace callout::tests {
namespace {

std::string Printed(const std::vector<std::string>& options) {
  std::vector<std::string> command = {BuiltFile("host/callout-host"), "--print_config=envoy",
                                      "--disable_tls", "--log_level=error"};
  command.insert(command.end(), options.begin(), options.end());
  ChildProcess print(command);
  EXPECT_EQ(print.AwaitEnd(), 0) << print.Output();
  return print.Output();
}

class PrintedConfigTest : public EnvoyFixture {
 protected:
  // Envoy as printed for `options`, in front of the test's backend.
  EnvoyProcess Run(const std::vector<std::string>& options) {
    const std::string backend = "port_value: " + std::to_string(backend_.port());
    return EnvoyProcess(
        absl::StrReplaceAll(Printed(options), {{"address: 0.0.0.0, port_value: 10000",
                                                "address: 127.0.0.1, port_value: 0"},
                                               {"port_value: 8081", backend}}) +
        "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\n");
  }
  static std::string AddressOf(HostProcess* host) {
    return "--plaintext_address=127.0.0.1:" + std::to_string(host->port("plaintext"));
  }

  Backend backend_;
};

TEST_F(PrintedConfigTest, ARequestAndItsResponseAreChanged) {
  const std::string plugin = "--plugin=" + BuiltPlugin("basic");
  HostProcess host({plugin});
  const EnvoyProcess envoy = Run({plugin, AddressOf(&host)});
  backend_.Answer({.headers = {{"from", "backend"}}, .body = {.pieces = {"original"}}});
  const HttpMessage response =
      Exchange(envoy.port("callout"), {.method = "POST",
                                       .target = "/elsewhere",
                                       .headers = {{kTestIdHeader, "1"}, {"foo", "bar"}},
                                       .body = {.pieces = {"sent"}}});
  const auto received = backend_.TakeRequest("1");
  ASSERT_TRUE(received.has_value()) << ::testing::PrintToString(response);
  EXPECT_EQ(received->target, "/");
  // The mutation rules are there.
  EXPECT_EQ(received->Header("host"), "service-extensions.com");
  EXPECT_EQ(received->Header("foo"), std::nullopt);
  // Once for each chunk, of which the last may be empty.
  EXPECT_THAT(received->body, ::testing::StartsWith("replaced-body"));
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.Header("hello"), "service-extensions");
  EXPECT_EQ(response.body, "");
  // The health checks pass: Envoy asks for a health that the host answers.
  EXPECT_GT(envoy.Counter("cluster.callout-host.health_check.success"), 0u);
  EXPECT_EQ(envoy.Counter("cluster.callout-host.health_check.failure"), 0u);
  EXPECT_EQ(envoy.Counter("http.callout.ext_proc.rejected_header_mutations"), 0u);
  EXPECT_EQ(envoy.Counter("http.callout.ext_proc.spurious_msgs_received"), 0u);
}

TEST_F(PrintedConfigTest, AWholeBodyAboveEnvoysDefaultReachesThePlugin) {
  const host::TempDir dir;
  std::ofstream(dir.Path("settings")) << R"({"max_whole_body_bytes": 3000000})";
  const std::string plugin = "--plugin=" + BuiltPlugin("basic");
  const std::string settings = "--plugin_settings=basic=@" + dir.Path("settings");
  HostProcess host({plugin, settings});
  const EnvoyProcess envoy = Run({plugin, settings, AddressOf(&host)});
  backend_.Answer({.body = {.pieces = {"original"}}});
  const HttpMessage response =
      Exchange(envoy.port("callout"), {.method = "POST",
                                       .headers = {{kTestIdHeader, "1"}},
                                       .body = {.pieces = {std::string(2500000, 'x')}}});
  const auto received = backend_.TakeRequest("1");
  ASSERT_TRUE(received.has_value()) << ::testing::PrintToString(response);
  EXPECT_EQ(received->body, "replaced-body");
  EXPECT_EQ(response.status, 200);
}

TEST_F(PrintedConfigTest, ReachesAHostOnAUnixSocket) {
  const host::TempDir dir;
  const std::string plugin = "--plugin=" + BuiltPlugin("basic");
  const std::string address = "--plaintext_address=unix:" + dir.Path("callout.sock");
  ChildProcess host({BuiltFile("host/callout-host"), TransportOption(), "--disable_tls", plugin,
                     address, "--combined_health_check", "--admin_address=off"});
  ASSERT_TRUE(host.AwaitLine("listening plaintext ").has_value());
  const EnvoyProcess envoy = Run({plugin, address});
  backend_.Answer({});
  EXPECT_EQ(Exchange(envoy.port("callout"), {}).Header("hello"), "service-extensions");
}

}  // namespace
}  // namespace callout::tests
