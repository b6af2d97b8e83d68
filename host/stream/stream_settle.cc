// What a hook came to: its answer checked by the guard, joined to those of the
// others or replaced by the policy; and whole bodies.

#include <fmt/format.h>

#include <utility>

#include "host/base/status_text.h"
#include "host/plugin/call_log.h"
#include "host/plugin/services.h"
#include "host/stream/stream.h"
#include "host/wire/annotations.h"
#include "host/wire/response.h"

namespace callout::host {

namespace {

absl::StatusCode ToStatusCode(callout_status_t status) {
  const int code = -status;
  return code >= 1 && code <= 16 ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown;
}

bool IsDecision(callout_status_t status) {
  return status == CALLOUT_PERMISSION_DENIED || status == CALLOUT_UNAUTHENTICATED;
}

std::string ErrorText(const CallState& state, callout_phase_t phase, callout_status_t status) {
  if (!state.error.empty()) return state.error;
  if (IsDecision(status)) return fmt::format("denied by plugin {}", state.instance->name());
  return fmt::format("plugin {} returned {} from {}", state.instance->name(), StatusName(status),
                     PhaseName(phase));
}

}  // namespace

// --- Outcomes ---------------------------------------------------------------

void Stream::Settle(ChainMessage* message, Part* part, callout_status_t status) {
  CallState& state = part->state;
  if (status < 0) {
    absl::Status error(ToStatusCode(status), ErrorText(state, message->phase, status));
    if (!IsDecision(status)) {
      return Fault(message, part, Violation::kErrorStatus, std::move(error));
    }
    if (!exchange_.observability()) End(std::move(error));
    return;
  }
  if (state.fault == ResponseFault::kTooLarge) {
    Replace(message, part, Violation::kTooLarge);
  } else if (state.fault == ResponseFault::kMalformed ||
             !AnnotationsAreWellFormed(state.annotations)) {
    Replace(message, part, Violation::kMalformed);
  } else if (status == CALLOUT_OK) {
    TakeResponse(message, part);
  } else if (status == CALLOUT_NO_RESPONSE) {
    TakeNoResponse(message, part);
  } else {
    Replace(message, part, Violation::kBadStatus);
  }
  if (reply_part_ == part && busy_) FinishReply();
}

Violation Stream::Check(const ChainMessage& message, callout_field_t field,
                        const ResponseView& view) const {
  Situation situation{message.phase, message.body_mode};
  if (message.phase != message.response_phase) situation.body_mode = CALLOUT_BODY_BUFFERED;
  const Violation violation = CheckResponse(situation, field, view);
  if (violation != Violation::kNone || IsBodyPhase(message.phase) ||
      field != ResponseField(message.phase)) {
    return violation;
  }
  const StreamLimits& limits = environment_->limits();
  return FitsHeaderLimits(message.message, view.headers, limits.header_count_max,
                          limits.header_bytes_max)
             ? Violation::kNone
             : Violation::kIllegalHeader;
}

void Stream::TakeResponse(ChainMessage* message, Part* part) {
  CallState& state = part->state;
  Response& response = state.response;
  part->gave_mode = false;
  if (reply_part_ != nullptr && response.field != CALLOUT_STREAMED_IMMEDIATE_RESPONSE) {
    // The client is being answered already.
    if (response.field != 0) {
      CountFault(*message, part, Violation::kSecondResponse);
    }
    return;
  }
  if (response.field != 0) {
    ResponseView view;
    if (!ReadResponse(response.field, response.payload(), &view)) {
      return Replace(message, part, Violation::kMalformed);
    }
    const Violation violation = Check(*message, response.field, view);
    if (violation != Violation::kNone) return Replace(message, part, violation);
    if (exchange_.observability()) return;
    if (response.field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE) {
      return TakeReply(message, part, std::move(response), view);
    }
    if (response.field == CALLOUT_IMMEDIATE_RESPONSE) {
      message->annotations.append(state.annotations);
      if (!view.has_details) AddDetails(*part, &response);
      return EmitImmediate(std::move(response), MakeAnnotations(message));
    }
    if (!message->response.Add(&response, view)) {
      return Replace(message, part, Violation::kIllegalHeader);
    }
    if (IsHeadersPhase(message->phase) && view.continue_and_replace) {
      message->replace_position = message->position;
    }
    if (IsBodyPhase(message->phase) && view.body_mutation != ResponseView::Body::kUnchanged) {
      part->altered[DirectionOf(*message)] = true;
    }
    if (parts_.size() > 1 && !view.headers.empty()) KeepHeaderOrder(message, part, view);
    if (HasLaterReader(*message)) ShowToLater(message, view);
  }
  part->gave_mode = HasModeOverride(state.annotations);
  message->annotations.append(state.annotations);
}

// In BUFFERED modes Envoy holds the headers until the body is answered, so a
// filter's header mutations of both phases come before those of the next filter.
// Here the header answers of all instances went out before any body came: what
// the later ones did then has to be done again over a mutation that comes now.
void Stream::KeepHeaderOrder(ChainMessage* message, Part* part, const ResponseView& view) {
  if (message->body_mode != CALLOUT_BODY_BUFFERED &&
      message->body_mode != CALLOUT_BODY_BUFFERED_PARTIAL) {
    return;
  }
  const size_t way = DirectionOf(*message);
  if (IsHeadersPhase(message->phase)) {
    if (part->header_effects == nullptr) {
      part->header_effects = std::make_unique<std::array<MergedHeaders, 2>>();
    }
    (*part->header_effects)[way].Add(view.headers);
    return;
  }
  if (!IsBodyPhase(message->phase) || message->phase != message->response_phase) return;
  for (size_t i = message->position + 1; i < parts_.size(); ++i) {
    const Part& later = PartAt(*message, i);
    if (later.header_effects != nullptr) {
      message->response.PutUnder(view.headers, (*later.header_effects)[way]);
    }
  }
}

// Makes the message what it would be after Envoy has applied the answer.
void Stream::ShowToLater(ChainMessage* message, const ResponseView& view) {
  if (!IsBodyPhase(message->phase)) {
    if (!view.headers.empty()) {
      message->Rebuild(ApplyHeaderMutation(message->message, view.headers));
    }
    if (view.continue_and_replace && view.body_mutation != ResponseView::Body::kUnchanged &&
        std::exchange(message->end_of_stream, false)) {
      message->Rebuild(WithoutEndOfStream(message->message));
    }
    return;
  }
  if (view.body_mutation != ResponseView::Body::kUnchanged) {
    message->RebuildAroundBody(view.body, nullptr);
  }
}

void Stream::TakeNoResponse(ChainMessage* message, Part* part) {
  if (!IsBodyPhase(message->phase) || message->phase != message->response_phase ||
      message->body_mode != CALLOUT_BODY_FULL_DUPLEX_STREAMED) {
    return Replace(message, part, Violation::kBadStatus);
  }
  message->annotations.append(part->state.annotations);
  if (exchange_.observability()) return;
  if (!message->body.empty()) part->altered[DirectionOf(*message)] = true;
  message->dropped = !message->end_of_stream;
  // The end goes on all the same, with nothing before it.
  if (message->end_of_stream) {
    message->response.SetBody(ResponseView::Body::kCleared, {});
    message->RebuildAroundBody(std::string_view(), nullptr);
  }
}

// --- Answers sent ahead -----------------------------------------------------

// Lets on what send() has queued, in order, ahead of the answer.
void Stream::TakeSent(ChainMessage* message, Part* part) {
  std::vector<Response> sent;
  {
    std::lock_guard<std::mutex> lock(part->state.sent_mutex);
    sent.swap(part->state.sent);
  }
  const bool duplex = IsBodyPhase(message->phase) && message->phase == message->response_phase &&
                      message->body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED;
  for (Response& response : sent) {
    if (!busy_) return;
    ResponseView view;
    Violation violation = Violation::kNone;
    if (!ReadResponse(response.field, response.payload(), &view)) {
      violation = Violation::kMalformed;
    } else if (!duplex && response.field != CALLOUT_STREAMED_IMMEDIATE_RESPONSE) {
      violation = Violation::kSecondResponse;
    } else {
      violation = Check(*message, response.field, view);
    }
    if (violation != Violation::kNone) {
      Replace(message, part, violation);
    } else if (exchange_.observability()) {
      continue;
    } else if (duplex) {
      TakeSentChunk(message, part, view);
    } else {
      TakeReply(message, part, std::move(response), view);
    }
  }
}

// A chunk that goes ahead is to the later instances a message of its own. More
// is to come after it, so it never ends the body: the end goes with the
// message's own answer.
void Stream::TakeSentChunk(ChainMessage* message, Part* part, const ResponseView& view) {
  part->altered[DirectionOf(*message)] = true;
  auto chunk = std::make_unique<ChainMessage>();
  chunk->Reset(message->phase, message->request, message->message);
  chunk->body_mode = message->body_mode;
  chunk->position = message->position + 1;
  chunk->body_owner = std::make_shared<const std::string>(view.body);
  chunk->body = *chunk->body_owner;
  if (HasLaterReader(*message)) chunk->RebuildAroundBody(chunk->body, chunk->body_owner);
  PutAhead(*message, std::move(chunk));
}

// One piece of a streamed local reply: headers first, then body and trailers,
// nothing after the one that ends it. The chain has no more to say.
void Stream::TakeReply(ChainMessage* message, Part* part, Response response,
                       const ResponseView& view) {
  using Piece = ResponseView::Streamed;
  const bool begins = reply_part_ == nullptr;
  const bool in_order = view.streamed_part != Piece::kNone &&
                        begins == (view.streamed_part == Piece::kHeaders) && !reply_ended_;
  if (!in_order && !begins) {
    return CountFault(*message, part, Violation::kSecondResponse);
  }
  if (!in_order) return Replace(message, part, Violation::kWrongType);
  reply_part_ = part;
  reply_ended_ = view.end_of_stream || view.streamed_part == Piece::kTrailers;
  part->altered[DirectionOf(*message)] = true;
  Emit(std::move(response), {});
}

// The hook that has begun a streamed local reply is done: the client must not be
// left waiting for an end that will not come.
void Stream::FinishReply() {
  if (!reply_ended_) {
    Response end;
    BuildRecord(CALLOUT_STREAMED_IMMEDIATE_RESPONSE, WriteStreamedImmediateEnd(), &end);
    Emit(std::move(end), {});
    reply_ended_ = true;
  }
  silenced_ = true;
  Release();
}

// --- Faults -----------------------------------------------------------------

// Applies the instance's policy. `status` is OK for an answer of a wrong form,
// whose default is to go on without it; the default for the others is to fail.
void Stream::Fault(ChainMessage* message, Part* part, Violation violation, absl::Status status) {
  Instance& instance = *part->state.instance;
  CountFault(*message, part, violation, MessageOf(status));
  if (exchange_.observability()) return;
  const bool wrong_form = status.ok();
  if (wrong_form) {
    status = absl::InternalError(fmt::format("plugin {} answered {} in a way that is not legal: {}",
                                             instance.name(), PhaseName(message->phase),
                                             ViolationName(violation)));
  }
  ErrorPolicy policy = instance.settings().policy.value_or(
      ErrorPolicy{wrong_form ? ErrorPolicy::Action::kContinue : ErrorPolicy::Action::kFail, 0});
  // Bytes that an instance has changed or kept make the rest of the body its own:
  // going on without it would silently corrupt what the other side receives.
  if (part->altered[DirectionOf(*message)]) policy.action = ErrorPolicy::Action::kFail;
  switch (policy.action) {
    case ErrorPolicy::Action::kContinue:
      return;
    case ErrorPolicy::Action::kDeny:
      return Deny(policy.http_status, violation);
    case ErrorPolicy::Action::kFail:
      return End(std::move(status));
  }
}

void Stream::CountFault(const ChainMessage& message, Part* part, Violation violation,
                        std::string_view why) {
  const std::string_view headers = IsHeadersPhase(message.phase) ? message.message : "";
  part->state.instance->CountViolation(violation, message.phase, why, {id_, headers});
}

// A response without details leaves nothing in Envoy's access log that would tell which
// plugin it came from.
void Stream::AddDetails(const Part& part, Response* response) {
  const std::string details =
      WriteImmediateDetails(fmt::format("callout_{}", part.state.instance->name()));
  const std::string_view payload = response->payload();
  const callout_bytes_t parts[] = {ToBytes(payload), ToBytes(details)};
  Response whole;
  BuildRecord(CALLOUT_IMMEDIATE_RESPONSE, parts, 2, payload.size() + details.size(), &whole);
  *response = std::move(whole);
}

void Stream::Deny(int http_status, Violation violation) {
  Response response;
  BuildRecord(
      CALLOUT_IMMEDIATE_RESPONSE,
      WriteImmediateResponse(http_status, fmt::format("callout_{}", ViolationName(violation))),
      &response);
  EmitImmediate(std::move(response), {});
}

// --- Whole bodies -----------------------------------------------------------

// Adds a chunk to the body the instance is to be given whole. True if the message
// now has the whole of it, for a call; false if it passes without one.
bool Stream::Gather(ChainMessage* message, Part* part) {
  const size_t way = DirectionOf(*message);
  if (part->body_given_up[way]) return false;
  std::string& gathered = part->gathered[way];
  const size_t bytes = gathered.size() + message->body.size();
  const size_t memory_bytes_max = environment_->limits().stream_memory_bytes_max;
  if (bytes > part->state.instance->whole_body_bytes_max() ||
      kept_bytes() + message->body.size() > memory_bytes_max) {
    TakeTooLarge(message, part);
    return false;
  }
  const bool buffered = message->body_mode == CALLOUT_BODY_BUFFERED ||
                        message->body_mode == CALLOUT_BODY_BUFFERED_PARTIAL;
  if (buffered || message->phase != message->response_phase) {
    // BUFFERED has no end_of_stream only if trailers follow.
    message->whole_body = message->end_of_stream || message->body_mode == CALLOUT_BODY_BUFFERED;
    return true;
  }
  if (message->end_of_stream && gathered.empty()) return true;
  gathered.append(message->body);
  if (exchange_.observability()) {
    // The later ones see the chunks all the same.
    if (message->end_of_stream) PutGatheredAhead(*message, part);
    return false;
  }
  if (!message->end_of_stream) {
    if (message->body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED) {
      message->dropped = true;
    } else {
      // Envoy's buffer and its timer do not wait: the chunk is taken out now, and
      // the whole goes back with the last one.
      message->hidden = true;
      message->response.SetBody(ResponseView::Body::kCleared, {});
    }
    return false;
  }
  auto whole = std::make_shared<const std::string>(std::exchange(gathered, {}));
  message->whole_body = true;
  message->response.SetBody(ResponseView::Body::kReplaced, *whole);
  message->RebuildAroundBody(*whole, whole);
  return true;
}

// What has been gathered goes on untouched, with the rest of the body, unless the
// operator says otherwise.
void Stream::TakeTooLarge(ChainMessage* message, Part* part) {
  const size_t way = DirectionOf(*message);
  Instance& instance = *part->state.instance;
  CountFault(*message, part, Violation::kBodyTooLarge);
  part->body_given_up[way] = true;
  if (exchange_.observability()) return part->gathered[way].clear();
  switch (instance.settings().too_large.action) {
    case ErrorPolicy::Action::kContinue:
      return GiveBack(message, part);
    case ErrorPolicy::Action::kDeny:
      return Deny(instance.settings().too_large.http_status, Violation::kBodyTooLarge);
    case ErrorPolicy::Action::kFail:
      return End(absl::ResourceExhaustedError(
          fmt::format("a body is larger than the {} bytes that plugin {} takes whole",
                      instance.whole_body_bytes_max(), instance.name())));
  }
}

// What an instance has gathered but will not be called with goes on before the
// bytes of `message`.
void Stream::GiveBack(ChainMessage* message, Part* part) {
  std::string bytes = std::exchange(part->gathered[DirectionOf(*message)], {});
  if (bytes.empty() || exchange_.observability()) return;
  bytes.append(message->body);
  auto body = std::make_shared<const std::string>(std::move(bytes));
  message->response.SetBody(ResponseView::Body::kReplaced, *body);
  message->RebuildAroundBody(*body, body);
}

// Trailers have come, so the body is complete without an end of its own: it goes
// to the instance, and on, before them.
Stream::Step Stream::FlushGathered(ChainMessage* message, Part* part) {
  const bool can_go_ahead =
      message->body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED || exchange_.observability();
  if (!can_go_ahead) {
    // Its chunks are answered, and an answer to trailers has no room for a body.
    CountFault(*message, part, Violation::kBodyLost);
    End(absl::FailedPreconditionError(fmt::format(
        "a body gathered for plugin {} ended with trailers, after which it cannot be given back "
        "in body mode STREAMED; use BUFFERED or FULL_DUPLEX_STREAMED",
        part->state.instance->name())));
    return Step::kPassed;
  }
  PutGatheredAhead(*message, part);
  return Step::kAhead;
}

void Stream::PutGatheredAhead(const ChainMessage& message, Part* part) {
  auto whole =
      std::make_shared<const std::string>(std::exchange(part->gathered[DirectionOf(message)], {}));
  auto body = std::make_unique<ChainMessage>();
  body->Reset(IsRequestPhase(message.phase) ? CALLOUT_REQUEST_BODY : CALLOUT_RESPONSE_BODY,
              message.request, std::string_view());
  body->body_mode = message.body_mode;
  body->end_of_stream = IsBodyPhase(message.phase) && message.end_of_stream;
  body->whole_body = true;
  body->alone = exchange_.observability();
  body->position = body->gathered_position = message.position;
  body->RebuildAroundBody(*whole, whole);
  PutAhead(message, std::move(body));
}

}  // namespace callout::host
