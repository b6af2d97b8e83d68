// SPDX-License-Identifier: Apache-2.0

// A `return` is missing after the call went to another thread: docs/mistakes.md.
#include <callout/plugin.hpp>

CALLOUT_PLUGIN();
CALLOUT_ON_REQUEST_HEADERS(call) {
  auto deferred = call.defer();
  call.set_header("x-late", "1");
  deferred.finish();
}
