// SPDX-License-Identifier: Apache-2.0

// Requests and responses of ext_proc, ext_authz, rate limits and network ext_proc as protobuf JSON:
// names of fields as in the .proto (lowerCamelCase is read too), bytes such as raw_value in base64.
// Functions without state.
//
// Tested by tests/client/client_test.cc.
#ifndef CALLOUT_HOST_CLIENT_MESSAGES_H_
#define CALLOUT_HOST_CLIENT_MESSAGES_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "envoy/service/auth/v3/external_auth.pb.h"
#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "envoy/service/network_ext_proc/v3/network_external_processor.pb.h"
#include "envoy/service/ratelimit/v3/rls.pb.h"

namespace callout::host {

using envoy::service::auth::v3::CheckRequest;
using envoy::service::auth::v3::CheckResponse;
using envoy::service::ext_proc::v3::ProcessingRequest;
using envoy::service::ext_proc::v3::ProcessingResponse;
using envoy::service::ratelimit::v3::RateLimitRequest;
using envoy::service::ratelimit::v3::RateLimitResponse;

using NetworkRequest = envoy::service::network_ext_proc::v3::ProcessingRequest;
using NetworkResponse = envoy::service::network_ext_proc::v3::ProcessingResponse;

// Sent if no --data is given.
inline constexpr char kDefaultMessage[] =
    R"({"request_headers": {"headers": {"headers": [)"
    R"({"key": ":method", "value": "GET"}, {"key": ":scheme", "value": "https"}, )"
    R"({"key": ":authority", "value": "callout.example"}, {"key": ":path", "value": "/"}]}, )"
    R"("end_of_stream": true}})";

inline constexpr char kDefaultCheck[] =
    R"({"attributes": {"request": {"http": {"method": "GET", "path": "/", )"
    R"("host": "callout.example", "headers": {":method": "GET", ":path": "/", )"
    R"(":authority": "callout.example"}}}}})";

inline constexpr char kDefaultRateLimit[] =
    R"({"domain": "test", "descriptors": [{"entries": [{"key": "generic_key", )"
    R"("value": "default"}]}]})";

// "hello"
inline constexpr char kDefaultNetwork[] = R"({"read_data": {"data": "aGVsbG8="}})";

// `json` is one object or an array of them. INVALID_ARGUMENT says what is wrong
// and where: line and column, or which message and field.
absl::StatusOr<std::vector<ProcessingRequest>> ParseMessages(const std::string& json);
absl::StatusOr<std::vector<CheckRequest>> ParseChecks(const std::string& json);
absl::StatusOr<std::vector<RateLimitRequest>> ParseRateLimits(const std::string& json);
absl::StatusOr<std::vector<NetworkRequest>> ParseNetworkMessages(const std::string& json);

// One line, without its end.
std::string PrintAnswer(const google::protobuf::Message& answer);

// How many responses the protocol requires: none in observability mode, and none for
// single chunks of a body in FULL_DUPLEX_STREAMED.
size_t AnswersDue(const std::vector<ProcessingRequest>& messages);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CLIENT_MESSAGES_H_
