// SPDX-License-Identifier: Apache-2.0

// The guard of rate limits: nothing leaves the host that Envoy would pass on unchecked, or that
// would let a request pass which a plugin has refused.
//
// Envoy 1.40 adds the headers as they are, writes the name of a limit into x-ratelimit-limit as it
// is, and goes by overall_code alone.
//
// Tested by tests/host/unary/rate_limit_test.cc.
#ifndef CALLOUT_HOST_UNARY_RATE_LIMIT_GUARD_H_
#define CALLOUT_HOST_UNARY_RATE_LIMIT_GUARD_H_

#include <cstddef>

#include "host/plugin/violation.h"
#include "host/wire/rate_limit.h"

namespace callout::host {

// Whether `view` may answer a request with so many descriptors.
Finding CheckRateLimitResponse(const RateLimitResponseView& view, size_t descriptors);

}  // namespace callout::host

#endif  // CALLOUT_HOST_UNARY_RATE_LIMIT_GUARD_H_
