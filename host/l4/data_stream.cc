// SPDX-License-Identifier: Apache-2.0

#include "host/l4/data_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "host/base/clock.h"
#include "host/plugin/match.h"
#include "host/stream/call_steps.h"
#include "host/stream/guard.h"
#include "host/wire/annotations.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

constexpr std::array<callout_phase_t, 2> kDataPhases = {CALLOUT_READ_DATA, CALLOUT_WRITE_DATA};

}  // namespace

DataStream::DataStream(StreamEnvironment* environment, RpcContext* rpc)
    : ChainRpc(environment, rpc, RpcService::kNetworkExtProc), parts_(chain_->instances.size()) {
  for (size_t i = 0; i < parts_.size(); ++i) InitializeState(i, &parts_[i].call);
}

// --- In -----------------------------------------------------------------------

bool DataStream::wants_message() const {
  if (end_.has_value() || half_closed_) return false;
  const StreamLimits& limits = environment_->limits();
  return state_ != State::kOpen ||
         (queued_bytes_ < limits.queued_bytes_max &&
          lines_[0].size() + lines_[1].size() < limits.queued_messages_max);
}

void DataStream::OnMessage(std::string_view bytes) {
  if (!live()) return;  // the connection is being closed
  auto message = std::make_shared<Message>(&message_bytes_);
  message->begun_ns = MonotonicNs();
  if (begun_ns_ == 0) {
    begun_ns_ = message->begun_ns;
    if (environment_->watchers().active()) BeginWatch(CALLOUT_CONNECTION, {});
  }
  message->bytes.assign(bytes);
  absl::StatusOr<NetworkRequestView> view =
      ParseNetworkRequest(message->bytes, environment_->limits().message_fields_max);
  if (!view.ok()) {
    if (absl::IsResourceExhausted(view.status())) {
      environment_->metrics().Add(environment_->ids().messages_refused);
    }
    return End(view.status(), CALLOUT_END_ERROR);
  }
  message->view = *std::move(view);
  message->data = message->view.data;
  const MessageView seen{kDataPhases[message->line()], message->data, message->begun_ns};
  TellObservers([&](RpcObserver* observer) { observer->OnMessage(seen); });
  TakeFacts(message->view);
  if (!std::exchange(matched_, true)) Match();
  const size_t line = message->line();
  (line == 0 ? told_end_.request_body_bytes : told_end_.response_body_bytes) +=
      message->data.size();
  Charge(message.get(), message->bytes.capacity() + HeapBytes(message->view.attributes));
  lines_[line].push_back(std::move(message));
  Run();
}

// Calls that are under way keep what they were given.
void DataStream::TakeFacts(const NetworkRequestView& view) {
  if (!view.attributes.empty() && attributes_ == nullptr) {
    attributes_ = std::make_shared<const std::string>(WriteNetworkAttributes(view));
    facts_bytes_ += attributes_->size();
  }
  if (view.metadata_context.empty()) return;
  if (metadata_context_ != nullptr) facts_bytes_ -= metadata_context_->size();
  metadata_context_ = std::make_shared<const std::string>(view.metadata_context);
  facts_bytes_ += metadata_context_->size();
}

void DataStream::Match() {
  RequestView view;
  if (attributes_ != nullptr) {
    WireReader reader(*attributes_);
    while (reader.Next()) view.attribute_records.push_back(reader.record());
  }
  const StreamFacts facts(view);
  for (DataPart& part : parts_) {
    const Instance& instance = *part.call.instance;
    const bool has_hook = instance.Wants(CALLOUT_CONNECTION) || instance.Wants(CALLOUT_READ_DATA) ||
                          instance.Wants(CALLOUT_WRITE_DATA);
    const StreamMatch& match = instance.settings().match;
    part.fits = has_hook && (match.empty() || facts.Match(match)) &&
                chain_->Shares(part.call.part, id_,
                               [&](const std::string& name) { return facts.Header(name); });
    part.connected = !instance.Wants(CALLOUT_CONNECTION);
  }
}

void DataStream::OnHalfClose() {
  half_closed_ = true;
  if (!live() || idle()) End(absl::OkStatus(), CALLOUT_END_COMPLETED);
}

// Envoy resets the stream when the connection is over: what plugins are told is no error.
void DataStream::OnCancel() {
  cancelled_.store(true, std::memory_order_relaxed);
  if (end_.has_value()) return;
  if (live()) {
    CountRpc(idle() ? RpcOutcome::kAllowed : RpcOutcome::kCancelled);
    told_end_.outcome = idle() ? CALLOUT_END_COMPLETED : CALLOUT_END_CANCELLED;
  }
  Leave(absl::CancelledError("the connection is over"), CALLOUT_OK);
}

void DataStream::OnDrainDeadline() {
  End(absl::UnavailableError("the server drains, and its time is up (--drain_timeout_ms)"),
      CALLOUT_END_ERROR);
}

// --- The way through the chain --------------------------------------------------

void DataStream::Run() {
  const size_t first = FirstLine();
  RunLine(first);
  RunLine(1 - first);
  // Also of a connection that was shut after the client's last message.
  const bool over = !live() || idle();
  if (half_closed_ && over) return End(absl::OkStatus(), CALLOUT_END_COMPLETED);
  UpdateDeadline();
}

// The line that waits for an instance comes before the other one, of two the one that has waited
// longer. Else a client that sends one request after the other could keep an instance from what
// goes to it, until that is overdue.
size_t DataStream::FirstLine() const {
  std::array<uint64_t, 2> waits_until_ns = {UINT64_MAX, UINT64_MAX};
  for (size_t line = 0; line < lines_.size(); ++line) {
    if (lines_[line].empty()) continue;
    const Message& message = *lines_[line].front();
    if (!message.called && message.deadline_ns != 0) waits_until_ns[line] = message.deadline_ns;
  }
  return waits_until_ns[1] < waits_until_ns[0] ? 1 : 0;
}

void DataStream::RunLine(size_t line) {
  while (live() && !lines_[line].empty()) {
    const MessagePointer message = lines_[line].front();
    while (live() && message->position < parts_.size()) {
      if (message->called) return;
      const Step step = Visit(message, &parts_[IndexFor(*message)]);
      if (step == Step::kWaits) return;
      if (step == Step::kPassed) ++message->position;
    }
    if (!live()) return;
    Respond(*message);
    lines_[line].pop_front();
    queued_bytes_ -= message->kept_bytes;
  }
}

size_t DataStream::IndexFor(const Message& message) const {
  const size_t at = message.position;
  return message.line() == 0 ? at : parts_.size() - 1 - at;
}

// The phase that the message is for the instance now; 0: none.
callout_phase_t DataStream::PhaseFor(const Message& message, const DataPart& part) {
  if (!part.fits) return 0;
  if (!part.connected) return CALLOUT_CONNECTION;
  if (message.view.kind == NetworkKind::kOther) return 0;
  const callout_phase_t phase = kDataPhases[message.line()];
  return part.call.instance->Wants(phase) ? phase : 0;
}

DataStream::Step DataStream::Visit(const MessagePointer& message, DataPart* part) {
  const callout_phase_t phase = PhaseFor(*message, *part);
  if (phase == 0) return Step::kPassed;
  // A call on another thread may be opening the part.
  if (part->call.at_work) {
    if (message->deadline_ns == 0) message->deadline_ns = DeadlineFromNow();
    return Step::kWaits;
  }
  if (part->openness == Part::Openness::kRefused) return Step::kPassed;
  message->deadline_ns = 0;
  part->phase = phase;
  part->message = message;
  if (!Invoke(part)) return Step::kWaits;
  message->called = false;
  message->deadline_ns = 0;
  // Deferred when too many were, it is the plugin's still.
  if (!part->call.at_work) part->message.reset();
  return StepAfter(part);
}

// After the announcement of a connection the instance gets the message itself.
DataStream::Step DataStream::StepAfter(DataPart* part) {
  if (part->phase != CALLOUT_CONNECTION || part->openness != Part::Openness::kOpen) {
    return Step::kPassed;
  }
  part->connected = true;
  return Step::kAgain;
}

void DataStream::FillCall(Part* part) {
  DataPart* const own = AsDataPart(part);
  Message* const message = own->message.get();
  callout_call_t& call = part->call.slot->call;
  call.request = ToBytes(message->bytes);
  if (attributes_ != nullptr) call.attributes = ToBytes(*attributes_);
  if (metadata_context_ != nullptr) call.metadata_context = ToBytes(*metadata_context_);
  if (part->phase == CALLOUT_CONNECTION) {
    call.flags = CALLOUT_CALL_FIRST | CALLOUT_CALL_LAST;
    return;
  }
  call.message = ToBytes(message->view.message);
  if (message->is_modified) {
    message->shown.push_back(WriteNetworkData(message->data, message->view.end_of_stream));
    call.message = ToBytes(message->shown.back());
    message->shown.push_back(WriteNetworkRequest(message->view, ToView(call.message)));
    call.request = ToBytes(message->shown.back());
    Charge(message, call.message.size + call.request.size);
  }
  DataPart::Shown& shown = own->shown[message->line()];
  call.flags = (std::exchange(shown.begun, true) ? 0 : CALLOUT_CALL_FIRST) |
               (message->view.end_of_stream ? CALLOUT_CALL_LAST : 0);
  call.body_offset = shown.bytes;
  shown.bytes += message->data.size();
}

// --- Calls that take longer -----------------------------------------------------

void DataStream::OnWait(Part* part, uint64_t deadline_ns) {
  part->call.retained = {attributes_, metadata_context_};
  Message& message = MessageOf(*part);
  message.called = true;
  message.deadline_ns = deadline_ns;
}

void DataStream::OnCallOver(Part* part, bool counts) {
  DataPart* const own = AsDataPart(part);
  const MessagePointer message = std::exchange(own->message, nullptr);
  if (counts) {
    message->called = false;
    message->deadline_ns = 0;
    if (StepAfter(own) == Step::kPassed) ++message->position;
  }
  if (!end_.has_value()) Run();
}

void DataStream::OnDeadline(uint64_t now_ns) {
  for (size_t line = 0; line < lines_.size() && live(); ++line) {
    if (lines_[line].empty()) continue;
    const MessagePointer message = lines_[line].front();
    if (message->deadline_ns != 0 && message->deadline_ns <= now_ns) OnOverdue(message.get());
  }
  if (!end_.has_value()) Run();
}

void DataStream::OnOverdue(Message* message) {
  DataPart* const part = &parts_[IndexFor(*message)];
  message->deadline_ns = 0;
  if (!message->called) {
    // What the other call comes to is its own.
    const CallResult other = part->call.result;
    FaultOf(*message, part, PhaseFor(*message, *part),
            {Violation::kDeadline,
             fmt::format("its other call is {}", DeadlineText(environment_->limits()))});
    part->call.result = other;
    ++message->position;
    return;
  }
  if (!Expire(part)) return;
  message->called = false;
  // Under `continue` the message itself is still to come, once the call is finished. An instance
  // that was not called at all is told of the connection before its next bytes.
  if (part->phase == CALLOUT_CONNECTION && !part->call.handshake().unbegun()) {
    part->connected = true;
  } else {
    ++message->position;
  }
}

void DataStream::UpdateDeadline() {
  deadline_ns_ = 0;
  if (!live()) return;
  for (const auto& line : lines_) {
    if (line.empty() || line.front()->deadline_ns == 0) continue;
    const uint64_t deadline_ns = line.front()->deadline_ns;
    deadline_ns_ = deadline_ns_ == 0 ? deadline_ns : std::min(deadline_ns_, deadline_ns);
  }
}

// --- What a hook came to --------------------------------------------------------

Finding DataStream::Take(Part* part) {
  CallState& state = part->call;
  Message* const message = &MessageOf(*part);
  NetworkResponseView view;
  if (!NetworkAnnotationsAreWellFormed(state.annotations) ||
      !ReadNetworkResponse(state.response, &view)) {
    return {Violation::kMalformed,
            "the response, or the metadata beside it, is malformed protobuf"};
  }
  if (!environment_->limits().metadata_controls) {
    Finding found = CheckMetadata(state.annotations, CALLOUT_DATA_DYNAMIC_METADATA);
    if (!found.ok()) return found;
  }
  constexpr auto kStatusMax = static_cast<uint64_t>(ConnectionStatus::kReset);
  if (view.connection_status > kStatusMax) {
    return {Violation::kMalformed, fmt::format("the connection status {}, expected 0 to {}",
                                               view.connection_status, kStatusMax)};
  }
  const bool may_read = part->phase == CALLOUT_READ_DATA;
  const bool may_write = part->phase == CALLOUT_WRITE_DATA;
  if ((view.has_read && !may_read) || (view.has_write && !may_write)) {
    return {Violation::kWrongType,
            "data of a direction that the call is not about: Envoy would inject it there"};
  }
  WireReader reader(state.annotations);
  while (reader.Next()) {
    if (!reader.Is(CALLOUT_DATA_DYNAMIC_METADATA)) continue;
    MergeStructs(message->metadata, reader.bytes(), &message->metadata);
    Charge(message, reader.bytes().size());
    message->has_metadata = true;
    state.result.outcome = CallOutcome::kChanged;
  }
  if (view.connection_status != 0) {
    state.result.outcome = CallOutcome::kImmediate;
    Shut(*message, static_cast<ConnectionStatus>(view.connection_status));
  } else if ((view.has_read || view.has_write) && view.data != message->data) {
    message->new_data.assign(view.data);
    message->data = message->new_data;
    message->is_modified = AsDataPart(part)->altered = true;
    state.result.outcome = CallOutcome::kChanged;
    state.result.changed_bytes = view.data.size();
    Charge(message, view.data.size());
  }
  return {};
}

void DataStream::TakeDenial(Part* part, callout_status_t, std::string_view) {
  Shut(MessageOf(*part), ConnectionStatus::kReset);
}

void DataStream::Fault(Part* part, Finding finding) {
  FaultOf(MessageOf(*part), part, part->phase, finding);
}

void DataStream::FaultOf(const Message& message, Part* part, callout_phase_t phase,
                         const Finding& finding) {
  const bool passes = CountFault(part, phase, finding, {});
  // It may keep bytes that belong to these: without them the connection would have a gap.
  if (!passes || AsDataPart(part)->altered) Shut(message, ConnectionStatus::kReset);
}

void DataStream::Charge(Message* message, size_t bytes) {
  message->kept_bytes += bytes;
  message_bytes_ += bytes;
  queued_bytes_ += bytes;
}

void DataStream::Describe(LiveRpc* rpc) const {
  rpc->kind = InfoOf(RpcService::kNetworkExtProc).name;
  rpc->stream_id = id_;
  rpc->state = end_.has_value() ? "over; a plugin still has a call"
               : live()         ? "waits for Envoy"
                                : "waits for the connection to end";
  if (!live()) return;
  for (const auto& line : lines_) {
    if (line.empty() || line.front()->position >= parts_.size()) continue;
    const Message& message = *line.front();
    const DataPart& part = parts_[IndexFor(message)];
    rpc->phase = PhaseName(message.called ? part.phase : PhaseFor(message, part));
    rpc->plugin = part.call.instance->name();
    rpc->state = message.called ? "called" : "waits for its other call";
    return;
  }
}

// --- Out ------------------------------------------------------------------------

void DataStream::Respond(const Message& message) {
  const callout_phase_t phase = message.view.kind == NetworkKind::kOther
                                    ? callout_phase_t{CALLOUT_CONNECTION}
                                    : kDataPhases[message.line()];
  const uint64_t now_ns = MonotonicNs();
  environment_->ObserveMessage(phase, now_ns - message.begun_ns, now_ns, rpc_);
  output_.push_back(WriteNetworkResponse({.kind = message.view.kind,
                                          .data = message.data,
                                          .end_of_stream = message.view.end_of_stream,
                                          .is_modified = message.is_modified,
                                          .has_metadata = message.has_metadata,
                                          .metadata = message.metadata}));
  TellResponse();
}

// Of what has not gone out nothing will, and only a call at work keeps its message.
void DataStream::Shut(const Message& message, ConnectionStatus how) {
  if (!live()) return;
  state_ = State::kShut;
  deadline_ns_ = 0;
  output_.push_back(WriteNetworkResponse({.kind = message.view.kind,
                                          .connection_status = how,
                                          .has_metadata = message.has_metadata,
                                          .metadata = message.metadata}));
  TellResponse();
  CountRpc(RpcOutcome::kDenied);
  told_end_.outcome = CALLOUT_END_IMMEDIATE;
  for (auto& line : lines_) line.clear();
  queued_bytes_ = 0;
}

void DataStream::End(absl::Status status, callout_outcome_t outcome) {
  if (end_.has_value()) return;
  if (state_ != State::kShut) {
    told_end_.outcome = outcome;
    CountRpc(status.ok() ? RpcOutcome::kAllowed : RpcOutcome::kError);
  }
  EndWith(std::move(status));
}

}  // namespace callout::host
