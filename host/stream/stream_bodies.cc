// SPDX-License-Identifier: Apache-2.0

// Instances that take whole bodies: what is gathered, what is held for it, and bodies
// whose end cannot be seen.
//
//   STREAMED              each chunk is answered at once with clear_body, since Envoy's
//                         timer does not wait; the whole goes back with the last one
//   BUFFERED              one message is the whole body
//   FULL_DUPLEX_STREAMED  chunks are held, and so are the headers, so that what the
//                         body hook does to them goes out with them, as in BUFFERED
//
// Tested by tests/host/stream/whole_body_test.cc.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "host/base/clock.h"
#include "host/stream/stream.h"
#include "host/wire/annotations.h"
#include "host/wire/header_facts.h"

namespace callout::host {

namespace {

// "206" is "206", "2xx" and "20x" are not patterns but for the two letters x.
bool MatchesStatus(std::string_view status, std::string_view pattern) {
  if (pattern.size() == 3 && pattern.substr(1) == "xx") {
    return !status.empty() && status[0] == pattern[0];
  }
  return status == pattern;
}

bool Matches(const ResponseMatch& match, const HeaderFacts& facts) {
  const auto any = [](const std::vector<std::string>& list, const auto& test) {
    return std::any_of(list.begin(), list.end(), test);
  };
  return any(match.content_types,
             [&](const std::string& type) { return facts.HasContentType(type); }) ||
         any(match.statuses,
             [&](const std::string& text) { return MatchesStatus(facts.status, text); }) ||
         any(match.headers, [&](const std::string& name) { return facts.HasHeader(name); });
}

}  // namespace

bool Stream::TakesWhole(const Part& part, callout_phase_t phase) const {
  const Instance& instance = *part.instance;
  return instance.whole_body_bytes_max() > 0 && instance.Wants(phase);
}

// --- What the headers tell --------------------------------------------------

bool Stream::LeavesAlone(const ChainMessage& message, const Part& part, std::string_view headers) {
  const ResponseMatch& match = part.instance->settings().leave_responses;
  return message.phase == CALLOUT_RESPONSE_HEADERS && !match.empty() &&
         Matches(match, ReadHeaderFacts(headers));
}

// As it will be when the response to its headers has gone out, with what instances have asked for
// in it so far.
Direction Stream::DirectionToCome(const ChainMessage& message) const {
  Direction way = exchange_.direction(message.phase);
  if (!exchange_.mode_can_change() || !HasModeOverride(message.annotations)) return way;
  ModeOverride override = ReadAnnotations(message.annotations).mode_override;
  UniteModes(message, &override);
  const callout_body_mode_t mode =
      IsRequestPhase(message.phase) ? *override.modes.request_body : *override.modes.response_body;
  if (exchange_.MayAskFor(way.body_mode, mode)) exchange_.ChangeMode(mode, &way);
  return way;
}

// What can be foreseen is refused here, before a byte is taken.
void Stream::CheckBodyToCome(ChainMessage* message, Part* part, std::string_view headers) {
  Stage& stage = StageOf(*message, part);
  if (!part->usable || message->end_of_stream || stage.body_passes || exchange_.observability() ||
      !TakesWhole(*part, message->phase + 2)) {
    return;
  }
  // An instance has brought the whole body, and Envoy sends none.
  if (message->response.continue_and_replace()) return;
  const Direction to_come = DirectionToCome(*message);
  if (!to_come.may_have_body()) return;
  const bool first = !std::exchange(stage.checked, true);
  if (first && LeavesAlone(*message, *part, headers)) {
    stage.body_passes = true;
    return;
  }
  const HeaderFacts facts = ReadHeaderFacts(headers);
  const bool is_request = message->phase == CALLOUT_REQUEST_HEADERS;
  const Direction& request = exchange_.direction(CALLOUT_REQUEST_HEADERS);
  const bool asks_for_upgrade = facts.is_connect || facts.has_upgrade;
  const bool upgraded =
      !is_request && (facts.status == "101" || (request.upgrade && facts.status.starts_with('2')));
  std::string_view why;
  if (first && (is_request ? asks_for_upgrade : upgraded)) {
    why = "an upgraded connection has no end";
  } else if (first && !is_request && facts.HasContentType("text/event-stream")) {
    why = "text/event-stream has no end";
  } else if (to_come.MayBe(CALLOUT_BODY_STREAMED) &&
             (facts.has_trailer || facts.HasContentType("application/grpc*"))) {
    why =
        "it will end with trailers, after which a body cannot be given back in STREAMED; use "
        "BUFFERED or FULL_DUPLEX_STREAMED";
  }
  if (why.empty()) return;
  switch (part->instance->settings().endless_body) {
    case EndlessBody::kPass:
      stage.body_passes = true;
      return;
    case EndlessBody::kChunks:
      stage.chunks = true;
      return;
    case EndlessBody::kRefuse:
      stage.body_passes = true;  // under the policy `continue`
      return Fault(message, part,
                   {Violation::kEndlessBody,
                    fmt::format("the body cannot be taken whole: {}; settings endless_body and "
                                "leave_responses, or a mode_override to NONE, let it pass",
                                why)});
  }
}

// Once more when all instances have had the headers: a later one may have asked for a body, or for
// STREAMED. How the body ends the headers tell as they came.
void Stream::CheckBodiesToCome(ChainMessage* message) {
  if (!chain_->has_whole_body || !IsHeadersPhase(message->phase) ||
      !HasModeOverride(message->annotations)) {
    return;
  }
  for (size_t i = 0; i < parts_.size() && live(); ++i) {
    CheckBodyToCome(message, &parts_[i], message->original);
  }
}

// As the instances leave the request: its response may be a tunnel.
void Stream::NoteUpgrade(const ChainMessage& message) {
  const bool is_read = chain_->has_whole_body && message.phase == CALLOUT_REQUEST_HEADERS;
  if (!is_read || message.end_of_stream) return;
  const HeaderFacts facts = ReadHeaderFacts(message.message);
  exchange_.direction(message.phase).upgrade = facts.is_connect || facts.has_upgrade;
}

// In FULL_DUPLEX_STREAMED Envoy sends the body unasked, and takes a header response
// that comes after it has ended.
bool Stream::HoldsHeaders(const ChainMessage& message, const Part& part) const {
  const Stage& stage = part.stages[DirectionOf(message)];
  return part.usable && !message.end_of_stream && !exchange_.observability() &&
         message.phase == message.response_phase &&
         exchange_.direction(message.phase).body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED &&
         TakesWhole(part, message.phase + 2) && !stage.body_passes && !stage.chunks &&
         !message.response.continue_and_replace();
}

// The response begins while a request's body is gathered in STREAMED, with no end
// seen: the upstream cannot have had the body. One that says that it failed may be an
// early answer; any other would hide the loss.
void Stream::CheckLostRequest(ChainMessage* message) {
  if (!chain_->has_whole_body || exchange_.observability()) return;
  const Direction& way = exchange_.direction(CALLOUT_REQUEST_BODY);
  if (way.ended || way.body_mode != CALLOUT_BODY_STREAMED) return;
  for (size_t i = 0; i < parts_.size() && live(); ++i) {
    const Stage& stage = parts_[i].stages[0];
    if (stage.gathered.empty()) continue;
    const std::string_view status = ReadHeaderFacts(message->message).status;
    if (status.starts_with('4') || status.starts_with('5')) return;
    CountFault(
        chain_->instances[i].get(), CALLOUT_REQUEST_BODY, Violation::kBodyLost,
        fmt::format("the response came while {} bytes of the request were gathered, whose end was "
                    "not seen: trailers that Envoy does not send have ended it; set "
                    "request_trailer_mode: SEND, or use BUFFERED or FULL_DUPLEX_STREAMED",
                    stage.gathered.size()),
        message->message);
    Refuse(chain_->instances[i].get(), kDenyStatusDefault, Violation::kBodyLost,
           absl::DataLossError(fmt::format("a request body gathered for plugin {} is lost",
                                           chain_->instances[i]->name())));
  }
}

// --- Gathering --------------------------------------------------------------

void Stream::AddGathered(Stage* stage, std::string_view bytes) {
  stage->gathered.append(bytes);
  kept_bytes_ += bytes.size();
  if (stage->body_until_ns == 0) {
    stage->body_until_ns = MonotonicNs() + environment_->limits().body_wait_ms * 1000000;
  }
}

std::string Stream::TakeGathered(Stage* stage) {
  kept_bytes_ -= stage->gathered.size();
  stage->body_until_ns = 0;
  return std::exchange(stage->gathered, {});
}

// Adds a chunk to the body the instance is to be given whole. kCall: the message now
// has the whole of it.
Stream::Step Stream::Gather(ChainMessage* message, Part* part) {
  Stage& stage = StageOf(*message, part);
  const size_t bytes = stage.gathered.size() + message->body.size();
  if (bytes > part->instance->whole_body_bytes_max() ||
      kept_bytes_ + message->body.size() > environment_->limits().stream_memory_bytes_max) {
    TakeTooLarge(message, part);
    return live() && stage.held != nullptr ? Step::kAgain : Step::kPassed;
  }
  if ((IsBuffered(message->body_mode) && !message->mode_open && stage.held == nullptr) ||
      message->stalls_envoy || message->phase != message->response_phase) {
    // BUFFERED has no end_of_stream only if trailers follow.
    message->whole_body = message->end_of_stream || message->stalls_envoy ||
                          message->body_mode == CALLOUT_BODY_BUFFERED;
    return Step::kCall;
  }
  if (message->end_of_stream && stage.gathered.empty() &&
      (stage.held == nullptr || IsHeadersPhase(stage.held->phase))) {
    message->whole_body = true;
    return Step::kCall;
  }
  if (stage.held != nullptr && !IsHeadersPhase(stage.held->phase)) {
    // Another chunk: the first one, whose mode was open, is one of STREAMED.
    ChainMessage* first = stage.held;
    AddGathered(&stage, first->body);
    first->hidden = true;
    stage.taken = true;
    first->response.SetBody(ResponseView::Body::kCleared, {});
    LetGo(&stage);
    return Step::kAgain;
  }
  if (message->mode_open && !message->end_of_stream && !exchange_.observability()) {
    Hold(message, part, environment_->limits().hook_deadline_ms);
    return Step::kWaits;
  }
  return GatherChunk(message, part);
}

Stream::Step Stream::GatherChunk(ChainMessage* message, Part* part) {
  Stage& stage = StageOf(*message, part);
  AddGathered(&stage, message->body);
  if (exchange_.observability()) {
    // The later ones see the chunks all the same.
    if (message->end_of_stream) PutGatheredBefore(*message, part);
    return Step::kPassed;
  }
  if (!message->end_of_stream) {
    if (message->body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED) {
      message->dropped = true;
    } else {
      message->hidden = true;
      stage.taken = true;
      message->response.SetBody(ResponseView::Body::kCleared, {});
    }
    return Step::kPassed;
  }
  message->whole_body = true;
  message->response.ReplaceBody(TakeGathered(&stage));
  message->RebuildAroundBody(message->response.body());
  return Step::kCall;
}

// What has been gathered goes on untouched, with the rest of the body, unless the
// operator says otherwise.
void Stream::TakeTooLarge(ChainMessage* message, Part* part) {
  Stage& stage = StageOf(*message, part);
  Instance& instance = *part->instance;
  const std::string what = fmt::format(
      "more than the {} bytes that the plugin takes whole (setting "
      "max_whole_body_bytes), or --max_stream_memory_bytes={} in all",
      instance.whole_body_bytes_max(), environment_->limits().stream_memory_bytes_max);
  CountFault(*message, part, Violation::kBodyTooLarge, what);
  stage.body_passes = true;
  if (exchange_.observability()) {
    TakeGathered(&stage);
    return;
  }
  constexpr int kContentTooLarge = 413;
  switch (instance.settings().too_large.action) {
    case ErrorPolicy::Action::kContinue:
      if (stage.held != nullptr) {
        const bool headers = IsHeadersPhase(stage.held->phase);
        LetGo(&stage);
        // A first chunk whose mode was open goes on as it is, before this one.
        if (!headers) return;
      }
      return GiveBack(message, part);
    case ErrorPolicy::Action::kDeny:
      return Deny(&instance, instance.settings().too_large.http_status, Violation::kBodyTooLarge);
    case ErrorPolicy::Action::kFail:
      return Refuse(&instance, kContentTooLarge, Violation::kBodyTooLarge,
                    absl::ResourceExhaustedError(
                        fmt::format("a body is larger than the {} bytes that plugin {} takes whole",
                                    instance.whole_body_bytes_max(), instance.name())));
  }
}

// What an instance has gathered but will not be called with goes on before the
// bytes of `message`.
void Stream::GiveBack(ChainMessage* message, Part* part) {
  Stage& stage = StageOf(*message, part);
  if (stage.gathered.empty()) return;
  std::string bytes = TakeGathered(&stage);
  stage.taken = false;
  if (exchange_.observability()) return;
  // The message has the body that an instance before has given it only if anyone was to see that.
  bytes.append(message->response.body_mutation() == ResponseView::Body::kUnchanged
                   ? message->body
                   : message->response.body());
  message->response.ReplaceBody(std::move(bytes));
  message->RebuildAroundBody(message->response.body());
}

// A chunk goes on without having been gathered, so the whole cannot be: what there is of it goes on
// before, and the rest passes.
void Stream::PassBody(ChainMessage* message, Part* part) {
  Stage& stage = StageOf(*message, part);
  if (!IsBodyPhase(message->phase) || stage.chunks || !TakesWhole(*part, message->phase)) return;
  stage.body_passes = true;
  // A first chunk whose mode was open goes on as it is.
  if (stage.held != nullptr && !IsHeadersPhase(stage.held->phase)) LetGo(&stage);
  GiveBack(message, part);
}

// Trailers have come, so the body is complete without an end of its own: it goes
// to the instance, and on, before them.
Stream::Step Stream::FlushGathered(ChainMessage* message, Part* part) {
  Stage& stage = StageOf(*message, part);
  if (stage.held != nullptr && !IsHeadersPhase(stage.held->phase)) {
    // A first chunk whose mode was open is the whole body.
    ChainMessage* whole = stage.held;
    stage.held = nullptr;
    whole->Become(MessageState::kMoving);
    whole->whole_body = true;
    whole->gathered_position = whole->position;
    return Step::kAgain;
  }
  if (!stage.gathered.empty()) {
    if (message->body_mode != CALLOUT_BODY_FULL_DUPLEX_STREAMED && !exchange_.observability()) {
      // Its chunks are answered, and an answer to trailers has no room for a body.
      const std::string what =
          "the body ended with trailers, after which it cannot be given back in body mode "
          "STREAMED; use BUFFERED or FULL_DUPLEX_STREAMED";
      environment_->metrics().Add(environment_->ids().bodies_lost);
      CountFault(*message, part, Violation::kBodyLost, what);
      Refuse(part->instance, kDenyStatusDefault, Violation::kBodyLost,
             absl::FailedPreconditionError(fmt::format("a body gathered for plugin {} is lost: {}",
                                                       part->instance->name(), what)));
      return Step::kPassed;
    }
    PutGatheredBefore(*message, part);
    return Step::kAgain;
  }
  if (stage.held == nullptr) return Step::kPassed;
  if (stage.plugin_holds) {
    // The trailers' hook may settle them.
    if (part->usable && part->instance->Wants(message->phase)) return Step::kPassed;
    CheckHeldHeaders(message, part);
    if (!live()) return Step::kPassed;
  }
  LetGo(&stage);
  return Step::kAgain;
}

void Stream::PutGatheredBefore(const ChainMessage& message, Part* part) {
  ChainMessage* body = NewMessage();
  body->Begin(IsRequestPhase(message.phase) ? CALLOUT_REQUEST_BODY : CALLOUT_RESPONSE_BODY,
              message.request, std::string_view());
  body->body_mode = message.body_mode;
  body->end_of_stream = IsBodyPhase(message.phase) && message.end_of_stream;
  body->whole_body = true;
  body->alone = exchange_.observability();
  body->position = body->gathered_position = message.position;
  body->RebuildAroundBody(TakeGathered(&part->stages[DirectionOf(message)]));
  PutBefore(message, body);
}

}  // namespace callout::host
