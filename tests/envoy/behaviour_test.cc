// SPDX-License-Identifier: Apache-2.0

// What a real Envoy makes of what plugins do, by the rows of what it was seen to do
// with processors: answers of a wrong form, errors under each policy, immediate and
// streamed replies, replaced messages, overrides, deadlines, and failures within a
// body on listeners that fail closed and open.
//
// Rows that do not concern the host, since Envoy decides them whatever is answered:
// its own timers, limits and counters, route configuration, disabled features.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "../host/header_model.h"
#include "../host/sockets.h"
#include "backend.h"
#include "client.h"
#include "envoy_config.h"
#include "envoy_fixture.h"
#include "host_process.h"

namespace callout::tests {
namespace {

using ::testing::Pair;

class BehaviourTest : public EnvoyFixture {
 protected:
  static std::unique_ptr<HostProcess> StartHost(const std::string& policy) {
    std::vector<std::string> options = {"--plugin=" + BuiltFile("tests/envoy/plugins/behaviour.so"),
                                        "--hook_deadline_ms=300", "--defer_budget_ms=2000"};
    if (!policy.empty()) options.push_back("--on_plugin_error=behaviour=" + policy);
    return std::make_unique<HostProcess>(options);
  }

  void SetUp() override {
    EnvoyFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    EnvoyConfig config;
    config.backend_port = backend_.port();
    for (const auto& [name, policy] : std::vector<std::pair<std::string, std::string>>{
             {"host", ""}, {"lenient", "continue"}, {"denying", "deny:503"}}) {
      hosts_.push_back(StartHost(policy));
      config.hosts[name] = {.port = hosts_.back()->port("plaintext")};
    }
    std::ofstream(dir_.Path("settings")) << R"({"max_whole_body_bytes": 20})";
    hosts_.push_back(std::make_unique<HostProcess>(
        std::vector<std::string>{"--plugin=" + BuiltFile("tests/envoy/plugins/behaviour.so"),
                                 "--plugin_settings=behaviour=@" + dir_.Path("settings")}));
    config.hosts["whole"] = {.port = hosts_.back()->port("plaintext")};
    const auto add = [&](const std::string& name, nlohmann::json settings,
                         const std::string& host = "host") {
      settings["mutation_rules"] = {{"allow_all_routing", true}};
      config.listeners.push_back({.name = name, .filters = {ExtProc(settings, host)}});
    };
    const auto body = [](const std::string& mode) {
      return nlohmann::json{{"request_body_mode", mode}, {"request_trailer_mode", "SEND"}};
    };
    add("closed", {});
    add("open", {{"failure_mode_allow", true}});
    add("lenient", {}, "lenient");
    add("denying", {}, "denying");
    add("buffered", {{"processing_mode", body("BUFFERED")}});
    add("streamed", {{"processing_mode", body("STREAMED")}});
    add("streamed_open", {{"processing_mode", body("STREAMED")}, {"failure_mode_allow", true}});
    add("duplex", {{"processing_mode", body("FULL_DUPLEX_STREAMED")}});
    add("duplex_open",
        {{"processing_mode", body("FULL_DUPLEX_STREAMED")}, {"failure_mode_allow", true}});
    add("duplex_lenient", {{"processing_mode", body("FULL_DUPLEX_STREAMED")}}, "lenient");
    add("short", {{"message_timeout", "0.2s"}, {"max_message_timeout", "5s"}});
    add("override", {{"allow_mode_override", true}});
    add("no_override", nlohmann::json::object());
    add("attributes", {{"request_attributes", {"request.path"}}});
    add("observed", {{"observability_mode", true}});
    for (const std::string mode : {"STREAMED", "FULL_DUPLEX_STREAMED", "BUFFERED"}) {
      add("whole_" + mode, {{"processing_mode", body(mode)}}, "whole");
    }
    add("metadata", {{"metadata_options",
                      {{"forwarding_namespaces", {{"untyped", {"my.ns", "other.ns"}}}},
                       {"receiving_namespaces", {{"untyped", {"my.ns"}}}}}}});
    envoy_.emplace(MakeBootstrap(config));
    backend_.Answer({.headers = {{"from", "backend"}}, .body = {.pieces = {"original"}}});
  }

  void TearDown() override {
    if (!envoy_.has_value()) return;
    for (const auto& [name, count] : envoy_->CountersEndingWith("spurious_msgs_received")) {
      EXPECT_EQ(count, 0u) << name;
    }
  }

  HttpMessage Do(const std::string& listener, const std::string& deed, ClientRequest request = {}) {
    request.headers.push_back({kTestIdHeader, deed});
    request.headers.push_back({"x-do", deed});
    request.headers.push_back({"x-list", "one"});
    return Exchange(envoy_->port(listener), request);
  }

  static ClientRequest Chunks() {
    return {.method = "POST", .body = {.pieces = {"aaa", "bbb", "ccc"}, .chunked = true}};
  }

  // Each chunk leaves when the host has had the message before it, so that Envoy
  // does not make one of them.
  ClientRequest ChunksOneByOne() {
    ClientRequest request = Chunks();
    request.body.may_send = [this, due = MessagesAtHost() + 1](size_t) mutable {
      if (MessagesAtHost() < due) return false;
      ++due;
      return true;
    };
    return request;
  }

  int MessagesAtHost() {
    const HttpMessage page = Exchange(hosts_[0]->port("admin"),
                                      {.target = "/metrics", .headers = {{"host", "127.0.0.1"}}});
    const std::string name = "\ncallout_messages_total ";
    const size_t at = page.body.find(name);
    EXPECT_NE(at, std::string::npos) << page.body;
    return at == std::string::npos ? 0 : std::stoi(page.body.substr(at + name.size()));
  }

  const host::TempDir dir_;
  Backend backend_;
  std::vector<std::unique_ptr<HostProcess>> hosts_;
  std::optional<EnvoyProcess> envoy_;
};

TEST_F(BehaviourTest, AnswersOfAWrongFormFailTheExchangeUnlessContinueIsChosen) {
  for (const std::string deed : {"wrong_type", "malformed", "second_answer", "line_break",
                                 "blank_name", "not_utf8", "150_headers", "70_kilobytes"}) {
    // What a client's headers decide is refused under every policy.
    const bool limit = deed == "70_kilobytes";
    EXPECT_EQ(Do("closed", deed).status, limit ? 431 : 500) << deed;
    EXPECT_FALSE(backend_.TakeRequest(deed).has_value()) << deed;
    const HttpMessage response = Do("lenient", deed);
    EXPECT_EQ(response.status, limit ? 431 : 200) << deed;
    const auto received = backend_.TakeRequest(deed);
    EXPECT_EQ(received.has_value(), !limit) << deed;
    if (limit || !received.has_value()) continue;
    EXPECT_EQ(response.body, "original") << deed;
    EXPECT_EQ(response.Header("x-seen"), deed) << "the stream goes on";
    EXPECT_EQ(received->Header("x-bad"), std::nullopt) << deed;
    EXPECT_EQ(received->Header("x-second").has_value(), deed == "second_answer") << deed;
  }
  // A client can cause an illegal header, so Envoy's failure mode does not decide.
  EXPECT_EQ(Do("open", "line_break").status, 500);
  EXPECT_EQ(Do("open", "70_kilobytes").status, 431);
}

TEST_F(BehaviourTest, ErrorsFallUnderThePolicy) {
  for (const std::string deed : {"error", "throw"}) {
    EXPECT_EQ(Do("closed", deed).status, 500) << "fail, and Envoy fails closed";
    EXPECT_FALSE(backend_.TakeRequest(deed).has_value());
    EXPECT_EQ(Do("open", deed).status, 200) << "fail, and Envoy fails open";
    EXPECT_EQ(Do("lenient", deed).status, 200) << "continue";
    EXPECT_EQ(Do("denying", deed).status, 503) << "deny:503";
  }
  EXPECT_EQ(Do("lenient", "wrong_type").status, 200);
  EXPECT_EQ(Do("denying", "wrong_type").status, 503);
}

TEST_F(BehaviourTest, DecisionsDenyAsThePluginMeansThem) {
  for (const std::string listener : {"closed", "open", "lenient"}) {
    const HttpMessage denied = Do(listener, "deny");
    EXPECT_EQ(denied.status, 403) << listener;
    EXPECT_EQ(denied.body, "denied");
  }
  // Why deny() is the better one: this is at the mercy of Envoy's failure mode.
  EXPECT_EQ(Do("closed", "deny_callout").status, 500);
  EXPECT_EQ(Do("lenient", "deny_callout").status, 500);
  EXPECT_EQ(Do("open", "deny_callout").status, 200);
  EXPECT_EQ(Do("closed", "deny_response").status, 418);
  EXPECT_EQ(Do("buffered", "deny_body", Chunks()).status, 413);
}

TEST_F(BehaviourTest, AStreamedReplyReachesTheClientInPieces) {
  for (const std::string listener : {"closed", "duplex"}) {
    const HttpMessage response = Do(listener, "streamed_reply");
    EXPECT_EQ(response.status, 201) << listener;
    EXPECT_EQ(response.Header("x-reply"), "streamed");
    EXPECT_EQ(response.body, "part1,part2");
    EXPECT_FALSE(backend_.TakeRequest("streamed_reply").has_value());
  }
  // Where Envoy holds a body for the answer there can be none.
  EXPECT_EQ(Do("buffered", "streamed_reply", Chunks()).status, 500);
}

TEST_F(BehaviourTest, AHeaderAnswerMayReplaceTheWholeMessage) {
  const HttpMessage response = Do("closed", "replace");
  EXPECT_EQ(response.status, 200);
  const auto received = backend_.TakeRequest("replace");
  ASSERT_TRUE(received.has_value());
  EXPECT_EQ(received->method, "POST");
  EXPECT_EQ(received->body, "from the plugin");
}

TEST_F(BehaviourTest, AHookThatNeverFinishesIsAnsweredFor) {
  EXPECT_EQ(Do("closed", "never").status, 500);
  EXPECT_EQ(Do("lenient", "never").status, 200);
  EXPECT_EQ(Do("denying", "never").status, 503);
  // Envoy runs no timer there: without the host's the request would hang.
  EXPECT_EQ(Do("duplex", "never_body", Chunks()).status, 500);
  EXPECT_EQ(Do("duplex_open", "never_body", Chunks()).status, 500);
  const HttpMessage passed = Do("duplex_lenient", "never_body", Chunks());
  EXPECT_EQ(passed.status, 200);
  EXPECT_EQ(backend_.TakeRequest("never_body")->body, "aaabbbccc");
}

TEST_F(BehaviourTest, ADeferredCallIsGivenMoreTimeThanEnvoysTimer) {
  const HttpMessage response = Do("short", "later");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(backend_.TakeRequest("later")->Header("x-late"), "1");
}

// 0 silent losses: the backend gets all of the body, or the client an error.
TEST_F(BehaviourTest, AFailureWithinABodyIsNeverSilent) {
  for (const std::string listener : {"streamed", "streamed_open", "duplex", "duplex_open"}) {
    const HttpMessage response = Do(listener, "fail_within", ChunksOneByOne());
    EXPECT_EQ(response.status, 500) << listener;
    const auto received = backend_.TakeRequest("fail_within");
    EXPECT_FALSE(received.has_value() && received->complete) << listener;
  }
}

TEST_F(BehaviourTest, AModeOverrideIsCompletedAndTakesEffect) {
  const HttpMessage changed = Do("override", "override_mode");
  EXPECT_EQ(changed.status, 200);
  EXPECT_EQ(changed.body, "buffered by the plugin");
  EXPECT_EQ(changed.Header("content-length"), "22");
  const HttpMessage ignored = Do("no_override", "override_mode");
  EXPECT_EQ(ignored.status, 200);
  EXPECT_EQ(ignored.body, "original") << "Envoy does not allow it";
}

TEST_F(BehaviourTest, WholeBodiesAreGatheredInEveryMode) {
  for (const std::string mode : {"STREAMED", "FULL_DUPLEX_STREAMED", "BUFFERED"}) {
    const HttpMessage response = Do("whole_" + mode, "whole", Chunks());
    EXPECT_EQ(response.status, 200) << mode;
    EXPECT_EQ(backend_.TakeRequest("whole")->body, "[aaabbbccc]") << mode;
    // Over the plugin's limit: the default is to deny.
    ClientRequest large = Chunks();
    large.body.pieces.push_back(std::string(12, 'd'));
    EXPECT_EQ(Do("whole_" + mode, "whole", large).status, 413) << mode;
    backend_.TakeRequest("whole");
  }
  ClientRequest with_trailers = Chunks();
  with_trailers.body.trailers = {{"t", "r"}};
  EXPECT_EQ(Do("whole_FULL_DUPLEX_STREAMED", "whole", with_trailers).status, 200);
  const auto received = backend_.TakeRequest("whole");
  EXPECT_EQ(received->body, "[aaabbbccc]");
  EXPECT_THAT(received->trailers, ::testing::ElementsAre(Pair("t", "r")));
  // After trailers a STREAMED body cannot be given back: an error, not an empty body.
  EXPECT_EQ(Do("whole_STREAMED", "whole", with_trailers).status, 500);
}

TEST_F(BehaviourTest, MetadataComesBackInTheNamespacesThatEnvoyLetsIn) {
  const HttpMessage response = Do("metadata", "metadata");
  EXPECT_EQ(response.Header("x-mine"), "value");
  EXPECT_EQ(response.Header("x-other"), "none");
}

TEST_F(BehaviourTest, AttributesReachThePlugin) {
  Do("attributes", "attributes", {.target = "/a/path"});
  EXPECT_EQ(backend_.TakeRequest("attributes")->Header("x-path"), "/a/path");
}

TEST_F(BehaviourTest, AppendingKeepsWhatThereWas) {
  Do("closed", "append");
  EXPECT_THAT(ValuesOf(backend_.TakeRequest("append")->headers, "x-list"),
              ::testing::ElementsAre("one", "more"));
}

// The model that the merging of mutations is tested with is itself right.
TEST_F(BehaviourTest, TheModelOfHeaderMutationsIsEnvoys) {
  const char* given = getenv("CALLOUT_TEST_SEED");
  const uint64_t seed = given != nullptr ? strtoull(given, nullptr, 10) : std::random_device()();
  printf("CALLOUT_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  host::MutationMaker make(seed);
  for (int round = 0; round < 300; ++round) {
    const host::ModelMutation mutation = make.Mutation();
    std::string script;
    for (const std::string& name : mutation.remove) script += "r:" + name + ";";
    for (const host::ModelSet& set : mutation.set) {
      script += (set.append ? "a:" : "s:") + set.name + "=" + set.value + ";";
    }
    ClientRequest request;
    request.headers = make.Headers();
    host::ModelHeaders expected;
    for (const auto& [name, value] : request.headers) expected[name].push_back(value);
    host::ApplyModel(mutation, &expected);
    request.headers.push_back({"x-mutation", script});
    Do("closed", "mutate", request);
    const auto received = backend_.TakeRequest("mutate");
    ASSERT_TRUE(received.has_value());
    for (const char* name : {"x-a", "x-b", "x-c", "x-d", "x-e"}) {
      EXPECT_EQ(ValuesOf(received->headers, name), expected[name])
          << name << " after " << script << " in round " << round << " of seed " << seed;
    }
    EXPECT_EQ(received->target, "/") << "':path' stays whoever removes it";
  }
}

TEST_F(BehaviourTest, InObservabilityModeNothingIsChanged) {
  for (const std::string deed : {"append", "deny", "error", "replace"}) {
    const HttpMessage response = Do("observed", deed);
    EXPECT_EQ(response.status, 200) << deed;
    EXPECT_EQ(response.Header("x-seen"), std::nullopt);
    EXPECT_THAT(ValuesOf(backend_.TakeRequest(deed)->headers, "x-list"),
                ::testing::ElementsAre("one"));
  }
}

}  // namespace
}  // namespace callout::tests
