#include "host/stream.h"

#include <fmt/format.h>

#include <utility>

#include "host/answer.h"
#include "host/log.h"
#include "host/services.h"

namespace callout::host {

namespace {

absl::StatusCode ToStatusCode(callout_status_t status) {
  const int code = -status;
  return code >= 1 && code <= 16 ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown;
}

bool IsDecision(callout_status_t status) {
  return status == CALLOUT_PERMISSION_DENIED || status == CALLOUT_UNAUTHENTICATED;
}

}  // namespace

Stream::Stream(StreamEnvironment* environment, StreamCarrier* carrier)
    : environment_(environment),
      carrier_(carrier),
      chain_(environment->chains().current()),
      parts_(chain_->instances.empty() ? nullptr : new Part[chain_->instances.size()]),
      id_(environment->NextStreamId()) {
  for (size_t i = 0; i < chain_->instances.size(); ++i) {
    InitializeState(chain_->instances[i].get(), &parts_[i].state);
  }
  environment_->metrics().Add(environment_->ids().streams_started);
}

void Stream::InitializeState(Instance* instance, CallState* state) {
  state->instance = instance;
  state->carrier = carrier_;
  state->cancelled = &cancelled_;
  state->stream_id = id_;
  instance->Prepare(state);
}

Stream::~Stream() = default;

std::vector<std::string> Stream::TakeOutput() { return std::exchange(output_, {}); }

Stream::Part& Stream::PartAt(size_t position) {
  // Response phases go through the chain backwards, as Envoy runs its filters.
  const size_t count = chain_->instances.size();
  return parts_[IsRequestPhase(current_.phase) ? position : count - 1 - position];
}

// --- Message in -------------------------------------------------------------

void Stream::OnMessage(std::string_view bytes) {
  if (end_.has_value() || silenced_) return;
  Metrics& metrics = environment_->metrics();
  metrics.Add(environment_->ids().messages);
  metrics.Add(environment_->ids().request_bytes, static_cast<double>(bytes.size()));
  absl::StatusOr<RequestView> view = ParseRequest(bytes);
  if (!view.ok()) return End(view.status());
  Remember(*view);
  if (end_.has_value()) return;
  if (view->phase == 0) {
    // A message of a kind yet to be invented wants no answer that this host could give.
    if (view->has_unknown_field) return;
    return End(absl::InvalidArgumentError(
        "a ProcessingRequest names no phase: one of request_headers, response_headers, "
        "request_body, response_body, request_trailers or response_trailers must be set"));
  }
  current_ = Current();
  current_.phase = view->phase;
  current_.request = bytes;
  current_.message = view->message;
  if (absl::Status status = Enter(*view); !status.ok()) return End(std::move(status));
  busy_ = true;
  position_ = 0;
  OpenParts();
  Run();
}

// Keeps what Envoy says once and later calls are to know.
void Stream::Remember(const RequestView& view) {
  if (view.has_protocol_config) {
    has_protocol_config_ = true;
    directions_[0].body_mode = view.protocol_config.request_body_mode;
    directions_[1].body_mode = view.protocol_config.response_body_mode;
  }
  if (view.observability_mode) observability_ = true;
  size_t bytes = attributes_.size() + view.metadata_context.size();
  for (std::string_view record : view.attribute_records) bytes += record.size();
  if (bytes > environment_->limits().stream_memory_bytes_max) {
    return End(absl::ResourceExhaustedError(
        fmt::format("attributes and metadata of {} bytes are over --stream_memory_bytes_max={}",
                    bytes, environment_->limits().stream_memory_bytes_max)));
  }
  for (std::string_view record : view.attribute_records) attributes_.append(record);
  if (!view.metadata_context.empty()) metadata_context_.assign(view.metadata_context);
}

absl::Status Stream::Enter(const RequestView& view) {
  Direction& way = direction();
  if (way.ended) {
    return absl::InvalidArgumentError(fmt::format(
        "a {} message came after the end of its direction's stream", PhaseName(view.phase)));
  }
  if (IsHeadersPhase(view.phase)) return EnterHeaders(view);
  if (IsBodyPhase(view.phase)) return EnterBody(view);
  way.ended = true;
  current_.first = true;
  current_.end_of_stream = true;
  return absl::OkStatus();
}

absl::Status Stream::EnterHeaders(const RequestView& view) {
  Direction& way = direction();
  if (way.headers_seen || way.body_seen) {
    return absl::InvalidArgumentError(
        fmt::format("a {} message came after {} of the same direction", PhaseName(view.phase),
                    way.headers_seen ? "headers" : "a body"));
  }
  HeadersMessageView headers;
  if (!ReadHeadersMessage(view.message, &headers)) {
    return absl::InvalidArgumentError(
        fmt::format("the {} message is malformed protobuf", PhaseName(view.phase)));
  }
  way.headers_seen = true;
  way.ended = headers.end_of_stream;
  way.content_length = headers.has_content_length ? Direction::ContentLength::kPresent
                                                  : Direction::ContentLength::kAbsent;
  current_.first = true;
  current_.end_of_stream = headers.end_of_stream;
  return absl::OkStatus();
}

absl::Status Stream::EnterBody(const RequestView& view) {
  Direction& way = direction();
  if (!ReadBodyMessage(view.message, &current_.body, &current_.end_of_stream)) {
    return absl::InvalidArgumentError(
        fmt::format("the {} message is malformed protobuf", PhaseName(view.phase)));
  }
  current_.first = !way.body_seen;
  current_.body_offset = way.body_offset;
  way.body_seen = true;
  way.body_offset += current_.body.size();
  way.ended = current_.end_of_stream;
  return absl::OkStatus();
}

// --- Through the chain ------------------------------------------------------

// Opens every instance before its stream's first call.
void Stream::OpenParts() {
  if (std::exchange(opened_, true)) return;
  for (size_t i = 0; i < chain_->instances.size(); ++i) {
    Part& part = parts_[i];
    part.state.Begin();
    part.state.call.phase = 0;
    part.state.call.attributes = ToBytes(attributes_);
    part.state.call.metadata_context = ToBytes(metadata_context_);
    part.state.may_answer = false;
    const callout_status_t status = part.state.instance->OpenStream(&part.state);
    part.open = status >= 0;
    // The refusal is settled when the instance's turn comes; it may be in no
    // phase of this message, so it is kept in the call's status.
    part.state.status = status;
  }
}

void Stream::Run() {
  for (; position_ < chain_->instances.size(); ++position_) {
    Part& part = PartAt(position_);
    if (!part.usable) continue;
    if (!part.open) {
      part.usable = false;
      Settle(&part, part.state.status);
    } else if (part.state.instance->Wants(current_.phase)) {
      if (!Invoke(&part)) return;
    }
    if (!busy_) return;
  }
  EmitAnswer();
  Release();
}

// The message is settled. A client that has half-closed meanwhile wants no more.
void Stream::Release() {
  busy_ = false;
  if (half_closed_) End(absl::OkStatus());
}

void Stream::FillCall(Part* part) {
  callout_call_t& call = part->state.call;
  call.phase = current_.phase;
  call.message = ToBytes(current_.message);
  call.request = ToBytes(current_.request);
  call.attributes = ToBytes(attributes_);
  call.metadata_context = ToBytes(metadata_context_);
  call.body_offset = current_.body_offset;
  call.body_mode = direction().body_mode;
  call.deadline_ns = MonotonicNs() + environment_->limits().hook_deadline_ms * 1000000;
  call.flags = (current_.first ? CALLOUT_CALL_FIRST : 0) |
               (current_.end_of_stream ? CALLOUT_CALL_LAST : 0) |
               (observability_ ? CALLOUT_CALL_OBSERVABILITY : 0);
  if (IsBodyPhase(current_.phase) && current_.first && current_.end_of_stream) {
    call.flags |= CALLOUT_CALL_WHOLE_BODY;
  }
}

bool Stream::Invoke(Part* part) {
  CallState& state = part->state;
  state.Begin();
  FillCall(part);
  state.may_answer = true;
  const callout_status_t status = state.instance->Call(&state);
  uint32_t before = 0;
  if (status == CALLOUT_DEFERRED) {
    before = state.flags.fetch_or(CallState::kReturned, std::memory_order_acq_rel);
  }
  TakeSent(part);
  if (status == CALLOUT_DEFERRED) {
    if ((before & CallState::kFinished) == 0) {
      waiting_ = part;
      deadline_ns_ = state.call.deadline_ns;
      if (!environment_->AddDeferred()) OnDeadline(UINT64_MAX);
      return false;
    }
    Settle(part, state.status);
    return true;
  }
  if ((state.flags.load(std::memory_order_acquire) & CallState::kFinished) != 0) {
    Log(LogLevel::kWarning,
        "plugin {}: {} called finish() and then returned {} instead of CALLOUT_DEFERRED; finish() "
        "is ignored",
        state.instance->name(), PhaseName(current_.phase), status);
  }
  Settle(part, status);
  return true;
}

void Stream::OnPosted(CallState* call, StreamCarrier::Event event) {
  Part* part = nullptr;
  for (size_t i = 0; part == nullptr; ++i) {
    if (&parts_[i].state == call) part = &parts_[i];
  }
  if (event == StreamCarrier::Event::kSent) {
    if (!part->late) TakeSent(part);
    return;
  }
  environment_->RemoveDeferred();
  if (part->late) {
    part->late = false;
    return CloseIfIdle();
  }
  waiting_ = nullptr;
  deadline_ns_ = 0;
  if (end_.has_value()) return CloseIfIdle();
  TakeSent(part);
  Settle(part, call->status);
  if (!busy_) return;
  ++position_;
  Run();
}

void Stream::OnDeadline(uint64_t now_ns) {
  if (waiting_ == nullptr || now_ns < deadline_ns_) return;
  Part* part = waiting_;
  const uint32_t before =
      part->state.flags.fetch_or(CallState::kExpired, std::memory_order_acq_rel);
  deadline_ns_ = 0;
  // It was finished in time after all: the event is on its way.
  if ((before & CallState::kFinished) != 0) return;
  waiting_ = nullptr;
  part->late = true;
  part->usable = false;
  if (end_.has_value()) return;
  const bool over_limit = now_ns == UINT64_MAX;
  Fault(part, over_limit ? Violation::kDeferLimit : Violation::kDeadline,
        over_limit ? absl::ResourceExhaustedError("too many deferred calls: over --max_deferred")
                   : absl::DeadlineExceededError(
                         fmt::format("plugin {} did not finish {} within --hook_deadline_ms={}",
                                     part->state.instance->name(), PhaseName(current_.phase),
                                     environment_->limits().hook_deadline_ms)));
  if (!busy_) return;
  ++position_;
  Run();
}

// --- What a hook came to ----------------------------------------------------

void Stream::Settle(Part* part, callout_status_t status) {
  CallState& state = part->state;
  if (IsDecision(status)) {
    std::string text = state.error.empty()
                           ? std::string("denied by plugin ") + state.instance->name()
                           : state.error;
    return End(absl::Status(ToStatusCode(status), std::move(text)));
  }
  if (status < 0) {
    std::string text = state.error.empty()
                           ? fmt::format("plugin {} returned {} from {}", state.instance->name(),
                                         status, PhaseName(current_.phase))
                           : state.error;
    return Fault(part, Violation::kErrorStatus,
                 absl::Status(ToStatusCode(status), std::move(text)));
  }
  if (state.fault == AnswerFault::kTooLarge) return Replace(part, Violation::kTooLarge);
  if (state.fault == AnswerFault::kMalformed) return Replace(part, Violation::kMalformed);
  switch (status) {
    case CALLOUT_OK:
      return TakeAnswer(part);
    case CALLOUT_NO_RESPONSE:
      return TakeNoResponse(part);
    default:
      return Replace(part, Violation::kBadStatus);
  }
}

void Stream::TakeAnswer(Part* part) {
  CallState& state = part->state;
  if (state.answer.field != 0) {
    AnswerView view;
    if (!ReadAnswer(state.answer.field, state.answer.payload(), &view)) {
      return Replace(part, Violation::kMalformed);
    }
    const Situation situation{current_.phase, direction().body_mode};
    const Violation violation = CheckAnswer(situation, state.answer.field, view);
    if (violation != Violation::kNone) return Replace(part, violation);
    if (view.body_mutation != AnswerView::Body::kUnchanged) {
      part->altered[direction_index()] = true;
    }
    current_.answer = std::move(state.answer);
  }
  current_.annotations.append(state.annotations);
  if (current_.answer.field == CALLOUT_IMMEDIATE_RESPONSE) {
    EmitAnswer();
    silenced_ = true;
    Release();
  }
}

void Stream::TakeNoResponse(Part* part) {
  if (!IsBodyPhase(current_.phase) || direction().body_mode != CALLOUT_BODY_FULL_DUPLEX_STREAMED) {
    return Replace(part, Violation::kBadStatus);
  }
  current_.annotations.append(part->state.annotations);
  current_.no_response = true;
  if (!current_.body.empty()) part->altered[direction_index()] = true;
}

// Lets out what send() has queued, in order, ahead of the answer.
void Stream::TakeSent(Part* part) {
  std::vector<Answer> sent;
  {
    std::lock_guard<std::mutex> lock(part->state.sent_mutex);
    sent.swap(part->state.sent);
  }
  for (Answer& answer : sent) {
    if (end_.has_value() || silenced_) return;
    const bool duplex =
        IsBodyPhase(current_.phase) && direction().body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED;
    AnswerView view;
    Violation violation = Violation::kNone;
    if (!ReadAnswer(answer.field, answer.payload(), &view)) {
      violation = Violation::kMalformed;
    } else if (!duplex && answer.field != CALLOUT_STREAMED_IMMEDIATE_RESPONSE) {
      violation = Violation::kSecondAnswer;
    } else {
      violation = CheckAnswer({current_.phase, direction().body_mode}, answer.field, view);
    }
    if (violation != Violation::kNone) {
      Replace(part, violation);
      continue;
    }
    part->altered[direction_index()] = true;
    if (duplex && view.end_of_stream) {
      // More is to come: the end goes with the message's own answer.
      Answer open_ended;
      BuildRecord(answer.field, WriteStreamedBody(view.body, false), &open_ended);
      answer = std::move(open_ended);
    }
    Emit(std::move(answer), {});
  }
}

// An answer of a wrong form: unless the operator says otherwise it is left out,
// and the message passes as if the hook had set nothing.
void Stream::Replace(Part* part, Violation violation) { Fault(part, violation, absl::OkStatus()); }

// Applies the instance's policy. `status` is OK for an answer of a wrong form,
// whose default is to go on without it; the default for the others is to fail.
void Stream::Fault(Part* part, Violation violation, absl::Status status) {
  Instance& instance = *part->state.instance;
  instance.CountViolation(violation, current_.phase);
  if (observability_) return;
  const bool wrong_form = status.ok();
  if (wrong_form) {
    status = absl::InternalError(fmt::format("plugin {} answered {} in a way that is not legal: {}",
                                             instance.name(), PhaseName(current_.phase),
                                             ViolationName(violation)));
  }
  ErrorPolicy policy = instance.settings().policy.value_or(
      ErrorPolicy{wrong_form ? ErrorPolicy::Action::kContinue : ErrorPolicy::Action::kFail, 0});
  // Bytes that an instance has changed or kept make the rest of the body its own:
  // going on without it would silently corrupt what the other side receives.
  if (part->altered[direction_index()]) policy.action = ErrorPolicy::Action::kFail;
  switch (policy.action) {
    case ErrorPolicy::Action::kContinue:
      return;
    case ErrorPolicy::Action::kDeny:
      return Deny(policy.http_status);
    case ErrorPolicy::Action::kFail:
      return End(std::move(status));
  }
}

void Stream::Deny(int http_status) {
  current_.annotations.clear();
  BuildRecord(CALLOUT_IMMEDIATE_RESPONSE, WriteImmediateResponse(http_status), &current_.answer);
  EmitAnswer();
  silenced_ = true;
  Release();
}

// --- Answer out -------------------------------------------------------------

void Stream::EmitAnswer() {
  if (observability_) return;
  if (IsBodyPhase(current_.phase)) AdaptBodyAnswer();
  if (current_.no_response) return;
  if (current_.answer.field == 0) {
    BuildRecord(AnswerField(current_.phase), std::string_view(), &current_.answer);
  }
  Emit(std::move(current_.answer), current_.annotations);
}

void Stream::Emit(Answer answer, std::string_view annotations) {
  answer.record.append(annotations);
  environment_->metrics().Add(environment_->ids().response_bytes,
                              static_cast<double>(answer.record.size()));
  output_.push_back(std::move(answer.record));
}

// A body answer written the simple way (replace, clear, leave) is put into the
// form that the body mode asks for.
void Stream::AdaptBodyAnswer() {
  const bool has_answer = current_.answer.field == AnswerField(current_.phase);
  if (current_.answer.field != 0 && !has_answer) return;
  AnswerView view;
  if (has_answer) ReadAnswer(current_.answer.field, current_.answer.payload(), &view);
  switch (direction().body_mode) {
    case CALLOUT_BODY_FULL_DUPLEX_STREAMED: {
      // The last answer to a message ends the body exactly where the message did.
      const bool streamed_already = view.body_mutation == AnswerView::Body::kStreamed;
      if (streamed_already && view.end_of_stream == current_.end_of_stream) return;
      std::string_view body = current_.body;
      if (streamed_already || view.body_mutation == AnswerView::Body::kReplaced) body = view.body;
      if (view.body_mutation == AnswerView::Body::kCleared || current_.no_response) body = {};
      // A chunk held back is answered later, but the end has to go out now.
      if (current_.no_response && !current_.end_of_stream) return;
      current_.no_response = false;
      Answer streamed;
      BuildRecord(AnswerField(current_.phase), WriteStreamedBody(body, current_.end_of_stream),
                  &streamed);
      current_.answer = std::move(streamed);
      return;
    }
    case CALLOUT_BODY_BUFFERED:
    case CALLOUT_BODY_BUFFERED_PARTIAL:
      return SetContentLength(view);
    default:
      return;
  }
}

// Envoy answers 500 if a buffered body and content-length disagree.
void Stream::SetContentLength(const AnswerView& view) {
  using ContentLength = Direction::ContentLength;
  if (view.body_mutation != AnswerView::Body::kReplaced &&
      view.body_mutation != AnswerView::Body::kCleared) {
    return;
  }
  if (direction().content_length == ContentLength::kAbsent) return;
  for (const HeaderSet& header : view.headers.set) {
    if (EqualsIgnoreCase(header.key, "content-length")) return;
  }
  const bool partial = direction().body_mode == CALLOUT_BODY_BUFFERED_PARTIAL;
  const bool known =
      current_.end_of_stream || (!partial && direction().content_length == ContentLength::kPresent);
  const size_t length = view.body_mutation == AnswerView::Body::kReplaced ? view.body.size() : 0;
  std::string payload(current_.answer.payload());
  payload += known ? WriteBodyHeaderSet("content-length", fmt::format_int(length).str())
                   : WriteBodyHeaderRemoval("content-length");
  Answer answer;
  BuildRecord(current_.answer.field, payload, &answer);
  current_.answer = std::move(answer);
}

// --- Ends -------------------------------------------------------------------

void Stream::OnHalfClose() {
  if (half_closed_) return;
  half_closed_ = true;
  if (!busy_) End(absl::OkStatus());
}

void Stream::OnCancel() {
  cancelled_.store(true, std::memory_order_relaxed);
  if (end_.has_value()) return;
  environment_->metrics().Add(environment_->ids().streams_cancelled);
  end_ = absl::CancelledError("the client has left");
  busy_ = false;
  deadline_ns_ = 0;
  output_.clear();
  if (waiting_ != nullptr && waiting_->state.instance->has_stream_cancel()) Notify(*waiting_);
  CloseIfIdle();
}

// The deferred call itself belongs to the plugin, on whatever thread; the hook
// gets a call of its own.
void Stream::Notify(const Part& part) {
  CallState state;
  InitializeState(part.state.instance, &state);
  state.call.stream = part.state.call.stream;
  state.instance->CancelStream(&state);
}

void Stream::End(absl::Status status) {
  if (end_.has_value()) return;
  const StreamEnvironment::MetricIds& ids = environment_->ids();
  environment_->metrics().Add(status.ok() ? ids.streams_ended_ok : ids.streams_ended_error);
  end_ = std::move(status);
  busy_ = false;
  CloseIfIdle();
}

// Close comes after the last call of an instance: not while one is deferred.
void Stream::CloseIfIdle() {
  if (closed_ || !end_.has_value() || waiting_ != nullptr) return;
  for (size_t i = 0; i < chain_->instances.size(); ++i) {
    if (parts_[i].late) return;
  }
  closed_ = true;
  for (size_t i = 0; i < chain_->instances.size(); ++i) {
    Part& part = parts_[i];
    if (!part.open) continue;
    part.state.may_answer = false;
    part.state.instance->CloseStream(&part.state);
  }
}

}  // namespace callout::host
