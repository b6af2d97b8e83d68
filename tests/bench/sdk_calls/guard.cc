// SPDX-License-Identifier: Apache-2.0

// What rust/ and go/ do, in C++.
#include <callout/plugin.hpp>

class Guard {
 public:
  void on_request_headers(callout::HeadersCall& call) {
    if (call.headers().get("x-role") == "guest") return call.deny(403);
    call.set_header("x-seen-by", "guard");
    call.remove_header("x-internal");
  }
};

CALLOUT_PLUGIN_CLASS(Guard, ("guard", "1.0", "for sdk_calls.py"), request_headers);
