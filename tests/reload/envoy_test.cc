// SPDX-License-Identifier: Apache-2.0

// The same behind a real Envoy: what its clients see while plugins are replaced.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <iostream>
#include <map>
#include <memory>

#include "backend.h"
#include "envoy_config.h"
#include "envoy_fixture.h"
#include "plugins_page.h"
#include "traffic.h"

namespace callout::tests {
namespace {

// Requests one after another on one connection. The backend sends back which version it saw.
class EnvoyClient {
 public:
  explicit EnvoyClient(uint16_t port)
      : fd_(host::Connect(host::ParsedAddress(fmt::format("127.0.0.1:{}", port)))),
        reader_(fd_.get(), host::kGiveUpMs) {}

  StreamOutcome Exchange() {
    host::Write(fd_.get(), "GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    const HttpMessage response = reader_.Read();
    StreamOutcome outcome;
    outcome.version = response.Header("x-version").value_or("");
    const std::string earlier = response.Header("x-seen").value_or("");
    if (response.status != 200 || !response.complete) {
      outcome.failure = fmt::format("status {}", response.status);
    } else if (earlier != outcome.version || earlier.empty()) {
      outcome.mixed = true;
      outcome.failure = fmt::format("version '{}', then '{}'", earlier, outcome.version);
    }
    return outcome;
  }

 private:
  const host::Descriptor fd_;
  HttpReader</*is_request=*/false> reader_;
};

class ReloadBehindEnvoy : public EnvoyFixture {
 protected:
  void SetUp() override {
    EnvoyFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    plugins_.Put("p.so", one_);
    std::vector<std::string> options = Options();
    options.push_back("--plugins_dir=" + plugins_.path());
    host_.emplace(options);
    EnvoyConfig config;
    config.backend_port = backend_.port();
    const std::string address = host_->address("plaintext");
    config.hosts["host"] = {
        static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)))};
    config.listeners.push_back({.name = "reload", .filters = {ExtProc(nlohmann::json::object())}});
    envoy_.emplace(MakeBootstrap(config));
    backend_.AnswerBy([](const HttpMessage& request) {
      return BackendAnswer{.headers = {{"x-seen", request.Header("x-version").value_or("")}}};
    });
    traffic_.emplace(2, [port = envoy_->port("reload")]() -> Traffic::Exchanger {
      return [client = std::make_shared<EnvoyClient>(port)] { return client->Exchange(); };
    });
    traffic_->AwaitStreams(500);
  }

  virtual std::vector<std::string> Options() const { return {}; }

  host::TempDir directory_;
  PluginsDir plugins_{directory_.Path("plugins")};
  const std::string one_ = ReadFile(ReloadPlugin("version_one"));
  const std::string two_ = ReadFile(ReloadPlugin("version_two"));
  Backend backend_;
  std::optional<TestHost> host_;
  std::optional<EnvoyProcess> envoy_;
  std::optional<Traffic> traffic_;
};

TEST_F(ReloadBehindEnvoy, ReplacementsFailNoRequestAndNoneSeesTwoVersions) {
  const int replacements = Replacements();
  traffic_->AwaitStreams(10000);
  const TrafficReport quiet = traffic_->Take();
  for (int i = 0; i < replacements; ++i) {
    plugins_.Put("p.so", (i % 2 == 0 ? two_ : one_) + fmt::format("\n{}\n", i));
    host_->AwaitLog(fmt::format("plugin p: generation {} of ", i + 2));
  }
  const TrafficReport loaded = traffic_->Stop();
  EXPECT_EQ(loaded.failed, 0u) << loaded.first_failure;
  EXPECT_EQ(loaded.mixed, 0u);
  EXPECT_GT(loaded.by_version.at("1"), 0u);
  EXPECT_GT(loaded.by_version.at("2"), 0u);
  for (const char* counter : {".spurious_msgs_received", ".streams_failed",
                              ".rejected_header_mutations", ".failure_mode_allowed"}) {
    for (const auto& [name, value] : envoy_->CountersEndingWith(counter)) {
      EXPECT_EQ(value, 0u) << name;
    }
  }
  std::cout << fmt::format(
      "{} replacements, {} requests; p50 {:.2f} ms, p99 {:.2f} ms (without reloads {:.2f}, "
      "{:.2f})\n",
      replacements, loaded.streams, loaded.Percentile(0.5), loaded.Percentile(0.99),
      quiet.Percentile(0.5), quiet.Percentile(0.99));
}

class KillsBehindEnvoy : public ReloadBehindEnvoy {
 protected:
  std::vector<std::string> Options() const override { return {"--workers=2"}; }
};

TEST_F(KillsBehindEnvoy, FailOnlyTheRequestsThatWereInTheWorker) {
  constexpr uint64_t kKills = 6;
  for (uint64_t i = 0; i < kKills; ++i) {
    const std::map<int, pid_t> before = WorkerProcesses(host_->Log());
    const pid_t process = before.at(static_cast<int>(i % 2 + 1));
    ASSERT_EQ(kill(process, SIGKILL), 0);
    host_->AwaitLog(fmt::format("worker {} (process {}) has ended", i % 2 + 1, process));
    while (WorkerProcesses(host_->Log()) == before) traffic_->AwaitStreams(10);
    traffic_->AwaitStreams(300);
  }
  const TrafficReport report = traffic_->Stop();
  // Of two clients that send one request after another.
  EXPECT_LE(report.failed, 2 * kKills) << report.first_failure;
  EXPECT_EQ(report.mixed, 0u);
  EXPECT_EQ(GetMetric(host_->address("admin"), "callout_worker_ends_total "), kKills);
  std::cout << fmt::format(
      "{} requests, {} of them failed by {} kills of a worker, p99 {:.1f} ms\n", report.streams,
      report.failed, kKills, report.Percentile(0.99));
}

}  // namespace
}  // namespace callout::tests
