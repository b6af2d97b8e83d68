// SPDX-License-Identifier: Apache-2.0

// What client and backend see of plugins that answer rightly, oddly, wrongly or
// not at all: Envoy's own limits, mode overrides, replaced messages, illegal
// answers, failing hooks under each policy. No answer of a wrong form reaches
// Envoy, and no body arrives with a hole behind a 200.
#include <gmock/gmock.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
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
using ::testing::ElementsAre;

constexpr char kTestId[] = "1";

// x-answer-PHASE: the answer that `fill` makes.
std::pair<std::string, std::string> Answer(const std::string& phase,
                                           const std::function<void(ext_proc*)>& fill) {
  ext_proc answer;
  fill(&answer);
  return {"x-answer-" + phase, absl::BytesToHexString(answer.SerializeAsString())};
}

json Modes(const std::string& request, const std::string& response) {
  json modes = {{"request_body_mode", request}, {"response_body_mode", response}};
  if (request == "FULL_DUPLEX_STREAMED") modes["request_trailer_mode"] = "SEND";
  if (response == "FULL_DUPLEX_STREAMED") modes["response_trailer_mode"] = "SEND";
  return modes;
}

std::vector<std::string> HostOptions(const std::vector<std::string>& more) {
  std::vector<std::string> options = {"--plugin=" + BuiltFile("tests/envoy/plugins/scripted.so")};
  options.insert(options.end(), more.begin(), more.end());
  return options;
}

struct Processes {
  Processes();
  void Add(const std::string& name, const json& settings, const std::string& host);

  Backend backend;
  HostProcess plain{HostOptions({})};
  HostProcess lenient{HostOptions({"--on_plugin_error=scripted=continue"})};
  HostProcess denying{HostOptions({"--on_plugin_error=scripted=deny:503"})};
  EnvoyConfig config;
  std::unique_ptr<EnvoyProcess> envoy;
};

void Processes::Add(const std::string& name, const json& settings, const std::string& host) {
  config.listeners.push_back({.name = name, .filters = {ExtProc(settings, host)}});
}

Processes::Processes() {
  config.backend_port = backend.port();
  config.hosts = {{"plain", {plain.port("plaintext")}},
                  {"lenient", {lenient.port("plaintext")}},
                  {"denying", {denying.port("plaintext")}}};
  for (const char* mode :
       {"NONE", "STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED"}) {
    for (const auto& [host, _] : config.hosts) {
      Add(absl::StrCat(host, mode), {{"processing_mode", Modes(mode, mode)}}, host);
    }
  }
  Add("open", {{"processing_mode", Modes("STREAMED", "NONE")}, {"failure_mode_allow", true}},
      "plain");
  Add("override",
      {{"processing_mode", Modes("STREAMED", "STREAMED")}, {"allow_mode_override", true}}, "plain");
  Add("override_none", {{"processing_mode", Modes("NONE", "NONE")}, {"allow_mode_override", true}},
      "plain");
  Add("observing",
      {{"processing_mode", Modes("STREAMED", "STREAMED")}, {"observability_mode", true}}, "plain");
  json trailers = Modes("STREAMED", "STREAMED");
  trailers.update({{"request_trailer_mode", "SEND"}, {"response_trailer_mode", "SEND"}});
  Add("trailers", {{"processing_mode", trailers}}, "plain");
  envoy = std::make_unique<EnvoyProcess>(MakeBootstrap(config));
}

class OutcomesTest : public EnvoyFixture {
 protected:
  static void SetUpTestSuite() {
    if (EnvoyProcess::Available()) processes_ = std::make_unique<Processes>();
  }
  static void TearDownTestSuite() { processes_.reset(); }

  void TearDown() override {
    if (processes_ == nullptr) return;
    const auto counters = processes_->envoy->CountersEndingWith(".spurious_msgs_received");
    EXPECT_EQ(counters.size(), processes_->config.listeners.size());
    for (const auto& [name, value] : counters) EXPECT_EQ(value, 0u) << name;
  }

  // The response; what the backend got is in received_.
  HttpMessage Send(const std::string& listener, HttpFields headers, HttpBody body = {}) {
    headers.emplace_back(kTestIdHeader, kTestId);
    const HttpMessage response = Exchange(
        processes_->envoy->port(listener),
        {.method = body.pieces.empty() ? "GET" : "POST", .headers = headers, .body = body});
    received_ = processes_->backend.TakeRequest(kTestId);
    return response;
  }

  void ExpectUnchanged(const HttpMessage& response, const std::string& body) {
    EXPECT_EQ(response.status, 200) << ::testing::PrintToString(response);
    EXPECT_EQ(response.body, "answered");
    ASSERT_TRUE(received_.has_value());
    EXPECT_EQ(received_->body, body);
  }

  void SetUp() override {
    EnvoyFixture::SetUp();
    if (processes_ != nullptr) processes_->backend.Answer({.body = {.pieces = {"answered"}}});
  }

  static std::unique_ptr<Processes> processes_;
  const HttpBody body_ = {.pieces = {"sent"}};
  const std::string large_ = std::string(10 << 20, '.');
  std::optional<HttpMessage> received_;
};

std::unique_ptr<Processes> OutcomesTest::processes_;

// --- Envoy's own limit of what it buffers, 1 MiB unless it is told otherwise ---

TEST_F(OutcomesTest, BufferedBodiesOverEnvoysLimitAreEnvoysOwn413And500) {
  EXPECT_EQ(Send("plainBUFFERED", {}, {.pieces = {large_}}).status, 413);
  processes_->backend.Answer({.body = {.pieces = {large_}}});
  EXPECT_EQ(Send("plainBUFFERED", {}).status, 500);
}

TEST_F(OutcomesTest, OfPartialBodiesTheRestPassesBehindWhatThePluginMadeOfTheStart) {
  processes_->backend.Answer({.body = {.pieces = {large_}}});
  const HttpMessage response = Send(
      "plainBUFFERED_PARTIAL", {{"x-do-request-body", "shorter"}, {"x-do-response-body", "longer"}},
      {.pieces = {large_}});
  EXPECT_EQ(response.status, 200);
  EXPECT_TRUE(response.complete);
  EXPECT_EQ(response.body.size(), large_.size() + kLonger.size());
  ASSERT_TRUE(received_.has_value());
  EXPECT_TRUE(absl::StartsWith(received_->body, "!.")) << received_->body.size();
  EXPECT_LT(received_->body.size(), large_.size());
  EXPECT_EQ(received_->Header("content-length"), std::nullopt);
}

// --- Answers with consequences ---

TEST_F(OutcomesTest, AModeOverrideChangesOnlyTheModesItNames) {
  const auto skip = Answer("request-headers", [](ext_proc* answer) {
    answer->mutable_request_headers();
    answer->mutable_mode_override()->set_response_header_mode(
        envoy::extensions::filters::http::ext_proc::v3::ProcessingMode::SKIP);
  });
  Send("override", {skip, {"x-do-request-body", "upper"}}, body_);
  ASSERT_TRUE(received_.has_value());
  EXPECT_EQ(received_->body, "SENT");
}

TEST_F(OutcomesTest, ALaterModeOverrideTakesNothingBack) {
  using Mode = envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;
  const auto first = Answer("request-headers", [](ext_proc* answer) {
    answer->mutable_request_headers();
    answer->mutable_mode_override()->set_response_body_mode(Mode::BUFFERED);
    answer->mutable_mode_override()->set_response_trailer_mode(Mode::SEND);
  });
  const auto later = Answer("response-headers", [](ext_proc* answer) {
    answer->mutable_response_headers();
    answer->mutable_mode_override()->set_request_trailer_mode(Mode::SKIP);
  });
  processes_->backend.Answer(
      {.body = {.pieces = {"answered"}, .chunked = true, .trailers = {{"t", "1"}}}});
  const HttpMessage response =
      Send("override_none",
           {first, later, {"x-do-response-body", "upper"}, {"x-do-response-trailers", "header"}});
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "ANSWERED");
  EXPECT_THAT(ValuesOf(response.trailers, std::string(kChangedHeader)),
              ElementsAre("response-trailers"));
}

TEST_F(OutcomesTest, ContinueAndReplacePutsAnotherBodyInPlace) {
  for (const std::string listener : {"plainNONE", "plainSTREAMED", "plainBUFFERED"}) {
    const auto replace = Answer("request-headers", [](ext_proc* answer) {
      auto* response = answer->mutable_request_headers()->mutable_response();
      response->set_status(envoy::service::ext_proc::v3::CommonResponse::CONTINUE_AND_REPLACE);
      response->mutable_body_mutation()->set_body("another body");
    });
    const HttpMessage response = Send(listener, {replace}, body_);
    ExpectUnchanged(response, "another body");
  }
}

TEST_F(OutcomesTest, TrailersCanBeChanged) {
  processes_->backend.Answer(
      {.body = {.pieces = {"answered"}, .chunked = true, .trailers = {{"t", "1"}}}});
  const HttpMessage response =
      Send("trailers", {{"x-do-request-trailers", "header"}, {"x-do-response-trailers", "header"}},
           {.pieces = {"sent"}, .chunked = true, .trailers = {{"t", "1"}}});
  const std::string changed(kChangedHeader);
  EXPECT_THAT(ValuesOf(response.trailers, changed), ElementsAre("response-trailers"));
  ASSERT_TRUE(received_.has_value());
  EXPECT_THAT(ValuesOf(received_->trailers, changed), ElementsAre("request-trailers"));
}

TEST_F(OutcomesTest, InObservabilityModeNothingIsAnswered) {
  const HttpMessage response =
      Send("observing", {{"x-do-request-headers", "deny"}, {"x-do-request-body", "clear"}}, body_);
  ExpectUnchanged(response, "sent");
  EXPECT_EQ(processes_->envoy->Counter("http.observing.ext_proc.stream_msgs_received"), 0u);
  EXPECT_GT(processes_->envoy->Counter("http.observing.ext_proc.stream_msgs_sent"), 0u);
}

// --- Answers of a wrong form ---

TEST_F(OutcomesTest, IllegalAnswersFailTheExchangeUnlessContinueIsChosen) {
  const auto set_header = [](ext_proc* answer, const std::string& name, const std::string& value) {
    auto* header = answer->mutable_request_headers()
                       ->mutable_response()
                       ->mutable_header_mutation()
                       ->add_set_headers()
                       ->mutable_header();
    header->set_key(name);
    header->set_raw_value(value);
  };
  const std::pair<std::string, std::string> answers[] = {
      {"x-answer-request-headers", "ffffff"},  // no protobuf
      Answer("request-headers", [](ext_proc* answer) { answer->mutable_response_headers(); }),
      Answer("request-headers", [](ext_proc* answer) { answer->mutable_request_body(); }),
      Answer("request-headers", [&](ext_proc* answer) { set_header(answer, "x-a", "b\r\nc: d"); }),
      Answer("request-headers", [&](ext_proc* answer) { set_header(answer, "x a", "b"); }),
      Answer("request-headers", [&](ext_proc* answer) { set_header(answer, "", "b"); }),
      Answer("request-headers",
             [&](ext_proc* answer) {
               for (int i = 0; i < 150; ++i) set_header(answer, absl::StrCat("x-a-", i), "b");
             }),
      Answer("request-body", [](ext_proc* answer) { answer->mutable_request_headers(); }),
      Answer("response-headers", [](ext_proc* answer) { answer->mutable_request_headers(); }),
      Answer("response-body", [](ext_proc* answer) { answer->mutable_request_trailers(); }),
  };
  for (const char* mode : {"NONE", "STREAMED", "BUFFERED", "FULL_DUPLEX_STREAMED"}) {
    for (const auto& answer : answers) {
      SCOPED_TRACE(absl::StrCat(mode, " ", answer.first, ": ", answer.second.substr(0, 40)));
      ExpectUnchanged(Send(absl::StrCat("lenient", mode), {answer}, body_), "sent");
      EXPECT_EQ(received_->Header("x-a"), std::nullopt);
      // The hook is called, so what it answers counts.
      const bool is_body = absl::StrContains(answer.first, "body");
      if (is_body && std::string_view(mode) == "NONE") continue;
      const HttpMessage response = Send(absl::StrCat("plain", mode), {answer}, body_);
      EXPECT_TRUE(response.status >= 500 || !response.complete)
          << ::testing::PrintToString(response);
    }
  }
}

TEST_F(OutcomesTest, StreamedBodiesAreForFullDuplexOnly) {
  const auto streamed = Answer("request-body", [](ext_proc* answer) {
    auto* body = answer->mutable_request_body()
                     ->mutable_response()
                     ->mutable_body_mutation()
                     ->mutable_streamed_response();
    body->set_body("streamed");
    body->set_end_of_stream(true);
  });
  for (const std::string mode : {"STREAMED", "BUFFERED"}) {
    ExpectUnchanged(Send("lenient" + mode, {streamed}, body_), "sent");
  }
  const HttpMessage response =
      Send("plainFULL_DUPLEX_STREAMED", {streamed}, {.pieces = {"sent"}, .chunked = true});
  EXPECT_EQ(response.status, 200);
  ASSERT_TRUE(received_.has_value());
  EXPECT_TRUE(absl::StartsWith(received_->body, "streamed")) << received_->body;
}

// --- Hooks that fail ---

TEST_F(OutcomesTest, AFailingHookFailsTheRequestUnlessEnvoyIsOpen) {
  EXPECT_EQ(Send("plainSTREAMED", {{"x-do-request-headers", "fail"}}, body_).status, 500);
  EXPECT_FALSE(received_.has_value());
  ExpectUnchanged(Send("open", {{"x-do-request-headers", "fail"}}, body_), "sent");
}

TEST_F(OutcomesTest, ThePolicyOfTheOperatorHolds) {
  for (const std::string mode : {"NONE", "STREAMED", "BUFFERED", "FULL_DUPLEX_STREAMED"}) {
    SCOPED_TRACE(mode);
    for (const char* phase : {"x-do-request-headers", "x-do-response-headers"}) {
      ExpectUnchanged(Send("lenient" + mode, {{phase, "fail"}}, body_), "sent");
      EXPECT_EQ(Send("denying" + mode, {{phase, "fail"}}, body_).status, 503);
    }
  }
}

// Nothing had been taken of these bodies when the hook failed.
TEST_F(OutcomesTest, ContinuingPastAFailedBodyHookLeavesTheBodyAsItWas) {
  for (const std::string mode : {"STREAMED", "BUFFERED", "FULL_DUPLEX_STREAMED"}) {
    SCOPED_TRACE(mode);
    ExpectUnchanged(Send("lenient" + mode, {{"x-do-request-body", "fail"}}, body_), "sent");
    ExpectUnchanged(Send("lenient" + mode, {{"x-do-response-body", "fail"}}, body_), "sent");
  }
}

TEST_F(OutcomesTest, AFailureWithinABodyNeverLooksLikeSuccess) {
  processes_->backend.Answer({.body = {.pieces = {"one", "two", "three"}, .chunked = true}});
  for (const std::string mode :
       {"STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED"}) {
    for (const char* phase : {"x-do-request-body", "x-do-response-body"}) {
      SCOPED_TRACE(absl::StrCat(mode, " ", phase));
      const HttpMessage response = Send("plain" + mode, {{phase, "fail"}},
                                        {.pieces = {"one", "two", "three"}, .chunked = true});
      EXPECT_TRUE(response.status == 500 || !response.complete)
          << ::testing::PrintToString(response);
    }
  }
}

}  // namespace
}  // namespace callout::tests
