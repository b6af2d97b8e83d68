// SPDX-License-Identifier: Apache-2.0

// Whether this process wants traffic, and the page where load balancers ask.
//
//   Health health;                                   // starting
//   server->AddListener("health", MakeHealthHandler(&health));
//   health.Set(Health::State::kReady);
//   …  health.Set(Health::State::kDraining);         // 503 from now on
//
// A Health may be used from any thread.
#ifndef CALLOUT_HOST_OPS_HEALTH_H_
#define CALLOUT_HOST_OPS_HEALTH_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <utility>

#include "host/ops/http_server.h"

namespace callout::host {

class Health {
 public:
  enum class State : uint8_t { kStarting, kReady, kUnserved, kDraining };

  void Set(State state) { state_.store(state, std::memory_order_release); }
  // The state is kUnserved instead of kReady while `serving` returns false: nobody takes streams.
  // Call it before kReady is set. Any thread calls `serving`.
  void FollowTraffic(std::function<bool()> serving) { serving_ = std::move(serving); }
  State state() const {
    const State state = state_.load(std::memory_order_acquire);
    return state == State::kReady && serving_ && !serving_() ? State::kUnserved : state;
  }
  bool ready() const { return state() == State::kReady; }

 private:
  std::atomic<State> state_{State::kStarting};
  std::function<bool()> serving_;  // null: always
};

// "starting", "ready", "unserved" or "draining".
const char* HealthStateName(Health::State state);

// Responds to any GET with 200, or 503 unless ready, without a body; to other methods with 405.
// `health` outlives the handler.
HttpHandler MakeHealthHandler(const Health* health);

// The response to a method that a read-only page does not support.
HttpResponse MethodNotAllowed();

}  // namespace callout::host

#endif  // CALLOUT_HOST_OPS_HEALTH_H_
