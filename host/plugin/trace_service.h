// SPDX-License-Identifier: Apache-2.0

// The extension callout.trace/1 (<callout/trace.h>): checks what a plugin adds to the span of its
// call, and gives it to the SpanWriter of the RPC's observers. For an RPC that nobody records it
// is one comparison.
//
// Tested by tests/host/plugin/trace_service_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_TRACE_SERVICE_H_
#define CALLOUT_HOST_PLUGIN_TRACE_SERVICE_H_

#include <callout/trace.h>

namespace callout::host {

extern const callout_trace_t kTraceService;

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_TRACE_SERVICE_H_
