// SPDX-License-Identifier: Apache-2.0

// The fields that stand beside an answer in ProcessingResponse, and what becomes
// of them when several instances of a chain have given some.
//
// The records are appended one instance after the other, in the order of the
// calls, and made into what goes out at the end:
//   dynamic_metadata (8)           merged deeply: a Struct within a Struct is
//                                  merged, anything else is replaced by the later
//   mode_override (9)              what each wants, united and completed
//   override_message_timeout (10)  taken out: Envoy reads nothing else of a
//                                  message that has it
//   others                         as they are
#ifndef CALLOUT_HOST_WIRE_ANNOTATIONS_H_
#define CALLOUT_HOST_WIRE_ANNOTATIONS_H_

#include <callout/plugin.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace callout::host {

// A ProcessingMode. Body modes are taken literally by Envoy, and one that is left
// out means NONE to it; so one that is absent here is completed with the mode
// that is in force.
struct ModeOverride {
  struct Modes {
    std::optional<uint32_t> request_headers, response_headers;
    std::optional<callout_body_mode_t> request_body, response_body;
    std::optional<uint32_t> request_trailers, response_trailers;
  };
  Modes modes;
  bool present = false;

  // Unites with what an instance needs that has said nothing of modes itself:
  // that its `phases` (bits) go on as they are.
  void Keep(uint64_t phases, callout_body_mode_t request_body, callout_body_mode_t response_body);
  // Completes the body modes.
  void Complete(callout_body_mode_t request_body, callout_body_mode_t response_body);
  std::string Write() const;  // a ProcessingMode payload
};

// What the records come to.
struct Annotations {
  ModeOverride mode_override;
  std::string dynamic_metadata;  // a Struct payload
  bool has_dynamic_metadata = false;
  std::string rest;  // records
};

// Whether Envoy can parse them, strings in UTF-8 included: if not, it refuses the
// whole message. A Struct may be nested 32 deep.
bool AnnotationsAreWellFormed(std::string_view records);

// Of records that are well formed.
Annotations ReadAnnotations(std::string_view records);

// The last override_message_timeout among the records, in milliseconds; 0 if
// there is none or it is malformed.
uint64_t ReadTimeoutMs(std::string_view records);

// Whether there is a mode_override among the records.
bool HasModeOverride(std::string_view records);

// Whether the records hold anything that has to be looked into before they go
// out.
bool NeedsWork(std::string_view records);

// A whole ProcessingResponse that asks Envoy for more time.
std::string WriteTimeoutResponse(uint64_t timeout_ms);

// Structs merged deeply, `later` over `earlier`. False, with `merged` unchanged,
// if one is malformed or nested more than 64 deep.
bool MergeStructs(std::string_view earlier, std::string_view later, std::string* merged);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_ANNOTATIONS_H_
