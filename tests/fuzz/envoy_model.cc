// SPDX-License-Identifier: Apache-2.0

#include "tests/fuzz/envoy_model.h"

#include <algorithm>
#include <utility>

#include "tests/fuzz/header_text.h"

namespace callout::host {

namespace {

namespace ext_proc = envoy::service::ext_proc::v3;
using Response = ext_proc::ProcessingResponse;

bool IsResponseSide(int field) { return field % 2 == 1; }

// The answer's member for a message's: request_headers is 2 there and 1 here.
int AnswerTo(int field) { return field - 1; }

std::string CheckMutation(const ext_proc::HeaderMutation& mutation) {
  if (mutation.set_headers_size() > 100 || mutation.remove_headers_size() > 100) {
    return "a header mutation of more than 100 entries";
  }
  for (const auto& option : mutation.set_headers()) {
    const std::string& value = option.header().raw_value();
    if (option.header().key().empty()) return "a header without a name";
    if (option.header().key().find_first_of(" \r\n") != std::string::npos ||
        HasForbiddenByte(value)) {
      return "a header with an illegal character";
    }
  }
  return "";
}

std::string ContentLengthIn(const ext_proc::HeaderMutation& mutation, bool* removed) {
  for (const std::string& name : mutation.remove_headers()) {
    if (name == "content-length") *removed = true;
  }
  for (const auto& option : mutation.set_headers()) {
    if (option.header().key() == "content-length") return option.header().raw_value();
  }
  return "";
}

}  // namespace

EnvoyModel::EnvoyModel(Mode::BodySendMode request_mode, Mode::BodySendMode response_mode,
                       bool observability, bool obeys)
    : observability_(observability), obeys_(obeys) {
  directions_[0].mode = request_mode;
  directions_[1].mode = response_mode;
}

void EnvoyModel::Send(const Request& request) {
  Direction& way = direction(IsResponseSide(request.request_case()));
  if (way.outstanding.empty()) way.asked_time = false;
  way.outstanding.emplace_back(request.request_case(), "");
  const auto note_body = [&way](const ext_proc::HttpBody& body) {
    way.outstanding.back().second = body.body();
    way.sent += body.body();
    way.body_begun = true;
    way.body_ended = body.end_of_stream();
  };
  const auto note_headers = [&way](const ext_proc::HttpHeaders& headers) {
    for (const auto& header : headers.headers().headers()) {
      if (header.key() != "content-length") continue;
      way.content_length = true;
      way.content_length_text = header.raw_value();
    }
    way.headers_ended = headers.end_of_stream();
  };
  switch (request.request_case()) {
    case Request::kRequestHeaders:
      return note_headers(request.request_headers());
    case Request::kResponseHeaders:
      return note_headers(request.response_headers());
    case Request::kRequestBody:
      return note_body(request.request_body());
    case Request::kResponseBody:
      return note_body(request.response_body());
    default:
      return;
  }
}

std::string EnvoyModel::Take(const std::string& bytes) {
  Response response;
  if (!response.ParseFromString(bytes)) return "an answer that is no ProcessingResponse";
  if (observability_) return "an answer in observability mode";
  if (done_) return "an answer after an immediate response";
  if (response.has_override_message_timeout()) return TakeTimeout();
  if (response.has_immediate_response()) {
    done_ = true;
    return CheckMutation(response.immediate_response().headers());
  }
  if (response.has_streamed_immediate_response()) return TakeReply(response);
  if (replying_) return "an answer within a streamed immediate response";
  const int field = response.response_case();
  if (field == 0) return "an answer without any";
  // Response sides of answers have even numbers: 2, 4, 6.
  Direction& way = direction(field % 2 == 0);
  const bool is_body = field == Response::kRequestBody || field == Response::kResponseBody;
  if (is_body && way.mode == Mode::FULL_DUPLEX_STREAMED) {
    return TakeDuplexBody(field == Response::kRequestBody ? response.request_body().response()
                                                          : response.response_body().response(),
                          &way);
  }
  if (way.mode == Mode::FULL_DUPLEX_STREAMED) {
    // Chunks need no answer each.
    while (way.outstanding.size() > 1 &&
           (way.outstanding.front().first == Request::kRequestBody ||
            way.outstanding.front().first == Request::kResponseBody)) {
      way.outstanding.pop_front();
    }
  }
  if (way.outstanding.empty()) return "an answer to nothing: " + response.ShortDebugString();
  if (AnswerTo(way.outstanding.front().first) != field) {
    return "an answer of another type: " + response.ShortDebugString();
  }
  const std::string chunk = way.outstanding.front().second;
  way.outstanding.pop_front();
  way.asked_time = false;
  switch (field) {
    case Response::kRequestHeaders:
    case Response::kResponseHeaders:
      return TakeHeaders(response, &way);
    case Response::kRequestBody:
      return TakeBody(response.request_body().response(), chunk, &way);
    case Response::kResponseBody:
      return TakeBody(response.response_body().response(), chunk, &way);
    case Response::kRequestTrailers:
      way.answer_ended = true;
      return CheckMutation(response.request_trailers().header_mutation());
    default:
      way.answer_ended = true;
      return CheckMutation(response.response_trailers().header_mutation());
  }
}

// Envoy runs no timer in FULL_DUPLEX_STREAMED. If both directions have one, nothing
// says for which of them the time is.
std::string EnvoyModel::TakeTimeout() {
  Direction* timed = nullptr;
  for (Direction& way : directions_) {
    if (way.mode == Mode::FULL_DUPLEX_STREAMED || way.outstanding.empty()) continue;
    if (timed != nullptr) return "more time asked for either direction";
    timed = &way;
  }
  if (timed == nullptr) return "more time asked for nothing";
  if (std::exchange(timed->asked_time, true)) return "more time asked twice for one message";
  return "";
}

std::string EnvoyModel::TakeReply(const Response& response) {
  const auto& piece = response.streamed_immediate_response();
  Direction& way = directions_[0];
  if (!replying_) {
    if (way.outstanding.empty() || way.outstanding.front().first != Request::kRequestHeaders) {
      return "a streamed reply out of place";
    }
    if (way.mode != Mode::NONE && way.mode != Mode::FULL_DUPLEX_STREAMED) {
      return "a streamed reply while Envoy holds a body";
    }
    if (!piece.has_headers_response()) return "a streamed reply without headers";
    replying_ = true;
    way.outstanding.clear();
  } else if (piece.has_headers_response()) {
    return "a streamed reply with headers in its midst";
  }
  done_ = piece.has_trailers_response() || piece.headers_response().end_of_stream() ||
          piece.body_response().end_of_stream();
  return "";
}

std::string EnvoyModel::TakeHeaders(const Response& response, Direction* way) {
  const auto& common = response.has_request_headers() ? response.request_headers().response()
                                                      : response.response_headers().response();
  way->replaced = common.status() == ext_proc::CommonResponse::CONTINUE_AND_REPLACE;
  // What was sent without waiting for this answer gets none.
  if (way->replaced) way->outstanding.clear();
  if (response.has_mode_override()) {
    const bool fixed = std::any_of(directions_.begin(), directions_.end(), [](const Direction& d) {
      return d.mode == Mode::FULL_DUPLEX_STREAMED;
    });
    if (!fixed && obeys_) {
      directions_[0].mode = response.mode_override().request_body_mode();
      directions_[1].mode = response.mode_override().response_body_mode();
    }
  }
  if (common.body_mutation().has_streamed_response()) return "a streamed body in a header answer";
  return CheckMutation(common.header_mutation());
}

std::string EnvoyModel::TakeBody(const ext_proc::CommonResponse& common, const std::string& chunk,
                                 Direction* way) {
  if (common.body_mutation().has_streamed_response()) {
    return "a streamed_response outside of FULL_DUPLEX_STREAMED";
  }
  std::string body = chunk;
  const bool changed = common.body_mutation().has_body() || common.body_mutation().clear_body();
  if (changed) body = common.body_mutation().body();
  way->received += body;
  way->stalled = way->mode == Mode::BUFFERED_PARTIAL && !way->body_ended &&
                 way->content_length_text == std::to_string(way->sent.size());
  const bool buffered = way->mode == Mode::BUFFERED || way->mode == Mode::BUFFERED_PARTIAL;
  if (buffered && changed && way->content_length) {
    bool removed = false;
    const std::string length = ContentLengthIn(common.header_mutation(), &removed);
    if (!removed && length != std::to_string(body.size())) {
      return "a body of " + std::to_string(body.size()) + " bytes with content-length '" + length +
             "'";
    }
  }
  return CheckMutation(common.header_mutation());
}

std::string EnvoyModel::TakeDuplexBody(const ext_proc::CommonResponse& common, Direction* way) {
  if (!common.body_mutation().has_streamed_response()) return "a plain body in FULL_DUPLEX";
  if (way->answer_ended) return "a body after its end";
  if (!way->body_begun) {
    return "a body before any was sent";
  }
  const int first = way->outstanding.empty() ? 0 : way->outstanding.front().first;
  if (first == Request::kRequestHeaders || first == Request::kResponseHeaders) {
    return "a body before the header answer";
  }
  const auto& streamed = common.body_mutation().streamed_response();
  if (streamed.body().size() > 65536) return "a piece of more than 64 KiB";
  if (streamed.end_of_stream() && !way->body_ended) return "an end that Envoy has not sent";
  way->received += streamed.body();
  way->answer_ended = streamed.end_of_stream();
  // N answers for M chunks: the end, or trailers, come after all of them.
  if (way->answer_ended) way->outstanding.clear();
  return "";
}

std::string EnvoyModel::End(const absl::Status& status, bool half_closed) const {
  if (!status.ok() || done_ || observability_) return "";
  for (const Direction& way : directions_) {
    const bool duplex = way.mode == Mode::FULL_DUPLEX_STREAMED;
    for (const auto& [field, chunk] : way.outstanding) {
      const bool body = field == Request::kRequestBody || field == Request::kResponseBody;
      if (!duplex || !body) return "OK with a message unanswered";
      if (way.body_ended && !way.answer_ended) return "OK before the end of a body";
    }
    if (duplex && !half_closed && !way.headers_ended && !way.answer_ended && !way.replaced) {
      return "OK while bytes may be on their way in FULL_DUPLEX_STREAMED";
    }
  }
  return "";
}

}  // namespace callout::host
