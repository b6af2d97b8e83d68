// SPDX-License-Identifier: Apache-2.0

// A `return` is missing: the token was meant for the upstream.
#include <callout/plugin.hpp>

CALLOUT_PLUGIN();
CALLOUT_ON_REQUEST_HEADERS(call) {
  if (!call.headers().contains("authorization")) call.deny(403, "no");
  call.set_header("x-internal-token", "s3cret");
}
