// SPDX-License-Identifier: Apache-2.0

// A story behind a real Envoy: live traffic is recorded, and replayed through the same version of
// the plugin and through another one.
#include <gmock/gmock.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "backend.h"
#include "client.h"
#include "envoy_config.h"
#include "envoy_fixture.h"
#include "host_process.h"

namespace callout::tests {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kSecret[] = "secret-of-the-client";

std::string Stamp(int version) {
  return BuiltFile("tests/replay/stamp" + std::to_string(version) + ".so");
}

class EnvoyReplay : public EnvoyFixture {
 protected:
  void Start(std::vector<std::string> options) {
    options.push_back("--plugin=" + Stamp(1));
    options.push_back("--record=" + Recording());
    host_ = std::make_unique<HostProcess>(options);
    EnvoyConfig config;
    config.backend_port = backend_.port();
    config.hosts["host"] = {host_->port("plaintext")};
    for (const char* mode : {"BUFFERED", "STREAMED"}) {
      const json processing = {{"request_body_mode", mode}, {"response_body_mode", mode}};
      config.listeners.push_back(
          {.name = mode,
           .filters = {ExtProc({{"processing_mode", processing},
                                {"request_attributes", {"request.headers", "request.path"}}})}});
    }
    envoy_.emplace(MakeBootstrap(config));
    backend_.Answer({.headers = {{"set-cookie", std::string("sid=") + kSecret}},
                     .body = {.pieces = {"from the backend"}}});
  }

  // 5 GETs and 3 POSTs, of which one each is a guest's, on each listener.
  void SendTraffic() {
    int id = 0;
    for (const char* listener : {"BUFFERED", "STREAMED"}) {
      for (int i = 0; i < 8; ++i) {
        const bool post = i >= 5;
        const HttpFields headers = {{kTestIdHeader, std::to_string(++id)},
                                    {"authorization", std::string("Bearer ") + kSecret},
                                    {"x-role", i == 0 || i == 7 ? "guest" : "member"}};
        ClientRequest request{.method = post ? "POST" : "GET",
                              .target = std::string("/path?q=") + kSecret,
                              .headers = headers};
        if (post) request.body = {.pieces = {"sent by the client"}};
        const HttpMessage response = Exchange(envoy_->port(listener), request);
        EXPECT_EQ(response.status, 200);
        const auto received = backend_.TakeRequest(std::to_string(id));
        ASSERT_TRUE(received.has_value());
        EXPECT_EQ(received->Header("x-version"), "1");
      }
    }
  }

  // Ends the host, so that the recording is complete.
  void EndHost() { EXPECT_EQ(host_->Terminate(), 0); }

  std::string Recording() const { return directory_.Path("live.rec"); }
  std::string Read(const std::string& path) const {
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
  int Replay(std::vector<std::string> options, std::string* output) const {
    options.insert(options.begin(), BuiltFile("host/callout-replay"));
    ChildProcess process(std::move(options));
    const int status = process.AwaitEnd();
    *output = process.Output();
    return status;
  }

  Backend backend_;
  host::TempDir directory_;
  std::unique_ptr<HostProcess> host_;
  std::optional<EnvoyProcess> envoy_;
};

TEST_F(EnvoyReplay, TheSameVersionHasNoDifferencesAndAnotherOneExactlyItsOwn) {
  if (IsSkipped()) return;
  Start({"--record_bodies=on"});
  SendTraffic();
  EndHost();
  const std::string recording = Read(Recording());
  EXPECT_THAT(recording, Not(HasSubstr(kSecret)));
  EXPECT_THAT(recording, HasSubstr("sent by the client"));

  std::string output;
  EXPECT_EQ(Replay({Recording(), "--plugin=" + Stamp(1)}, &output), 0) << output;
  EXPECT_THAT(output, HasSubstr("0 of 16 exchanges differ"));

  EXPECT_EQ(Replay({Recording(), "--plugin=" + Stamp(2), "--json"}, &output), 1) << output;
  const json report = json::parse(output)["compared"];
  EXPECT_EQ(report["differing"], 16);
  EXPECT_EQ(report["by_kind"]["status"], 4) << output;
  EXPECT_EQ(report["by_kind"]["header"], 12) << output;
  EXPECT_EQ(report["by_kind"]["body"], 4) << output;
  for (const char* kind : {"metadata", "mode", "trailers", "error"}) {
    EXPECT_EQ(report["by_kind"][kind], 0) << kind;
  }
  EXPECT_EQ(report["commonest"].size(), 3u) << output;

  const std::string cases = directory_.Path("cases");
  EXPECT_EQ(Replay({Recording(), "--plugin=" + Stamp(1), "--cases=" + cases}, &output), 0)
      << output;
  ChildProcess tester({BuiltFile("host/callout-test"), cases});
  EXPECT_EQ(tester.AwaitEnd(), 0) << tester.Output();
  EXPECT_EQ(tester.Output(), "16 passed, 0 failed\n");
}

TEST_F(EnvoyReplay, WithoutBodiesTheSameVersionHasNoDifferencesEither) {
  if (IsSkipped()) return;
  Start({});
  SendTraffic();
  EndHost();
  const std::string recording = Read(Recording());
  for (const char* secret : {kSecret, "sent by the client", "from the backend", "first body"}) {
    EXPECT_THAT(recording, Not(HasSubstr(secret)));
  }
  std::string output;
  EXPECT_EQ(Replay({Recording(), "--plugin=" + Stamp(1)}, &output), 0) << output;
  EXPECT_THAT(output, HasSubstr("0 of 16 exchanges differ"));
  EXPECT_EQ(Replay({Recording(), "--plugin=" + Stamp(2), "--json"}, &output), 1) << output;
  const json report = json::parse(output);
  EXPECT_EQ(report["compared"]["by_kind"]["body"], 0) << output;
  EXPECT_EQ(report["compared"]["by_kind"]["status"], 4) << output;
  EXPECT_EQ(report["bodies_unknown"], 16) << output;
}

// Every worker writes a file of its own.
TEST_F(EnvoyReplay, WorksWithWorkers) {
  if (IsSkipped()) return;
  Start({"--workers=2", "--record_bodies=on"});
  SendTraffic();
  EndHost();
  std::string output;
  EXPECT_EQ(Replay({Recording() + ".w1", Recording() + ".w2", "--plugin=" + Stamp(1)}, &output), 0)
      << output;
  EXPECT_THAT(output, HasSubstr("0 of 16 exchanges differ"));
}

// The disk is full from the first byte on.
TEST_F(EnvoyReplay, AFullDiskDisturbsNoRequest) {
  if (IsSkipped()) return;
  host_ = std::make_unique<HostProcess>(
      std::vector<std::string>{"--plugin=" + Stamp(1), "--record=/dev/full"});
  EnvoyConfig config;
  config.backend_port = backend_.port();
  config.hosts["host"] = {host_->port("plaintext")};
  config.listeners.push_back({.name = "headers", .filters = {ExtProc(json::object())}});
  envoy_.emplace(MakeBootstrap(config));
  for (int i = 0; i < 20; ++i) {
    const HttpMessage response =
        Exchange(envoy_->port("headers"), {.headers = {{kTestIdHeader, "1"}}});
    EXPECT_EQ(response.status, 200);
  }
  EXPECT_EQ(host_->Terminate(), 0);
  EXPECT_THAT(host_->Output(), HasSubstr("cannot write to /dev/full: No space left on device"));
}

}  // namespace
}  // namespace callout::tests
