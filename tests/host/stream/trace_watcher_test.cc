// SPDX-License-Identifier: Apache-2.0

#include "host/stream/trace_watcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "host/plugin/recent_faults.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

class Sink final : public TraceSink {
 public:
  void Take(std::unique_ptr<ExchangeTrace> trace) override { traces.push_back(std::move(trace)); }
  std::vector<std::unique_ptr<ExchangeTrace>> traces;
};

class TraceWatcherTest : public StreamTest {
 protected:
  void BeginTraced(const Sampler& sampler = Sampler()) {
    Begin();
    watcher_.emplace(sampler, &sink_);
    environment_->watchers().Add(&*watcher_);
    environment_->watchers().SetActive(&*watcher_, true);
  }
  const ExchangeTrace& Only() {
    EXPECT_EQ(sink_.traces.size(), 1u);
    return *sink_.traces.at(0);
  }

  Sink sink_;
  std::optional<TraceWatcher> watcher_;
};

TEST_F(TraceWatcherTest, TracesTheExchangeAndItsCalls) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t*) { return CALLOUT_OK; };
  BeginTraced();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_TRUE(sink_.traces.empty());
  stream_->OnHalfClose();
  const ExchangeTrace& trace = Only();
  EXPECT_EQ(trace.method(), "envoy.service.ext_proc.v3.ExternalProcessor/Process");
  EXPECT_EQ(trace.end().status, "OK");
  EXPECT_FALSE(trace.end().failed);
  ASSERT_EQ(trace.calls().size(), 1u);
  EXPECT_EQ(trace.calls()[0].phase, "request_headers");
  EXPECT_EQ(trace.calls()[0].outcome, "unchanged");
  EXPECT_LE(trace.begin_ns(), trace.calls()[0].begin_ns);
  EXPECT_LE(trace.calls()[0].end_ns, trace.end().end_ns);
}

TEST_F(TraceWatcherTest, AFaultIsAnErrorWithItsKind) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t*) { return 12345; };
  BeginTraced();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  stream_->OnHalfClose();
  const ExchangeTrace& trace = Only();
  ASSERT_EQ(trace.calls().size(), 1u);
  EXPECT_EQ(trace.calls()[0].outcome, "fault:bad_status");
  EXPECT_TRUE(trace.calls()[0].failed);
}

// Nobody else knows of this trace.
TEST_F(TraceWatcherTest, ALineOfAFaultNamesTheTraceThatTheHostHasBegun) {
  name_prefix_ = "begins_";  // the log is limited by name
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(12345);
  BeginTraced();
  testing::internal::CaptureStderr();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  const std::string log = testing::internal::GetCapturedStderr();
  stream_->OnHalfClose();
  const std::string trace_id = ToHex(Only().context().trace_id);
  EXPECT_THAT(log, ::testing::HasSubstr("trace_id " + trace_id));
  const std::vector<RecentFault> faults = RecentFaults::InProcess().List();
  ASSERT_FALSE(faults.empty());
  EXPECT_TRUE(std::any_of(faults.begin(), faults.end(),
                          [&](const RecentFault& fault) { return fault.trace_id == trace_id; }));
}

TEST_F(TraceWatcherTest, AClientThatLeavesIsNoError) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t*) { return CALLOUT_OK; };
  BeginTraced();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  stream_->OnCancel();
  EXPECT_EQ(Only().end().status, "CANCELLED");
  EXPECT_FALSE(Only().end().failed);
}

TEST_F(TraceWatcherTest, NothingIsMadeOfAnExchangeThatIsNotSampled) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t*) { return CALLOUT_OK; };
  BeginTraced(*Sampler::Parse("always_off", ""));
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  stream_->OnHalfClose();
  EXPECT_TRUE(sink_.traces.empty());
}

}  // namespace
}  // namespace callout::host
