// The way of a message through the chain: which instance is called when, on
// which thread, and how long it may take.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/plugin/call_log.h"
#include "host/plugin/services.h"
#include "host/stream/stream.h"
#include "host/wire/annotations.h"
#include "host/wire/mutation.h"

namespace callout::host {

namespace {

void WarnOfFinish(const CallState& state, callout_status_t status) {
  if ((state.flags.load(std::memory_order_acquire) & CallState::kFinished) == 0) return;
  LogLimited(LogLevel::kWarning, fmt::format("{}/finish", state.instance->name()),
             "plugin {}: {} called finish() and then returned {} instead of CALLOUT_DEFERRED; "
             "finish() is ignored",
             state.instance->name(), PhaseName(state.call.phase), StatusName(status));
}

}  // namespace

void Stream::InitializeState(Instance* instance, CallState* state) {
  state->instance = instance;
  state->rpc = rpc_;
  state->cancelled = &cancelled_;
  state->stream_id = id_;
  instance->Prepare(state);
}

Stream::Part& Stream::PartAt(const ChainMessage& message, size_t position) {
  // Response phases go through the chain backwards, as Envoy runs its filters.
  return parts_[IsRequestPhase(message.phase) ? position : parts_.size() - 1 - position];
}

Stream::Part* Stream::PartOf(const CallState* state) {
  Part* part = parts_.data();
  while (&part->state != state) ++part;
  return part;
}

// --- From instance to instance ----------------------------------------------

void Stream::Run() {
  while (busy_) {
    ChainMessage* message = ahead_.empty() ? &root_ : ahead_.front().get();
    switch (Advance(message)) {
      case Progress::kDone:
        if (message == &root_) return Release();
        ahead_.erase(ahead_.begin());
        break;
      case Progress::kWaits:
        // Unless its hook has sent something ahead before it deferred.
        if (!HasAheadOf(*message)) return UpdateDeadline();
        break;
      case Progress::kAhead:
        break;
      case Progress::kStopped:
        return UpdateDeadline();
    }
  }
}

Stream::Progress Stream::Advance(ChainMessage* message) {
  if (message->waiting) return Progress::kWaits;
  do {
    while (message->position < parts_.size()) {
      const Step step = Visit(message, &PartAt(*message, message->position));
      if (!busy_) return Progress::kStopped;
      if (step == Step::kWaits) return Progress::kWaits;
      if (step == Step::kAhead) return Progress::kAhead;
      StepOn(message);
      if (HasAheadOf(*message)) return Progress::kAhead;
    }
  } while (BeginReplacedBody(message));
  EmitResponse(message);
  return Progress::kDone;
}

// To the next instance that is to see the message.
void Stream::StepOn(ChainMessage* message) {
  ++message->position;
  if (message->dropped || message->alone) message->position = parts_.size();
}

bool Stream::HasAheadOf(const ChainMessage& message) const {
  return !ahead_.empty() && ahead_.front().get() != &message;
}

void Stream::PutAhead(const ChainMessage& of, std::unique_ptr<ChainMessage> message) {
  const auto at = std::find_if(ahead_.begin(), ahead_.end(),
                               [&of](const auto& other) { return other.get() == &of; });
  ahead_.insert(at, std::move(message));
}

// Whether an instance after the one at `message.position` is to see it.
bool Stream::HasLaterReader(const ChainMessage& message) {
  for (size_t i = message.position + 1; i < parts_.size(); ++i) {
    const Part& part = PartAt(message, i);
    if (part.usable && part.state.instance->Wants(message.phase)) return true;
  }
  return false;
}

// CONTINUE_AND_REPLACE gives the body to Envoy with the headers, and no body
// message will come. In a chain of filters the later ones would be sent the new
// body; so the later instances are called with it here.
bool Stream::BeginReplacedBody(ChainMessage* message) {
  if (!IsHeadersPhase(message->phase) || !message->response.continue_and_replace()) return false;
  exchange_.direction(message->phase).replaced = true;
  if (message->response.body_mutation() == ResponseView::Body::kUnchanged ||
      message->body_mode == CALLOUT_BODY_NONE || exchange_.observability()) {
    return false;
  }
  const callout_phase_t body_phase =
      IsRequestPhase(message->phase) ? CALLOUT_REQUEST_BODY : CALLOUT_RESPONSE_BODY;
  message->phase = body_phase;
  message->position = message->replace_position;
  if (!HasLaterReader(*message)) return false;
  ++message->position;
  message->end_of_stream = true;
  message->whole_body = true;
  message->message = {};
  message->RebuildAroundBody(message->response.body(), nullptr);
  return true;
}

Stream::Step Stream::Visit(ChainMessage* message, Part* part) {
  if (IsTrailersPhase(message->phase) && !part->gathered[DirectionOf(*message)].empty()) {
    return FlushGathered(message, part);
  }
  if (message->hidden) return Step::kPassed;
  if (!part->usable) {
    if (IsBodyPhase(message->phase)) GiveBack(message, part);
    return Step::kPassed;
  }
  if (!part->state.instance->Wants(message->phase)) return Step::kPassed;
  const bool gathers = IsBodyPhase(message->phase) &&
                       part->state.instance->whole_body_bytes_max() > 0 &&
                       message->gathered_position != message->position;
  if (gathers && !Gather(message, part)) return Step::kPassed;
  return Invoke(message, part);
}

// --- One call ---------------------------------------------------------------

Stream::Step Stream::Invoke(ChainMessage* message, Part* part) {
  CallState& state = part->state;
  uint64_t now_ns = MonotonicNs();
  state.Begin();
  FillCall(*message, part, now_ns);
  if (state.instance->BlocksIn(message->phase)) return Dispatch(message, part);
  OpenPart(part, &now_ns);
  if (part->openness == Part::Openness::kRefused) {
    part->usable = false;
    Settle(message, part, state.status);
    return Step::kPassed;
  }
  const callout_status_t status = state.instance->Call(&state, now_ns);
  if (status == CALLOUT_DEFERRED) {
    part->stream_then = state.call.stream;
    part->open_then = true;
    const uint32_t before = state.flags.fetch_or(CallState::kReturned, std::memory_order_acq_rel);
    if ((before & CallState::kFinished) == 0) {
      Wait(message, part);
      if (message->waiting) TakeSent(message, part);
      return busy_ && !message->waiting ? Step::kPassed : Step::kWaits;
    }
    TakeSent(message, part);
    if (busy_) Settle(message, part, state.status);
    return Step::kPassed;
  }
  WarnOfFinish(state, status);
  TakeSent(message, part);
  if (busy_) Settle(message, part, status);
  return Step::kPassed;
}

// Opens the instance's part of the stream before its first call, which moves the
// time on; what that comes to, if it refuses, is in state.status.
void Stream::OpenPart(Part* part, uint64_t* now_ns) {
  if (part->openness != Part::Openness::kUnopened) return;
  part->openness = Part::Openness::kOpen;
  CallState& state = part->state;
  if (!state.instance->has_stream_open()) return;
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
  if (status >= 0) return;
  state.status = status;
  part->openness = Part::Openness::kRefused;
}

void Stream::FillCall(const ChainMessage& message, Part* part, uint64_t now_ns) {
  const size_t way = DirectionOf(message);
  const bool is_body = IsBodyPhase(message.phase);
  callout_call_t& call = part->state.call;
  call.phase = message.phase;
  call.message = ToBytes(message.message);
  call.request = ToBytes(message.request);
  call.attributes = attributes_ == nullptr ? callout_bytes_t{} : ToBytes(*attributes_);
  call.metadata_context =
      metadata_context_ == nullptr ? callout_bytes_t{} : ToBytes(*metadata_context_);
  call.body_offset = is_body ? part->body_offset[way] : 0;
  call.body_mode = message.body_mode;
  call.deadline_ns = now_ns + environment_->limits().hook_deadline_ms * 1000000;
  const bool first = !is_body || !part->body_called[way];
  const bool whole = is_body && (message.whole_body || (first && message.end_of_stream));
  call.flags = (first ? CALLOUT_CALL_FIRST : 0) | (message.end_of_stream ? CALLOUT_CALL_LAST : 0) |
               (whole ? CALLOUT_CALL_WHOLE_BODY : 0) |
               (exchange_.observability() ? CALLOUT_CALL_OBSERVABILITY : 0);
  part->state.may_respond = true;
  if (is_body) {
    part->body_called[way] = true;
    part->body_offset[way] += message.body.size();
  }
}

// --- Calls that take longer -------------------------------------------------

// Gives the call to the pool. From here on it is like a deferred one, finished
// when the hook returns.
Stream::Step Stream::Dispatch(ChainMessage* message, Part* part) {
  CallState& state = part->state;
  state.flags.store(CallState::kDetached, std::memory_order_relaxed);
  part->stream_then = state.call.stream;
  part->open_then = part->openness == Part::Openness::kOpen;
  Wait(message, part);
  if (!message->waiting) {
    // Over the limit: nothing was started, so nothing will be finished.
    part->late = false;
    part->usable = true;
    environment_->RemoveDeferred();
    if (end_.has_value()) CloseIfIdle();
    return Step::kPassed;
  }
  const bool taken = environment_->blocking_pool().SubmitCall(
      [this, part](bool in_time) { RunDispatched(part, in_time); },
      state.instance->usual_ns(message->phase), part->deadline_ns);
  if (taken) return Step::kWaits;
  message->waiting = false;
  part->waiting = nullptr;
  part->deadline_ns = 0;
  environment_->RemoveDeferred();
  Overload(message, part);
  return Step::kPassed;
}

// The call was not begun, and will not be: that is nothing the plugin has done.
void Stream::Overload(ChainMessage* message, Part* part) {
  Fault(message, part, Violation::kOverload,
        absl::UnavailableError(fmt::format(
            "no thread was free to call plugin {} for {} within --hook_deadline_ms={}; "
            "--blocking_threads={}",
            part->state.instance->name(), PhaseName(message->phase),
            environment_->limits().hook_deadline_ms, environment_->limits().blocking_threads_max)));
}

// On one of the pool's threads.
void Stream::RunDispatched(Part* part, bool in_time) {
  CallState& state = part->state;
  // Nobody waits for an answer that comes too late.
  const bool cancelled = cancelled_.load(std::memory_order_relaxed);
  const uint32_t mark = in_time ? CallState::kBegun : CallState::kDropped;
  const bool expired =
      (state.flags.fetch_or(mark, std::memory_order_acq_rel) & CallState::kExpired) != 0;
  callout_status_t status = cancelled ? CALLOUT_CANCELLED : CALLOUT_DEADLINE_EXCEEDED;
  if (in_time && !cancelled && !expired) {
    uint64_t now_ns = MonotonicNs();
    OpenPart(part, &now_ns);
    status = part->openness == Part::Openness::kRefused ? state.status
                                                        : state.instance->Call(&state, now_ns);
  }
  if (status == CALLOUT_DEFERRED) {
    const uint32_t before = state.flags.fetch_or(CallState::kReturned, std::memory_order_acq_rel);
    if ((before & CallState::kFinished) == 0) return;
  } else {
    WarnOfFinish(state, status);
    state.status = status;
    state.flags.fetch_or(CallState::kFinished, std::memory_order_acq_rel);
  }
  state.rpc->Post(&state, RpcContext::Event::kFinished);
}

void Stream::Wait(ChainMessage* message, Part* part) {
  message->waiting = true;
  part->waiting = message;
  part->deadline_ns = part->state.call.deadline_ns;
  if (!environment_->AddDeferred()) return Expire(part, true);
  AskForTime(message, part);
}

// Envoy takes one override_message_timeout for each message, and none where it
// runs no timer.
void Stream::AskForTime(ChainMessage* message, Part* part) {
  if (message != &root_ || message->asked_for_time || exchange_.observability() ||
      message->body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED) {
    return;
  }
  const bool detached =
      (part->state.flags.load(std::memory_order_relaxed) & CallState::kDetached) != 0;
  const uint64_t wanted_ms = detached ? 0 : part->state.timeout_ms.load(std::memory_order_acquire);
  const uint64_t timeout_ms = wanted_ms > 0 ? wanted_ms : environment_->limits().defer_budget_ms;
  if (timeout_ms == 0) return;
  message->asked_for_time = true;
  part->deadline_ns += timeout_ms * 1000000;
  output_.push_back(WriteTimeoutResponse(timeout_ms));
}

void Stream::OnPosted(CallState* call, RpcContext::Event event) {
  switch (event) {
    case RpcContext::Event::kSent: {
      Part* part = PartOf(call);
      if (part->waiting == nullptr || !busy_) return;
      TakeSent(part->waiting, part);
      return Run();
    }
    case RpcContext::Event::kFinished:
      return OnFinished(PartOf(call));
    case RpcContext::Event::kClosed:
      closed_ = --closing_ == 0;
      return;
  }
}

void Stream::OnFinished(Part* part) {
  environment_->RemoveDeferred();
  ChainMessage* message = std::exchange(part->waiting, nullptr);
  part->deadline_ns = 0;
  UpdateDeadline();
  if (std::exchange(part->late, false) || !busy_) return CloseIfIdle();
  message->waiting = false;
  if (part->openness == Part::Openness::kRefused) part->usable = false;
  if ((part->state.flags.load(std::memory_order_acquire) & CallState::kDropped) != 0) {
    Overload(message, part);
  } else {
    TakeSent(message, part);
    if (busy_) Settle(message, part, part->state.status);
  }
  StepOn(message);
  Run();
}

void Stream::OnDeadline(uint64_t now_ns) {
  for (size_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    if (part.waiting == nullptr || part.deadline_ns == 0 || now_ns < part.deadline_ns) continue;
    ChainMessage* message = part.waiting;
    Expire(&part, false);
    if (part.waiting != nullptr || !busy_) continue;
    StepOn(message);
    Run();
  }
  UpdateDeadline();
}

// Answers for the instance, whose own answer is ignored when it comes.
void Stream::Expire(Part* part, bool over_limit) {
  const uint32_t before =
      part->state.flags.fetch_or(CallState::kExpired, std::memory_order_acq_rel);
  part->deadline_ns = 0;
  // It was finished in time after all: the event is on its way.
  if ((before & CallState::kFinished) != 0 && !over_limit) return;
  ChainMessage* message = std::exchange(part->waiting, nullptr);
  message->waiting = false;
  part->late = true;
  part->usable = false;
  if (!busy_) return;
  Retain(*message, part);
  const Instance& instance = *part->state.instance;
  if (over_limit) {
    return Fault(
        message, part, Violation::kDeferLimit,
        absl::ResourceExhaustedError(fmt::format("plugin {} could not defer {}: as many calls as "
                                                 "--max_deferred={} allows are deferred",
                                                 instance.name(), PhaseName(message->phase),
                                                 environment_->limits().deferred_max)));
  }
  const bool begun = (before & (CallState::kDetached | CallState::kBegun)) != CallState::kDetached;
  if (!begun) return Overload(message, part);
  Fault(message, part, Violation::kDeadline,
        absl::DeadlineExceededError(
            fmt::format("plugin {} did not finish {} within --hook_deadline_ms={}", instance.name(),
                        PhaseName(message->phase), environment_->limits().hook_deadline_ms)));
}

// The plugin of an expired call may go on reading what it was given.
void Stream::Retain(const ChainMessage& message, Part* part) {
  rpc_->RetainMessage();
  for (const SharedBytes& bytes : {message.request_owner, message.message_owner, message.body_owner,
                                   attributes_, metadata_context_}) {
    if (bytes != nullptr) part->retained.push_back(bytes);
  }
}

void Stream::UpdateDeadline() {
  deadline_ns_ = 0;
  if (end_.has_value()) return;
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    if (part.waiting == nullptr || part.deadline_ns == 0) continue;
    if (deadline_ns_ == 0 || part.deadline_ns < deadline_ns_) deadline_ns_ = part.deadline_ns;
  }
}

}  // namespace callout::host
