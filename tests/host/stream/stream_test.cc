// SPDX-License-Identifier: Apache-2.0

#include "host/stream/stream.h"

#include <thread>

#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

namespace ext_proc = envoy::service::ext_proc::v3;

// --- Without a plugin -------------------------------------------------------

TEST_F(StreamTest, ContinuesEveryPhaseWithoutPlugin) {
  Begin();
  using Case = ProcessingResponse::ResponseCase;
  EXPECT_EQ(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).response_case(), Case::kRequestHeaders);
  EXPECT_EQ(Exchange(Body(CALLOUT_REQUEST_BODY, "x", false)).response_case(), Case::kRequestBody);
  EXPECT_EQ(Exchange(Trailers(CALLOUT_REQUEST_TRAILERS)).response_case(), Case::kRequestTrailers);
  EXPECT_EQ(Exchange(Headers(CALLOUT_RESPONSE_HEADERS)).response_case(), Case::kResponseHeaders);
  EXPECT_EQ(Exchange(Body(CALLOUT_RESPONSE_BODY, "x", false)).response_case(), Case::kResponseBody);
  EXPECT_EQ(Exchange(Trailers(CALLOUT_RESPONSE_TRAILERS)).response_case(), Case::kResponseTrailers);
  stream_->OnHalfClose();
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_TRUE(stream_->end()->ok());
  EXPECT_TRUE(stream_->closed());
}

TEST_F(StreamTest, EchoesFullDuplexChunksInOrderWithTheirEnd) {
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  const auto first = Exchange(Body(CALLOUT_REQUEST_BODY, "one", false));
  EXPECT_EQ(first.request_body().response().body_mutation().streamed_response().body(), "one");
  EXPECT_FALSE(first.request_body().response().body_mutation().streamed_response().end_of_stream());
  const auto last = Exchange(Body(CALLOUT_REQUEST_BODY, "", true));
  EXPECT_EQ(last.request_body().response().body_mutation().streamed_response().body(), "");
  EXPECT_TRUE(last.request_body().response().body_mutation().streamed_response().end_of_stream());
}

TEST_F(StreamTest, SendsNothingInObservabilityMode) {
  FakePlugin* plugin = AddPlugin();
  int calls = 0;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    ++calls;
    EXPECT_TRUE(call->flags & CALLOUT_CALL_OBSERVABILITY);
    return CALLOUT_INTERNAL;
  };
  Begin();
  ProcessingRequest request = Headers(CALLOUT_REQUEST_HEADERS);
  request.set_observability_mode(true);
  Feed(request);
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(Take().empty());
  EXPECT_FALSE(stream_->end().has_value());
}

// --- Bad input --------------------------------------------------------------

TEST_F(StreamTest, EndsWithInvalidArgumentOnGarbage) {
  Begin();
  FeedBytes("\xff\xff\xff\xff garbage");
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(stream_->closed());
}

// An error alone would let the request pass where Envoy is told to fail open.
TEST_F(StreamTest, DeniesAMessageOfTooManyHeaders) {
  limits_.message_fields_max = 1000;
  Begin();
  ProcessingRequest request;
  auto* const headers = request.mutable_request_headers()->mutable_headers();
  for (int i = 0; i < 999; ++i) headers->add_headers()->set_key("x-header");
  Feed(request);
  EXPECT_FALSE(Take().empty());
  EXPECT_FALSE(stream_->end().has_value());
  Begin();
  headers->add_headers()->set_key("x-header");
  Feed(request);
  const auto output = Take();
  ASSERT_EQ(output.size(), 1U);
  EXPECT_EQ(output[0].immediate_response().status().code(), 431);
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kResourceExhausted);
}

// Envoy does not wait for a response, and ignores one.
TEST_F(StreamTest, DoesNotDenyAMessageOfTooManyHeadersInObservabilityMode) {
  limits_.message_fields_max = 10;
  Begin();
  ProcessingRequest request;
  request.set_observability_mode(true);
  auto* const headers = request.mutable_request_headers()->mutable_headers();
  for (int i = 0; i < 11; ++i) headers->add_headers()->set_key("x-header");
  Feed(request);
  EXPECT_TRUE(Take().empty());
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(StreamTest, EndsWithInvalidArgumentOnMessageWithoutPhase) {
  Begin();
  stream_->OnMessage("");
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(StreamTest, IgnoresMessagesOfKindsYetToBeInvented) {
  Begin();
  FeedBytes("\xa2\x06\x01x");  // field 100
  EXPECT_FALSE(stream_->end().has_value());
  EXPECT_TRUE(Take().empty());
  EXPECT_TRUE(stream_->wants_message());
}

// Such messages cost their sender next to nothing, and so do attributes that were sent
// before. Each of them is read and compared with what is kept.
TEST_F(StreamTest, RefusesMoreAttributesAndUnknownMessagesThanEnvoyEverSends) {
  const auto attributes = [](const std::string& name) {
    ProcessingRequest request = Body(CALLOUT_REQUEST_BODY, "x", false);
    (*request.mutable_attributes())[name];
    return request;
  };
  const auto expect_refused = [&](const char* what, int status, const auto& feed, int fits) {
    Begin();
    for (int i = 0; i < fits; ++i) {
      feed(i);
      ASSERT_FALSE(stream_->end().has_value()) << what << " " << i;
    }
    Take();
    feed(fits);
    const auto output = Take();
    ASSERT_EQ(output.size(), 1U) << what;
    EXPECT_EQ(output[0].immediate_response().status().code(), status) << what;
    ASSERT_TRUE(stream_->end().has_value()) << what;
    EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kResourceExhausted) << what;
  };
  expect_refused(
      "of an unknown kind", 500, [&](int) { FeedBytes("\xa2\x06\x01x"); }, 8);
  expect_refused(
      "the same again", 431, [&](int) { Feed(attributes("ns")); }, 16);
  expect_refused(
      "one by one", 431, [&](int i) { Feed(attributes(std::to_string(i))); }, 16);
  ProcessingRequest many = Body(CALLOUT_REQUEST_BODY, "x", false);
  const auto add = [&](int from, int to) {
    many.mutable_attributes()->clear();
    for (int i = from; i < to; ++i) (*many.mutable_attributes())[std::to_string(i)];
    Feed(many);
  };
  expect_refused(
      "in all", 431, [&](int i) { i == 0 ? add(0, 256) : add(256, 257); }, 1);
  expect_refused(
      "at once", 431, [&](int i) { i == 0 ? add(0, 256) : add(0, 257); }, 1);
}

TEST_F(StreamTest, RefusesMessagesOutOfOrder) {
  const std::vector<std::pair<ProcessingRequest, ProcessingRequest>> cases = {
      {Headers(CALLOUT_REQUEST_HEADERS), Headers(CALLOUT_REQUEST_HEADERS)},
      {Body(CALLOUT_REQUEST_BODY, "x", false), Headers(CALLOUT_REQUEST_HEADERS)},
      {Headers(CALLOUT_REQUEST_HEADERS, true), Body(CALLOUT_REQUEST_BODY, "x", true)},
      {Body(CALLOUT_RESPONSE_BODY, "x", true), Trailers(CALLOUT_RESPONSE_TRAILERS)},
      {Trailers(CALLOUT_REQUEST_TRAILERS), Body(CALLOUT_REQUEST_BODY, "x", true)},
  };
  for (const auto& [first, second] : cases) {
    Begin();
    Exchange(first);
    Feed(second);
    ASSERT_TRUE(stream_->end().has_value()) << second.DebugString();
    EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(StreamTest, DirectionsAreIndependent) {
  Begin();
  // A local reply is seen while the request is still on its way.
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  Exchange(Headers(CALLOUT_RESPONSE_HEADERS, true));
  Exchange(Body(CALLOUT_REQUEST_BODY, "x", true));
  EXPECT_FALSE(stream_->end().has_value());
}

TEST_F(StreamTest, LimitsTheMemoryOfAttributes) {
  limits_.stream_memory_bytes_max = 100;
  Begin();
  ProcessingRequest request = Headers(CALLOUT_REQUEST_HEADERS);
  (*(*request.mutable_attributes())["envoy.filters.http.ext_proc"].mutable_fields())["a"]
      .set_string_value(std::string(100, 'x'));
  Feed(request);
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kResourceExhausted);
}

// --- What a hook is told ----------------------------------------------------

TEST_F(StreamTest, TellsWhereABodyChunkStands) {
  FakePlugin* plugin = AddPlugin();
  std::vector<std::pair<uint64_t, uint32_t>> seen;
  plugin->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    seen.emplace_back(call->body_offset, call->flags);
    EXPECT_EQ(call->body_mode, CALLOUT_BODY_STREAMED);
    return CALLOUT_OK;
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
  Exchange(Body(CALLOUT_REQUEST_BODY, "abc", false));
  Exchange(Body(CALLOUT_REQUEST_BODY, "de", false));
  Exchange(Body(CALLOUT_REQUEST_BODY, "", true));
  const std::vector<std::pair<uint64_t, uint32_t>> expected = {
      {0, CALLOUT_CALL_FIRST}, {3, 0}, {5, CALLOUT_CALL_LAST}};
  EXPECT_EQ(seen, expected);
}

TEST_F(StreamTest, KeepsAttributesAndMetadataForLaterCalls) {
  FakePlugin* plugin = AddPlugin();
  std::string attributes, metadata;
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [&](callout_call_t* call) {
    attributes = std::string(ToView(call->attributes));
    metadata = std::string(ToView(call->metadata_context));
    return CALLOUT_OK;
  };
  Begin();
  ProcessingRequest request = Headers(CALLOUT_REQUEST_HEADERS);
  (*(*request.mutable_attributes())["ns"].mutable_fields())["request.path"].set_string_value("/x");
  (*(*request.mutable_metadata_context()->mutable_filter_metadata())["m"].mutable_fields())["k"]
      .set_bool_value(true);
  Exchange(request);
  Exchange(Headers(CALLOUT_RESPONSE_HEADERS));
  ProcessingRequest kept;
  ASSERT_TRUE(kept.ParseFromString(attributes));
  EXPECT_EQ(kept.attributes().at("ns").fields().at("request.path").string_value(), "/x");
  EXPECT_EQ(metadata, request.metadata_context().SerializeAsString());
}

TEST_F(StreamTest, GivesFactsOfTheRpc) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    callout_bytes_t value = {};
    EXPECT_EQ(call->host->get_property(call, CALLOUT_PEER, &value), CALLOUT_OK);
    EXPECT_EQ(ToView(value), "ipv4:192.0.2.1:4711");
    EXPECT_EQ(call->host->get_property(call, CALLOUT_STREAM_ID, &value), CALLOUT_OK);
    EXPECT_EQ(ToView(value), "1");
    EXPECT_EQ(call->host->get_property(call, CALLOUT_PEER_IDENTITY, &value), CALLOUT_NOT_FOUND);
    EXPECT_EQ(call->host->get_property(call, 99, &value), CALLOUT_NOT_FOUND);
    EXPECT_EQ(call->host->get_metadata(call, ToBytes("x-tenant"), 0, &value), CALLOUT_OK);
    EXPECT_EQ(ToView(value), "blue");
    EXPECT_EQ(call->host->get_metadata(call, ToBytes("x-tenant"), 1, &value), CALLOUT_NOT_FOUND);
    return CALLOUT_OK;
  };
  Begin();
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
}

TEST_F(StreamTest, ProcessHookGoesFirstAndMayPassOn) {
  FakePlugin* plugin = AddPlugin();
  std::string order;
  plugin->process = [&](callout_call_t* call) {
    order += "p";
    return call->phase == CALLOUT_REQUEST_HEADERS ? CALLOUT_NEXT : CALLOUT_OK;
  };
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t*) {
    order += "h";
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [&](callout_call_t*) {
    order += "!";
    return CALLOUT_OK;
  };
  Begin();
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  Exchange(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_EQ(order, "php");
}

// --- The guard --------------------------------------------------------------

TEST_F(StreamTest, HookThatSetsNothingContinues) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t*) { return CALLOUT_OK; };
  Begin();
  const auto response = Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_TRUE(response.has_request_headers());
  EXPECT_EQ(response.request_headers().ByteSizeLong(), 0u);
}

TEST_F(StreamTest, PassesALegalAnswerUntouchedWithUnknownFields) {
  FakePlugin* plugin = AddPlugin();
  const std::string payload = std::string("\x0a\x02\x28\x01", 4) + "\xa2\x06\x01x";
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    const callout_bytes_t parts[] = {ToBytes(std::string_view(payload).substr(0, 3)),
                                     ToBytes(std::string_view(payload).substr(3))};
    return call->host->respond(call, CALLOUT_REQUEST_HEADERS_RESPONSE, parts, 2);
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  const auto output = stream_->TakeOutput();
  ASSERT_EQ(output.size(), 1u);
  EXPECT_EQ(output[0], "\x0a\x08" + payload);
}

TEST_F(StreamTest, FailsOnAnAnswerOfAnotherPhase) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    return Respond(call, CALLOUT_RESPONSE_HEADERS_RESPONSE, ext_proc::HeadersResponse());
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(*stream_->end(),
            absl::InternalError("plugin fake0: invalid response to request_headers: wrong_type: "
                                "field 2 of ProcessingResponse, expected 1"));
  EXPECT_EQ(FaultCount("wrong_type"), 1);
}

TEST_F(StreamTest, LeavesMalformedAnswersOutUnderContinue) {
  FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kContinue);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    const callout_bytes_t part = ToBytes("\x0a\x7f");
    return call->host->respond(call, CALLOUT_REQUEST_HEADERS_RESPONSE, &part, 1);
  };
  Begin();
  EXPECT_EQ(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).request_headers().ByteSizeLong(), 0u);
  EXPECT_EQ(FaultCount("malformed"), 1);
}

TEST_F(StreamTest, ReplacesAnswersWithIllegalHeaders) {
  const std::vector<std::pair<std::string, std::string>> illegal = {
      {"", "x"}, {"a b", "x"}, {"a", "line\r\nbreak"}, {"a", std::string("nul\0", 4)}, {":", "x"}};
  for (const auto& [key, value] : illegal) {
    Reset();
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_HEADERS] = [&key = key, &value = value](callout_call_t* call) {
      ext_proc::HeadersResponse answer;
      auto* header = answer.mutable_response()->mutable_header_mutation()->add_set_headers();
      header->mutable_header()->set_key(key);
      header->mutable_header()->set_raw_value(value);
      return Respond(call, CALLOUT_REQUEST_HEADERS_RESPONSE, answer);
    };
    Begin();
    EXPECT_EQ(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).request_headers().ByteSizeLong(), 0u)
        << "key '" << key << "'";
  }
  EXPECT_EQ(FaultCount("illegal_header"), 5);
}

TEST_F(StreamTest, HeaderMutationsMayHaveAHundredEntriesAndNoMore) {
  for (int entries : {100, 101}) {
    Reset();
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
      ext_proc::HeadersResponse answer;
      for (int i = 0; i < entries; ++i) {
        answer.mutable_response()->mutable_header_mutation()->add_remove_headers("x");
      }
      return Respond(call, CALLOUT_REQUEST_HEADERS_RESPONSE, answer);
    };
    Begin();
    const auto response = Exchange(Headers(CALLOUT_REQUEST_HEADERS));
    EXPECT_EQ(response.request_headers().response().header_mutation().remove_headers_size(),
              entries == 100 ? 100 : 0);
  }
}

TEST_F(StreamTest, AnswersMayBeAsLargeAsTheLimitAndNoLarger) {
  for (size_t size : {message_bytes_max_, message_bytes_max_ + 1}) {
    Reset();
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
      std::string payload = "\xa2\x06";  // an unknown field of many bytes
      const size_t rest = size - payload.size() - 3;
      payload += static_cast<char>((rest & 0x7f) | 0x80);
      payload += static_cast<char>(((rest >> 7) & 0x7f) | 0x80);
      payload += static_cast<char>(rest >> 14);
      payload.resize(size, 'x');
      const callout_bytes_t part = ToBytes(payload);
      const callout_status_t status =
          call->host->respond(call, CALLOUT_REQUEST_BODY_RESPONSE, &part, 1);
      EXPECT_EQ(status, size == message_bytes_max_ ? CALLOUT_OK : CALLOUT_RESOURCE_EXHAUSTED);
      return CALLOUT_OK;
    };
    Begin();
    Feed(Body(CALLOUT_REQUEST_BODY, "x", true));
    const auto output = stream_->TakeOutput();
    ASSERT_EQ(output.size(), 1u);
    EXPECT_EQ(output[0].size() > size, size == message_bytes_max_);
  }
  EXPECT_EQ(FaultCount("too_large"), 1);
}

TEST_F(StreamTest, LastAnswerOfAHookCounts) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    SetsHeader("x-first", "1")(call);
    ext_proc::HeadersResponse answer;
    answer.mutable_response()->set_clear_route_cache(true);
    return Respond(call, CALLOUT_REQUEST_HEADERS_RESPONSE, answer);
  };
  Begin();
  EXPECT_TRUE(
      Exchange(Headers(CALLOUT_REQUEST_HEADERS)).request_headers().response().clear_route_cache());
}

TEST_F(StreamTest, TakesAWholeResponseApart) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    ProcessingResponse whole;
    whole.mutable_request_headers()->mutable_response()->set_clear_route_cache(true);
    (*whole.mutable_dynamic_metadata()->mutable_fields())["ns"].set_string_value("v");
    return Respond(call, CALLOUT_WHOLE_RESPONSE, whole);
  };
  Begin();
  const auto response = Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_TRUE(response.request_headers().response().clear_route_cache());
  EXPECT_EQ(response.dynamic_metadata().fields().at("ns").string_value(), "v");
}

// Envoy formats metadata into headers as it is (%DYNAMIC_METADATA%), also into those of a local
// reply.
TEST_F(StreamTest, MetadataThatWouldBreakAHeaderIsAFault) {
  const auto sets_metadata = [](bool denies) {
    return [denies](callout_call_t* call) {
      ProcessingResponse whole;
      if (denies) {
        whole.mutable_immediate_response()->mutable_status()->set_code(envoy::type::v3::Forbidden);
      } else {
        whole.mutable_request_headers();
      }
      google::protobuf::Struct inner;
      (*inner.mutable_fields())["k"].set_string_value("a\r\nset-cookie: evil=1");
      *(*whole.mutable_dynamic_metadata()->mutable_fields())["ns"].mutable_struct_value() = inner;
      return Respond(call, CALLOUT_WHOLE_RESPONSE, whole);
    };
  };
  for (const auto action : {ErrorPolicy::Action::kFail, ErrorPolicy::Action::kContinue}) {
    for (const bool denies : {false, true}) {
      Reset();
      AddPlugin(action)->phases[CALLOUT_REQUEST_HEADERS] = sets_metadata(denies);
      Begin();
      const auto response = Exchange(Headers(CALLOUT_REQUEST_HEADERS));
      EXPECT_FALSE(response.has_dynamic_metadata());
      const bool passes = action == ErrorPolicy::Action::kContinue && !denies;
      EXPECT_EQ(response.immediate_response().status().code(), passes ? 0 : 500);
    }
  }
  Reset();
  limits_.metadata_controls = true;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = sets_metadata(false);
  Begin();
  EXPECT_TRUE(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).has_dynamic_metadata());
}

TEST_F(StreamTest, SendsNothingAfterAnImmediateResponse) {
  FakePlugin* plugin = AddPlugin();
  int body_calls = 0;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    ext_proc::ImmediateResponse answer;
    answer.mutable_status()->set_code(envoy::type::v3::Forbidden);
    return Respond(call, CALLOUT_IMMEDIATE_RESPONSE, answer);
  };
  plugin->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t*) {
    ++body_calls;
    return CALLOUT_OK;
  };
  Begin();
  EXPECT_TRUE(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).has_immediate_response());
  Feed(Body(CALLOUT_REQUEST_BODY, "x", true));
  EXPECT_TRUE(Take().empty());
  EXPECT_EQ(body_calls, 0);
  stream_->OnHalfClose();
  EXPECT_TRUE(stream_->end()->ok());
  EXPECT_EQ(plugin->closed, 1);
}

struct BodyRow {
  int mode;
  int mutation;        // 0 none, 1 replace, 2 clear
  std::string length;  // expected content-length; "-": removed; "": untouched
};

TEST_F(StreamTest, SetsTheContentLengthThatFitsABufferedBody) {
  const BodyRow rows[] = {{kBuffered, 0, ""}, {kBuffered, 1, "8"}, {kBuffered, 2, "0"},
                          {kPartial, 1, "8"}, {kStreamed, 1, ""},  {kStreamed, 2, ""}};
  for (const BodyRow& row : rows) {
    Reset();
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
      ext_proc::BodyResponse answer;
      if (row.mutation == 1) {
        answer.mutable_response()->mutable_body_mutation()->set_body("new-body");
      } else if (row.mutation == 2) {
        answer.mutable_response()->mutable_body_mutation()->set_clear_body(true);
      }
      return Respond(call, CALLOUT_REQUEST_BODY_RESPONSE, answer);
    };
    Begin();
    Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS, false, {{"Content-Length", "3"}}), row.mode,
                       kNone));
    const auto response = Exchange(Body(CALLOUT_REQUEST_BODY, "old", true));
    const auto& headers = response.request_body().response().header_mutation();
    if (row.length.empty()) {
      EXPECT_EQ(headers.ByteSizeLong(), 0u) << "mode " << row.mode;
    } else {
      ASSERT_EQ(headers.set_headers_size(), 1) << "mode " << row.mode;
      EXPECT_EQ(headers.set_headers(0).header().key(), "content-length");
      EXPECT_EQ(headers.set_headers(0).header().raw_value(), row.length);
      EXPECT_EQ(headers.set_headers(0).append_action(),
                envoy::config::core::v3::HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD);
    }
  }
}

TEST_F(StreamTest, RemovesTheContentLengthOfABodyItSawInPart) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    ext_proc::BodyResponse answer;
    answer.mutable_response()->mutable_body_mutation()->set_body("new-body");
    return Respond(call, CALLOUT_REQUEST_BODY_RESPONSE, answer);
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS, false, {{"content-length", "9"}}), kPartial,
                     kNone));
  const auto response = Exchange(Body(CALLOUT_REQUEST_BODY, "ol", false));
  const auto& headers = response.request_body().response().header_mutation();
  ASSERT_EQ(headers.remove_headers_size(), 1);
  EXPECT_EQ(headers.remove_headers(0), "content-length");
}

TEST_F(StreamTest, KeepsAContentLengthThePluginSet) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    ext_proc::BodyResponse answer;
    answer.mutable_response()->mutable_body_mutation()->set_body("new-body");
    auto* header = answer.mutable_response()->mutable_header_mutation()->add_set_headers();
    header->mutable_header()->set_key("Content-Length");
    header->mutable_header()->set_raw_value("8");
    return Respond(call, CALLOUT_REQUEST_BODY_RESPONSE, answer);
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS, false, {{"content-length", "3"}}), kBuffered,
                     kNone));
  const auto response = Exchange(Body(CALLOUT_REQUEST_BODY, "old", true));
  EXPECT_EQ(response.request_body().response().header_mutation().set_headers_size(), 1);
}

TEST_F(StreamTest, WritesSimpleBodyAnswersAsStreamedInFullDuplex) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_RESPONSE_BODY] = [&](callout_call_t* call) {
    ext_proc::BodyResponse answer;
    answer.mutable_response()->mutable_body_mutation()->set_body("new");
    return Respond(call, CALLOUT_RESPONSE_BODY_RESPONSE, answer);
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_RESPONSE_HEADERS), kNone, kDuplex));
  const auto response = Exchange(Body(CALLOUT_RESPONSE_BODY, "old", true));
  const auto& mutation = response.response_body().response().body_mutation();
  EXPECT_EQ(mutation.streamed_response().body(), "new");
  EXPECT_TRUE(mutation.streamed_response().end_of_stream());
}

TEST_F(StreamTest, HeldChunksAreAnsweredAtTheEnd) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t*) { return CALLOUT_NO_RESPONSE; };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "dropped", false));
  EXPECT_TRUE(Take().empty());
  const auto response = Exchange(Body(CALLOUT_REQUEST_BODY, "too", true));
  const auto& streamed = response.request_body().response().body_mutation().streamed_response();
  EXPECT_EQ(streamed.body(), "");
  EXPECT_TRUE(streamed.end_of_stream());
}

TEST_F(StreamTest, StreamedAnswersOutsideFullDuplexAreLeftOutUnderContinue) {
  FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kContinue);
  plugin->phases[CALLOUT_REQUEST_BODY] = [&](callout_call_t* call) {
    ext_proc::BodyResponse answer;
    answer.mutable_response()->mutable_body_mutation()->mutable_streamed_response()->set_body("x");
    return Respond(call, CALLOUT_REQUEST_BODY_RESPONSE, answer);
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
  EXPECT_FALSE(Exchange(Body(CALLOUT_REQUEST_BODY, "x", true))
                   .request_body()
                   .response()
                   .has_body_mutation());
  EXPECT_EQ(FaultCount("illegal_body"), 1);
}

// --- Errors and policies ----------------------------------------------------

TEST_F(StreamTest, AnErrorStatusEndsTheStreamWithItsText) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    call->host->set_error(call, ToBytes("no database"));
    return CALLOUT_UNAVAILABLE;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(*stream_->end(), absl::UnavailableError("no database"));
  EXPECT_TRUE(Take().empty());
  EXPECT_EQ(plugin->closed, 1);
  EXPECT_EQ(FaultCount("error_status"), 1);
}

TEST_F(StreamTest, PolicyContinueGoesOnWithoutThePlugin) {
  FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kContinue);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t*) { return CALLOUT_UNAVAILABLE; };
  Begin();
  EXPECT_TRUE(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).has_request_headers());
  EXPECT_FALSE(stream_->end().has_value());
}

TEST_F(StreamTest, PolicyDenyAnswersAnImmediateResponse) {
  FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kDeny, 503);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t*) { return CALLOUT_INTERNAL; };
  Begin();
  const auto response = Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(response.immediate_response().status().code(), envoy::type::v3::ServiceUnavailable);
}

TEST_F(StreamTest, PolicyFailAppliesToAnswersOfAWrongForm) {
  FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kFail);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    return Respond(call, CALLOUT_RESPONSE_HEADERS_RESPONSE, ext_proc::HeadersResponse());
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kInternal);
}

TEST_F(StreamTest, DecisionsEndTheRpcUnderEveryPolicy) {
  for (auto action : {ErrorPolicy::Action::kContinue, ErrorPolicy::Action::kDeny}) {
    for (callout_status_t decision : {CALLOUT_PERMISSION_DENIED, CALLOUT_UNAUTHENTICATED}) {
      Reset();
      FakePlugin* plugin = AddPlugin(action);
      plugin->phases[CALLOUT_REQUEST_HEADERS] = [=](callout_call_t*) { return decision; };
      Begin();
      Feed(Headers(CALLOUT_REQUEST_HEADERS));
      ASSERT_TRUE(stream_->end().has_value());
      EXPECT_EQ(static_cast<int>(stream_->end()->code()), -decision);
    }
  }
  EXPECT_EQ(FaultCount("error_status"), 0);
}

TEST_F(StreamTest, AFaultAfterAlteredBodyBytesFailsUnderEveryPolicy) {
  FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kContinue);
  plugin->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    return (call->flags & CALLOUT_CALL_FIRST) != 0 ? CALLOUT_NO_RESPONSE : CALLOUT_INTERNAL;
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "kept", false));
  Feed(Body(CALLOUT_REQUEST_BODY, "more", true));
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kInternal);
}

// Envoy with failure_mode_allow lets the rest of a body pass after an error: only
// an immediate response ends the request there too.
TEST_F(StreamTest, AFaultWithinAnAlteredBodyGoesOutAsAnImmediateResponseFirst) {
  for (const int mode : {kStreamed, kDuplex}) {
    Reset();
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
      if ((call->flags & CALLOUT_CALL_FIRST) == 0) return CALLOUT_INTERNAL + 0;
      ext_proc::BodyResponse answer;
      answer.mutable_response()->mutable_body_mutation()->set_clear_body(true);
      return Respond(call, CALLOUT_REQUEST_BODY_RESPONSE, answer);
    };
    Begin();
    Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), mode, kNone));
    Exchange(Body(CALLOUT_REQUEST_BODY, "taken", false));
    const auto response = Exchange(Body(CALLOUT_REQUEST_BODY, "more", false));
    EXPECT_EQ(response.immediate_response().status().code(), envoy::type::v3::InternalServerError);
    ASSERT_TRUE(stream_->end().has_value());
    EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kInternal);
  }
}

TEST_F(StreamTest, AFaultAfterTheEndOfABodyIsAnErrorAlone) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    ext_proc::BodyResponse answer;
    answer.mutable_response()->mutable_body_mutation()->set_clear_body(true);
    return Respond(call, CALLOUT_REQUEST_BODY_RESPONSE, answer);
  };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [](callout_call_t*) { return CALLOUT_INTERNAL; };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kNone));
  Exchange(Body(CALLOUT_REQUEST_BODY, "taken", true));
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_TRUE(Take().empty());
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kInternal);
}

TEST_F(StreamTest, APositiveStatusOfNoMeaningIsAFault) {
  FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kContinue);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t*) { return 77; };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [](callout_call_t*) { return CALLOUT_NO_RESPONSE; };
  Begin();
  EXPECT_TRUE(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).has_request_headers());
  EXPECT_TRUE(Exchange(Headers(CALLOUT_RESPONSE_HEADERS)).has_response_headers());
  EXPECT_EQ(FaultCount("bad_status"), 2);
}

// --- Open and close ---------------------------------------------------------

TEST_F(StreamTest, ClosesPluginOnceWhenClientCancels) {
  FakePlugin* plugin = AddPlugin();
  int mark = 0;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t*) { return CALLOUT_OK; };
  plugin->open = [&](callout_call_t* call) {
    call->stream = &mark;
    return CALLOUT_OK;
  };
  plugin->close = [&](callout_call_t* call) { EXPECT_EQ(call->stream, &mark); };
  Begin();
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  stream_->OnCancel();
  stream_->OnCancel();
  stream_->OnHalfClose();
  EXPECT_TRUE(stream_->closed());
  EXPECT_EQ(plugin->opened, 1);
  EXPECT_EQ(plugin->closed, 1);
}

TEST_F(StreamTest, StreamWithoutMessageOpensNothing) {
  FakePlugin* plugin = AddPlugin();
  Begin();
  stream_->OnHalfClose();
  EXPECT_TRUE(stream_->closed());
  EXPECT_EQ(plugin->opened, 0);
  EXPECT_EQ(plugin->closed, 0);
}

TEST_F(StreamTest, RefusedOpenIsNotClosed) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t*) {
    ADD_FAILURE() << "called after a refused open";
    return CALLOUT_OK;
  };
  plugin->open = [](callout_call_t* call) {
    const callout_bytes_t part = {nullptr, 0};
    EXPECT_EQ(call->host->respond(call, CALLOUT_IMMEDIATE_RESPONSE, &part, 1),
              CALLOUT_FAILED_PRECONDITION);
    return CALLOUT_PERMISSION_DENIED;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(plugin->closed, 0);
}

TEST_F(StreamTest, DestroysAnInstanceAfterItsLastStream) {
  FakePlugin* plugin = AddPlugin();
  Begin();
  chains_->Switch(std::make_shared<Chain>());
  EXPECT_EQ(plugin->destroyed, 0);
  stream_.reset();
  EXPECT_EQ(plugin->destroyed, 1);
}

// --- Deferred calls ---------------------------------------------------------

TEST_F(StreamTest, FinishMayComeBeforeTheHookHasReturned) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    EXPECT_EQ(call->host->finish(call, CALLOUT_OK), CALLOUT_OK);
    return CALLOUT_DEFERRED;
  };
  Begin();
  EXPECT_TRUE(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).has_request_headers());
  EXPECT_EQ(environment_->deferred(), 0u);
}

TEST_F(StreamTest, ADeferredCallIsAnsweredWhenAnotherThreadFinishesIt) {
  FakePlugin* plugin = AddPlugin();
  callout_call_t* deferred = nullptr;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_FALSE(stream_->idle());
  EXPECT_TRUE(Take().empty());
  EXPECT_EQ(environment_->deferred(), 1u);
  std::thread([&] {
    ext_proc::HeadersResponse answer;
    answer.mutable_response()->set_clear_route_cache(true);
    Respond(deferred, CALLOUT_REQUEST_HEADERS_RESPONSE, answer);
    EXPECT_EQ(deferred->host->finish(deferred, CALLOUT_OK), CALLOUT_OK);
  }).join();
  Deliver();
  const auto responses = Take();
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_TRUE(responses[0].request_headers().response().clear_route_cache());
  EXPECT_TRUE(stream_->idle());
  EXPECT_EQ(environment_->deferred(), 0u);
}

TEST_F(StreamTest, AHalfClosedClientStillGetsItsDeferredAnswer) {
  FakePlugin* plugin = AddPlugin();
  callout_call_t* deferred = nullptr;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  stream_->OnHalfClose();
  EXPECT_FALSE(stream_->end().has_value());
  deferred->host->finish(deferred, CALLOUT_OK);
  Deliver();
  EXPECT_EQ(Take().size(), 1u);
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_TRUE(stream_->end()->ok());
}

TEST_F(StreamTest, CancelWaitsForTheDeferredCallBeforeClosing) {
  FakePlugin* plugin = AddPlugin();
  callout_call_t* deferred = nullptr;
  int cancelled = 0;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  plugin->cancel = [&](callout_call_t* call) {
    ++cancelled;
    EXPECT_EQ(call->phase, 0u);
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  stream_->OnCancel();
  EXPECT_EQ(cancelled, 1);
  EXPECT_FALSE(stream_->closed());
  EXPECT_EQ(plugin->closed, 0);
  EXPECT_EQ(deferred->phase, static_cast<uint32_t>(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(deferred->host->is_cancelled(deferred), 1);
  EXPECT_EQ(deferred->host->finish(deferred, CALLOUT_OK), CALLOUT_CANCELLED);
  Deliver();
  EXPECT_TRUE(stream_->closed());
  EXPECT_EQ(plugin->closed, 1);
  EXPECT_TRUE(Take().empty());
}

TEST_F(StreamTest, ThePolicyAnswersAtTheDeadlineAndTheLateAnswerIsIgnored) {
  FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kContinue);
  callout_call_t* deferred = nullptr;
  int calls = 0;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  plugin->phases[CALLOUT_RESPONSE_HEADERS] = [&](callout_call_t*) {
    ++calls;
    return CALLOUT_OK;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  ASSERT_NE(stream_->deadline_ns(), 0u);
  stream_->OnDeadline(stream_->deadline_ns() - 1);
  EXPECT_TRUE(Take().empty());
  PassDeadline();
  EXPECT_EQ(Take().size(), 1u);
  EXPECT_EQ(FaultCount("deadline"), 1);
  // The instance has lost that call, and gets the next one when it is done with it.
  Feed(Headers(CALLOUT_RESPONSE_HEADERS));
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(deferred->host->finish(deferred, CALLOUT_OK), CALLOUT_DEADLINE_EXCEEDED);
  Deliver();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(Take().size(), 1u);
  stream_->OnHalfClose();
  EXPECT_TRUE(stream_->closed());
  EXPECT_EQ(plugin->closed, 1);
}

TEST_F(StreamTest, ADeadlineFailsTheStreamByDefault) {
  FakePlugin* plugin = AddPlugin();
  callout_call_t* deferred = nullptr;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  Begin();
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  PassDeadline();
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(stream_->end()->code(), absl::StatusCode::kDeadlineExceeded);
  deferred->host->finish(deferred, CALLOUT_OK);
  Deliver();
  EXPECT_TRUE(stream_->closed());
}

TEST_F(StreamTest, DeferredCallsOverTheLimitFallUnderThePolicyAtOnce) {
  limits_.deferred_max = 0;
  FakePlugin* plugin = AddPlugin();
  callout_call_t* deferred = nullptr;
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  Begin();
  const auto response = Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(response.immediate_response().status().code(), 503);
  EXPECT_EQ(FaultCount("defer_limit"), 1);
  stream_->OnHalfClose();
  EXPECT_FALSE(stream_->closed());
  deferred->host->finish(deferred, CALLOUT_OK);
  Deliver();
  EXPECT_TRUE(stream_->closed());
}

TEST_F(StreamTest, FinishRefusesStatusesThatEndNothing) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    EXPECT_EQ(call->host->finish(call, CALLOUT_DEFERRED), CALLOUT_INVALID_ARGUMENT);
    EXPECT_EQ(call->host->finish(call, CALLOUT_NEXT), CALLOUT_INVALID_ARGUMENT);
    EXPECT_EQ(call->host->finish(call, CALLOUT_OK), CALLOUT_OK);
    EXPECT_EQ(call->host->finish(call, CALLOUT_OK), CALLOUT_FAILED_PRECONDITION);
    return CALLOUT_DEFERRED;
  };
  Begin();
  EXPECT_TRUE(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).has_request_headers());
}

TEST_F(StreamTest, SendPutsChunksAheadOfTheAnswerInFullDuplex) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    for (const char* text : {"a", "b"}) {
      ext_proc::BodyResponse chunk;
      chunk.mutable_response()->mutable_body_mutation()->mutable_streamed_response()->set_body(
          text);
      const std::string bytes = chunk.SerializeAsString();
      const callout_bytes_t part = ToBytes(bytes);
      EXPECT_EQ(call->host->send(call, CALLOUT_REQUEST_BODY_RESPONSE, &part, 1), CALLOUT_OK);
    }
    return CALLOUT_OK;
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "c", true));
  std::string seen;
  for (const auto& response : Take()) {
    const auto& streamed = response.request_body().response().body_mutation().streamed_response();
    seen += streamed.body() + (streamed.end_of_stream() ? "." : "|");
  }
  EXPECT_EQ(seen, "a|b|c.");
}

TEST_F(StreamTest, TheEndOfADuplexBodyGoesOutOnceAndLast) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    // Ends too early with send(), and forgets the end in the answer.
    for (const bool last : {false, true}) {
      ext_proc::BodyResponse chunk;
      auto* streamed =
          chunk.mutable_response()->mutable_body_mutation()->mutable_streamed_response();
      streamed->set_body("x");
      streamed->set_end_of_stream(!last);
      const std::string bytes = chunk.SerializeAsString();
      const callout_bytes_t part = ToBytes(bytes);
      const auto answer = last ? call->host->respond : call->host->send;
      EXPECT_EQ(answer(call, CALLOUT_REQUEST_BODY_RESPONSE, &part, 1), CALLOUT_OK);
    }
    return CALLOUT_OK;
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, kNone));
  Feed(Body(CALLOUT_REQUEST_BODY, "c", true));
  std::string seen;
  for (const auto& response : Take()) {
    const auto& streamed = response.request_body().response().body_mutation().streamed_response();
    seen += streamed.body() + (streamed.end_of_stream() ? "." : "|");
  }
  EXPECT_EQ(seen, "x|x.");
}

TEST_F(StreamTest, ASecondAnswerOutsideFullDuplexIsDroppedUnderContinue) {
  FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kContinue);
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    const callout_bytes_t part = {nullptr, 0};
    EXPECT_EQ(call->host->send(call, CALLOUT_REQUEST_HEADERS_RESPONSE, &part, 1), CALLOUT_OK);
    return CALLOUT_OK;
  };
  Begin();
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(FaultCount("second_answer"), 1);
}

// --- Shares ---

TEST_F(StreamTest, AnInstanceServesItsShareOfTheUsers) {
  InstanceSettings half;
  half.percent = 50;
  half.by_header = "x-user";
  AddPlugin(half)->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-served", "1");
  Begin();
  const StreamShare share(50, "x-user", "fake0");
  int served = 0;
  for (int i = 0; i < 20; ++i) {
    const std::string user = std::to_string(i);
    stream_ = std::make_unique<Stream>(environment_.get(), &rpc_);
    const ProcessingResponse response =
        Exchange(Headers(CALLOUT_REQUEST_HEADERS, true, {{":path", "/"}, {"x-user", user}}));
    const bool is_served =
        !Mutations(response.request_headers().response().header_mutation()).empty();
    EXPECT_EQ(is_served, share.Takes(user, 1)) << user;
    served += is_served ? 1 : 0;
    stream_->OnCancel();
  }
  EXPECT_GT(served, 0);
  EXPECT_LT(served, 20);
}

TEST_F(StreamTest, OfTwoVersionsExactlyOneServesEachStream) {
  std::vector<ChainPlace> places;
  const StreamShare share(30, "", "p");
  for (const StreamShare& split : {share.Rest(), share}) {
    FakePlugin* const plugin = AddPlugin();
    plugin->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-served", "1", /*append=*/true);
    FakePlugin::creating = plugin;
    auto instance = Instance::Create(plugin->Load(), "p", "", {}, {.metrics = &metrics_});
    ASSERT_TRUE(instance.ok()) << instance.status();
    places.push_back({*std::move(instance), split});
  }
  chains_ = std::make_unique<ChainSource>(ArrangeChain(std::move(places)));
  environment_ = *StreamEnvironment::Create(limits_, chains_.get(), &metrics_);
  for (int i = 0; i < 50; ++i) {
    stream_ = std::make_unique<Stream>(environment_.get(), &rpc_);
    const ProcessingResponse response = Exchange(Headers(CALLOUT_REQUEST_HEADERS, true));
    EXPECT_EQ(Mutations(response.request_headers().response().header_mutation()).size(), 1u);
    stream_->OnCancel();
  }
  EXPECT_GT(plugins_[0]->opened, 0);
  EXPECT_GT(plugins_[1]->opened, 0);
  EXPECT_EQ(plugins_[0]->opened + plugins_[1]->opened, 50);
}

}  // namespace
}  // namespace callout::host
