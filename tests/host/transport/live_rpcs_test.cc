// SPDX-License-Identifier: Apache-2.0

#include "host/transport/live_rpcs.h"

#include <gtest/gtest.h>

#include <memory>

namespace callout::host {
namespace {

LiveRpcs Rpcs(std::initializer_list<uint64_t> begins) {
  LiveRpcs rpcs;
  for (const uint64_t begin_ns : begins) {
    rpcs.rpcs.emplace_back().begin_ns = begin_ns;
  }
  return rpcs;
}

TEST(LiveRpcs, TheOldestOfAllThreadsAreListed) {
  LiveRpcQuestion question(2, 3);
  question.Add(Rpcs({5, 7, 9}));
  question.Add(Rpcs({4, 8}));
  const LiveRpcs all = question.Await(0);
  ASSERT_EQ(all.rpcs.size(), 3u);
  EXPECT_EQ(all.rpcs[0].begin_ns, 4u);
  EXPECT_EQ(all.rpcs[1].begin_ns, 5u);
  EXPECT_EQ(all.rpcs[2].begin_ns, 7u);
  EXPECT_EQ(all.left_out, 2u);
  EXPECT_EQ(all.silent_threads, 0u);
}

TEST(LiveRpcs, AThreadThatDoesNotReplyIsCounted) {
  const auto question = std::make_shared<LiveRpcQuestion>(3, 10);
  question->Add(Rpcs({1}));
  const LiveRpcs all = question->Await(1);
  EXPECT_EQ(all.rpcs.size(), 1u);
  EXPECT_EQ(all.silent_threads, 2u);
  question->Add(Rpcs({2}));  // too late, and harmless
}

TEST(LiveRpcs, AThreadThatIsStuckKeepsTheLastQuestionOnly) {
  OpenLiveRpcQuestion open;
  EXPECT_EQ(open.Take(), nullptr);
  std::weak_ptr<LiveRpcQuestion> earlier;
  for (int i = 0; i < 1000; ++i) {
    const auto question = std::make_shared<LiveRpcQuestion>(2, 10);
    EXPECT_EQ(open.Put(question), i == 0);
    EXPECT_TRUE(earlier.expired());
    earlier = question;
  }
  EXPECT_EQ(open.Take(), earlier.lock());
  EXPECT_EQ(open.Take(), nullptr);
  EXPECT_TRUE(open.Put(std::make_shared<LiveRpcQuestion>(2, 10)));
}

}  // namespace
}  // namespace callout::host
