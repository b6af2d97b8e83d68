// SPDX-License-Identifier: Apache-2.0

// One request found again: at /explain, in the log's lines about faults, and as an exemplar.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ext_proc_client.h"
#include "http_get.h"
#include "test_host.h"
#include "tests/host/sockets.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kKey[] = "a-key-of-this-test-0123456789";
constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
const HeaderList kTraced = {{"traceparent", std::string("00-") + kTrace + "-00f067aa0ba902b7-01"}};

std::string Moody() { return "--plugin=moody=" + BuiltFile("tests/integration/moody.so"); }

class Explain : public testing::TestWithParam<const char*> {
 protected:
  Explain() { std::ofstream(directory_.Path("key")) << kKey << "\n"; }
  std::vector<std::string> Options() {
    return {Moody(), GetParam(), "--explain_key=@" + directory_.Path("key")};
  }
  static nlohmann::json Page(TestHost* host, const std::string& query = "") {
    const std::string page = HttpGet(host->address("admin"), "GET", "/explain" + query);
    const size_t body = page.find("\r\n\r\n");
    EXPECT_THAT(page.substr(0, body), HasSubstr("application/json"));
    return nlohmann::json::parse(page.substr(body + 4))["explained"];
  }

  host::TempDir directory_;
};

TEST_P(Explain, ShowsAMarkedRequestAndNoOther) {
  TestHost host(Options());
  const auto ask = [&](const HeaderList& headers) {
    LiveStream stream(PlaintextChannel(host.address("plaintext")), kTraced);
    stream.Exchange(RequestHeaders(headers));
    stream.Finish();
  };
  ask({{":path", "/a"}, {"x-request-id", "not-marked"}});
  ask({{":path", "/a"}, {"x-request-id", "wrong"}, {"x-callout-debug", "another-key-0123456789"}});
  ask({{":path", "/a"},
       {"x-request-id", "4711"},
       {"x-do", "deny"},
       {"authorization", "secret"},
       {"x-callout-debug", kKey}});
  ask({{":path", "/a"}, {"x-request-id", "4712"}, {"x-callout-debug", kKey}});
  ASSERT_EQ(Page(&host).size(), 2u) << Page(&host).dump(1);
  EXPECT_EQ(Page(&host)[0]["x-request-id"], "4712");
  const nlohmann::json found = Page(&host, "?request_id=4711");
  ASSERT_EQ(found.size(), 1u);
  const nlohmann::json one = found[0];
  EXPECT_EQ(one["trace_id"], kTrace);
  nlohmann::json call;
  for (const nlohmann::json& step : one["steps"]) {
    if (step.contains("plugin")) call = step;
  }
  EXPECT_EQ(call["plugin"], "moody") << one.dump(1);
  EXPECT_EQ(call["generation"], 1);
  EXPECT_EQ(call["outcome"], "immediate");
  EXPECT_EQ(call["http_status"], 403);
  EXPECT_THAT(one.dump(), Not(HasSubstr("secret")));
  EXPECT_THAT(one.dump(), Not(HasSubstr(kKey)));
}

std::string Post(TestHost* host, const std::string& path, const std::string& form) {
  const host::Descriptor client = host::Connect(host::ParsedAddress(host->address("admin")));
  host::Write(client.get(),
              "POST " + path +
                  " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                  "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " +
                  std::to_string(form.size()) + "\r\n\r\n" + form);
  return host::ReadToEnd(client.get());
}

TEST_P(Explain, ARuleMarksRequestsWhileTheHostRuns) {
  TestHost host({Moody(), GetParam(), "--admin_writes=on"});
  const auto ask = [&](const std::string& tenant) {
    LiveStream stream(PlaintextChannel(host.address("plaintext")));
    EXPECT_TRUE(stream.Exchange(RequestHeaders({{":path", "/"}, {"x-tenant", tenant}})));
    stream.Finish();
  };
  ask("7");
  EXPECT_THAT(Post(&host, "/actions/explain", "header=x-tenant%3A7"), HasSubstr("200 OK"));
  EXPECT_THAT(Post(&host, "/actions/explain", "count=1"),
              HasSubstr("says nothing of the requests"));
  ask("7");
  ask("8");
  ASSERT_EQ(Page(&host).size(), 1u) << Page(&host).dump(1);
  EXPECT_EQ(Page(&host)[0]["marked_by"], "rule header=x-tenant%3A7");
  EXPECT_THAT(Post(&host, "/actions/explain_off", ""), HasSubstr("200 OK"));
  ask("7");
  EXPECT_EQ(Page(&host).size(), 1u);
}

TEST_P(Explain, TheLogLevelOfOnePluginChangesWhileTheHostRuns) {
  const std::string other = "--plugin=other=" + BuiltFile("tests/integration/moody.so");
  TestHost host({Moody(), other, GetParam(), "--admin_writes=on"});
  const auto ask = [&](const std::string& id) {
    LiveStream stream(PlaintextChannel(host.address("plaintext")));
    EXPECT_TRUE(stream.Exchange(RequestHeaders({{"x-request-id", id}})));
    stream.Finish();
  };
  ask("before");
  EXPECT_THAT(Post(&host, "/actions/log_level", "plugin=moody&level=debug"), HasSubstr("200 OK"));
  ask("during");
  EXPECT_THAT(Post(&host, "/actions/log_level", "plugin=moody&level=default"), HasSubstr("200 OK"));
  ask("after");
  host.Terminate();
  EXPECT_THAT(host.Log(), HasSubstr("x-request-id: during"));
  EXPECT_THAT(host.Log(), HasSubstr("plugin moody request_headers"));
  EXPECT_THAT(host.Log(), Not(HasSubstr("x-request-id: before")));
  EXPECT_THAT(host.Log(), Not(HasSubstr("x-request-id: after")));
  EXPECT_THAT(host.Log(), Not(HasSubstr("plugin other request_headers")));
}

INSTANTIATE_TEST_SUITE_P(In, Explain, testing::Values("--log_level=info", "--workers=2"),
                         [](const auto& info) {
                           return std::string(info.index == 0 ? "OneProcess" : "Workers");
                         });

TEST(ExplainKey, MustBeAFileWithALongKey) {
  const host::TempDir directory;
  std::ofstream(directory.Path("short")) << "short\n";
  const auto refused = [&](const std::string& value) {
    return RunHost({"--check", "--explain_key=" + value}).output;
  };
  EXPECT_THAT(refused("0123456789abcdef"), HasSubstr("expected @FILE"));
  EXPECT_THAT(refused("0123456789abcdef"), Not(HasSubstr("0123456789abcdef")));
  EXPECT_THAT(refused("@" + directory.Path("short")), HasSubstr("16 to 256 visible characters"));
  EXPECT_THAT(refused("@" + directory.Path("none")), HasSubstr("No such file"));
}

class Exemplars : public testing::TestWithParam<const char*> {};

TEST_P(Exemplars, LeadToTheTraceOfASlowCall) {
  TestHost host({Moody(), GetParam(), "--hook_deadline_ms=20000"});
  LiveStream stream(PlaintextChannel(host.address("plaintext")), kTraced);
  stream.Exchange(RequestHeaders({{"x-do", "defer"}}));
  stream.Finish();
  const host::Descriptor client = host::Connect(host::ParsedAddress(host.address("admin")));
  host::Write(client.get(),
              "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
              "Accept: application/openmetrics-text; version=1.0.0\r\n\r\n");
  const std::string page = host::ReadToEnd(client.get());
  EXPECT_THAT(page, HasSubstr("application/openmetrics-text; version=1.0.0"));
  const std::string exemplar = std::string(" 1 # {trace_id=\"") + kTrace + "\"} 0.";
  EXPECT_THAT(page, testing::ContainsRegex(
                        "callout_call_seconds_bucket\\{phase=\"request_headers\",plugin=\"moody\","
                        "le=\"[0-9.]+\"\\} 1 # \\{trace_id="));
  EXPECT_THAT(page, HasSubstr(exemplar));
  EXPECT_THAT(page, testing::EndsWith("# EOF\n"));
}

INSTANTIATE_TEST_SUITE_P(In, Exemplars, testing::Values("--log_level=info", "--workers=1"),
                         [](const auto& info) {
                           return std::string(info.index == 0 ? "OneProcess" : "Workers");
                         });

TEST(FaultLines, NameTheRequestInText) {
  TestHost host({Moody()});
  LiveStream stream(PlaintextChannel(host.address("plaintext")), kTraced);
  stream.Exchange(RequestHeaders({{"x-request-id", "4711"}, {"x-do", "fail"}}));
  stream.Finish();
  host.Terminate();
  EXPECT_THAT(host.Log(), HasSubstr(std::string(", x-request-id 4711, trace_id ") + kTrace + ")"));
}

}  // namespace
}  // namespace callout::tests
