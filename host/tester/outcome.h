// SPDX-License-Identifier: Apache-2.0

// What an HTTP exchange came to: the request that the backend got, the response that the client
// got, dynamic metadata, and the error of the RPC.
//
// What HTTP needs for itself is left out, so that an outcome is the same in this process and
// through a real Envoy: framing (content-length, transfer-encoding, connection), the scheme, and
// what Envoy adds to responses (date; server: envoy).
//
// Values; for one thread.
//
// Tested by tests/tester/tester_test.cc.
#ifndef CALLOUT_HOST_TESTER_OUTCOME_H_
#define CALLOUT_HOST_TESTER_OUTCOME_H_

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "host/tester/http_message.h"

namespace callout::host {

struct Outcome {
  std::optional<HttpMessage> request;                  // nothing: the backend got none
  std::optional<HttpMessage> response;                 // nothing: the case has none
  nlohmann::json metadata = nlohmann::json::object();  // by namespace
  std::string error;                                   // "INTERNAL: text" of the RPC; empty: none
  bool knows_error = true;  // false: through a real Envoy, which tells nobody
  std::string unfinished;   // what a plugin has begun and never ended; empty: nothing
};

// Leaves out what HTTP needs for itself, and sorts headers by name; values of one name stay in
// order.
void Normalize(Outcome* outcome);

// All of it, for a golden file. Bytes that are no text are {"base64": "…"}.
nlohmann::json ToJson(const Outcome& outcome);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TESTER_OUTCOME_H_
