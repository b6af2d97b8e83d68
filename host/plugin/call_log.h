// SPDX-License-Identifier: Apache-2.0

// Writes a line for each call at log level DEBUG: stream, plugin, phase, time, outcome, and the
// headers or trailers that the plugin got; of bodies and of other services' messages the size.
//
//   stream 17 plugin auth request_headers 12 us -> OK, answered request_headers;
//   :path: /x, authorization: [redacted]
//
// It leaves out the values of headers that carry secrets (--log_redacted_headers;
// host/base/redaction.h). It costs nothing while DEBUG is off. Any thread.
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

// Headers that carry credentials, by their names, and queries.
const std::vector<std::string>& RedactedHeadersDefault();
// Sets the names, in lower case. Call it once, before the first call of a plugin.
void SetRedactedHeaders(std::vector<std::string> names);

// The value of a header, or what the log and explanations show in its place. The header that marks
// an exchange to be explained has a key as its value, and is never shown.
std::string ShownHeaderValue(std::string_view name, std::string_view value);

// "OK", "DEFERRED", "INTERNAL"; the number for a status without a name.
std::string StatusName(callout_status_t status);

// `state` is as its hook left it. The response of a deferred call is not read, since another thread
// may write it.
void LogCall(const CallState& state, std::string_view plugin_name, callout_status_t status,
             uint64_t nanoseconds);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_CALL_LOG_H_
