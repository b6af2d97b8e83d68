// SPDX-License-Identifier: Apache-2.0

// The wire form of ext_authz's CheckRequest (envoy/service/auth/v3/external_auth.proto),
// read as views and written again as a later filter would see it.
//
// Tested by tests/host/unary/check_codec_test.cc.
#ifndef CALLOUT_HOST_WIRE_CHECK_REQUEST_H_
#define CALLOUT_HOST_WIRE_CHECK_REQUEST_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace callout::host {

// A header of a request.
struct CheckHeader {
  std::string_view name;
  std::string_view value;
};
using CheckHeaders = std::vector<CheckHeader>;

// One CheckRequest as views into its bytes.
struct CheckRequestView {
  std::string_view request;     // all of it
  std::string_view attributes;  // AttributeContext
  std::string_view http;        // AttributeContext.HttpRequest
  std::string_view path;        // HttpRequest.path
  bool has_http = false;        // false: the network filter asks, about a connection
  std::string_view metadata_context;
  bool has_raw_headers = false;  // header_map is filled, and not headers
  bool has_body = false;         // bytes of a body have come to Envoy
  std::string_view protocol;     // "HTTP/1.1", "HTTP/2"
  // Of a name that stands in the map twice the last value, as in every protobuf map.
  CheckHeaders headers;
};

// INVALID_ARGUMENT if `bytes` is not a CheckRequest, or has a message in it twice that a
// client sends once. RESOURCE_EXHAUSTED if it has more than `fields_max` headers.
absl::StatusOr<CheckRequestView> ParseCheckRequest(std::string_view bytes, size_t fields_max);

// The CheckRequest of `view` with these headers in place of its own, in the same form; what
// else says the same (path, method, host, scheme) follows the pseudo headers.
std::string WriteCheckRequest(const CheckRequestView& view, const CheckHeaders& headers);

// --- The same request as ext_proc tells of it ---

// HttpHeaders.
std::string WriteHttpHeaders(const CheckHeaders& headers, bool end_of_stream);

// A record of ProcessingRequest.attributes, under the key "envoy.filters.http.ext_authz". It
// has the context extensions by their own names and, by the names that Envoy's attributes
// have, source.address, destination.address ("10.0.0.7:41312"), source.principal,
// destination.principal, connection.requested_server_name, request.id and request.protocol.
std::string WriteCheckAttributes(const CheckRequestView& view);

// A ProcessingRequest around `http_headers`.
std::string WriteProcessingRequest(const CheckRequestView& view, std::string_view http_headers,
                                   std::string_view attributes);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_CHECK_REQUEST_H_
