// SPDX-License-Identifier: Apache-2.0

// Every body mode, with everything that a plugin can do to a body, with every
// kind of body, in both directions: the client never gets an error that no
// plugin asked for, what arrives is what the plugin made of it, and Envoy never
// counts a message of a wrong form.
//
// One Envoy with a listener for each mode; behind it the host with the scripted
// plugin, and a second host whose plugin has no body hook.
#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "backend.h"
#include "client.h"
#include "envoy_config.h"
#include "envoy_fixture.h"
#include "host_process.h"
#include "plugins/scripted.h"

namespace callout::tests {
namespace {

using nlohmann::json;

constexpr uint32_t kBufferBytes = 64 << 20;
constexpr size_t kLargeBytes = 10 << 20;

struct Mode {
  const char* name;
  const char* body_mode;
  bool trailers = false;  // are sent to the host
  bool early = false;     // send_body_without_waiting_for_header_response
};

constexpr Mode kModes[] = {
    {"None", "NONE"},
    {"NoneTrailers", "NONE", true},
    {"Streamed", "STREAMED"},
    {"StreamedTrailers", "STREAMED", true},
    {"StreamedEarly", "STREAMED", true, true},
    {"Buffered", "BUFFERED"},
    {"BufferedTrailers", "BUFFERED", true},
    {"Partial", "BUFFERED_PARTIAL"},
    {"PartialTrailers", "BUFFERED_PARTIAL", true},
    {"FullDuplex", "FULL_DUPLEX_STREAMED", true},
};

enum class Deed { kNoHook, kLeave, kShorter, kLonger, kClear, kDenyHeaders, kDenyBody, kHeader };

struct NamedDeed {
  const char* name;
  Deed deed;
  const char* phase;        // "headers", "body"
  const char* instruction;  // of the scripted plugin
};

constexpr NamedDeed kDeeds[] = {
    {"NoHook", Deed::kNoHook, "body", "leave"},
    {"Leave", Deed::kLeave, "body", "leave"},
    {"Shorter", Deed::kShorter, "body", "shorter"},
    {"Longer", Deed::kLonger, "body", "longer"},
    {"Clear", Deed::kClear, "body", "clear"},
    {"DenyInHeaders", Deed::kDenyHeaders, "headers", "deny"},
    {"DenyInBody", Deed::kDenyBody, "body", "deny"},
    {"HeaderInBody", Deed::kHeader, "body", "header"},
};

enum class Shape { kNone, kOneChunk, kLength, kManyChunks, kTrailers, kLarge };

struct NamedShape {
  const char* name;
  Shape shape;
};

constexpr NamedShape kShapes[] = {
    {"NoBody", Shape::kNone},           {"OneChunk", Shape::kOneChunk},
    {"ContentLength", Shape::kLength},  {"ManyChunks", Shape::kManyChunks},
    {"WithTrailers", Shape::kTrailers}, {"TenMegabytes", Shape::kLarge},
};

struct Case {
  bool request;  // else the response
  Mode mode;
  NamedDeed deed;
  NamedShape shape;
};

void PrintTo(const Case& test, std::ostream* out) {
  *out << test.mode.body_mode << ' ' << test.deed.name << ' ' << test.shape.name;
}

std::string NameOf(const ::testing::TestParamInfo<Case>& info) {
  return absl::StrCat(info.param.request ? "Request" : "Response", "_", info.param.mode.name, "_",
                      info.param.deed.name, "_", info.param.shape.name);
}

std::vector<Case> AllCases() {
  std::vector<Case> cases;
  for (const Mode& mode : kModes) {
    for (const NamedDeed& deed : kDeeds) {
      for (const NamedShape& shape : kShapes) {
        cases.push_back({true, mode, deed, shape});
        cases.push_back({false, mode, deed, shape});
      }
    }
  }
  return cases;
}

json ProcessingMode(const Mode& mode, bool request) {
  const std::string direction = request ? "request" : "response";
  json processing = {{direction + "_body_mode", mode.body_mode}};
  if (mode.trailers) processing[direction + "_trailer_mode"] = "SEND";
  return processing;
}

HttpBody MakeBody(Shape shape) {
  switch (shape) {
    case Shape::kNone:
      return {};
    case Shape::kOneChunk:
      return {.pieces = {"the only chunk"}, .chunked = true};
    case Shape::kLength:
      return {.pieces = {"a body whose length is known"}};
    case Shape::kManyChunks:
      return {.pieces = {"one ", "two ", "three ", "four"}, .chunked = true};
    case Shape::kTrailers:
      return {.pieces = {"before ", "trailers"}, .chunked = true, .trailers = {{"x-end", "yes"}}};
    case Shape::kLarge:
      return {.pieces = {std::string(kLargeBytes, '.')}};
  }
  return {};
}

std::string Joined(const HttpBody& body) {
  std::string joined;
  for (const std::string& piece : body.pieces) joined += piece;
  return joined;
}

// The processes that all cases share.
struct Processes {
  Processes();

  Backend backend;
  HostProcess scripted{{"--plugin=" + BuiltFile("tests/envoy/plugins/scripted.so")}};
  HostProcess hookless{{"--plugin=" + BuiltFile("tests/envoy/plugins/scripted.so"),
                        "--plugin_config=scripted=headers"}};
  std::unique_ptr<EnvoyProcess> envoy;
};

std::string ListenerOf(const Case& test, bool hookless) {
  return absl::StrCat(test.request ? "request" : "response", test.mode.name,
                      hookless ? "Hookless" : "");
}

Processes::Processes() {
  EnvoyConfig config;
  config.backend_port = backend.port();
  config.hosts["scripted"] = {scripted.port("plaintext")};
  config.hosts["hookless"] = {hookless.port("plaintext")};
  for (const Mode& mode : kModes) {
    for (const bool request : {true, false}) {
      for (const bool bare : {true, false}) {
        json settings = {{"processing_mode", ProcessingMode(mode, request)}};
        if (mode.early) settings["send_body_without_waiting_for_header_response"] = true;
        config.listeners.push_back({.name = ListenerOf({request, mode, {}, {}}, bare),
                                    .filters = {ExtProc(settings, bare ? "hookless" : "scripted")},
                                    .buffer_bytes_max = kBufferBytes});
      }
    }
  }
  envoy = std::make_unique<EnvoyProcess>(MakeBootstrap(config));
}

class BodyModesTest : public EnvoyFixture, public ::testing::WithParamInterface<Case> {
 protected:
  static void SetUpTestSuite() {
    if (EnvoyProcess::Available()) processes_ = std::make_unique<Processes>();
  }
  static void TearDownTestSuite() { processes_.reset(); }

  static std::unique_ptr<Processes> processes_;
};

std::unique_ptr<Processes> BodyModesTest::processes_;

// The host is asked about the body: there is one, and the mode sends it.
bool IsAsked(const Case& test) {
  return test.shape.shape != Shape::kNone && std::string_view(test.mode.body_mode) != "NONE";
}

// The plugin changes a header in its body hook when the headers have gone. Envoy holds
// them until the body has been answered only in the buffered modes.
bool IsTooLate(const Case& test) {
  return test.deed.deed == Deed::kHeader && IsAsked(test) &&
         !absl::StartsWith(test.mode.body_mode, "BUFFERED");
}

// `body` after the plugin has done its deed to it, in however many messages.
void ExpectBody(const Case& test, const std::string& body) {
  const std::string sent = Joined(MakeBody(test.shape.shape));
  if (!IsAsked(test)) {
    EXPECT_TRUE(body == sent) << body.size();
    return;
  }
  switch (test.deed.deed) {
    case Deed::kShorter:
      EXPECT_FALSE(body.empty());
      EXPECT_EQ(body, std::string(body.size(), kShorter[0]));
      break;
    case Deed::kLonger:
      EXPECT_GT(body.size(), sent.size());
      EXPECT_TRUE(absl::StrReplaceAll(body, {{std::string(kLonger), ""}}) == sent) << body.size();
      break;
    case Deed::kClear:
      EXPECT_EQ(body, "");
      break;
    default:
      EXPECT_TRUE(body == sent) << body.size();
  }
}

// What the receiver of the direction got. `message` is complete and was not denied.
void ExpectDelivery(const Case& test, const HttpMessage& message) {
  EXPECT_TRUE(message.complete) << ::testing::PrintToString(message);
  ExpectBody(test, message.body);
  if (test.shape.shape == Shape::kTrailers) {
    EXPECT_THAT(ValuesOf(message.trailers, "x-end"), ::testing::ElementsAre("yes"));
  }
  if (test.deed.deed == Deed::kHeader && IsAsked(test)) {
    EXPECT_EQ(message.Header(std::string(kChangedHeader)),
              test.request ? "request-body" : "response-body");
  }
}

TEST_P(BodyModesTest, NeverFailsByForm) {
  const Case& test = GetParam();
  const std::string direction = test.request ? "request" : "response";
  const std::string id = NameOf({test, 0});
  const std::string listener = ListenerOf(test, test.deed.deed == Deed::kNoHook);
  EnvoyProcess& envoy = *processes_->envoy;

  ClientRequest request = {
      .method = test.request && test.shape.shape != Shape::kNone ? "POST" : "GET",
      .headers = {{kTestIdHeader, id},
                  {absl::StrCat("x-do-", direction, "-", test.deed.phase), test.deed.instruction}}};
  BackendAnswer answer;
  HttpBody& body = test.request ? request.body : answer.body;
  body = MakeBody(test.shape.shape);
  if (test.shape.shape == Shape::kManyChunks) {
    // Each chunk leaves when Envoy has read the one before, so that they come one by one.
    const std::string counter =
        test.request ? absl::StrCat("http.", listener, ".downstream_cx_rx_bytes_total")
                     : "cluster.backend.upstream_cx_rx_bytes_total";
    body.may_send = [&envoy, counter, before = envoy.Counter(counter)](size_t sent) {
      return envoy.Counter(counter) >= before + sent;
    };
  }
  processes_->backend.Answer(answer);

  const std::string failed = absl::StrCat("http.", listener, ".ext_proc.streams_failed");
  const uint64_t failed_before = envoy.Counter(failed);
  const HttpMessage response = Exchange(envoy.port(listener), request);
  const std::optional<HttpMessage> received = processes_->backend.TakeRequest(id);

  if (IsTooLate(test)) {
    EXPECT_TRUE(response.status >= 500 || !response.complete) << ::testing::PrintToString(response);
    EXPECT_EQ(envoy.Counter(absl::StrCat("http.", listener, ".ext_proc.spurious_msgs_received")),
              0u);
    return;
  }
  const bool denied =
      test.deed.deed == Deed::kDenyHeaders || (test.deed.deed == Deed::kDenyBody && IsAsked(test));
  if (denied && response.status != 200) {
    EXPECT_EQ(response.status, kDeniedStatus);
    EXPECT_EQ(response.body, kDenied);
  } else if (denied) {
    // The response's headers had gone out: all that is left is to cut it.
    EXPECT_FALSE(test.request);
    EXPECT_FALSE(response.complete);
  } else {
    EXPECT_EQ(response.status, 200) << ::testing::PrintToString(response);
    ASSERT_TRUE(received.has_value());
    ExpectDelivery(test, test.request ? *received : response);
  }
  EXPECT_EQ(envoy.Counter(failed), failed_before);
  for (const char* counter : {"spurious_msgs_received", "message_timeouts"}) {
    EXPECT_EQ(envoy.Counter(absl::StrCat("http.", listener, ".ext_proc.", counter)), 0u) << counter;
  }
}

INSTANTIATE_TEST_SUITE_P(Table, BodyModesTest, ::testing::ValuesIn(AllCases()), NameOf);

}  // namespace
}  // namespace callout::tests
