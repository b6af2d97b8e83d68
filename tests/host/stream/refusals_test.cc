// SPDX-License-Identifier: Apache-2.0

// A refusal stands: what a hook says after it, and what it returns, never lets the request pass.
// The hooks use the C layer of plugin_api/ on the real host; so do its C++ and other layers.
#include <callout/message.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <string>
#include <thread>
#include <vector>

#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

callout_status_t AddHeader(callout_call_t* call) {
  const callout_header_t header = {callout_text("x-internal-token"), callout_text("s3cret")};
  return callout_add_header_mutation(call, &header, 1, nullptr, 0, 0,
                                     CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD);
}

callout_status_t SendsAll(callout_call_t* call, callout_field_t field, const std::string& bytes) {
  const callout_bytes_t part = ToBytes(bytes);
  return call->host->send(call, field, &part, 1);
}

// ImmediateResponse: status 1 (HttpStatus: code 1: 403).
const std::string& Denial() {
  static const std::string denial("\x0a\x03\x08\x93\x03");
  return denial;
}

// A denial, and what the hook does and returns after it.
struct DenialCase {
  std::string what;
  FakePlugin::Hook hook;
  int http_status;  // with which the client is answered
};

FakePlugin::Hook DeniesAndThen(FakePlugin::Hook rest) {
  return [rest = std::move(rest)](callout_call_t* call) {
    EXPECT_EQ(callout_deny(call, 403, "no"), CALLOUT_OK);
    return rest(call);
  };
}

std::vector<DenialCase> Cases() {
  const std::string huge(5000, 'x');
  return {
      {"nothing", DeniesAndThen(Returns(CALLOUT_OK)), 403},
      {"a header, whose status is returned", DeniesAndThen(AddHeader), 500},
      {"a header, whose status is ignored", DeniesAndThen([](callout_call_t* call) {
         EXPECT_EQ(AddHeader(call), CALLOUT_FAILED_PRECONDITION);
         return callout_status_t{CALLOUT_OK};
       }),
       403},
      {"another denial", DeniesAndThen([](callout_call_t* call) {
         EXPECT_EQ(callout_deny(call, 200, "welcome"), CALLOUT_FAILED_PRECONDITION);
         return callout_status_t{CALLOUT_OK};
       }),
       403},
      {"a piece of a reply", DeniesAndThen([](callout_call_t* call) {
         EXPECT_EQ(call->host->send(call, CALLOUT_STREAMED_IMMEDIATE_RESPONSE, nullptr, 0),
                   CALLOUT_FAILED_PRECONDITION);
         return callout_status_t{CALLOUT_OK};
       }),
       403},
      {"a whole response", DeniesAndThen([](callout_call_t* call) {
         const callout_bytes_t part = callout_make_bytes("\x0a\x00", 2);
         EXPECT_EQ(call->host->respond(call, CALLOUT_WHOLE_RESPONSE, &part, 1),
                   CALLOUT_FAILED_PRECONDITION);
         return callout_status_t{CALLOUT_OK};
       }),
       403},
      {"PERMISSION_DENIED", DeniesAndThen(Returns(CALLOUT_PERMISSION_DENIED)), 403},
      {"UNAUTHENTICATED", DeniesAndThen(Returns(CALLOUT_UNAUTHENTICATED)), 403},
      {"NO_RESPONSE", DeniesAndThen(Returns(CALLOUT_NO_RESPONSE)), 403},
      {"an error", DeniesAndThen(Returns(CALLOUT_INTERNAL)), 500},
      {"a status that no hook has", DeniesAndThen(Returns(42)), 500},
      {"metadata over the limit", DeniesAndThen([huge](callout_call_t* call) {
         callout_set_dynamic_metadata(call, ToBytes(huge));
         return callout_status_t{CALLOUT_OK};
       }),
       500},
      {"a denial before, by a header first",
       [](callout_call_t* call) {
         EXPECT_EQ(AddHeader(call), CALLOUT_OK);
         return callout_deny(call, 403, "no");
       },
       403},
      {"a denial with a status that is none",
       [](callout_call_t* call) { return callout_deny(call, 99, "no"); }, 500},
      {"a denial with a status that is none, which is ignored",
       [](callout_call_t* call) {
         EXPECT_EQ(callout_deny(call, 99, "no"), CALLOUT_INVALID_ARGUMENT);
         return callout_status_t{CALLOUT_OK};
       },
       500},
      {"a denial after a step that failed",
       [](callout_call_t* call) {
         callout_answer_t answer;
         callout_answer_init(&answer, call, nullptr, 0);
         callout_answer_set_header(&answer, callout_text("a"), callout_text("b"), 77);
         callout_answer_immediate(&answer, 403);
         return callout_answer_respond(&answer, call);
       },
       500},
      {"a denial over the limit",
       [huge](callout_call_t* call) { return callout_deny(call, 403, huge.c_str()); }, 500},
      {"a denial over the limit, and then a header",
       [huge](callout_call_t* call) {
         EXPECT_EQ(callout_deny(call, 403, huge.c_str()), CALLOUT_RESOURCE_EXHAUSTED);
         EXPECT_EQ(AddHeader(call), CALLOUT_FAILED_PRECONDITION);
         return callout_status_t{CALLOUT_OK};
       },
       500},
      {"a denial by send()",
       [](callout_call_t* call) {
         SendsAll(call, CALLOUT_IMMEDIATE_RESPONSE, Denial());
         return callout_status_t{CALLOUT_OK};
       },
       500},
      {"a denial by send(), and then a header",
       [](callout_call_t* call) {
         SendsAll(call, CALLOUT_IMMEDIATE_RESPONSE, Denial());
         EXPECT_EQ(AddHeader(call), CALLOUT_FAILED_PRECONDITION);
         return callout_status_t{CALLOUT_OK};
       },
       500},
      {"a denial by send() that is over the limit",
       [huge](callout_call_t* call) {
         EXPECT_EQ(SendsAll(call, CALLOUT_IMMEDIATE_RESPONSE, huge), CALLOUT_RESOURCE_EXHAUSTED);
         return callout_status_t{CALLOUT_OK};
       },
       500},
      {"a reply in pieces whose first is over the limit",
       [huge](callout_call_t* call) {
         EXPECT_EQ(SendsAll(call, CALLOUT_STREAMED_IMMEDIATE_RESPONSE, huge),
                   CALLOUT_RESOURCE_EXHAUSTED);
         return callout_status_t{CALLOUT_OK};
       },
       500},
      {"a reply in pieces whose first is no message",
       [](callout_call_t* call) {
         SendsAll(call, CALLOUT_STREAMED_IMMEDIATE_RESPONSE, "\x0a\x7f");
         return callout_status_t{CALLOUT_OK};
       },
       500},
      {"a reply in pieces without headers",
       [](callout_call_t* call) {
         SendsAll(call, CALLOUT_STREAMED_IMMEDIATE_RESPONSE, std::string("\x12\x00", 2));
         return callout_status_t{CALLOUT_OK};
       },
       500},
  };
}

class RefusalsTest : public StreamTest {
 protected:
  RefusalsTest() { message_bytes_max_ = 4000; }
};

TEST_F(RefusalsTest, StandWhateverTheHookSaysAndReturnsAfterThem) {
  for (const auto action : {ErrorPolicy::Action::kFail, ErrorPolicy::Action::kContinue}) {
    for (const DenialCase& c : Cases()) {
      SCOPED_TRACE(c.what);
      Reset();
      AddPlugin(action)->phases[CALLOUT_REQUEST_HEADERS] = c.hook;
      Begin();
      const ProcessingResponse told = Exchange(Headers(CALLOUT_REQUEST_HEADERS));
      EXPECT_TRUE(told.has_immediate_response()) << told.DebugString();
      EXPECT_EQ(told.immediate_response().status().code(), c.http_status);
      EXPECT_EQ(told.DebugString().find("s3cret"), std::string::npos);
    }
  }
}

TEST_F(RefusalsTest, StandInABodyThatRuns) {
  AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_REQUEST_BODY] =
      [](callout_call_t* call) {
        EXPECT_EQ(callout_deny(call, 403, "no"), CALLOUT_OK);
        EXPECT_EQ(SendChunk(call, "a piece"), CALLOUT_FAILED_PRECONDITION);
        return callout_status_t{CALLOUT_NO_RESPONSE};
      };
  Begin();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Take();
  Feed(Body(CALLOUT_REQUEST_BODY, "abc", false));
  const std::vector<ProcessingResponse> told = Take();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].immediate_response().status().code(), 403);
}

TEST_F(RefusalsTest, AreNoPieceOfABodyThatRuns) {
  AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_REQUEST_BODY] =
      [](callout_call_t* call) {
        SendsAll(call, CALLOUT_IMMEDIATE_RESPONSE, Denial());
        return callout_status_t{CALLOUT_NO_RESPONSE};
      };
  Begin();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Take();
  Feed(Body(CALLOUT_REQUEST_BODY, "abc", false));
  EXPECT_TRUE(Take().empty());
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_FALSE(stream_->end()->ok());
}

TEST_F(RefusalsTest, StandWhereThePluginForgetsToFinishTheCall) {
  for (const auto action : {ErrorPolicy::Action::kFail, ErrorPolicy::Action::kContinue}) {
    for (const bool in_hook : {true, false}) {
      Reset();
      callout_call_t* forgotten = nullptr;
      AddPlugin(action)->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
        forgotten = call;
        if (in_hook) {
          EXPECT_EQ(callout_deny(call, 403, "no"), CALLOUT_OK);
        }
        return callout_status_t{CALLOUT_DEFERRED};
      };
      Begin();
      Feed(Headers(CALLOUT_REQUEST_HEADERS));
      if (!in_hook) {
        std::thread([&] { EXPECT_EQ(callout_deny(forgotten, 403, "no"), CALLOUT_OK); }).join();
      }
      PassDeadline();
      const std::vector<ProcessingResponse> told = Take();
      ASSERT_EQ(told.size(), 1u);
      EXPECT_EQ(told[0].immediate_response().status().code(), 500) << told[0].DebugString();
      EXPECT_EQ(told[0].immediate_response().details(), "callout_deadline");
      forgotten->host->finish(forgotten, CALLOUT_OK);
      Deliver();
    }
  }
}

TEST_F(RefusalsTest, StandWhereABlockingHookDoesNotReturn) {
  std::promise<void> denied, go_on;
  InstanceSettings settings;
  settings.policy = ErrorPolicy{ErrorPolicy::Action::kContinue, 0};
  AddBlocking(settings)->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    EXPECT_EQ(callout_deny(call, 403, "no"), CALLOUT_OK);
    denied.set_value();
    go_on.get_future().wait();  // writes to an audit log that hangs
    return callout_status_t{CALLOUT_OK};
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  denied.get_future().wait();
  PassDeadline();
  const std::vector<ProcessingResponse> told = Take();
  go_on.set_value();
  WaitAndDeliver();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].immediate_response().status().code(), 500) << told[0].DebugString();
}

TEST_F(RefusalsTest, StandWhereTooManyCallsAreDeferred) {
  limits_.deferred_max = 0;
  callout_call_t* deferred = nullptr;
  AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_REQUEST_HEADERS] =
      [&](callout_call_t* call) {
        deferred = call;
        EXPECT_EQ(callout_deny(call, 403, "no"), CALLOUT_OK);
        return callout_status_t{CALLOUT_DEFERRED};
      };
  Begin();
  EXPECT_EQ(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).immediate_response().status().code(), 503);
  deferred->host->finish(deferred, CALLOUT_OK);
  Deliver();
}

TEST_F(RefusalsTest, StandWhereTheyComeTooEarly) {
  FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kContinue);
  plugin->open = [](callout_call_t* call) {
    EXPECT_EQ(callout_deny(call, 403, "no"), CALLOUT_FAILED_PRECONDITION);
    return callout_status_t{CALLOUT_OK};
  };
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  Begin();
  EXPECT_EQ(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).immediate_response().status().code(), 500);
}

TEST_F(RefusalsTest, OfOnProcessStandBeforeTheHookOfThePhase) {
  FakePlugin* plugin = AddPlugin();
  plugin->process = [](callout_call_t* call) {
    EXPECT_EQ(callout_deny(call, 403, "no"), CALLOUT_OK);
    return callout_status_t{CALLOUT_NEXT};
  };
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    EXPECT_EQ(AddHeader(call), CALLOUT_FAILED_PRECONDITION);
    return callout_status_t{CALLOUT_OK};
  };
  Begin();
  EXPECT_EQ(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).immediate_response().status().code(), 403);
}

TEST_F(RefusalsTest, AreRefusedNoLongerInTheNextCall) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) { return AddHeader(call); };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = RepliesAtOnce(503);
  Begin();
  EXPECT_TRUE(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).has_request_headers());
  EXPECT_EQ(Exchange(Headers(CALLOUT_RESPONSE_HEADERS)).immediate_response().status().code(), 503);
}

TEST_F(RefusalsTest, SayInTheLogWhatCameAfterThem) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = DeniesAndThen(AddHeader);
  name_prefix_ = "late";  // the log writes such a line once a minute
  Begin();
  testing::internal::CaptureStderr();
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              ::testing::HasSubstr("plugin late0: respond() was refused in request_headers: a "
                                   "refusal was set before, and stands; return from the hook "
                                   "after it"));
}

}  // namespace
}  // namespace callout::host
