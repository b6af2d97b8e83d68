// SPDX-License-Identifier: Apache-2.0

#include "host/telemetry/otlp_encoding.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host/wire/wire.h"

namespace callout::host {
namespace {

// tests/telemetry compares with OpenTelemetry's own classes; here is what needs no other program.

std::string Request(std::vector<std::unique_ptr<ExchangeTrace>> traces) {
  return EncodeTraces({{"service.name", "s"}}, traces, 0);
}

std::unique_ptr<ExchangeTrace> Trace() {
  SpanContext context;
  context.trace_id.fill(1);
  context.span_id.fill(2);
  context.sampled = true;
  return std::make_unique<ExchangeTrace>("service/Method", context, std::nullopt, 1000);
}

// How often field `number` is in `message`; `last` gets its last value.
size_t CountField(std::string_view message, uint32_t number, std::string_view* last = nullptr) {
  size_t count = 0;
  WireReader reader(message);
  while (reader.Next()) {
    if (!reader.Is(number)) continue;
    ++count;
    if (last != nullptr) *last = reader.bytes();
  }
  EXPECT_TRUE(reader.ok());
  return count;
}

TEST(OtlpEncoding, HasASpanForTheExchangeAndEachCall) {
  std::vector<std::unique_ptr<ExchangeTrace>> traces;
  traces.push_back(Trace());
  traces.push_back(Trace());
  traces[0]->AddCall({.plugin = "a", .phase = "request_headers", .outcome = "unchanged"});
  traces[0]->AddCall({.plugin = "b", .phase = "request_headers", .outcome = "changed"});
  const std::string request = Request(std::move(traces));
  std::string_view resource_spans, scope_spans;
  ASSERT_EQ(CountField(request, 1, &resource_spans), 1u);
  ASSERT_EQ(CountField(resource_spans, 2, &scope_spans), 1u);
  EXPECT_EQ(CountField(scope_spans, 2), 4u);
}

TEST(OtlpEncoding, ReadsAnEmptyReplyAsSuccess) {
  const OtlpReply reply = ReadOtlpReply("");
  EXPECT_TRUE(reply.valid);
  EXPECT_EQ(reply.rejected_spans, 0u);
}

TEST(OtlpEncoding, ReadsAPartialSuccess) {
  std::string partial, bytes;
  AppendVarint(1, 7, &partial);
  AppendBytes(2, "too old", &partial);
  AppendBytes(1, partial, &bytes);
  const OtlpReply reply = ReadOtlpReply(bytes);
  EXPECT_TRUE(reply.valid);
  EXPECT_EQ(reply.rejected_spans, 7u);
  EXPECT_EQ(reply.message, "too old");
}

TEST(OtlpEncoding, RefusesAReplyThatIsNoMessage) {
  for (const std::string& bytes :
       {std::string("<html>"), std::string("{\"partialSuccess\":{}}"), std::string("\x0a\x05x"),
        std::string("\x0a\x01\xff"), std::string(100, '\xff')}) {
    EXPECT_FALSE(ReadOtlpReply(bytes).valid) << bytes;
    EXPECT_EQ(ReadOtlpReply(bytes).rejected_spans, 0u);
  }
}

}  // namespace
}  // namespace callout::host
