// SPDX-License-Identifier: Apache-2.0

#include "host/trace/trace_context.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace callout::host {
namespace {

constexpr char kTrace[] = "0af7651916cd43dd8448eb211c80319c";
constexpr char kSpan[] = "b7ad6b7169203331";

std::string Parent(const std::string& version, const std::string& flags) {
  return version + "-" + kTrace + "-" + kSpan + "-" + flags;
}

TEST(TraceContext, ReadsTheSpecificationsExample) {
  const auto context = ParseTraceparent(Parent("00", "01"));
  ASSERT_TRUE(context.has_value());
  EXPECT_EQ(ToHex(context->trace_id), kTrace);
  EXPECT_EQ(ToHex(context->span_id), kSpan);
  EXPECT_TRUE(context->sampled);
}

TEST(TraceContext, ReadsTheSampledFlagAmongOthers) {
  EXPECT_FALSE(ParseTraceparent(Parent("00", "00"))->sampled);
  EXPECT_FALSE(ParseTraceparent(Parent("00", "02"))->sampled);
  EXPECT_TRUE(ParseTraceparent(Parent("00", "ff"))->sampled);
}

TEST(TraceContext, TakesLaterVersionsWithMoreBehindTheFlags) {
  EXPECT_TRUE(ParseTraceparent(Parent("cc", "01")).has_value());
  EXPECT_TRUE(ParseTraceparent(Parent("cc", "01-what-comes")).has_value());
  EXPECT_FALSE(ParseTraceparent(Parent("cc", "01.what-comes")).has_value());
  EXPECT_FALSE(ParseTraceparent(Parent("00", "01-what-comes")).has_value());
}

TEST(TraceContext, RefusesWhatIsInvalid) {
  const std::string good = Parent("00", "01");
  for (const std::string& bad : {
           std::string(),
           std::string("00"),
           Parent("ff", "01"),
           Parent("0x", "01"),
           Parent("00", "0g"),
           std::string("00-00000000000000000000000000000000-") + kSpan + "-01",
           std::string("00-") + kTrace + "-0000000000000000-01",
           std::string("00-0AF7651916CD43DD8448EB211C80319C-") + kSpan + "-01",
           good.substr(1),
           good.substr(0, good.size() - 1),
           good + " ",
           std::string(55, '-'),
           Parent("cc", "01-" + std::string(1000, 'x')),
       }) {
    EXPECT_FALSE(ParseTraceparent(bad).has_value()) << bad;
  }
  // Each of its bytes in turn.
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = 'Z';
    EXPECT_FALSE(ParseTraceparent(bad).has_value()) << bad;
  }
}

TEST(TraceContext, DropsATracestateThatMayNotStandInATrace) {
  EXPECT_EQ(CheckedTracestate("a=1,b=2"), "a=1,b=2");
  EXPECT_EQ(CheckedTracestate(std::string(kTracestateBytesMax, 'a')).size(), kTracestateBytesMax);
  EXPECT_EQ(CheckedTracestate(std::string(kTracestateBytesMax + 1, 'a')), "");
  EXPECT_EQ(CheckedTracestate("a=\n"), "");
  EXPECT_EQ(CheckedTracestate("a=\xff"), "");
}

TEST(TraceContext, MakesIdsThatDiffer) {
  std::set<std::string> seen;
  constexpr int kIds = 10000;
  for (int i = 0; i < kIds; ++i) {
    seen.insert(ToHex(NewTraceId()));
    seen.insert(ToHex(NewSpanId()));
  }
  EXPECT_EQ(seen.size(), 2u * kIds);
}

}  // namespace
}  // namespace callout::host
