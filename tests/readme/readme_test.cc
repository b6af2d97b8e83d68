// SPDX-License-Identifier: Apache-2.0

// README.md as a newcomer uses it: every file it prints is written down, every
// command is run in the order of the page, and what comes of them does what the
// page says.
//
// Blocks that begin with scripts/ set up the machine or take it over, so only
// their presence is checked here; scripts/test is what runs this.
#include <gtest/gtest.h>

#include <regex>
#include <sstream>
#include <string>

#include "backend.h"
#include "client.h"
#include "envoy_process.h"
#include "page.h"
#include "tests/integration/ext_proc_client.h"
#include "tests/integration/test_host.h"

namespace callout::tests {
namespace {

class Readme : public Page {
 protected:
  Readme() : Page("README.md") {}
};

TEST_F(Readme, EveryCommandWorksAsPrinted) {
  ASSERT_GE(Commands().size(), 4u) << "the page's commands were not found";
  RunAll();
}

TEST_F(Readme, EveryScriptIsThere) {
  size_t found = 0;
  for (const Block& block : blocks_) {
    if (block.language != "sh" || !block.text.starts_with("scripts/")) continue;
    const std::string script = block.text.substr(0, block.text.find_first_of(" \n"));
    EXPECT_EQ(access(SourceFile(script).c_str(), X_OK), 0) << script;
    ++found;
  }
  EXPECT_EQ(found, 2u);
}

// Both plugins of the page refuse x-secret and stamp everything else.
void ExpectStamps(TestHost* host, const std::string& stamp) {
  LiveStream stream(PlaintextChannel(host->address("plaintext")));
  const auto answer = stream.Exchange(RequestHeaders({{":path", "/"}, {"x-internal", "1"}}));
  ASSERT_TRUE(answer.has_value());
  const auto& mutation = answer->request_headers().response().header_mutation();
  ASSERT_EQ(mutation.set_headers_size(), 1) << answer->DebugString();
  EXPECT_EQ(mutation.set_headers(0).header().key(), "x-seen-by");
  EXPECT_EQ(mutation.set_headers(0).header().raw_value(), stamp);
  EXPECT_TRUE(stream.Finish().ok());

  LiveStream refused(PlaintextChannel(host->address("plaintext")));
  const auto denied = refused.Exchange(RequestHeaders({{":path", "/"}, {"X-Secret", "1"}}));
  ASSERT_TRUE(denied.has_value());
  EXPECT_EQ(static_cast<int>(denied->immediate_response().status().code()), 403);
  EXPECT_EQ(denied->immediate_response().body(), "no secrets here");
}

TEST_F(Readme, TheCppPluginDoesWhatItSays) {
  RunAll("c++ ");
  TestHost host({"--plugin=" + dir_.Path("hello.so")});
  ExpectStamps(&host, "hello");
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  const auto request = stream.Exchange(RequestHeaders({{":path", "/"}}));
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->request_headers().response().header_mutation().remove_headers(0),
            "x-internal");
  const auto response = stream.Exchange(ResponseHeaders({{":status", "200"}}));
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->response_headers().response().header_mutation().set_headers(0).header().key(),
            "x-answered-by");
  EXPECT_EQ(host.Terminate(), 0);
}

TEST_F(Readme, TheCPluginDoesWhatItSays) {
  RunAll("cc ");
  TestHost host({"--plugin=" + dir_.Path("stamp.so")});
  ExpectStamps(&host, "stamp");
  EXPECT_EQ(host.Terminate(), 0);
}

// The flags that the page recommends for release builds.
TEST_F(Readme, TheReleaseFlagsHideEverythingElse) {
  const std::string text = ReadAll(SourceFile("README.md"));
  std::smatch flags;
  ASSERT_TRUE(std::regex_search(text, flags, std::regex("`(-O2 [^`]*callout\\.map)`")));
  const Finished built = Run("c++ -shared -fPIC -I plugin_api " + flags.str(1) +
                             " hello.cc -o hidden.so\n"
                             "nm -D --defined-only hidden.so | awk '{print $3}'");
  ASSERT_EQ(built.exit_status, 0) << built.output;
  std::istringstream names(built.output);
  std::string name;
  size_t count = 0;
  while (names >> name) {
    EXPECT_TRUE(name.starts_with("callout_")) << name;
    ++count;
  }
  EXPECT_EQ(count, 4u) << built.output;
}

TEST_F(Readme, ThePictureIsDrawnFromItsSource) {
  const Finished sum = Run("sha256sum <'" + SourceFile("docs/overview.dot") + "'");
  const std::string picture = ReadAll(SourceFile("docs/overview.svg"));
  EXPECT_NE(picture.find("sha256 " + sum.output.substr(0, 64)), std::string::npos)
      << "docs/overview.svg is out of date; run scripts/draw";
}

// Envoy's configuration, of the page's parts and what they need around them.
class ReadmeEnvoy : public Readme {
 protected:
  void SetUp() override {
    if (EnvoyProcess::Available()) return;
    const char* ci = getenv("CI");
    if (ci != nullptr && std::string_view(ci) == "true") FAIL() << EnvoyProcess::WhyNot();
    GTEST_SKIP() << EnvoyProcess::WhyNot();
  }

  // The lines below the first, which is the list's name.
  std::string Part(const std::string& name) const {
    for (const Block& block : blocks_) {
      if (block.marker == "envoy" && block.name == name) {
        return block.text.substr(block.text.find('\n') + 1);
      }
    }
    ADD_FAILURE() << "README.md has no part " << name << " of Envoy's configuration";
    return "";
  }

  static std::string Indented(const std::string& text, size_t by) {
    return std::regex_replace(text, std::regex("(^|\n)(?=.)"), "$1" + std::string(by, ' '));
  }

  std::string Bootstrap(const std::string& host_port, uint16_t backend_port) const {
    const std::regex port("port_value: 8080");
    const std::string cluster = Part("cluster");
    EXPECT_TRUE(std::regex_search(cluster, port));
    return R"(
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
  - name: readme
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: readme
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: backend}}]}
          http_filters:
)" + Indented(Part("filter"), 10) +
           R"(
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
)" + Indented(std::regex_replace(cluster, port, "port_value: " + host_port), 2) +
           R"(
  - name: backend
    type: STATIC
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: )" +
           std::to_string(backend_port) + "}}}\n";
  }
};

// plugins/basic sets :authority and replaces bodies, which shows that mutation_rules
// and the body mode are in force.
TEST_F(ReadmeEnvoy, TheConfigurationServesARequestAndFailsClosed) {
  Backend backend;
  backend.Answer({.headers = {{"from", "backend"}}});
  TestHost host({"--plugin=" + BuiltPlugin("basic")});
  const std::string address = host.address("plaintext");
  EnvoyProcess envoy(Bootstrap(address.substr(address.rfind(':') + 1), backend.port()));

  const HttpMessage response =
      Exchange(envoy.port("readme"), {.method = "POST",
                                      .headers = {{kTestIdHeader, "served"}},
                                      .body = {.pieces = {"the client's"}}});
  EXPECT_EQ(response.status, 200) << envoy.Output();
  EXPECT_EQ(response.Header("hello").value_or(""), "service-extensions");
  const std::optional<HttpMessage> seen = backend.TakeRequest("served");
  ASSERT_TRUE(seen.has_value());
  EXPECT_EQ(seen->Header("host").value_or(""), "service-extensions.com") << "mutation_rules";
  EXPECT_EQ(seen->body, "replaced-body") << "request_body_mode";
  EXPECT_EQ(envoy.Counter("http.readme.ext_proc.spurious_msgs_received"), 0u);

  EXPECT_EQ(host.Terminate(), 0);
  EXPECT_EQ(Exchange(envoy.port("readme"), {}).status, 500) << "failure_mode_allow";
}

}  // namespace
}  // namespace callout::tests
