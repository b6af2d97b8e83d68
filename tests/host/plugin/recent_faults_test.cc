// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/recent_faults.h"

#include <gtest/gtest.h>

#include <string>

namespace callout::host {
namespace {

RecentFault Fault(const std::string& plugin, uint64_t time_ns, const std::string& what = "") {
  RecentFault fault;
  fault.plugin = plugin;
  fault.phase = "request_headers";
  fault.kind = "deadline";
  fault.what = what;
  fault.time_ns = time_ns;
  return fault;
}

TEST(RecentFaults, CountsFaultsAlikeAndKeepsTheLast) {
  RecentFaults faults;
  for (uint64_t i = 1; i <= 1000; ++i) faults.Note(Fault("a", i, std::to_string(i)));
  faults.Note(Fault("b", 500));
  const std::vector<RecentFault> list = faults.List();
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].plugin, "a");
  EXPECT_EQ(list[0].count, 1000u);
  EXPECT_EQ(list[0].what, "1000");
  EXPECT_EQ(list[1].plugin, "b");
  EXPECT_EQ(list[1].count, 1u);
}

TEST(RecentFaults, TheOldestMakesPlaceAtTheLimit) {
  RecentFaults faults;
  for (size_t i = 0; i < RecentFaults::kMax + 3; ++i) faults.Note(Fault(std::to_string(i), i));
  const std::vector<RecentFault> list = faults.List();
  ASSERT_EQ(list.size(), RecentFaults::kMax);
  EXPECT_EQ(list.front().plugin, std::to_string(RecentFaults::kMax + 2));
  EXPECT_EQ(list.back().plugin, "3");
}

TEST(RecentFaults, CutsLongTexts) {
  RecentFaults faults;
  faults.Note(Fault("a", 1, std::string(100000, 'x')));
  EXPECT_EQ(faults.List()[0].what.size(), RecentFaults::kTextBytesMax);
}

TEST(RecentFaults, ThoseOfSeveralProcessesAreJoined) {
  RecentFaults one, other;
  for (uint64_t i = 1; i <= 3; ++i) one.Note(Fault("a", i, "of one"));
  one.Note(Fault("b", 20));
  for (uint64_t i = 11; i <= 14; ++i) other.Note(Fault("a", i, "of the other"));
  std::vector<RecentFault> all = one.List();
  for (const RecentFault& fault : other.List()) all.push_back(fault);
  const std::vector<RecentFault> joined = JoinRecentFaults(std::move(all));
  ASSERT_EQ(joined.size(), 2u);
  EXPECT_EQ(joined[0].plugin, "b");
  EXPECT_EQ(joined[1].plugin, "a");
  EXPECT_EQ(joined[1].count, 7u);
  EXPECT_EQ(joined[1].what, "of the other");
}

TEST(RecentFaults, TheListOfSeveralProcessesHasTheSameLimit) {
  std::vector<RecentFault> all;
  for (size_t i = 0; i < RecentFaults::kMax + 3; ++i) all.push_back(Fault(std::to_string(i), i));
  const std::vector<RecentFault> joined = JoinRecentFaults(std::move(all));
  ASSERT_EQ(joined.size(), RecentFaults::kMax);
  EXPECT_EQ(joined.front().plugin, std::to_string(RecentFaults::kMax + 2));
}

}  // namespace
}  // namespace callout::host
