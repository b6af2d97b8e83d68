// SPDX-License-Identifier: Apache-2.0

// Waiting for the end of what other threads are finishing, in a drain: they count
// in atomics, and nobody is woken for each of many.
//
// Tested by tests/integration/drain_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_DRAIN_POLL_H_
#define CALLOUT_HOST_TRANSPORT_DRAIN_POLL_H_

#include <chrono>
#include <cstdint>
#include <thread>

namespace callout::host {

// How long closing streams may take once their RPCs have ended.
inline constexpr uint64_t kCloseTimeMs = 500;

// Asks `done` each millisecond until it is true; false if it is not in time.
template <class Done>
bool PollUntil(uint64_t timeout_ms, Done done) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (!done()) {
    if (std::chrono::steady_clock::now() >= give_up) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_DRAIN_POLL_H_
