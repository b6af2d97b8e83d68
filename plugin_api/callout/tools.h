/* SPDX-License-Identifier: Apache-2.0 */

/* callout/tools.h - the tools of the callout samples for C plugins, each one step
 * from a call to its answer. Include <callout/message.h>.
 *
 *     return callout_add_header_mutation(call, set, 1, NULL, 0, 1,
 *                                        CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD);
 *
 * Every tool that answers returns what the hook should return: CALLOUT_OK, or a
 * negative status with the reason set as the call's error. An answer replaces the
 * one set before, but an immediate response stands: after callout_deny every other
 * answer is refused. What needs several steps is built with <callout/answer.h>.
 * Whatever is passed in is copied before the tool returns. Thread: [call].
 */
#ifndef CALLOUT_TOOLS_H_
#define CALLOUT_TOOLS_H_

#include <arpa/inet.h>
#include <callout/answer.h>
#include <callout/struct.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Room on the stack: an answer of up to so many bytes allocates nothing. */
#define CALLOUT_TOOL_BUFFER_BYTES 512

static inline callout_status_t callout_tool_fail(callout_call_t* call, callout_status_t status,
                                                 const char* reason) {
  call->host->set_error(call, callout_text(reason));
  return status;
}

/* One line in the host's log, under the instance's name. Thread: [any]. */
static inline void callout_log(const callout_host_t* host, callout_log_level_t level,
                               const char* text) {
  host->log(host, level, callout_text(text));
}

/* --- Headers and bodies ------------------------------------------------- */

static inline void callout_answer_mutate(callout_answer_t* answer, const callout_header_t* add,
                                         size_t add_count, const callout_bytes_t* remove,
                                         size_t remove_count, callout_append_action_t action) {
  size_t i;
  for (i = 0; i < remove_count; ++i) callout_answer_remove_header(answer, remove[i]);
  for (i = 0; i < add_count; ++i) {
    callout_answer_set_header(answer, add[i].key, add[i].value, action);
  }
}

/* Answers headers, a body or trailers with a header mutation: `remove` goes first, so
 * a name in both lists is set. Every header of `add` is set as `append_action` says
 * (callout/answer.h); ADD_IF_ABSENT and OVERWRITE_IF_EXISTS are an error in body
 * phases. `clear_route_cache` lets Envoy choose the route anew; an error in trailers
 * phases. Envoy applies header mutations of a body answer in BUFFERED and
 * BUFFERED_PARTIAL only. */
static inline callout_status_t callout_add_header_mutation(
    callout_call_t* call, const callout_header_t* add, size_t add_count,
    const callout_bytes_t* remove, size_t remove_count, int clear_route_cache,
    callout_append_action_t append_action) {
  char buffer[CALLOUT_TOOL_BUFFER_BYTES];
  callout_answer_t answer;
  callout_answer_init(&answer, call, buffer, sizeof(buffer));
  callout_answer_mutate(&answer, add, add_count, remove, remove_count, append_action);
  if (clear_route_cache) callout_answer_clear_route_cache(&answer);
  return callout_answer_respond(&answer, call);
}

/* Answers a body: with `*body` in its place, or with none of it (`clear_body`), or
 * unchanged (`body` NULL, `clear_body` 0); both at once is an error. A `*body` of no
 * bytes is a real, empty body. In a headers phase the body is replaced unseen
 * (CONTINUE_AND_REPLACE); in a trailers phase it is an error. */
static inline callout_status_t callout_add_body_mutation(callout_call_t* call,
                                                         const callout_bytes_t* body,
                                                         int clear_body, int clear_route_cache) {
  callout_answer_t answer;
  callout_answer_init(&answer, call, NULL, 0);
  if (body != NULL && clear_body) {
    callout_answer_fail(&answer, CALLOUT_INVALID_ARGUMENT,
                        "callout_add_body_mutation: a body and clear_body exclude each other");
  }
  if (body != NULL) callout_answer_set_body(&answer, *body);
  if (clear_body) callout_answer_clear_body(&answer);
  if (clear_route_cache) callout_answer_clear_route_cache(&answer);
  return callout_answer_respond(&answer, call);
}

/* --- Denying ------------------------------------------------------------ */

/* Ends the stream with PERMISSION_DENIED and `text` (NULL: "Callout DENIED."), as
 * deny_callout of the samples does.
 *
 * Prefer callout_deny. What this does to the client is not for the plugin to say:
 * Envoy takes the broken stream for a failure of the processor and answers 500, or, if
 * its filter is set to fail open (failure_mode_allow), LETS THE REQUEST THROUGH. The
 * text reaches Envoy's access log at most. */
static inline callout_status_t callout_deny_callout(callout_call_t* call, const char* text) {
  return callout_tool_fail(call, CALLOUT_PERMISSION_DENIED,
                           text == NULL ? "Callout DENIED." : text);
}

/* Refuses the HTTP request: Envoy answers the client with `http_status` (0: 403) and
 * `body` (NULL: none), whatever its failure mode is, and counts no failure. A gRPC client
 * gets the grpc-status that fits (403: PERMISSION_DENIED) and `body` as its message. */
static inline callout_status_t callout_deny(callout_call_t* call, uint32_t http_status,
                                            const char* body) {
  callout_answer_t answer;
  callout_answer_init(&answer, call, NULL, 0);
  callout_answer_immediate(&answer, http_status == 0 ? 403 : http_status);
  if (body != NULL) callout_answer_set_body(&answer, callout_text(body));
  return callout_answer_respond(&answer, call);
}

/* What callout_header_immediate_response sends; all zero but the status will do. */
typedef struct callout_immediate {
  uint32_t http_status; /* 200 to 599 */
  const callout_header_t* set;
  size_t set_count;
  const callout_bytes_t* remove; /* of the headers Envoy would send by itself */
  size_t remove_count;
  callout_bytes_t body;
  callout_bytes_t details; /* for Envoy's access log, not for the client */
  int has_grpc_status;     /* 0: Envoy derives one from http_status */
  uint32_t grpc_status;    /* for gRPC clients */
} callout_immediate_t;

/* Lets Envoy answer the client at once, with these headers; the stream ends. */
static inline callout_status_t callout_header_immediate_response(
    callout_call_t* call, const callout_immediate_t* response) {
  char buffer[CALLOUT_TOOL_BUFFER_BYTES];
  callout_answer_t answer;
  callout_answer_init(&answer, call, buffer, sizeof(buffer));
  callout_answer_immediate(&answer, response->http_status);
  callout_answer_mutate(&answer, response->set, response->set_count, response->remove,
                        response->remove_count, CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD);
  if (response->body.size > 0) callout_answer_set_body(&answer, response->body);
  callout_answer_set_details(&answer, response->details);
  if (response->has_grpc_status) callout_answer_set_grpc_status(&answer, response->grpc_status);
  return callout_answer_respond(&answer, call);
}

/* --- Streamed immediate responses ---------------------------------------
 *
 * A local reply in pieces: headers (with ":status"), bodies, perhaps trailers; the
 * last piece ends the stream. Only as the answer to request headers, with the request
 * body mode NONE or FULL_DUPLEX_STREAMED. All but the last piece go out with
 * host->send, the last with host->respond, in CALLOUT_STREAMED_IMMEDIATE_RESPONSE. */

/* HeaderMap: headers 1, each a HeaderValue of key 1 and raw_value 3. */
static inline void callout_write_header_map(callout_writer_t* writer, uint32_t field,
                                            const callout_header_t* headers, size_t count) {
  size_t i;
  callout_write_open(writer, field);
  for (i = 0; i < count; ++i) {
    callout_write_open(writer, 1);
    callout_write_bytes(writer, 1, headers[i].key);
    callout_write_bytes(writer, 3, headers[i].value);
    callout_write_close(writer);
  }
  callout_write_close(writer);
}

/* headers_response 1: HttpHeaders of headers 1 and end_of_stream 3. */
static inline void callout_write_streamed_headers(callout_writer_t* writer,
                                                  const callout_header_t* headers, size_t count,
                                                  int end_of_stream) {
  callout_write_open(writer, 1);
  callout_write_header_map(writer, 1, headers, count);
  if (end_of_stream) callout_write_number(writer, 3, 1);
  callout_write_close(writer);
}

/* body_response 2: StreamedBodyResponse of body 1 and end_of_stream 2. */
static inline void callout_write_streamed_body(callout_writer_t* writer, callout_bytes_t body,
                                               int end_of_stream) {
  callout_write_open(writer, 2);
  if (body.size > 0) callout_write_bytes(writer, 1, body);
  if (end_of_stream) callout_write_number(writer, 2, 1);
  callout_write_close(writer);
}

/* trailers_response 3: HeaderMap. */
static inline void callout_write_streamed_trailers(callout_writer_t* writer,
                                                   const callout_header_t* trailers, size_t count) {
  callout_write_header_map(writer, 3, trailers, count);
}

/* --- Beside the answer --------------------------------------------------- */

/* Gives the host what a writer holds, for `field`, and frees the writer. */
static inline callout_status_t callout_annotate_from(callout_call_t* call, callout_field_t field,
                                                     callout_writer_t* writer) {
  callout_status_t status = callout_writer_status(writer);
  if (status == CALLOUT_OK) {
    status = call->host->annotate(call, field, callout_writer_bytes(writer));
  } else {
    callout_tool_fail(call, status, "what was to go beside the answer could not be written");
  }
  callout_writer_free(writer);
  return status;
}

/* ProcessingMode. A field left at CALLOUT_MODE_KEEP is not sent, and the host fills in
 * the mode that holds now. */
typedef uint32_t callout_send_mode_t;
enum { CALLOUT_SEND_DEFAULT = 0, CALLOUT_SEND = 1, CALLOUT_SKIP = 2 };
#define CALLOUT_MODE_KEEP UINT32_MAX

typedef struct callout_mode_override {
  callout_send_mode_t request_headers;
  callout_send_mode_t response_headers;
  callout_body_mode_t request_body;
  callout_body_mode_t response_body;
  callout_send_mode_t request_trailers;
  callout_send_mode_t response_trailers;
} callout_mode_override_t;

static inline callout_mode_override_t callout_keep_modes(void) {
  callout_mode_override_t modes;
  modes.request_headers = modes.response_headers = CALLOUT_MODE_KEEP;
  modes.request_body = modes.response_body = CALLOUT_MODE_KEEP;
  modes.request_trailers = modes.response_trailers = CALLOUT_MODE_KEEP;
  return modes;
}

/* ProcessingMode's fields 1 to 6. Zeros are written: in a body mode 0 is NONE. */
static inline void callout_write_processing_mode(callout_writer_t* writer,
                                                 const callout_mode_override_t* modes) {
  const uint32_t values[6] = {modes->request_headers,  modes->response_headers,
                              modes->request_body,     modes->response_body,
                              modes->request_trailers, modes->response_trailers};
  uint32_t i;
  for (i = 0; i < 6; ++i) {
    if (values[i] != CALLOUT_MODE_KEEP) callout_write_number(writer, i + 1, values[i]);
  }
}

/* Changes which parts Envoy sends for the rest of this HTTP request:
 *
 *     callout_mode_override_t modes = callout_keep_modes();
 *     modes.response_body = CALLOUT_BODY_BUFFERED;
 *     callout_override_mode(call, &modes);
 *
 * Envoy heeds it beside a headers answer only, if its filter allows it
 * (allow_mode_override), and never in FULL_DUPLEX_STREAMED. */
static inline callout_status_t callout_override_mode(callout_call_t* call,
                                                     const callout_mode_override_t* modes) {
  char buffer[80];
  callout_writer_t writer;
  callout_writer_init(&writer, buffer, sizeof(buffer));
  callout_write_processing_mode(&writer, modes);
  return callout_annotate_from(call, CALLOUT_MODE_OVERRIDE, &writer);
}

/* Duration: seconds 1, nanos 2. */
static inline void callout_write_duration_ms(callout_writer_t* writer, uint64_t milliseconds) {
  if (milliseconds >= 1000) callout_write_number(writer, 1, milliseconds / 1000);
  if (milliseconds % 1000 != 0) {
    callout_write_number(writer, 2, milliseconds % 1000 * 1000000);
  }
}

/* Asks Envoy to wait that much longer for this call's answer; for a hook about to return
 * CALLOUT_DEFERRED. Envoy grants it once for each call, from 1 ms up to its
 * max_message_timeout (by default: not at all), and never in FULL_DUPLEX_STREAMED. */
static inline callout_status_t callout_override_message_timeout(callout_call_t* call,
                                                                uint64_t milliseconds) {
  char buffer[32];
  callout_writer_t writer;
  callout_writer_init(&writer, buffer, sizeof(buffer));
  callout_write_duration_ms(&writer, milliseconds);
  return callout_annotate_from(call, CALLOUT_OVERRIDE_MESSAGE_TIMEOUT, &writer);
}

/* Sends metadata for later filters beside the answer: the keys at the top of `metadata`, a
 * serialized Struct, are namespaces, and Envoy drops those that its configuration
 * does not list as receiving_namespaces. */
static inline callout_status_t callout_set_dynamic_metadata(callout_call_t* call,
                                                            callout_bytes_t metadata) {
  return call->host->annotate(call, CALLOUT_DYNAMIC_METADATA, metadata);
}

/* "10.0.0.7:80" or "[2001:db8::1]:80" in `to`, of at least 64 bytes. 0 if `ip` is no
 * address or `port` is not 1 to 65535. */
static inline int callout_format_endpoint(callout_bytes_t ip, uint32_t port, char* to) {
  char text[INET6_ADDRSTRLEN];
  unsigned char address[16];
  int family = AF_INET;
  if (ip.size == 0 || ip.size >= sizeof(text) || port == 0 || port > 65535) return 0;
  memcpy(text, ip.data, ip.size);
  text[ip.size] = '\0';
  /* Bytes after a NUL would be passed over unseen. */
  if (memchr(text, '\0', ip.size) != NULL) return 0;
  if (inet_pton(family, text, address) != 1) {
    family = AF_INET6;
    if (inet_pton(family, text, address) != 1) return 0;
  }
  if (inet_ntop(family, address, text, sizeof(text)) == NULL) return 0;
  snprintf(to, 64, family == AF_INET6 ? "[%s]:%u" : "%s:%u", text, port);
  return 1;
}

/* Writes the metadata by which a load balancer's dynamic forwarding chooses the
 * endpoint: a Struct with "ip:port" (IPv6 in brackets) under "primary" in the namespace
 * com.google.envoy.dynamic_forwarding.selected_endpoints. INVALID_ARGUMENT, and nothing
 * written: `ip` is not an IPv4 or IPv6 address, or `port` is not 1 to 65535. */
static inline callout_status_t callout_build_dynamic_forwarding_metadata(callout_writer_t* writer,
                                                                         callout_bytes_t ip,
                                                                         uint32_t port) {
  char endpoint[64];
  if (!callout_format_endpoint(ip, port, endpoint)) return CALLOUT_INVALID_ARGUMENT;
  callout_write_struct(writer,
                       callout_text("com.google.envoy.dynamic_forwarding.selected_endpoints"));
  callout_write_string(writer, callout_text("primary"), callout_text(endpoint));
  callout_write_close(writer);
  return writer->status;
}

/* The same, sent beside the answer. */
static inline callout_status_t callout_forward_to(callout_call_t* call, callout_bytes_t ip,
                                                  uint32_t port) {
  char buffer[256];
  callout_writer_t writer;
  callout_writer_init(&writer, buffer, sizeof(buffer));
  if (callout_build_dynamic_forwarding_metadata(&writer, ip, port) == CALLOUT_INVALID_ARGUMENT) {
    callout_writer_free(&writer);
    return callout_tool_fail(call, CALLOUT_INVALID_ARGUMENT,
                             "dynamic forwarding needs an IPv4 or IPv6 address and a port of 1 "
                             "to 65535");
  }
  return callout_annotate_from(call, CALLOUT_DYNAMIC_METADATA, &writer);
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* CALLOUT_TOOLS_H_ */
