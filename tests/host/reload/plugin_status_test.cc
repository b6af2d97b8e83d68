// SPDX-License-Identifier: Apache-2.0

#include "host/reload/plugin_status.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "host/metrics/metrics.h"

namespace callout::host {
namespace {

using Json = nlohmann::json;

Reloader::Snapshot OnePlugin() {
  Reloader::GenerationStatus old_one;
  old_one.id = 7;
  old_one.number = 1;
  old_one.sha256 = "aa";
  Reloader::GenerationStatus new_one;
  new_one.id = 9;
  new_one.number = 2;
  new_one.sha256 = "bb";
  new_one.signer = "E5E2E0ED3F3028EC";
  new_one.loaded_at_ms = 1764000000123;
  new_one.in_service = true;
  new_one.facts.version = "1.3.0";
  new_one.facts.abi_version = 1;
  new_one.facts.hooks = {"callout_on_request_headers"};
  Reloader::PluginStatus plugin;
  plugin.name = "10-auth";
  plugin.path = "/plugins/10-auth.so";
  plugin.state = Reloader::State::kServing;
  plugin.generations = {new_one, old_one};
  Reloader::Snapshot snapshot;
  snapshot.plugins = {plugin};
  return snapshot;
}

Json Page(const Reloader::Snapshot& snapshot, const GenerationTarget::Usage& usage,
          const Metrics& metrics) {
  return Json::parse(PluginStatusJson(snapshot, usage, 1000, metrics.Collect()));
}

TEST(PluginStatus, ShowsACanaryBesideTheVersionThatServesTheRest) {
  Reloader::Snapshot snapshot = OnePlugin();
  std::vector<Reloader::GenerationStatus>& generations = snapshot.plugins[0].generations;
  std::swap(generations[0].in_service, generations[1].in_service);
  generations[0].canary_percent = 5;
  GenerationTarget::Usage usage;
  usage.streams = {{7, 1}, {9, 5}};
  usage.calls[7] = {100, 0, 200'000'000, {}};
  usage.calls[9] = {10, 1, 40'000'000, {}};
  const Json plugin = Page(snapshot, usage, Metrics())["plugins"][0];
  EXPECT_EQ(plugin["generation"], 1);
  EXPECT_EQ(plugin["mode"], "live");
  EXPECT_EQ(plugin["withdrawn"], false);
  const Json& canary = plugin["generations"][0];
  EXPECT_EQ(canary["state"], "canary");
  EXPECT_EQ(canary["percent"], 5);
  EXPECT_EQ(canary["calls"], 10);
  EXPECT_EQ(canary["faults"], 1);
  EXPECT_EQ(canary["mean_ms"], 4);
  EXPECT_EQ(plugin["generations"][1]["state"], "serving");
  EXPECT_EQ(plugin["generations"][1]["mean_ms"], 2);
}

TEST(PluginStatus, SaysWhatServesInWhichVersion) {
  const Json page = Page(OnePlugin(), {.streams = {{7, 1}, {9, 5}}, .mapped = 2}, Metrics());
  EXPECT_EQ(page["generations_mapped"], 2);
  EXPECT_EQ(page["generations_max"], 1000);
  const Json& plugin = page["plugins"][0];
  EXPECT_EQ(plugin["name"], "10-auth");
  EXPECT_EQ(plugin["file"], "/plugins/10-auth.so");
  EXPECT_EQ(plugin["state"], "serving");
  EXPECT_EQ(plugin["generation"], 2);
  EXPECT_EQ(plugin["sha256"], "bb");
  EXPECT_EQ(plugin["signed_by"], "E5E2E0ED3F3028EC");
  EXPECT_EQ(plugin["version"], "1.3.0");
  EXPECT_EQ(plugin["abi"], 1);
  EXPECT_EQ(plugin["hooks"], Json({"callout_on_request_headers"}));
  EXPECT_EQ(plugin["loaded_at"], "2025-11-24T16:00:00.123Z");
  EXPECT_TRUE(plugin["last_error"].is_null());
  ASSERT_EQ(plugin["generations"].size(), 2u);
  EXPECT_EQ(plugin["generations"][0]["streams"], 5);
  EXPECT_EQ(plugin["generations"][0]["state"], "serving");
  EXPECT_EQ(plugin["generations"][1]["streams"], 1);
  EXPECT_EQ(plugin["generations"][1]["state"], "draining");
}

TEST(PluginStatus, LeavesOutGenerationsThatHaveEnded) {
  const Json page = Page(OnePlugin(), {.streams = {{9, 5}}, .mapped = 2}, Metrics());
  EXPECT_EQ(page["plugins"][0]["generations"].size(), 1u);
}

TEST(PluginStatus, TellsOfCrashesAndQuarantineLoudly) {
  const Json before = Page(OnePlugin(), {}, Metrics())["plugins"][0];
  EXPECT_EQ(before["crashes"], 0);
  EXPECT_TRUE(before["last_crash"].is_null());
  EXPECT_TRUE(before["quarantined"].is_null());
  const GenerationTarget::Usage usage = {.quarantined = {{"10-auth", "too many crashes"}},
                                         .last_crash = {{"10-auth", "SIGSEGV"}},
                                         .crashes = {{"10-auth", 3}}};
  const Json after = Page(OnePlugin(), usage, Metrics())["plugins"][0];
  EXPECT_EQ(after["state"], "quarantined");
  EXPECT_EQ(after["crashes"], 3);
  EXPECT_EQ(after["last_crash"], "SIGSEGV");
  EXPECT_EQ(after["quarantined"], "too many crashes");
}

TEST(PluginStatus, CountsCallsAndErrorsByKind) {
  Metrics metrics;
  for (const char* phase : {"request_headers", "response_headers"}) {
    metrics.Observe(*metrics.Define(Metrics::Kind::kHistogram, "callout_call_seconds", "Help.",
                                    {{"plugin", "10-auth"}, {"phase", phase}}),
                    0.1);
  }
  metrics.Add(*metrics.Define(Metrics::Kind::kCounter, "callout_plugin_faults_total", "Help.",
                              {{"plugin", "10-auth"}, {"kind", "deadline"}}),
              3);
  const Json page = Page(OnePlugin(), {}, metrics);
  EXPECT_EQ(page["plugins"][0]["calls"], 2);
  EXPECT_EQ(page["plugins"][0]["errors"], Json({{"deadline", 3}}));
}

TEST(PluginStatus, ShowsWhyAFileWasRefused) {
  Reloader::Snapshot snapshot = OnePlugin();
  snapshot.plugins[0].state = Reloader::State::kRefused;
  snapshot.plugins[0].generations.clear();
  snapshot.plugins[0].last_error = "it is \xff broken";
  snapshot.plugins[0].last_error_at_ms = 1764000000123;
  snapshot.problems = {"a problem"};
  const Json page = Page(snapshot, {}, Metrics());
  EXPECT_EQ(page["problems"], Json({"a problem"}));
  EXPECT_EQ(page["plugins"][0]["state"], "refused");
  EXPECT_EQ(page["plugins"][0]["last_error"], "it is \xef\xbf\xbd broken");
  EXPECT_EQ(page["plugins"][0]["last_error_at"], "2025-11-24T16:00:00.123Z");
  EXPECT_FALSE(page["plugins"][0].contains("generation"));
}

}  // namespace
}  // namespace callout::host
