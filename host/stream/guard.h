// SPDX-License-Identifier: Apache-2.0

// The guard: every answer that leaves the host is legal in the state Envoy is
// in, whatever the hook did.
//
// Which answers are legal where was seen on Envoy 1.40: one answer for each
// message, of the phase's own type; in FULL_DUPLEX_STREAMED body answers are
// streamed_response, elsewhere they never are; anything else ends the HTTP
// request with 500. A header mutation with an illegal character or more than
// 100 entries does too.
//
// Tested by tests/host/stream/stream_test.cc.
#ifndef CALLOUT_HOST_STREAM_GUARD_H_
#define CALLOUT_HOST_STREAM_GUARD_H_

#include <callout/plugin.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "host/plugin/call_observer.h"
#include "host/plugin/violation.h"
#include "host/wire/phase.h"
#include "host/wire/response.h"

namespace callout::host {

// Envoy refuses header mutations with more entries than this in either list.
inline constexpr size_t kHeaderMutationEntriesMax = 100;

// Where an answer would go.
struct Situation {
  callout_phase_t phase = 0;
  callout_body_mode_t body_mode = CALLOUT_BODY_NONE;  // of the phase's direction
};

// Whether `field` with the content `view` may answer the message of `situation`.
Finding CheckResponse(const Situation& situation, callout_field_t field, const ResponseView& view);

// Whether Envoy applies this mutation without an error of its own, as far as it
// can be told without the headers.
Finding CheckMutation(const HeaderMutationView& mutation);

// Whether `message` (HttpHeaders or HttpTrailers) stays within Envoy's limits on
// headers once `mutation` has been applied. A message that came in over a limit
// proves that Envoy's own is higher, so that limit is not held against it. The fault is by_peer if
// the message alone has more than half of the limit.
Finding CheckHeaderLimits(std::string_view message, const HeaderMutationView& mutation,
                          size_t header_count_max, size_t header_bytes_max);

// Whether the dynamic metadata, fields `number` of the well-formed `records` or one Struct, may
// stand in a header: no string of it has CR, LF or NUL. --metadata_controls=pass does without.
Finding CheckMetadata(std::string_view records, callout_field_t number);
Finding CheckMetadataStruct(std::string_view payload);

// What Envoy silently does without in a valid response to a message of `phase`, whatever its
// configuration is: a bit of each Overruled.
uint32_t FindIgnored(callout_phase_t phase, const ResponseView& view);

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_GUARD_H_
