// SPDX-License-Identifier: Apache-2.0

// Adds to the body of requests, and replaces that of responses. See README.md.
#include <callout/plugin.hpp>
#include <string>

namespace {

// Nothing follows a buffered body but trailers, which leave the end unmarked.
bool EndsTheBody(const callout::BodyCall& call) {
  return call.end_of_stream() || call.body_mode() == callout::BodyMode::kBuffered;
}

}  // namespace

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("add_body", "1.0.0", "Adds to request bodies and replaces response bodies");

CALLOUT_ON_REQUEST_BODY(call) {
  if (EndsTheBody(call)) call.set_body(std::string(call.body()).append("-added-request-body"));
}

CALLOUT_ON_RESPONSE_BODY(call) {
  if (call.is_first()) {
    call.set_body("new-body");
  } else {
    call.clear_body();
  }
}
