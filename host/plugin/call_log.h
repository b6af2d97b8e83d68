// SPDX-License-Identifier: Apache-2.0

// A line for each call at log level DEBUG: stream, plugin, phase, time, outcome,
// and for headers and trailers what the plugin was given.
//
//   stream 17 plugin auth request_headers 12 us -> OK, answered request_headers;
//   :path: /x, authorization: [redacted]
//
// Values of headers that carry secrets are left out (--log_redacted_headers): "*" at the beginning
// or end of a name stands for anything, and "?query" for what follows the question mark in :path,
// referer, location and other headers with URLs. Costs
// nothing while DEBUG is off. Any thread.
//
// Tested by tests/integration/call_log_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_CALL_LOG_H_
#define CALLOUT_HOST_PLUGIN_CALL_LOG_H_

#include <callout/plugin.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "host/plugin/call.h"

namespace callout::host {

// Whatever carries credentials by its nature, and queries.
const std::vector<std::string>& RedactedHeadersDefault();
// Names in lower case. Once, before the first call.
void SetRedactedHeaders(std::vector<std::string> names);

// "OK", "DEFERRED", "INTERNAL"; the number for a status without a name.
std::string StatusName(callout_status_t status);

// `state` as its hook left it. For a deferred call its answer may be another
// thread's already and is not looked at.
void LogCall(const CallState& state, std::string_view plugin_name, callout_status_t status,
             uint64_t nanoseconds);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_CALL_LOG_H_
