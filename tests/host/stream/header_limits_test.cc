// SPDX-License-Identifier: Apache-2.0

// --max_header_count and --max_header_bytes hold for what body hooks do to headers, too: in each
// way that such a change can go out.
#include "host/stream/stream.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

constexpr int kHeaderFieldsTooLarge = 431;

class HeaderLimitsTest : public StreamTest {
 protected:
  HeaderLimitsTest() { limits_.header_count_max = 3; }

  // The headers of one direction, with `count` headers, and its body.
  std::vector<ProcessingResponse> Run(callout_phase_t headers, int mode, size_t count,
                                      const std::vector<std::string>& chunks = {"body"}) {
    Pairs list = {{":path", "/"}};
    while (list.size() < count) list.emplace_back("h" + std::to_string(list.size()), "v");
    Begin();
    const bool request = headers == CALLOUT_REQUEST_HEADERS;
    if (request) {
      Feed(WithModes(Headers(headers, false, list), mode, kNone));
    } else {
      Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS, true), kNone, mode));
      Feed(Headers(headers, false, list));
    }
    for (size_t i = 0; i < chunks.size() && stream_->wants_message(); ++i) {
      Feed(Body(headers + 2, chunks[i], i + 1 == chunks.size()));
    }
    return Take();
  }

  // Whether the exchange was refused because of headers.
  bool Refused(const std::vector<ProcessingResponse>& responses) const {
    return !responses.empty() && responses.back().has_immediate_response() &&
           responses.back().immediate_response().status().code() == kHeaderFieldsTooLarge;
  }
};

struct Case {
  callout_phase_t headers;
  int mode;
};

std::vector<Case> WaysToHold() {
  std::vector<Case> cases;
  for (const callout_phase_t headers : {CALLOUT_REQUEST_HEADERS, CALLOUT_RESPONSE_HEADERS}) {
    for (const int mode : {kBuffered, kPartial}) cases.push_back({headers, mode});
  }
  return cases;
}

TEST_F(HeaderLimitsTest, HoldForABufferedBodyExactly) {
  for (const Case& c : WaysToHold()) {
    for (const size_t count : {size_t{2}, size_t{3}}) {
      Reset();
      AddPlugin()->phases[c.headers + 2] = SetsHeader("x-new", "1");
      EXPECT_EQ(Refused(Run(c.headers, c.mode, count)), count == 3) << c.headers << " " << c.mode;
    }
  }
}

TEST_F(HeaderLimitsTest, HoldForTheBytesToo) {
  limits_.header_bytes_max = 50;
  for (const Case& c : WaysToHold()) {
    for (const size_t bytes : {size_t{30}, size_t{50}}) {
      Reset();
      AddPlugin()->phases[c.headers + 2] = SetsHeader("x-new", std::string(bytes, 'v'));
      EXPECT_EQ(Refused(Run(c.headers, c.mode, 1)), bytes == 50) << c.headers << " " << c.mode;
    }
  }
}

// Envoy takes a hundred entries of each kind, whoever has made them.
FakePlugin::Hook ChangesHeaders(int set, int removed, const std::string& prefix,
                                const std::string& body) {
  return Answers([=](CommonResponse* common) {
    for (int i = 0; i < set; ++i) AddSet(common, prefix + std::to_string(i), "v");
    for (int i = 0; i < removed; ++i) {
      common->mutable_header_mutation()->add_remove_headers(prefix + std::to_string(i));
    }
    if (!body.empty()) common->mutable_body_mutation()->set_body(body);
  });
}

TEST_F(HeaderLimitsTest, EntriesOfHeldHeadersAndTheirBodyCountTogether) {
  limits_.header_count_max = 1000;
  for (const int more : {40, 41}) {
    Reset();
    FakePlugin* plugin = AddGatherer(100);
    plugin->phases[CALLOUT_REQUEST_HEADERS] = ChangesHeaders(0, 60, "h", "");
    plugin->phases[CALLOUT_REQUEST_BODY] = ChangesHeaders(0, more, "b", "");
    const auto responses = Run(CALLOUT_REQUEST_HEADERS, kDuplex, 1);
    EXPECT_EQ(responses.at(0).has_immediate_response(), more == 41) << more;
  }
}

TEST_F(HeaderLimitsTest, EntriesThatTheHostMakesCountToo) {
  limits_.header_count_max = 1000;
  struct {
    const char* header;
    int set, removed;
    bool refused;
  } constexpr kCases[] = {
      {"content-length", 99, 0, false},   {"content-length", 100, 0, true},
      {"content-length", 0, 100, false},  {"content-encoding", 0, 99, false},
      {"content-encoding", 0, 100, true}, {"x-other", 100, 0, false},
  };
  for (const auto& c : kCases) {
    for (const auto action : {ErrorPolicy::Action::kFail, ErrorPolicy::Action::kContinue}) {
      Reset();
      AddPlugin(action)->phases[CALLOUT_REQUEST_BODY] =
          ChangesHeaders(c.set, c.removed, "h", "another");
      Begin();
      Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS, false, {{":path", "/"}, {c.header, "4"}}),
                         kBuffered, kNone));
      const auto response = Exchange(Body(CALLOUT_REQUEST_BODY, "body", true));
      EXPECT_EQ(response.has_immediate_response(), c.refused)
          << c.header << " " << c.set << " " << c.removed;
      const auto& mutation = response.request_body().response().header_mutation();
      EXPECT_LE(mutation.set_headers_size(), 100);
      EXPECT_LE(mutation.remove_headers_size(), 100);
    }
  }
}

TEST_F(HeaderLimitsTest, AHeaderThatIsReplacedOrRemovedMakesRoom) {
  for (const Case& c : WaysToHold()) {
    Reset();
    AddPlugin()->phases[c.headers + 2] = Answers([](CommonResponse* common) {
      AddSet(common, "h1", "new");
      AddSet(common, "x-new", "1");
      common->mutable_header_mutation()->add_remove_headers("h2");
    });
    EXPECT_FALSE(Refused(Run(c.headers, c.mode, 3))) << c.headers << " " << c.mode;
  }
}

TEST_F(HeaderLimitsTest, WhatCameOverALimitIsNotRefused) {
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = SetsHeader("x-new", "1");
  EXPECT_FALSE(Refused(Run(CALLOUT_REQUEST_HEADERS, kBuffered, 4)));
}

TEST_F(HeaderLimitsTest, CountWhatTheHeadersHookHasDone) {
  for (const bool removes : {false, true}) {
    Reset();
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_HEADERS] =
        removes ? RemovesHeader("h1") : SetsHeader("x-first", "1");
    plugin->phases[CALLOUT_REQUEST_BODY] = SetsHeader("x-second", "1");
    EXPECT_EQ(Refused(Run(CALLOUT_REQUEST_HEADERS, kBuffered, removes ? 3 : 2)), !removes);
  }
}

TEST_F(HeaderLimitsTest, CountTheInstancesOfAChainTogether) {
  for (const size_t count : {size_t{1}, size_t{2}}) {
    Reset();
    for (const char* name : {"x-one", "x-two"}) {
      AddPlugin()->phases[CALLOUT_REQUEST_BODY] = SetsHeader(name, "1");
    }
    EXPECT_EQ(Refused(Run(CALLOUT_REQUEST_HEADERS, kBuffered, count)), count == 2);
  }
}

TEST_F(HeaderLimitsTest, HoldWhereTheHeadersAreHeldForAWholeBody) {
  for (const size_t count : {size_t{2}, size_t{3}}) {
    Reset();
    AddGatherer(100)->phases[CALLOUT_REQUEST_BODY] = SetsHeader("x-new", "1");
    EXPECT_EQ(Refused(Run(CALLOUT_REQUEST_HEADERS, kDuplex, count, {"one", "two"})), count == 3);
  }
}

TEST_F(HeaderLimitsTest, HoldForABodyThatComesWithItsHeaders) {
  for (const size_t count : {size_t{2}, size_t{3}}) {
    Reset();
    AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Answers([](CommonResponse* common) {
      common->set_status(CommonResponse::CONTINUE_AND_REPLACE);
      common->mutable_body_mutation()->set_body("instead");
    });
    AddPlugin()->phases[CALLOUT_REQUEST_BODY] = SetsHeader("x-new", "1");
    EXPECT_EQ(Refused(Run(CALLOUT_REQUEST_HEADERS, kBuffered, count, {})), count == 3);
  }
}

TEST_F(HeaderLimitsTest, HoldWhereAnOverrideMakesTheBodyBuffered) {
  limits_.mode_override = EnvoyModeOverride::kAllowed;
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    using Mode = envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;
    Mode mode;
    mode.set_request_body_mode(Mode::BUFFERED);
    const std::string bytes = mode.SerializeAsString();
    return call->host->annotate(call, CALLOUT_MODE_OVERRIDE, ToBytes(bytes));
  };
  plugin->phases[CALLOUT_REQUEST_BODY] = SetsHeader("x-new", "1");
  EXPECT_TRUE(Refused(Run(CALLOUT_REQUEST_HEADERS, kNone, 3)));
}

TEST_F(HeaderLimitsTest, AreNotPassedByThePolicyContinue) {
  AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_REQUEST_BODY] =
      SetsHeader("x-new", "1");
  EXPECT_TRUE(Refused(Run(CALLOUT_REQUEST_HEADERS, kBuffered, 3)));
}

TEST_F(HeaderLimitsTest, KeepTheHeadersUntilTheBodyIsAnswered) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-first", "1");
  plugin->phases[CALLOUT_REQUEST_BODY] = SetsHeader("x-first", "2");
  Run(CALLOUT_REQUEST_HEADERS, kBuffered, 2, {});
  EXPECT_GT(stream_->kept_bytes(), 0u);
  Feed(Body(CALLOUT_REQUEST_BODY, "body", true));
  EXPECT_EQ(Mutations(Take().at(0).request_body().response().header_mutation()),
            (std::vector<std::string>{"set x-first=2"}));
  EXPECT_EQ(stream_->kept_bytes(), 0u);
}

TEST_F(HeaderLimitsTest, AskForNoMemoryWhereNothingCanChangeThem) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-first", "1");
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = Returns(CALLOUT_OK);
  Run(CALLOUT_REQUEST_HEADERS, kBuffered, 2, {});
  EXPECT_EQ(stream_->kept_bytes(), 0u);
}

}  // namespace
}  // namespace callout::host
