// SPDX-License-Identifier: Apache-2.0

// Whether this process wants traffic, and the page that load balancers ask for it.
//
//   Health health;                                   // starting
//   server->AddListener("health", MakeHealthHandler(&health));
//   health.Set(Health::State::kReady);
//   …  health.Set(Health::State::kDraining);         // from here on 503
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
  // kReady becomes kUnserved while `serving` says that nobody takes streams. Before
  // kReady is set; any thread asks it.
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

// Any GET → 200, or 503 unless ready, without a body; other methods → 405.
// `health` outlives the handler.
HttpHandler MakeHealthHandler(const Health* health);

// The answer to a method that a read-only page does not have.
HttpResponse MethodNotAllowed();

}  // namespace callout::host

#endif  // CALLOUT_HOST_OPS_HEALTH_H_
