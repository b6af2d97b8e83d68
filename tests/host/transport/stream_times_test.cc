// SPDX-License-Identifier: Apache-2.0

#include "host/transport/stream_times.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

struct Call {
  explicit Call(std::string its_name) : name(std::move(its_name)) {}
  const std::string name;
  StreamTimes<Call>::Entry times{this};
};

class StreamTimesTest : public ::testing::Test {
 protected:
  // First message 10 ms, each next one 50 ms, in all 100 ms.
  StreamTimesTest() {
    limits_.first_message_timeout_ms = 10;
    limits_.stream_idle_timeout_ms = 50;
    limits_.stream_duration_ms_max = 100;
    const auto ids = StreamTimeMetrics::Define(&metrics_);
    EXPECT_TRUE(ids.ok()) << ids.status();
    ids_ = *ids;
  }

  using Due = std::vector<std::pair<std::string, StreamTime>>;
  static Due Take(StreamTimes<Call>* times, uint64_t at_ms) {
    Due due;
    times->TakeDue(at_ms * kNsPerMs, [&](Call* call, StreamTime time) {
      times->End(&call->times);
      due.emplace_back(call->name, time);
    });
    return due;
  }

  TransportLimits limits_;
  Metrics metrics_;
  StreamTimeMetrics ids_;
};

TEST_F(StreamTimesTest, EachLimitIsDueOnceAndCounted) {
  StreamTimes<Call> times(limits_, ids_, &metrics_);
  Call silent("silent"), quiet("quiet"), talks("talks");
  for (Call* call : {&silent, &quiet, &talks}) times.Begin(&call->times, 0);
  EXPECT_EQ(times.next_ns(), 10 * kNsPerMs);
  times.OnMessage(&quiet.times, 9 * kNsPerMs);
  times.OnMessage(&talks.times, 9 * kNsPerMs);
  EXPECT_THAT(Take(&times, 9), ElementsAre());
  EXPECT_THAT(Take(&times, 10), ElementsAre(Pair("silent", StreamTime::kFirstMessage)));
  times.OnMessage(&talks.times, 58 * kNsPerMs);
  EXPECT_THAT(Take(&times, 59), ElementsAre(Pair("quiet", StreamTime::kMessage)));
  EXPECT_EQ(times.next_ns(), 100 * kNsPerMs);
  EXPECT_THAT(Take(&times, 100), ElementsAre(Pair("talks", StreamTime::kAge)));
  EXPECT_EQ(times.next_ns(), 0u);
  for (const char* limit : {"first_message", "message", "age"}) {
    EXPECT_THAT(metrics_.Text(), HasSubstr("callout_streams_timed_out_total{limit=\"" +
                                           std::string(limit) + "\"} 1\n"));
  }
}

TEST_F(StreamTimesTest, AnRpcReachesOneLimit) {
  StreamTimes<Call> times(limits_, ids_, &metrics_);
  Call late("late");
  times.Begin(&late.times, 0);
  EXPECT_THAT(Take(&times, 1000), ElementsAre(Pair("late", StreamTime::kFirstMessage)));
}

TEST_F(StreamTimesTest, WhoHasSentAllOnlyGrowsOld) {
  StreamTimes<Call> times(limits_, ids_, &metrics_);
  Call watcher("watcher");
  times.Begin(&watcher.times, 0);
  times.OnMessage(&watcher.times, 1);
  times.OnLastMessage(&watcher.times);
  EXPECT_THAT(Take(&times, 99), ElementsAre());
  EXPECT_THAT(Take(&times, 100), ElementsAre(Pair("watcher", StreamTime::kAge)));
}

TEST_F(StreamTimesTest, WithoutLimitsNothingIsDueAndAllAreStillVisited) {
  limits_.first_message_timeout_ms = 0;
  limits_.stream_idle_timeout_ms = 0;
  limits_.stream_duration_ms_max = 0;
  StreamTimes<Call> times(limits_, ids_, &metrics_);
  Call one("one"), two("two");
  times.Begin(&one.times, 0);
  times.Begin(&two.times, 1);
  times.OnMessage(&two.times, 2);
  EXPECT_EQ(times.next_ns(), 0u);
  EXPECT_THAT(Take(&times, 1'000'000), ElementsAre());
  std::vector<std::string> visited;
  times.ForEach([&](Call* call) { visited.push_back(call->name); });
  EXPECT_THAT(visited, ElementsAre("one", "two"));
}

TEST_F(StreamTimesTest, AnEndNamesItsOption) {
  const std::pair<StreamTime, const char*> table[] = {
      {StreamTime::kFirstMessage, "--first_message_timeout_ms=10"},
      {StreamTime::kMessage, "--stream_idle_timeout_ms=50"},
      {StreamTime::kAge, "--max_stream_duration_ms=100"},
  };
  for (const auto& [time, option] : table) {
    const absl::Status status = StreamTimeError(time, limits_);
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), HasSubstr(option));
  }
}

}  // namespace
}  // namespace callout::host
