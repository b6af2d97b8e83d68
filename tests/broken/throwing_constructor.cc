// SPDX-License-Identifier: Apache-2.0

// Throws while it is being loaded.
#include <callout/plugin.h>

#include <stdexcept>

CALLOUT_PLUGIN();

namespace {
struct Thrower {
  Thrower() { throw std::runtime_error("no license found"); }
} thrower;
}  // namespace

callout_status_t callout_on_request_headers(callout_call_t*) { return CALLOUT_OK; }
