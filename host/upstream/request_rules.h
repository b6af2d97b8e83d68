// SPDX-License-Identifier: Apache-2.0

// Which requests of plugins may go out, as <callout/calls.h> says, and their form as the host sends
// them.
//
//   absl::StatusOr<UpstreamRequest> request = TakeRequest(outgoing, {.allow_host = false});
//
// Stateless; any thread.
#ifndef CALLOUT_HOST_UPSTREAM_REQUEST_RULES_H_
#define CALLOUT_HOST_UPSTREAM_REQUEST_RULES_H_

#include <callout/calls.h>

#include <string_view>

#include "absl/status/statusor.h"
#include "host/upstream/upstream_message.h"

namespace callout::host {

struct RequestRules {
  bool allow_host = false;
  size_t body_bytes_max = size_t{1} << 20;
};

// Copies the request. INVALID_ARGUMENT says what is not allowed, without values, which may be
// secrets; RESOURCE_EXHAUSTED: the body is over the limit.
absl::StatusOr<UpstreamRequest> TakeRequest(const callout_outgoing_t& outgoing,
                                            const RequestRules& rules);

// Whether a header's value has only bytes that go through HTTP/1.1 and HTTP/2 unchanged.
bool IsFieldValue(std::string_view value);

}  // namespace callout::host

#endif  // CALLOUT_HOST_UPSTREAM_REQUEST_RULES_H_
