// SPDX-License-Identifier: Apache-2.0

// Plugins are replaced, broken and taken back while requests go on.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iostream>

#include "plugins_page.h"
#include "traffic.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;

constexpr int kThreads = 4;

class ReloadUnderLoad : public ::testing::Test {
 protected:
  ReloadUnderLoad() {
    one_ = ReadFile(ReloadPlugin("version_one"));
    two_ = ReadFile(ReloadPlugin("version_two"));
  }

  // A host that serves version 1 as the plugin p, and traffic.
  void Start(std::vector<std::string> options = {}) {
    plugins_.Put("p.so", one_);
    options.push_back("--plugins_dir=" + plugins_.path());
    host_.emplace(options);
    traffic_.emplace(host_->address("plaintext"), kThreads);
    traffic_->AwaitStreams(100);
  }

  std::string Admin() { return host_->address("admin"); }

  host::TempDir directory_;
  PluginsDir plugins_{directory_.Path("plugins")};
  std::string one_, two_;
  std::optional<TestHost> host_;
  std::optional<Traffic> traffic_;
};

TEST_F(ReloadUnderLoad, ReplacementsFailNoRequestAndNoStreamSeesTwoVersions) {
  Start();
  const int replacements = Replacements();
  const std::string address = host_->address("plaintext");
  // A stream that lives through all of it.
  LiveStream first(PlaintextChannel(address));
  const auto before = first.Exchange(RequestHeaders({}));
  ASSERT_TRUE(before.has_value());
  traffic_->AwaitStreams(2000);
  const TrafficReport quiet = traffic_->Take();
  const long rss_before = ProcessStatus(host_->pid(), "VmRSS");
  const auto channel = PlaintextChannel(address);
  for (int i = 0; i < replacements; ++i) {
    // A trailing line makes each file another, so that each is mapped.
    const std::string& bytes = i % 2 == 0 ? two_ : one_;
    plugins_.Put("p.so", bytes + fmt::format("\n{}\n", i));
    host_->AwaitLog(fmt::format("plugin p: generation {} of ", i + 2));
    EXPECT_EQ(ExchangeOnce(channel).version, i % 2 == 0 ? "2" : "1") << "once it says so";
  }
  const TrafficReport loaded = traffic_->Stop();
  EXPECT_EQ(loaded.failed, 0u) << loaded.first_failure;
  EXPECT_EQ(quiet.failed, 0u) << quiet.first_failure;
  EXPECT_EQ(loaded.mixed, 0u);
  EXPECT_GT(loaded.by_version.at("1"), 0u);
  EXPECT_GT(loaded.by_version.at("2"), 0u);

  const nlohmann::json page = GetPlugins(Admin());
  EXPECT_EQ(page["generations_mapped"], replacements + 1);
  const nlohmann::json plugin = GetPlugin(Admin(), "p");
  ASSERT_EQ(plugin["generations"].size(), 2u) << plugin;
  EXPECT_EQ(plugin["generations"][1]["generation"], 1);
  EXPECT_EQ(plugin["generations"][1]["state"], "draining");
  EXPECT_EQ(plugin["generations"][1]["streams"], 1);
  const auto after = first.Exchange(ResponseHeaders({}));
  ASSERT_TRUE(after.has_value());
  EXPECT_EQ(VersionOf(*after), VersionOf(*before)) << "a stream ends on what it began with";
  EXPECT_TRUE(first.Finish().ok());
  host_->AwaitLog("plugin p: generation 1 has ended");
  std::cout << fmt::format(
      "{} replacements, {} streams; p50 {:.2f} ms, p99 {:.2f} ms (without reloads {:.2f}, {:.2f}); "
      "{} KiB resident for each generation\n",
      replacements, loaded.streams, loaded.Percentile(0.5), loaded.Percentile(0.99),
      quiet.Percentile(0.5), quiet.Percentile(0.99),
      (ProcessStatus(host_->pid(), "VmRSS") - rss_before) / replacements);
}

TEST_F(ReloadUnderLoad, GoingBackAndForthBetweenTwoVersionsMapsTwoFiles) {
  Start();
  for (int i = 0; i < 6; ++i) {
    plugins_.Put("p.so", i % 2 == 0 ? two_ : one_);
    host_->AwaitLog(fmt::format("plugin p: generation {} of ", i + 2));
  }
  const TrafficReport report = traffic_->Stop();
  EXPECT_EQ(report.failed, 0u) << report.first_failure;
  EXPECT_EQ(GetPlugins(Admin())["generations_mapped"], 2);
  EXPECT_EQ(GetMetric(Admin(), "callout_generations_mapped "), 2);
}

TEST_F(ReloadUnderLoad, BrokenReplacementsChangeNothingButTheLog) {
  Start();
  const struct {
    std::string bytes, reason;
  } broken[] = {
      {"no shared object\n", "is not an ELF file"},
      {two_.substr(0, two_.size() / 2), "is truncated"},
      {ReadFile(BrokenPlugin("other_version")), "ABI version"},
      {ReadFile(BrokenPlugin("create_fails")), "callout_plugin_create returned"},
      {ReadFile(BrokenPlugin("no_hook")), "hook"},
      {ReadFile(BrokenPlugin("full_protobuf")), "protobuf"},
  };
  const nlohmann::json before = GetPlugin(Admin(), "p");
  double failures = 0;
  for (const auto& [bytes, reason] : broken) {
    plugins_.Put("p.so", bytes);
    host_->AwaitLog(reason);  // the last that is done about it
    // Each says so once.
    EXPECT_EQ(GetMetric(Admin(), "callout_reloads_total{outcome=\"failed\",plugin=\"p\"}"),
              ++failures);
    traffic_->AwaitStreams(50);
    const nlohmann::json plugin = GetPlugin(Admin(), "p");
    EXPECT_EQ(plugin["state"], "serving");
    EXPECT_EQ(plugin["sha256"], before["sha256"]);
    EXPECT_THAT(plugin["last_error"].get<std::string>(), HasSubstr(reason));
    EXPECT_THAT(plugin["last_error"].get<std::string>(), HasSubstr(plugins_.Path("p.so")));
    EXPECT_EQ(GetMetric(Admin(), "callout_plugin_refused{plugin=\"p\"}"), 1);
    EXPECT_THAT(host_->Log(), HasSubstr("generation 1 goes on serving"));
  }
  plugins_.Put("p.so", two_);
  host_->AwaitLog("plugin p: generation 2 of ");
  traffic_->AwaitStreams(100);
  const TrafficReport report = traffic_->Stop();
  EXPECT_EQ(report.failed, 0u) << report.first_failure;
  EXPECT_GT(report.by_version.at("2"), 0u);
  EXPECT_TRUE(GetPlugin(Admin(), "p")["last_error"].is_null());
}

TEST_F(ReloadUnderLoad, ALargeFileCopiedOverTheOldOneIsTakenWhenItIsWhole) {
  Start();
  const std::string large = ReadFile(ReloadPlugin("large"));
  constexpr size_t kParts = 8;
  {
    // Not beside and renamed, but into the very file that was loaded; as slowly as the traffic
    // goes.
    std::ofstream file(plugins_.Path("p.so"), std::ios::binary | std::ios::trunc);
    for (size_t i = 0; i < kParts; ++i) {
      const size_t from = large.size() * i / kParts, to = large.size() * (i + 1) / kParts;
      file.write(large.data() + from, static_cast<std::streamsize>(to - from)).flush();
      traffic_->AwaitStreams(300);
      EXPECT_EQ(GetPlugin(Admin(), "p")["generation"], 1);
    }
  }
  host_->AwaitLog("plugin p: generation 2 of ");
  // And again by what everyone uses.
  std::filesystem::copy_file(ReloadPlugin("version_two"), plugins_.Path("p.so"),
                             std::filesystem::copy_options::overwrite_existing);
  host_->AwaitLog("plugin p: generation 3 of ");
  traffic_->AwaitStreams(100);
  const TrafficReport report = traffic_->Stop();
  EXPECT_EQ(report.failed, 0u) << report.first_failure;
  EXPECT_GT(report.by_version.at("4"), 0u);
  EXPECT_EQ(GetMetric(Admin(), "callout_reloads_total{outcome=\"failed\",plugin=\"p\"}"), 0);
}

TEST_F(ReloadUnderLoad, AVersionThatFailsItsFirstCallsIsTakenBack) {
  Start({"--reload_guard=0.5/40"});
  plugins_.Put("p.so", ReadFile(ReloadPlugin("failing")));
  host_->AwaitLog("plugin p: generation 2 of ");
  host_->AwaitLog("plugin p: generation 2 of " + plugins_.Path("p.so") + " was withdrawn");
  traffic_->AwaitOlderStreams();
  const TrafficReport during = traffic_->Take();
  traffic_->AwaitStreams(500);
  const TrafficReport after = traffic_->Stop();
  EXPECT_GT(during.failed, 20u);
  EXPECT_LT(during.failed, 500u);
  EXPECT_EQ(after.failed, 0u) << after.first_failure;
  EXPECT_EQ(after.by_version.size(), 1u);
  const nlohmann::json plugin = GetPlugin(Admin(), "p");
  EXPECT_EQ(plugin["generation"], 1);
  EXPECT_THAT(plugin["last_error"].get<std::string>(), HasSubstr("was withdrawn"));
  EXPECT_EQ(GetMetric(Admin(), "callout_reloads_total{outcome=\"withdrawn\",plugin=\"p\"}"), 1);
}

TEST_F(ReloadUnderLoad, NoMoreGenerationsAreLoadedThanAllowed) {
  Start({"--max_generations=2"});
  plugins_.Put("p.so", two_);
  host_->AwaitLog("plugin p: generation 2 of ");
  plugins_.Put("p.so", two_ + "\n4\n");
  host_->AwaitLog("plugin p: cannot load plugin " + plugins_.Path("p.so") +
                  ": 2 files have been loaded since the start");
  const TrafficReport report = traffic_->Stop();
  EXPECT_EQ(report.failed, 0u) << report.first_failure;
  host_->AwaitLog("restart the host by draining it");
}

}  // namespace
}  // namespace callout::tests
