// SPDX-License-Identifier: Apache-2.0

// The end of the host's life: signals, health and live streams.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "ext_proc_client.h"
#include "http_get.h"
#include "test_host.h"
#include "tests/host/sockets.h"

namespace callout::tests {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Health, AnswersGetWith200AndOtherMethodsWith405) {
  TestHost host({});
  const std::string answer = HttpGet(host.address("health"));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, ::testing::EndsWith("\r\n\r\n"));
  EXPECT_THAT(HttpGet(host.address("health"), "POST"), StartsWith("HTTP/1.1 405 "));
}

TEST(Health, IsThereOverGrpc) {
  TestHost host({"--combined_health_check"});
  const ChannelPtr channel = PlaintextChannel(host.address("plaintext"));
  EXPECT_EQ(GrpcHealth(channel, ""), "SERVING");
  EXPECT_EQ(GrpcHealth(channel, ext_proc::ExternalProcessor::service_full_name()), "SERVING");
  EXPECT_EQ(GrpcHealth(channel, "no.such.Service"), "service name unknown");
  EXPECT_THAT(host.Log(), ::testing::Not(HasSubstr("listening health")));
}

// Without plugins nothing else waits for a worker, and on a busy machine one takes its time.
TEST(Health, IsWhatTheHostSaysOfItselfFromItsFirstMoment) {
  std::atomic<bool> stop = false;
  std::vector<std::thread> others;
  for (unsigned i = 0; i < 2 * std::thread::hardware_concurrency(); ++i) {
    others.emplace_back([&stop] {
      while (!stop.load(std::memory_order_relaxed)) {
      }
    });
  }
  for (int i = 0; i < 10; ++i) {
    TestHost host({"--workers=1"});
    EXPECT_EQ(GrpcHealth(PlaintextChannel(host.address("plaintext")), ""), "SERVING");
  }
  stop = true;
  for (std::thread& other : others) other.join();
}

TEST(Drain, LetsALiveStreamFinish) {
  TestHost host({});
  const std::string plaintext = host.address("plaintext");
  LiveStream stream(PlaintextChannel(plaintext));
  ASSERT_TRUE(stream.Exchange(RequestHeaders({})).has_value());
  host.Signal(SIGTERM);
  host.AwaitLog("draining:");
  EXPECT_THAT(HttpGet(host.address("health")), StartsWith("HTTP/1.1 503 "));
  EXPECT_TRUE(stream.Exchange(RequestBody("during the drain")).has_value());
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_EQ(host.AwaitEnd(), 0);
  EXPECT_THAT(host.Log(), HasSubstr("drain ends"));
  EXPECT_TRUE(Refused(plaintext));
}

TEST(Drain, TellsAWatchOfHealthAndIsNotHeldUpByIt) {
  TestHost host({"--drain_timeout_ms=600000"});
  const RawOutcome outcome =
      CallRaw(PlaintextChannel(host.address("plaintext")), "/grpc.health.v1.Health/Watch", "",
              [&](const std::string& answer) {
                if (answer == "\x08\x01") host.Signal(SIGTERM);
                return true;
              });
  EXPECT_EQ(host.AwaitEnd(), 0);
  EXPECT_THAT(outcome.answers, ElementsAre("\x08\x01", "\x08\x02"));
  EXPECT_EQ(outcome.status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

// Neither of them answers the PING that comes with GOAWAY.
TEST(Drain, IsNotHeldUpByClientsThatSayNothing) {
  TestHost host({"--drain_timeout_ms=600000", "--handshake_timeout_ms=600000"});
  const host::Address address = host::ParsedAddress(host.address("plaintext"));
  const host::Descriptor silent = host::Connect(address);
  const host::Descriptor idle = host::Connect(address);
  const std::string settings("\0\0\0\4\0\0\0\0\0", 9);
  ASSERT_TRUE(host::Write(idle.get(), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings));
  host::ReadBytes(idle.get(), 2 * settings.size());  // the host's, and more
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  ASSERT_TRUE(stream.Exchange(RequestHeaders({})).has_value());
  host.Signal(SIGTERM);
  host.AwaitLog("draining:");
  EXPECT_TRUE(stream.Exchange(RequestBody("during the drain")).has_value());
  EXPECT_TRUE(stream.Finish().ok());
  const auto finished = std::chrono::steady_clock::now();
  host::ReadToEnd(idle.get());
  host::ReadToEnd(silent.get());
  EXPECT_EQ(host.AwaitEnd(), 0);
  EXPECT_LT(std::chrono::steady_clock::now() - finished, std::chrono::seconds(15))
      << "gRPC by itself takes 20, the host a fraction of one";
}

TEST(Drain, SaysSoBeforeItStopsAccepting) {
  TestHost host({"--drain_delay_ms=60000"});
  const ChannelPtr channel = PlaintextChannel(host.address("plaintext"));
  ASSERT_EQ(GrpcHealth(channel, ""), "SERVING");
  host.Signal(SIGTERM);
  host.AwaitLog("draining: accepting new connections for 60000 ms");
  // The line comes before the state changes.
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (GrpcHealth(channel, "") != "NOT_SERVING") {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up);
  }
  EXPECT_THAT(HttpGet(host.address("health")), StartsWith("HTTP/1.1 503 "));
  // New connections and streams are served all the same.
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  EXPECT_TRUE(stream.Exchange(RequestHeaders({})).has_value());
  EXPECT_TRUE(stream.Finish().ok());
  host.Signal(SIGTERM);
  EXPECT_EQ(host.AwaitEnd(), 128 + SIGTERM);
}

TEST(Drain, DelaysOnlyForSomebodyWhoHasAskedForHealth) {
  for (const char* workers : {"--workers=0", "--workers=1"}) {
    TestHost host({"--drain_delay_ms=600000", workers});
    host.Signal(SIGTERM);
    EXPECT_EQ(host.AwaitEnd(), 0) << workers;
    TestHost asked({"--drain_delay_ms=600000", workers});
    ASSERT_EQ(GrpcHealth(PlaintextChannel(asked.address("plaintext")), ""), "SERVING");
    asked.Signal(SIGTERM);
    asked.AwaitLog("draining: accepting new connections for 600000 ms");
    asked.Signal(SIGTERM);
    EXPECT_EQ(asked.AwaitEnd(), 128 + SIGTERM) << workers;
  }
}

TEST(Drain, AnInterruptFromTheTerminalDelaysNothing) {
  TestHost host({"--drain_delay_ms=600000"});
  EXPECT_THAT(HttpGet(host.address("health")), StartsWith("HTTP/1.1 200 "));
  host.Signal(SIGINT);
  EXPECT_EQ(host.AwaitEnd(), 0);
}

TEST(Drain, AnyNumberOfHangupsBeforeItAreOne) {
  TestHost host({});
  for (int i = 0; i < 100'000; ++i) host.Signal(SIGHUP);
  host.Signal(SIGTERM);
  EXPECT_EQ(host.AwaitEnd(), 0);
}

TEST(Drain, EndsStreamsThatTakeTooLong) {
  // A decision about the response's headers is outstanding.
  TestHost host({"--plugin=" + BuiltPlugin("basic"), "--drain_timeout_ms=100"});
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  ASSERT_TRUE(stream.Exchange(RequestHeaders({})).has_value());
  host.Signal(SIGTERM);
  EXPECT_EQ(host.AwaitEnd(), 0);
  EXPECT_FALSE(stream.Finish().ok());
}

TEST(Drain, IsNotHeldUpByATimerThatHangs) {
  for (const char* workers : {"--workers=0", "--workers=1"}) {
    TestHost host({"--plugin=" + BuiltFile("tests/integration/timer_faults.so"),
                   "--plugin_config=timer_faults=hang", workers});
    host.AwaitLog("plugin timer_faults: the timer has begun");
    host.Signal(SIGTERM);
    EXPECT_EQ(host.AwaitEnd(), 0) << workers;
  }
}

TEST(Drain, ASecondSignalEndsAtOnce) {
  TestHost host({"--drain_timeout_ms=600000"});
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  ASSERT_TRUE(stream.Exchange(RequestHeaders({})).has_value());
  host.Signal(SIGTERM);
  host.AwaitLog("draining:");
  host.Signal(SIGTERM);
  EXPECT_EQ(host.AwaitEnd(), 128 + SIGTERM);
}

TEST(Drain, ClosesTheListenersOfTrafficOnly) {
  TestHost host({"--drain_timeout_ms=600000"});
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  ASSERT_TRUE(stream.Exchange(RequestHeaders({})).has_value());
  host.Signal(SIGTERM);
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!Refused(host.address("plaintext"))) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up);
  }
  EXPECT_TRUE(Refused(host.address("secure")));
  EXPECT_THAT(HttpGet(host.address("health")), StartsWith("HTTP/1.1 503 "));
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_EQ(host.AwaitEnd(), 0);
}

}  // namespace
}  // namespace callout::tests
