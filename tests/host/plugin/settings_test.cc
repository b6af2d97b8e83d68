// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/settings.h"

#include <callout/plugin.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "host/base/json_text.h"

namespace callout::host {
namespace {

using Action = ErrorPolicy::Action;
using ::testing::ElementsAre;
using ::testing::Pair;

InstanceSettings Parsed(const std::string& json) {
  const auto settings = ParseInstanceSettings(json);
  EXPECT_TRUE(settings.ok()) << settings.status();
  return settings.ok() ? *settings : InstanceSettings();
}

std::string RefusalOf(const std::string& json) {
  const auto settings = ParseInstanceSettings(json);
  EXPECT_EQ(settings.status().code(), absl::StatusCode::kInvalidArgument) << json;
  return std::string(settings.status().message());
}

TEST(Settings, NothingSetIsTheDefaults) {
  const InstanceSettings settings = Parsed("{}");
  EXPECT_FALSE(settings.policy.has_value());
  EXPECT_EQ(settings.too_large.action, Action::kDeny);
  EXPECT_EQ(settings.too_large.http_status, 413);
  EXPECT_TRUE(settings.match.empty());
  EXPECT_FALSE(settings.whole_body_bytes_max.has_value());
  EXPECT_FALSE(settings.blocking.has_value());
  EXPECT_FALSE(settings.disabled);
}

TEST(Settings, PoliciesAreReadAsOnTheCommandLine) {
  EXPECT_EQ(Parsed(R"({"policy": "fail"})").policy->action, Action::kFail);
  EXPECT_EQ(Parsed(R"({"policy": "continue"})").policy->action, Action::kContinue);
  EXPECT_EQ(Parsed(R"({"policy": "deny"})").policy->action, Action::kDeny);
  EXPECT_EQ(Parsed(R"({"policy": "deny"})").policy->http_status, kDenyStatusDefault);
  EXPECT_EQ(Parsed(R"({"policy": "deny:403"})").policy->http_status, 403);
  EXPECT_EQ(Parsed(R"({"too_large": "continue"})").too_large.action, Action::kContinue);
  EXPECT_EQ(Parsed(R"({"too_large": "fail"})").too_large.action, Action::kFail);
  EXPECT_EQ(Parsed(R"({"too_large": "deny"})").too_large.http_status, kTooLargeStatusDefault);
  EXPECT_EQ(Parsed(R"({"too_large": "deny:507"})").too_large.http_status, 507);
  EXPECT_FALSE(Parsed(R"({"too_large": "fail"})").policy.has_value());
}

TEST(Settings, ADenialHasAStatusThatEnvoySends) {
  EXPECT_EQ(ParseErrorPolicy("deny:200")->http_status, 200);
  EXPECT_EQ(ParseErrorPolicy("deny:599")->http_status, 599);
  for (const char* text :
       {"deny:", "deny:199", "deny:600", "deny:4x3", "deny:-403", "deny: 403", "deny:403 ",
        "deny:99999999999", "Deny", "DENY:403", "", "fail ", "fail:500", "continue:", "ignore"}) {
    EXPECT_EQ(ParseErrorPolicy(text).status().message(),
              std::string("invalid policy '") + text +
                  "'; expected fail, continue, deny or deny:STATUS with a status from "
                  "200 to 599");
  }
}

TEST(Settings, MatchListsAreRead) {
  const StreamMatch match = Parsed(R"({"match": {
      "path_prefixes": ["/api/", "/V1"], "hosts": ["Example.COM"], "methods": ["GET", "PUT"],
      "headers": ["X-Tenant"], "attributes": {"request.id": "7", "a": ""}}})")
                                .match;
  EXPECT_THAT(match.path_prefixes, ElementsAre("/api/", "/V1"));
  EXPECT_THAT(match.hosts, ElementsAre("example.com")) << "in lower case";
  EXPECT_THAT(match.methods, ElementsAre("GET", "PUT"));
  EXPECT_THAT(match.headers, ElementsAre("x-tenant")) << "in lower case";
  EXPECT_THAT(match.attributes, ElementsAre(Pair("a", ""), Pair("request.id", "7")));
  EXPECT_FALSE(match.empty());
  EXPECT_TRUE(Parsed(R"({"match": {}})").match.empty());
  EXPECT_TRUE(Parsed(R"({"match": {"hosts": []}})").match.empty());
}

TEST(Settings, NumbersAndFlagsAreRead) {
  EXPECT_EQ(Parsed(R"({"max_whole_body_bytes": 0})").whole_body_bytes_max, 0U);
  EXPECT_EQ(Parsed(R"({"max_whole_body_bytes": 18446744073709551615})").whole_body_bytes_max,
            UINT64_MAX);
  EXPECT_EQ(Parsed(R"({"blocking": true})").blocking, kAllPhases);
  EXPECT_EQ(Parsed(R"({"blocking": false})").blocking, 0U) << "which overrides the plugin";
  EXPECT_EQ(Parsed(R"({"blocking": []})").blocking, 0U);
  EXPECT_EQ(Parsed(R"({"blocking": ["request_headers", "response_body"]})").blocking,
            CALLOUT_PHASE_BIT(CALLOUT_REQUEST_HEADERS) | CALLOUT_PHASE_BIT(CALLOUT_RESPONSE_BODY));
  EXPECT_TRUE(Parsed(R"({"disabled": true})").disabled);
}

TEST(Settings, TheOldNameOfAKeyIsRead) {
  EXPECT_EQ(Parsed(R"({"whole_body_bytes_max": 7})").whole_body_bytes_max, 7U);
  EXPECT_EQ(
      RefusalOf(R"({"whole_body_bytes_max": -1})"),
      "key \"whole_body_bytes_max\" is a negative number; expected a number of bytes, 0 or more");
  EXPECT_EQ(RefusalOf(R"({"whole_body_bytes_max": 1, "max_whole_body_bytes": 2})"),
            "keys \"max_whole_body_bytes\" and \"whole_body_bytes_max\" are two names "
            "of one setting; remove the old one");
}

TEST(Settings, EachErrorNamesKeyFindingAndExpectation) {
  const struct {
    const char* json;
    const char* message;
  } kTable[] = {
      {"[]", "the settings are JSON, but not an object; expected {…}"},
      {"null", "the settings are JSON, but not an object; expected {…}"},
      {R"({"polcy": "fail"})",
       "unknown key \"polcy\"; expected policy, too_large, match, max_whole_body_bytes, "
       "blocking, disabled, watch, endless_body, leave_responses, drain, mode, instead_of, "
       "percent, by_header or canary"},
      {R"({"a\nb": 1})",
       "unknown key \"a\\x0ab\"; expected policy, too_large, match, max_whole_body_bytes, "
       "blocking, disabled, watch, endless_body, leave_responses, drain, mode, instead_of, "
       "percent, by_header or canary"},
      {R"({"policy": 5})", "key \"policy\" is a number; expected fail, continue or deny[:STATUS]"},
      {R"({"policy": "no\nway"})",
       "key \"policy\" is no policy; expected fail, continue, deny or deny:STATUS "
       "with a status from 200 to 599"},
      {R"({"too_large": null})",
       "key \"too_large\" is null; expected fail, continue or deny[:STATUS]"},
      {R"({"too_large": "deny:99"})",
       "key \"too_large\" is no policy; expected fail, continue, deny or deny:STATUS "
       "with a status from 200 to 599"},
      {R"({"match": []})", "key \"match\" is a list; expected an object"},
      {R"({"match": {"path": []}})",
       "unknown key \"match.path\"; expected path_prefixes, hosts, methods, headers or "
       "attributes"},
      {R"({"match": {"path_prefixes": "/a"}})",
       "key \"match.path_prefixes\" is a string; expected a list of strings"},
      {R"({"match": {"hosts": [1]}})", "key \"match.hosts\" is a number; expected a string"},
      {R"({"match": {"methods": {}}})",
       "key \"match.methods\" is an object; expected a list of strings"},
      {R"({"match": {"headers": [null]}})", "key \"match.headers\" is null; expected a string"},
      {R"({"match": {"attributes": []}})",
       "key \"match.attributes\" is a list; expected an object of strings"},
      {R"({"match": {"attributes": {"a": 7}}})",
       "key \"match.attributes.a\" is a number; expected a string"},
      {R"({"max_whole_body_bytes": -1})",
       "key \"max_whole_body_bytes\" is a negative number; expected a number of bytes, 0 or more"},
      {R"({"max_whole_body_bytes": 1.5})",
       "key \"max_whole_body_bytes\" is a number with a fraction or an exponent; expected a number "
       "of bytes, 0 or more"},
      {R"({"max_whole_body_bytes": "1M"})",
       "key \"max_whole_body_bytes\" is a string; expected a number of bytes, 0 or more"},
      {R"({"blocking": 1})",
       "key \"blocking\" is a number; expected true, false or a list of phases (request_headers, "
       "response_headers, request_body, response_body, request_trailers, response_trailers, "
       "check, read_data, write_data, connection, rate_limit)"},
      {R"({"blocking": ["headers"]})",
       "key \"blocking\" is a string; expected true, false or a list of phases "
       "(request_headers, response_headers, request_body, response_body, request_trailers, "
       "response_trailers, check, read_data, write_data, connection, rate_limit)"},
      {R"({"disabled": "yes"})", "key \"disabled\" is a string; expected true or false"},
  };
  for (const auto& row : kTable) EXPECT_EQ(RefusalOf(row.json), row.message) << row.json;
}

// What was put into the wrong file, or is cut off, may be a secret.
TEST(Settings, ErrorsQuoteNoValue) {
  for (const char* json : {R"({"policy": s3cr3t})", R"({"policy": "s3cr3t)",
                           R"({"policy": "s3cr3t"})", R"({"match": {"hosts": "s3cr3t"}})",
                           R"({"watch": ["s3cr3t"]})", R"({"policy" "s3cr3t"})", R"("s3cr3t")"}) {
    EXPECT_EQ(RefusalOf(json).find("s3cr3t"), std::string::npos) << RefusalOf(json);
    EXPECT_NE(RefusalOf(json), "");
  }
}

TEST(Settings, WatchedFilesAreAbsoluteAndLimited) {
  EXPECT_EQ(ParseInstanceSettings(R"({"watch": ["/a", "/b"]})")->watch.size(), 2u);
  EXPECT_EQ(RefusalOf(R"({"watch": ["a"]})"), "key \"watch\" has a path that is not absolute");
  std::string many = "\"/a\"";
  for (size_t i = 1; i < kWatchedFilesMax; ++i) many += ", \"/a\"";
  EXPECT_TRUE(ParseInstanceSettings("{\"watch\": [" + many + "]}").ok());
  EXPECT_EQ(RefusalOf("{\"watch\": [" + many + ", \"/a\"]}"),
            "key \"watch\" has 65 files; expected at most 64");
}

TEST(Settings, AShadowMayStandInThePlaceOfAnother) {
  const auto settings = ParseInstanceSettings(R"({"mode": "shadow", "instead_of": "auth"})");
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->mode, InstanceMode::kShadow);
  EXPECT_EQ(settings->instead_of, "auth");
  EXPECT_EQ(ParseInstanceSettings(R"({"mode": "live"})")->mode, InstanceMode::kLive);
  EXPECT_FALSE(ParseInstanceSettings(R"({"instead_of": "auth"})").ok());
  EXPECT_FALSE(ParseInstanceSettings(R"({"mode": "shadow", "canary": {}})").ok());
  EXPECT_FALSE(ParseInstanceSettings(R"({"mode": "off"})").ok());
}

TEST(Settings, AShareIsAPercentageAndAHeader) {
  const auto settings = ParseInstanceSettings(R"({"percent": 2.5, "by_header": "X-User"})");
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->percent, 2.5);
  EXPECT_EQ(settings->by_header, "x-user");
  EXPECT_EQ(ParseInstanceSettings(R"({"percent": 0})")->percent, 0);
  EXPECT_EQ(ParseInstanceSettings(R"({"percent": 100})")->percent, 100);
  for (const char* text : {R"({"percent": 100.01})", R"({"percent": -1})", R"({"percent": "5"})",
                           R"({"by_header": ""})", R"({"by_header": 5})"}) {
    EXPECT_FALSE(ParseInstanceSettings(text).ok()) << text;
  }
}

TEST(Settings, AShareThatWouldBeNoneOrAllIsRefused) {
  for (const char* percent : {"0.01", "99.99", "33.333"}) {
    EXPECT_TRUE(ParseInstanceSettings(fmt::format(R"({{"percent": {}}})", percent)).ok());
    EXPECT_TRUE(
        ParseInstanceSettings(fmt::format(R"({{"canary": {{"percent": {}}}}})", percent)).ok());
  }
  for (const char* percent : {"0.001", "0.0099", "1e-9", "99.991", "99.9999"}) {
    EXPECT_THAT(RefusalOf(fmt::format(R"({{"percent": {}}})", percent)),
                testing::HasSubstr("expected 0, 0.01 to 99.99, or 100"))
        << percent;
    EXPECT_THAT(RefusalOf(fmt::format(R"({{"canary": {{"percent": {}}}}})", percent)),
                testing::HasSubstr("key \"canary.percent\" is "))
        << percent;
  }
}

TEST(Settings, AHeaderNameIsOneThatAHeaderCanHave) {
  EXPECT_EQ(Parsed(R"({"by_header": ":authority"})").by_header, ":authority");
  const std::vector<std::string> places = {R"({{"by_header": "{}"}})",
                                           R"({{"canary": {{"by_header": "{}"}}}})",
                                           R"({{"match": {{"headers": ["x-a", "{}"]}}}})",
                                           R"({{"leave_responses": {{"headers": ["{}"]}}}})"};
  for (const std::string& place : places) {
    for (const char* name : {"", " ", "x user", " x-user", "x-user ", "x:user", ":", "::path",
                             "x\\nuser", "x-\u00fcser", "x-user:"}) {
      EXPECT_THAT(RefusalOf(fmt::format(fmt::runtime(place), name)),
                  testing::HasSubstr("expected the name of a header"))
          << place << name;
    }
  }
}

TEST(Settings, ACanaryHasItsLimits) {
  const auto defaults = ParseInstanceSettings(R"({"canary": {}})");
  ASSERT_TRUE(defaults.ok()) << defaults.status();
  EXPECT_EQ(defaults->canary, CanarySettings());
  const auto settings = ParseInstanceSettings(
      R"({"canary": {"percent": 10, "by_header": "X-User", "max_fault_percent": 0,
                     "max_latency_ratio": 1.5, "max_p99_ms": 20, "min_calls": 7, "for_seconds": 0,
                     "promote": "auto"}})");
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->canary, (CanarySettings{10, "x-user", 0, 1.5, 20, 7, 0, true}));
  for (const char* text :
       {R"({"canary": 5})", R"({"canary": {"percent": 0}})", R"({"canary": {"percent": 101}})",
        R"({"canary": {"max_fault_percent": 101}})", R"({"canary": {"min_calls": 0}})",
        R"({"canary": {"min_calls": 1.5}})", R"({"canary": {"for_seconds": -1}})",
        R"({"canary": {"promote": "later"}})", R"({"canary": {"max_p99_ms": "5"}})",
        R"({"canary": {"share": 5}})"}) {
    EXPECT_FALSE(ParseInstanceSettings(text).ok()) << text;
  }
}

TEST(Settings, SaysWhereTheTextIsNoJson) {
  const std::string beginning = "the settings are not valid JSON: ";
  for (const char* json : {"", "{", "{\"a\": 1e999}", "{\"a\": \"\xff\"}"}) {
    EXPECT_TRUE(RefusalOf(json).starts_with(beginning)) << RefusalOf(json);
  }
  const std::string refusal = RefusalOf("{\n  \"policy\": \"fail\",\n}");
  EXPECT_TRUE(refusal.starts_with(beginning + "parse error at line 3, column 1: ")) << refusal;
}

TEST(Settings, HostileTextIsRefusedInOneLine) {
  const auto nested = [](size_t depth) {
    return R"({"policy": )" + std::string(depth, '[') + std::string(depth, ']') + "}";
  };
  EXPECT_LT(RefusalOf(nested(kJsonDepthMax - 1)).size(), 300U);
  for (size_t depth : {kJsonDepthMax, 1000000}) {  // in one object
    EXPECT_EQ(RefusalOf(nested(depth)),
              "the settings are not valid JSON: lists and objects are nested more than 100 deep");
  }
  EXPECT_FALSE(ParseInstanceSettings(std::string(100000, '[')).ok());
  EXPECT_FALSE(ParseInstanceSettings("{\"policy\": \"\xff\xfe\"}").ok());
}

}  // namespace
}  // namespace callout::host
