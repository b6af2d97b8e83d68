// SPDX-License-Identifier: Apache-2.0

// The guard of ext_authz: nothing leaves the host that Envoy would pass on unchecked and
// that would break a request, a response or a connection.
//
// Envoy 1.40 checks nothing by default (validate_mutations is off): CR and LF in a denial or
// in a response header arrive at the client as further headers, a status of 100 hangs it, a
// content-length makes the upstream wait for a body, the method HEAD the client, and one byte that
// is not UTF-8 makes protobuf refuse the whole message.
//
// Tested by tests/host/unary/check_service_test.cc.
#ifndef CALLOUT_HOST_UNARY_CHECK_GUARD_H_
#define CALLOUT_HOST_UNARY_CHECK_GUARD_H_

#include <callout/plugin.h>

#include <cstddef>
#include <string_view>
#include <vector>

#include "host/plugin/violation.h"
#include "host/wire/check_request.h"
#include "host/wire/check_response.h"

namespace callout::host {

// Its name: with it, and "connection: upgrade", Envoy takes a request for one that asks for another
// protocol, and the client of a plain request gets no response that it can read.
bool IsUpgrade(std::string_view name);

// Whether `field` with the content `view` may answer a Check.
Finding CheckCheckResponse(callout_field_t field, const CheckResponseView& view);

// Whether these headers of a request, which came as `request`, leave its method so that the client
// gets a response that it can read: one to HEAD has no body, and one to CONNECT has no end.
Finding CheckMethod(const std::vector<CheckHeaderOption>& headers, const CheckRequestView& request);

// The same for headers that are only added, to a request or a response: no pseudo header is. `list`
// is what the log calls them.
Finding CheckAddedHeaders(const std::vector<CheckHeaderOption>& headers, std::string_view list);

// Whether a request with these headers stays within Envoy's limits whatever `ok` does to them: true
// of nearly all, and told without doing it.
bool FitsWithAll(const CheckHeaders& headers, const CheckResponseView& ok, size_t header_count_max,
                 size_t header_bytes_max);

// The query of a longer path is not changed: that takes work and memory for each parameter.
Finding CheckPath(std::string_view path, size_t header_bytes_max);

// Whether a request with these headers, which came with `before` of them, stays within
// Envoy's limits. What came in over a limit proves that Envoy's own is higher.
Finding CheckRequestLimits(const CheckRequestView& before, const CheckHeaders& after,
                           size_t header_count_max, size_t header_bytes_max);

}  // namespace callout::host

#endif  // CALLOUT_HOST_UNARY_CHECK_GUARD_H_
