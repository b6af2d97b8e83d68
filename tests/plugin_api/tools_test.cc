// SPDX-License-Identifier: Apache-2.0

// The tools by the samples' names, in C and in C++: a table of what each makes of its arguments.
#include <callout/tools.h>
#include <gtest/gtest.h>

#include <callout/tools.hpp>
#include <string>
#include <vector>

#include "tests/plugin_api/call_fixture.h"

namespace callout {
namespace {

using envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;
using envoy::service::ext_proc::v3::StreamedImmediateResponse;

class Tools : public CallTest {};

const callout_header_t kAdd[] = {CALLOUT_HEADER("x-a", "1"), CALLOUT_HEADER("x-b", "2")};
const callout_bytes_t kRemove[] = {CALLOUT_TEXT("foo"), CALLOUT_TEXT("x-b")};

TEST_F(Tools, AddHeaderMutationSetsAfterItRemoves) {
  const Hook in_c = [](callout_call_t* call) {
    return callout_add_header_mutation(call, kAdd, 2, kRemove, 2, 1,
                                       CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD);
  };
  const Hook in_cpp = AtEdge<HeadersCall>([](HeadersCall& call) {
    add_header_mutation(call, {{"x-a", "1"}, {"x-b", "2"}}, {"foo", "x-b"}, true);
  });
  for (const Hook& hook : {in_c, in_cpp}) {
    const testing::Answer answer = Headers(hook);
    ASSERT_EQ(answer.status, CALLOUT_OK) << answer.error;
    EXPECT_EQ(answer.field, CALLOUT_REQUEST_HEADERS_RESPONSE);
    const auto response = Parse<HeadersResponse>(answer).response();
    EXPECT_TRUE(response.clear_route_cache());
    EXPECT_EQ(response.header_mutation().set_headers_size(), 2);
    EXPECT_EQ(response.header_mutation().remove_headers_size(), 2);
    EXPECT_EQ(answer.apply({{"foo", "x"}, {"x-b", "old"}}),
              (testing::HeaderList{{"x-a", "1"}, {"x-b", "2"}}));
  }
}

TEST_F(Tools, AddHeaderMutationAnswersBodiesAndTrailersToo) {
  const Hook hook = [](callout_call_t* call) {
    return callout_add_header_mutation(call, kAdd, 2, kRemove, 1, 0,
                                       CALLOUT_APPEND_IF_EXISTS_OR_ADD);
  };
  const testing::Answer body = Body(hook);
  EXPECT_EQ(body.field, CALLOUT_RESPONSE_BODY_RESPONSE);
  EXPECT_EQ(Parse<BodyResponse>(body).response().header_mutation().set_headers_size(), 2);
  const testing::Answer trailers = Trailers(hook);
  EXPECT_EQ(trailers.field, CALLOUT_RESPONSE_TRAILERS_RESPONSE);
  EXPECT_EQ(Parse<TrailersResponse>(trailers).header_mutation().set_headers_size(), 2);
}

TEST_F(Tools, AddHeaderMutationKnowsEveryAppendAction) {
  struct Case {
    AppendAction action;
    const char* key;
    testing::HeaderList after;
  };
  const testing::HeaderList before = {{"here", "old"}};
  const Case cases[] = {
      {AppendAction::kAppendIfExistsOrAdd, "here", {{"here", "old"}, {"here", "new"}}},
      {AppendAction::kAppendIfExistsOrAdd, "absent", {{"here", "old"}, {"absent", "new"}}},
      {AppendAction::kAddIfAbsent, "here", {{"here", "old"}}},
      {AppendAction::kAddIfAbsent, "absent", {{"here", "old"}, {"absent", "new"}}},
      {AppendAction::kOverwriteIfExistsOrAdd, "here", {{"here", "new"}}},
      {AppendAction::kOverwriteIfExistsOrAdd, "absent", {{"here", "old"}, {"absent", "new"}}},
      {AppendAction::kOverwriteIfExists, "here", {{"here", "new"}}},
      {AppendAction::kOverwriteIfExists, "absent", {{"here", "old"}}},
  };
  for (const Case& test : cases) {
    const Hook in_c = [&](callout_call_t* call) {
      const callout_header_t add = {callout_text(test.key), callout_text("new")};
      return callout_add_header_mutation(call, &add, 1, nullptr, 0, 0,
                                         static_cast<callout_append_action_t>(test.action));
    };
    const Hook in_cpp = AtEdge<HeadersCall>([&](HeadersCall& call) {
      add_header_mutation(call, {{test.key, "new"}}, {}, false, test.action);
    });
    for (const Hook& hook : {in_c, in_cpp}) {
      const testing::Answer answer = Headers(hook, before);
      EXPECT_EQ(answer.status, CALLOUT_OK);
      EXPECT_EQ(answer.apply(before), test.after)
          << test.key << " " << static_cast<int>(test.action);
    }
  }
}

TEST_F(Tools, AddHeaderMutationSaysWhatItCannotDo) {
  const Hook conditional = [](callout_call_t* call) {
    return callout_add_header_mutation(call, kAdd, 1, nullptr, 0, 0, CALLOUT_ADD_IF_ABSENT);
  };
  testing::Answer answer = Body(conditional);
  EXPECT_EQ(answer.status, CALLOUT_INVALID_ARGUMENT);
  EXPECT_NE(answer.error.find("ADD_IF_ABSENT"), std::string::npos);
  EXPECT_EQ(answer.field, 0u);

  const Hook route = AtEdge<TrailersCall>([](TrailersCall& call) {
    add_header_mutation(call, {{"a", "b"}}, {}, true);
  });
  answer = Trailers(route);
  EXPECT_EQ(answer.status, CALLOUT_INVALID_ARGUMENT);
  EXPECT_NE(answer.error.find("route cache"), std::string::npos);
}

TEST_F(Tools, AddBodyMutationTellsReplacedEmptyClearedAndUnchangedApart) {
  const callout_bytes_t text = CALLOUT_TEXT("new");
  const callout_bytes_t empty = CALLOUT_TEXT("");
  struct Case {
    Hook in_c;
    Hook in_cpp;
    testing::Answer::Body kind;
    const char* body;
  };
  const Case cases[] = {
      {[&](callout_call_t* call) { return callout_add_body_mutation(call, &text, 0, 0); },
       AtEdge<BodyCall>([](BodyCall& call) { add_body_mutation(call, "new"); }),
       testing::Answer::Body::kReplaced, "new"},
      {[&](callout_call_t* call) { return callout_add_body_mutation(call, &empty, 0, 0); },
       AtEdge<BodyCall>([](BodyCall& call) { add_body_mutation(call, ""); }),
       testing::Answer::Body::kReplaced, ""},
      {[&](callout_call_t* call) { return callout_add_body_mutation(call, nullptr, 1, 0); },
       AtEdge<BodyCall>([](BodyCall& call) { add_body_mutation(call, ClearBody()); }),
       testing::Answer::Body::kCleared, ""},
      {[&](callout_call_t* call) { return callout_add_body_mutation(call, nullptr, 0, 0); },
       AtEdge<BodyCall>([](BodyCall&) {}), testing::Answer::Body::kUnchanged, ""},
  };
  for (const Case& test : cases) {
    for (const Hook& hook : {test.in_c, test.in_cpp}) {
      const testing::Answer answer = Body(hook);
      EXPECT_EQ(answer.status, CALLOUT_OK);
      EXPECT_EQ(answer.body_kind, test.kind);
      EXPECT_EQ(answer.body, test.body);
      Parse<BodyResponse>(answer);
    }
  }
}

TEST_F(Tools, AddBodyMutationRefusesBothAtOnce) {
  const callout_bytes_t text = CALLOUT_TEXT("new");
  const testing::Answer answer =
      Body([&](callout_call_t* call) { return callout_add_body_mutation(call, &text, 1, 0); });
  EXPECT_EQ(answer.status, CALLOUT_INVALID_ARGUMENT);
  EXPECT_NE(answer.error.find("exclude each other"), std::string::npos);
}

TEST_F(Tools, HeadersContainAKeyOrAKeyWithAValue) {
  const testing::HeaderList headers = {{"Cookie", "a"}, {"cookie", "b"}};
  Headers(AtEdge<HeadersCall>([](HeadersCall& call) {
            EXPECT_TRUE(headers_contain(call.headers(), "cookie"));
            EXPECT_TRUE(headers_contain(call.headers(), "COOKIE", "b"));
            EXPECT_FALSE(headers_contain(call.headers(), "cookie", "B")) << "values have case";
            EXPECT_FALSE(headers_contain(call.headers(), "cook"));
            const callout_bytes_t value = CALLOUT_TEXT("b");
            callout_bytes_t message = call.raw()->message;
            EXPECT_TRUE(callout_headers_contain(message, callout_text("cOOkie"), nullptr));
            EXPECT_TRUE(callout_headers_contain(message, callout_text("cookie"), &value));
            EXPECT_FALSE(callout_headers_contain(message, callout_text("other"), nullptr));
          }),
          headers);
}

TEST_F(Tools, BodyContainsBytes) {
  Body(AtEdge<BodyCall>([](BodyCall& call) {
         EXPECT_TRUE(body_contains(call, std::string_view("\xff\0b", 3)));
         EXPECT_FALSE(body_contains(call, "needle"));
       }),
       std::string_view("a\xff\0b", 4));
}

TEST_F(Tools, DenyCalloutEndsTheStream) {
  struct Case {
    Hook hook;
    const char* text;
  };
  const Case cases[] = {
      {[](callout_call_t* call) { return callout_deny_callout(call, nullptr); }, "Callout DENIED."},
      {[](callout_call_t* call) { return callout_deny_callout(call, "No token."); }, "No token."},
      {AtEdge<HeadersCall>([](HeadersCall& call) { deny_callout(call); }), "Callout DENIED."},
      {AtEdge<HeadersCall>([](HeadersCall& call) {
         call.set_header("forgotten", "1");
         deny_callout(call, "No token.");
       }),
       "No token."},
  };
  for (const Case& test : cases) {
    const testing::Answer answer = Headers(test.hook);
    EXPECT_EQ(answer.status, CALLOUT_PERMISSION_DENIED);
    EXPECT_EQ(answer.error, test.text);
    EXPECT_EQ(answer.field, 0u);
  }
}

TEST_F(Tools, DenyAnswersTheClient) {
  struct Case {
    Hook hook;
    uint32_t http_status;
    const char* body;
  };
  const Case cases[] = {
      {[](callout_call_t* call) { return callout_deny(call, 0, nullptr); }, 403, ""},
      {[](callout_call_t* call) { return callout_deny(call, 401, "who?"); }, 401, "who?"},
      {AtEdge<HeadersCall>([](HeadersCall& call) { deny(call); }), 403, ""},
      {AtEdge<HeadersCall>([](HeadersCall& call) {
         call.set_header("forgotten", "1");
         return call.deny(401, "who?");
       }),
       401, "who?"},
  };
  for (const Case& test : cases) {
    const testing::Answer answer = Headers(test.hook);
    EXPECT_EQ(answer.status, CALLOUT_OK);
    ASSERT_TRUE(answer.is_immediate());
    const auto response = Parse<ImmediateResponse>(answer);
    EXPECT_EQ(response.status().code(), static_cast<int>(test.http_status));
    EXPECT_EQ(response.body(), test.body);
    EXPECT_FALSE(response.has_headers());
  }
}

TEST_F(Tools, DenyWorksInEveryPhase) {
  const Hook hook = [](callout_call_t* call) { return callout_deny(call, 0, "no"); };
  EXPECT_TRUE(Headers(hook).is_immediate());
  EXPECT_TRUE(Body(hook).is_immediate());
  EXPECT_TRUE(Trailers(hook).is_immediate());
}

TEST_F(Tools, HeaderImmediateResponseSendsAllThatItIsGiven) {
  const Hook in_c = [](callout_call_t* call) {
    callout_immediate_t response = {};
    response.http_status = 301;
    response.set = kAdd;
    response.set_count = 2;
    response.remove = kRemove;
    response.remove_count = 1;
    response.body = callout_text("moved");
    response.details = callout_text("why");
    response.has_grpc_status = 1;
    response.grpc_status = 9;
    return callout_header_immediate_response(call, &response);
  };
  const Hook in_cpp = AtEdge<HeadersCall>([](HeadersCall& call) {
    header_immediate_response(call, 301, {{"x-a", "1"}, {"x-b", "2"}}, {"foo"})
        .body("moved")
        .details("why")
        .grpc_status(9);
  });
  for (const Hook& hook : {in_c, in_cpp}) {
    const testing::Answer answer = Headers(hook);
    ASSERT_TRUE(answer.is_immediate()) << answer.error;
    const auto response = Parse<ImmediateResponse>(answer);
    EXPECT_EQ(response.status().code(), 301);
    EXPECT_EQ(response.headers().set_headers_size(), 2);
    EXPECT_EQ(response.headers().remove_headers(0), "foo");
    EXPECT_EQ(response.body(), "moved");
    EXPECT_EQ(response.details(), "why");
    EXPECT_EQ(response.grpc_status().status(), 9u);
  }
}

TEST_F(Tools, HeaderImmediateResponseRefusesAStatusThatIsNone) {
  const testing::Answer answer = Headers([](callout_call_t* call) {
    callout_immediate_t response = {};
    response.http_status = 99;
    return callout_header_immediate_response(call, &response);
  });
  EXPECT_EQ(answer.status, CALLOUT_INVALID_ARGUMENT);
  EXPECT_NE(answer.error.find("200 to 599"), std::string::npos);
}

TEST_F(Tools, DynamicForwardingNamesTheEndpoint) {
  struct Case {
    const char* ip;
    uint32_t port;
    const char* endpoint;  // null: an error
  };
  const Case cases[] = {
      {"10.1.10.2", 80, "10.1.10.2:80"},
      {"10.1.10.2", 65535, "10.1.10.2:65535"},
      {"2001:DB8::0:1", 443, "[2001:db8::1]:443"},
      {"::ffff:10.0.0.1", 1, "[::ffff:10.0.0.1]:1"},
      {"10.1.10.2", 0, nullptr},
      {"10.1.10.2", 65536, nullptr},
      {"10.1.10", 80, nullptr},
      {"10.1.10.256", 80, nullptr},
      {" 10.1.10.2", 80, nullptr},
      {"[::1]", 80, nullptr},
      {"fe80::1%eth0", 80, nullptr},
      {"example.com", 80, nullptr},
      {"", 80, nullptr},
      {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb", 80, nullptr},
  };
  for (const Case& test : cases) {
    const auto built = build_dynamic_forwarding_metadata(test.ip, test.port);
    const Hook in_c = [&](callout_call_t* call) {
      return callout_forward_to(call, callout_text(test.ip), test.port);
    };
    const Hook in_cpp =
        AtEdge<HeadersCall>([&](HeadersCall& call) { call.forward_to(test.ip, test.port); });
    for (const Hook& hook : {in_c, in_cpp}) {
      const testing::Answer answer = Headers(hook);
      if (test.endpoint == nullptr) {
        EXPECT_FALSE(built.has_value()) << test.ip;
        EXPECT_EQ(answer.status, CALLOUT_INVALID_ARGUMENT) << test.ip;
        EXPECT_NE(answer.error.find("needs an IPv4 or IPv6 address"), std::string::npos);
        continue;
      }
      ASSERT_TRUE(built.has_value()) << test.ip;
      EXPECT_EQ(answer.metadata, *built);
      google::protobuf::Struct metadata;
      ASSERT_TRUE(metadata.ParseFromString(*built));
      ASSERT_EQ(metadata.fields_size(), 1);
      const auto& name =
          metadata.fields().at("com.google.envoy.dynamic_forwarding.selected_endpoints");
      EXPECT_EQ(name.struct_value().fields().at("primary").string_value(), test.endpoint);
    }
  }
  EXPECT_FALSE(build_dynamic_forwarding_metadata({"10.0.0.1\0x", 10}, 80).has_value());
}

TEST_F(Tools, OverrideModeWritesWhatIsNamedAndNothingElse) {
  const Hook in_c = [](callout_call_t* call) {
    callout_mode_override_t modes = callout_keep_modes();
    modes.request_body = CALLOUT_BODY_NONE;
    modes.response_trailers = CALLOUT_SEND;
    return callout_override_mode(call, &modes);
  };
  const Hook in_cpp = AtEdge<HeadersCall>([](HeadersCall& call) {
    call.override_modes(Modes().request_body(BodyMode::kNone).response_trailers(SendMode::kSend));
  });
  for (const Hook& hook : {in_c, in_cpp}) {
    const testing::Answer answer = Headers(hook);
    // An explicit NONE is there although it is the default: the host must tell it from absent.
    EXPECT_EQ(answer.modes, std::string("\x18\x00\x30\x01", 4));
    ProcessingMode mode;
    ASSERT_TRUE(mode.ParseFromString(answer.modes));
    EXPECT_EQ(mode.response_trailer_mode(), ProcessingMode::SEND);
  }
}

TEST_F(Tools, OverrideModeKnowsEveryField) {
  const testing::Answer answer = Headers(AtEdge<HeadersCall>([](HeadersCall& call) {
    call.override_modes(Modes()
                            .request_headers(SendMode::kSkip)
                            .response_headers(SendMode::kSend)
                            .request_body(BodyMode::kStreamed)
                            .response_body(BodyMode::kBufferedPartial)
                            .request_trailers(SendMode::kDefault)
                            .response_trailers(SendMode::kSkip));
  }));
  ProcessingMode mode;
  ASSERT_TRUE(mode.ParseFromString(answer.modes));
  EXPECT_EQ(mode.request_header_mode(), ProcessingMode::SKIP);
  EXPECT_EQ(mode.response_header_mode(), ProcessingMode::SEND);
  EXPECT_EQ(mode.request_body_mode(), ProcessingMode::STREAMED);
  EXPECT_EQ(mode.response_body_mode(), ProcessingMode::BUFFERED_PARTIAL);
  EXPECT_EQ(mode.request_trailer_mode(), ProcessingMode::DEFAULT);
  EXPECT_EQ(mode.response_trailer_mode(), ProcessingMode::SKIP);
}

TEST_F(Tools, OverrideMessageTimeoutIsADuration) {
  for (uint64_t ms : {1u, 999u, 1000u, 1500u, 3600000u}) {
    callout_writer_t writer;
    callout_writer_init(&writer, nullptr, 0);
    callout_write_duration_ms(&writer, ms);
    google::protobuf::Duration duration;
    ASSERT_TRUE(duration.ParseFromString(std::string(to_view(callout_writer_bytes(&writer)))));
    EXPECT_EQ(static_cast<uint64_t>(duration.seconds()) * 1000 + duration.nanos() / 1000000, ms);
    callout_writer_free(&writer);
    const testing::Answer answer = Headers(AtEdge<HeadersCall>(
        [&](HeadersCall& call) { call.extend_timeout(std::chrono::milliseconds(ms)); }));
    EXPECT_EQ(answer.timeout_ms, ms);
  }
}

TEST_F(Tools, StreamedRepliesGoOutPieceByPiece) {
  const testing::Answer answer = Headers(AtEdge<HeadersCall>([](HeadersCall& call) {
    call.stream_reply({{":status", "201"}, {"x-a", ""}})
        .send("part1")
        .end_with_trailers({{"x-end", "1"}});
  }));
  ASSERT_EQ(answer.status, CALLOUT_OK) << answer.error;
  ASSERT_EQ(answer.sent.size(), 2u);
  auto piece = Parse<StreamedImmediateResponse>(answer.sent[0]);
  ASSERT_EQ(piece.headers_response().headers().headers_size(), 2);
  EXPECT_EQ(piece.headers_response().headers().headers(0).raw_value(), "201");
  EXPECT_EQ(Parse<StreamedImmediateResponse>(answer.sent[1]).body_response().body(), "part1");
  EXPECT_EQ(answer.field, CALLOUT_STREAMED_IMMEDIATE_RESPONSE);
  piece = Parse<StreamedImmediateResponse>(answer);
  EXPECT_EQ(piece.trailers_response().headers(0).key(), "x-end");

  const testing::Answer ended = Headers(AtEdge<HeadersCall>([](HeadersCall& call) {
    call.stream_reply({{":status", "200"}}).end("all");
  }));
  piece = Parse<StreamedImmediateResponse>(ended);
  EXPECT_EQ(piece.body_response().body(), "all");
  EXPECT_TRUE(piece.body_response().end_of_stream());
}

TEST_F(Tools, StreamedHeadersCanEndTheReply) {
  callout_writer_t writer;
  callout_writer_init(&writer, nullptr, 0);
  callout_write_streamed_headers(&writer, kAdd, 2, 1);
  StreamedImmediateResponse piece;
  ASSERT_TRUE(piece.ParseFromString(std::string(to_view(callout_writer_bytes(&writer)))));
  EXPECT_TRUE(piece.headers_response().end_of_stream());
  callout_writer_clear(&writer);
  callout_write_streamed_trailers(&writer, kAdd, 2);
  ASSERT_TRUE(piece.ParseFromString(std::string(to_view(callout_writer_bytes(&writer)))));
  EXPECT_EQ(piece.trailers_response().headers_size(), 2);
  callout_writer_free(&writer);
}

TEST_F(Tools, PiecesOfABodyAreStreamedResponses) {
  const testing::Answer answer = Body(AtEdge<BodyCall>([](BodyCall& call) {
                                        call.send(std::string(300, 'a'));
                                        call.send("");
                                        call.set_body("end");
                                      }),
                                      "x", CALLOUT_BODY_FULL_DUPLEX_STREAMED);
  ASSERT_EQ(answer.problem, "");
  ASSERT_EQ(answer.sent.size(), 2u);
  BodyResponse piece;
  ASSERT_TRUE(piece.ParseFromString(answer.sent[0].message));
  EXPECT_EQ(piece.response().body_mutation().streamed_response().body(), std::string(300, 'a'));
  ASSERT_TRUE(piece.ParseFromString(answer.sent[1].message));
  EXPECT_TRUE(piece.response().body_mutation().has_streamed_response());
}

}  // namespace
}  // namespace callout
