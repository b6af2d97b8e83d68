// SPDX-License-Identifier: Apache-2.0

// The story of new versions behind a real Envoy, in one process and with workers: the traffic that
// there is goes on from its beginning to its end, and no request fails. Then what becomes of it
// over a restart.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend.h"
#include "child_process.h"
#include "envoy_config.h"
#include "envoy_fixture.h"
#include "host_process.h"
#include "plugins_page.h"
#include "tests/integration/http_get.h"
#include "traffic.h"

namespace callout::tests {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
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

// Lets requests through, or none.
class Gate {
 public:
  struct Counts {
    uint64_t requests = 0;  // that have been responded to
    uint64_t mends = 0;     // of these, to /mend
  };

  void Enter() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return !closed_; });
    ++inside_;
  }
  void Leave(bool mend) {
    const std::lock_guard<std::mutex> lock(mutex_);
    --inside_;
    ++counts_.requests;
    counts_.mends += mend ? 1 : 0;
    changed_.notify_all();
  }
  // Waits until all have left.
  Counts Close() {
    std::unique_lock<std::mutex> lock(mutex_);
    closed_ = true;
    changed_.wait(lock, [this] { return inside_ == 0; });
    return counts_;
  }
  void Open() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = false;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;  // guards the following
  std::condition_variable changed_;
  bool closed_ = false;
  int inside_ = 0;
  Counts counts_;
};

// Requests one after another on one connection; each tenth goes to /mend. A version that fails
// stamps no request, which the policy lets pass.
class Client {
 public:
  Client(uint16_t port, Gate* gate)
      : gate_(gate),
        fd_(host::Connect(host::ParsedAddress(fmt::format("127.0.0.1:{}", port)))),
        reader_(fd_.get(), host::kGiveUpMs) {}

  StreamOutcome Exchange() {
    const bool mend = ++requests_ % 10 == 0;
    gate_->Enter();
    host::Write(fd_.get(), fmt::format("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", mend ? "/mend" : "/"));
    const HttpMessage response = reader_.Read();
    gate_->Leave(mend);
    StreamOutcome outcome;
    outcome.version = response.Header("x-version").value_or("none");
    const std::string seen = response.Header("x-seen").value_or("");
    const std::string mended = response.Header("x-mended-seen").value_or("");
    if (response.status != 200 || !response.complete) {
      outcome.failure = fmt::format("status {}", response.status);
    } else if (!seen.empty() && seen != outcome.version) {
      outcome.mixed = true;
      outcome.failure = fmt::format("version '{}', then '{}'", seen, outcome.version);
    } else if (mended != (mend && seen == "2" ? "yes" : "")) {
      outcome.failure = fmt::format("version '{}' has mended '{}'", seen, mended);
    }
    return outcome;
  }

 private:
  Gate* const gate_;
  const host::Descriptor fd_;
  HttpReader</*is_request=*/false> reader_;
  int requests_ = 0;
};

// What a report says of differences, without its examples.
std::vector<std::string> Picture(const nlohmann::json& report) {
  std::vector<std::string> lines;
  for (const auto& [kind, exchanges] : report["by_kind"].items()) {
    if (exchanges > 0) lines.push_back(kind);
  }
  for (const auto& one : report["commonest"]) {
    EXPECT_THAT(one["example"].get<std::string>(), HasSubstr("GET /")) << one;
    EXPECT_NE(one["request_id"], "") << one;  // Envoy gives each request one
    lines.push_back(fmt::format("{} {}: {} -> {}", one["kind"].get<std::string>(),
                                one["what"].get<std::string>(), one["before"].get<std::string>(),
                                one["after"].get<std::string>()));
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

uint64_t ExchangesWith(const nlohmann::json& report, const std::string& what) {
  for (const auto& one : report["commonest"]) {
    if (one["what"] == what) return one["exchanges"];
  }
  return 0;
}

class NewVersionBehindEnvoy : public EnvoyFixture, public ::testing::WithParamInterface<int> {
 protected:
  void SetUp() override {
    EnvoyFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    std::filesystem::create_directory(directory_.Path("records"));
    plugins_.Put("p.settings", kSettings);
    plugins_.Put("p.so", ReadFile(ReloadPlugin("version_one")));
    host_.emplace(std::vector<std::string>{"--plugins_dir=" + plugins_.path(), "--admin_writes=on",
                                           "--record_dir=" + directory_.Path("records"),
                                           fmt::format("--workers={}", GetParam()),
                                           "--state_dir=" + directory_.Path("")});
    EnvoyConfig config;
    config.backend_port = backend_.port();
    const std::string address = host_->address("plaintext");
    config.hosts["host"] = {
        static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)))};
    config.listeners.push_back({.name = "story", .filters = {ExtProc(nlohmann::json::object())}});
    envoy_.emplace(MakeBootstrap(config));
    backend_.AnswerBy([](const HttpMessage& request) {
      return BackendAnswer{.headers = {{"x-seen", request.Header("x-version").value_or("")},
                                       {"x-mended-seen", request.Header("x-mended").value_or("")}}};
    });
    traffic_.emplace(2, [this]() -> Traffic::Exchanger {
      auto client = std::make_shared<Client>(envoy_->port("story"), &gate_);
      return [client] { return client->Exchange(); };
    });
  }
  void TearDown() override {
    gate_.Open();
    EnvoyFixture::TearDown();
  }

  std::string Admin() { return host_->address("admin"); }
  void Put(const std::string& version) { plugins_.Put("p.so", ReadFile(ReloadPlugin(version))); }

  // The traffic since the last time; none of it may have failed.
  TrafficReport Take() {
    TrafficReport report = traffic_->Take();
    EXPECT_EQ(report.failed, 0u) << report.first_failure;
    return report;
  }
  // So many streams more.
  TrafficReport Streams(uint64_t count) {
    Take();
    // In steps, since each has a limit on its time.
    for (uint64_t done = 0; done < count; done += 250) {
      traffic_->AwaitStreams(std::min<uint64_t>(250, count - done));
    }
    return Take();
  }
  // Lets so many requests, and a few more, through the closed gate, and closes it again.
  Gate::Counts LetThrough(uint64_t count) {
    const Gate::Counts before = gate_.Close();
    gate_.Open();
    traffic_->AwaitStreams(count);
    const Gate::Counts after = gate_.Close();
    return {after.requests - before.requests, after.mends - before.mends};
  }

  // callout-replay with the recordings and the mended version.
  int Replay(std::vector<std::string> options, std::string* output) const {
    options.insert(options.begin(), {BuiltFile("host/callout-replay"),
                                     "--plugin=p=" + ReloadPlugin("mended"), "--json"});
    for (const auto& entry : std::filesystem::directory_iterator(directory_.Path("records"))) {
      options.push_back(entry.path().string());
    }
    ChildProcess process(std::move(options));
    const int status = process.AwaitEnd();
    *output = process.Output();
    return status;
  }
  std::string Expectation(const std::string& name, const std::string& allow) {
    WriteFile(directory_.Path(name), R"({"allow": [)" + allow + "]}");
    return "--expect=" + directory_.Path(name);
  }

  // --- The chapters.
  Gate::Counts RecordTraffic();
  nlohmann::json ReplayMended(const Gate::Counts& recorded);
  void RunInShadow(const nlohmann::json& replayed);
  void ServeAsCanary();
  void Promote();
  void RollBackByItself(const std::string& version, int withdrawn);

  host::TempDir directory_;
  PluginsDir plugins_{directory_.Path("plugins")};
  Backend backend_;
  std::optional<TestHost> host_;
  std::optional<EnvoyProcess> envoy_;
  Gate gate_;
  std::optional<Traffic> traffic_;
};

// A tap of all of it.
Gate::Counts NewVersionBehindEnvoy::RecordTraffic() {
  gate_.Close();
  EXPECT_THAT(HttpPost(Admin(), "/tap", "percent=100&seconds=3600"), StartsWith("HTTP/1.1 200 "));
  const Gate::Counts sent = LetThrough(300);
  // Envoy may end a stream after it has responded to its client.
  while (GetMetric(Admin(), "callout_record_exchanges_total{by=\"tap\"}") <
         static_cast<double>(sent.requests)) {
  }
  EXPECT_THAT(HttpPost(Admin(), "/tap", "stop=1"), StartsWith("HTTP/1.1 200 "));
  gate_.Open();
  return sent;
}

// Its stamp differs everywhere, and what it mends where it should.
nlohmann::json NewVersionBehindEnvoy::ReplayMended(const Gate::Counts& recorded) {
  constexpr char kStamp[] = R"({"kind": "header", "what": "request x-version", "after": "2"},
                               {"kind": "header", "what": "response x-version", "after": "2"})";
  constexpr char kMend[] =
      R"(, {"kind": "header", "what": "request x-mended", "before": "absent", "after": "yes"})";
  std::string output;
  EXPECT_EQ(Replay({}, &output), 1) << output;
  nlohmann::json report = nlohmann::json::parse(output)["compared"];
  EXPECT_EQ(report["exchanges"], recorded.requests);
  EXPECT_EQ(report["differing"], recorded.requests);
  EXPECT_EQ(report["by_kind"]["header"], recorded.requests);
  EXPECT_EQ(ExchangesWith(report, "request x-version"), recorded.requests);
  EXPECT_EQ(ExchangesWith(report, "request x-mended"), recorded.mends);
  EXPECT_THAT(Picture(report),
              ElementsAre("header", "header request x-mended: absent -> yes",
                          "header request x-version: 1 -> 2", "header response x-version: 1 -> 2"));
  EXPECT_GT(report["time_per_call_us"]["after"], 0);

  EXPECT_EQ(Replay({Expectation("stamp.json", kStamp)}, &output), 1) << output;
  EXPECT_EQ(nlohmann::json::parse(output)["compared"]["differing"], recorded.mends);
  EXPECT_EQ(Replay({Expectation("all.json", std::string(kStamp) + kMend)}, &output), 0) << output;
  return report;
}

void NewVersionBehindEnvoy::RunInShadow(const nlohmann::json& replayed) {
  gate_.Close();
  plugins_.Put("q.settings", R"({"mode": "shadow", "instead_of": "p"})");
  plugins_.Put("q.so", ReadFile(ReloadPlugin("mended")));
  host_->AwaitLog("plugin q: generation 1 of ");
  const Gate::Counts sent = LetThrough(200);
  nlohmann::json report;
  do {
    const nlohmann::json page = GetPage(Admin(), "/shadow");
    if (!page["shadows"].empty()) report = page["shadows"][0];
  } while (report.is_null() || report["exchanges"] < sent.requests);
  EXPECT_EQ(report["exchanges"], sent.requests);
  EXPECT_EQ(report["differing"], sent.requests) << report.dump(1);
  EXPECT_EQ(ExchangesWith(report, "request x-mended"), sent.mends) << report.dump(1);
  EXPECT_EQ(GetMetric(Admin(), "callout_shadow_differences_total{kind=\"header\",plugin=\"q\"}"),
            sent.requests);
  // Exactly where the replay said, and told in the same way.
  EXPECT_EQ(Picture(report), Picture(replayed));
  for (const auto& [member, value] : replayed.items())
    EXPECT_TRUE(report.contains(member)) << member;
  EXPECT_GT(report["time_per_call_us"]["before"], 0);
  EXPECT_GT(report["time_per_call_us"]["after"], 0);
  EXPECT_THAT(GetFrontPage(Admin()), AllOf(HasSubstr("header request x-mended"),
                                           HasSubstr("By kind: header "), HasSubstr("GET /mend")));
  gate_.Open();
  // It goes while there is traffic for it.
  plugins_.Remove("q.so");
  plugins_.Remove("q.settings");
  host_->AwaitLog("plugin q: " + plugins_.Path("q.so") + " is gone");
  Streams(50);
}

void NewVersionBehindEnvoy::ServeAsCanary() {
  Put("mended");
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
}

void NewVersionBehindEnvoy::Promote() {
  EXPECT_THAT(HttpPost(Admin(), "/actions/promote", "plugin=p"), StartsWith("HTTP/1.1 200 "));
  traffic_->AwaitOlderStreams();
  const TrafficReport all = Streams(1000);
  EXPECT_EQ(all.by_version.at("2"), all.streams);
}

// `withdrawn` versions were before.
void NewVersionBehindEnvoy::RollBackByItself(const std::string& version, int withdrawn) {
  SCOPED_TRACE(version);
  constexpr char kWithdrawn[] = "callout_reloads_total{outcome=\"withdrawn\",plugin=\"p\"}";
  Put(version);
  while (GetMetric(Admin(), kWithdrawn) <= withdrawn) traffic_->AwaitStreams(1);
  traffic_->AwaitOlderStreams();
  const TrafficReport after = Streams(500);
  EXPECT_EQ(after.by_version.at("2"), after.streams);
  EXPECT_EQ(GetMetric(Admin(), kWithdrawn), withdrawn + 1);
}

INSTANTIATE_TEST_SUITE_P(Workers, NewVersionBehindEnvoy, ::testing::Values(0, 2));

TEST_P(NewVersionBehindEnvoy, IsTriedOnLiveTrafficBeforeItDecidesAboutIt) {
  const Gate::Counts recorded = RecordTraffic();
  ASSERT_GE(recorded.mends, 20u);
  const nlohmann::json replayed = ReplayMended(recorded);
  RunInShadow(replayed);
  ServeAsCanary();
  Promote();
  RollBackByItself("failing", 0);
  // The second fault of a process is one too many; others may be on their way.
  EXPECT_LE(GetMetric(Admin(), "callout_plugin_faults_total{kind=\"error_status\",plugin=\"p\"}"),
            20);
  EXPECT_THAT(host_->Log(), HasSubstr("was withdrawn as a canary"));
  RollBackByItself("slow", 1);
  EXPECT_THAT(host_->Log(), HasSubstr("over max_p99_ms=300"));
  Take();
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

// While one replaces the other, for example.
TEST_P(WithdrawnOverARestart, HostsThatShareADirectoryForgetNothing) {
  const PluginsDir others(directory_.Path("others"));
  const auto options = [&](const PluginsDir& plugins) {
    return std::vector<std::string>{"--plugins_dir=" + plugins.path(), "--admin_writes=on",
                                    fmt::format("--workers={}", GetParam()),
                                    "--state_dir=" + directory_.Path("")};
  };
  const auto withdraw = [](TestHost* host, PluginsDir plugins, const std::string& name) {
    plugins.Put(name + ".so", ReadFile(ReloadPlugin("version_two")));
    host->AwaitLog("plugin " + name + ": generation 2 of ");
    EXPECT_THAT(HttpPost(host->address("admin"), "/actions/go_back", "plugin=" + name),
                StartsWith("HTTP/1.1 200 "));
  };
  plugins_.Put("p.so", ReadFile(ReloadPlugin("version_one")));
  PluginsDir(others).Put("q.so", ReadFile(ReloadPlugin("version_one")));
  {
    TestHost one(options(plugins_)), other(options(others));
    withdraw(&one, plugins_, "p");
    withdraw(&other, others, "q");
    EXPECT_EQ(one.Terminate(), 0);
    EXPECT_EQ(other.Terminate(), 0);
  }
  TestHost one(options(plugins_)), other(options(others));
  EXPECT_THAT(GetPlugin(one.address("admin"), "p")["last_error"].dump(),
              HasSubstr("withdrawn before this"));
  EXPECT_THAT(GetPlugin(other.address("admin"), "q")["last_error"].dump(),
              HasSubstr("withdrawn before this"));
}

}  // namespace
}  // namespace callout::tests
