// SPDX-License-Identifier: Apache-2.0

#include "host/stream/exchange.h"

#include <fmt/format.h>
#include <algorithm>

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

absl::Status Exchange::Enter(const RequestView& view, bool body_read, ChainMessage* message) {
  Direction& way = direction(view.phase);
  if (way.ended) {
    return absl::InvalidArgumentError(fmt::format(
        "a {} message came after the end of its direction's stream", PhaseName(view.phase)));
  }
  message->body_mode = way.body_mode;
  if (IsHeadersPhase(view.phase)) return EnterHeaders(view, body_read, message);
  if (IsBodyPhase(view.phase)) return EnterBody(view, message);
  way.ended = true;
  message->end_of_stream = true;
  return absl::OkStatus();
}

absl::Status Exchange::EnterHeaders(const RequestView& view, bool body_read,
                                    ChainMessage* message) {
  Direction& way = direction(view.phase);
  if (way.headers_seen || way.body_seen) {
    return absl::InvalidArgumentError(
        fmt::format("a {} message came after {} of the same direction", PhaseName(view.phase),
                    way.headers_seen ? "headers" : "a body"));
  }
  HeadersMessageView headers;
  if (!ReadHeadersMessage(view.message, body_read || way.keeps_content_length(), &headers)) {
    return absl::InvalidArgumentError(
        fmt::format("the {} message is malformed protobuf", PhaseName(view.phase)));
  }
  way.headers_seen = true;
  way.ended = headers.end_of_stream;
  if (way.keeps_content_length()) {
    way.content_length =
        headers.has_content_length ? Direction::Presence::kPresent : Direction::Presence::kAbsent;
    way.content_length_bytes = headers.content_length;
  }
  way.encoded = headers.has_content_encoding;
  message->end_of_stream = headers.end_of_stream;
  return absl::OkStatus();
}

absl::Status Exchange::EnterBody(const RequestView& view, ChainMessage* message) {
  Direction& way = direction(view.phase);
  if (!ReadBodyMessage(view.message, &message->body, &message->end_of_stream)) {
    return absl::InvalidArgumentError(
        fmt::format("the {} message is malformed protobuf", PhaseName(view.phase)));
  }
  if (way.mode_open) ShowMode(&way, message);
  message->stalls_envoy = way.MayBe(CALLOUT_BODY_BUFFERED_PARTIAL) && !way.body_seen &&
                          !message->end_of_stream && !observability_ &&
                          way.content_length_bytes == message->body.size();
  way.body_seen = true;
  way.ended = message->end_of_stream;
  return absl::OkStatus();
}

// What a body message tells of an override that was asked for.
void Exchange::ShowMode(Direction* way, ChainMessage* message) {
  if (way->body_mode == CALLOUT_BODY_NONE) {
    way->body_mode = way->asked_mode;
    way->mode_open = false;
    way->mode_overridden = true;
  } else if (way->asked_mode == CALLOUT_BODY_NONE) {
    way->mode_open = false;
  } else if (way->body_seen) {
    // Only STREAMED has a second one.
    way->body_mode = CALLOUT_BODY_STREAMED;
    way->mode_open = false;
  } else {
    message->mode_open = true;
  }
  message->body_mode = way->body_mode;
}

bool Exchange::mode_can_change() const {
  return modes_known_ && policy_ != EnvoyModeOverride::kIgnored && !send_body_without_waiting_ &&
         directions_[0].body_mode != CALLOUT_BODY_FULL_DUPLEX_STREAMED &&
         directions_[1].body_mode != CALLOUT_BODY_FULL_DUPLEX_STREAMED;
}

bool Exchange::MayAskFor(callout_body_mode_t from, callout_body_mode_t to) const {
  return policy_ == EnvoyModeOverride::kAllowed || to != CALLOUT_BODY_FULL_DUPLEX_STREAMED ||
         from == to || from == CALLOUT_BODY_NONE;
}

ModeOverride::Modes Exchange::told_modes() const {
  ModeOverride::Modes modes = told_modes_;
  modes.request_body = directions_[0].told_mode();
  modes.response_body = directions_[1].told_mode();
  return modes;
}

void Exchange::ChangeMode(callout_body_mode_t mode, Direction* way) const {
  if (policy_ == EnvoyModeOverride::kAllowed) {
    if (way->body_mode == mode) return;
    way->body_mode = mode;
    way->mode_overridden = true;
  } else {
    // A second wish may be obeyed where the first was, too.
    way->mode_open = way->body_mode != mode || way->mode_open;
    way->asked_mode = mode;
  }
}

void Exchange::ChangeModes(const ModeOverride::Modes& modes) {
  ChangeMode(*modes.request_body, directions_.data());
  ChangeMode(*modes.response_body, &directions_[1]);
  told_modes_ = modes;
}

bool Exchange::response_is_out() const {
  const Direction& way = direction(CALLOUT_RESPONSE_HEADERS);
  if (!way.headers_answered && (way.headers_seen || !way.body_seen)) return false;
  if (way.mode_open) return false;
  // Buffered, Envoy holds the headers until the body is answered.
  const bool body_to_come = way.body_seen || !way.ended;
  return !IsBuffered(way.body_mode) || !body_to_come || way.answered_to_end;
}

bool Exchange::between_bodies() const {
  const auto shown = [](const Direction& way) { return way.headers_seen || way.body_seen; };
  const auto amid = [](const Direction& way) { return way.body_seen && !way.ended; };
  return std::any_of(directions_.begin(), directions_.end(), shown) &&
         std::none_of(directions_.begin(), directions_.end(), amid);
}

bool Exchange::duplex_unended() const {
  for (const Direction& way : directions_) {
    if (!way.MayBe(CALLOUT_BODY_FULL_DUPLEX_STREAMED) || way.replaced) continue;
    if (!way.ended || (way.body_seen && !way.answered_to_end)) return true;
  }
  return false;
}

}  // namespace callout::host
