// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/call_handshake.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace callout::host {
namespace {

using Finish = CallHandshake::Finish;

TEST(CallHandshake, TheHooksOwnThreadSettlesWhatIsFinishedBeforeItReturns) {
  CallHandshake handshake;
  handshake.Begin();
  bool expired = true;
  EXPECT_EQ(handshake.OnFinish(&expired), Finish::kReturned);
  EXPECT_FALSE(expired);
  EXPECT_TRUE(handshake.OnReturn());
  EXPECT_EQ(handshake.OnFinish(&expired), Finish::kRefused);
}

TEST(CallHandshake, WhoFinishesAfterTheReturnTellsTheStream) {
  CallHandshake handshake;
  handshake.Begin();
  EXPECT_FALSE(handshake.OnReturn());
  bool expired = true;
  EXPECT_EQ(handshake.OnFinish(&expired), Finish::kPost);
  EXPECT_FALSE(expired);
  EXPECT_FALSE(handshake.OnDeadline());
}

TEST(CallHandshake, AfterTheDeadlineTheStreamAnswersAndIsStillToldOfTheEnd) {
  CallHandshake handshake;
  handshake.Begin();
  EXPECT_FALSE(handshake.OnReturn());
  EXPECT_TRUE(handshake.OnDeadline());
  bool expired = false;
  EXPECT_EQ(handshake.OnFinish(&expired), Finish::kPost);
  EXPECT_TRUE(expired);
}

// Another thread finishes what a hook of the pool still holds up.
TEST(CallHandshake, AHookOfThePoolHasToReturnForTheCallToBeOver) {
  for (const bool defers : {true, false}) {
    CallHandshake handshake;
    handshake.Begin(true);
    handshake.OnBegin(true);
    bool expired = false;
    EXPECT_EQ(handshake.OnFinish(&expired), Finish::kReturned);
    EXPECT_TRUE(handshake.finished());
    EXPECT_FALSE(handshake.over());
    EXPECT_TRUE(handshake.OnDeadline());
    if (defers) {
      EXPECT_TRUE(handshake.OnReturn());
    } else {
      handshake.OnDone();
    }
    EXPECT_TRUE(handshake.over());
    EXPECT_FALSE(handshake.OnDeadline());
  }
}

TEST(CallHandshake, ACallOfThePoolIsBegunOnlyBeforeItsDeadline) {
  for (const bool begun : {true, false}) {
    CallHandshake handshake;
    handshake.Begin(true);
    if (begun) {
      EXPECT_FALSE(handshake.OnBegin(true));
    }
    EXPECT_TRUE(handshake.OnDeadline());
    if (!begun) {
      EXPECT_TRUE(handshake.OnBegin(true));
    }
    EXPECT_EQ(handshake.unbegun(), !begun);
  }
}

TEST(CallHandshake, OnlyTheFirstClaimCounts) {
  CallHandshake handshake;
  handshake.Begin();
  EXPECT_TRUE(handshake.Claim());
  EXPECT_FALSE(handshake.Claim());
  handshake.Begin();
  handshake.End();
  EXPECT_FALSE(handshake.Claim()) << "the call is over";
}

TEST(CallHandshake, APluginIsToldThatTheClientHasLeftWhileItHasTheCall) {
  bool expired = false;
  CallHandshake handshake;
  handshake.Begin();  // deferred
  handshake.OnReturn();
  EXPECT_TRUE(handshake.OnLeave());
  handshake.OnFinish(&expired);
  EXPECT_FALSE(handshake.OnLeave()) << "it has finished the call";

  handshake.Begin(true);  // detached
  EXPECT_FALSE(handshake.OnLeave()) << "it waits for a thread, or is being opened";
  EXPECT_FALSE(handshake.OnHook()) << "so it is not called";

  handshake.Begin(true);
  EXPECT_TRUE(handshake.OnHook());
  EXPECT_TRUE(handshake.OnLeave());
}

// Under ThreadSanitizer this also shows that what is written before OnFinish is seen
// by whoever acts.
TEST(CallHandshake, OfThreeThatMeetExactlyOneSettlesAndOneAnswers) {
  for (int round = 0; round < 2000; ++round) {
    CallHandshake handshake;
    handshake.Begin();
    int outcome = 0;  // written by the finisher, read by who settles
    std::atomic<int> settled{0};
    std::atomic<bool> go{false};
    std::thread finisher([&] {
      while (!go) {
      }
      outcome = 1;
      bool expired = false;
      if (handshake.OnFinish(&expired) == Finish::kPost) settled += outcome;
    });
    go = true;
    if (handshake.OnReturn()) settled += outcome;
    const bool answers = handshake.OnDeadline();
    finisher.join();
    EXPECT_EQ(settled, 1);
    EXPECT_TRUE(answers || handshake.finished());
  }
}

}  // namespace
}  // namespace callout::host
