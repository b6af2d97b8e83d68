// SPDX-License-Identifier: Apache-2.0

// Its constructors start a thread, which nobody can stop.
#include <callout/plugin.h>

#include <chrono>
#include <thread>

CALLOUT_PLUGIN();

namespace {
struct Background {
  Background() {
    std::thread([] {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }).detach();
  }
} background;
}  // namespace

callout_status_t callout_on_request_headers(callout_call_t*) { return CALLOUT_OK; }
