// SPDX-License-Identifier: Apache-2.0

// What a client of the host gets, without any plugin.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <utility>

#include "ext_proc_client.h"
#include "host/net/listener.h"
#include "http_get.h"
#include "test_host.h"
#include "tests/host/sockets.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ProcessingResponse = ext_proc::ProcessingResponse;
using ProcessingRequest = ext_proc::ProcessingRequest;

// Each message gets the empty answer of its own phase.
void ExpectContinued(const ChannelPtr& channel) {
  LiveStream stream(channel);
  ProcessingRequest request_trailers, response_trailers;
  request_trailers.mutable_request_trailers();
  response_trailers.mutable_response_trailers();
  const std::vector<std::pair<ProcessingRequest, ProcessingResponse::ResponseCase>> table = {
      {RequestHeaders({{":path", "/"}}), ProcessingResponse::kRequestHeaders},
      {RequestBody("a", false), ProcessingResponse::kRequestBody},
      {request_trailers, ProcessingResponse::kRequestTrailers},
      {ResponseHeaders({{":status", "200"}}), ProcessingResponse::kResponseHeaders},
      {ResponseBody("b", false), ProcessingResponse::kResponseBody},
      {response_trailers, ProcessingResponse::kResponseTrailers},
  };
  for (const auto& [request, expected] : table) {
    const auto answer = stream.Exchange(request);
    ASSERT_TRUE(answer.has_value()) << stream.Finish().error_message();
    EXPECT_EQ(answer->response_case(), expected) << answer->DebugString();
    EXPECT_LE(answer->ByteSizeLong(), 4U) << answer->DebugString();
  }
  const grpc::Status status = stream.Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST(Serving, WithoutPluginsEveryMessageIsContinued) {
  TestHost host({});
  ExpectContinued(PlaintextChannel(host.address("plaintext")));
  EXPECT_EQ(host.Terminate(), 0);
}

TEST(Serving, SpeaksOverUnixSockets) {
  const host::TempDir dir;
  TestHost host({"--plaintext_address=unix:" + dir.Path("socket")});
  ASSERT_EQ(host.address("plaintext"), "unix:" + dir.Path("socket"));
  ExpectContinued(PlaintextChannel(host.address("plaintext")));
  EXPECT_EQ(host.Terminate(), 0);
  EXPECT_FALSE(std::filesystem::exists(dir.Path("socket")));
}

TEST(Serving, SpeaksOverIpv6) {
  if (!host::ListenSocket::Open(host::ParsedAddress("[::1]:0")).ok()) {
    GTEST_SKIP() << "this machine has no IPv6";
  }
  TestHost host({"--plaintext_address=[::1]:0"});
  ExpectContinued(PlaintextChannel(host.address("plaintext")));
}

TEST(Serving, GarbageEndsItsOwnStreamAndNothingElse) {
  TestHost host({});
  const ChannelPtr channel = PlaintextChannel(host.address("plaintext"));
  LiveStream bystander(channel);
  ASSERT_TRUE(bystander.Exchange(RequestHeaders({{":path", "/"}})).has_value());
  for (const std::string& garbage :
       {std::string("\xff\xff\xff\xff"), std::string("\x12\x7f"), std::string("not protobuf"),
        std::string(1000, '\0'), std::string("\x12\x02\x0a\x7f")}) {
    const RawOutcome outcome = CallRaw(channel, kProcessMethod, garbage);
    EXPECT_EQ(outcome.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << testing::PrintToString(garbage) << ": " << outcome.status.error_message();
    EXPECT_TRUE(outcome.answers.empty());
  }
  ASSERT_TRUE(bystander.Exchange(RequestBody("b")).has_value());
  EXPECT_TRUE(bystander.Finish().ok());
  EXPECT_EQ(host.Terminate(), 0);
}

TEST(Serving, ReflectionListsTheService) {
  TestHost host({});
  // ServerReflectionRequest{list_services = 7: "*"}.
  const RawOutcome outcome =
      CallRaw(PlaintextChannel(host.address("plaintext")),
              "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "\x3a\x01*");
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  ASSERT_EQ(outcome.answers.size(), 1U);
  EXPECT_THAT(outcome.answers.front(), HasSubstr(ext_proc::ExternalProcessor::service_full_name()));
  EXPECT_THAT(outcome.answers.front(), HasSubstr("grpc.health.v1.Health"));
}

TEST(Serving, ReflectionDescribesTheServices) {
  TestHost host({});
  const std::pair<std::string, const char*> table[] = {
      {ext_proc::ExternalProcessor::service_full_name(), "external_processor.proto"},
      {"grpc.health.v1.Health", "health.proto"},
  };
  for (const auto& [symbol, file] : table) {
    // ServerReflectionRequest{file_containing_symbol = 4}.
    const RawOutcome outcome =
        CallRaw(PlaintextChannel(host.address("plaintext")),
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                std::string("\x22") + static_cast<char>(symbol.size()) + symbol);
    ASSERT_EQ(outcome.answers.size(), 1U) << outcome.status.error_message();
    EXPECT_THAT(outcome.answers.front(), HasSubstr(file));
  }
}

TEST(Serving, ProtobufStaysOutOfTheHost) {
  TestHost host({});
  std::ifstream maps("/proc/" + std::to_string(host.pid()) + "/maps");
  const std::string mapped{std::istreambuf_iterator<char>(maps), {}};
  EXPECT_THAT(mapped, HasSubstr("libnghttp2"));
  EXPECT_THAT(mapped, Not(HasSubstr("libprotobuf")));
}

TEST(Serving, OtherMethodsAreUnimplemented) {
  TestHost host({});
  const RawOutcome outcome =
      CallRaw(PlaintextChannel(host.address("plaintext")), "/no.such.Service/Method", "");
  EXPECT_EQ(outcome.status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST(Serving, AMessageOverTheLimitEndsItsStream) {
  TestHost host({"--max_message_bytes=10000"});
  const ChannelPtr channel = PlaintextChannel(host.address("plaintext"));
  LiveStream under(channel);
  EXPECT_TRUE(under.Exchange(RequestBody(std::string(9000, 'x'))).has_value());
  LiveStream over(channel);
  EXPECT_FALSE(over.Exchange(RequestBody(std::string(10001, 'x'))).has_value());
  EXPECT_EQ(over.Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(under.Finish().ok());
}

void AwaitMetric(TestHost* host, const std::string& series, double value) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (MetricOf(host->address("admin"), series) != value) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up) << series;
  }
}

// What it does not take waits in the client and in HTTP/2's windows, not in the host.
TEST(Serving, AClientThatTakesNoAnswersIsReadNoFurther) {
  TestHost host({});
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  ASSERT_TRUE(stream.Exchange(RequestHeaders({})).has_value());
  // Answers of 4 bytes, and 5 before each: the client's window of 64 KiB has room for 7,000.
  constexpr int kMessages = 100000;
  std::thread sender([&] {
    const ProcessingRequest chunk = RequestBody("chunk", false);
    for (int i = 0; i < kMessages && stream.Send(chunk); ++i) {
    }
  });
  const auto read = [&] { return MetricOf(host.address("admin"), "callout_messages_total"); };
  for (double last = -1; std::exchange(last, read()) != last || last < 2;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));  // in which nothing is to happen
  }
  EXPECT_LT(read(), kMessages);
  int answers = 0;
  while (answers < kMessages && stream.Receive().has_value()) ++answers;
  sender.join();
  EXPECT_EQ(answers, kMessages);
  EXPECT_TRUE(stream.Finish().ok());
}

TEST(Serving, TheMostConnectionsAreKept) {
  TestHost host({"--max_connections=2"});
  LiveStream first(PlaintextChannel(host.address("plaintext")));
  ASSERT_TRUE(first.Exchange(RequestHeaders({})).has_value());
  {
    LiveStream second(PlaintextChannel(host.address("plaintext")));
    ASSERT_TRUE(second.Exchange(RequestHeaders({})).has_value());
    const host::Descriptor third = host::Connect(host::ParsedAddress(host.address("plaintext")));
    EXPECT_EQ(host::ReadToEnd(third.get()), "") << "closed without a word";
    EXPECT_TRUE(second.Finish().ok());
  }
  // The second's place is free again, though not at once.
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!LiveStream(PlaintextChannel(host.address("plaintext")))
              .Exchange(RequestHeaders({}))
              .has_value()) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up);
  }
  EXPECT_TRUE(first.Exchange(RequestBody("b")).has_value());
}

TEST(Serving, OpenConnectionsAreCountedOnTheMetricsPage) {
  TestHost host({"--max_connections=0"});
  EXPECT_EQ(MetricOf(host.address("admin"), "callout_connections"), 0);
  {
    LiveStream stream(PlaintextChannel(host.address("plaintext")));
    ASSERT_TRUE(stream.Exchange(RequestHeaders({})).has_value());
    AwaitMetric(&host, "callout_connections", 1);
  }
  AwaitMetric(&host, "callout_connections", 0);
}

TEST(Serving, TheMostLiveStreamsAreKept) {
  TestHost host({"--max_live_streams=2", "--server_threads=2"});
  const auto metric = [&](const std::string& name) {
    return MetricOf(host.address("admin"), name);
  };
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  LiveStream first(PlaintextChannel(host.address("plaintext")));
  ASSERT_TRUE(first.Exchange(RequestHeaders({})).has_value());
  EXPECT_EQ(metric("callout_streams_refused_total"), 0);
  {
    LiveStream second(PlaintextChannel(host.address("plaintext")));
    ASSERT_TRUE(second.Exchange(RequestHeaders({})).has_value());
    EXPECT_EQ(metric("callout_live_streams"), 2);
    const ChannelPtr channel = PlaintextChannel(host.address("plaintext"));
    LiveStream third(channel);
    EXPECT_FALSE(third.Exchange(RequestHeaders({})).has_value());
    EXPECT_EQ(third.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_GE(metric("callout_streams_refused_total"), 1);
    EXPECT_TRUE(second.Finish().ok());
    // The place is free once the host has heard the last of the stream.
    while (!LiveStream(channel).Exchange(RequestHeaders({})).has_value()) {
      ASSERT_LT(std::chrono::steady_clock::now(), give_up);
    }
  }
  EXPECT_TRUE(first.Exchange(RequestBody("b")).has_value());
  EXPECT_TRUE(first.Finish().ok());
  AwaitMetric(&host, "callout_live_streams", 0);
}

// The client has left, but its call is still the plugin's.
TEST(Serving, AStreamThatAPluginHoldsIsLive) {
  TestHost host({"--plugin=" + BuiltFile("tests/integration/hold.so")});
  const ChannelPtr channel = PlaintextChannel(host.address("plaintext"));
  {
    LiveStream held(channel);
    ASSERT_TRUE(held.Send(RequestHeaders({})));
    AwaitMetric(&host, "callout_deferred_calls", 1);
    held.Cancel();
  }
  AwaitMetric(&host, "callout_streams_ended_total{outcome=\"cancelled\"}", 1);
  EXPECT_EQ(MetricOf(host.address("admin"), "callout_live_streams"), 1);
  LiveStream next(channel);
  EXPECT_TRUE(next.Exchange(RequestHeaders({})).has_value());
  EXPECT_TRUE(next.Finish().ok());
  AwaitMetric(&host, "callout_live_streams", 0);
}

TEST(Serving, ASilentConnectionIsClosed) {
  TestHost host({"--handshake_timeout_ms=100"});
  for (const std::string listener : {"plaintext", "secure"}) {
    const host::Descriptor silent = host::Connect(host::ParsedAddress(host.address(listener)));
    host::ReadToEnd(silent.get());  // returns only when the host closes
  }
}

}  // namespace
}  // namespace callout::tests
