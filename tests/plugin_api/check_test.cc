// SPDX-License-Identifier: Apache-2.0

// ext_authz in the layers for plugins: callout/check.h, callout/check.hpp and the fake host.
#include <callout/check.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <callout/testing.hpp>
#include <string>

namespace callout::testing {
namespace {

class CheckHookTest : public ::testing::Test {
 protected:
  CheckAnswer Do(const std::string& deed, CheckQuestion question = {}) {
    Stream stream(plugin_);
    question.headers.emplace_back("x-do", deed);
    return stream.check(question);
  }
  bool HasLog(const std::string& text) const {
    const auto logs = plugin_.logs();
    return std::any_of(logs.begin(), logs.end(), [&](const Plugin::Log& log) {
      return log.text.find(text) != log.text.npos;
    });
  }

  Plugin plugin_{CALLOUT_CHECK_PLUGIN};
};

TEST_F(CheckHookTest, WhatGoesWithAnAllowanceIsSaid) {
  for (const bool raw : {false, true}) {
    CheckQuestion question;
    question.raw_headers = raw;
    const CheckAnswer answer = Do("allow", question);
    EXPECT_TRUE(answer.allowed()) << answer.problem;
    EXPECT_EQ(answer.header("X-User"), "ada");
    ASSERT_EQ(answer.sets.size(), 2u);
    EXPECT_FALSE(answer.sets[0].append);
    EXPECT_EQ(answer.sets[0].append_action, 2u);
    EXPECT_TRUE(answer.sets[1].append);
    EXPECT_TRUE(answer.removed("x-secret"));
    EXPECT_EQ(answer.query_parameter("q"), "x y") << "the host encodes it";
    EXPECT_EQ(answer.query_removes, std::vector<std::string>{"token"});
    EXPECT_EQ(answer.response_header("x-seen"), "1");
    EXPECT_EQ(answer.response_header("set-cookie"), "a=1");
  }
}

TEST_F(CheckHookTest, NothingSaidIsNotAllowed) {
  const CheckAnswer answer = Do("nothing");
  EXPECT_EQ(answer.kind, CheckAnswer::Kind::kNothing);
  EXPECT_FALSE(answer.allowed());
}

TEST_F(CheckHookTest, ARefusalHasStatusHeadersAndBody) {
  const CheckAnswer answer = Do("refuse");
  EXPECT_EQ(answer.kind, CheckAnswer::Kind::kDenied);
  EXPECT_EQ(answer.http_status, 401u);
  EXPECT_EQ(answer.header("www-authenticate"), "Bearer");
  EXPECT_EQ(answer.body, "no");
  EXPECT_EQ(Do("error").kind, CheckAnswer::Kind::kError);
  EXPECT_EQ(Do("error").http_status, 503u);
}

TEST_F(CheckHookTest, ARefusalStands) {
  const CheckAnswer answer = Do("both");
  EXPECT_EQ(answer.kind, CheckAnswer::Kind::kDenied);
  EXPECT_EQ(answer.body, "no");
  EXPECT_TRUE(answer.sets.empty()) << "nothing of the allowance is in it";
  EXPECT_TRUE(HasLog("allow() after a denial does nothing"));
}

TEST_F(CheckHookTest, ARefusalIsToldBeforeAFault) {
  for (const char* deed : {"deny and fail", "deny and throw"}) {
    const CheckAnswer answer = Do(deed);
    EXPECT_EQ(answer.status, CALLOUT_INTERNAL) << deed;
    EXPECT_EQ(answer.error, "later") << deed;
    EXPECT_EQ(answer.kind, CheckAnswer::Kind::kDenied) << deed;
  }
  const CheckAnswer answer = Do("allow and deny");
  EXPECT_EQ(answer.kind, CheckAnswer::Kind::kDenied);
  EXPECT_TRUE(answer.sets.empty()) << "an Allowance of before adds nothing to the denial";
  EXPECT_TRUE(HasLog("set_header() after a denial does nothing"));
  EXPECT_EQ(Do("status").kind, CheckAnswer::Kind::kDenied) << "with the status 99";
}

TEST_F(CheckHookTest, WhatCannotBeDoneEndsTheCallAsAnError) {
  EXPECT_EQ(Do("status").status, CALLOUT_INVALID_ARGUMENT);
  EXPECT_EQ(Do("status").error, "a denial needs an HTTP status of 200 to 599");
  EXPECT_EQ(Do("throw").status, CALLOUT_INTERNAL);
  EXPECT_EQ(Do("throw").error, "thrown");
  EXPECT_FALSE(Do("throw").allowed());
}

TEST_F(CheckHookTest, TheFakeHostFindsWhatTheRealOneRefuses) {
  const CheckAnswer answer = Do("evil");
  EXPECT_EQ(answer.problem, "a control character in the header x");
  EXPECT_FALSE(answer.allowed());
}

TEST_F(CheckHookTest, TheSamplesTools) {
  const CheckAnswer allowed = Do("metadata");
  EXPECT_TRUE(allowed.allowed());
  EXPECT_EQ(allowed.header("x-a"), "1");
  EXPECT_EQ(Struct(allowed.metadata)["user"].text(), "ada");
  const CheckAnswer denied = Do("tool");
  EXPECT_EQ(denied.http_status, 403u);
  EXPECT_EQ(denied.header("x-a"), "1");
  EXPECT_EQ(denied.body, "no");
}

TEST_F(CheckHookTest, ADeferredCallIsAnsweredLater) {
  const CheckAnswer answer = Do("defer");
  EXPECT_TRUE(answer.deferred);
  EXPECT_TRUE(answer.allowed());
}

TEST_F(CheckHookTest, TheCallTellsWhoAsks) {
  CheckQuestion question;
  question.headers = {{":method", "POST"}, {":path", "/a?b"}, {":authority", "h"}};
  question.body = "text";
  question.principal = "spiffe://a";
  question.certificate = "-----BEGIN%20";
  question.sni = "a.example";
  question.extensions = {{"route", "private"}};
  EXPECT_EQ(Do("facts", question).body,
            "POST /a?b h 192.0.2.1:4711 spiffe://a text private -----BEGIN%20 a.example");
}

TEST_F(CheckHookTest, AConnectionHasNoRequest) {
  CheckQuestion question;
  question.is_connection = true;
  EXPECT_TRUE(Do("", question).allowed());
}

}  // namespace
}  // namespace callout::testing
