// SPDX-License-Identifier: Apache-2.0

// CALLOUT_PLUGIN_CLASS, with class_plugin.cc loaded as a shared object.
#include <gtest/gtest.h>

#include <callout/testing.hpp>
#include <string>
#include <thread>

namespace callout::testing {
namespace {

const char kClassPlugin[] = CALLOUT_CLASS_PLUGIN;

TEST(PluginClass, IsMadeFromItsSetup) {
  Plugin plugin(kClassPlugin, "10");
  ASSERT_EQ(plugin.status(), CALLOUT_OK);
  EXPECT_EQ(plugin.wants().whole_body_bytes_max, 1000u);
  EXPECT_EQ(plugin.wants().blocking, 1u);
  // With on_process all of them.
  uint64_t phases = CALLOUT_PHASE_BIT(0);
  for (callout_phase_t phase = CALLOUT_REQUEST_HEADERS; phase <= CALLOUT_RESPONSE_TRAILERS; ++phase)
    phases |= CALLOUT_PHASE_BIT(phase);
  EXPECT_EQ(plugin.wants().phases, phases);
}

TEST(PluginClass, LogsWhyItCannotBeMade) {
  for (const auto& [config, reason] :
       {std::pair("throw", "cannot make sense of it"), std::pair("fail", "limit is not a number"),
        std::pair("clash", "cannot define the metric refused_total")}) {
    Plugin plugin(kClassPlugin, config);
    EXPECT_EQ(plugin.status(), CALLOUT_INVALID_ARGUMENT) << config;
    ASSERT_EQ(plugin.logs().size(), 1u);
    EXPECT_EQ(plugin.logs()[0].level, uint32_t{CALLOUT_LOG_ERROR});
    EXPECT_EQ(plugin.logs()[0].text, reason);
  }
}

TEST(PluginClass, KeepsAnObjectForEachStream) {
  Plugin plugin(kClassPlugin, "5");
  Stream one(plugin);
  EXPECT_EQ(one.request_headers({}).header("x-limit"), "5");
  {
    Stream two(plugin);
    EXPECT_EQ(two.request_headers({}).header("x-live-streams"), "2");
    EXPECT_TRUE(two.request_body("123", false).is_empty());
    EXPECT_TRUE(one.request_body("123", false).is_empty());
    EXPECT_EQ(two.request_body("456", true).http_status, 413u);
  }
  EXPECT_TRUE(one.request_body("45", true).is_empty());
  EXPECT_EQ(plugin.metric("refused_total"), 1);
  EXPECT_EQ(plugin.metric("open_bytes"), 2);
  EXPECT_EQ(plugin.metric("body_bytes"), 5);
  Stream three(plugin);
  EXPECT_EQ(three.request_headers({}).header("x-live-streams"), "2") << "the second was deleted";
}

TEST(PluginClass, RefusesAStreamAtItsOpening) {
  Plugin plugin(kClassPlugin, "5");
  Stream stream(plugin);
  stream.set_grpc_metadata("x-refuse", "1");
  const Answer answer = stream.request_headers({});
  EXPECT_EQ(answer.status, CALLOUT_PERMISSION_DENIED);
  EXPECT_EQ(answer.error, "not you");
}

TEST(PluginClass, SeesEveryMessageInOnProcessAndPassesItOn) {
  Plugin plugin(kClassPlugin, "5");
  Stream stream(plugin);
  Answer answer = stream.request_headers({{"x-process", "1"}});
  EXPECT_EQ(answer.header("x-processed"), "1");
  EXPECT_FALSE(answer.header("x-limit").has_value());
  EXPECT_EQ(stream.request_trailers({}).header("x-trailer"), "1");
}

TEST(PluginClass, SkipsHooksThatItsConfigurationDoesNotWant) {
  Plugin plugin(kClassPlugin, "no trailers");
  Stream stream(plugin);
  EXPECT_TRUE(stream.request_trailers({}).is_empty());
}

// The class lists stream_open, which takes no Stream&, and is blocking: the object of the
// stream is there for on_stream_cancel all the same.
TEST(PluginClass, IsToldThatTheClientHasLeftInItsFirstCall) {
  Plugin plugin(kClassPlugin, "5");
  Stream stream(plugin);
  std::thread client([&] {
    while (plugin.metric("open_bytes") != 77) std::this_thread::yield();
    stream.cancel();
  });
  EXPECT_EQ(stream.request_headers({{"x-until-cancelled", "1"}}).header("x-cancelled"), "1");
  client.join();
}

TEST(PluginClass, IsToldThatTheClientHasLeft) {
  Plugin plugin(kClassPlugin, "5");
  Stream stream(plugin);
  stream.request_headers({});
  stream.cancel();
  ASSERT_FALSE(plugin.logs().empty());
  EXPECT_EQ(plugin.logs().back().text, "on_stream_cancel threw: nobody is left");
}

}  // namespace
}  // namespace callout::testing
