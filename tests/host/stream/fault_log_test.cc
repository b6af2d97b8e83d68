// SPDX-License-Identifier: Apache-2.0

// What the log says of each kind of fault: plugin, phase, what was found, the limit and
// the option that changes it.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <set>

#include "absl/synchronization/notification.h"
#include "host/base/log.h"
#include "host/stream/fault_kinds.h"
#include "host/stream/stream.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;

const Pairs kSent = {{":path", "/"}, {"x-request-id", "id-4711"}};

class FaultLogTest : public StreamTest {
 public:
  using Hook = FakePlugin::Hook;

  void Request(const Hook& headers) {
    AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = headers;
    Begin();
    Feed(Headers(CALLOUT_REQUEST_HEADERS, false, kSent));
  }
  // One chunk of a request's body to a plugin that takes chunks, or whole bodies of up
  // to `whole_bytes`.
  void RequestBody(const Hook& body, int mode, uint64_t whole_bytes = 0, Pairs sent = {}) {
    FakePlugin* plugin = whole_bytes > 0 ? AddGatherer(whole_bytes) : AddPlugin();
    plugin->phases[CALLOUT_REQUEST_BODY] = body;
    Begin();
    sent.insert(sent.begin(), kSent.begin(), kSent.end());
    Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS, false, sent), mode, kNone));
    if (stream_->wants_message()) Feed(Body(CALLOUT_REQUEST_BODY, "four", false));
  }
  void FinishDeferred() {
    callout_call_t* call = nullptr;
    std::swap(call, deferred_);
    call->host->finish(call, CALLOUT_OK);
  }

  StreamLimits* limits() { return &limits_; }
  void set_message_bytes_max(size_t bytes) { message_bytes_max_ = bytes; }
  Hook Defers() {
    return [this](callout_call_t* call) {
      deferred_ = call;
      return CALLOUT_DEFERRED;
    };
  }
  void WaitNoLonger() { PassDeadline(); }
  void FeedTrailers() { Feed(Trailers(CALLOUT_REQUEST_TRAILERS)); }
  void HoldHeadersToTheEnd() {
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_NO_RESPONSE);
    plugin->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_NO_RESPONSE);
    Begin();
    Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS, false, kSent), kDuplex, kNone));
    Feed(Body(CALLOUT_REQUEST_BODY, "all", true));
  }
  void FailToBeginInTime() {
    limits_.blocking_threads_max = 1;
    AddBlocking()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
    Begin();
    auto done = std::make_shared<absl::Notification>();
    environment_->blocking_pool().Submit([done] { done->WaitForNotification(); });
    Feed(Headers(CALLOUT_REQUEST_HEADERS, false, kSent));
    PassDeadline();
    done->Notify();
  }

  // The line that `provoke` leaves in the log.
  std::string LineOf(const std::function<void()>& provoke) {
    Reset();
    limits_ = {};
    message_bytes_max_ = 1 << 20;
    name_prefix_ = fmt::format("logged{}_", ++round_);
    testing::internal::CaptureStderr();
    provoke();
    if (deferred_ != nullptr) FinishDeferred();
    Deliver();
    return testing::internal::GetCapturedStderr();
  }
  std::string name() const { return name_prefix_ + "0"; }

 private:
  callout_call_t* deferred_ = nullptr;
  static inline int round_ = 0;  // of all tests: a plugin logs a kind once in a minute
};

callout_status_t RespondBytes(callout_call_t* call, callout_field_t field, std::string_view bytes) {
  const callout_bytes_t part = ToBytes(bytes);
  return call->host->respond(call, field, &part, 1);
}

struct LogRow {
  Violation kind;
  callout_phase_t phase;
  std::function<void(FaultLogTest*)> provoke;
  std::string what;  // found, with limit and option where there are any
  bool error = false;
};

std::vector<LogRow> Rows() {
  using T = FaultLogTest*;
  constexpr callout_phase_t kHeaders = CALLOUT_REQUEST_HEADERS;
  constexpr callout_phase_t kBody = CALLOUT_REQUEST_BODY;
  const auto streamed = [](callout_call_t* call) {
    return Answers([](CommonResponse* common) {
      common->mutable_body_mutation()->mutable_streamed_response()->set_body("x");
    })(call);
  };
  return {
      {Violation::kWrongType, kHeaders,
       [](T t) { t->Request([](callout_call_t* call) { return RespondBytes(call, 2, ""); }); },
       "field 2 of ProcessingResponse, expected 1"},
      {Violation::kSecondResponse, kBody,
       [](T t) {
         t->RequestBody([](callout_call_t* call) { return SendChunk(call, "x"); }, kStreamed);
       },
       "send() belongs to bodies in FULL_DUPLEX_STREAMED"},
      {Violation::kMalformed, kHeaders,
       [](T t) { t->Request([](callout_call_t* call) { return RespondBytes(call, 1, "\xff"); }); },
       "1 bytes that are no request_headers message"},
      {Violation::kTooLarge, kHeaders,
       [](T t) {
         t->set_message_bytes_max(100);
         t->Request([](callout_call_t* call) {
           RespondBytes(call, 1, std::string(200, 'x'));
           return CALLOUT_OK;
         });
       },
       "over --max_message_bytes=100"},
      {Violation::kIllegalHeader, kHeaders, [](T t) { t->Request(SetsHeader("x-name", "a\nb")); },
       "the byte 0x0a in the value of header 'x-name'"},
      {Violation::kIllegalHeader, kHeaders,
       [](T t) {
         t->limits()->header_count_max = 2;
         t->Request(SetsHeader("x-name", "a"));
       },
       "3 headers, limit --max_header_count=2"},
      {Violation::kIllegalHeader, kHeaders,
       [](T t) {
         t->limits()->header_bytes_max = 50;
         t->Request(SetsHeader("x-name", std::string(100, 'v')));
       },
       "131 bytes of headers, limit --max_header_bytes=50"},
      {Violation::kIllegalHeader, kHeaders,
       [](T t) {
         t->Request(Answers([](CommonResponse* common) {
           for (int i = 0; i < 101; ++i) AddSet(common, "x-name", "a");
         }));
       },
       "101 entries in set_headers, Envoy's limit is 100"},
      {Violation::kIllegalBody, kBody, [streamed](T t) { t->RequestBody(streamed, kStreamed); },
       "streamed_response, which belongs to bodies in FULL_DUPLEX_STREAMED"},
      {Violation::kBadStatus, kHeaders, [](T t) { t->Request(Returns(42)); },
       "the hook returned 42"},
      {Violation::kErrorStatus, kHeaders, [](T t) { t->Request(Returns(CALLOUT_INTERNAL)); },
       "INTERNAL"},
      {Violation::kDeadline, kHeaders,
       [](T t) {
         t->Request(t->Defers());
         t->WaitNoLonger();
       },
       "not finished within --hook_deadline_ms=150"},
      {Violation::kDeadline, kBody,
       [](T t) {
         t->RequestBody(Returns(CALLOUT_OK), kStreamed, 100);
         t->WaitNoLonger();
       },
       "did not end within --body_wait_ms=60000"},
      {Violation::kBodyTooLarge, kBody,
       [](T t) { t->RequestBody(Returns(CALLOUT_OK), kStreamed, 3); },
       "more than the 3 bytes that the plugin takes whole (setting max_whole_body_bytes)"},
      {Violation::kDeferLimit, kHeaders,
       [](T t) {
         t->limits()->deferred_max = 0;
         t->Request(t->Defers());
       },
       "limit --max_deferred=0"},
      {Violation::kBodyLost, CALLOUT_REQUEST_TRAILERS,
       [](T t) {
         t->RequestBody(Returns(CALLOUT_OK), kStreamed, 100);
         t->FeedTrailers();
       },
       "use BUFFERED or FULL_DUPLEX_STREAMED", true},
      {Violation::kStaleFinish, kHeaders,
       [](T t) {
         t->Request([](callout_call_t* call) {
           call->host->finish(call, CALLOUT_OK);
           call->host->finish(call, CALLOUT_OK);
           return CALLOUT_DEFERRED;
         });
       },
       "call it once for each CALLOUT_DEFERRED"},
      {Violation::kHeadersHeld, kBody, [](T t) { t->HoldHeadersToTheEnd(); },
       "held with CALLOUT_NO_RESPONSE were not settled"},
      {Violation::kLateHeader, kBody,
       [](T t) { t->RequestBody(SetsHeader("x-name", "a"), kStreamed); },
       "make it in the headers hook, or take whole bodies in BUFFERED or FULL_DUPLEX_STREAMED"},
      {Violation::kEncodedBody, kBody,
       [](T t) {
         t->RequestBody(ReplacesBody("x"), kStreamed, 0, {{"content-encoding", "gzip"}});
       },
       "remove or set content-encoding in the headers hook, or use BUFFERED"},
      {Violation::kEndlessBody, kHeaders,
       [](T t) {
         t->RequestBody(Returns(CALLOUT_OK), kStreamed, 100, {{":method", "CONNECT"}});
       },
       "settings endless_body and leave_responses"},
      {Violation::kOverload, kHeaders, [](T t) { t->FailToBeginInTime(); },
       "within --hook_deadline_ms=150; --blocking_threads=1"},
  };
}

TEST_F(FaultLogTest, ALineHasTheRequestAsMembersOfJson) {
  SetLogFormat(LogFormat::kJson);
  const std::string log = LineOf([&] { Request(Returns(CALLOUT_INTERNAL)); });
  SetLogFormat(LogFormat::kText);
  const auto line = nlohmann::json::parse(log, nullptr, false);
  ASSERT_TRUE(line.is_object()) << log;
  EXPECT_EQ(line["level"], "warning");
  EXPECT_TRUE(line["stream"].is_number());
  EXPECT_EQ(line["x-request-id"], "id-4711");
  EXPECT_EQ(line["plugin"], name());
  EXPECT_EQ(line["phase"], "request_headers");
  EXPECT_EQ(line["fault"], "error_status");
  EXPECT_FALSE(line.contains("trace_id"));
}

// In whatever phase, and also where no call is at fault.
TEST_F(FaultLogTest, ALineNamesTheRequest) {
  for (const LogRow& row : Rows()) {
    if (row.kind == Violation::kStaleFinish) continue;  // the request may be over
    SCOPED_TRACE(ViolationName(row.kind));
    const std::string log = LineOf([&] { row.provoke(this); });
    EXPECT_THAT(log, HasSubstr(", x-request-id id-4711"));
  }
}

TEST_F(FaultLogTest, ALineNamesPluginPhaseFindingLimitAndOption) {
  std::set<Violation> seen;
  for (const LogRow& row : Rows()) {
    const std::string_view kind = ViolationName(row.kind);
    SCOPED_TRACE(kind);
    seen.insert(row.kind);
    const std::string log = LineOf([&] { row.provoke(this); });
    const std::string begin = fmt::format(
        "{} plugin {}: {}{}: {}: ", row.error ? "ERROR" : "WARNING", name(),
        IsInvalidResponse(row.kind) ? "invalid response to " : "", PhaseName(row.phase), kind);
    EXPECT_THAT(log, HasSubstr(begin));
    const size_t at = log.find(begin);
    if (at == std::string::npos) continue;
    const std::string line = log.substr(at, log.find('\n', at) - at);
    EXPECT_THAT(line, HasSubstr(row.what));
    EXPECT_THAT(line, HasSubstr("(stream "));
  }
  seen.insert(Violation::kNotCarried);  // of Checks only: tests/host/unary
  // Whoever adds a kind adds a row.
  for (const FaultKind& kind : kFaultKinds) {
    EXPECT_TRUE(seen.contains(kind.violation)) << ViolationName(kind.violation);
  }
}

}  // namespace
}  // namespace callout::host
