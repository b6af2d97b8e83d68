// SPDX-License-Identifier: Apache-2.0

#include "host/unary/unary_rpc.h"

#include <fmt/format.h>

#include "host/base/clock.h"
#include "host/base/status_text.h"
#include "host/plugin/call_log.h"
#include "host/plugin/hook_status.h"
#include "host/stream/call_steps.h"
#include "host/stream/fault_kinds.h"

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

void NoteEffect(const UnaryService::Effect& effect, CallResult* result) {
  result->changed_bytes = effect.set_bytes;
  result->http_status = effect.http_status;
  if (effect.http_status != 0) {
    result->outcome = CallOutcome::kImmediate;
  } else if (effect.changes) {
    result->outcome = CallOutcome::kChanged;
  }
}

}  // namespace

UnaryRpc::UnaryRpc(StreamEnvironment* environment, RpcContext* rpc,
                   std::unique_ptr<UnaryService> service)
    : environment_(environment),
      rpc_(rpc),
      service_(std::move(service)),
      chain_(environment->chains().current()),
      parts_(chain_->instances.size()),
      id_(environment->NextStreamId()) {
  for (size_t i = 0; i < parts_.size(); ++i) InitializeState(i, &parts_[i].call);
  environment_->CountRpc(service_->service(), RpcOutcome::kStarted);
}

UnaryRpc::~UnaryRpc() = default;

// --- In -----------------------------------------------------------------------

void UnaryRpc::OnMessage(std::string_view bytes) {
  if (!wants_message()) return;
  state_ = State::kRuns;
  begun_ns_ = MonotonicNs();
  if (absl::Status status = service_->Begin(bytes); !status.ok()) {
    if (!absl::IsResourceExhausted(status)) return End(std::move(status));
    // The doing of Envoy's client, which an error would let pass where Envoy fails open.
    constexpr int kHeadersTooLarge = 431;
    environment_->metrics().Add(environment_->ids().messages_refused);
    service_->Refuse(kHeadersTooLarge, MessageOf(status));
    return Respond();
  }
  if (environment_->watchers().active()) BeginWatch();
  Run();
}

void UnaryRpc::BeginWatch() {
  const std::string_view headers = service_->headers_for_log();
  observers_ = environment_->watchers().Watch(
      {id_, service_->service(), rpc_, service_->phase(), headers, begun_ns_});
  if (observers_ == nullptr) return;
  for (Part& part : parts_) part.call.observers = observers_.get();
  const MessageView seen{CALLOUT_REQUEST_HEADERS, headers, begun_ns_};
  observers_->Each([&](RpcObserver* observer) { observer->OnMessage(seen); });
}

void UnaryRpc::OnHalfClose() {
  if (wants_message()) End(absl::InternalError("the RPC came without a request"));
}

void UnaryRpc::OnCancel() {
  cancelled_.store(true, std::memory_order_relaxed);
  if (end_.has_value()) return;
  environment_->CountRpc(service_->service(), RpcOutcome::kCancelled);
  end_ = absl::CancelledError("the client has left");
  told_end_.outcome = CALLOUT_END_CANCELLED;
  output_.clear();
  for (Part& part : parts_) {
    if (part.call.instance->has_stream_cancel()) Notify(&part);
  }
  Finish();
}

// The call itself belongs to the plugin, on whatever thread; the hook gets one of its own.
void UnaryRpc::Notify(Part* part) {
  if (!part->call.at_work || !part->call.handshake().OnLeave()) return;
  CallState state;
  InitializeState(part->call.part, &state);
  CallSlot* const slot = TakeSlot(part->stream, &state);
  slot->call.stream = part->call.stream_then;
  part->call.instance->CancelStream(&slot->call);
  ReleaseSlot(*part->call.instance, slot, CallSlots::Reuse::kSoon);
}

void UnaryRpc::OnDrainDeadline() {
  if (end_.has_value()) return;
  End(absl::UnavailableError("the server drains, and its time is up (--drain_timeout_ms)"));
}

void UnaryRpc::InitializeState(size_t part, CallState* state) {
  state->instance = chain_->instances[part].get();
  state->rpc = rpc_;
  state->cancelled = &cancelled_;
  state->stream_id = id_;
  state->part = part;
  state->sent_bytes_max = environment_->limits().sent_bytes_max;
}

// --- The way through the chain --------------------------------------------------

void UnaryRpc::Run() {
  while (live() && !service_->decided() && next_ < parts_.size()) {
    if (!Visit(&parts_[next_])) return;
    ++next_;
  }
  if (live()) Respond();
}

// False: it waits for the part's call.
bool UnaryRpc::Visit(Part* part) {
  const Instance& instance = *part->call.instance;
  const UnaryService::Role role = service_->RoleOf(instance);
  if (role == UnaryService::Role::kNone) return true;
  const StreamMatch& match = instance.settings().match;
  if (!match.empty() && !service_->Matches(match)) return true;
  part->phase = service_->PhaseOf(instance);
  if (role == UnaryService::Role::kCalled) return Invoke(part);
  Fault(part, {Violation::kNotCarried, service_->WhyNot(instance)});
  return true;
}

bool UnaryRpc::Invoke(Part* part) {
  CallState& state = part->call;
  const uint64_t now_ns = MonotonicNs();
  state.Begin(now_ns);
  state.slot = TakeSlot(part->stream, &state);
  BeginCall(part, now_ns);
  if (NeedsThread(*part)) return Dispatch(part);
  const callout_status_t status = OpenAndCall(part);
  if (status == CALLOUT_DEFERRED) {
    if (state.stream_then == nullptr) state.stream_then = state.slot->call.stream;
    if (!state.handshake().OnReturn()) return !Wait(part);
    state.status = state.slot->finish_status;
  } else {
    WarnOfFinish(state, status);
    state.status = status;
  }
  CallRecord record = RecordOf(part->call, state.hook_end_ns);
  record.deferred = status == CALLOUT_DEFERRED;
  part->stream = EndCall(&part->call);
  Settle(part, state.status);
  TellCall(record, part);
  return true;
}

// --- What came of a call ----------------------------------------------------------

// The end of every call passes here, once.
void UnaryRpc::TellCall(const CallRecord& record, Part* part) {
  CallState& state = part->call;
  if (std::exchange(state.told, true)) return;
  CallRecord whole = record;
  whole.result = state.result;
  state.instance->CountCall(whole);
  if (observers_ == nullptr) return;
  observers_->Each([&](RpcObserver* observer) { observer->OnCall(whole); });
}

// The RPC is over before the call is, so that nothing of it will be used.
void UnaryRpc::TellGivenUp(Part* part) {
  CallState& state = part->call;
  if (!state.at_work || state.told) return;
  state.result.outcome = CallOutcome::kOverruled;
  state.result.overruled = Overruled::kEnded;
  TellCall(RecordOf(part->call, MonotonicNs()), part);
}

void UnaryRpc::TellEnd() {
  if (std::exchange(told_, true)) return;
  for (Part& part : parts_) TellGivenUp(&part);
  if (observers_ == nullptr) return;
  const RpcEnd end{*end_, told_end_.outcome, MonotonicNs()};
  observers_->Each([&](RpcObserver* observer) { observer->OnEnd(end); });
}

void UnaryRpc::BeginCall(Part* part, uint64_t now_ns) {
  CallSlot* const slot = part->call.slot;
  slot->call.phase = part->phase;
  service_->FillCall(*part->call.instance, &slot->call);
  slot->call.deadline_ns = now_ns + environment_->limits().hook_deadline_ms * 1000000;
  slot->may_respond = true;
  if (part->call.instance->strict()) ShowCopies(slot);
}

// The status of the hook, or of the open that refused the call.
callout_status_t UnaryRpc::OpenAndCall(Part* part) {
  CallState& state = part->call;
  uint64_t now_ns = MonotonicNs();
  if (!Open(part, &now_ns)) return state.status;
  state.stream_then = state.slot->call.stream;
  if (state.handshake().detached() && !state.handshake().OnHook()) return CALLOUT_CANCELLED;
  return state.instance->Call(&state, now_ns);
}

bool UnaryRpc::Open(Part* part, uint64_t* now_ns) {
  part->openness = Part::Openness::kOpen;
  if (!part->call.instance->has_stream_open()) return true;
  if (OpenBefore(&part->call, &part->stream, now_ns)) return true;
  part->openness = Part::Openness::kRefused;
  return false;
}

// --- Calls that take longer -----------------------------------------------------

bool UnaryRpc::NeedsThread(const Part& part) const {
  const Instance& instance = *part.call.instance;
  return instance.blocking() &&
         (instance.blocks_in(part.phase) || (instance.has_stream_open() && instance.blocks_in(0)));
}

// False: it waits, as a deferred call does, for the hook to return.
bool UnaryRpc::Dispatch(Part* part) {
  CallState& state = part->call;
  state.handshake().Begin(true);
  if (!Wait(part)) return true;
  const bool taken = environment_->blocking_pool().SubmitCall(
      [this, part](bool in_time) { RunDispatched(part, in_time); },
      state.instance->usual_ns(part->phase), deadline_ns_);
  if (taken) return false;
  environment_->RemoveDeferred();
  --calls_at_work_;
  state.at_work = false;
  deadline_ns_ = 0;
  const CallRecord record = RecordOf(part->call, 0);
  part->stream = EndCall(&part->call);
  Overload(part);
  TellCall(record, part);
  return true;
}

// On one of the pool's threads. Nobody else touches the part's openness meanwhile.
void UnaryRpc::RunDispatched(Part* part, bool in_time) {
  CallState* const state = &part->call;
  const bool cancelled = cancelled_.load(std::memory_order_relaxed);
  const bool expired = state->handshake().OnBegin(in_time);
  callout_status_t status = cancelled ? CALLOUT_CANCELLED : CALLOUT_DEADLINE_EXCEEDED;
  if (in_time && !cancelled && !expired) status = OpenAndCall(part);
  ReportDispatched(state, status);
}

// False: too many calls wait, and the part is settled.
bool UnaryRpc::Wait(Part* part) {
  CallState& state = part->call;
  if (!environment_->AddDeferred()) {
    const std::string what = DeferLimitText(*environment_);
    const CallRecord record = RecordOf(part->call, state.hook_end_ns);
    if (state.handshake().detached()) {
      environment_->RemoveDeferred();
      part->stream = EndCall(&part->call);
    } else {
      // The plugin has it, and will finish it; what it then says is ignored.
      state.handshake().OnDeadline();
      ++calls_at_work_;
      state.at_work = state.late = true;
    }
    Fault(part, {Violation::kDeferLimit, what});
    TellCall(record, part);
    return false;
  }
  ++calls_at_work_;
  state.at_work = true;
  deadline_ns_ = state.slot->call.deadline_ns;
  return true;
}

void UnaryRpc::OnPosted(CallState* call, RpcContext::Event event) {
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

void UnaryRpc::OnFinished(Part* part) {
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
  const CallRecord record = RecordOf(part->call, now_ns);
  part->stream = EndCall(&part->call);
  if (!std::exchange(state.late, false) && live()) {
    deadline_ns_ = 0;
    if (dropped) {
      Overload(part);
    } else {
      Settle(part, state.status);
    }
    TellCall(record, part);
    ++next_;
    return Run();
  }
  if (end_.has_value()) Finish();
}

void UnaryRpc::OnDeadline(uint64_t now_ns) {
  if (!live() || deadline_ns_ == 0 || deadline_ns_ > now_ns) return;
  Part* const part = &parts_[next_];
  CallHandshake& handshake = part->call.handshake();
  deadline_ns_ = 0;
  // It was finished in time after all: the event is on its way.
  if (handshake.finished() || !handshake.OnDeadline()) return;
  part->call.late = true;
  const CallRecord record = RecordOf(part->call, MonotonicNs());
  if (handshake.unbegun()) {
    Overload(part);
  } else {
    Fault(part, {Violation::kDeadline, DeadlineText(environment_->limits())});
  }
  TellCall(record, part);
  ++next_;
  Run();
}

// --- What a hook came to --------------------------------------------------------

void UnaryRpc::Settle(Part* part, callout_status_t status) {
  CallState& state = part->call;
  state.result.status = status;
  if (observers_ != nullptr) {
    const SaidView said{state, part->phase, service_->headers_for_log()};
    observers_->Each([&](RpcObserver* observer) { observer->OnSaid(said); });
  }
  const std::string text = status < 0 ? ErrorText(state, part->phase, status) : std::string();
  if (IsDecision(status)) {
    service_->TakeDenial(status, text);
    state.result.outcome = CallOutcome::kDenied;
    state.result.http_status = service_->last_effect().http_status;
    return;
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
    finding = service_->Take(state, part->phase);
  }
  if (finding.ok()) return NoteEffect(service_->last_effect(), &state.result);
  // Whatever is wrong with a refusal, or comes after it, it does not become a pass.
  if (service_->Refuses(state, part->phase)) finding.never_passes = true;
  Fault(part, std::move(finding));
}

// Applies the instance's policy, by default to fail. Even then the request is refused by a
// response: an error would let it pass where Envoy fails open.
void UnaryRpc::Fault(Part* part, Finding finding) {
  Instance& instance = *part->call.instance;
  CallResult& result = part->call.result;
  result.outcome = CallOutcome::kFault;
  result.violation = finding.violation;
  instance.CountViolation(finding.violation, part->phase, finding.what,
                          {id_, service_->headers_for_log(), rpc_, {}});
  if (observers_ != nullptr) {
    const FaultView fault{&instance, part->phase, finding.violation, finding.what};
    observers_->Each([&](RpcObserver* observer) { observer->OnFault(fault); });
  }
  // The text of an error status names plugin and phase already.
  const std::string why =
      finding.violation == Violation::kErrorStatus
          ? finding.what
          : fmt::format("plugin {}: {}{}: {}: {}", instance.name(),
                        IsInvalidResponse(finding.violation) ? "invalid response to " : "",
                        PhaseName(part->phase), ViolationName(finding.violation), finding.what);
  const ErrorPolicy policy =
      instance.settings().policy.value_or(ErrorPolicy{ErrorPolicy::Action::kFail, 0});
  if (policy.action == ErrorPolicy::Action::kContinue && !finding.never_passes) {
    result.action = policy.action;
    return service_->Pass();
  }
  int http_status = finding.http_status;
  if (http_status == 0) http_status = KindOf(finding.violation).http_status;
  if (http_status == 0) http_status = kDenyStatusDefault;
  const bool denies = policy.action == ErrorPolicy::Action::kDeny;
  if (denies) http_status = policy.http_status;
  result.action = denies ? policy.action : ErrorPolicy::Action::kFail;
  result.http_status = static_cast<uint16_t>(http_status);
  instance.CountPolicyDenial(http_status);
  service_->Refuse(http_status, why);
}

// The call was not begun, and will not be: that is nothing the plugin has done.
void UnaryRpc::Overload(Part* part) {
  Fault(part, {Violation::kOverload, OverloadText(environment_->limits())});
}

void UnaryRpc::Describe(LiveRpc* rpc) const {
  rpc->kind = InfoOf(service_->service()).name;
  rpc->stream_id = id_;
  rpc->state =
      state_ == State::kWaits ? "waits for the request" : "over; a plugin still has a call";
  if (state_ != State::kRuns || next_ >= parts_.size()) return;
  rpc->phase = PhaseName(parts_[next_].phase);
  rpc->plugin = parts_[next_].call.instance->name();
  rpc->state = "called";
}

// --- Out ------------------------------------------------------------------------

void UnaryRpc::Respond() {
  output_.push_back(service_->Write());
  const uint64_t now_ns = MonotonicNs();
  environment_->ObserveMessage(service_->phase(), now_ns - begun_ns_, now_ns, rpc_);
  if (observers_ != nullptr) {
    observers_->Each([&](RpcObserver* observer) { observer->OnResponse(0, output_.back()); });
  }
  environment_->CountRpc(service_->service(),
                         service_->allowed() ? RpcOutcome::kAllowed : RpcOutcome::kDenied);
  told_end_.outcome = CALLOUT_END_COMPLETED;
  if (!service_->allowed()) told_end_.outcome = CALLOUT_END_IMMEDIATE;
  end_ = absl::OkStatus();
  Finish();
}

void UnaryRpc::End(absl::Status status) {
  if (end_.has_value()) return;
  environment_->CountRpc(service_->service(), RpcOutcome::kError);
  told_end_.outcome = CALLOUT_END_ERROR;
  end_ = std::move(status);
  Finish();
}

// Closes what is open. Close comes after the call of an instance: not while one is deferred.
void UnaryRpc::Finish() {
  if (state_ != State::kOver) {
    told_end_.status = -static_cast<callout_status_t>(end_->code());
    if (begun_ns_ != 0) told_end_.stream_ns = MonotonicNs() - begun_ns_;
  }
  state_ = State::kOver;
  deadline_ns_ = 0;
  TellEnd();
  if (closed_ || closing_ > 0 || calls_at_work_ > 0) return;
  for (Part& part : parts_) ClosePart(&part);
  closed_ = closing_ == 0;
}

void UnaryRpc::ClosePart(Part* part) {
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
    return ReleaseSlot(*part->call.instance, slot, CallSlots::Reuse::kSoon);
  }
  ++closing_;
  environment_->blocking_pool().Submit([this, part, state, slot, end] {
    state->instance->CloseStream(&slot->call, end);
    ReleaseSlot(*part->call.instance, slot, CallSlots::Reuse::kSoon);
    state->rpc->Post(state, RpcContext::Event::kClosed);
  });
}

}  // namespace callout::host
