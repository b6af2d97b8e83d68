// SPDX-License-Identifier: Apache-2.0

#include "host/trace/exchange_trace.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "host/base/utf8.h"

namespace callout::host {
namespace {

constexpr char kSampled[] = "00-11111111111111111111111111111111-2222222222222222-01";
constexpr char kNotSampled[] = "00-11111111111111111111111111111111-2222222222222222-00";

class Sink final : public TraceSink {
 public:
  void Take(std::unique_ptr<ExchangeTrace> trace) override { traces.push_back(std::move(trace)); }
  std::vector<std::unique_ptr<ExchangeTrace>> traces;
};

class ExchangeTraceTest : public ::testing::Test {
 protected:
  std::unique_ptr<ExchangeTrace> Begin(std::string_view traceparent = "") {
    return tracer_.Begin("service/Method", ParseTraceparent(traceparent), 1000);
  }
  Sink sink_;
  Tracer tracer_{Sampler(), &sink_};
};

TEST_F(ExchangeTraceTest, IsPartOfItsParentsTrace) {
  const auto trace = Begin(kSampled);
  ASSERT_NE(trace, nullptr);
  EXPECT_EQ(ToHex(trace->context().trace_id), std::string(32, '1'));
  ASSERT_TRUE(trace->parent().has_value());
  EXPECT_EQ(ToHex(*trace->parent()), std::string(16, '2'));
  trace->SetTracestate("envoy=1");
  EXPECT_EQ(trace->context().state, "envoy=1");
}

TEST_F(ExchangeTraceTest, WithoutAParentItIsTheRoot) {
  const auto trace = Begin();
  ASSERT_NE(trace, nullptr);
  EXPECT_FALSE(trace->parent().has_value());
  EXPECT_NE(trace->context().trace_id, Begin()->context().trace_id);
}

TEST_F(ExchangeTraceTest, AParentThatIsNotSampledIsObeyed) {
  EXPECT_EQ(Begin(kNotSampled), nullptr);
}

TEST_F(ExchangeTraceTest, CountsCallsOverTheLimit) {
  const auto trace = Begin();
  for (size_t i = 0; i < ExchangeTrace::kCallsMax + 5; ++i) trace->AddCall({.plugin = "p"});
  EXPECT_EQ(trace->calls().size(), ExchangeTrace::kCallsMax);
  EXPECT_EQ(trace->calls_left_out(), 5u);
  EXPECT_EQ(trace->span_count(), 1 + ExchangeTrace::kCallsMax);
}

// A query may have secrets, and a path is what a client likes it to be.
TEST_F(ExchangeTraceTest, TextsOfClientsAreCutAndMadeUtf8) {
  const auto trace = Begin();
  trace->SetRequest("GET\xff", "/a\xfe/b?token=secret#x");
  EXPECT_EQ(trace->http_method(), "GET?");
  EXPECT_EQ(trace->path(), "/a?/b");
  trace->SetRequest("GET", std::string(5000, 'x'));
  EXPECT_EQ(trace->path().size(), ExchangeTrace::kTextBytesMax);
  trace->AddCall({.plugin = "p\xff", .outcome = "fault:\x80"});
  EXPECT_TRUE(IsUtf8(trace->calls()[0].plugin));
  EXPECT_TRUE(IsUtf8(trace->calls()[0].outcome));
}

TEST_F(ExchangeTraceTest, GoesToTheSink) {
  tracer_.Take(Begin());
  EXPECT_EQ(sink_.traces.size(), 1u);
}

}  // namespace
}  // namespace callout::host
