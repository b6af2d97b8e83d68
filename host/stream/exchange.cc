#include "host/stream/exchange.h"

#include <fmt/format.h>

#include "host/plugin/instance.h"
#include "host/stream/guard.h"
#include "host/wire/response.h"

namespace callout::host {

void Exchange::Remember(const RequestView& view) {
  if (view.has_protocol_config) {
    modes_known_ = true;
    directions_[0].body_mode = view.protocol_config.request_body_mode;
    directions_[1].body_mode = view.protocol_config.response_body_mode;
    send_body_without_waiting_ = view.protocol_config.send_body_without_waiting;
  }
  if (view.observability_mode) observability_ = true;
}

absl::Status Exchange::Enter(const RequestView& view, ChainMessage* message) {
  Direction& way = direction(view.phase);
  if (way.ended) {
    return absl::InvalidArgumentError(fmt::format(
        "a {} message came after the end of its direction's stream", PhaseName(view.phase)));
  }
  message->body_mode = way.body_mode;
  if (IsHeadersPhase(view.phase)) return EnterHeaders(view, message);
  if (IsBodyPhase(view.phase)) return EnterBody(view, message);
  way.ended = true;
  message->end_of_stream = true;
  return absl::OkStatus();
}

absl::Status Exchange::EnterHeaders(const RequestView& view, ChainMessage* message) {
  Direction& way = direction(view.phase);
  if (way.headers_seen || way.body_seen) {
    return absl::InvalidArgumentError(
        fmt::format("a {} message came after {} of the same direction", PhaseName(view.phase),
                    way.headers_seen ? "headers" : "a body"));
  }
  HeadersMessageView headers;
  if (!ReadHeadersMessage(view.message, way.keeps_content_length(), &headers)) {
    return absl::InvalidArgumentError(
        fmt::format("the {} message is malformed protobuf", PhaseName(view.phase)));
  }
  way.headers_seen = true;
  way.ended = headers.end_of_stream;
  if (way.keeps_content_length()) {
    way.content_length = headers.has_content_length ? Direction::ContentLength::kPresent
                                                    : Direction::ContentLength::kAbsent;
  }
  message->end_of_stream = headers.end_of_stream;
  return absl::OkStatus();
}

absl::Status Exchange::EnterBody(const RequestView& view, ChainMessage* message) {
  Direction& way = direction(view.phase);
  if (!ReadBodyMessage(view.message, &message->body, &message->end_of_stream)) {
    return absl::InvalidArgumentError(
        fmt::format("the {} message is malformed protobuf", PhaseName(view.phase)));
  }
  way.body_seen = true;
  way.ended = message->end_of_stream;
  return absl::OkStatus();
}

bool Exchange::mode_can_change() const {
  return modes_known_ && !send_body_without_waiting_ &&
         directions_[0].body_mode != CALLOUT_BODY_FULL_DUPLEX_STREAMED &&
         directions_[1].body_mode != CALLOUT_BODY_FULL_DUPLEX_STREAMED;
}

void Exchange::ChangeModes(callout_body_mode_t request_mode, callout_body_mode_t response_mode) {
  const std::array<callout_body_mode_t, 2> modes = {request_mode, response_mode};
  for (size_t i = 0; i < modes.size(); ++i) {
    if (directions_[i].body_mode == modes[i]) continue;
    directions_[i].body_mode = modes[i];
    directions_[i].mode_overridden = true;
  }
}

}  // namespace callout::host
