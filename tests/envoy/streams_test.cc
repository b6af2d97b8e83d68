// SPDX-License-Identifier: Apache-2.0

// Streams as a whole behind Envoy: headers that wait for a body, early ends, bodies
// whose end Envoy does not show, and overrides that it ignores.
#include <gmock/gmock.h>

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "backend.h"
#include "client.h"
#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "envoy_config.h"
#include "envoy_fixture.h"
#include "host_process.h"
#include "plugins/scripted.h"

namespace callout::tests {
namespace {

using ext_proc = envoy::service::ext_proc::v3::ProcessingResponse;
using nlohmann::json;
using Mode = envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;

constexpr char kTestId[] = "1";

// A file with the settings of an instance.
class SettingsFile {
 public:
  explicit SettingsFile(const std::string& json) {
    char path[] = "/tmp/callout-settings-XXXXXX";
    const int fd = mkstemp(path);
    if (fd >= 0) close(fd);
    path_ = path;
    std::ofstream(path_) << json;
  }
  ~SettingsFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::vector<std::string> Options(const std::string& settings_path,
                                 const std::vector<std::string>& more = {}) {
  std::vector<std::string> options = {"--plugin=" + BuiltFile("tests/envoy/plugins/scripted.so"),
                                      "--plugin_settings=scripted=@" + settings_path};
  options.insert(options.end(), more.begin(), more.end());
  return options;
}

struct Processes {
  Processes();
  void Add(const std::string& name, const json& modes, const std::string& host,
           bool allow_override = false) {
    config.listeners.push_back(
        {.name = name,
         .filters = {ExtProc({{"processing_mode", modes}, {"allow_mode_override", allow_override}},
                             host)}});
  }

  SettingsFile whole_settings{R"({"whole_body_bytes_max": 100000})"};
  SettingsFile no_settings{"{}"};
  Backend backend;
  HostProcess whole{Options(whole_settings.path())};
  HostProcess headers{Options(no_settings.path(), {"--plugin_config=scripted=headers"})};
  HostProcess staying{
      Options(no_settings.path(), {"--plugin_config=scripted=headers", "--early_end=off"})};
  HostProcess pruning{Options(
      no_settings.path(), {"--plugin_config=scripted=headers", "--envoy_mode_override=allowed"})};
  HostProcess asking_for_all{
      Options(no_settings.path(), {"--plugin_config=scripted=headers",
                                   "--envoy_mode_override=allowed", "--phase_pruning=off"})};
  EnvoyConfig config;
  std::unique_ptr<EnvoyProcess> envoy;
};

Processes::Processes() {
  config.backend_port = backend.port();
  config.hosts = {{"whole", {whole.port("plaintext")}},
                  {"headers", {headers.port("plaintext")}},
                  {"staying", {staying.port("plaintext")}},
                  {"pruning", {pruning.port("plaintext")}},
                  {"asking_for_all", {asking_for_all.port("plaintext")}}};
  Add("duplex",
      {{"request_body_mode", "FULL_DUPLEX_STREAMED"},
       {"request_trailer_mode", "SEND"},
       {"response_body_mode", "FULL_DUPLEX_STREAMED"},
       {"response_trailer_mode", "SEND"}},
      "whole");
  Add("skip", {{"request_body_mode", "STREAMED"}, {"response_body_mode", "STREAMED"}}, "whole");
  Add("override", {{"request_body_mode", "STREAMED"}}, "whole", true);
  Add("ignored", {{"request_body_mode", "STREAMED"}}, "whole", false);
  const json all = {{"request_body_mode", "STREAMED"}, {"response_body_mode", "STREAMED"}};
  Add("early", all, "headers");
  Add("late", all, "staying");
  const json with_trailers = {{"request_body_mode", "STREAMED"},
                              {"request_trailer_mode", "SEND"},
                              {"response_body_mode", "BUFFERED"},
                              {"response_trailer_mode", "SEND"}};
  Add("pruned", with_trailers, "pruning", true);
  Add("unpruned", with_trailers, "asking_for_all", true);
  envoy = std::make_unique<EnvoyProcess>(MakeBootstrap(config));
}

class StreamsTest : public EnvoyFixture {
 protected:
  static void SetUpTestSuite() {
    if (EnvoyProcess::Available()) processes_ = std::make_unique<Processes>();
  }
  static void TearDownTestSuite() { processes_.reset(); }

  void SetUp() override {
    EnvoyFixture::SetUp();
    if (processes_ != nullptr) processes_->backend.Answer({.body = {.pieces = {"answered"}}});
  }
  void TearDown() override {
    if (processes_ == nullptr) return;
    for (const auto& [name, value] :
         processes_->envoy->CountersEndingWith(".spurious_msgs_received")) {
      EXPECT_EQ(value, 0u) << name;
    }
  }

  HttpMessage Send(const std::string& listener, HttpFields headers, HttpBody body = {}) {
    headers.emplace_back(kTestIdHeader, kTestId);
    const HttpMessage response = Exchange(
        processes_->envoy->port(listener),
        {.method = body.pieces.empty() ? "GET" : "POST", .headers = headers, .body = body});
    received_ = processes_->backend.TakeRequest(kTestId);
    return response;
  }
  // Sends a request in chunks, whose headers the plugin changes, as those of the response.
  void ExpectAllArrives(const std::string& listener) {
    const HttpMessage response =
        Send(listener, {{"x-do-request-headers", "header"}, {"x-do-response-headers", "header"}},
             chunks_);
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, "onetwo");
    EXPECT_EQ(response.Header(std::string(kChangedHeader)), "response-headers");
    ASSERT_TRUE(received_.has_value());
    EXPECT_EQ(received_->body, "one two three");
    EXPECT_EQ(received_->Header(std::string(kChangedHeader)), "request-headers");
  }
  uint64_t Answered(const std::string& listener) {
    return processes_->envoy->Counter("http." + listener + ".ext_proc.stream_msgs_received");
  }

  static std::unique_ptr<Processes> processes_;
  const HttpBody chunks_ = {.pieces = {"one ", "two ", "three"}, .chunked = true};
  std::optional<HttpMessage> received_;
};

std::unique_ptr<Processes> StreamsTest::processes_;

TEST_F(StreamsTest, InDuplexABodyHookChangesTheHeaders) {
  for (const HttpBody& body :
       {chunks_, HttpBody{.pieces = {"with trailers"}, .chunked = true, .trailers = {{"t", "1"}}},
        HttpBody{.pieces = {"a known length"}}}) {
    processes_->backend.Answer({.body = body});
    const HttpMessage response =
        Send("duplex", {{"x-do-request-body", "header"}, {"x-do-response-body", "header"}}, body);
    EXPECT_EQ(response.status, 200) << ::testing::PrintToString(response);
    EXPECT_TRUE(response.complete);
    EXPECT_EQ(response.Header(std::string(kChangedHeader)), "response-body");
    ASSERT_TRUE(received_.has_value());
    EXPECT_EQ(received_->Header(std::string(kChangedHeader)), "request-body");
    EXPECT_EQ(received_->body, response.body);
  }
}

TEST_F(StreamsTest, InDuplexABodyOverTheLimitIsRefused) {
  const HttpMessage response =
      Send("duplex", {}, {.pieces = {std::string(3000000, 'x')}, .chunked = true});
  EXPECT_EQ(response.status, 413);
  EXPECT_FALSE(received_.has_value());
}

TEST_F(StreamsTest, ABodyThatTrailersEndUnseenIsNeverLostInSilence) {
  // Of a request, whose loss the response shows.
  HttpMessage response =
      Send("skip", {}, {.pieces = {"one", "two"}, .chunked = true, .trailers = {{"t", "1"}}});
  EXPECT_EQ(response.status, 500);
  // Of a response, which its headers tell.
  processes_->backend.Answer(
      {.headers = {{"content-type", "application/grpc"}},
       .body = {.pieces = {"one", "two"}, .chunked = true, .trailers = {{"grpc-status", "0"}}}});
  response = Send("skip", {});
  EXPECT_EQ(response.status, 500);
  // Without trailers the body comes whole.
  processes_->backend.Answer({.body = chunks_});
  response = Send("skip", {{"x-do-response-body", "upper"}}, chunks_);
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "ONE TWO THREE");
}

TEST_F(StreamsTest, AnOverrideWorksWhetherEnvoyObeysOrNot) {
  ext_proc asks;
  asks.mutable_request_headers();
  asks.mutable_mode_override()->set_request_body_mode(Mode::BUFFERED);
  const std::string answer = absl::BytesToHexString(asks.SerializeAsString());
  for (const std::string listener : {"override", "ignored"}) {
    SCOPED_TRACE(listener);
    const HttpMessage response = Send(
        listener, {{"x-answer-request-headers", answer}, {"x-do-request-body", "longer"}}, chunks_);
    EXPECT_EQ(response.status, 200) << ::testing::PrintToString(response);
    ASSERT_TRUE(received_.has_value());
    EXPECT_EQ(received_->body, "one two three" + std::string(kLonger));
  }
}

TEST_F(StreamsTest, AnEarlyEndLosesNothingAndSavesMessages) {
  processes_->backend.Answer(
      {.body = {.pieces = {"one", "two"}, .chunked = true, .trailers = {{"t", "1"}}}});
  const std::string replies[] = {"early", "late"};
  uint64_t answered[2] = {};
  for (size_t i = 0; i < 2; ++i) {
    // Without a request body, whose chunks come together or apart.
    const uint64_t before = Answered(replies[i]);
    EXPECT_EQ(Send(replies[i], {}).body, "onetwo");
    answered[i] = Answered(replies[i]) - before;
    ExpectAllArrives(replies[i]);
  }
  EXPECT_EQ(answered[0], 2u);
  EXPECT_GT(answered[1], 2u);
}

TEST_F(StreamsTest, PhasesThatNobodyWantsAreNotSentAndLoseNothing) {
  processes_->backend.Answer(
      {.body = {.pieces = {"one", "two"}, .chunked = true, .trailers = {{"t", "1"}}}});
  std::map<std::string, uint64_t> answered;
  for (const std::string listener : {"pruned", "unpruned"}) {
    SCOPED_TRACE(listener);
    const uint64_t before = Answered(listener);
    ExpectAllArrives(listener);
    answered[listener] = Answered(listener) - before;
  }
  EXPECT_EQ(answered["pruned"], 2u);
  EXPECT_GT(answered["unpruned"], 2u);
}

}  // namespace
}  // namespace callout::tests
