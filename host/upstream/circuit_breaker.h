// SPDX-License-Identifier: Apache-2.0

// Stops asking a service that fails. After some failures in a row the circuit opens: every call
// fails at once. After a while it lets one call through (half open), whose outcome closes the
// circuit or opens it again.
//
//   CircuitBreaker circuit({.failures = 5, .open_ns = 5'000'000'000});
//   const CircuitBreaker::Admission admission = circuit.Admit(now_ns);
//   if (admission == CircuitBreaker::Admission::kNone) … fail at once …
//   … circuit.Succeeded(admission); or Failed(admission, now_ns); or Abandoned(admission);
//
// One thread. Times are MonotonicNs().
#ifndef CALLOUT_HOST_UPSTREAM_CIRCUIT_BREAKER_H_
#define CALLOUT_HOST_UPSTREAM_CIRCUIT_BREAKER_H_

#include <cstddef>
#include <cstdint>

namespace callout::host {

class CircuitBreaker {
 public:
  struct Options {
    size_t failures = 5;  // in a row; 0: it never opens
    uint64_t open_ns = 5'000'000'000;
  };
  enum class State : uint8_t { kClosed, kOpen, kHalfOpen };

  explicit CircuitBreaker(const Options& options) : options_(options) {}

  enum class Admission : uint8_t { kNone, kUsual, kTrial };
  // Whether a call may be made now. Each that was admitted ends by one of the following three.
  Admission Admit(uint64_t now_ns);
  void Succeeded(Admission admission);
  // True if this has opened the circuit.
  bool Failed(Admission admission, uint64_t now_ns);
  // It ended without telling anything of the service: it was cancelled, or its request is at fault.
  void Abandoned(Admission admission);

  State state() const { return state_; }

 private:
  // Calls from before the circuit opened say nothing of the service as it is now.
  bool IsTold(Admission admission) const {
    return (state_ == State::kClosed) == (admission == Admission::kUsual) && state_ != State::kOpen;
  }

  const Options options_;
  State state_ = State::kClosed;
  size_t failures_ = 0;  // in a row
  uint64_t open_until_ns_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_UPSTREAM_CIRCUIT_BREAKER_H_
