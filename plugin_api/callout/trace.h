/* SPDX-License-Identifier: Apache-2.0 */

/* callout/trace.h - the extension with which a plugin adds to the trace of an exchange: attributes
 * and events of the span that the host makes of each call, and the context to pass on in requests
 * of its own.
 *
 *     const callout_trace_t *trace = host->get_extension(host, CALLOUT_TRACE);  // in create
 *     if (trace != NULL && trace->is_recording(call)) {
 *       callout_trace_attribute_t rule = {0};
 *       rule.key = callout_text("waf.rule");
 *       rule.type = CALLOUT_TRACE_INTEGER;
 *       rule.integer = 942100;
 *       trace->set_attribute(call, &rule);
 *     }
 *
 * C++ has <callout/trace.hpp>. Tests: <callout/testing.hpp> keeps what was recorded.
 *
 * Cost. Only an exchange that is sampled is recorded. For the others is_recording() is 0 and the
 * functions that add return OK and do nothing, so that a plugin asks only where it would have to
 * compute what it adds.
 *
 * Which span. That of the call: from its hook until its finish(), and for callout_on_stream_open
 * that of the call which follows. Cancel and close have none. A call that the host has answered
 * itself, because its deadline has passed or the client has left, has none any more.
 *
 * Limits. OpenTelemetry's variables limit the attributes of a span (OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT,
 * 128), its events (OTEL_SPAN_EVENT_COUNT_LIMIT, 128), the attributes of an event
 * (OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT, 128) and the bytes of a text
 * (OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT, 1024): longer ones are cut after a whole character.
 * --max_trace_bytes limits all that plugins add to one exchange. What is over a limit is left out
 * and counted: in the span and in callout_trace_dropped_total.
 *
 * Every function is [call], so that the call may also be held by another thread, and copies what
 * it takes.
 */
#ifndef CALLOUT_TRACE_H_
#define CALLOUT_TRACE_H_

#include <callout/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CALLOUT_TRACE "callout.trace/1"

/* The longest key of an attribute and the longest name of an event, in bytes. Both have at least
 * one. */
#define CALLOUT_TRACE_KEY_BYTES_MAX 256
/* The size of a traceparent, in bytes. */
#define CALLOUT_TRACEPARENT_BYTES 55

/* Which member of callout_trace_attribute_t has the value. */
#define CALLOUT_TRACE_TEXT 1u
#define CALLOUT_TRACE_INTEGER 2u
#define CALLOUT_TRACE_REAL 3u
#define CALLOUT_TRACE_FLAG 4u /* `integer`: 0 or 1 */

/* Start from zero. FROZEN. */
typedef struct callout_trace_attribute {
  /* UTF-8. The host sets "http.response.status_code" and all that begin with "callout." itself. */
  callout_bytes_t key;
  callout_bytes_t text; /* UTF-8 */
  int64_t integer;
  double real;
  uint32_t type; /* CALLOUT_TRACE_... */
  uint32_t reserved;
} callout_trace_attribute_t;

/* From those that add, while it is recorded: INVALID_ARGUMENT if a key, name or text is not as
 * above; RESOURCE_EXHAUSTED if it is over a limit; FAILED_PRECONDITION if the call, or its span, is
 * over. An attribute of an event that is over a limit is left out of the event, which is OK.
 * FROZEN. */
typedef struct callout_trace {
  uint32_t struct_size;
  uint32_t reserved;
  /* 1 if what is added is kept. [call] */
  int32_t (*is_recording)(const callout_call_t* call);
  /* Sets an attribute of the call's span, in place of one that has this key. [call] */
  callout_status_t (*set_attribute)(callout_call_t* call,
                                    const callout_trace_attribute_t* attribute);
  /* Adds an event, which has the time of this call of the function. [call] */
  callout_status_t (*add_event)(callout_call_t* call, callout_bytes_t name,
                                const callout_trace_attribute_t* attributes, size_t count);
  /* The context for requests that the plugin sends on behalf of this call, by W3C Trace Context.
   * Copies `traceparent`, without a NUL: if the exchange is recorded, the parent is the call's
   * span; else it is what came with the gRPC request, to be passed on as it is. `tracestate`, which
   * may be NULL, becomes a view that lives as long as the stream; empty: there is none.
   * NOT_FOUND: there is no context. FAILED_PRECONDITION: the call is over. [call] */
  callout_status_t (*get_context)(const callout_call_t* call,
                                  char traceparent[CALLOUT_TRACEPARENT_BYTES],
                                  callout_bytes_t* tracestate);
} callout_trace_t;

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* CALLOUT_TRACE_H_ */
