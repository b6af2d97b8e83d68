// SPDX-License-Identifier: Apache-2.0

// With the configuration "hang", a timer that never returns; with "crash", one that each request
// starts, and that ends the process.
#include <callout/plugin.hpp>
#include <callout/timers.hpp>
#include <chrono>
#include <csignal>
#include <thread>

namespace {

class TimerFaults {
 public:
  explicit TimerFaults(callout::Setup& setup)
      : timers_(setup), crashes_(setup.config() == "crash") {
    if (crashes_) return;
    timers_.run([host = setup.host()] {
      host.info("the timer has begun");
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    });
  }
  void on_request_headers(callout::HeadersCall& call) {
    (void)call;
    if (crashes_) timers_.run([] { std::raise(SIGSEGV); });
  }

 private:
  callout::Timers timers_;
  bool crashes_;
};

}  // namespace

CALLOUT_PLUGIN_CLASS(TimerFaults, ("timer_faults", "1.0", "Timers that hang or crash"),
                     request_headers);
