// SPDX-License-Identifier: Apache-2.0

// callout/typed.hpp, with typed_plugin.cc loaded into a process that has the full classes.
#include <gtest/gtest.h>

#include <callout/testing.hpp>
#include <string>

namespace callout::testing {
namespace {

const char kTypedPlugin[] = CALLOUT_TYPED_PLUGIN;

class TypedTest : public ::testing::Test {
 protected:
  Answer Do(const std::string& deed) { return Stream(plugin_).request_headers({{"x-do", deed}}); }
  Plugin plugin_{kTypedPlugin};
};

TEST_F(TypedTest, AnswersWithWhatWasFilled) {
  EXPECT_EQ(Do("answer").header("x-via"), "response");
  Stream stream(plugin_);
  EXPECT_EQ(stream.request_body("ab").body, "abab");
  EXPECT_TRUE(stream.request_trailers({{"x-end", "1"}}).removed("x-end"));
  EXPECT_EQ(stream.response_headers({{"a", "1"}, {"b", "2"}}).header("x-via"), "2");
}

TEST_F(TypedTest, AnEmptyAnswerIsNone) {
  const Answer answer = Do("nothing");
  EXPECT_EQ(answer.status, CALLOUT_OK);
  EXPECT_EQ(answer.field, 0u);
}

TEST_F(TypedTest, AnImmediateResponseGoesOutInstead) {
  const Answer answer = Do("immediate");
  EXPECT_EQ(answer.field, uint32_t{CALLOUT_IMMEDIATE_RESPONSE});
  EXPECT_EQ(answer.http_status, 403u);
  EXPECT_EQ(answer.body, "no");
  EXPECT_EQ(answer.details, "typed");
  EXPECT_EQ(answer.header("x-via"), std::nullopt);
  EXPECT_EQ(Stream(plugin_).response_headers({}, true).http_status, 502u);
}

TEST_F(TypedTest, WhatTheCallWasToldCountsBeforeBoth) {
  for (const char* deed : {"call", "all"}) {
    const Answer answer = Do(deed);
    EXPECT_EQ(answer.http_status, 418u) << deed;
    EXPECT_EQ(answer.header("x-via"), "call") << deed;
  }
}

TEST_F(TypedTest, FailuresEndTheCallAsErrors) {
  EXPECT_EQ(Do("fail").status, CALLOUT_UNAVAILABLE);
  EXPECT_EQ(Do("fail").error, "as told");
  EXPECT_EQ(Do("throw").status, CALLOUT_INTERNAL);
  EXPECT_EQ(Do("throw").error, "thrown");
}

TEST_F(TypedTest, MalformedMessagesAreErrorsInEveryPhase) {
  for (callout_phase_t phase = CALLOUT_REQUEST_HEADERS; phase <= CALLOUT_RESPONSE_TRAILERS;
       ++phase) {
    const Answer answer = Stream(plugin_).message(phase, "\xff");
    EXPECT_EQ(answer.status, CALLOUT_INVALID_ARGUMENT) << phase;
    EXPECT_EQ(answer.error, "the message of this call cannot be parsed") << phase;
    EXPECT_EQ(answer.field, 0u) << phase;
  }
}

TEST_F(TypedTest, FunctionsServeOtherHooks) {
  const Answer later = Stream(plugin_).response_body("body");
  EXPECT_TRUE(later.deferred);
  EXPECT_EQ(later.body, "later body");
  EXPECT_EQ(Stream(plugin_).response_trailers({}).http_status, 502u);
}

}  // namespace
}  // namespace callout::testing
