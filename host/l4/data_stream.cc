// SPDX-License-Identifier: Apache-2.0

#include "host/l4/data_stream.h"

#include <fmt/format.h>

#include <algorithm>

#include "host/base/clock.h"
#include "host/plugin/call_log.h"
#include "host/plugin/call_observer.h"
#include "host/plugin/hook_status.h"
#include "host/plugin/match.h"
#include "host/stream/call_steps.h"
#include "host/wire/annotations.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

constexpr std::array<callout_phase_t, 2> kDataPhases = {CALLOUT_READ_DATA, CALLOUT_WRITE_DATA};

// What the plugin wanted to say was not taken, and may have been that the connection is to be
// closed: it never passes.
Finding RefusedResponse(const CallState& state) {
  Finding finding{Violation::kMalformed, "the whole response is malformed protobuf"};
  if (state.fault == ResponseFault::kTooLarge) {
    finding = {Violation::kTooLarge,
               fmt::format("over --max_message_bytes={}", state.instance->message_bytes_max())};
  }
  finding.never_passes = true;
  return finding;
}

}  // namespace

DataStream::DataStream(StreamEnvironment* environment, RpcContext* rpc)
    : environment_(environment),
      rpc_(rpc),
      chain_(environment->chains().current()),
      parts_(chain_->instances.size()),
      id_(environment->NextStreamId()) {
  for (size_t i = 0; i < parts_.size(); ++i) InitializeState(i, &parts_[i].call);
  environment_->CountRpc(RpcService::kNetworkExtProc, RpcOutcome::kStarted);
}

DataStream::~DataStream() = default;

void DataStream::InitializeState(size_t part, CallState* state) {
  state->instance = chain_->instances[part].get();
  state->rpc = rpc_;
  state->cancelled = &cancelled_;
  state->stream_id = id_;
  state->part = part;
  state->sent_bytes_max = environment_->limits().sent_bytes_max;
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
  auto message = std::make_shared<Message>();
  message->begun_ns = MonotonicNs();
  if (begun_ns_ == 0) {
    begun_ns_ = message->begun_ns;
    if (environment_->watchers().active()) BeginWatch();
  }
  message->bytes.assign(bytes);
  absl::StatusOr<NetworkRequestView> view =
      ParseNetworkRequest(message->bytes, environment_->limits().message_fields_max);
  if (!view.ok()) return End(view.status(), CALLOUT_END_ERROR);
  message->view = *std::move(view);
  message->data = message->view.data;
  if (observers_ != nullptr) {
    const MessageView seen{kDataPhases[message->line()], message->data, message->begun_ns};
    observers_->Each([&](RpcObserver* observer) { observer->OnMessage(seen); });
  }
  TakeFacts(message->view);
  if (!std::exchange(matched_, true)) Match();
  const size_t line = message->line();
  (line == 0 ? told_end_.request_body_bytes : told_end_.response_body_bytes) +=
      message->data.size();
  Charge(message.get(), message->bytes.size());
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
  for (Part& part : parts_) {
    const Instance& instance = *part.call.instance;
    const bool has_hook = instance.Wants(CALLOUT_CONNECTION) || instance.Wants(CALLOUT_READ_DATA) ||
                          instance.Wants(CALLOUT_WRITE_DATA);
    const StreamMatch& match = instance.settings().match;
    part.fits = has_hook && (match.empty() || facts.Match(match));
    part.connected = !instance.Wants(CALLOUT_CONNECTION);
  }
}

void DataStream::OnHalfClose() {
  half_closed_ = true;
  if (!live() || idle()) End(absl::OkStatus(), CALLOUT_END_COMPLETED);
}

// Envoy resets the stream when the connection is over.
void DataStream::OnCancel() {
  cancelled_.store(true, std::memory_order_relaxed);
  if (end_.has_value()) return;
  if (live()) {
    environment_->CountRpc(RpcService::kNetworkExtProc,
                           idle() ? RpcOutcome::kAllowed : RpcOutcome::kCancelled);
    told_end_.outcome = idle() ? CALLOUT_END_COMPLETED : CALLOUT_END_CANCELLED;
  }
  end_ = absl::CancelledError("the connection is over");
  output_.clear();
  for (Part& part : parts_) {
    if (part.call.instance->has_stream_cancel()) Notify(&part);
  }
  Finish();
}

// The call itself belongs to the plugin, on whatever thread; the hook gets one of its own.
void DataStream::Notify(Part* part) {
  if (!part->call.at_work || !part->call.handshake().OnLeave()) return;
  CallState state;
  InitializeState(part->call.part, &state);
  CallSlot* const slot = TakeSlot(part->stream, &state);
  slot->call.stream = part->call.stream_then;
  part->call.instance->CancelStream(&slot->call);
  ReleaseSlot(*part->call.instance, slot, CallSlots::Reuse::kSoon);
}

void DataStream::OnDrainDeadline() {
  End(absl::UnavailableError("the server drains, and its time is up (--drain_timeout_ms)"),
      CALLOUT_END_ERROR);
}

// --- The way through the chain --------------------------------------------------

void DataStream::Run() {
  for (size_t line = 0; line < lines_.size(); ++line) RunLine(line);
  if (live() && half_closed_ && idle()) return End(absl::OkStatus(), CALLOUT_END_COMPLETED);
  UpdateDeadline();
}

void DataStream::RunLine(size_t line) {
  while (live() && !lines_[line].empty()) {
    const MessagePointer message = lines_[line].front();
    while (live() && message->position < parts_.size()) {
      if (message->called) return;
      const Step step = Visit(message, PartAt(*message));
      if (step == Step::kWaits) return;
      if (step == Step::kPassed) ++message->position;
    }
    if (!live()) return;
    Respond(*message);
    lines_[line].pop_front();
    queued_bytes_ -= message->kept_bytes;
  }
}

DataStream::Part* DataStream::PartAt(const Message& message) {
  const size_t at = message.position;
  return &parts_[message.line() == 0 ? at : parts_.size() - 1 - at];
}

// The phase that the message is for the instance now; 0: none.
callout_phase_t DataStream::PhaseFor(const Message& message, const Part& part) {
  if (!part.fits) return 0;
  if (!part.connected) return CALLOUT_CONNECTION;
  if (message.view.kind == NetworkKind::kOther) return 0;
  const callout_phase_t phase = kDataPhases[message.line()];
  return part.call.instance->Wants(phase) ? phase : 0;
}

DataStream::Step DataStream::Visit(const MessagePointer& message, Part* part) {
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
  return Invoke(message, part);
}

DataStream::Step DataStream::Invoke(const MessagePointer& message, Part* part) {
  CallState& state = part->call;
  state.Begin(MonotonicNs());
  state.slot = TakeSlot(part->stream, &state);
  part->message = message;
  FillCall(message.get(), part);
  if (NeedsThread(*part)) return Dispatch(message, part);
  const callout_status_t status = OpenAndCall(part);
  if (status == CALLOUT_DEFERRED) {
    if (state.stream_then == nullptr) state.stream_then = state.slot->call.stream;
    if (!state.handshake().OnReturn()) {
      return Wait(message, part) ? Step::kWaits : StepAfter(part);
    }
    state.status = state.slot->finish_status;
  } else {
    WarnOfFinish(state, status);
    state.status = status;
  }
  CallRecord record = RecordOf(state, state.hook_end_ns);
  record.deferred = status == CALLOUT_DEFERRED;
  EndPartCall(part);
  Settle(message.get(), part, state.status);
  TellCall(record, part);
  return StepAfter(part);
}

// After the announcement of a connection the instance gets the message itself.
DataStream::Step DataStream::StepAfter(Part* part) {
  if (part->phase != CALLOUT_CONNECTION || part->openness != Part::Openness::kOpen) {
    return Step::kPassed;
  }
  part->connected = true;
  return Step::kAgain;
}

void DataStream::FillCall(Message* message, Part* part) {
  CallSlot* const slot = part->call.slot;
  callout_call_t& call = slot->call;
  call.phase = part->phase;
  call.deadline_ns = DeadlineFromNow();
  call.request = ToBytes(message->bytes);
  if (attributes_ != nullptr) call.attributes = ToBytes(*attributes_);
  if (metadata_context_ != nullptr) call.metadata_context = ToBytes(*metadata_context_);
  if (part->phase == CALLOUT_CONNECTION) {
    call.flags = CALLOUT_CALL_FIRST | CALLOUT_CALL_LAST;
  } else {
    Part::Shown& shown = part->shown[message->line()];
    call.message = ToBytes(message->view.message);
    if (message->is_modified) {
      message->shown.push_back(WriteNetworkData(message->data, message->view.end_of_stream));
      call.message = ToBytes(message->shown.back());
      message->shown.push_back(WriteNetworkRequest(message->view, ToView(call.message)));
      call.request = ToBytes(message->shown.back());
    }
    call.flags = (std::exchange(shown.begun, true) ? 0 : CALLOUT_CALL_FIRST) |
                 (message->view.end_of_stream ? CALLOUT_CALL_LAST : 0);
    call.body_offset = shown.bytes;
    shown.bytes += message->data.size();
  }
  slot->may_respond = true;
  if (part->call.instance->strict()) ShowCopies(slot);
}

void DataStream::EndPartCall(Part* part) {
  part->stream = EndCall(&part->call);
  part->message.reset();
  part->call.retained.clear();
}

// The status of the hook, or of the open that refused the call.
callout_status_t DataStream::OpenAndCall(Part* part) {
  CallState& state = part->call;
  uint64_t now_ns = MonotonicNs();
  if (part->openness == Part::Openness::kUnopened) {
    part->openness = Part::Openness::kOpen;
    if (state.instance->has_stream_open() && !OpenBefore(&state, &part->stream, &now_ns)) {
      part->openness = Part::Openness::kRefused;
      return state.status;
    }
  }
  state.stream_then = state.slot->call.stream;
  if (state.handshake().detached() && !state.handshake().OnHook()) return CALLOUT_CANCELLED;
  return state.instance->Call(&state, now_ns);
}

// --- Calls that take longer -----------------------------------------------------

uint64_t DataStream::DeadlineFromNow() const {
  return MonotonicNs() + environment_->limits().hook_deadline_ms * 1000000;
}

bool DataStream::NeedsThread(const Part& part) {
  const Instance& instance = *part.call.instance;
  const bool opens = part.openness == Part::Openness::kUnopened && instance.has_stream_open();
  return instance.blocking() &&
         (instance.blocks_in(part.phase) || (opens && instance.blocks_in(0)));
}

// It waits, as a deferred call does, for the hook to return.
DataStream::Step DataStream::Dispatch(const MessagePointer& message, Part* part) {
  CallState& state = part->call;
  state.handshake().Begin(true);
  if (!Wait(message, part)) return StepAfter(part);
  const bool taken = environment_->blocking_pool().SubmitCall(
      [this, part](bool in_time) { RunDispatched(part, in_time); },
      state.instance->usual_ns(part->phase), message->deadline_ns);
  if (taken) return Step::kWaits;
  environment_->RemoveDeferred();
  --calls_at_work_;
  state.at_work = false;
  message->called = false;
  message->deadline_ns = 0;
  const CallRecord record = RecordOf(state, 0);
  EndPartCall(part);
  Overload(message.get(), part);
  TellCall(record, part);
  return StepAfter(part);
}

// On one of the pool's threads. Nobody else touches the part's openness meanwhile.
void DataStream::RunDispatched(Part* part, bool in_time) {
  CallState* const state = &part->call;
  const bool cancelled = cancelled_.load(std::memory_order_relaxed);
  const bool expired = state->handshake().OnBegin(in_time);
  callout_status_t status = cancelled ? CALLOUT_CANCELLED : CALLOUT_DEADLINE_EXCEEDED;
  if (in_time && !cancelled && !expired) status = OpenAndCall(part);
  ReportDispatched(state, status);
}

// False: too many calls wait, and the message has been settled.
bool DataStream::Wait(const MessagePointer& message, Part* part) {
  CallState& state = part->call;
  state.retained = {attributes_, metadata_context_};
  if (!environment_->AddDeferred()) {
    const std::string what = DeferLimitText(*environment_);
    const CallRecord record = RecordOf(state, state.hook_end_ns);
    if (state.handshake().detached()) {
      environment_->RemoveDeferred();
      EndPartCall(part);
    } else {
      // The plugin has it, and will finish it; what it then says is ignored.
      state.handshake().OnDeadline();
      ++calls_at_work_;
      state.at_work = state.late = true;
    }
    Fault(message.get(), part, part->phase, {Violation::kDeferLimit, what});
    TellCall(record, part);
    return false;
  }
  ++calls_at_work_;
  state.at_work = true;
  message->called = true;
  message->deadline_ns = state.slot->call.deadline_ns;
  return true;
}

void DataStream::OnPosted(CallState* call, RpcContext::Event event) {
  switch (event) {
    case RpcContext::Event::kSent:
      return;  // is looked at when the call is finished
    case RpcContext::Event::kFinished:
      return OnFinished(&parts_[call->part]);
    case RpcContext::Event::kClosed:
      closed_ = --closing_ == 0;
      return;
  }
}

void DataStream::OnFinished(Part* part) {
  CallState& state = part->call;
  environment_->RemoveDeferred();
  --calls_at_work_;
  state.at_work = false;
  const uint64_t now_ns = MonotonicNs();
  if (state.handshake().returned()) {
    state.status = state.slot->finish_status;
    state.instance_ns += now_ns - state.hook_end_ns;
  }
  const bool dropped = state.handshake().dropped();
  const CallRecord record = RecordOf(state, now_ns);
  const MessagePointer message = part->message;
  EndPartCall(part);
  if (!std::exchange(state.late, false) && live()) {
    message->called = false;
    message->deadline_ns = 0;
    if (dropped) {
      Overload(message.get(), part);
    } else {
      Settle(message.get(), part, state.status);
    }
    TellCall(record, part);
    if (StepAfter(part) == Step::kPassed) ++message->position;
  }
  if (live()) return Run();
  if (end_.has_value()) Finish();
}

void DataStream::OnDeadline(uint64_t now_ns) {
  for (size_t line = 0; line < lines_.size() && live(); ++line) {
    if (lines_[line].empty()) continue;
    const MessagePointer message = lines_[line].front();
    if (message->deadline_ns != 0 && message->deadline_ns <= now_ns) OnOverdue(message.get());
  }
  if (live()) Run();
}

void DataStream::OnOverdue(Message* message) {
  Part* const part = PartAt(*message);
  message->deadline_ns = 0;
  if (!message->called) {
    // What the other call comes to is its own.
    const CallResult other = part->call.result;
    Fault(message, part, PhaseFor(*message, *part),
          {Violation::kDeadline,
           fmt::format("its other call is {}", DeadlineText(environment_->limits()))});
    part->call.result = other;
    ++message->position;
    return;
  }
  CallHandshake& handshake = part->call.handshake();
  // It was finished in time after all: the event is on its way.
  if (handshake.finished() || !handshake.OnDeadline()) return;
  part->call.late = true;
  message->called = false;
  const CallRecord record = RecordOf(part->call, MonotonicNs());
  if (handshake.unbegun()) {
    Overload(message, part);
  } else {
    Fault(message, part, part->phase, {Violation::kDeadline, DeadlineText(environment_->limits())});
  }
  TellCall(record, part);
  // Under `continue` the message itself is still to come, once the call is finished.
  if (part->phase == CALLOUT_CONNECTION) {
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

// --- What came of a call ----------------------------------------------------------

void DataStream::BeginWatch() {
  observers_ = environment_->watchers().Watch(
      {id_, RpcService::kNetworkExtProc, rpc_, CALLOUT_CONNECTION, {}, begun_ns_});
  if (observers_ == nullptr) return;
  for (Part& part : parts_) part.call.observers = observers_.get();
}

// The end of every call passes here, once.
void DataStream::TellCall(const CallRecord& record, Part* part) {
  CallState& state = part->call;
  if (std::exchange(state.told, true)) return;
  CallRecord whole = record;
  whole.result = state.result;
  state.instance->CountCall(whole);
  if (observers_ == nullptr) return;
  observers_->Each([&](RpcObserver* observer) { observer->OnCall(whole); });
}

// The RPC is over before the call is, so that nothing of it will be used.
void DataStream::TellGivenUp(Part* part) {
  CallState& state = part->call;
  if (!state.at_work || state.told) return;
  state.result.outcome = CallOutcome::kOverruled;
  state.result.overruled = Overruled::kEnded;
  TellCall(RecordOf(state, MonotonicNs()), part);
}

void DataStream::TellEnd() {
  if (std::exchange(told_, true)) return;
  for (Part& part : parts_) TellGivenUp(&part);
  if (observers_ == nullptr) return;
  const RpcEnd end{*end_, told_end_.outcome, MonotonicNs()};
  observers_->Each([&](RpcObserver* observer) { observer->OnEnd(end); });
}

// --- What a hook came to --------------------------------------------------------

void DataStream::Settle(Message* message, Part* part, callout_status_t status) {
  CallState& state = part->call;
  state.result.status = status;
  if (observers_ != nullptr) {
    const SaidView said{state, part->phase, message->data};
    observers_->Each([&](RpcObserver* observer) { observer->OnSaid(said); });
  }
  const std::string text = status < 0 ? ErrorText(state, part->phase, status) : std::string();
  if (IsDecision(status)) {
    state.result.outcome = CallOutcome::kDenied;
    return Shut(*message, ConnectionStatus::kReset);
  }
  Finding finding;
  if (state.fault != ResponseFault::kNone) {
    finding = RefusedResponse(state);
  } else if (status < 0) {
    finding = {Violation::kErrorStatus, text};
  } else if (status != CALLOUT_OK) {
    finding = {Violation::kBadStatus,
               fmt::format("the hook returned {}; return OK, DEFERRED or a negative status",
                           StatusName(status))};
  } else if (!state.sent.empty()) {
    finding = {Violation::kSecondResponse, "send() in a service that takes one response"};
  } else {
    finding = Take(message, part);
  }
  if (finding.ok()) return;
  // Whatever is wrong with the wish to close a connection, or comes after it, it goes on no more.
  NetworkResponseView view;
  if (!ReadNetworkResponse(state.response, &view) || view.connection_status != 0) {
    finding.never_passes = true;
  }
  Fault(message, part, part->phase, std::move(finding));
}

// A fault, of which nothing is taken, or what was taken.
Finding DataStream::Take(Message* message, Part* part) {
  CallState& state = part->call;
  NetworkResponseView view;
  if (!NetworkAnnotationsAreWellFormed(state.annotations) ||
      !ReadNetworkResponse(state.response, &view)) {
    return {Violation::kMalformed,
            "the response, or the metadata beside it, is malformed protobuf"};
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
    message->has_metadata = true;
    state.result.outcome = CallOutcome::kChanged;
  }
  if (view.connection_status != 0) {
    state.result.outcome = CallOutcome::kImmediate;
    Shut(*message, static_cast<ConnectionStatus>(view.connection_status));
  } else if ((view.has_read || view.has_write) && view.data != message->data) {
    message->new_data.assign(view.data);
    message->data = message->new_data;
    message->is_modified = true;
    state.result.outcome = CallOutcome::kChanged;
    state.result.changed_bytes = view.data.size();
    Charge(message, view.data.size());
  }
  return {};
}

void DataStream::Charge(Message* message, size_t bytes) {
  message->kept_bytes += bytes;
  queued_bytes_ += bytes;
}

// Applies the instance's policy, by default to fail.
void DataStream::Fault(Message* message, Part* part, callout_phase_t phase, Finding finding) {
  Instance& instance = *part->call.instance;
  CallResult& result = part->call.result;
  result.outcome = CallOutcome::kFault;
  result.violation = finding.violation;
  instance.CountViolation(finding.violation, phase, finding.what, {id_, {}, rpc_, {}});
  if (observers_ != nullptr) {
    const FaultView fault{&instance, phase, finding.violation, finding.what};
    observers_->Each([&](RpcObserver* observer) { observer->OnFault(fault); });
  }
  const ErrorPolicy policy =
      instance.settings().policy.value_or(ErrorPolicy{ErrorPolicy::Action::kFail, 0});
  const bool passes = policy.action == ErrorPolicy::Action::kContinue && !finding.never_passes;
  const bool denies = policy.action == ErrorPolicy::Action::kDeny;
  result.action = passes || denies ? policy.action : ErrorPolicy::Action::kFail;
  if (passes) return;
  Shut(*message, ConnectionStatus::kReset);
}

// The call was not begun, and will not be: that is nothing the plugin has done.
void DataStream::Overload(Message* message, Part* part) {
  Fault(message, part, part->phase, {Violation::kOverload, OverloadText(environment_->limits())});
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

void DataStream::TellResponse() {
  if (observers_ == nullptr) return;
  observers_->Each([&](RpcObserver* observer) { observer->OnResponse(0, output_.back()); });
}

// Of what has not gone out nothing will.
void DataStream::Shut(const Message& message, ConnectionStatus how) {
  if (!live()) return;
  state_ = State::kShut;
  deadline_ns_ = 0;
  output_.push_back(WriteNetworkResponse({.kind = message.view.kind,
                                          .connection_status = how,
                                          .has_metadata = message.has_metadata,
                                          .metadata = message.metadata}));
  TellResponse();
  environment_->CountRpc(RpcService::kNetworkExtProc, RpcOutcome::kDenied);
  told_end_.outcome = CALLOUT_END_IMMEDIATE;
}

void DataStream::End(absl::Status status, callout_outcome_t outcome) {
  if (end_.has_value()) return;
  if (state_ != State::kShut) {
    told_end_.outcome = outcome;
    environment_->CountRpc(RpcService::kNetworkExtProc,
                           status.ok() ? RpcOutcome::kAllowed : RpcOutcome::kError);
  }
  end_ = std::move(status);
  Finish();
}

// Closes what is open. Close comes after the call of an instance: not while one is deferred.
void DataStream::Finish() {
  if (state_ != State::kOver) {
    const bool is_cancelled = cancelled_.load(std::memory_order_relaxed);
    told_end_.status = is_cancelled ? 0 : -static_cast<callout_status_t>(end_->code());
    if (begun_ns_ != 0) told_end_.stream_ns = MonotonicNs() - begun_ns_;
  }
  state_ = State::kOver;
  deadline_ns_ = 0;
  TellEnd();
  if (closed_ || closing_ > 0 || calls_at_work_ > 0) return;
  for (Part& part : parts_) ClosePart(&part);
  closed_ = closing_ == 0;
}

void DataStream::ClosePart(Part* part) {
  if (part->openness != Part::Openness::kOpen) return;
  part->openness = Part::Openness::kUnopened;
  CallState* const state = &part->call;
  Instance* const instance = state->instance;
  if (!instance->has_stream_close()) return;
  CallSlot* const slot = TakeSlot(part->stream, state);
  callout_stream_end_t end = told_end_;
  end.instance_ns = state->instance_ns;
  if (!instance->blocking()) {
    instance->CloseStream(&slot->call, end);
    return ReleaseSlot(*instance, slot, CallSlots::Reuse::kSoon);
  }
  ++closing_;
  environment_->blocking_pool().Submit([instance, state, slot, end] {
    instance->CloseStream(&slot->call, end);
    ReleaseSlot(*instance, slot, CallSlots::Reuse::kSoon);
    state->rpc->Post(state, RpcContext::Event::kClosed);
  });
}

}  // namespace callout::host
