// SPDX-License-Identifier: Apache-2.0

// Stamps request and response with its version, or fails, or takes its time.
#include <callout/plugin.hpp>

#include <chrono>
#include <thread>

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("versioned", VERSION, "Stamps messages with its version");

#ifdef PADDING_BYTES
// Makes the file large. Not zero, or it would take no room in it.
extern "C" __attribute__((visibility("default"), used)) const char padding[PADDING_BYTES] = {1};
#endif

CALLOUT_ON_REQUEST_HEADERS(call) {
#ifdef FAILS
  call.fail("this version fails");
#else
#ifdef SLEEPS_MS
  std::this_thread::sleep_for(std::chrono::milliseconds(SLEEPS_MS));
#endif
  call.set_header("x-version", VERSION);
#endif
}

CALLOUT_ON_RESPONSE_HEADERS(call) { call.set_header("x-version", VERSION); }
