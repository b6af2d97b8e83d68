// SPDX-License-Identifier: Apache-2.0

#include "host/explain/explainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "host/base/clock.h"
#include "host/explain/explanation.h"
#include "host/explain/watch_control.h"
#include "host/stream/stream.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kKey[] = "0123456789abcdef";

class ExplainerTest : public StreamTest {
 protected:
  void BeginExplained(const WatchSettings& settings, size_t explained_max = 8) {
    explainer_ = std::make_unique<Explainer>(&metrics_, explained_max);
    ASSERT_EQ(explainer_->Set(settings), absl::OkStatus());
    Begin();
    explainer_->Attach(&environment_->watchers());
  }
  ~ExplainerTest() override {
    SetLogLevel(LogLevel::kInfo);
    Reset();  // before the explainer
  }

  void NextStream() { stream_ = std::make_unique<Stream>(environment_.get(), &rpc_); }
  // A stream with these request headers, to its end.
  void RunStream(const Pairs& headers) {
    NextStream();
    Feed(Headers(CALLOUT_REQUEST_HEADERS, false, headers));
    stream_->OnHalfClose();
  }
  nlohmann::json Explanations(const std::string& request_id = "") {
    return nlohmann::json::parse(
        ExplainedJson(explainer_->Collect(), {}, 100, request_id, MonotonicNs()))["explained"];
  }

  std::unique_ptr<Explainer> explainer_;
};

TEST_F(ExplainerTest, AnExplainedStreamGoesOnToItsRealEnd) {
  limits_.early_end = true;
  BeginExplained({.explain_key = kKey});
  NextStream();
  Feed(WithModes(
      Headers(CALLOUT_REQUEST_HEADERS, false, {{":path", "/"}, {"x-callout-debug", kKey}}), kNone,
      kNone));
  EXPECT_FALSE(stream_->end().has_value());
  stream_->OnCancel();
  NextStream();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kNone, kNone));
  EXPECT_TRUE(stream_->end().has_value()) << "nobody wants more of it";
}

TEST_F(ExplainerTest, SaysWhatAPluginSawSaidAndChanged) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-new", "1");
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = RemovesHeader("x-old");
  BeginExplained({.explain_key = kKey});
  RunStream({{":path", "/a?token=secret-1"},
             {"x-request-id", "4711"},
             {"authorization", "secret-2"},
             {"x-callout-debug", kKey}});
  const nlohmann::json all = Explanations();
  ASSERT_EQ(all.size(), 1u);
  const nlohmann::json& one = all[0];
  EXPECT_EQ(one["x-request-id"], "4711");
  EXPECT_EQ(one["marked_by"], "key");
  EXPECT_EQ(one["service"], "ext_proc");
  EXPECT_EQ(one["end"], "OK");
  EXPECT_TRUE(one["ended_ms_ago"].is_number());
  const nlohmann::json& steps = one["steps"];
  ASSERT_EQ(steps.size(), 4u) << one.dump(1);
  EXPECT_EQ(steps[0]["message"], "request_headers");
  EXPECT_EQ(steps[0]["headers"][0], nlohmann::json({":path", "/a?[redacted]"}));
  EXPECT_EQ(steps[1]["plugin"], "fake0");
  EXPECT_EQ(steps[1]["phase"], "request_headers");
  EXPECT_EQ(steps[1]["outcome"], "changed");
  EXPECT_EQ(steps[1]["said"]["set"][0], nlohmann::json({"x-new", "1"}));
  // The second one saw what the first had changed.
  EXPECT_EQ(steps[2]["plugin"], "fake1");
  EXPECT_THAT(steps[2]["saw"]["headers"].dump(), HasSubstr("x-new"));
  EXPECT_EQ(steps[2]["said"]["remove"][0], "x-old");
  EXPECT_EQ(steps[3]["to_envoy"], true);
  EXPECT_THAT(all.dump(), Not(HasSubstr("secret-")));
  EXPECT_THAT(all.dump(), Not(HasSubstr(kKey)));
}

TEST_F(ExplainerTest, ShowsNoSecretThatAPluginHasCopied) {
  AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_REQUEST_HEADERS] =
      [](callout_call_t* call) {
        call->host->set_error(call, ToBytes("cannot take secret-token"));
        return callout_status_t{CALLOUT_INTERNAL};
      };
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    CommonResponse common;
    AddSet(&common, "set-cookie", "secret-of-the-plugin");
    AddSet(&common, "x-copy", "<secret-token> <secret-of-the-plugin>");
    return RespondCommon(call, common);
  };
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);  // it sees the copies
  BeginExplained({.explain_key = kKey});
  RunStream({{":path", "/a"},
             {"authorization", "Bearer secret-token"},
             {"x-shown", "as it is"},
             {"x-callout-debug", kKey}});
  const std::string all = Explanations().dump();
  EXPECT_THAT(all, Not(HasSubstr("secret-")));
  EXPECT_THAT(all, HasSubstr("<[redacted]> <[redacted]>"));
  EXPECT_THAT(all, HasSubstr("cannot take [redacted]"));
  EXPECT_THAT(all, HasSubstr("as it is"));
}

TEST_F(ExplainerTest, SaysWhyAResponseWasNotUsed) {
  AddPlugin(ErrorPolicy::Action::kDeny, 503)->phases[CALLOUT_REQUEST_HEADERS] =
      SetsHeader("x-a", "a\nb");
  BeginExplained({.explain_key = kKey});
  RunStream({{"x-callout-debug", kKey}});
  const nlohmann::json call = Explanations()[0]["steps"][2];
  EXPECT_EQ(call["outcome"], "fault") << Explanations().dump(1);
  EXPECT_EQ(call["fault"], "illegal_header");
  EXPECT_THAT(call["why"].dump(), HasSubstr("0x0a in the value of header 'x-a'"));
  EXPECT_EQ(call["policy"], "deny");
  EXPECT_EQ(call["http_status"], 503);
  EXPECT_EQ(Explanations()[0]["outcome"], "immediate");
}

TEST_F(ExplainerTest, ExplainsNobodyWithoutTheKeyOrARule) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  BeginExplained({});
  EXPECT_FALSE(environment_->watchers().active());
  RunStream({{"x-callout-debug", ""}});
  ASSERT_EQ(explainer_->Set({.explain_key = kKey}), absl::OkStatus());
  EXPECT_TRUE(environment_->watchers().active());
  for (const std::string& wrong :
       {std::string(), std::string("0"), std::string(kKey) + "0", std::string(16, '0')}) {
    RunStream({{"x-callout-debug", wrong}});
  }
  EXPECT_EQ(Explanations().size(), 0u);
  RunStream({{"X-Callout-Debug", kKey}});
  EXPECT_EQ(Explanations().size(), 1u);
}

TEST_F(ExplainerTest, ARuleMarksAsManyAsItSays) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  BeginExplained({.rules = {"header=x-tenant:7&count=2"}});
  for (int i = 0; i < 5; ++i) {
    RunStream({{"x-tenant", "7"}, {"x-request-id", "id-" + std::to_string(i)}});
    RunStream({{"x-tenant", "8"}});
  }
  EXPECT_EQ(Explanations().size(), 2u);
  EXPECT_EQ(Explanations()[0]["x-request-id"], "id-1");
  EXPECT_EQ(Explanations()[0]["marked_by"], "rule header=x-tenant:7&count=2");
  EXPECT_EQ(Explanations("id-0").size(), 1u);
  EXPECT_EQ(Explanations("id-3").size(), 0u);
  EXPECT_FALSE(environment_->watchers().active());
  // Other settings do not let it begin anew.
  ASSERT_EQ(
      explainer_->Set({.rules = {"header=x-tenant:7&count=2"}, .log_level = LogLevel::kError}),
      absl::OkStatus());
  EXPECT_FALSE(environment_->watchers().active());
}

TEST_F(ExplainerTest, ARuleIsShownWithoutCredentials) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  const std::string rule = "header=authorization:s3cr3t&count=2";
  BeginExplained({.rules = {rule}});
  RunStream({{"authorization", "s3cr3t"}});
  ASSERT_EQ(Explanations().size(), 1u);
  EXPECT_EQ(Explanations()[0]["marked_by"], "rule header=authorization:[redacted]&count=2");
  const std::string page = ExplainedJson(explainer_->Collect(), {rule}, 100, "", MonotonicNs());
  EXPECT_EQ(nlohmann::json::parse(page)["rules"][0], "header=authorization:[redacted]&count=2");
  EXPECT_THAT(page, Not(HasSubstr("s3cr3t")));
}

TEST_F(ExplainerTest, KeepsTheLatestOnly) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  BeginExplained({.explain_key = kKey}, 3);
  for (int i = 0; i < 5; ++i) {
    RunStream({{"x-callout-debug", kKey}, {"x-request-id", "id-" + std::to_string(i)}});
  }
  ASSERT_EQ(Explanations().size(), 3u);
  EXPECT_EQ(Explanations()[0]["x-request-id"], "id-4");
  EXPECT_EQ(Explanations()[2]["x-request-id"], "id-2");
}

TEST_F(ExplainerTest, ADocumentHasALimit) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  BeginExplained({.explain_key = kKey});
  RunStream({{"x-callout-debug", kKey}, {"x-large", std::string(kExplanationBytesMax, 'x')}});
  const nlohmann::json one = Explanations()[0];
  EXPECT_EQ(one["steps_left_out"], 2) << one.dump(1);
  EXPECT_LT(one.dump().size(), kExplanationBytesMax + 1000);
}

TEST_F(ExplainerTest, ExplainsAStreamThatIsStillThereWhenItsClientHasLeft) {
  callout_call_t* deferred = nullptr;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  BeginExplained({.explain_key = kKey});
  NextStream();
  Feed(Headers(CALLOUT_REQUEST_HEADERS, false, {{"x-callout-debug", kKey}}));
  EXPECT_EQ(Explanations().size(), 0u);
  stream_->OnCancel();
  ASSERT_EQ(Explanations().size(), 1u);
  const nlohmann::json call = Explanations()[0]["steps"][1];
  EXPECT_EQ(call["outcome"], "overruled");
  EXPECT_EQ(call["overruled"], "ended");
  EXPECT_EQ(call["deferred"], true);
  EXPECT_EQ(Explanations()[0]["outcome"], "cancelled");
  deferred->host->finish(deferred, CALLOUT_OK);
  Deliver();
  EXPECT_EQ(Explanations().size(), 1u);
}

TEST_F(ExplainerTest, AllThatIsNotUtf8IsStillJson) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-a", "\xff\xfe\"");
  BeginExplained({.explain_key = kKey});
  RunStream({{"x-callout-debug", kKey}, {"x-request-id", "\xff\"\\"}});
  EXPECT_EQ(Explanations().size(), 1u);
}

TEST_F(ExplainerTest, LogsTheCallsOfMarkedExchangesAtTheirLevel) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    call->host->log(call->host, CALLOUT_LOG_DEBUG, ToBytes("from the plugin"));
    return CALLOUT_OK;
  };
  BeginExplained({.rules = {"header=x-tenant:7&explain=off&log_level=debug"}});
  testing::internal::CaptureStderr();
  RunStream({{"x-tenant", "8"}});
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  testing::internal::CaptureStderr();
  RunStream({{"x-tenant", "7"}});
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("DEBUG plugin fake0: from the plugin"));
  EXPECT_THAT(log, HasSubstr("plugin fake0 request_headers "));
  EXPECT_EQ(Explanations().size(), 0u);
}

TEST_F(ExplainerTest, RefusesSettingsWithARuleThatIsNone) {
  Explainer explainer(&metrics_, 1);
  EXPECT_FALSE(explainer.Set({.rules = {"nothing"}}).ok());
  EXPECT_FALSE(
      explainer.Set({.rules = std::vector<std::string>(kExchangeRulesMax + 1, "path_prefix=/")})
          .ok());
}

// --- Changes while the host runs ---------------------------------------------------

class WatchControlTest : public testing::Test {
 protected:
  WatchSettings applied_;
  int changes_ = 0;
  uint64_t now_ns_ = 1;
  WatchControl control_{WatchSettings(),
                        [this](const WatchSettings& settings) {
                          applied_ = settings;
                          ++changes_;
                        },
                        [this] { return now_ns_; }};
};

TEST_F(WatchControlTest, AppliesEachChange) {
  EXPECT_EQ(changes_, 1);
  EXPECT_EQ(control_.SetLogLevel("", "warning"), absl::OkStatus());
  EXPECT_EQ(applied_.log_level, LogLevel::kWarning);
  EXPECT_EQ(control_.SetLogLevel("auth", "debug"), absl::OkStatus());
  EXPECT_EQ(applied_.plugin_log_levels.at("auth"), LogLevel::kDebug);
  EXPECT_EQ(control_.SetLogLevel("auth", "default"), absl::OkStatus());
  EXPECT_TRUE(applied_.plugin_log_levels.empty());
  EXPECT_EQ(control_.AddRule("path_prefix=/a"), absl::OkStatus());
  EXPECT_EQ(applied_.rules, std::vector<std::string>{"path_prefix=/a"});
  control_.ClearRules();
  EXPECT_TRUE(applied_.rules.empty());
}

TEST_F(WatchControlTest, ARuleWhoseTimeIsOverTakesNoPlace) {
  constexpr uint64_t kSecond = 1'000'000'000;
  for (size_t i = 0; i < kExchangeRulesMax; ++i) {
    const std::string seconds = i % 2 == 0 ? "5" : "7";
    EXPECT_EQ(control_.AddRule("path_prefix=/" + std::to_string(i) + "&seconds=" + seconds),
              absl::OkStatus());
  }
  now_ns_ += 5 * kSecond - 1;
  EXPECT_FALSE(control_.AddRule("path_prefix=/more").ok());
  EXPECT_EQ(control_.settings().rules.size(), kExchangeRulesMax);
  now_ns_ += 1;
  EXPECT_EQ(control_.settings().rules.size(), kExchangeRulesMax / 2);
  for (size_t i = 0; i < kExchangeRulesMax / 2; ++i) {
    EXPECT_EQ(control_.AddRule("path_prefix=/more" + std::to_string(i)), absl::OkStatus());
  }
  EXPECT_FALSE(control_.AddRule("path_prefix=/more").ok());
  EXPECT_EQ(applied_.rules.size(), kExchangeRulesMax);
  EXPECT_EQ(applied_.rules.front(), "path_prefix=/1&seconds=7");
  // One that begins anew has all its time.
  now_ns_ += kSecond;
  EXPECT_EQ(control_.AddRule("path_prefix=/1&seconds=7"), absl::OkStatus());
  now_ns_ += kSecond;
  EXPECT_EQ(control_.settings().rules.size(), kExchangeRulesMax / 2 + 1);
}

TEST_F(WatchControlTest, RefusesWhatIsNoneAndWhatIsTooMuch) {
  EXPECT_FALSE(control_.SetLogLevel("", "loud").ok());
  EXPECT_FALSE(control_.SetLogLevel("", "default").ok());
  EXPECT_FALSE(control_.AddRule("nothing").ok());
  EXPECT_EQ(changes_, 1);
  for (size_t i = 0; i < kPluginLogLevelsMax; ++i) {
    EXPECT_EQ(control_.SetLogLevel("p" + std::to_string(i), "debug"), absl::OkStatus());
  }
  EXPECT_EQ(control_.SetLogLevel("another", "debug").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(control_.SetLogLevel("p0", "info"), absl::OkStatus());
  for (size_t i = 0; i < kExchangeRulesMax; ++i) {
    EXPECT_EQ(control_.AddRule("path_prefix=/" + std::to_string(i)), absl::OkStatus());
  }
  EXPECT_EQ(control_.AddRule("path_prefix=/more").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(control_.AddRule("path_prefix=/0"), absl::OkStatus());
  EXPECT_EQ(applied_.rules.size(), kExchangeRulesMax);
}

}  // namespace
}  // namespace callout::host
