// SPDX-License-Identifier: Apache-2.0

#include "host/unary/unary_rpc.h"

#include <fmt/format.h>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/plugin/call_log.h"
#include "host/plugin/hook_status.h"
#include "host/stream/fault_kinds.h"

namespace callout::host {

UnaryRpc::UnaryRpc(StreamEnvironment* environment, RpcContext* rpc,
                   std::unique_ptr<UnaryService> service)
    : environment_(environment),
      rpc_(rpc),
      service_(std::move(service)),
      chain_(environment->chains().current()),
      parts_(chain_->instances.size()),
      id_(environment->NextStreamId()) {
  for (size_t i = 0; i < parts_.size(); ++i) {
    CallState& state = parts_[i].call;
    state.instance = chain_->instances[i].get();
    state.rpc = rpc_;
    state.cancelled = &cancelled_;
    state.stream_id = id_;
    state.part = i;
    state.sent_bytes_max = environment_->limits().sent_bytes_max;
    state.instance->Prepare(&state);
  }
  environment_->CountRpc(service_->service(), RpcOutcome::kStarted);
}

UnaryRpc::~UnaryRpc() = default;

// --- In -----------------------------------------------------------------------

void UnaryRpc::OnMessage(std::string_view bytes) {
  if (!wants_message()) return;
  state_ = State::kRuns;
  if (absl::Status status = service_->Begin(bytes); !status.ok()) {
    if (!absl::IsResourceExhausted(status)) return End(std::move(status));
    // The doing of Envoy's client, which an error would let pass where Envoy fails open.
    constexpr int kHeadersTooLarge = 431;
    environment_->metrics().Add(environment_->ids().messages_refused);
    service_->Refuse(kHeadersTooLarge, MessageOf(status));
    return Respond();
  }
  Run();
}

void UnaryRpc::OnHalfClose() {
  if (wants_message()) End(absl::InternalError("the RPC came without a request"));
}

void UnaryRpc::OnCancel() {
  cancelled_.store(true, std::memory_order_relaxed);
  if (end_.has_value()) return;
  environment_->CountRpc(service_->service(), RpcOutcome::kCancelled);
  end_ = absl::CancelledError("the client has left");
  output_.clear();
  for (Part& part : parts_) {
    if (!part.at_work || !part.open_then || !part.call.instance->has_stream_cancel()) continue;
    // The call itself belongs to the plugin; the hook gets one of its own.
    CallState state;
    state.instance = part.call.instance;
    state.rpc = rpc_;
    state.cancelled = &cancelled_;
    state.stream_id = id_;
    state.part = part.call.part;
    state.instance->Prepare(&state);
    state.call.stream = part.stream_then;
    state.instance->CancelStream(&state);
  }
  Finish();
}

void UnaryRpc::OnDrainDeadline() {
  if (end_.has_value()) return;
  End(absl::UnavailableError("the server drains, and its time is up (--drain_timeout_ms)"));
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
  if (role == UnaryService::Role::kCalled) return Invoke(part);
  part->call.Begin();
  service_->FillCall(instance, &part->call.call);
  Fault(part, {Violation::kNotCarried, service_->WhyNot(instance)});
  return true;
}

bool UnaryRpc::Invoke(Part* part) {
  CallState& state = part->call;
  state.Begin();
  BeginCall(part, MonotonicNs());
  if (NeedsThread(*part)) return Dispatch(part);
  const callout_status_t status = OpenAndCall(part);
  if (status == CALLOUT_DEFERRED) {
    part->stream_then = state.call.stream;
    part->open_then = true;
    if (!state.handshake.OnReturn()) return !Wait(part);
  } else {
    WarnOfFinish(state, status);
    state.status = status;
  }
  Settle(part, state.status);
  return true;
}

void UnaryRpc::BeginCall(Part* part, uint64_t now_ns) {
  callout_call_t& call = part->call.call;
  service_->FillCall(*part->call.instance, &call);
  call.deadline_ns = now_ns + environment_->limits().hook_deadline_ms * 1000000;
  part->call.may_respond = true;
}

// The status of the hook, or of the open that refused the call.
callout_status_t UnaryRpc::OpenAndCall(Part* part) {
  uint64_t now_ns = MonotonicNs();
  if (!Open(part, &now_ns)) return part->call.status;
  return part->call.instance->Call(&part->call, now_ns);
}

bool UnaryRpc::Open(Part* part, uint64_t* now_ns) {
  part->openness = Part::Openness::kOpen;
  CallState& state = part->call;
  if (!state.instance->has_stream_open()) return true;
  const callout_call_t call = state.call;
  state.call.phase = 0;
  state.call.message = state.call.request = {};
  state.may_respond = false;
  const callout_status_t status = state.instance->OpenStream(&state, *now_ns);
  *now_ns = MonotonicNs();
  void* const stream = state.call.stream;
  state.call = call;
  state.call.stream = stream;
  state.may_respond = true;
  if (status >= 0) return true;
  state.status = status;
  part->openness = Part::Openness::kRefused;
  return false;
}

// --- Calls that take longer -----------------------------------------------------

bool UnaryRpc::NeedsThread(const Part& part) const {
  const Instance& instance = *part.call.instance;
  return instance.blocking() && (instance.blocks_in(part.call.call.phase) ||
                                 (instance.has_stream_open() && instance.blocks_in(0)));
}

// False: it waits, as a deferred call does, for the hook to return.
bool UnaryRpc::Dispatch(Part* part) {
  CallState& state = part->call;
  state.handshake.Begin(true);
  if (!Wait(part)) return true;
  const bool taken = environment_->blocking_pool().SubmitCall(
      [this, part](bool in_time) { RunDispatched(part, in_time); },
      state.instance->usual_ns(state.call.phase), state.call.deadline_ns);
  if (taken) return false;
  environment_->RemoveDeferred();
  --calls_at_work_;
  state.at_work = part->at_work = false;
  deadline_ns_ = 0;
  Overload(part);
  return true;
}

// On one of the pool's threads. Nobody else touches the part's openness meanwhile.
void UnaryRpc::RunDispatched(Part* part, bool in_time) {
  CallState* const state = &part->call;
  const bool cancelled = cancelled_.load(std::memory_order_relaxed);
  const bool expired = state->handshake.OnBegin(in_time);
  callout_status_t status = cancelled ? CALLOUT_CANCELLED : CALLOUT_DEADLINE_EXCEEDED;
  if (in_time && !cancelled && !expired) status = OpenAndCall(part);
  if (status == CALLOUT_DEFERRED) {
    if (!state->handshake.OnReturn()) return;
  } else {
    WarnOfFinish(*state, status);
    state->status = status;
    bool ignored = false;
    state->handshake.OnFinish(&ignored);
  }
  state->rpc->Post(state, RpcContext::Event::kFinished);
}

// False: too many calls wait, and the part is settled.
bool UnaryRpc::Wait(Part* part) {
  CallState& state = part->call;
  if (!environment_->AddDeferred()) {
    if (state.handshake.detached()) {
      environment_->RemoveDeferred();
    } else {
      // The plugin has it, and will finish it; what it then says is ignored.
      state.handshake.OnDeadline();
      ++calls_at_work_;
      state.at_work = part->at_work = state.late = true;
    }
    const std::string what =
        fmt::format("{} calls are deferred, limit --max_deferred={}", environment_->deferred(),
                    environment_->limits().deferred_max);
    Fault(part, {Violation::kDeferLimit, what});
    return false;
  }
  ++calls_at_work_;
  state.at_work = part->at_work = true;
  deadline_ns_ = state.call.deadline_ns;
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
  state.at_work = part->at_work = false;
  if (!std::exchange(state.late, false) && live()) {
    deadline_ns_ = 0;
    if (state.handshake.dropped()) {
      Overload(part);
    } else {
      Settle(part, state.status);
    }
    ++next_;
    return Run();
  }
  if (end_.has_value()) Finish();
}

void UnaryRpc::OnDeadline(uint64_t now_ns) {
  if (!live() || deadline_ns_ == 0 || deadline_ns_ > now_ns) return;
  Part* const part = &parts_[next_];
  deadline_ns_ = 0;
  // Not expired after all: the event is on its way.
  if (part->call.handshake.finished() || !part->call.handshake.OnDeadline()) return;
  part->call.late = true;
  if (part->call.handshake.unbegun()) {
    Overload(part);
  } else {
    Fault(
        part,
        {Violation::kDeadline, fmt::format("not finished within --hook_deadline_ms={}",
                                           environment_->limits().hook_deadline_ms)},
        absl::DeadlineExceededError(fmt::format(
            "plugin {}: {}: not finished within --hook_deadline_ms={}", part->call.instance->name(),
            PhaseName(part->call.call.phase), environment_->limits().hook_deadline_ms)));
  }
  ++next_;
  Run();
}

// --- What a hook came to --------------------------------------------------------

void UnaryRpc::Settle(Part* part, callout_status_t status) {
  CallState& state = part->call;
  if (status < 0) {
    const std::string text = ErrorText(state, status);
    if (IsDecision(status)) return service_->TakeDenial(status, text);
    return Fault(part, {Violation::kErrorStatus, text}, absl::Status(ToStatusCode(status), text));
  }
  Finding finding;
  if (state.fault == ResponseFault::kTooLarge) {
    finding = {Violation::kTooLarge,
               fmt::format("over --max_message_bytes={}", state.instance->message_bytes_max())};
  } else if (state.fault == ResponseFault::kMalformed) {
    finding = {Violation::kMalformed, "the whole response is malformed protobuf"};
  } else if (status != CALLOUT_OK) {
    finding = {Violation::kBadStatus, fmt::format("the hook returned {}", StatusName(status))};
  } else if (!state.sent.empty()) {
    finding = {Violation::kSecondResponse, "send() in a service that takes one response"};
  } else {
    finding = service_->Take(state);
  }
  if (!finding.ok()) Fault(part, std::move(finding));
}

// Applies the instance's policy, by default to fail. `status` is how the RPC then ends, if
// the request is not refused by a response; OK: made of `finding`.
void UnaryRpc::Fault(Part* part, Finding finding, absl::Status status) {
  Instance& instance = *part->call.instance;
  const callout_phase_t phase = part->call.call.phase;
  instance.CountViolation(finding.violation, phase, finding.what,
                          {id_, service_->headers_for_log()});
  if (status.ok()) {
    status = absl::InternalError(
        fmt::format("plugin {}: {}{}: {}: {}", instance.name(),
                    IsInvalidResponse(finding.violation) ? "invalid response to " : "",
                    PhaseName(phase), ViolationName(finding.violation), finding.what));
  }
  ErrorPolicy policy =
      instance.settings().policy.value_or(ErrorPolicy{ErrorPolicy::Action::kFail, 0});
  if (finding.client_decides && policy.action == ErrorPolicy::Action::kContinue) {
    policy.action = ErrorPolicy::Action::kFail;
  }
  const int http_status =
      finding.http_status != 0 ? finding.http_status : KindOf(finding.violation).http_status;
  switch (policy.action) {
    case ErrorPolicy::Action::kContinue:
      return service_->Pass();
    case ErrorPolicy::Action::kDeny:
      return service_->Refuse(policy.http_status, MessageOf(status));
    case ErrorPolicy::Action::kFail:
      if (http_status == 0) return End(std::move(status));
      return service_->Refuse(http_status, MessageOf(status));
  }
}

// The call was not begun, and will not be: that is nothing the plugin has done.
void UnaryRpc::Overload(Part* part) {
  const std::string what = fmt::format(
      "not called: no thread was free for it within --hook_deadline_ms={}; --blocking_threads={}",
      environment_->limits().hook_deadline_ms, environment_->limits().blocking_threads_max);
  Fault(part, {Violation::kOverload, what});
}

// --- Out ------------------------------------------------------------------------

void UnaryRpc::Respond() {
  output_.push_back(service_->Write());
  environment_->CountRpc(service_->service(),
                         service_->allowed() ? RpcOutcome::kAllowed : RpcOutcome::kDenied);
  end_ = absl::OkStatus();
  Finish();
}

void UnaryRpc::End(absl::Status status) {
  if (end_.has_value()) return;
  environment_->CountRpc(service_->service(), RpcOutcome::kError);
  end_ = std::move(status);
  Finish();
}

// Closes what is open. Close comes after the call of an instance: not while one is deferred.
void UnaryRpc::Finish() {
  state_ = State::kOver;
  deadline_ns_ = 0;
  if (closed_ || closing_ > 0 || calls_at_work_ > 0) return;
  for (Part& part : parts_) ClosePart(&part);
  closed_ = closing_ == 0;
}

void UnaryRpc::ClosePart(Part* part) {
  if (part->openness != Part::Openness::kOpen) return;
  part->openness = Part::Openness::kUnopened;
  CallState* const state = &part->call;
  state->may_respond = false;
  if (!state->instance->blocking() || !state->instance->has_stream_close()) {
    return state->instance->CloseStream(state);
  }
  ++closing_;
  environment_->blocking_pool().Submit([state] {
    state->instance->CloseStream(state);
    state->rpc->Post(state, RpcContext::Event::kClosed);
  });
}

}  // namespace callout::host
