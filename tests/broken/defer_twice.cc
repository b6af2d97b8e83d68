// SPDX-License-Identifier: Apache-2.0

// Defers a call for two threads: docs/mistakes.md.
#include <callout/plugin.hpp>

CALLOUT_PLUGIN();
CALLOUT_ON_REQUEST_HEADERS(call) {
  auto first = call.defer();
  auto second = call.defer();
  second.finish();
  first.finish();
}
