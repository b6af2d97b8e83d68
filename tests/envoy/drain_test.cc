// SPDX-License-Identifier: Apache-2.0

// Hosts that drain behind Envoy: what becomes of streams that still run when the time is
// up, and replicas that are replaced one after the other under load.
#include <gmock/gmock.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backend.h"
#include "client.h"
#include "envoy_config.h"
#include "envoy_fixture.h"
#include "host_process.h"
#include "plugins/scripted.h"

namespace callout::tests {
namespace {

using nlohmann::json;

constexpr char kLong[] = "/long";
constexpr char kRest[] = "event 2 event 3 event 4 ";
constexpr char kWhole[] = "event 1 event 2 event 3 event 4 ";

// A response of which only the first event comes, until `released`.
BackendAnswer LongAnswer(const std::atomic<bool>* released) {
  const std::string rest = kRest;
  return {.headers = {{"content-type", "text/event-stream"}},
          .body = {.pieces = {"event 1 ", rest.substr(0, 8), rest.substr(8)},
                   .chunked = true,
                   .may_send = [released, calls = std::make_shared<bool>()](size_t) {
                     return !std::exchange(*calls, true) || released->load();
                   }}};
}

// Reads a response in a thread of its own, and tells when its headers have come.
class LongRequest {
 public:
  LongRequest(uint16_t port, HttpFields headers) {
    thread_ = std::thread([this, port, headers = std::move(headers)] {
      const host::Descriptor connection =
          host::Connect(host::ParsedAddress(absl::StrCat("127.0.0.1:", port)));
      HttpFields all = {{"host", "client.example"}};
      all.insert(all.end(), headers.begin(), headers.end());
      SendMessage(connection.get(), absl::StrCat("GET ", kLong, " HTTP/1.1"), all, {},
                  /*omit_empty=*/true);
      response_ =
          HttpReader<false>(connection.get(), 2 * host::kGiveUpMs).Read([this](const HttpMessage&) {
            has_headers_.Update([](bool& has) { has = true; });
          });
    });
  }
  ~LongRequest() {
    if (thread_.joinable()) thread_.join();
  }
  LongRequest(const LongRequest&) = delete;
  LongRequest& operator=(const LongRequest&) = delete;

  [[nodiscard]] bool AwaitHeaders() {
    return has_headers_.Await([](bool has) { return has; });
  }
  const HttpMessage& Await() {
    if (thread_.joinable()) thread_.join();
    return response_;
  }

 private:
  host::Watched<bool> has_headers_;
  HttpMessage response_;
  std::thread thread_;
};

// The settings "drain" of the plugin.
std::string SettingsOption(const host::TempDir& directory, const std::string& drain) {
  const std::string path = directory.Path(drain + ".json");
  std::ofstream(path) << json{{"drain", drain}}.dump();
  return "--plugin_settings=scripted=@" + path;
}

double Metric(HostProcess* host, const std::string& name) {
  const std::string text =
      Exchange(host->port("admin"), {.target = "/metrics", .headers = {{"host", "localhost"}}})
          .body;
  const size_t at = text.find("\n" + name + " ");
  return at == std::string::npos ? -1 : strtod(text.c_str() + at + name.size() + 2, nullptr);
}

// --- One host -------------------------------------------------------------------

struct DrainRow {
  const char* mode;  // of the response's body
  const char* drain;
  bool complete;  // the client gets all of it
};

class DrainTest : public EnvoyFixture {};

TEST_F(DrainTest, WhatOwesNothingGoesOnWithoutTheHost) {
  const DrainRow rows[] = {
      {"NONE", "pass", true},
      {"STREAMED", "pass", true},
      {"BUFFERED", "pass", true},
      {"BUFFERED_PARTIAL", "pass", true},
      {"STREAMED", "fail", false},
      // What Envoy has sent unasked would be lost.
      {"FULL_DUPLEX_STREAMED", "pass", false},
  };
  host::TempDir directory;
  std::atomic<bool> released{false};
  Backend backend;
  EnvoyConfig config;
  config.backend_port = backend.port();
  std::vector<std::unique_ptr<HostProcess>> hosts;
  for (const DrainRow& row : rows) {
    const std::string name = absl::StrCat(row.mode, "_", row.drain);
    hosts.push_back(std::make_unique<HostProcess>(
        std::vector<std::string>{"--plugin=" + BuiltFile("tests/envoy/plugins/scripted.so"),
                                 SettingsOption(directory, row.drain), "--drain_timeout_ms=300"}));
    config.hosts[name] = {hosts.back()->port("plaintext")};
    json modes = {{"response_body_mode", row.mode}};
    if (std::string(row.mode) == "FULL_DUPLEX_STREAMED") modes["response_trailer_mode"] = "SEND";
    config.listeners.push_back(
        {.name = name, .filters = {ExtProc({{"processing_mode", modes}}, name)}});
  }
  EnvoyProcess envoy(MakeBootstrap(config));
  for (size_t i = 0; i < hosts.size(); ++i) {
    const std::string& name = config.listeners[i].name;
    SCOPED_TRACE(name);
    released = false;
    backend.AnswerBy([&released](const HttpMessage&) { return LongAnswer(&released); });
    LongRequest request(envoy.port(name), {});
    // The host has seen the headers of the response, and, in chunks, the first event.
    const bool chunks = absl::EndsWith(rows[i].mode, "STREAMED");
    EXPECT_TRUE(
        Poll([&] { return Metric(hosts[i].get(), "callout_messages_total") >= (chunks ? 3 : 2); }));
    EXPECT_EQ(hosts[i]->Terminate(), 0) << hosts[i]->Output();
    released = true;
    const HttpMessage& response = request.Await();
    EXPECT_EQ(response.complete, rows[i].complete) << ::testing::PrintToString(response);
    if (rows[i].complete) {
      EXPECT_EQ(response.status, 200);
      EXPECT_EQ(response.body, kWhole);
    }
  }
  for (const auto& [name, value] : envoy.CountersEndingWith(".spurious_msgs_received")) {
    EXPECT_EQ(value, 0u) << name;
  }
}

// --- Replicas ---------------------------------------------------------------------

constexpr size_t kReplicas = 3;

json Local(uint16_t port) {
  return {{"socket_address", {{"address", "127.0.0.1"}, {"port_value", port}}}};
}

// The cluster of the replicas as docs/operations.md has it: Envoy asks each for its
// health, and tries another one only where no plugin can have seen the request.
void MakeReplicas(json* bootstrap, const std::vector<std::unique_ptr<HostProcess>>& hosts) {
  for (json& cluster : (*bootstrap)["static_resources"]["clusters"]) {
    if (cluster["name"] != "replicas") continue;
    json endpoints = json::array();
    for (const auto& host : hosts) {
      endpoints.push_back({{"endpoint",
                            {{"address", Local(host->port("plaintext"))},
                             {"health_check_config", {{"port_value", host->port("health")}}}}}});
    }
    cluster["load_assignment"]["endpoints"] = json::array({{{"lb_endpoints", endpoints}}});
    cluster["health_checks"] = json::array({{{"timeout", "5s"},
                                             {"interval", "0.1s"},
                                             {"no_traffic_interval", "0.1s"},
                                             {"unhealthy_threshold", 3},
                                             {"healthy_threshold", 1},
                                             {"http_health_check", {{"path", "/"}}}}});
    // Envoy's default is 3 at a time, in all of the cluster.
    cluster["circuit_breakers"] = {{"thresholds", json::array({{{"max_retries", 100}}})}};
    cluster["outlier_detection"] = {{"split_external_local_origin_errors", true},
                                    {"consecutive_local_origin_failure", 3},
                                    {"base_ejection_time", "1s"}};
  }
}

uint64_t HealthyReplicas(const EnvoyProcess& envoy) {
  const json stats = json::parse(
      Exchange(envoy.admin_port(),
               {.target = "/stats?format=json&filter=cluster.replicas.membership_healthy$"})
          .body);
  for (const json& stat : stats["stats"]) {
    if (stat.contains("value")) return stat["value"];
  }
  return 0;
}

class ReplicasTest : public EnvoyFixture {
 protected:
  static std::unique_ptr<HostProcess> Start(const std::string& settings,
                                            const std::vector<std::string>& addresses) {
    std::vector<std::string> options = {"--plugin=" + BuiltFile("tests/envoy/plugins/scripted.so"),
                                        settings, "--drain_delay_ms=3000",
                                        "--drain_timeout_ms=1000"};
    options.insert(options.end(), addresses.begin(), addresses.end());
    return std::make_unique<HostProcess>(options);
  }
};

// Sends requests until it is told to stop, and counts those that went wrong: without
// 200, cut off, or without what the plugin does to each of their parts.
class Load {
 public:
  explicit Load(uint16_t port) {
    for (int i = 0; i < 4; ++i) threads_.emplace_back([this, port] { Run(port); });
  }
  ~Load() { Stop(); }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  void Stop() {
    stopped_ = true;
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }
  int sent() const { return sent_; }
  int failed() const { return failed_; }
  std::string first_failure() { return first_failure_.Get(); }

 private:
  void Run(uint16_t port) {
    const HttpBody body = {.pieces = {"one ", "two ", "three"}, .chunked = true};
    const std::string changed(kChangedHeader);
    while (!stopped_) {
      const HttpMessage response = Exchange(
          port, {.method = "POST",
                 .headers = {{"x-do-request-body", "upper"}, {"x-do-response-headers", "header"}},
                 .body = body});
      ++sent_;
      if (response.status == 200 && response.complete && response.body == "ONE TWO THREE" &&
          response.Header(changed) == "response-headers") {
        continue;
      }
      ++failed_;
      first_failure_.Update([&](std::string& text) {
        if (text.empty()) text = ::testing::PrintToString(response);
      });
    }
  }

  std::atomic<bool> stopped_{false};
  std::atomic<int> sent_{0}, failed_{0};
  host::Watched<std::string> first_failure_;
  std::vector<std::thread> threads_;
};

TEST_F(ReplicasTest, ReplacedOneAfterTheOtherFailNoRequest) {
  host::TempDir directory;
  const std::string settings = SettingsOption(directory, "pass");
  std::vector<std::unique_ptr<HostProcess>> hosts;
  for (size_t i = 0; i < kReplicas; ++i) hosts.push_back(Start(settings, {}));
  std::atomic<bool> released{false};
  Backend backend;
  backend.AnswerBy([&released](const HttpMessage& request) {
    if (request.target == kLong) return LongAnswer(&released);
    return BackendAnswer{.body = {.pieces = {request.body}}};
  });
  EnvoyConfig config;
  config.backend_port = backend.port();
  config.hosts = {{"replicas", {}}};
  const json modes = {{"request_body_mode", "STREAMED"}, {"response_body_mode", "STREAMED"}};
  json filter = ExtProc({{"processing_mode", modes}}, "replicas");
  filter["grpc_service"]["retry_policy"] = {
      {"retry_on", "connect-failure,reset-before-request,refused-stream"}, {"num_retries", 2}};
  config.listeners.push_back({.name = "front", .filters = {filter}});
  json bootstrap = MakeBootstrap(config);
  MakeReplicas(&bootstrap, hosts);
  EnvoyProcess envoy(bootstrap);
  ASSERT_TRUE(Poll([&] { return HealthyReplicas(envoy) == kReplicas; }));

  Load load(envoy.port("front"));
  for (size_t i = 0; i < kReplicas; ++i) {
    SCOPED_TRACE(absl::StrCat("replica ", i));
    released = false;
    // So many that each replica has some, whose responses last until it has gone.
    std::vector<std::unique_ptr<LongRequest>> requests;
    for (size_t n = 0; n < 4 * kReplicas; ++n) {
      requests.push_back(std::make_unique<LongRequest>(
          envoy.port("front"), HttpFields{{"x-do-response-headers", "header"}}));
    }
    for (const auto& request : requests) ASSERT_TRUE(request->AwaitHeaders());
    EXPECT_GT(Metric(hosts[i].get(), "callout_messages_total"), 0);
    const std::vector<std::string> addresses = {
        absl::StrCat("--plaintext_address=127.0.0.1:", hosts[i]->port("plaintext")),
        absl::StrCat("--health_check_address=127.0.0.1:", hosts[i]->port("health"))};
    const int sent_before = load.sent();
    EXPECT_EQ(hosts[i]->Terminate(), 0) << hosts[i]->Output();
    EXPECT_GT(load.sent(), sent_before);
    released = true;
    for (const auto& request : requests) {
      const HttpMessage& response = request->Await();
      EXPECT_TRUE(response.complete && response.status == 200 && response.body == kWhole &&
                  response.Header(std::string(kChangedHeader)) == "response-headers")
          << ::testing::PrintToString(response);
    }
    hosts[i] = Start(settings, addresses);
    EXPECT_TRUE(Poll([&] { return HealthyReplicas(envoy) == kReplicas; }));
    // It serves again.
    EXPECT_TRUE(Poll([&] { return Metric(hosts[i].get(), "callout_messages_total") > 0; }));
  }
  load.Stop();
  printf("%d requests, %d failed\n", load.sent(), load.failed());
  EXPECT_EQ(load.failed(), 0) << load.first_failure() << envoy.Output();
  EXPECT_EQ(envoy.Counter("http.front.ext_proc.spurious_msgs_received"), 0u);
}

}  // namespace
}  // namespace callout::tests
