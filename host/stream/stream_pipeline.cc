// SPDX-License-Identifier: Apache-2.0

// The way of messages through the chain: two lines, one for each direction, in which
// no message passes the one before it.
//
// Tested by tests/host/stream/pipeline_test.cc.

#include <algorithm>
#include <utility>

#include "host/base/clock.h"
#include "host/stream/stream.h"
#include "host/wire/mutation.h"

namespace callout::host {

Stream::Part& Stream::PartAt(const ChainMessage& message, size_t position) {
  // Response phases go through the chain backwards, as Envoy runs its filters.
  return parts_[IsRequestPhase(message.phase) ? position : parts_.size() - 1 - position];
}

const Stream::Part& Stream::PartAt(const ChainMessage& message, size_t position) const {
  return parts_[IsRequestPhase(message.phase) ? position : parts_.size() - 1 - position];
}

// --- Lines ------------------------------------------------------------------

ChainMessage* Stream::NewMessage() {
  if (!std::exchange(first_message_taken_, true)) return &first_message_;
  if (free_messages_.empty()) {
    free_messages_.push_back(std::make_unique<ChainMessage>());
    owned_bytes_ += sizeof(ChainMessage);
  }
  taken_messages_.push_back(std::move(free_messages_.back()));
  free_messages_.pop_back();
  return taken_messages_.back().get();
}

void Stream::FreeMessage(ChainMessage* message) {
  if (message->queued_bytes > 0) {
    queued_bytes_ -= message->queued_bytes;
    --queued_messages_;
  }
  kept_bytes_ -= message->beside_bytes;
  message->Reset();
  if (message == &first_message_) {
    first_message_taken_ = false;
    return;
  }
  const auto at = std::find_if(taken_messages_.begin(), taken_messages_.end(),
                               [message](const auto& taken) { return taken.get() == message; });
  free_messages_.push_back(std::move(*at));
  taken_messages_.erase(at);
}

void Stream::PutBefore(const ChainMessage& of, ChainMessage* message) {
  Line& line = LineOf(of);
  message->bytes_owner = of.bytes_owner;
  line.insert(std::find(line.begin(), line.end(), &of), message);
}

// What a hook still has at work keeps its bytes.
void Stream::DropLine(Line* line) {
  for (ChainMessage* message : *line) {
    if (message->state != MessageState::kCalled) continue;
    Part* const part = &PartAt(*message, message->position);
    TellGivenUp(message, part);
    GiveUpOn(message, part);
  }
  for (ChainMessage* message : *line) FreeMessage(message);
  line->clear();
  const size_t way = line == &lines_[0] ? 0 : 1;
  for (size_t i = 0; i < parts_.size(); ++i) {
    Stage& stage = parts_[i].stages[way];
    stage.held = nullptr;
    stage.plugin_holds = false;
    stage.body_until_ns = 0;
    // A body that others take the place of is not lost.
    if (live()) TakeGathered(&stage);
  }
}

// Headers that bring another body leave no place for the rest of the direction. Not before an
// instance that has some of that rest has decided about it: it may refuse the exchange.
bool Stream::ReplacesUndecided(const Line& line, const ChainMessage& headers) const {
  if (!IsHeadersPhase(headers.response_phase) ||
      !exchange_.direction(headers.response_phase).replaced) {
    return false;
  }
  return std::any_of(line.begin(), line.end(), [](const ChainMessage* message) {
    return message->state == MessageState::kCalled;
  });
}

// Nothing more is answered.
void Stream::DropLines() {
  for (Line& line : lines_) DropLine(&line);
}

void Stream::Run() {
  while (live() && (RunLine(&lines_[0]) || RunLine(&lines_[1]))) {
  }
  if (!live()) {
    DropLines();
    if (silenced_ && half_closed_) End(absl::OkStatus());
    CloseIfIdle();
  }
  EndIfDone();
  UpdateDeadline();
}

// True if a message has gone on, so that others may.
bool Stream::RunLine(Line* line) {
  bool went_on = false;
  for (size_t i = 0; i < line->size() && live() && reply_part_ == nullptr;) {
    ChainMessage* message = (*line)[i];
    const size_t position = message->position;
    const Progress progress = Advance(message, i == 0 ? nullptr : (*line)[i - 1]);
    went_on |= message->position != position;
    if (progress == Progress::kStopped) return false;
    if (progress == Progress::kAgain) {
      message->response.Own();
      went_on = true;
      i = 0;
      continue;
    }
    const bool goes_out = progress == Progress::kDone && (i == 0 || message->dropped) &&
                          !ReplacesUndecided(*line, *message);
    if (goes_out) {
      EmitResponse(message);
      line->erase(line->begin() + static_cast<ptrdiff_t>(i));
      // Only once the headers that replace it are out: they may still wait, while a chunk
      // behind them, which an instance keeps, is done with.
      const bool replaced = IsHeadersPhase(message->response_phase) &&
                            exchange_.direction(message->response_phase).replaced;
      FreeMessage(message);
      if (replaced) DropLine(line);
      went_on = true;
      i = 0;
      continue;
    }
    // The instances that it has passed may be called again meanwhile.
    message->response.Own();
    if ((*line)[i] != message) {
      // Its hook has sent something ahead.
      went_on = true;
      i = 0;
      continue;
    }
    ++i;
  }
  return went_on;
}

// As far as it gets. `ahead` is the message before it in its line.
Stream::Progress Stream::Advance(ChainMessage* message, const ChainMessage* ahead) {
  if (message->state == MessageState::kCalled || message->state == MessageState::kHeld) {
    return Progress::kWaits;
  }
  do {
    while (message->position < parts_.size()) {
      // What an instance holds back waits for what comes after it.
      const bool free =
          ahead == nullptr || ahead->position > message->position ||
          (ahead->state == MessageState::kHeld && ahead->position == message->position);
      if (!free) return Progress::kWaits;
      Part* part = &PartAt(*message, message->position);
      if (observers_ != nullptr) TellPlace(message);
      let_go_ = false;
      const Step step = Visit(message, part);
      if (!live()) return Progress::kStopped;
      if (step == Step::kWaits) return let_go_ ? Progress::kAgain : Progress::kWaits;
      if (step == Step::kAgain) return Progress::kAgain;
      const Line& line = LineOf(*message);
      const ChainMessage* const before = ahead;
      Settled(message, part);
      if (!live()) return Progress::kStopped;
      if (message->state == MessageState::kHeld) return Progress::kWaits;
      // The instance has put something before it.
      const auto at = std::find(line.begin(), line.end(), message);
      if ((at == line.begin() ? nullptr : *(at - 1)) != before) return Progress::kAgain;
    }
    if (observers_ != nullptr) TellPlace(message);
  } while (BeginReplacedBody(message));
  NoteUpgrade(*message);
  CheckBodiesToCome(message);
  return live() ? Progress::kDone : Progress::kStopped;
}

// Tells observers that the message is where it is, once.
void Stream::TellPlace(ChainMessage* message) {
  if (message->position < message->told_until) return;
  message->told_until = message->position + 1;
  if (message->hidden || message->dropped || message->alone) return;
  if (!observers_->Want(message->phase)) return;
  const PlaceView place{message->phase, message->position, message->request, message->message};
  observers_->Each([&](RpcObserver* observer) { observer->OnPlace(place); });
}

// The instance is done with the message, which goes to the next, or is held.
void Stream::Settled(ChainMessage* message, Part* part) {
  if (message->state == MessageState::kHeld) return;
  Stage& stage = StageOf(*message, part);
  if (IsBodyPhase(message->phase) && !message->dropped && stage.held != nullptr &&
      IsHeadersPhase(stage.held->phase)) {
    LetGo(&stage);
  }
  if (IsTrailersPhase(message->phase) && stage.held != nullptr) {
    CheckHeldHeaders(message, part);
    if (!live()) return;
    LetGo(&stage);
  }
  if (chain_->has_whole_body && IsHeadersPhase(message->phase)) {
    CheckBodyToCome(message, part, message->message);
    if (!live()) return;
    if (HoldsHeaders(*message, *part)) {
      return Hold(message, part, environment_->limits().body_wait_ms);
    }
  }
  ++message->position;
  if (message->dropped || message->alone) message->position = parts_.size();
}

void Stream::Hold(ChainMessage* message, Part* part, uint64_t for_ms) {
  message->Become(MessageState::kHeld, MonotonicNs() + for_ms * 1000000);
  StageOf(*message, part).held = message;
  message->response.Own();
}

// The message that was held goes on, past the instance.
void Stream::LetGo(Stage* stage) {
  ChainMessage* const message = std::exchange(stage->held, nullptr);
  stage->plugin_holds = false;
  message->Become(MessageState::kMoving);
  ++message->position;
  let_go_ = true;
}

// Whether an instance after the one at `message.position` is to see it.
bool Stream::HasLaterReader(const ChainMessage& message) const {
  for (size_t i = message.position + 1; i < parts_.size(); ++i) {
    const Part& part = PartAt(message, i);
    if (part.usable && part.instance->Wants(message.phase)) return true;
  }
  return observers_ != nullptr && observers_->Want(message.phase);
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
  if (!HasLaterReader(*message)) {
    message->position = parts_.size();
    return false;
  }
  ++message->position;
  message->told_until = message->position;
  message->end_of_stream = true;
  message->whole_body = true;
  message->message = {};
  message->RebuildAroundBody(message->response.body());
  return true;
}

// Whether a message of the other direction has waited longer for the instance. Else one direction,
// message after message, could keep the instance from the other until that is overdue.
bool Stream::GivesWay(const ChainMessage& message, const Part& part) const {
  if (part.response_call != nullptr) return false;  // it takes both directions at once
  for (const ChainMessage* other : lines_[1 - message.response_phase % 2]) {
    if (other->state != MessageState::kTurn || &PartAt(*other, other->position) != &part) continue;
    return message.state != MessageState::kTurn || other->deadline_ns < message.deadline_ns;
  }
  return false;
}

Stream::Step Stream::Visit(ChainMessage* message, Part* part) {
  Stage& stage = StageOf(*message, part);
  if (message->hidden) return Step::kPassed;
  if (IsTrailersPhase(message->phase)) {
    const Step step = FlushGathered(message, part);
    if (step != Step::kPassed || !live()) return step;
  }
  const bool is_body = IsBodyPhase(message->phase);
  if (!part->usable || (is_body && stage.body_passes)) {
    message->Become(MessageState::kMoving);  // it may have waited for its turn
    if (is_body) GiveBack(message, part);
    return Step::kPassed;
  }
  if (!part->instance->Wants(message->phase)) return Step::kPassed;
  if (IsBusy(*message, *part) || GivesWay(*message, *part)) {
    const uint64_t until_ns =
        message->state == MessageState::kTurn
            ? message->deadline_ns
            : MonotonicNs() + environment_->limits().hook_deadline_ms * 1000000;
    message->Become(MessageState::kTurn, until_ns);
    return Step::kWaits;
  }
  message->Become(MessageState::kMoving);
  const bool gathers = is_body && TakesWhole(*part, message->phase) && !stage.chunks &&
                       message->gathered_position != message->position;
  if (gathers) {
    const Step step = Gather(message, part);
    if (step != Step::kCall) return step;
  }
  return Invoke(message, part);
}

}  // namespace callout::host
