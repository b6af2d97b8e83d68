// SPDX-License-Identifier: Apache-2.0

// Which faults count against a new version: in a trial (--reload_guard) and in the counts by which
// a canary is judged. What only the client or the upstream has done does not, so that no client has
// a version rolled back.
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "host/plugin/call_tally.h"
#include "host/plugin/trial.h"
#include "host/stream/stream.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

class VersionFaultsTest : public StreamTest {
 protected:
  void BeginWatched(uint32_t calls = 100) {
    Begin();
    failed_ = 0;
    tally_ = std::make_shared<CallTally>();
    Instance* const instance = chains_->current()->instances.front().get();
    instance->BeginTrial(
        std::make_shared<Trial>(ReloadGuard{.rate = 0, .calls = calls}, [this] { ++failed_; }));
    instance->BeginTally(tally_);
  }

  // Feeds the headers of a direction with `count` headers, and what comes before them.
  void FeedHeaders(callout_phase_t phase, int mode, size_t count = 1) {
    Pairs headers;
    for (size_t i = 0; i < count; ++i) headers.emplace_back("h" + std::to_string(i), "v");
    if (phase == CALLOUT_REQUEST_HEADERS) {
      return Feed(WithModes(Headers(phase, false, headers), mode, kNone));
    }
    Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS, true), kNone, mode));
    Feed(Headers(phase, false, headers));
  }

  int failed_ = 0;
  std::shared_ptr<CallTally> tally_;
};

// Both calls of the trial have begun before the first shows what it comes to.
TEST_F(VersionFaultsTest, ACallCountsWhenItHasEnded) {
  std::array<callout_call_t*, 2> calls = {};
  FakePlugin* const plugin = AddPlugin();
  plugin->create = [](callout_create_args_t* args) { args->wants = CALLOUT_WANT_BOTH_DIRECTIONS; };
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    calls[0] = call;
    return CALLOUT_DEFERRED;
  };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [&](callout_call_t* call) {
    calls[1] = call;
    return CALLOUT_DEFERRED;
  };
  BeginWatched(1);
  Feed(Headers(CALLOUT_REQUEST_HEADERS, true));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS, true));
  ASSERT_TRUE(calls[0] != nullptr && calls[1] != nullptr);
  for (callout_call_t* call : calls) {
    call->host->finish(call, CALLOUT_INTERNAL);
    Deliver();
  }
  EXPECT_EQ(failed_, 1);
}

constexpr std::array kBothHeaders = {CALLOUT_REQUEST_HEADERS, CALLOUT_RESPONSE_HEADERS};

TEST_F(VersionFaultsTest, HeadersAtALimitAreOfWhoeverSentMost) {
  limits_.header_count_max = 10;
  for (const callout_phase_t phase : kBothHeaders) {
    for (const bool in_body : {false, true}) {
      for (const size_t sent : {size_t{3}, size_t{10}}) {
        Reset();
        AddPlugin()->phases[phase + (in_body ? 2 : 0)] = Answers([sent](CommonResponse* common) {
          for (size_t i = sent; i <= 10; ++i) AddSet(common, "x" + std::to_string(i), "1");
        });
        BeginWatched();
        const double faults = FaultCount("illegal_header");
        FeedHeaders(phase, kBuffered, sent);
        if (in_body) Feed(Body(phase + 2, "body", true));
        EXPECT_EQ(FaultCount("illegal_header"), faults + 1) << phase << " " << in_body;
        EXPECT_EQ(failed_, sent == 3 ? 1 : 0) << phase << " " << in_body << " " << sent;
        EXPECT_EQ(tally_->Get().faults, sent == 3 ? 1u : 0u) << phase << " " << in_body;
      }
    }
  }
}

TEST_F(VersionFaultsTest, BytesOfHeadersToo) {
  limits_.header_bytes_max = 1000;
  for (const size_t sent : {size_t{100}, size_t{900}}) {
    Reset();
    AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] =
        SetsHeader("x-new", std::string(1000 - sent, 'v'));
    BeginWatched();
    Feed(Headers(CALLOUT_REQUEST_HEADERS, true, {{"h", std::string(sent, 'v')}}));
    EXPECT_EQ(Take().at(0).immediate_response().status().code(), 431);
    EXPECT_EQ(failed_, sent == 100 ? 1 : 0);
  }
}

TEST_F(VersionFaultsTest, AResponseThatIsTooLargeIsOfTheMessageThatIs) {
  message_bytes_max_ = 1000;
  for (const size_t sent : {size_t{100}, size_t{900}}) {
    Reset();
    AddPlugin()->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
      ReplacesBody(BodyShown(call) + std::string(950, 'x'))(call);
      return CALLOUT_OK;
    };
    BeginWatched();
    FeedHeaders(CALLOUT_REQUEST_HEADERS, kBuffered);
    const double faults = FaultCount("too_large");
    Feed(Body(CALLOUT_REQUEST_BODY, std::string(sent, 'b'), true));
    EXPECT_EQ(FaultCount("too_large"), faults + 1);
    EXPECT_EQ(failed_, sent == 100 ? 1 : 0);
    EXPECT_EQ(tally_->Get().faults, sent == 100 ? 1u : 0u);
  }
}

TEST_F(VersionFaultsTest, ABodyThatDoesNotEndInTimeIsOfWhoeverSendsIt) {
  for (const callout_phase_t phase : kBothHeaders) {
    for (const int mode : {kStreamed, kDuplex}) {
      Reset();
      AddGatherer(100)->phases[phase + 2] = Returns(CALLOUT_OK);
      BeginWatched();
      FeedHeaders(phase, mode);
      const double faults = FaultCount("deadline");
      Feed(Body(phase + 2, "slow", false));
      PassDeadline();
      EXPECT_GT(FaultCount("deadline"), faults) << phase << " " << mode;
      EXPECT_EQ(failed_, 0) << phase << " " << mode;
      EXPECT_EQ(tally_->Get().faults, 0u) << phase << " " << mode;
    }
  }
}

TEST_F(VersionFaultsTest, SoIsOneForWhichAPluginHoldsTheHeaders) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_NO_RESPONSE);
  plugin->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_NO_RESPONSE);
  BeginWatched();
  FeedHeaders(CALLOUT_REQUEST_HEADERS, kDuplex);
  Feed(Body(CALLOUT_REQUEST_BODY, "slow", false));
  PassDeadline();
  EXPECT_EQ(FaultCount("deadline"), 1);
  EXPECT_EQ(failed_, 0);
  EXPECT_EQ(tally_->Get().faults, 0u);
}

TEST_F(VersionFaultsTest, ABodyOverALimitIsOfWhoeverSendsIt) {
  for (const int mode : {kStreamed, kBuffered, kDuplex}) {
    Reset();
    AddGatherer(3)->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
    BeginWatched();
    FeedHeaders(CALLOUT_REQUEST_HEADERS, mode);
    const double faults = FaultCount("body_too_large");
    Feed(Body(CALLOUT_REQUEST_BODY, "large", true));
    EXPECT_EQ(FaultCount("body_too_large"), faults + 1) << mode;
    EXPECT_EQ(failed_, 0) << mode;
    EXPECT_EQ(tally_->Get().faults, 0u) << mode;
  }
}

TEST_F(VersionFaultsTest, WhatThePluginDoesCounts) {
  const std::vector<FakePlugin::Hook> hooks = {SetsHeader("x-new", "a\nb"),
                                               Returns(CALLOUT_INTERNAL), Returns(42)};
  for (const FakePlugin::Hook& hook : hooks) {
    Reset();
    AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = hook;
    BeginWatched();
    FeedHeaders(CALLOUT_REQUEST_HEADERS, kNone);
    EXPECT_EQ(failed_, 1);
    EXPECT_EQ(tally_->Get().faults, 1u);
  }
}

TEST_F(VersionFaultsTest, ACallThatIsNotFinishedInTimeCounts) {
  callout_call_t* deferred = nullptr;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&deferred](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  BeginWatched();
  FeedHeaders(CALLOUT_REQUEST_HEADERS, kNone);
  PassDeadline();
  EXPECT_EQ(failed_, 1);
  EXPECT_EQ(tally_->Get().faults, 1u);
  deferred->host->finish(deferred, CALLOUT_OK);
  Deliver();
}

}  // namespace
}  // namespace callout::host
