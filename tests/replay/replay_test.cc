// SPDX-License-Identifier: Apache-2.0

// callout-replay, run on recordings that the test writes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "child_process.h"
#include "host/record/recording.h"
#include "host_process.h"
#include "recorded_exchange.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

struct Ran {
  int exit_status = -1;
  std::string output;
};

class ReplayTest : public StreamTest {
 protected:
  static std::string Stamp(int version) {
    return tests::BuiltFile("tests/replay/stamp" + std::to_string(version) + ".so");
  }
  Ran Run(std::vector<std::string> options) const {
    options.insert(options.begin(), tests::BuiltFile("host/callout-replay"));
    tests::ChildProcess process(std::move(options));
    const int status = process.AwaitEnd();
    return {status, process.Output()};
  }
  std::string Write(const std::string& name, const std::string& bytes) const {
    std::ofstream(directory_.Path(name), std::ios::binary) << bytes;
    return directory_.Path(name);
  }

  static std::string Begin() {
    std::string begin(kRecordingMagic);
    AppendFrame(WriteHeader({.host_version = "test", .bodies = true}), &begin);
    return begin;
  }
  // What version 1 of the stamp does with a request with a body.
  static std::string Exchange(uint64_t id, const std::string& role, bool strip = false) {
    ExchangeBuilder builder;
    ProcessingResponse headers, seen;
    auto* common = headers.mutable_request_headers()->mutable_response();
    AddSet(common, "x-version", "1");
    common->mutable_header_mutation()->add_remove_headers("x-internal");
    AddSet(seen.mutable_response_headers()->mutable_response(), "x-seen", "yes");
    ProcessingResponse body;
    body.mutable_request_body()->mutable_response()->mutable_body_mutation()->set_body(
        "first body");
    builder
        .Add(WithModes(Headers(CALLOUT_REQUEST_HEADERS, false,
                               {{":method", "POST"}, {":path", "/a"}, {"x-role", role}}),
                       kBuffered, kNone))
        .Add(headers)
        .Add(Body(CALLOUT_REQUEST_BODY, "sent", true), strip)
        .Add(body, strip)
        .Add(Headers(CALLOUT_RESPONSE_HEADERS, false, {{":status", "200"}}))
        .Add(seen)
        .End(absl::StatusCode::kCancelled, CALLOUT_END_COMPLETED);
    builder.exchange().stream_id = id;
    builder.exchange().service = "ext_proc";
    std::string frame;
    AppendFrame(WriteExchange(builder.exchange()), &frame);
    return frame;
  }
  std::string Recording() const {
    return Write("a.rec",
                 Begin() + Exchange(1, "member") + Exchange(2, "guest") + Exchange(3, "member"));
  }

  const TempDir directory_;
};

TEST_F(ReplayTest, FindsNoDifferencesOfTheVersionThatWasRecorded) {
  for (const char* jobs : {"--jobs=1", "--jobs=3"}) {
    const Ran ran = Run({Recording(), "--plugin=" + Stamp(1), jobs});
    EXPECT_EQ(ran.exit_status, 0) << ran.output;
    EXPECT_THAT(ran.output, StartsWith("3 exchanges with 9 messages in "));
    EXPECT_THAT(ran.output, HasSubstr("\n0 of 3 exchanges differ\n"));
    EXPECT_THAT(ran.output, HasSubstr("stamp1 request_headers: 3 calls"));
    EXPECT_THAT(ran.output, HasSubstr("\ntime per call: before not measured, after "));
  }
}

TEST_F(ReplayTest, FindsExactlyTheDifferencesOfAnotherVersion) {
  const Ran ran = Run({Recording(), "--plugin=" + Stamp(2), "--json"});
  EXPECT_EQ(ran.exit_status, 1) << ran.output;
  const nlohmann::json report = nlohmann::json::parse(ran.output);
  EXPECT_EQ(report["exchanges"], 3);
  EXPECT_EQ(report["messages"], 9);
  const nlohmann::json& compared = report["compared"];
  EXPECT_EQ(compared["exchanges"], 3);
  EXPECT_EQ(compared["differing"], 3);
  EXPECT_EQ(compared["by_kind"]["header"], 2);
  EXPECT_EQ(compared["by_kind"]["body"], 2);
  EXPECT_EQ(compared["by_kind"]["status"], 1);
  EXPECT_EQ(compared["by_kind"]["metadata"], 0);
  std::vector<std::string> texts;
  for (const auto& one : compared["commonest"]) {
    texts.push_back(one["kind"].get<std::string>() + " " + one["what"].get<std::string>() + ": " +
                    one["before"].get<std::string>() + " -> " + one["after"].get<std::string>());
    EXPECT_THAT(one["example"].get<std::string>(), HasSubstr("POST /a"));
    EXPECT_EQ(one["request_id"], "");
  }
  EXPECT_THAT(texts, testing::UnorderedElementsAre("header request x-version: 1 -> 2",
                                                   "body request: 10 bytes -> 11 bytes",
                                                   "status response: the upstream's -> 403"));
  EXPECT_FALSE(report["calls"].empty());
}

TEST_F(ReplayTest, AllowsWhatIsExpected) {
  const std::string all = Write("all.json", R"({"allow": [
      {"kind": "header", "what": "request x-version", "before": "1", "after": "2"},
      {"kind": "body"}, {"kind": "status", "after": "403"}]})");
  const std::string some = Write("some.json", R"({"allow": [{"kind": "header"}]})");
  const Ran allowed = Run({Recording(), "--plugin=" + Stamp(2), "--expect=" + all});
  EXPECT_EQ(allowed.exit_status, 0) << allowed.output;
  EXPECT_THAT(allowed.output, HasSubstr("3 exchanges differ only as --expect allows"));
  const Ran left = Run({Recording(), "--plugin=" + Stamp(2), "--expect=" + some});
  EXPECT_EQ(left.exit_status, 1) << left.output;
  EXPECT_THAT(left.output, AllOf(HasSubstr("\n  body: 2\n"), Not(HasSubstr("x header "))));
  const Ran wrong = Run({Recording(), "--expect=" + Write("wrong.json", "{}")});
  EXPECT_EQ(wrong.exit_status, 2);
  EXPECT_THAT(wrong.output, HasSubstr("wrong.json: it is no object with"));
}

TEST_F(ReplayTest, ComparesTwoVersions) {
  const Ran ran = Run({"--against=" + Stamp(1), Stamp(2), Recording()});
  EXPECT_EQ(ran.exit_status, 1) << ran.output;
  EXPECT_THAT(ran.output,
              AllOf(HasSubstr("3 of 3 exchanges differ"), HasSubstr("\ntime per call: before "),
                    HasSubstr("before: stamp1 request_headers: 3 calls"),
                    HasSubstr("after: stamp2 request_headers: 3 calls")));
  EXPECT_EQ(Run({"--against=" + Stamp(2), Stamp(2), Recording()}).exit_status, 0);
}

TEST_F(ReplayTest, SaysThatBodiesWithoutBytesAreUnknown) {
  const std::string recording =
      Write("b.rec", Begin() + Exchange(1, "member", true) + Exchange(2, "member", true));
  EXPECT_EQ(Run({recording, "--plugin=" + Stamp(1)}).exit_status, 0);
  const Ran ran = Run({recording, "--plugin=" + Stamp(2)});
  EXPECT_THAT(ran.output, AllOf(HasSubstr("\n  header: 2\n"), Not(HasSubstr("\n  body: ")),
                                HasSubstr("2 exchanges were recorded without the bytes")));
}

TEST_F(ReplayTest, PlaysWithoutAPlugin) {
  const Ran ran = Run({Recording()});
  EXPECT_EQ(ran.exit_status, 1);
  EXPECT_THAT(ran.output, HasSubstr("header request x-version: 1 -> absent"));
}

TEST_F(ReplayTest, PlaysSeveralFiles) {
  const Ran ran = Run({Recording(), Recording(), "--plugin=" + Stamp(1)});
  EXPECT_THAT(ran.output, HasSubstr("0 of 6 exchanges differ"));
}

TEST_F(ReplayTest, PlaysWhatIsBeforeADamageAndSaysWhereItIs) {
  const std::string begin = Begin() + Exchange(1, "member");
  const std::string second = Exchange(2, "member");
  std::string flipped = begin + second;
  flipped[begin.size() + 20] ^= 1;
  const std::pair<std::string, std::string> files[] = {
      {Write("cut.rec", begin + second.substr(0, 20)), "cut off at byte"},
      {Write("flipped.rec", flipped), "damaged at byte " + std::to_string(begin.size())},
  };
  for (const auto& [file, why] : files) {
    for (const char* jobs : {"--jobs=1", "--jobs=2"}) {
      const Ran ran = Run({file, "--plugin=" + Stamp(1), jobs});
      EXPECT_EQ(ran.exit_status, 2);
      EXPECT_THAT(ran.output, AllOf(HasSubstr("0 of 1 exchanges differ"),
                                    HasSubstr("callout-replay: " + file + ": " + why)));
    }
  }
}

TEST_F(ReplayTest, RefusesBadInputWithOneLine) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> runs = {
      {{}, "no FILE with a recording; see --help"},
      {{"/nowhere/a.rec"}, "/nowhere/a.rec: cannot read it: No such file or directory"},
      {{Write("garbage", std::string(5000, 'g'))}, "garbage: no recording: it does not begin with"},
      {{Write("empty", "")}, "empty: no recording"},
      {{Write("later", "callout-recording 2\nwhatever")}, "later: a recording of version 2; this"},
      {{Recording(), "--plugin=/nowhere/p.so"}, "plugin p: "},
      {{Recording(), "--expect=/nowhere/e.json"}, "/nowhere/e.json: cannot read it"},
      {{Recording(), "--plguin=x"}, "--plguin"},
      {{Recording(), "--cases=" + directory_.Path("c")}, "--cases needs a --plugin"},
  };
  for (const auto& [options, why] : runs) {
    const Ran ran = Run(options);
    EXPECT_EQ(ran.exit_status, 2) << why;
    EXPECT_THAT(ran.output, AllOf(StartsWith("callout-replay: "), HasSubstr(why)));
    EXPECT_EQ(std::count(ran.output.begin(), ran.output.end(), '\n'), 1) << ran.output;
  }
}

TEST_F(ReplayTest, APluginThatTakesTheProcessWithItIsNoSuccess) {
  const std::string plugin = tests::BuiltFile("tests/tester/misbehaves.so");
  // What differs is allowed, so that nothing but the plugin's way to end makes the run fail.
  const std::string all = Write("all.json", R"({"allow": [
      {"kind": "header"}, {"kind": "body"}, {"kind": "status"}, {"kind": "metadata"},
      {"kind": "mode"}, {"kind": "trailers"}, {"kind": "error"}]})");
  const std::pair<std::string, std::string> kWays[] = {
      {"exit", "a plugin has called exit() before the exchanges were done"},
      {"hang", "plugin misbehaves has been in callout_on_request_headers for "},
      {"forget", "in 1 exchanges a plugin has not finished its call"}};
  for (const auto& [what, why] : kWays) {
    ProcessingResponse response;
    response.mutable_request_headers();
    ExchangeBuilder builder;
    builder.Add(Headers(CALLOUT_REQUEST_HEADERS, true, {{"x-do", what}}))
        .Add(response)
        .End(absl::StatusCode::kCancelled, CALLOUT_END_COMPLETED);
    std::string frame;
    AppendFrame(WriteExchange(builder.exchange()), &frame);
    const std::string recording = Write(what + ".rec", Begin() + frame);
    for (const char* jobs : {"--jobs=1", "--jobs=2"}) {
      const Ran ran =
          Run({recording, "--plugin=" + plugin, "--expect=" + all, "--hook_deadline_ms=100", jobs});
      EXPECT_EQ(ran.exit_status, 1) << ran.output;
      EXPECT_THAT(ran.output, HasSubstr(why));
    }
  }
}

TEST_F(ReplayTest, ARunThatHasComparedNothingIsNoSuccess) {
  const Ran none = Run({Write("none.rec", Begin()), "--plugin=" + Stamp(1)});
  EXPECT_EQ(none.exit_status, 2) << none.output;
  EXPECT_THAT(none.output, HasSubstr("nothing was compared: the recordings have no exchange"));

  ExchangeBuilder builder;
  builder.Add(Headers(CALLOUT_REQUEST_HEADERS, true, {}))
      .End(absl::StatusCode::kCancelled, CALLOUT_END_COMPLETED);
  builder.exchange().messages_left_out = 3;
  std::string frame;
  AppendFrame(WriteExchange(builder.exchange()), &frame);
  const Ran cut = Run({Write("cut_short.rec", Begin() + frame), "--plugin=" + Stamp(1)});
  EXPECT_EQ(cut.exit_status, 2) << cut.output;
  EXPECT_THAT(cut.output, HasSubstr("of 1 exchanges 1 are incomplete in the recording"));
}

TEST_F(ReplayTest, WhatSettingsDisableOrMakeAShadowDecidesNothing) {
  const std::pair<const char*, const char*> kSettings[] = {
      {R"({"disabled": true})", "plugin p does not run: its settings disable it"},
      {R"({"mode": "shadow"})", "plugin p is not called: by its settings it is a shadow"}};
  for (const auto& [settings, why] : kSettings) {
    const Ran ran = Run({Recording(), "--plugin=p=" + Stamp(2), "--plugin=" + Stamp(1),
                         "--plugin_settings=p=@" + Write("p.settings", settings)});
    EXPECT_EQ(ran.exit_status, 0) << ran.output;
    EXPECT_THAT(ran.output, HasSubstr(why));
  }
}

TEST_F(ReplayTest, WritesCasesThatCalloutTestPasses) {
  const std::string cases = directory_.Path("cases");
  const Ran ran = Run({Recording(), "--plugin=" + Stamp(1), "--cases=" + cases});
  EXPECT_EQ(ran.exit_status, 0) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("3 cases; 0 exchanges cannot be cases"));
  tests::ChildProcess tester({tests::BuiltFile("host/callout-test"), cases});
  EXPECT_EQ(tester.AwaitEnd(), 0);
  EXPECT_EQ(tester.Output(), "3 passed, 0 failed\n");
  // Another version is told from it.
  std::stringstream yaml;
  yaml << std::ifstream(cases + "/recorded.yaml").rdbuf();
  std::string text = yaml.str();
  text.replace(text.find("stamp1.so"), 9, "stamp2.so");
  std::ofstream(cases + "/recorded.yaml") << text;
  tests::ChildProcess other({tests::BuiltFile("host/callout-test"), cases});
  EXPECT_EQ(other.AwaitEnd(), 1) << other.Output();
  EXPECT_EQ(Run({Recording(), "--plugin=" + Stamp(1), "--cases=" + cases}).exit_status, 2)
      << "written over a file that is there";
}

// As a recording has it where the name of a namespace is one of those that are left out.
TEST_F(ReplayTest, WritesCasesOfMetadataWhoseNamespaceIsLeftOut) {
  ProcessingResponse response;
  response.mutable_request_headers();
  auto* const spaces = response.mutable_dynamic_metadata()->mutable_fields();
  (*spaces)["my.session"].set_string_value("[redacted]");
  auto* const other = (*spaces)["other"].mutable_struct_value()->mutable_fields();
  (*other)["a"].set_string_value("b");
  ExchangeBuilder builder;
  builder.Add(WithModes(Headers(CALLOUT_REQUEST_HEADERS, true, {{":path", "/"}}), kNone, kNone))
      .Add(response)
      .End(absl::StatusCode::kCancelled, CALLOUT_END_COMPLETED);
  std::string frame;
  AppendFrame(WriteExchange(builder.exchange()), &frame);
  const std::string cases = directory_.Path("cases");
  const Ran ran =
      Run({Write("session.rec", Begin() + frame), "--plugin=" + Stamp(1), "--cases=" + cases});
  EXPECT_EQ(ran.exit_status, 0) << ran.output;
  std::stringstream golden;
  golden << std::ifstream(cases + "/golden/recorded.exchange_1.json").rdbuf();
  EXPECT_EQ(nlohmann::json::parse(golden.str())["metadata"],
            nlohmann::json::parse(R"({"other": {"a": "b"}})"));
}

TEST_F(ReplayTest, ErrorsDoNotQuoteAPluginsConfiguration) {
  const std::string recording = Recording(), stamp = Stamp(1);
  const std::string secret = R"({"api_key":"s3cr3t"})";
  const std::vector<std::vector<std::string>> runs = {
      {"--plugin=" + stamp, "--plugin_config=" + secret},
      {"--plugin=" + stamp, "--plugin_config=stamp1=" + secret, "--plugin_config=stamp1=" + secret},
      {"--plugin=" + stamp, "--plugin_config=stamp1=x", "--plugin_confg=" + secret},
      {"--plugin=" + stamp + "=" + secret, "--plugin=" + stamp + "=" + secret},
      {"--plugin=" + stamp, "--plugin_config=stamp1=x", "--plugin=" + stamp + "=" + secret},
      {"--against=" + stamp + "=" + secret, "--against=" + stamp + "=" + secret},
      {"--against=a b.so=" + secret},
      {stamp + "=" + secret, stamp + "=" + secret},
  };
  for (std::vector<std::string> options : runs) {
    options.insert(options.begin(), recording);
    const Ran ran = Run(options);
    EXPECT_EQ(ran.exit_status, 2) << options.back();
    EXPECT_THAT(ran.output, AllOf(StartsWith("callout-replay: "), Not(HasSubstr("s3cr3t"))));
  }
  EXPECT_THAT(Run({recording, "--plugin=" + stamp, "--plugin=" + stamp + "=" + secret}).output,
              HasSubstr("--plugin=…: another plugin is named 'stamp1', from " + stamp));
}

TEST_F(ReplayTest, GivesAPluginItsConfiguration) {
  const std::string scripted = tests::BuiltFile("tests/envoy/plugins/scripted.so");
  for (const char* option : {"--plugin=", ""}) {
    EXPECT_THAT(Run({Recording(), option + scripted + "=as a"}).output,
                HasSubstr("scripted request_headers"));
  }
}

}  // namespace
}  // namespace callout::host
