// SPDX-License-Identifier: Apache-2.0

// plugins/go_headers, its border between Go and the host, and what a Go runtime does to a host.
#include <signal.h>

#include <filesystem>

#include "../host/sockets.h"
#include "sample_envoy.h"
#include "sample_host.h"

namespace callout::tests {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kFaults[] = "../tests/plugins/go_faults";

TEST(GoHeadersTest, SetsRemovesAndCountsHeaders) {
  SampleHost host("go_headers");
  host.Expect({
      {"a request",
       RequestHeaders({{":path", "/a"}, {"foo", "bar"}}, true),
       {"request_headers", "set header-request: request", "set x-go: 2", "clear route cache"}},
      {"one without any header",
       RequestHeaders({}),
       {"request_headers", "set header-request: request", "set x-go: 0", "clear route cache"}},
      {"a response",
       ResponseHeaders({{":status", "200"}}),
       {"response_headers", "set header-response: response", "set x-go: 1", "remove foo"}},
      {"a request's body", RequestBody("text"), {"request_body"}},
  });
  EXPECT_THAT(host.Ask({RequestHeaders({{"\xff", ""}})}),
              ::testing::ElementsAre(AllOf(HasSubstr("status 3: the message cannot be parsed: "),
                                           HasSubstr("contains invalid UTF-8"))));
}

TEST(GoHeadersTest, LogsThroughTheHostAndRefusesAConfiguration) {
  EXPECT_THAT(RefusalOf("go_headers", "{}"),
              HasSubstr("ERROR plugin go_headers: it has no configuration, and was given one"));
}

TEST(GoBorderTest, TurnsPanicsIntoErrorsOfTheirStream) {
  SampleHost host(kFaults);
  host.Expect({
      {"a panic", RequestHeaders({{"fault", "panic"}}), {"status 13: panic: a text"}},
      {"one with an error", RequestHeaders({{"fault", "error"}}), {"status 13: panic: an error"}},
      {"Go's own",
       RequestHeaders({{"fault", "index"}}),
       {"status 13: panic: runtime error: index out of range [1] with length 1"}},
      {"one that begins as SIGSEGV",
       RequestHeaders({{"fault", "nil"}}),
       {"status 13: panic: runtime error: invalid memory address or nil pointer dereference"}},
      {"and the host lives on", RequestHeaders({}), {"request_headers"}},
  });
  EXPECT_THAT(host.Ask({RequestHeaders({{"fault", "not UTF-8"}})}),
              ::testing::ElementsAre(HasSubstr("status 13: the answer cannot be written: ")));
}

// --- Beside a Go runtime the host still tells of crashes, once, and dies of them ---

void ExpectOneReport(TestHost* host, int signal, const std::string& words) {
  EXPECT_EQ(host->AwaitEnd(), 128 + signal);
  const std::string log = host->Log();
  EXPECT_THAT(log, HasSubstr(words));
  EXPECT_EQ(log.find("callout-host: SIG"), log.rfind("callout-host: SIG")) << log.substr(0, 4096);
}

TEST(GoRuntimeTest, LeavesTheReportOfACrashInCToTheHost) {
  TestHost host({"--plugin=p=" + BuiltPlugin(kFaults)});
  LiveStream(PlaintextChannel(host.address("plaintext")))
      .Exchange(RequestHeaders({{"fault", "C"}}));
  ExpectOneReport(&host, SIGSEGV, "SIGSEGV while plugin p ran callout_on_request_headers\n");
}

// As a crash does, the signal goes to one thread, which is not Go's. If the process had it, a
// thread that Go starts just then could take it, and Go would report it.
TEST(GoRuntimeTest, LeavesTheReportOfACrashElsewhereToTheHost) {
  for (const int signal : {SIGSEGV, SIGABRT}) {
    TestHost host({"--plugin=" + BuiltPlugin("go_headers")});
    ASSERT_EQ(tgkill(host.pid(), host.pid(), signal), 0);
    ExpectOneReport(&host, signal, " outside of every hook");
  }
}

TEST(GoRuntimeTest, TellsOfAPanicThatNoBorderCatches) {
  TestHost host({"--plugin=" + BuiltPlugin(kFaults)});
  LiveStream(PlaintextChannel(host.address("plaintext")))
      .Exchange(RequestHeaders({{"fault", "goroutine"}}));
  ExpectOneReport(&host, SIGABRT, " outside of every hook");
  EXPECT_THAT(host.Log(), HasSubstr("panic: where no border is"));
}

// --- One runtime for a process ---

std::string Refused(const std::string& file, const std::string& runtime_of) {
  return "cannot load plugin " + file +
         ": it brings a second Go runtime into the process, which has that of " + runtime_of +
         " and can have only one; run it in a host of its own or, to replace that plugin, restart "
         "the host by draining it";
}

TEST(GoRuntimeTest, IsRefusedASecondTime) {
  const std::string first = BuiltPlugin("go_headers");
  const std::string second = BuiltPlugin(kFaults);
  const Finished finished = RunHost({"--check", "--plugin=a=" + first, "--plugin=b=" + second});
  EXPECT_EQ(finished.exit_status, 2);
  EXPECT_THAT(finished.output, HasSubstr(Refused(second, first)));
}

TEST(GoRuntimeTest, OutlivesWhateverElseIsPutBesideItOrInItsPlace) {
  const host::TempDir directory;
  const std::string plugins = directory.Path("plugins");
  const std::string first = plugins + "/10-go.so";
  const std::string second = plugins + "/20-go.so";
  std::filesystem::create_directory(plugins);
  std::filesystem::copy(BuiltPlugin("go_headers"), first);
  TestHost host({"--plugins_dir=" + plugins});
  const auto put = [&](const std::string& file) {
    const std::string fresh = directory.Path("fresh");
    std::filesystem::copy(BuiltPlugin(kFaults), fresh);
    std::filesystem::rename(fresh, file);
  };
  put(second);
  EXPECT_EQ(host.AwaitLog("ERROR plugin 20-go: "),
            Refused(second, first) + "; no version is active");
  put(first);
  EXPECT_EQ(host.AwaitLog("ERROR plugin 10-go: "),
            Refused(first, first) + "; generation 1 goes on serving");
  ChannelPtr channel = PlaintextChannel(host.address("plaintext"));
  const auto answer = LiveStream(channel).Exchange(RequestHeaders({}));
  ASSERT_TRUE(answer.has_value());
  EXPECT_THAT(DescribeAnswer(*answer), ::testing::Contains("set x-go: 0"));
  channel.reset();
  EXPECT_EQ(host.Terminate(), 0) << host.Log();
}

class GoHeadersEnvoyTest : public SampleEnvoy {};

TEST_F(GoHeadersEnvoyTest, ChangesWhatBackendAndClientGet) {
  Start("go_headers", nlohmann::json::object());
  backend().Answer({.headers = {{"foo", "bar"}}});
  const HttpMessage response = Send({.headers = {{"x-go", "old"}}});
  const HttpMessage request = Received();
  EXPECT_EQ(request.Header("header-request"), "request");
  EXPECT_THAT(request.Header("x-go").value_or(""), ::testing::MatchesRegex("[1-9][0-9]*"));
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.Header("header-response"), "response");
  EXPECT_THAT(response.Header("x-go").value_or(""), ::testing::MatchesRegex("[1-9][0-9]*"));
  EXPECT_EQ(response.Header("foo"), std::nullopt);
}

}  // namespace
}  // namespace callout::tests
