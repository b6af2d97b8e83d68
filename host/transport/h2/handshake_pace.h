// SPDX-License-Identifier: Apache-2.0

// When a thread may take the next step of a TLS handshake. Handshakes get a share of the thread's
// time (--max_handshake_percent): their clients can ask for far more than all of it at no cost, and
// then the connections that are open, and every other process of the machine, would wait for the
// scheduler.
//
// Belongs to one thread. Times are of the monotonic clock, in nanoseconds. Without a fault to
// report.
#ifndef CALLOUT_HOST_TRANSPORT_H2_HANDSHAKE_PACE_H_
#define CALLOUT_HOST_TRANSPORT_H2_HANDSHAKE_PACE_H_

#include <algorithm>
#include <cstdint>

namespace callout::host {

class HandshakePace {
 public:
  // Time that a thread without handshakes saves up for those that come at once.
  static constexpr uint64_t kBurstNs = 2'000'000;

  // `percent` of the time is for handshakes, 1 to 100.
  explicit HandshakePace(uint64_t percent) : percent_(percent) {}

  // How long the next step has to wait. 0: it may be taken now.
  uint64_t WaitNs(uint64_t now_ns) const { return next_ns_ > now_ns ? next_ns_ - now_ns : 0; }

  void OnStep(uint64_t begin_ns, uint64_t end_ns) {
    const uint64_t saved_ns = begin_ns > kBurstNs ? begin_ns - kBurstNs : 0;
    next_ns_ = std::max(next_ns_, saved_ns) + (end_ns - begin_ns) * 100 / percent_;
  }

 private:
  const uint64_t percent_;
  uint64_t next_ns_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_H2_HANDSHAKE_PACE_H_
