// SPDX-License-Identifier: Apache-2.0

// ProcessingRequest and ProcessingResponse (envoy/service/ext_proc/v3/external_processor.proto),
// read as views and written by field number. Only host/wire/ knows the layout of these messages. It
// uses no generated class, so unknown fields pass unchanged.
#ifndef CALLOUT_HOST_WIRE_ENVELOPE_H_
#define CALLOUT_HOST_WIRE_ENVELOPE_H_

#include <callout/plugin.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"

namespace callout::host {

// One record of ProcessingResponse: the response that a plugin has set.
struct Response {
  uint32_t field = 0;  // CALLOUT_*_RESPONSE; 0: nothing set
  std::string record;  // tag, length and payload of `field`
  size_t payload_offset = 0;

  std::string_view payload() const { return std::string_view(record).substr(payload_offset); }
  void Clear() {
    field = 0;
    record.clear();
    payload_offset = 0;
  }
};

// ProcessingRequest.protocol_config, which Envoy sends in the first message.
struct ProtocolConfig {
  callout_body_mode_t request_body_mode = CALLOUT_BODY_NONE;
  callout_body_mode_t response_body_mode = CALLOUT_BODY_NONE;
  bool send_body_without_waiting = false;
};

// One ProcessingRequest as views into its bytes.
struct RequestView {
  callout_phase_t phase = 0;  // 0: no member of the oneof that this host knows
  std::string_view message;   // of that member
  std::string_view metadata_context;
  // Whole records (tag, length, entry) of the map `attributes`.
  absl::InlinedVector<std::string_view, 1> attribute_records;
  bool observability_mode = false;
  bool has_protocol_config = false;
  ProtocolConfig protocol_config;
  // True if there is a field that this host does not know, which may be a phase of a later version.
  bool has_unknown_field = false;
};

// The default limit on the headers, and on the attributes, of a message.
inline constexpr size_t kMessageFieldsMax = 4096;

// INVALID_ARGUMENT if `bytes` is not a ProcessingRequest, or has the oneof twice: the two would
// have to be merged, and no client sends that.
//
// RESOURCE_EXHAUSTED if it has more than `fields_max` headers or attributes: one takes two bytes of
// the message, but 48 bytes of memory in a list.
absl::StatusOr<RequestView> ParseRequest(std::string_view bytes,
                                         size_t fields_max = kMessageFieldsMax);

// The message of `phase` in a ProcessingRequest that was parsed before; "": it has none.
std::string_view MessageOf(std::string_view request, callout_phase_t phase);

// Makes `answer` the record of `field` with the concatenation of `parts` as its payload, `size`
// bytes in total.
void BuildRecord(callout_field_t field, const callout_bytes_t* parts, size_t part_count,
                 size_t size, Response* response);
inline void BuildRecord(callout_field_t field, std::string_view payload, Response* response) {
  const callout_bytes_t part = {payload.data(), payload.size()};
  BuildRecord(field, &part, 1, payload.size(), response);
}

// Appends a length-delimited record.
void AppendRecord(uint32_t field, std::string_view payload, std::string* out);

// Splits a serialized ProcessingResponse: the last member of the oneof goes to `answer`, which
// stays unchanged if there is none; all other records are appended to `annotations`. False if
// `bytes` is not a ProcessingResponse.
bool SplitResponse(std::string_view bytes, Response* response, std::string* annotations);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_ENVELOPE_H_
