// SPDX-License-Identifier: Apache-2.0

// The story of new versions behind a real Envoy, without a failed request: one runs in shadow, one
// becomes a canary and is promoted, bad ones are rolled back. In one process, and with workers.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <deque>
#include <memory>
#include <optional>

#include "backend.h"
#include "envoy_config.h"
#include "envoy_fixture.h"
#include "plugins_page.h"
#include "tests/integration/http_get.h"
#include "traffic.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kSettings[] =
    R"({"policy": "continue",
        "canary": {"percent": 5, "max_fault_percent": 1, "max_p99_ms": 300, "min_calls": 20}})";

nlohmann::json GetPage(const std::string& admin, const std::string& path) {
  const std::string page = HttpGet(admin, "GET", path);
  return nlohmann::json::parse(page.substr(page.find("\r\n\r\n") + 4));
}

// As a browser gets it.
std::string GetFrontPage(const std::string& admin) {
  const host::Descriptor client = host::Connect(host::ParsedAddress(admin));
  host::Write(
      client.get(),
      "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\nConnection: close\r\n\r\n");
  return host::ReadToEnd(client.get());
}

// Requests one after another on one connection. A version that fails stamps no request, which the
// policy lets pass.
class Client {
 public:
  explicit Client(uint16_t port)
      : fd_(host::Connect(host::ParsedAddress(fmt::format("127.0.0.1:{}", port)))),
        reader_(fd_.get(), host::kGiveUpMs) {}

  StreamOutcome Exchange(const std::string& path = "/") {
    host::Write(fd_.get(), fmt::format("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", path));
    const HttpMessage response = reader_.Read();
    StreamOutcome outcome;
    outcome.version = response.Header("x-version").value_or("none");
    const std::string seen = response.Header("x-seen").value_or("");
    if (response.status != 200 || !response.complete) {
      outcome.failure = fmt::format("status {}", response.status);
    } else if (!seen.empty() && seen != outcome.version) {
      outcome.mixed = true;
      outcome.failure = fmt::format("version '{}', then '{}'", seen, outcome.version);
    }
    return outcome;
  }

 private:
  const host::Descriptor fd_;
  HttpReader</*is_request=*/false> reader_;
};

class CanaryBehindEnvoy : public EnvoyFixture, public ::testing::WithParamInterface<int> {
 protected:
  void SetUp() override {
    EnvoyFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    plugins_.Put("p.settings", kSettings);
    plugins_.Put("p.so", ReadFile(ReloadPlugin("version_one")));
    host_.emplace(std::vector<std::string>{"--plugins_dir=" + plugins_.path(), "--admin_writes=on",
                                           fmt::format("--workers={}", GetParam()),
                                           "--state_dir=" + directory_.Path("")});
    EnvoyConfig config;
    config.backend_port = backend_.port();
    const std::string address = host_->address("plaintext");
    config.hosts["host"] = {
        static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)))};
    config.listeners.push_back({.name = "canary", .filters = {ExtProc(nlohmann::json::object())}});
    envoy_.emplace(MakeBootstrap(config));
    backend_.AnswerBy([](const HttpMessage& request) {
      return BackendAnswer{.headers = {{"x-seen", request.Header("x-version").value_or("")}}};
    });
  }

  std::string Admin() { return host_->address("admin"); }
  void StartTraffic() {
    traffic_.emplace(2, [port = envoy_->port("canary")]() -> Traffic::Exchanger {
      return [client = std::make_shared<Client>(port)] { return client->Exchange(); };
    });
  }
  void Put(const std::string& version) { plugins_.Put("p.so", ReadFile(ReloadPlugin(version))); }
  nlohmann::json AwaitShadows() {
    while (GetMetric(Admin(), "callout_shadow_exchanges ") > 0) {
    }
    return GetPage(Admin(), "/shadow")["shadows"][0];
  }
  // So many more, none of which fails.
  TrafficReport Streams(uint64_t count) {
    traffic_->Take();
    traffic_->AwaitStreams(count);
    TrafficReport report = traffic_->Take();
    EXPECT_EQ(report.failed, 0u) << report.first_failure;
    return report;
  }

  host::TempDir directory_;
  PluginsDir plugins_{directory_.Path("plugins")};
  Backend backend_;
  std::optional<TestHost> host_;
  std::optional<EnvoyProcess> envoy_;
  std::optional<Traffic> traffic_;
};

INSTANTIATE_TEST_SUITE_P(Workers, CanaryBehindEnvoy, ::testing::Values(0, 2));

TEST_P(CanaryBehindEnvoy, AShadowDiffersExactlyWhereItShould) {
  plugins_.Put("q.settings", R"({"mode": "shadow", "instead_of": "p"})");
  plugins_.Put("q.so", ReadFile(ReloadPlugin("mended")));
  host_->AwaitLog("plugin q: generation 1 of ");
  std::deque<Client> clients;
  for (int i = 0; i < 4; ++i) clients.emplace_back(envoy_->port("canary"));
  constexpr int kRequests = 60;
  for (int i = 0; i < kRequests; ++i) {
    const StreamOutcome outcome =
        clients[static_cast<size_t>(i) % 4].Exchange(i % 10 == 0 ? "/mend" : "/");
    EXPECT_EQ(outcome.failure, "");
    EXPECT_EQ(outcome.version, "1");
  }
  // Envoy may end a stream after it has responded to its client.
  nlohmann::json report;
  do {
    report = AwaitShadows();
  } while (report["exchanges"] < kRequests);
  EXPECT_EQ(report["exchanges"], kRequests);
  EXPECT_EQ(report["differing"], kRequests / 10) << report.dump(1);
  EXPECT_EQ(report["by_kind"]["header"], kRequests / 10);
  ASSERT_EQ(report["commonest"].size(), 1u) << report.dump(1);
  EXPECT_EQ(report["commonest"][0]["what"], "request x-mended");
  EXPECT_EQ(report["commonest"][0]["after"], "yes");
  EXPECT_EQ(GetMetric(Admin(), "callout_shadow_differences_total{kind=\"header\",plugin=\"q\"}"),
            kRequests / 10);
  EXPECT_THAT(GetFrontPage(Admin()), HasSubstr("header request x-mended"));
}

TEST_P(CanaryBehindEnvoy, ACanaryServesItsShareAndIsPromoted) {
  StartTraffic();
  Put("version_two");
  host_->AwaitLog("plugin p: generation 2 of ");
  traffic_->AwaitOlderStreams();
  const TrafficReport shared = Streams(4000);
  const double share =
      static_cast<double>(shared.by_version.at("2")) / static_cast<double>(shared.streams);
  EXPECT_GT(share, 0.03);
  EXPECT_LT(share, 0.07);
  EXPECT_EQ(GetMetric(Admin(), "callout_canary_running{plugin=\"p\"}"), 1);
  const nlohmann::json versions = GetPlugin(Admin(), "p")["generations"];
  EXPECT_EQ(versions[0]["state"], "canary");
  EXPECT_GT(versions[0]["calls"], 0);
  EXPECT_THAT(HttpPost(Admin(), "/actions/promote", "plugin=p"), StartsWith("HTTP/1.1 200 "));
  traffic_->AwaitOlderStreams();
  const TrafficReport all = Streams(1000);
  EXPECT_EQ(all.by_version.at("2"), all.streams);
}

TEST_P(CanaryBehindEnvoy, ABadVersionIsRolledBackWithinItsBound) {
  StartTraffic();
  traffic_->AwaitStreams(100);
  constexpr char kWithdrawn[] = "callout_reloads_total{outcome=\"withdrawn\",plugin=\"p\"}";
  double withdrawn = 0;
  for (const char* version : {"failing", "slow"}) {
    SCOPED_TRACE(version);
    Put(version);
    ++withdrawn;
    while (GetMetric(Admin(), kWithdrawn) < withdrawn) traffic_->AwaitStreams(1);
    traffic_->AwaitOlderStreams();
    const TrafficReport after = Streams(500);
    EXPECT_EQ(after.by_version.at("1"), after.streams);
    if (std::string(version) == "failing") {
      // The second fault of a process is one too many; others may be on their way.
      EXPECT_LE(
          GetMetric(Admin(), "callout_plugin_faults_total{kind=\"error_status\",plugin=\"p\"}"),
          20);
      EXPECT_THAT(host_->Log(), HasSubstr("was withdrawn as a canary"));
    } else {
      EXPECT_THAT(host_->Log(), HasSubstr("over max_p99_ms=300"));
    }
  }
  EXPECT_EQ(GetMetric(Admin(), "callout_reloads_total{outcome=\"withdrawn\",plugin=\"p\"}"), 2);
}

// --- Over a restart ---

class WithdrawnOverARestart : public ::testing::TestWithParam<int> {
 protected:
  void StartHost() {
    host_.reset();
    host_.emplace(std::vector<std::string>{"--plugins_dir=" + plugins_.path(), "--admin_writes=on",
                                           fmt::format("--workers={}", GetParam()),
                                           "--state_dir=" + directory_.Path("")});
  }
  std::string Admin() { return host_->address("admin"); }

  host::TempDir directory_;
  PluginsDir plugins_{directory_.Path("plugins")};
  std::optional<TestHost> host_;
};

INSTANTIATE_TEST_SUITE_P(Workers, WithdrawnOverARestart, ::testing::Values(0, 2));

TEST_P(WithdrawnOverARestart, AVersionStaysSoUntilItIsReleased) {
  plugins_.Put("p.so", ReadFile(ReloadPlugin("version_one")));
  StartHost();
  plugins_.Put("p.so", ReadFile(ReloadPlugin("version_two")));
  host_->AwaitLog("plugin p: generation 2 of ");
  ASSERT_THAT(HttpPost(Admin(), "/actions/go_back", "plugin=p"), StartsWith("HTTP/1.1 200 "));
  EXPECT_EQ(host_->Terminate(), 0);
  StartHost();
  EXPECT_THAT(GetPlugin(Admin(), "p")["last_error"].dump(), HasSubstr("withdrawn before this"));
  EXPECT_THAT(HttpGet(Admin(), "GET", "/ready"), StartsWith("HTTP/1.1 503 "));
  EXPECT_NE(ExchangeOnce(PlaintextChannel(host_->address("plaintext"))).failure, "");
  ASSERT_THAT(HttpPost(Admin(), "/actions/release", "plugin=p"), StartsWith("HTTP/1.1 200 "));
  host_->AwaitLog("plugin p: generation 1 of ");
  while (!HttpGet(Admin(), "GET", "/ready").starts_with("HTTP/1.1 200 ")) {
  }
  EXPECT_EQ(ExchangeOnce(PlaintextChannel(host_->address("plaintext"))).version, "2");
  EXPECT_EQ(host_->Terminate(), 0);
  StartHost();
  EXPECT_EQ(ExchangeOnce(PlaintextChannel(host_->address("plaintext"))).version, "2");
}

}  // namespace
}  // namespace callout::tests
