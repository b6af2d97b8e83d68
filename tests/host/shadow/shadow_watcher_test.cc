// SPDX-License-Identifier: Apache-2.0

// What a shadow is shown, and that nothing of it reaches anybody.
#include "host/shadow/shadow_watcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/host/shadow/shadow_fixture.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class ShadowWatcherTest : public ShadowTest {};

TEST_F(ShadowWatcherTest, NothingOfAShadowReachesEnvoyOrTheOthers) {
  Pairs seen;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-live", "1");
  AddShadow()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-shadow", "1");
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    seen = HeadersShown(call);
    return CALLOUT_OK;
  };
  BeginShadowed();
  const auto responses = RunStream();
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_THAT(Mutations(responses[0].request_headers().response().header_mutation()),
              ElementsAre("set x-live=1"));
  EXPECT_THAT(seen, ElementsAre(std::pair<std::string, std::string>(":path", "/"),
                                std::pair<std::string, std::string>("x-live", "1")));
  EXPECT_THAT(Differences("fake1"), ElementsAre("header request x-shadow: absent -> 1"));
}

TEST_F(ShadowWatcherTest, AShadowSeesWhatTheInstancesBeforeItHaveChanged) {
  Pairs request, response;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-first", "1");
  FakePlugin* const shadow = AddShadow();
  shadow->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    request = HeadersShown(call);
    return CALLOUT_OK;
  };
  shadow->phases[CALLOUT_RESPONSE_HEADERS] = [&](callout_call_t* call) {
    response = HeadersShown(call);
    return CALLOUT_OK;
  };
  FakePlugin* const last = AddPlugin();
  last->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-later", "1");
  last->phases[CALLOUT_RESPONSE_HEADERS] = SetsHeader("x-before", "1");
  BeginShadowed();
  NextStream();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS, true), kNone, kNone));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS, true, {{":status", "200"}}));
  EndStream();
  AwaitShadows();
  EXPECT_THAT(request, ElementsAre(std::pair<std::string, std::string>(":path", "/"),
                                   std::pair<std::string, std::string>("x-first", "1")));
  // Response phases go through the chain backwards.
  EXPECT_THAT(response, ElementsAre(std::pair<std::string, std::string>(":status", "200"),
                                    std::pair<std::string, std::string>("x-before", "1")));
  EXPECT_THAT(Differences("fake1"), IsEmpty());
  EXPECT_EQ(Summary("fake1").exchanges, 1u);
}

TEST_F(ShadowWatcherTest, ToSetAHeaderToWhatItIsAlreadyIsNoDifference) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-user", "ann");
  AddShadow()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-user", "ann");
  BeginShadowed();
  RunStream();
  EXPECT_EQ(Summary("fake1").exchanges, 1u);
  EXPECT_THAT(Differences("fake1"), IsEmpty());
}

TEST_F(ShadowWatcherTest, AShadowInsteadOfAnotherIsComparedWithIt) {
  FakePlugin* const live = AddPlugin();
  live->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    const bool denies = HeadersShown(call)[0].second == "/admin";
    return denies ? RepliesAtOnce(403)(call) : SetsHeader("x-user", "ann")(call);
  };
  AddShadow("fake0")->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    const std::string path = HeadersShown(call)[0].second;
    return path == "/other" ? SetsHeader("x-user", "bob")(call) : SetsHeader("x-user", "ann")(call);
  };
  BeginShadowed();
  RunStream({{":path", "/same"}});
  RunStream({{":path", "/other"}});
  RunStream({{":path", "/admin"}});
  EXPECT_THAT(Differences("fake1"), ElementsAre("header request x-user: ann -> bob",
                                                "status response: 403 -> the upstream's"));
  const DifferenceSummary summary = Summary("fake1");
  EXPECT_EQ(summary.exchanges, 3u);
  EXPECT_EQ(summary.differing, 2u);
  EXPECT_EQ(summary.before.calls, 3u);
  EXPECT_EQ(summary.after.calls, 3u);
}

TEST_F(ShadowWatcherTest, BodiesOfBothAreComparedHoweverTheyAreTaken) {
  // The one gets the body whole, the other chunk by chunk.
  AddGatherer(1000)->phases[CALLOUT_REQUEST_BODY] = ReplacesBody("XY");
  int chunks = 0;
  AddShadow("fake0")->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    return ReplacesBody(++chunks == 1 ? "X" : "Y")(call);
  };
  BeginShadowed();
  NextStream();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "ab", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "cd", true));
  EndStream();
  EXPECT_THAT(Differences("fake1"), IsEmpty());
  EXPECT_EQ(Summary("fake1").exchanges, 1u);
  EXPECT_EQ(chunks, 2);
}

TEST_F(ShadowWatcherTest, AWholeBodyOfAShadowIsGatheredForItAlone) {
  std::string whole;
  FakePlugin* const live = AddPlugin();
  std::vector<std::string> chunks;
  live->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    chunks.push_back(BodyShown(call));
    return CALLOUT_OK;
  };
  InstanceSettings gathers;
  gathers.whole_body_bytes_max = 100;
  AddShadow("", gathers)->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    whole = BodyShown(call);
    return ReplacesBody("new")(call);
  };
  BeginShadowed();
  NextStream();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "ab", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "cd", true));
  EXPECT_EQ(BodyTold({Take().back()}), "-");
  EndStream();
  EXPECT_THAT(Differences("fake1"), ElementsAre("body request: 4 bytes -> 3 bytes"));
  EXPECT_EQ(whole, "abcd.");
  EXPECT_THAT(chunks, ElementsAre("ab", "cd."));
}

TEST_F(ShadowWatcherTest, ItsHooksKeepAStreamFromEndingEarly) {
  limits_.early_end = true;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-live", "1");
  AddShadow()->phases[CALLOUT_RESPONSE_HEADERS] = SetsHeader("x-shadow", "1");
  BeginShadowed();
  NextStream();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS, true), kNone, kNone));
  EXPECT_FALSE(stream_->end().has_value());
  Feed(Headers(CALLOUT_RESPONSE_HEADERS, true, {{":status", "200"}}));
  EXPECT_TRUE(stream_->end().has_value());
  EndStream();
  EXPECT_THAT(Differences("fake1"), ElementsAre("header response x-shadow: absent -> 1"));
}

TEST_F(ShadowWatcherTest, AShadowAloneSeesAllOfIt) {
  limits_.early_end = true;
  std::vector<std::string> seen;
  FakePlugin* const shadow = AddShadow();
  for (const callout_phase_t phase : {CALLOUT_REQUEST_HEADERS, CALLOUT_RESPONSE_HEADERS}) {
    shadow->phases[phase] = [&](callout_call_t* call) {
      seen.emplace_back(PhaseName(call->phase));
      return CALLOUT_OK;
    };
  }
  shadow->phases[CALLOUT_RESPONSE_BODY] = [&](callout_call_t* call) {
    seen.push_back(BodyShown(call));
    return CALLOUT_OK;
  };
  BeginShadowed();
  NextStream();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS, true), kNone, kStreamed));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS, false, {{":status", "200"}}));
  Feed(Body(CALLOUT_RESPONSE_BODY, "ab", false));
  Feed(Body(CALLOUT_RESPONSE_BODY, "cd", true));
  EndStream();
  EXPECT_EQ(Summary("fake0").exchanges, 1u);
  EXPECT_THAT(seen, ElementsAre("request_headers", "response_headers", "ab", "cd."));
}

TEST_F(ShadowWatcherTest, AStreamThatNeverCameToItsPlaceIsNoExchange) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = RepliesAtOnce(403);
  AddShadow()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-shadow", "1");
  BeginShadowed();
  RunStream();
  EXPECT_EQ(Summary("fake1").exchanges, 0u);
}

TEST_F(ShadowWatcherTest, ABodyThatTheClientBrokeOffIsNoDifference) {
  InstanceSettings gathers;
  gathers.whole_body_bytes_max = 100;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  FakePlugin* const shadow = AddShadow("", gathers);
  shadow->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  shadow->phases[CALLOUT_REQUEST_BODY] = ReplacesBody("new");
  BeginShadowed();
  NextStream();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "ab", false));
  EndStream();
  const DifferenceSummary summary = Summary("fake1");
  EXPECT_EQ(summary.exchanges, 1u);
  EXPECT_EQ(summary.by_kind[static_cast<size_t>(DifferenceKind::kError)], 0u);
}

TEST_F(ShadowWatcherTest, ASampledShadowGetsItsShareOfUsers) {
  InstanceSettings half;
  half.percent = 50;
  half.by_header = "x-user";
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  AddShadow("", half)->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  BeginShadowed();
  const StreamShare share(50, "x-user", "fake1");
  uint64_t expected = 0;
  for (int i = 0; i < 40; ++i) {
    const std::string user = std::to_string(i);
    expected += share.Takes(user, 1) ? 1 : 0;
    RunStream({{":path", "/"}, {"x-user", user}});
  }
  EXPECT_EQ(Summary("fake1").exchanges, expected);
  EXPECT_GT(expected, 0u);
  EXPECT_LT(expected, 40u);
}

TEST_F(ShadowWatcherTest, WithoutAShadowNobodyIsAsked) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  BeginShadowed();
  EXPECT_FALSE(environment_->watchers().active());
  RunStream();
  EXPECT_THAT(runner_->Collect(), IsEmpty());
}

TEST_F(ShadowWatcherTest, NothingThatIsRedactedIsInAReport) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-api-key", "secret-1");
  AddShadow("fake0")->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-api-key", "secret-2");
  BeginShadowed();
  RunStream({{":path", "/a?q=secret-3"}, {"cookie", "secret-4"}, {"x-request-id", "4711"}});
  AwaitShadows();
  const std::string json = ShadowsJson(runner_->Collect());
  EXPECT_THAT(json, HasSubstr("x-api-key"));
  EXPECT_THAT(json, HasSubstr("4711"));
  EXPECT_THAT(json, Not(HasSubstr("secret-")));
}

TEST_F(ShadowWatcherTest, ShowsNoSecretThatAShadowCopies) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = RemovesHeader("authorization");
  AddShadow("fake0")->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    CommonResponse common;
    common.mutable_header_mutation()->add_remove_headers("authorization");
    AddSet(&common, "x-copy", "<secret-token>");
    return RespondCommon(call, common);
  };
  BeginShadowed();
  RunStream({{":method", "GET"}, {":path", "/a?q=1"}, {"authorization", "Bearer secret-token"}});
  EXPECT_THAT(Differences("fake1"), ElementsAre("header request x-copy: absent -> <[redacted]>"));
  EXPECT_EQ(Summary("fake1").entries.begin()->second.example, "GET /a?[redacted]");
}

}  // namespace
}  // namespace callout::host
