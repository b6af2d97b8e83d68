// SPDX-License-Identifier: Apache-2.0

// A host with two workers and one plugin from a directory, for tests of what ends them.
//
// Each test runs on one thread.
#ifndef CALLOUT_TESTS_RELOAD_WORKERS_FIXTURE_H_
#define CALLOUT_TESTS_RELOAD_WORKERS_FIXTURE_H_

#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "plugins_page.h"
#include "traffic.h"

namespace callout::tests {

class Workers : public ::testing::Test {
 protected:
  // With `plugin` of this folder as p.
  void Start(const std::string& plugin, const std::string& config = "",
             std::vector<std::string> options = {}, const std::string& settings = "") {
    plugins_.Put("p.config", config);
    if (!settings.empty()) plugins_.Put("p.settings", settings);
    plugins_.Put("p.so", ReadFile(ReloadPlugin(plugin)));
    options.insert(options.begin(), "--workers=2");  // another number may follow
    options.push_back("--plugins_dir=" + plugins_.path());
    host_.emplace(options);
  }

  std::string Admin() { return host_->address("admin"); }
  ChannelPtr Channel() { return PlaintextChannel(host_->address("plaintext")); }
  nlohmann::json Plugin() { return GetPlugin(Admin(), "p"); }

  std::map<int, pid_t> Processes() { return WorkerProcesses(host_->Log()); }

  // Until the admin pages show it.
  template <class Condition>
  void Await(Condition condition) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), give_up) << host_->Log();
    }
  }
  // Until both serve, and neither is the one that was `before`.
  void AwaitAnotherThan(const std::map<int, pid_t>& before) {
    Await([&] { return Processes() != before && GetMetric(Admin(), "callout_workers ") == 2; });
  }

  // What a stream of its own connection is answered, or its failure.
  std::string Version() {
    const StreamOutcome outcome = ExchangeOnce(Channel());
    return outcome.failure.empty() ? outcome.version : outcome.failure;
  }

  // Makes the plugin `what`, which ends the stream.
  grpc::Status Do(const std::string& what) {
    LiveStream stream(Channel());
    stream.Exchange(RequestHeaders({{"x-do", what}}));
    return stream.Finish();
  }

  // Connects until every worker has `streams` streams, each with its first answer.
  struct Open {
    std::unique_ptr<LiveStream> stream;
    std::string version;
  };
  std::deque<Open> OpenInEveryWorker(size_t streams) {
    std::deque<Open> open;
    std::map<std::string, size_t> by_version;
    const auto enough = [&] {
      return by_version.size() == 2 && by_version.begin()->second >= streams &&
             by_version.rbegin()->second >= streams;
    };
    while (!enough() && open.size() < 1000) {
      auto stream = std::make_unique<LiveStream>(Channel());
      const auto answer = stream->Exchange(RequestHeaders({}));
      EXPECT_TRUE(answer.has_value());
      if (!answer.has_value()) break;
      open.push_back({std::move(stream), VersionOf(*answer)});
      ++by_version[open.back().version];
    }
    EXPECT_TRUE(enough()) << "all connections went to one worker";
    return open;
  }

  host::TempDir directory_;
  PluginsDir plugins_{directory_.Path("plugins")};
  std::optional<TestHost> host_;
};

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_RELOAD_WORKERS_FIXTURE_H_
