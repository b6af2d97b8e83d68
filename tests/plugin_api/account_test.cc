// SPDX-License-Identifier: Apache-2.0

// The newer parts of the class layer, by account_plugin.cc; and the fake host's own rules.
#include <gtest/gtest.h>

#include <algorithm>
#include <callout/plugin.hpp>
#include <callout/testing.hpp>
#include <string>
#include <type_traits>
#include <vector>

namespace callout::testing {
namespace {

const char kAccountPlugin[] = CALLOUT_ACCOUNT_PLUGIN;

bool HasLog(const Plugin& plugin, const std::string& text) {
  const auto logs = plugin.logs();
  return std::any_of(logs.begin(), logs.end(),
                     [&](const Plugin::Log& log) { return log.text.find(text) != log.text.npos; });
}

TEST(AccountPlugin, SaysWhatItWants) {
  Plugin plugin(kAccountPlugin);
  ASSERT_EQ(plugin.status(), CALLOUT_OK);
  EXPECT_EQ(plugin.followed_files(), std::vector<std::string>{"/etc/account.json"});
  EXPECT_EQ(plugin.wants().blocking_phases, CALLOUT_PHASE_BIT(CALLOUT_REQUEST_BODY));
  EXPECT_EQ(plugin.wants().wants,
            uint64_t{CALLOUT_WANT_REAL_END} | uint64_t{CALLOUT_WANT_REQUEST_HEADERS});
}

TEST(AccountPlugin, AStepAfterADecisionDoesNothingAndIsReported) {
  Plugin plugin(kAccountPlugin);
  Stream stream(plugin);
  const Answer denied = stream.request_headers({{":path", "/"}});
  EXPECT_EQ(denied.status, CALLOUT_OK);
  EXPECT_EQ(denied.http_status, 401u) << "the first decision stands";
  EXPECT_EQ(denied.body, "no");
  EXPECT_TRUE(denied.sets.empty()) << "nothing leaks into it";
  EXPECT_NE(denied.error.find("set_header() after deny() or reply() does nothing"),
            std::string::npos);
  EXPECT_TRUE(HasLog(plugin, "set_header() after deny() or reply() does nothing"));
}

TEST(AccountPlugin, TheStreamOfARefusedOpenIsFreed) {
  Plugin plugin(kAccountPlugin);
  {
    Stream stream(plugin);
    stream.set_grpc_metadata("refuse", "1");
    EXPECT_EQ(stream.request_headers({}).status, CALLOUT_PERMISSION_DENIED);
    EXPECT_EQ(plugin.metric("account_open_streams"), 0);
  }
  EXPECT_FALSE(HasLog(plugin, "end "));
}

TEST(AccountPlugin, LearnsHowAStreamEnded) {
  Plugin plugin(kAccountPlugin);
  {
    Stream stream(plugin);
    stream.end.http_status = 204;
    stream.end.request_body_bytes = 7;
    const Answer answer = stream.request_headers({{":path", "/p"}, {"defer", "1"}});
    EXPECT_TRUE(answer.deferred);
    EXPECT_EQ(answer.header("x-later"), "1");
    EXPECT_EQ(stream.response_headers({{":status", "204"}}).header("x-path"), "/p");
    EXPECT_EQ(plugin.metric("account_open_streams"), 1);
    stream.cancel();
    EXPECT_TRUE(HasLog(plugin, "cancelled"));
  }
  EXPECT_TRUE(HasLog(plugin, "end 1 204 7"));
  EXPECT_EQ(plugin.metric("account_open_streams"), 0);
}

TEST(AccountPlugin, RunsOnManyThreadsAtOnce) {
  Plugin plugin(kAccountPlugin);
  run_in_parallel(plugin, 4, 200, [](Stream& stream, size_t i) {
    const std::string path = "/" + std::to_string(i);
    stream.request_headers({{":path", path}, {"defer", "1"}});
    EXPECT_EQ(stream.response_headers({}).header("x-path"), path);
  });
  EXPECT_EQ(plugin.metric("account_open_streams"), 0);
  EXPECT_THROW(run_in_parallel(plugin, 2, 10, [](Stream&, size_t) { throw 1; }), int);
}

TEST(AccountPlugin, CallsCannotBeCopied) {
  EXPECT_FALSE(std::is_copy_constructible_v<HeadersCall>);
  EXPECT_FALSE(std::is_copy_constructible_v<BodyCall>);
  EXPECT_FALSE(std::is_copy_constructible_v<TrailersCall>);
  EXPECT_FALSE(std::is_copy_constructible_v<ProcessCall>);
  EXPECT_FALSE(std::is_copy_constructible_v<OpenCall>);
}

}  // namespace
}  // namespace callout::testing
