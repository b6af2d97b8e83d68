// SPDX-License-Identifier: Apache-2.0

// The host with plugins.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "certificates.h"
#include "ext_proc_client.h"
#include "http_get.h"
#include "test_host.h"

namespace callout::tests {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

std::map<std::string, std::string> SetHeaders(const ext_proc::HeaderMutation& mutation) {
  std::map<std::string, std::string> headers;
  for (const auto& option : mutation.set_headers()) {
    headers.emplace(option.header().key(), option.header().raw_value());
  }
  return headers;
}

// Everything that plugins/basic promises, on one stream.
void ExpectBasic(const ChannelPtr& channel) {
  LiveStream stream(channel);
  const auto request = stream.Exchange(RequestHeaders({{":path", "/x"}, {"foo", "bar"}}));
  ASSERT_TRUE(request.has_value()) << stream.Finish().error_message();
  const ext_proc::CommonResponse& headers = request->request_headers().response();
  EXPECT_THAT(SetHeaders(headers.header_mutation()),
              UnorderedElementsAre(Pair(":authority", "service-extensions.com"), Pair(":path", "/"),
                                   Pair("header-request", "request")));
  EXPECT_THAT(headers.header_mutation().remove_headers(), ElementsAre("foo"));
  EXPECT_TRUE(headers.clear_route_cache());

  const auto request_body = stream.Exchange(RequestBody("from the client"));
  ASSERT_TRUE(request_body.has_value());
  EXPECT_EQ(request_body->request_body().response().body_mutation().body(), "replaced-body");

  const auto response = stream.Exchange(ResponseHeaders({{":status", "200"}}));
  ASSERT_TRUE(response.has_value());
  EXPECT_THAT(SetHeaders(response->response_headers().response().header_mutation()),
              UnorderedElementsAre(Pair("hello", "service-extensions")));

  const auto response_body = stream.Exchange(ResponseBody("from the backend"));
  ASSERT_TRUE(response_body.has_value());
  EXPECT_TRUE(response_body->response_body().response().body_mutation().clear_body());
  EXPECT_TRUE(stream.Finish().ok());
}

TEST(Plugins, ServeOverEachTransport) {
  const host::TempDir dir;
  const TestCa ca("CA");
  const PairFiles files(dir, ca.Issue("localhost"));
  std::vector<std::string> options = files.Options();
  options.push_back("--plugin=" + BuiltPlugin("basic"));
  {
    TestHost host(options);
    ExpectBasic(PlaintextChannel(host.address("plaintext")));
    ExpectBasic(TlsChannel(host.address("secure"), {ca.pem(), "", ""}));
    EXPECT_EQ(host.Terminate(), 0);
  }
  WriteFile(dir.Path("clients.pem"), ca.pem());
  options.push_back("--client_ca_path=" + dir.Path("clients.pem"));
  options.push_back("--secure_address=unix:" + dir.Path("socket"));
  TestHost host(options);
  const PemPair client = ca.Issue("envoy");
  ExpectBasic(TlsChannel(host.address("secure"), {ca.pem(), client.cert_pem, client.key_pem}));
}

TEST(Plugins, AreAnnouncedWithTheirHooks) {
  TestHost host({"--plugin=" + BuiltPlugin("basic"), "--plugin=stamp=" + BuiltPlugin("minimal_c")});
  EXPECT_THAT(host.Log(),
              AllOf(HasSubstr("plugin basic from " + BuiltPlugin("basic") +
                              ": callout_on_request_headers, callout_on_response_headers, "
                              "callout_on_request_body, callout_on_response_body\n"),
                    HasSubstr("plugin stamp from " + BuiltPlugin("minimal_c") +
                              ": callout_on_request_headers\n"),
                    HasSubstr("serving with 2 plugins\n")));
}

TEST(Plugins, MakeAChainInTheOrderGiven) {
  TestHost host({"--plugin=" + BuiltPlugin("basic"), "--plugin=" + BuiltPlugin("minimal_c")});
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  const auto answer = stream.Exchange(RequestHeaders({{":path", "/x"}}));
  ASSERT_TRUE(answer.has_value());
  EXPECT_THAT(
      SetHeaders(answer->request_headers().response().header_mutation()),
      UnorderedElementsAre(Pair(":authority", "service-extensions.com"), Pair(":path", "/"),
                           Pair("header-request", "request"), Pair("x-callout", "minimal-c")));
}

TEST(Plugins, ThatAreDisabledAreLeftOut) {
  const host::TempDir dir;
  WriteFile(dir.Path("settings"), R"({"disabled": true})");
  TestHost host(
      {"--plugin=" + BuiltPlugin("basic"), "--plugin_settings=basic=@" + dir.Path("settings")});
  EXPECT_THAT(host.Log(), HasSubstr("serving with 0 plugins"));
}

TEST(Plugins, TheHostIsNotReadyAndTakesNoTrafficBeforeTheyAreThere) {
  const host::TempDir dir;
  const std::string health = "unix:" + dir.Path("health");
  const std::string traffic = "unix:" + dir.Path("traffic");
  ChildProcess process(HostCommand({"--disable_tls", "--plaintext_address=" + traffic,
                                    "--health_check_address=" + health, "--admin_address=off",
                                    "--plugin=" + BuiltFile("tests/integration/slow_create.so"),
                                    "--plugin_config=slow_create=" + dir.Path("go")}));
  process.AwaitLine("creating");
  EXPECT_THAT(HttpGet(health), StartsWith("HTTP/1.1 503 "));
  EXPECT_TRUE(Refused(traffic));
  WriteFile(dir.Path("go"), "");
  process.AwaitLine("serving with ");
  EXPECT_THAT(HttpGet(health), StartsWith("HTTP/1.1 200 "));
  LiveStream stream(PlaintextChannel(traffic));
  EXPECT_TRUE(stream.Exchange(RequestHeaders({})).has_value());
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_EQ(process.Terminate(), 0);
}

TEST(Plugins, ASignalWhileTheyLoadEndsTheStart) {
  const host::TempDir dir;
  ChildProcess process(HostCommand({"--disable_tls", "--plaintext_address=unix:" + dir.Path("t"),
                                    "--combined_health_check", "--admin_address=off",
                                    "--plugin=" + BuiltFile("tests/integration/slow_create.so"),
                                    "--plugin_config=slow_create=" + dir.Path("go")}));
  process.AwaitLine("creating");
  EXPECT_EQ(process.Terminate(), 128 + SIGTERM);
}

TEST(Plugins, DoNotDecideHowTheProcessEndsByTheirStaticDestructors) {
  TestHost host({"--plugin=" + BuiltFile("tests/integration/crashes_at_exit.so")});
  EXPECT_EQ(host.Terminate(), 0);
}

// A Check shows request headers only.
TEST(Check, RefusesPluginsThatTheBridgeCannotCarry) {
  const auto check = [](const std::string& services, const std::vector<std::string>& plugins) {
    std::vector<std::string> options = {"--check", "--disable_tls", "--services=" + services};
    for (const std::string& plugin : plugins) options.push_back("--plugin=" + BuiltPlugin(plugin));
    return RunHost(options);
  };
  for (const char* services : {"ext_authz", "ext_proc,ext_authz"}) {
    for (const char* plugin : {"redirect", "minimal_c", "block_ip"}) {
      const Finished finished = check(services, {plugin});
      EXPECT_EQ(finished.exit_status, 0) << plugin << finished.output;
    }
    // Bodies and responses; then all phases, by callout_on_process.
    for (const auto& [plugin, phases] : std::vector<std::pair<std::string, std::string>>{
             {"basic", "response_headers, request_body, response_body"},
             {"set_cookie", "response_headers"},
             {"add_body", "request_body, response_body"},
             {"metadata_check",
              "response_headers, request_body, response_body, request_trailers, "
              "response_trailers"}}) {
      const Finished finished = check(services, {"block_ip", plugin});
      EXPECT_EQ(finished.exit_status, 2) << plugin;
      EXPECT_THAT(finished.output, HasSubstr("plugin " + plugin +
                                             " cannot answer ext_authz (--services): it has no "
                                             "callout_on_check, and a Check has no place for what "
                                             "it does in " +
                                             phases))
          << finished.output;
    }
  }
  EXPECT_EQ(check("ext_proc", {"basic"}).exit_status, 0);
  // No hook for any of its questions is no error, and worth a word.
  const Finished unasked = check("ext_authz", {"l4_rewrite"});
  EXPECT_EQ(unasked.exit_status, 0);
  EXPECT_THAT(unasked.output,
              HasSubstr("warning: --services names ext_authz, and no plugin has a hook for it"));
}

TEST(Check, DescribesEachPlugin) {
  const Finished finished =
      RunHost({"--check", "--disable_tls", "--plugin=first=" + BuiltPlugin("basic"),
               "--plugin=" + BuiltPlugin("minimal_c")});
  EXPECT_EQ(finished.exit_status, 0);
  EXPECT_EQ(finished.output,
            "plugin first\n"
            "  path         " +
                BuiltPlugin("basic") +
                "\n"
                "  name         basic\n"
                "  version      1.0.0\n"
                "  description  Changes headers and bodies of requests and responses\n"
                "  ABI          1\n"
                "  hooks        callout_on_request_headers, callout_on_response_headers, "
                "callout_on_request_body, callout_on_response_body\n"
                "  services     ext_proc\n"
                "plugin minimal_c\n"
                "  path         " +
                BuiltPlugin("minimal_c") +
                "\n"
                "  ABI          1\n"
                "  hooks        callout_on_request_headers\n"
                "  services     ext_proc\n"
                "the configuration is good\n");
}

}  // namespace
}  // namespace callout::tests
