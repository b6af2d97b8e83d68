// SPDX-License-Identifier: Apache-2.0

#include "host/stream/stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/spare_bytes.h"
#include "host/plugin/match.h"
#include "host/plugin/services.h"
#include "host/stream/call_steps.h"
#include "host/wire/field_numbers.h"
#include "host/wire/header_facts.h"
#include "host/wire/response.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

// Envoy sends attributes once for each direction, and no message without a phase
// (those are of kinds yet to be invented). More of them only cost.
constexpr unsigned kAttributeMessagesMax = 16;
constexpr size_t kAttributeRecordsMax = 256;
constexpr unsigned kUnknownMessagesMax = 8;
// Request Header Fields Too Large: attributes and metadata are made of what a client sends.
constexpr int kHeadersTooLarge = 431;

// Of a message that is refused before it is read.
bool SaysObservability(std::string_view request) {
  WireReader reader(request);
  while (reader.Next()) {
    if (reader.IsVarint(field::ProcessingRequest::kObservabilityMode) && reader.varint() != 0) {
      return true;
    }
  }
  return false;
}

bool HasRecord(std::string_view records, std::string_view record) {
  WireReader reader(records);
  while (reader.Next()) {
    if (reader.record() == record) return true;
  }
  return false;
}

}  // namespace

Stream::Stream(StreamEnvironment* environment, RpcContext* rpc, std::shared_ptr<const Chain> chain)
    : environment_(environment),
      rpc_(rpc),
      chain_(chain == nullptr ? environment->chains().current() : std::move(chain)),
      parts_(chain_->instances.size()),
      id_(environment->NextStreamId()),
      exchange_(environment->limits().mode_override),
      owned_bytes_(HeapBytes(parts_)) {
  for (size_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    part.instance = chain_->instances[i].get();
    InitializeState(i, &part.call);
    if (part.instance->wants(CALLOUT_WANT_BOTH_DIRECTIONS)) {
      part.response_call = std::make_unique<CallState>();
      owned_bytes_ += sizeof(CallState);
      InitializeState(i, part.response_call.get());
    }
  }
  environment_->metrics().Add(environment_->ids().streams_started);
}

// Of several responses to a message only the merged one is sent: the others leave their memory to
// later ones.
Stream::~Stream() {
  for (size_t i = 0; i < parts_.size(); ++i) {
    KeepSpareBytes(&parts_[i].call.response.record);
  }
}

// --- Messages in ------------------------------------------------------------

void Stream::OnMessage(std::string_view bytes) {
  if (!live()) return;
  Metrics& metrics = environment_->metrics();
  metrics.Add(environment_->ids().messages);
  metrics.Add(environment_->ids().request_bytes, static_cast<double>(bytes.size()));
  absl::StatusOr<RequestView> view = ParseRequest(bytes, environment_->limits().message_fields_max);
  if (!view.ok()) {
    if (absl::IsResourceExhausted(view.status()) && !SaysObservability(bytes)) {
      return RefuseMessage(kHeadersTooLarge, "callout_too_many_headers", view.status());
    }
    return End(view.status());
  }
  exchange_.Remember(*view);
  if (!Remember(*view)) return;
  if (view->phase == 0) {
    // A message of a kind yet to be invented wants no answer that this host could give.
    if (view->has_unknown_field) {
      if (++unknown_messages_ <= kUnknownMessagesMax) return;
      return RefuseMessage(
          kDenyStatusDefault, "callout_too_many_unknown_messages",
          absl::ResourceExhaustedError(fmt::format(
              "more than {} messages of one stream are of a kind that this host does not know",
              kUnknownMessagesMax)));
    }
    return End(absl::InvalidArgumentError(
        "a ProcessingRequest has no phase: one of request_headers, response_headers, "
        "request_body, response_body, request_trailers or response_trailers must be set"));
  }
  if (!matched_ && environment_->watchers().active()) BeginWatch(*view);
  if (observers_ != nullptr) {
    const MessageView seen{view->phase, view->message, MonotonicNs(), bytes};
    observers_->Each([&](RpcObserver* observer) { observer->OnMessage(seen); });
  }
  // A streamed local reply takes the place of all that would come.
  if (exchange_.direction(view->phase).replaced || reply_part_ != nullptr) return;
  ChainMessage* message = NewMessage();
  message->Begin(view->phase, bytes, view->message);
  message->at_transport = message->of_envoy = true;
  const bool body_read = IsHeadersPhase(view->phase) &&
                         exchange_.direction(view->phase).may_have_body() &&
                         Wanted(view->phase + 2);
  if (absl::Status status = exchange_.Enter(*view, body_read, message); !status.ok()) {
    FreeMessage(message);
    return End(std::move(status));
  }
  if (!std::exchange(matched_, true)) MatchParts(*view);
  if (!RememberForInstances(message)) return;
  LineOf(*message).push_back(message);
  if (view->phase == CALLOUT_RESPONSE_HEADERS) CheckLostRequest(message);
  Run();
  if (chain_->wants_later_phases && !end_.has_value() && view->phase == CALLOUT_REQUEST_HEADERS) {
    request_id_.Keep(SearchHeader(view->message, "x-request-id"));
  }
  for (Line& line : lines_) {
    for (ChainMessage* waiting : line) OwnBytes(waiting);
  }
}

// Asks once whether somebody watches the stream.
void Stream::BeginWatch(const RequestView& view) {
  observers_ = environment_->watchers().Watch(
      {id_, RpcService::kExtProc, rpc_, view.phase,
       view.phase == CALLOUT_REQUEST_HEADERS ? view.message : std::string_view(), MonotonicNs(),
       chain_.get()});
  if (observers_ == nullptr) return;
  for (size_t i = 0; i < parts_.size(); ++i) {
    parts_[i].call.observers = observers_.get();
    if (parts_[i].response_call != nullptr) parts_[i].response_call->observers = observers_.get();
  }
}

// A message that waits keeps its bytes, for the transport goes on to the next one.
void Stream::OwnBytes(ChainMessage* message) {
  if (!std::exchange(message->at_transport, false)) return;
  if (message->since_ns == 0) message->since_ns = MonotonicNs();
  const size_t bytes = message->request.size();
  message->bytes_owner = rpc_->KeepMessage();
  message->queued_bytes = bytes;
  queued_bytes_ += bytes;
  ++queued_messages_;
  // What an instance has sent ahead of its answer stands around the same bytes.
  for (ChainMessage* other : LineOf(*message)) {
    if (other->bytes_owner == nullptr) other->bytes_owner = message->bytes_owner;
  }
}

// What is too much may be the doing of Envoy's client, and an error would let its request
// pass where Envoy is told to fail open.
void Stream::RefuseMessage(int http_status, std::string_view details, absl::Status status) {
  environment_->metrics().Add(environment_->ids().messages_refused);
  if (!silenced_ && !exchange_.observability() && CanReplyAtOnce()) {
    Response response;
    BuildRecord(CALLOUT_IMMEDIATE_RESPONSE, WriteImmediateResponse(http_status, details),
                &response);
    Emit(std::move(response), {});
    silenced_ = true;
  }
  End(std::move(status));
}

// Keeps what Envoy says once and later calls are to know; false if that is too
// much. What a late call may still read is replaced, never changed.
bool Stream::Remember(const RequestView& view) {
  if (!view.metadata_context.empty()) {
    const size_t before = metadata_context_ == nullptr ? 0 : metadata_context_->size();
    kept_bytes_ += view.metadata_context.size() - before;
    metadata_context_ = std::make_shared<const std::string>(view.metadata_context);
  }
  if (!view.attribute_records.empty() && !RememberAttributes(view)) return false;
  return IsWithinMemory();
}

// Each record once.
bool Stream::RememberAttributes(const RequestView& view) {
  if (++attribute_messages_ > kAttributeMessagesMax ||
      view.attribute_records.size() > kAttributeRecordsMax) {
    EndForAttributes();
    return false;
  }
  std::string added;
  for (std::string_view record : view.attribute_records) {
    const bool known =
        HasRecord(added, record) || (attributes_ != nullptr && HasRecord(*attributes_, record));
    if (known) continue;
    added.append(record);
    ++attribute_records_;
  }
  // Each of them is compared with each that comes.
  if (attribute_records_ > kAttributeRecordsMax) {
    EndForAttributes();
    return false;
  }
  if (added.empty()) return true;
  std::string records = attributes_ == nullptr ? std::string() : *attributes_;
  const size_t before = records.size();
  records.append(added);
  kept_bytes_ += records.size() - before;
  attributes_ = std::make_shared<const std::string>(std::move(records));
  return true;
}

void Stream::EndForAttributes() {
  RefuseMessage(kHeadersTooLarge, "callout_too_many_attributes",
                absl::ResourceExhaustedError(fmt::format(
                    "attributes came in more than {} messages of one stream, or in more than {} "
                    "namespaces; Envoy sends one namespace, once for each direction",
                    kAttributeMessagesMax, kAttributeRecordsMax)));
}

// What instances are told of the exchange at its end, or in response phases; false if that
// is too much.
bool Stream::RememberForInstances(ChainMessage* message) {
  if (chain_->has_close) {
    if (began_ns_ == 0) began_ns_ = MonotonicNs();
    const bool request = IsRequestPhase(message->phase);
    (request ? told_end_.request_body_bytes : told_end_.response_body_bytes) +=
        message->body.size();
    if (message->phase == CALLOUT_RESPONSE_HEADERS) {
      told_end_.http_status = ReadStatus(message->message);
    }
  }
  if (!chain_->wants_request_headers || message->phase != CALLOUT_REQUEST_HEADERS) return true;
  bool wanted = false;
  for (size_t i = 0; i < parts_.size(); ++i) {
    wanted |= parts_[i].usable && parts_[i].instance->wants(CALLOUT_WANT_REQUEST_HEADERS);
  }
  if (!wanted) return true;
  request_headers_.assign(message->message);
  kept_bytes_ += request_headers_.size();
  if (IsWithinMemory()) return true;
  FreeMessage(message);
  return false;
}

// Else the stream ends.
bool Stream::IsWithinMemory() {
  if (kept_bytes_ <= environment_->limits().stream_memory_bytes_max) return true;
  RefuseMessage(kHeadersTooLarge, "callout_stream_memory",
                absl::ResourceExhaustedError(
                    fmt::format("headers, attributes, metadata and bodies of {} bytes "
                                "are over --max_stream_memory_bytes={}",
                                kept_bytes_, environment_->limits().stream_memory_bytes_max)));
  return false;
}

void Stream::MatchParts(const RequestView& view) {
  if (!chain_->has_match) return;
  const StreamFacts facts(view);
  for (size_t i = 0; i < parts_.size(); ++i) {
    const StreamMatch& match = chain_->instances[i]->settings().match;
    const bool serves =
        (match.empty() || facts.Match(match)) &&
        chain_->Shares(i, id_, [&](const std::string& name) { return facts.Header(name); });
    if (!serves) parts_[i].usable = false;
  }
}

// --- Who wants what ---------------------------------------------------------

// Whether an instance, or somebody who watches the stream, is to see messages of `phase`.
bool Stream::Wanted(callout_phase_t phase) const {
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    if (!part.usable || !chain_->instances[i]->Wants(phase)) continue;
    if (IsBodyPhase(phase) && part.stages[phase % 2].body_passes) continue;
    return true;
  }
  return observers_ != nullptr && observers_->Want(phase);
}

// Whether an instance wants anything that may still come.
bool Stream::WantsMore() const {
  for (const callout_phase_t headers : {CALLOUT_REQUEST_HEADERS, CALLOUT_RESPONSE_HEADERS}) {
    const Direction& way = exchange_.direction(headers);
    if (way.ended || way.replaced) continue;
    if (!way.headers_seen && !way.body_seen && Wanted(headers)) return true;
    if (way.may_have_body() && !way.answered_to_end && Wanted(headers + 2)) return true;
    if (Wanted(headers + 4)) return true;
  }
  return false;
}

// Whether an instance that has been opened, or somebody who watches, is to see how the exchange
// ends.
bool Stream::WantsRealEnd() const {
  if (observers_ != nullptr && observers_->wants_real_end()) return true;
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    if (part.openness == Part::Openness::kOpen && part.instance->wants(CALLOUT_WANT_REAL_END)) {
      return true;
    }
  }
  return false;
}

// Body bytes that were taken from Envoy and have not all gone back.
bool Stream::OwesBody() const {
  for (size_t way = 0; way < 2; ++way) {
    if (exchange_.direction(static_cast<callout_phase_t>(way)).answered_to_end) continue;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Stage& stage = parts_[i].stages[way];
      if (stage.altered || stage.taken || !stage.gathered.empty()) return true;
    }
  }
  return false;
}

bool Stream::HoldsMessage() const {
  for (size_t i = 0; i < parts_.size(); ++i) {
    for (const Stage& stage : parts_[i].stages) {
      if (stage.held != nullptr) return true;
    }
  }
  return false;
}

bool Stream::fails_at_half_close() const { return !silenced_ && (OwesBody() || HoldsMessage()); }

// A plugin has refused the exchange in a call that is not over yet.
bool Stream::RefusalOutstanding() const {
  for (size_t i = 0; i < parts_.size(); ++i) {
    for (size_t way = 0; way < 2; ++way) {
      const CallState& call = parts_[i].CallOf(way);
      if (call.at_work && !call.late && call.refuses()) return true;
    }
  }
  return false;
}

bool Stream::CallsOutstanding() const {
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    if (part.CallOf(0).message != nullptr || part.CallOf(1).message != nullptr) return true;
  }
  return HoldsMessage() || reply_part_ != nullptr;
}

bool Stream::may_speak_unasked() const {
  if (!idle() || deadline_ns_ != 0 || half_closed_) return true;
  for (const auto& instance : chain_->instances) {
    if (MayPassAtDrain(instance->settings())) return true;
  }
  return false;
}

// The first instance that wants more of the exchange and does not let the rest of it
// pass; null: there is none.
const Instance* Stream::Keeper() const {
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    const Instance& instance = *chain_->instances[i];
    if (!part.usable || MayPassAtDrain(instance.settings())) continue;
    for (callout_phase_t phase = CALLOUT_REQUEST_HEADERS; phase < kPhaseCount; ++phase) {
      const Direction& way = exchange_.direction(phase);
      if (way.ended || way.replaced || !instance.Wants(phase)) continue;
      if (IsHeadersPhase(phase) && (way.headers_seen || way.body_seen)) continue;
      if (IsBodyPhase(phase) && (!way.may_have_body() || way.answered_to_end)) continue;
      return &instance;
    }
  }
  return nullptr;
}

// --- For people -------------------------------------------------------------

void Stream::Describe(LiveRpc* rpc) const {
  constexpr std::array<const char*, 4> kStates = {"waits behind another message",
                                                  "waits for its other call", "called",
                                                  "holds it until more of the body has come"};
  rpc->kind = "ext_proc";
  rpc->stream_id = id_;
  for (const Line& line : lines_) {
    if (line.empty()) continue;
    const ChainMessage& message = *line.front();
    rpc->phase = PhaseName(message.phase);
    rpc->state = kStates[static_cast<size_t>(message.state)];
    if (message.position < parts_.size()) {
      rpc->plugin = PartAt(message, message.position).instance->name();
    }
    return;
  }
  rpc->state = end_.has_value() ? "over; a plugin still has a call" : "waits for Envoy";
  for (const callout_phase_t headers : {CALLOUT_REQUEST_HEADERS, CALLOUT_RESPONSE_HEADERS}) {
    const Direction& way = exchange_.direction(headers);
    if (way.headers_seen) rpc->phase = fmt::format("after {}", PhaseName(headers));
    if (way.body_seen) rpc->phase = fmt::format("after {}", PhaseName(headers + 2));
  }
}

// --- Ends -------------------------------------------------------------------

// Early: Envoy then lets the rest of the exchange pass the host by. Not where bytes
// could be lost, which Envoy sends unasked in FULL_DUPLEX_STREAMED.
void Stream::EndIfDone() {
  if (!live()) return;
  if (half_closed_) {
    for (const Line& line : lines_) {
      for (const ChainMessage* message : line) {
        const bool waits_for_hook =
            message->state == MessageState::kCalled || message->state == MessageState::kTurn;
        if (waits_for_hook) return;
      }
    }
    return EndHalfClosed();
  }
  if (!idle()) return;
  if (exchange_.stalled() && !CallsOutstanding()) return End(absl::OkStatus(), CALLOUT_END_EARLY);
  if (!environment_->limits().early_end || !exchange_.modes_known()) return;
  if (calls_at_work_ > 0 || CallsOutstanding() || OwesBody() || exchange_.duplex_unended() ||
      WantsMore() || WantsRealEnd()) {
    return;
  }
  End(absl::OkStatus(), CALLOUT_END_EARLY);
}

void Stream::OnDrainDeadline() {
  if (end_.has_value()) return;
  if (silenced_) return End(absl::OkStatus());
  // A message that waits, behind a late call for one, is a decision outstanding.
  const bool owes_nothing =
      idle() && !CallsOutstanding() && !OwesBody() && !exchange_.duplex_unended();
  // Envoy always names its body modes. A client that does not is taken by the default, no body,
  // unless one has begun, or --early_end=off says that the client may not be an Envoy.
  const bool modes_settled =
      exchange_.modes_known() || (environment_->limits().early_end && exchange_.between_bodies());
  if (owes_nothing && modes_settled && Keeper() == nullptr) {
    return End(absl::OkStatus(), CALLOUT_END_DRAINED);
  }
  End(absl::UnavailableError("the server drains, and its time is up (--drain_timeout_ms)"),
      CALLOUT_END_DRAINED);
}

void Stream::OnHalfClose() {
  if (half_closed_) return;
  half_closed_ = true;
  if (end_.has_value()) return;
  if (silenced_) return End(absl::OkStatus());
  EndIfDone();
}

// To end with OK would say that all is well.
void Stream::EndHalfClosed() {
  if (idle() && !OwesBody()) return End(absl::OkStatus());
  NoteLostBodies();
  End(absl::AbortedError(
      "the client has ended the stream amid a body that a plugin was changing or gathering"));
}

// Too late for the client to see it.
void Stream::NoteLostBodies() {
  if (exchange_.observability()) return;
  for (size_t i = 0; i < parts_.size(); ++i) {
    for (size_t way = 0; way < 2; ++way) {
      const Stage& stage = parts_[i].stages[way];
      if (stage.gathered.empty()) continue;
      environment_->metrics().Add(environment_->ids().bodies_lost);
      CountFault(
          chain_->instances[i].get(), way == 0 ? CALLOUT_REQUEST_BODY : CALLOUT_RESPONSE_BODY,
          Violation::kBodyLost,
          fmt::format(
              "{} bytes were gathered when the stream ended without an end of the body: the client "
              "has left, or trailers that Envoy does not send have ended the body; set "
              "{}_trailer_mode: SEND, or use the body mode BUFFERED or FULL_DUPLEX_STREAMED, or "
              "--envoy_mode_override=allowed",
              stage.gathered.size(), way == 0 ? "request" : "response"),
          {});
    }
  }
}

void Stream::OnFailure() {
  if (!end_.has_value()) EmitBeforeError();
  Output output = TakeOutput();
  OnCancel();
  output_ = std::move(output);
}

void Stream::OnCancel() {
  cancelled_.store(true, std::memory_order_relaxed);
  if (end_.has_value()) return;
  environment_->metrics().Add(environment_->ids().streams_cancelled);
  if (!silenced_) NoteLostBodies();
  const bool outstanding = !silenced_ && (!idle() || CallsOutstanding() || OwesBody());
  end_ = absl::CancelledError("the client has left");
  // Envoy may reset a stream that it is done with.
  const callout_outcome_t outcome = outstanding ? CALLOUT_END_CANCELLED : CALLOUT_END_COMPLETED;
  NoteEnd(outcome, outstanding ? *end_ : absl::OkStatus());
  TellEnd(silenced_ ? callout_outcome_t{CALLOUT_END_IMMEDIATE} : outcome, *end_);
  deadline_ns_ = 0;
  output_.clear();
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (parts_[i].instance->has_stream_cancel()) Notify(&parts_[i]);
  }
  CloseIfIdle();
}

// Tells the instance, if it has a call at work. That belongs to the plugin, on whatever
// thread; the hook gets a call of its own.
void Stream::Notify(Part* part) {
  for (size_t way = 0; way < 2; ++way) {
    CallState& at_work = part->CallOf(way);
    if (!at_work.at_work || !at_work.handshake().OnLeave()) continue;
    CallState state;
    InitializeState(at_work.part, &state);
    CallSlot* const slot = TakeSlot(part->stream, &state);
    slot->call.stream = at_work.stream_then;
    part->instance->CancelStream(&slot->call);
    return ReleaseSlot(*part->instance, slot, CallSlots::Reuse::kSoon);
  }
}

// How the stream ended, for on_stream_close.
void Stream::NoteEnd(callout_outcome_t outcome, const absl::Status& status) {
  if (!chain_->has_close) return;
  told_end_.outcome = silenced_ ? callout_outcome_t{CALLOUT_END_IMMEDIATE} : outcome;
  told_end_.status = -static_cast<callout_status_t>(status.code());
  if (began_ns_ != 0) told_end_.stream_ns = MonotonicNs() - began_ns_;
}

// Every call that is not over is given up with it.
void Stream::TellEnd(callout_outcome_t outcome, const absl::Status& status) {
  // Something that a call has sent ahead may have ended the stream; the call goes on.
  const bool goes_on =
      settling_.state != nullptr && settling_.state->at_work && !settling_.state->late;
  if (goes_on) settling_.state = nullptr;
  TellCall();
  for (const Line& line : lines_) {
    for (ChainMessage* message : line) {
      if (message->state != MessageState::kCalled) continue;
      TellGivenUp(message, &PartAt(*message, message->position));
    }
  }
  if (observers_ == nullptr) return;
  const RpcEnd end{status, outcome, MonotonicNs()};
  observers_->Each([&](RpcObserver* observer) { observer->OnEnd(end); });
}

void Stream::End(absl::Status status) {
  const bool ok = status.ok();
  End(std::move(status), ok ? CALLOUT_END_COMPLETED : CALLOUT_END_ERROR);
}

void Stream::End(absl::Status status, callout_outcome_t outcome) {
  if (end_.has_value()) return;
  if (!status.ok()) EmitBeforeError();
  const StreamEnvironment::MetricIds& ids = environment_->ids();
  environment_->metrics().Add(status.ok() ? ids.streams_ended_ok : ids.streams_ended_error);
  NoteEnd(outcome, status);
  TellEnd(silenced_ ? callout_outcome_t{CALLOUT_END_IMMEDIATE} : outcome, status);
  end_ = std::move(status);
  deadline_ns_ = 0;
  CloseIfIdle();
}

// Where Envoy is told to fail open it would let the rest of the body pass after
// an error (seen on 1.40 with STREAMED: "aaabbbccc" arrived as "bbbccc" with a
// 200), or a request that a plugin has refused in a call that is not over. An
// immediate response ends the request whatever Envoy is told.
void Stream::EmitBeforeError() {
  if (silenced_ || reply_part_ != nullptr || exchange_.observability()) return;
  const bool owes_body = OwesBody();
  if (!owes_body && !RefusalOutstanding()) return;
  Response response;
  BuildRecord(CALLOUT_IMMEDIATE_RESPONSE,
              WriteImmediateResponse(kDenyStatusDefault, owes_body ? "callout_failed_within_a_body"
                                                                   : "callout_failed_after_denial"),
              &response);
  Emit(std::move(response), {});
  silenced_ = true;
}

// Close comes after the last call of an instance: not while one is deferred.
void Stream::CloseIfIdle() {
  if (closed_ || !end_.has_value() || calls_at_work_ > 0) return;
  for (size_t i = 0; i < parts_.size(); ++i) ClosePart(&parts_[i]);
  closed_ = closing_ == 0;
}

void Stream::ClosePart(Part* part) {
  if (part->openness != Part::Openness::kOpen) return;
  part->openness = Part::Openness::kUnopened;
  Instance* const instance = part->instance;
  if (!instance->has_stream_close()) return;
  CallState* const state = &part->call;
  CallSlot* const slot = TakeSlot(part->stream, state);
  if (!instance->blocking()) {
    instance->CloseStream(&slot->call, ToldEnd(*part));
    return ReleaseSlot(*part->instance, slot, CallSlots::Reuse::kSoon);
  }
  ++closing_;
  environment_->blocking_pool().Submit([this, part, state, slot] {
    part->instance->CloseStream(&slot->call, ToldEnd(*part));
    ReleaseSlot(*part->instance, slot, CallSlots::Reuse::kSoon);
    state->rpc->Post(state, RpcContext::Event::kClosed);
  });
}

callout_stream_end_t Stream::ToldEnd(const Part& part) const {
  callout_stream_end_t end = told_end_;
  end.instance_ns = part.call.instance_ns;
  if (part.response_call != nullptr) end.instance_ns += part.response_call->instance_ns;
  return end;
}

}  // namespace callout::host
