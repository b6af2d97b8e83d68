// SPDX-License-Identifier: Apache-2.0

// Its static destructor would end the process: that of a thread which nobody has joined.
#include <callout/plugin.h>

#include <chrono>
#include <thread>

CALLOUT_PLUGIN();

namespace {
std::thread background;
}  // namespace

callout_status_t callout_plugin_create(callout_create_args_t*) {
  background = std::thread([] { std::this_thread::sleep_for(std::chrono::hours(1)); });
  return CALLOUT_OK;
}

callout_status_t callout_on_request_headers(callout_call_t*) { return CALLOUT_OK; }
