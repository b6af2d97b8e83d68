// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/stream_share.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace callout::host {
namespace {

constexpr int kDrawn = 20000;

int CountUsers(const StreamShare& share) {
  int taken = 0;
  for (int i = 0; i < kDrawn; ++i) taken += share.Takes(fmt::format("user-{}", i), 1) ? 1 : 0;
  return taken;
}

TEST(StreamShare, TakesAboutItsPercentOfUsersAndOfStreams) {
  const StreamShare share(5, "x-user", "auth");
  int streams = 0;
  for (uint64_t id = 1; id <= kDrawn; ++id) streams += share.Takes("", id) ? 1 : 0;
  EXPECT_NEAR(CountUsers(share), kDrawn / 20, kDrawn / 100);
  EXPECT_NEAR(streams, kDrawn / 20, kDrawn / 100);
}

TEST(StreamShare, TheSameUserAlwaysGetsTheSame) {
  const StreamShare share(50, "x-user", "auth");
  for (int i = 0; i < 100; ++i) {
    const std::string user = fmt::format("user-{}", i);
    EXPECT_EQ(share.Takes(user, 1), share.Takes(user, static_cast<uint64_t>(i) + 2));
  }
  // In every build of every host.
  EXPECT_EQ(CountUsers(share), CountUsers(StreamShare(50, "x-user", "auth")));
  EXPECT_TRUE(StreamShare(50, "x-user", "auth").Takes("ann", 1) ==
              StreamShare(50, "x-user", "auth").Takes("ann", 2));
}

TEST(StreamShare, NobodyDropsOutWhenItGrows) {
  const StreamShare small(5, "x-user", "auth");
  const StreamShare large(20, "x-user", "auth");
  for (int i = 0; i < kDrawn; ++i) {
    const std::string user = fmt::format("user-{}", i);
    if (small.Takes(user, 1)) {
      EXPECT_TRUE(large.Takes(user, 1)) << user;
    }
  }
}

TEST(StreamShare, TheRestIsExactlyWhatItDoesNotTake) {
  const StreamShare share(30, "x-user", "auth");
  for (uint64_t id = 1; id < 1000; ++id) {
    EXPECT_NE(share.Takes("", id), share.Rest().Takes("", id));
    const std::string user = fmt::format("user-{}", id);
    EXPECT_NE(share.Takes(user, id), share.Rest().Takes(user, id));
  }
}

TEST(StreamShare, NoneAndAllAreExact) {
  EXPECT_EQ(CountUsers(StreamShare(0, "x-user", "auth")), 0);
  EXPECT_EQ(CountUsers(StreamShare(100, "x-user", "auth")), kDrawn);
  EXPECT_EQ(CountUsers(StreamShare(100, "x-user", "auth").Rest()), 0);
  EXPECT_TRUE(StreamShare().all());
  EXPECT_TRUE(StreamShare(100, "x-user", "auth").all());
  EXPECT_FALSE(StreamShare().Rest().all());
}

TEST(StreamShare, SharesOfDifferentPluginsAreIndependent) {
  const StreamShare one(50, "x-user", "auth");
  const StreamShare other(50, "x-user", "waf");
  int both = 0;
  for (int i = 0; i < kDrawn; ++i) {
    const std::string user = fmt::format("user-{}", i);
    both += one.Takes(user, 1) && other.Takes(user, 1) ? 1 : 0;
  }
  EXPECT_NEAR(both, kDrawn / 4, kDrawn / 50);
}

}  // namespace
}  // namespace callout::host
