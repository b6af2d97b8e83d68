// SPDX-License-Identifier: Apache-2.0

// The fields of ProcessingResponse beside the response of a phase, and how those of several
// instances are merged.
//
// The records of the instances are appended in the order of their calls, and merged at the end:
//   dynamic_metadata (8)           merged deeply: a Struct within a Struct is
//                                  merged, anything else is replaced by the later
//   mode_override (9)              united, so that each instance gets what it wants, and completed
//   override_message_timeout (10)  removed, since Envoy reads no other field of a message with it
//   others                         unchanged
#ifndef CALLOUT_HOST_WIRE_ANNOTATIONS_H_
#define CALLOUT_HOST_WIRE_ANNOTATIONS_H_

#include <callout/plugin.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace callout::host {

// A ProcessingMode. Envoy takes an absent body mode as NONE, and an absent one of headers or
// trailers as the configured one. So a mode that is absent here is completed with the current one.
struct ModeOverride {
  struct Modes {
    std::optional<uint32_t> request_headers, response_headers;
    std::optional<callout_body_mode_t> request_body, response_body;
    std::optional<uint32_t> request_trailers, response_trailers;
  };
  Modes modes;
  bool present = false;

  // The phases (bits) whose modes it has.
  uint64_t Named() const;
  // Unites with the needs of an instance: of its `phases` (bits) those whose modes it has not set
  // itself stay as they are `now`.
  void Keep(uint64_t phases, const Modes& now);
  // Takes what it does not have from `now`.
  void Complete(const Modes& now);
  std::string Write() const;  // a ProcessingMode payload
};

// The merged records.
struct Annotations {
  ModeOverride mode_override;
  std::string dynamic_metadata;  // a Struct payload
  bool has_dynamic_metadata = false;
  std::string rest;  // records

  // The records again, without a mode override.
  std::string WriteWithoutModes() const;
};

// Whether Envoy can parse the records, UTF-8 included. If not, it would refuse the whole message. A
// Struct may be nested 32 deep.
bool AnnotationsAreWellFormed(std::string_view records);

// Whether a string in a well-formed Struct, however deep, has CR, LF or NUL. Envoy writes such a
// string as it is where its configuration puts metadata into a header (%DYNAMIC_METADATA%).
bool StructHasControls(std::string_view payload);

// Merges well-formed records.
Annotations ReadAnnotations(std::string_view records);

// The last override_message_timeout among the records, in milliseconds; 0 if
// there is none or it is malformed.
uint64_t ReadTimeoutMs(std::string_view records);

// Whether there is a mode_override among the records.
bool HasModeOverride(std::string_view records);

// Whether the records need MergeAnnotations before they go out.
bool NeedsWork(std::string_view records);

// A complete ProcessingResponse that asks Envoy for more time.
std::string WriteTimeoutResponse(uint64_t timeout_ms);

// Merges Structs deeply; `later` overrides `earlier`. False, with `merged` unchanged, if one is
// malformed or nested more than 64 deep.
bool MergeStructs(std::string_view earlier, std::string_view later, std::string* merged);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_ANNOTATIONS_H_
