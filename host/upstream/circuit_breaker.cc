// SPDX-License-Identifier: Apache-2.0

#include "host/upstream/circuit_breaker.h"

namespace callout::host {

CircuitBreaker::Admission CircuitBreaker::Admit(uint64_t now_ns) {
  if (state_ == State::kClosed) return Admission::kUsual;
  if (state_ == State::kHalfOpen || now_ns < open_until_ns_) return Admission::kNone;
  state_ = State::kHalfOpen;
  return Admission::kTrial;
}

void CircuitBreaker::Succeeded(Admission admission) {
  if (!IsTold(admission)) return;
  failures_ = 0;
  state_ = State::kClosed;
}

bool CircuitBreaker::Failed(Admission admission, uint64_t now_ns) {
  if (options_.failures == 0 || !IsTold(admission)) return false;
  ++failures_;
  if (state_ == State::kClosed && failures_ < options_.failures) return false;
  state_ = State::kOpen;
  open_until_ns_ = now_ns + options_.open_ns;
  return true;
}

void CircuitBreaker::Abandoned(Admission admission) {
  if (admission == Admission::kTrial && state_ == State::kHalfOpen) state_ = State::kOpen;
}

}  // namespace callout::host
