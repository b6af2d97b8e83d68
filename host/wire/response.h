// SPDX-License-Identifier: Apache-2.0

// A hook's response as views into its bytes, whatever its type. It is read and validated once; the
// guard and the chain work on the result.
#ifndef CALLOUT_HOST_WIRE_RESPONSE_H_
#define CALLOUT_HOST_WIRE_RESPONSE_H_

#include <callout/plugin.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/container/inlined_vector.h"

namespace callout::host {

// One HeaderValueOption. `value` is raw_value, the only one that Envoy's ext_proc reads. `append`
// is the deprecated flag, the only one that Envoy 1.40 obeys.
struct HeaderSet {
  std::string_view key;
  std::string_view value;
  bool append = false;
  bool only_value = false;    // `value` is set and raw_value is not
  bool other_action = false;  // append_action is ADD_IF_ABSENT or OVERWRITE_IF_EXISTS
};

struct HeaderMutationView {
  absl::InlinedVector<HeaderSet, 8> set;
  absl::InlinedVector<std::string_view, 4> remove;
  bool present = false;

  bool empty() const { return set.empty() && remove.empty(); }
};

// Any member of ProcessingResponse's oneof. Fields that a type does not have keep their defaults.
struct ResponseView {
  enum class Body : uint8_t { kUnchanged, kReplaced, kCleared, kStreamed };

  // HeadersResponse, BodyResponse (their CommonResponse) and TrailersResponse.
  HeaderMutationView headers;  // also ImmediateResponse.headers
  bool continue_and_replace = false;
  bool clear_route_cache = false;
  Body body_mutation = Body::kUnchanged;
  std::string_view body;       // kReplaced, kStreamed; also ImmediateResponse.body
  bool has_details = false;    // of ImmediateResponse
  bool may_have_rest = false;  // a record that no member here stands for
  bool end_of_stream = false;  // of a streamed body

  // StreamedImmediateResponse: which of its parts this is.
  enum class Streamed : uint8_t { kNone, kHeaders, kBody, kTrailers };
  Streamed streamed_part = Streamed::kNone;

  void Clear() {
    headers.set.clear();
    headers.remove.clear();
    headers.present = continue_and_replace = clear_route_cache = end_of_stream = has_details =
        may_have_rest = false;
    body_mutation = Body::kUnchanged;
    body = {};
    streamed_part = Streamed::kNone;
  }
};

// False if `payload` is not a well-formed message of the type of ProcessingResponse's `field`, or
// has a string that is not UTF-8, for which protobuf refuses the message. (The guard checks header
// names.) Unknown fields are well formed.
bool ReadResponse(callout_field_t field, std::string_view payload, ResponseView* view);

// The same for a HeaderMutation.
bool ReadHeaderMutation(std::string_view payload, HeaderMutationView* mutation);

// What the host needs to know of HttpHeaders. The header list is read only on request.
struct HeadersMessageView {
  bool end_of_stream = false;
  bool has_content_length = false;
  std::optional<uint64_t> content_length;  // bytes; nullopt: none, or none that is a number
  bool has_content_encoding = false;
};
bool ReadHeadersMessage(std::string_view message, bool read_list, HeadersMessageView* view);

// HttpBody's body and end_of_stream.
bool ReadBodyMessage(std::string_view message, std::string_view* body, bool* end_of_stream);

// The header list and end_of_stream of HttpHeaders, as `headers.set` and
// `end_of_stream`.
bool ReadHttpHeaders(std::string_view message, ResponseView* view);

// The value of the first header of this name (in lower case) that is not empty; "": there is none,
// or the bytes are malformed. Reads no more of HttpHeaders than it has to.
std::string_view FindHeader(std::string_view message, std::string_view name);

// The number in ":status" of HttpHeaders; 0: it has none.
uint32_t ReadStatus(std::string_view message);
// The HTTP status that Envoy answers with by an ImmediateResponse, or by the headers of a
// StreamedImmediateResponse; 0: `payload` says nothing of it.
uint32_t ReadImmediateStatus(callout_field_t field, std::string_view payload);

// Payloads that the host writes itself.
//
// BodyResponse with body_mutation.streamed_response.
std::string WriteStreamedBody(std::string_view body, bool end_of_stream);
// ImmediateResponse with a status and details. Envoy writes details into its access log
// (RESPONSE_CODE_DETAILS) and does not show them to the client.
std::string WriteImmediateResponse(int http_status, std::string_view details);
// The details field alone, to append to an ImmediateResponse payload without details.
std::string WriteImmediateDetails(std::string_view details);
// StreamedImmediateResponse that ends the body.
std::string WriteStreamedImmediateEnd();
// A record that sets or removes one header, to append to a BodyResponse payload: protobuf merges
// repeated records.
std::string WriteBodyHeaderSet(std::string_view key, std::string_view value);
std::string WriteBodyHeaderRemoval(std::string_view key);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_RESPONSE_H_
