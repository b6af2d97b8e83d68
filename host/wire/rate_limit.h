// SPDX-License-Identifier: Apache-2.0

// The wire form of rate limits (envoy/service/ratelimit/v3/rls.proto): the request and what a
// plugin has set, as views, and what the host writes.
//
// Envoy 1.40 goes by overall_code alone, and takes 0 for an OK. It reads `value` of a header and
// not raw_value; both are written, since other readers want the other one.
//
// Tested by tests/host/unary/rate_limit_test.cc.
#ifndef CALLOUT_HOST_WIRE_RATE_LIMIT_H_
#define CALLOUT_HOST_WIRE_RATE_LIMIT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "host/wire/envelope.h"

namespace callout::host {

// One RateLimitRequest as views into its bytes.
struct RateLimitRequestView {
  std::string_view request;  // all of it
  std::string_view domain;
  std::vector<std::string_view> descriptors;  // RateLimitDescriptors
};

// INVALID_ARGUMENT if `bytes` is not a RateLimitRequest. RESOURCE_EXHAUSTED if its descriptors
// have, all together, more than `fields_max` entries, or it has more descriptors than that.
absl::StatusOr<RateLimitRequestView> ParseRateLimitRequest(std::string_view bytes,
                                                           size_t fields_max);

// A record of ProcessingRequest.attributes under the key "envoy.filters.http.ratelimit": the
// domain as "domain", and each entry of a descriptor by its key. Of a key that stands there more
// than once the first counts.
std::string WriteRateLimitAttributes(const RateLimitRequestView& view);

// RateLimitResponse.Code.
enum class RateLimitCode : uint8_t { kUnknown = 0, kOk = 1, kOverLimit = 2 };

struct RateLimitHeader {
  std::string_view name;
  std::string_view value;  // raw_value or, where that is empty, value
};

// A DescriptorStatus.
struct RateLimitStatusView {
  std::string_view bytes;  // all of it
  uint64_t code = 0;
  bool has_limit = false;
  std::string_view limit_name;
  uint64_t remaining = 0;
};

struct RateLimitResponseView {
  uint64_t overall_code = 0;
  std::vector<RateLimitStatusView> statuses;
  std::vector<RateLimitHeader> response_headers;
  std::vector<RateLimitHeader> request_headers;
  std::string_view body;
  std::string_view quota_record;  // tag and length too; "": there is none
};

// The field of `Response` under which a plugin's RateLimitResponse is kept, without its
// metadata: no field of the message itself.
inline constexpr callout_field_t kRateLimitAnswer = 15;

// Takes a serialized RateLimitResponse apart: dynamic_metadata goes to `annotations`, all else, if
// there is anything, is the answer. False if `bytes` is not well-formed.
bool SplitRateLimitResponse(std::string_view bytes, Response* response, std::string* annotations);

// False if `payload` is not what Envoy could parse. Codes and texts of headers are left to the
// guard.
bool ReadRateLimitResponse(std::string_view payload, RateLimitResponseView* view);

constexpr bool IsOverLimit(uint64_t code) {
  return code == static_cast<uint64_t>(RateLimitCode::kOverLimit);
}
// Whether it says, be it valid or not, that the request is over a limit.
bool RefusesRequest(const RateLimitResponseView& view);

// Whether the records beside an answer are well-formed dynamic_metadata.
bool RateLimitAnnotationsAreWellFormed(std::string_view records);

// Appends a HeaderValue in field `number`, with value and raw_value.
void AppendRateLimitHeader(uint32_t number, std::string_view name, std::string_view value,
                           std::string* out);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_RATE_LIMIT_H_
