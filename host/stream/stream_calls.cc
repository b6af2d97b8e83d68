// SPDX-License-Identifier: Apache-2.0

// Calls: on which thread a hook runs, how long it may take, and what becomes of one
// that takes longer.
//
// Tested by tests/host/stream/stream_test.cc.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/plugin/hook_status.h"
#include "host/plugin/services.h"
#include "host/stream/call_steps.h"
#include "host/stream/stream.h"
#include "host/wire/annotations.h"

namespace callout::host {

void Stream::InitializeState(size_t part, CallState* state) {
  state->instance = parts_[part].instance;
  state->rpc = rpc_;
  state->cancelled = &cancelled_;
  state->stream_id = id_;
  state->part = part;
  state->sent_bytes_max = environment_->limits().sent_bytes_max;
  state->observers = observers_.get();
}

// The plugin has no more to do with the call.
void Stream::EndPartCall(Part* part, CallState* state) {
  state->opens = false;
  state->retained.clear();
  KeepStreamPointer(part, EndCall(state));
}

// Calls of two directions at once would overwrite each other's: there the first to set
// it does so for the whole stream.
void Stream::KeepStreamPointer(Part* part, void* stream) {
  if (part->response_call == nullptr || part->stream == nullptr) part->stream = stream;
}

// Whether the message has to wait until the instance is done with another one. Its hooks
// never overlap on one stream, unless it takes both directions at once; and then not
// before it has been opened.
bool Stream::IsBusy(const ChainMessage& message, const Part& part) {
  const size_t way = DirectionOf(message);
  if (part.CallOf(way).at_work) return true;
  const CallState& other = part.CallOf(1 - way);
  return other.at_work && other.opens;
}

// --- One call ---------------------------------------------------------------

Stream::Step Stream::Invoke(ChainMessage* message, Part* part) {
  CallState& state = CallOf(*message, part);
  uint64_t now_ns = MonotonicNs();
  if (message->since_ns == 0) message->since_ns = now_ns;
  state.Begin(now_ns);
  state.slot = TakeSlot(part->stream, &state);
  FillCall(*message, part, now_ns);
  // The client may have taken what an earlier call sent.
  if (state.unsent_bytes.load(std::memory_order_relaxed) != 0) NoteUnsent(*message, &state);
  if (NeedsThread(*message, *part)) return Dispatch(message, part);
  OpenPart(part, &state, &now_ns);
  if (part->openness == Part::Openness::kRefused) {
    part->usable = false;
    EndPartCall(part, &state);
    BeginSettling(message, part, now_ns, {});
    Settle(message, part, state.status);
    TellCall();
    return Step::kPassed;
  }
  state.stream_then = state.slot->call.stream;
  const callout_status_t status = state.instance->Call(&state, now_ns);
  CallKind kind;
  if (status == CALLOUT_DEFERRED) {
    // A first call may have made what later ones keep, for a cancel to find.
    if (state.stream_then == nullptr) state.stream_then = state.slot->call.stream;
    if (part->response_call != nullptr) KeepStreamPointer(part, state.stream_then);
    if (!state.handshake().OnReturn()) {
      if (!Wait(message, part)) return Step::kPassed;
      TakeSentMeanwhile(message, part);
      return Step::kWaits;
    }
    state.status = state.slot->finish_status;
    kind.deferred = true;
  } else {
    WarnOfFinish(state, status);
    state.status = status;
  }
  EndPartCall(part, &state);
  BeginSettling(message, part, state.hook_end_ns, kind);
  TakeSent(message, part);
  if (live()) Settle(message, part, state.status);
  TellCall();
  return Step::kPassed;
}

// --- What came of a call ----------------------------------------------------

// From here on what comes of the call is noted in its state, until TellCall.
void Stream::BeginSettling(ChainMessage* message, Part* part, uint64_t end_ns,
                           const CallKind& kind) {
  CallState& state = CallOf(*message, part);
  settling_.state = &state;
  CallRecord& record = settling_.record;
  record.instance = part->instance;
  record.state = &state;
  record.stream_id = id_;
  record.rpc = rpc_;
  record.position = state.part;
  record.phase = message->phase;
  record.begin_ns = state.begin_ns;
  record.end_ns = end_ns;
  record.deferred = kind.deferred;
  record.blocking = kind.blocking;
  record.begun = kind.begun;
  record.message_bytes = message->message.size();
  // A hook that has not returned holds its thread, which may write its state.
  record.hook_ns = !kind.running ? state.hook_ns : kind.begun ? record.taken_ns() : 0;
  message->called_ns = end_ns;
}

// The end of every call passes here, once.
void Stream::TellCall() {
  CallState* const state = std::exchange(settling_.state, nullptr);
  if (state == nullptr) return;
  CallRecord& record = settling_.record;
  state->told = true;
  record.result = state->result;
  state->instance->CountCall(record);
  if (observers_ == nullptr) return;
  observers_->Each([&](RpcObserver* observer) { observer->OnCall(record); });
}

// The same for a call that its plugin, or the pool, still has.
void Stream::BeginGivingUp(ChainMessage* message, Part* part, bool begun) {
  const CallState& state = CallOf(*message, part);
  if (state.told) return;
  const CallHandshake& handshake = state.handshake();
  const bool blocking = handshake.detached();
  const bool running = blocking && !handshake.returned() && !handshake.over();
  BeginSettling(message, part, MonotonicNs(), {handshake.returned(), blocking, begun, running});
}

// The exchange is over before the call is, so that nothing of it will be used.
void Stream::TellGivenUp(ChainMessage* message, Part* part) {
  const CallHandshake& handshake = CallOf(*message, part).handshake();
  BeginGivingUp(message, part, !handshake.unbegun());
  if (settling_.state == nullptr) return;
  CallResult& result = settling_.state->result;
  if (result.outcome != CallOutcome::kFault) {
    result.outcome = CallOutcome::kOverruled;
    result.overruled = Overruled::kEnded;
  }
  TellCall();
}

// The phase's hook waits, or the open that comes before the first call does.
bool Stream::NeedsThread(const ChainMessage& message, const Part& part) {
  const Instance& instance = *part.instance;
  if (!instance.blocking()) return false;
  const bool opens = part.openness == Part::Openness::kUnopened && instance.has_stream_open();
  return instance.blocks_in(message.phase) || (opens && instance.blocks_in(0));
}

// Opens the instance's part of the stream before its first call, which moves the
// time on; what that comes to, if it refuses, is in the call's status. On the thread of
// the call.
void Stream::OpenPart(Part* part, CallState* state, uint64_t* now_ns) {
  if (part->openness != Part::Openness::kUnopened) return;
  part->openness = Part::Openness::kOpen;
  if (!part->instance->has_stream_open()) return;
  if (!OpenBefore(state, &part->stream, now_ns)) part->openness = Part::Openness::kRefused;
}

void Stream::FillCall(const ChainMessage& message, Part* part, uint64_t now_ns) {
  Stage& stage = StageOf(message, part);
  const bool is_body = IsBodyPhase(message.phase);
  CallSlot* const slot = CallOf(message, part).slot;
  callout_call_t& call = slot->call;
  call.phase = message.phase;
  call.message = ToBytes(message.message);
  call.request = ToBytes(message.request);
  if (attributes_ != nullptr) call.attributes = ToBytes(*attributes_);
  if (metadata_context_ != nullptr) call.metadata_context = ToBytes(*metadata_context_);
  call.body_offset = is_body ? stage.body_offset : 0;
  call.body_mode = message.body_mode;
  call.deadline_ns = now_ns + environment_->limits().hook_deadline_ms * 1000000;
  const bool first = !is_body || !stage.body_called;
  // An instance before this one may have sent a part of a whole body ahead.
  const bool whole = is_body && first && (message.whole_body || message.end_of_stream);
  call.flags = (first ? CALLOUT_CALL_FIRST : 0) | (message.end_of_stream ? CALLOUT_CALL_LAST : 0) |
               (whole ? CALLOUT_CALL_WHOLE_BODY : 0) |
               (exchange_.observability() ? CALLOUT_CALL_OBSERVABILITY : 0);
  if (!IsRequestPhase(message.phase) && part->instance->wants(CALLOUT_WANT_REQUEST_HEADERS)) {
    call.request_headers = ToBytes(request_headers_);
  }
  slot->may_respond = true;
  if (part->instance->strict()) ShowCopies(slot);
  if (is_body) {
    stage.body_called = true;
    stage.body_offset += message.body.size();
  }
}

// --- Calls that take longer -------------------------------------------------

// Gives the call to the pool. From here on it is like a deferred one, finished
// when the hook returns.
Stream::Step Stream::Dispatch(ChainMessage* message, Part* part) {
  CallState& state = CallOf(*message, part);
  state.handshake().Begin(true);
  state.opens = part->openness == Part::Openness::kUnopened;
  if (!Wait(message, part)) return Step::kPassed;
  const bool taken = environment_->blocking_pool().SubmitCall(
      [this, part, call = &state](bool in_time) { RunDispatched(part, call, in_time); },
      state.instance->usual_ns(message->phase), message->deadline_ns);
  if (taken) return Step::kWaits;
  environment_->RemoveDeferred();
  --calls_at_work_;
  state.at_work = false;
  state.message = nullptr;
  EndPartCall(part, &state);
  message->Become(MessageState::kMoving);
  BeginSettling(message, part, state.begin_ns,
                {.deferred = false, .blocking = true, .begun = false});
  Overload(message, part);
  TellCall();
  return Step::kPassed;
}

// The call was not begun, and will not be: that is nothing the plugin has done.
void Stream::Overload(ChainMessage* message, Part* part) {
  const std::string what = OverloadText(environment_->limits());
  Fault(message, part, {Violation::kOverload, what},
        absl::UnavailableError(fmt::format("plugin {}: {}: {}", part->instance->name(),
                                           PhaseName(message->phase), what)));
}

// On one of the pool's threads. Nobody else touches the part's openness meanwhile.
// `in_time`: it is to be begun.
void Stream::RunDispatched(Part* part, CallState* state, bool in_time) {
  // Nobody waits for an answer that comes too late.
  const bool cancelled = cancelled_.load(std::memory_order_relaxed);
  const bool expired = state->handshake().OnBegin(in_time);
  callout_status_t status = cancelled ? CALLOUT_CANCELLED : CALLOUT_DEADLINE_EXCEEDED;
  if (in_time && !cancelled && !expired) {
    uint64_t now_ns = MonotonicNs();
    OpenPart(part, state, &now_ns);
    // What a cancel gets.
    state->stream_then = state->slot->call.stream;
    if (part->openness == Part::Openness::kRefused) {
      status = state->status;
    } else {
      status = state->handshake().OnHook() ? state->instance->Call(state, now_ns)
                                           : callout_status_t{CALLOUT_CANCELLED};
    }
  }
  ReportDispatched(state, status);
}

// The message waits for a call. False: there are too many that do, and nothing was
// begun that would have to be finished if the hook is yet to run.
bool Stream::Wait(ChainMessage* message, Part* part) {
  CallState& state = CallOf(*message, part);
  // Envoy may say more meanwhile, and the stream then has others.
  for (const std::shared_ptr<const std::string>& bytes : {attributes_, metadata_context_}) {
    if (bytes != nullptr) state.retained.push_back(bytes);
  }
  if (!environment_->AddDeferred()) {
    const bool begun = !state.handshake().detached();
    if (begun) {
      // The plugin has it, and will finish it.
      state.message = message;
      ++calls_at_work_;
      state.at_work = true;
      BeginSettling(message, part, state.hook_end_ns, {.deferred = true});
      GiveUpOn(message, part);
    } else {
      environment_->RemoveDeferred();
      EndPartCall(part, &state);
      BeginSettling(message, part, state.begin_ns, {.blocking = true, .begun = false});
    }
    Finding finding{Violation::kDeferLimit, DeferLimitText(*environment_)};
    finding.never_passes = state.refuses();
    Fault(message, part, finding,
          absl::ResourceExhaustedError(fmt::format(
              "plugin {} could not defer {}: as many calls as --max_deferred={} allows are "
              "deferred",
              state.instance->name(), PhaseName(message->phase),
              environment_->limits().deferred_max)));
    TellCall();
    return false;
  }
  state.message = message;
  ++calls_at_work_;
  state.at_work = true;
  message->Become(MessageState::kCalled, state.slot->call.deadline_ns);
  AskForTime(message, part);
  return true;
}

// Envoy takes one override_message_timeout for each message, and none where it
// runs no timer. Which of two directions it would be for cannot be said.
void Stream::AskForTime(ChainMessage* message, Part* part) {
  const Line& line = LineOf(*message);
  const bool only_one =
      line.front() == message && lines_[message->response_phase % 2 == 0 ? 1 : 0].empty();
  if (!only_one || message->asked_for_time || exchange_.observability() ||
      exchange_.direction(message->phase).MayBe(CALLOUT_BODY_FULL_DUPLEX_STREAMED)) {
    return;
  }
  const CallState& state = CallOf(*message, part);
  const uint64_t wanted_ms =
      state.handshake().detached() ? 0 : state.timeout_ms.load(std::memory_order_acquire);
  const uint64_t timeout_ms = wanted_ms > 0 ? wanted_ms : environment_->limits().defer_budget_ms;
  if (timeout_ms == 0) return;
  message->asked_for_time = true;
  message->deadline_ns += timeout_ms * 1000000;
  output_.push_back(WriteTimeoutResponse(timeout_ms));
  if (observers_ != nullptr) {
    observers_->Each([&](RpcObserver* observer) { observer->OnSent(output_.back()); });
  }
}

void Stream::OnPosted(CallState* call, RpcContext::Event event) {
  switch (event) {
    case RpcContext::Event::kSent:
      if (call->late || call->message == nullptr || !live()) return;
      TakeSentMeanwhile(call->message, &parts_[call->part]);
      return Run();
    case RpcContext::Event::kFinished:
      return OnFinished(call);
    case RpcContext::Event::kClosed:
      closed_ = --closing_ == 0;
      return;
  }
}

void Stream::OnFinished(CallState* state) {
  environment_->RemoveDeferred();
  --calls_at_work_;
  Part* part = &parts_[state->part];
  const uint64_t now_ns = MonotonicNs();
  if (state->handshake().returned()) {
    state->status = state->slot->finish_status;
    state->instance_ns += now_ns - state->hook_end_ns;
  }
  const bool dropped = state->handshake().dropped();
  const CallKind kind = {.deferred = state->handshake().returned(),
                         .blocking = state->handshake().detached(),
                         .begun = !dropped};
  EndPartCall(part, state);
  state->at_work = false;
  ChainMessage* message = std::exchange(state->message, nullptr);
  if (std::exchange(state->late, false)) message = nullptr;
  if (message != nullptr) message->Become(MessageState::kMoving);
  if (message != nullptr && !state->told) BeginSettling(message, part, now_ns, kind);
  if (message != nullptr && live()) {
    if (part->openness == Part::Openness::kRefused) part->usable = false;
    if (dropped) {
      Overload(message, part);
      TellCall();
    } else {
      TakeSent(message, part);
      if (live()) Settle(message, part, state->status);
      TellCall();
      // The other direction may call the instance before the message is answered.
      message->response.Own();
    }
    if (live()) Settled(message, part);
  }
  settling_.state = nullptr;  // of a call that comes after the end, which was told before
  if (live()) return Run();
  DropLines();
  if (silenced_ && half_closed_) End(absl::OkStatus());
  CloseIfIdle();
}

// --- Deadlines --------------------------------------------------------------

// The plugin keeps the call, and may go on reading what it was given; what it says
// is ignored.
void Stream::GiveUpOn(ChainMessage* message, Part* part) {
  CallState& state = CallOf(*message, part);
  state.handshake().OnDeadline();
  state.late = true;
  state.message = nullptr;
  if (message->state == MessageState::kCalled) message->Become(MessageState::kMoving);
  OwnBytes(message);
  for (const std::shared_ptr<const void>& bytes : {message->ShareRequest(), message->bytes_owner}) {
    if (bytes != nullptr) state.retained.push_back(bytes);
  }
}

void Stream::OnDeadline(uint64_t now_ns) {
  if (!live()) return UpdateDeadline();
  std::vector<ChainMessage*> overdue;
  for (const Line& line : lines_) {
    for (ChainMessage* message : line) {
      if (message->deadline_ns != 0 && message->deadline_ns <= now_ns) overdue.push_back(message);
    }
  }
  for (ChainMessage* message : overdue) {
    if (live()) OnOverdue(message);
  }
  if (live()) CheckBodyWaits(now_ns);
  Run();
}

void Stream::OnOverdue(ChainMessage* message) {
  Part* part = &PartAt(*message, message->position);
  const Instance& instance = *part->instance;
  const CallHandshake* handshake = nullptr;
  bool begun = true;
  bool in_turn = false;
  Finding finding{Violation::kDeadline, {}};
  const uint64_t deadline_ms = environment_->limits().hook_deadline_ms;
  std::string what = DeadlineText(environment_->limits());
  switch (message->state) {
    case MessageState::kMoving:
      return;
    case MessageState::kCalled:
      // It was over in time after all: the event is on its way.
      message->deadline_ns = 0;
      handshake = &CallOf(*message, part).handshake();
      if (handshake->over()) return;
      GiveUpOn(message, part);
      // Denied, and then not finished: the denial has not gone out, but nothing passes.
      finding.never_passes = CallOf(*message, part).refuses();
      begun = !handshake->unbegun();
      BeginGivingUp(message, part, begun);
      if (!begun) {
        Overload(message, part);
        TellCall();
        if (live()) Settled(message, part);
        return;
      }
      break;
    case MessageState::kTurn:
      what =
          fmt::format("its other call is not finished within --hook_deadline_ms={}", deadline_ms);
      message->Become(MessageState::kMoving);
      in_turn = true;
      break;
    case MessageState::kHeld:
      what = IsHeadersPhase(message->phase)
                 ? fmt::format("the body did not end within --body_wait_ms={}",
                               environment_->limits().body_wait_ms)
                 : fmt::format(
                       "nothing has shown within --hook_deadline_ms={} whether Envoy obeys "
                       "the mode override; say so by --envoy_mode_override",
                       deadline_ms);
      // It waits for what Envoy is to send next.
      finding.by_peer = true;
      // Nothing can be given back that would be right.
      StageOf(*message, part).altered = true;
      LetGo(&StageOf(*message, part));
      --message->position;
      break;
  }
  finding.what = what;
  Fault(message, part, finding,
        absl::DeadlineExceededError(
            fmt::format("plugin {}: {}: {}", instance.name(), PhaseName(message->phase), what)));
  TellCall();
  if (live() && in_turn) PassBody(message, part);
  if (live()) Settled(message, part);
}

// Bodies that are gathered wait for Envoy, for no longer than --body_wait_ms.
void Stream::CheckBodyWaits(uint64_t now_ns) {
  for (size_t i = 0; i < parts_.size(); ++i) {
    for (size_t way = 0; way < 2 && live(); ++way) {
      Stage& stage = parts_[i].stages[way];
      if (stage.body_until_ns == 0 || stage.body_until_ns > now_ns) continue;
      stage.body_until_ns = 0;
      const callout_phase_t phase = way == 0 ? CALLOUT_REQUEST_BODY : CALLOUT_RESPONSE_BODY;
      const std::string what =
          fmt::format("a body that is gathered did not end within --body_wait_ms={}",
                      environment_->limits().body_wait_ms);
      CountFault(chain_->instances[i].get(), phase, Violation::kDeadline, what, {},
                 /*by_peer=*/true);
      if (exchange_.observability()) {
        // Nothing is sent: the plugin goes without this body.
        TakeGathered(&stage);
        stage.body_passes = true;
        continue;
      }
      constexpr int kRequestTimeout = 408;
      Refuse(chain_->instances[i].get(), way == 0 ? kRequestTimeout : kDenyStatusDefault,
             Violation::kDeadline,
             absl::DeadlineExceededError(
                 fmt::format("plugin {}: {}", chain_->instances[i]->name(), what)));
    }
  }
}

void Stream::UpdateDeadline() {
  deadline_ns_ = 0;
  if (!live()) return;
  const auto add = [this](uint64_t deadline_ns) {
    if (deadline_ns == 0) return;
    if (deadline_ns_ == 0 || deadline_ns < deadline_ns_) deadline_ns_ = deadline_ns;
  };
  for (const Line& line : lines_) {
    for (const ChainMessage* message : line) add(message->deadline_ns);
  }
  if (!chain_->has_whole_body) return;
  for (size_t i = 0; i < parts_.size(); ++i) {
    for (const Stage& stage : parts_[i].stages) add(stage.body_until_ns);
  }
}

}  // namespace callout::host
