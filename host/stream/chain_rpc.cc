// SPDX-License-Identifier: Apache-2.0

#include "host/stream/chain_rpc.h"

#include <fmt/format.h>

#include "host/base/clock.h"
#include "host/plugin/call_log.h"
#include "host/plugin/hook_status.h"
#include "host/plugin/instance.h"
#include "host/plugin/settings.h"
#include "host/stream/call_steps.h"
#include "host/wire/refusal.h"

namespace callout::host {

namespace {

// What the plugin wanted to say was not taken, and may have been a refusal: it never passes.
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

ChainRpc::ChainRpc(StreamEnvironment* environment, RpcContext* rpc, RpcService service)
    : environment_(environment),
      rpc_(rpc),
      chain_(environment->chains().current()),
      id_(environment->NextStreamId()),
      rpc_service_(service) {
  CountRpc(RpcOutcome::kStarted);
}

ChainRpc::~ChainRpc() = default;

void ChainRpc::InitializeState(size_t index, CallState* state) {
  state->instance = chain_->instances[index].get();
  state->rpc = rpc_;
  state->cancelled = &cancelled_;
  state->stream_id = id_;
  state->part = index;
  state->sent_bytes_max = environment_->limits().sent_bytes_max;
}

uint64_t ChainRpc::DeadlineFromNow() const {
  return MonotonicNs() + environment_->limits().hook_deadline_ms * 1000000;
}

// --- A call -----------------------------------------------------------------------

bool ChainRpc::Invoke(Part* part) {
  CallState& state = part->call;
  state.Begin(MonotonicNs());
  CallSlot* const slot = state.slot = TakeSlot(part->stream, &state);
  slot->call.phase = part->phase;
  slot->call.deadline_ns = DeadlineFromNow();
  FillCall(part);
  slot->may_respond = true;
  if (state.instance->strict()) ShowCopies(slot);
  if (NeedsThread(*part)) return Dispatch(part);
  const callout_status_t status = OpenAndCall(part);
  if (status == CALLOUT_DEFERRED) {
    if (state.stream_then == nullptr) state.stream_then = slot->call.stream;
    if (!state.handshake().OnReturn()) return !Wait(part);
    state.status = slot->finish_status;
  } else {
    WarnOfFinish(state, status);
    state.status = status;
  }
  CallRecord record = RecordOf(state, state.hook_end_ns);
  record.deferred = status == CALLOUT_DEFERRED;
  EndPartCall(part);
  Settle(part, state.status);
  TellCall(record, part);
  return true;
}

// The status of the hook, or of the open that refused the call.
callout_status_t ChainRpc::OpenAndCall(Part* part) {
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

void ChainRpc::EndPartCall(Part* part) {
  part->stream = EndCall(&part->call);
  part->call.retained.clear();
}

// --- Calls that take longer -----------------------------------------------------

bool ChainRpc::NeedsThread(const Part& part) {
  const Instance& instance = *part.call.instance;
  const bool opens = part.openness == Part::Openness::kUnopened && instance.has_stream_open();
  return instance.blocking() &&
         (instance.blocks_in(part.phase) || (opens && instance.blocks_in(0)));
}

// False: it waits, as a deferred call does, for the hook to return.
bool ChainRpc::Dispatch(Part* part) {
  CallState& state = part->call;
  state.handshake().Begin(true);
  if (!Wait(part)) return true;
  const bool taken = environment_->blocking_pool().SubmitCall(
      [this, part](bool in_time) { RunDispatched(part, in_time); },
      state.instance->usual_ns(part->phase), state.slot->call.deadline_ns);
  if (taken) return false;
  environment_->RemoveDeferred();
  --calls_at_work_;
  state.at_work = false;
  const CallRecord record = RecordOf(state, 0);
  EndPartCall(part);
  Overload(part);
  TellCall(record, part);
  return true;
}

// On one of the pool's threads. Nobody else touches the part's openness meanwhile.
void ChainRpc::RunDispatched(Part* part, bool in_time) {
  CallState* const state = &part->call;
  const bool cancelled = cancelled_.load(std::memory_order_relaxed);
  const bool expired = state->handshake().OnBegin(in_time);
  callout_status_t status = cancelled ? CALLOUT_CANCELLED : CALLOUT_DEADLINE_EXCEEDED;
  if (in_time && !cancelled && !expired) status = OpenAndCall(part);
  ReportDispatched(state, status);
}

// False: too many calls wait, and the call is settled.
bool ChainRpc::Wait(Part* part) {
  CallState& state = part->call;
  OnWait(part, state.slot->call.deadline_ns);
  if (environment_->AddDeferred()) {
    ++calls_at_work_;
    state.at_work = true;
    return true;
  }
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
  Finding finding{Violation::kDeferLimit, what};
  finding.never_passes = state.refuses();
  Fault(part, std::move(finding));
  TellCall(record, part);
  return false;
}

void ChainRpc::OnPosted(CallState* call, RpcContext::Event event) {
  switch (event) {
    case RpcContext::Event::kSent:
      return;  // is looked at when the call is finished
    case RpcContext::Event::kFinished:
      return OnFinished(&part(call->part));
    case RpcContext::Event::kClosed:
      closed_ = --closing_ == 0;
      return;
  }
}

void ChainRpc::OnFinished(Part* part) {
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
  EndPartCall(part);
  const bool counts = !std::exchange(state.late, false) && live();
  if (counts) {
    if (dropped) {
      Overload(part);
    } else {
      Settle(part, state.status);
    }
    TellCall(record, part);
  } else if (!state.told) {
    TellOverruled(record, part);
  }
  OnCallOver(part, counts);
  if (end_.has_value()) Finish();
}

bool ChainRpc::Expire(Part* part) {
  CallHandshake& handshake = part->call.handshake();
  if (handshake.over() || !handshake.OnDeadline()) return false;
  part->call.late = true;
  const CallRecord record = RecordOf(part->call, MonotonicNs());
  if (handshake.unbegun()) {
    Overload(part);
  } else {
    Finding finding{Violation::kDeadline, DeadlineText(environment_->limits())};
    finding.never_passes = part->call.refuses();
    Fault(part, std::move(finding));
  }
  TellCall(record, part);
  return true;
}

// --- What a call came to --------------------------------------------------------

void ChainRpc::Settle(Part* part, callout_status_t status) {
  CallState& state = part->call;
  state.result.status = status;
  TellObservers([&](RpcObserver* observer) {
    observer->OnSaid({state, part->phase, SeenWith(*part)});
  });
  const bool is_there = IsRefusal(part->phase, state.response, state.annotations);
  // Of two decisions that refuse, the one that says more.
  if (is_there && IsDecision(status)) status = CALLOUT_OK;
  // One that was sent, too, or came too early.
  const bool refuses = is_there || state.refuses();
  const std::string text = status < 0 ? ErrorText(state, part->phase, status) : std::string();
  if (IsDecision(status)) {
    state.result.outcome = CallOutcome::kDenied;
    return TakeDenial(part, status, text);
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
    finding = Take(part);
  }
  if (finding.ok()) return;
  // Whatever is wrong with a refusal, or comes after it, it does not become a pass.
  if (refuses) finding.never_passes = true;
  Fault(part, std::move(finding));
}

bool ChainRpc::CountFault(Part* part, callout_phase_t phase, const Finding& finding,
                          std::string_view headers_for_log) {
  Instance& instance = *part->call.instance;
  CallResult& result = part->call.result;
  result.outcome = CallOutcome::kFault;
  result.violation = finding.violation;
  result.by_peer = finding.by_peer;
  const SpanWriter* const span = observers_ == nullptr ? nullptr : observers_->span_writer();
  instance.CountViolation(finding.violation, phase, finding.what,
                          {id_, headers_for_log, rpc_, {}, span, finding.by_peer});
  const FaultView fault{&instance, phase, finding.violation, finding.what};
  TellObservers([&](RpcObserver* observer) { observer->OnFault(fault); });
  const ErrorPolicy policy =
      instance.settings().policy.value_or(ErrorPolicy{ErrorPolicy::Action::kFail, 0});
  const bool passes = policy.action == ErrorPolicy::Action::kContinue && !finding.never_passes;
  const bool denies = policy.action == ErrorPolicy::Action::kDeny;
  result.action = passes || denies ? policy.action : ErrorPolicy::Action::kFail;
  return passes;
}

// The call was not begun, and will not be: that is nothing the plugin has done.
void ChainRpc::Overload(Part* part) {
  Fault(part, {Violation::kOverload, OverloadText(environment_->limits())});
}

// --- Observers ------------------------------------------------------------------

void ChainRpc::BeginWatch(callout_phase_t phase, std::string_view headers) {
  observers_ = environment_->watchers().Watch({id_, rpc_service_, rpc_, phase, headers, begun_ns_});
  if (observers_ == nullptr) return;
  for (size_t i = 0; i < size(); ++i) part(i).call.observers = observers_.get();
}

// The end of every call passes here, once.
void ChainRpc::TellCall(const CallRecord& record, Part* part) {
  CallState& state = part->call;
  if (std::exchange(state.told, true)) return;
  CallRecord whole = record;
  whole.result = state.result;
  state.instance->CountCall(whole);
  TellObservers([&](RpcObserver* observer) { observer->OnCall(whole); });
}

// The RPC is over before the call is, so that nothing of it will be used.
void ChainRpc::TellGivenUp(Part* part) {
  CallState& state = part->call;
  if (state.at_work && !state.told) TellOverruled(RecordOf(state, MonotonicNs()), part);
}

void ChainRpc::TellOverruled(const CallRecord& record, Part* part) {
  part->call.result.outcome = CallOutcome::kOverruled;
  part->call.result.overruled = Overruled::kEnded;
  TellCall(record, part);
}

void ChainRpc::TellResponse() {
  TellObservers([&](RpcObserver* observer) { observer->OnResponse(0, output_.back()); });
}

void ChainRpc::TellEnd() {
  for (size_t i = 0; i < size(); ++i) TellGivenUp(&part(i));
  if (observers_ == nullptr) return;
  const RpcEnd end{*end_, told_end_.outcome, MonotonicNs()};
  TellObservers([&](RpcObserver* observer) { observer->OnEnd(end); });
}

// --- The end --------------------------------------------------------------------

void ChainRpc::Leave(absl::Status status, callout_status_t told) {
  end_ = std::move(status);
  told_end_.status = told;
  output_.clear();
  for (size_t i = 0; i < size(); ++i) {
    if (part(i).call.instance->has_stream_cancel()) Notify(&part(i));
  }
  Finish();
}

// The call itself belongs to the plugin, on whatever thread; the hook gets one of its own.
void ChainRpc::Notify(Part* part) {
  if (!part->call.at_work || !part->call.handshake().OnLeave()) return;
  CallState state;
  InitializeState(part->call.part, &state);
  CallSlot* const slot = TakeSlot(part->stream, &state);
  slot->call.stream = part->call.stream_then;
  part->call.instance->CancelStream(&slot->call);
  ReleaseSlot(*part->call.instance, slot, CallSlots::Reuse::kSoon);
}

void ChainRpc::EndWith(absl::Status status) {
  told_end_.status = -static_cast<callout_status_t>(status.code());
  end_ = std::move(status);
  Finish();
}

// Closes what is open. Close comes after the call of an instance: not while one is deferred.
void ChainRpc::Finish() {
  deadline_ns_ = 0;
  if (!std::exchange(told_, true)) {
    if (begun_ns_ != 0) told_end_.stream_ns = MonotonicNs() - begun_ns_;
    TellEnd();
  }
  if (closed_ || closing_ > 0 || calls_at_work_ > 0) return;
  for (size_t i = 0; i < size(); ++i) ClosePart(&part(i));
  closed_ = closing_ == 0;
}

void ChainRpc::ClosePart(Part* part) {
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
