// SPDX-License-Identifier: Apache-2.0

// A request to an upstream, and what it came to.
//
// Plain values; any thread.
//
// Tested by tests/host/upstream/upstream_test.cc.
#ifndef CALLOUT_HOST_UPSTREAM_UPSTREAM_MESSAGE_H_
#define CALLOUT_HOST_UPSTREAM_UPSTREAM_MESSAGE_H_

#include <callout/plugin.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace callout::host {

using HeaderFields = std::vector<std::pair<std::string, std::string>>;

// A request that request_rules has checked.
struct UpstreamRequest {
  bool grpc = false;
  bool idempotent = false;
  std::string method;
  std::string path;
  HeaderFields headers;  // names in lower case; host may be among them
  std::string body;      // of gRPC with its frame
  uint64_t timeout_ns = 0;
};

struct UpstreamResponse {
  uint32_t status = 0;  // HTTP's; 0: there is none
  HeaderFields headers;
  HeaderFields trailers;
  std::string body;
};

// How one attempt, or a call as a whole, ended.
enum class UpstreamOutcome : uint8_t {
  kResponse,         // there is a response
  kConnectFailed,    // no connection: name, socket, TLS
  kRefused,          // the service has not looked at the request: it can be sent again
  kReset,            // the connection or the stream broke
  kInvalidResponse,  // not HTTP, or not gRPC
  kTooLarge,         // the response is over its limit
  kTimeout,
  kCircuitOpen,
  kPendingRejected,
};

struct AttemptResult {
  UpstreamOutcome outcome = UpstreamOutcome::kResponse;
  std::string why;  // unless there is a response
  UpstreamResponse response = {};
};

struct UpstreamResult {
  callout_status_t status = CALLOUT_OK;
  bool from_service = false;
  std::string message;
  UpstreamResponse response;
  uint64_t elapsed_ns = 0;
  uint64_t attempts = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_UPSTREAM_UPSTREAM_MESSAGE_H_
