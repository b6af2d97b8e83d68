// SPDX-License-Identifier: Apache-2.0

// What an exchange came to at one place: the headers, bodies and trailers that leave it, a response
// in place of the upstream's, metadata, mode override, error. Two outcomes of the same exchange are
// compared by host/diff/difference.h.
//
//   OutcomeBuilder builder;
//   builder.OnMessage(CALLOUT_REQUEST_HEADERS, http_headers);  // as they came, in their order
//   builder.OnResponse(processing_response);                   // as they were given, in order
//   builder.OnEnd(status);                                     // of the RPC, if it has one
//   ExchangeOutcome outcome = builder.Finish();
//
// Responses are applied as Envoy does. A message without a response passes unchanged, as does what
// comes after an end with OK. So an outcome without any response is that of an exchange that nobody
// changes.
//
// Memory: headers and trailers as they are, of bodies only size and sum. Values; for one thread.
//
// Tested by tests/host/diff/outcome_test.cc.
#ifndef CALLOUT_HOST_DIFF_OUTCOME_H_
#define CALLOUT_HOST_DIFF_OUTCOME_H_

#include <callout/plugin.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "host/base/fnv.h"
#include "host/wire/envelope.h"
#include "host/wire/response.h"

namespace callout::host {

// The size of a body and a sum of its bytes, however they are cut into pieces. Not for bodies that
// somebody makes to collide (FNV-1a): it only decides what a report says.
struct BodySum {
  uint64_t bytes = 0;
  uint64_t sum = kFnv1aOfNothing;

  void Add(std::string_view piece);
  bool operator==(const BodySum&) const = default;
};

struct ExchangeOutcome {
  struct Side {
    std::string headers;   // HttpHeaders; "": none came
    std::string trailers;  // HttpTrailers; "": none came
    BodySum body;
  };
  std::array<Side, 2> sides;  // request, response
  // The response in place of the upstream's. `sides[1]` then has its headers and body.
  bool immediate = false;
  uint32_t status = 0;           // of it; 0: not known
  std::string dynamic_metadata;  // a Struct payload, merged
  std::string mode_override;     // a ProcessingMode payload; the last one
  std::string error;             // of an RPC that has failed: "INTERNAL"; "": it has not
};

class OutcomeBuilder {
 public:
  // HttpHeaders, HttpBody or HttpTrailers. Malformed ones are left out.
  void OnMessage(callout_phase_t phase, std::string_view message);
  // A whole ProcessingResponse. A malformed one is left out.
  void OnResponse(std::string_view bytes);
  // The headers that a response to a body changes, where the messages themselves tell the rest of
  // it.
  void OnLateHeaders(callout_phase_t phase, const Response& response);
  // The RPC has ended with this status.
  void OnEnd(const absl::Status& status);
  // The exchange has failed for a reason that no status says.
  void OnError(std::string_view text) { outcome_.error = text; }

  // Once: the messages that have no response pass.
  ExchangeOutcome Finish();

 private:
  // A body in one direction.
  enum class Body : uint8_t {
    kPasses,    // each message, or what replaces it
    kStreamed,  // FULL_DUPLEX_STREAMED: only what responses say
    kReplaced,  // CONTINUE_AND_REPLACE: known, and no more of it comes
  };

  void Take(uint32_t field, std::string_view payload);
  void TakeImmediate(uint32_t field, std::string_view payload, const ResponseView& view);
  void TakeBody(size_t side, const ResponseView& view);
  void MergeBeside(std::string_view annotations);

  ExchangeOutcome outcome_;
  std::array<std::deque<std::string>, 2> waiting_;  // bodies without a response yet
  std::array<Body, 2> bodies_{};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_DIFF_OUTCOME_H_
