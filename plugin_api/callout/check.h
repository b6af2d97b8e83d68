/* SPDX-License-Identifier: Apache-2.0 */

/* callout/check.h - ext_authz in C: what a Check asks, and the answer to it. Include
 * <callout/message.h>.
 *
 *     callout_status_t callout_on_check(callout_call_t *call) {
 *       callout_bytes_t token;
 *       if (!callout_check_header(call, callout_text("authorization"), &token)) {
 *         return callout_deny_request(call, 401, callout_text("who are you?"));
 *       }
 *       return callout_allow_request(call, NULL, 0);
 *     }
 *
 * An answer of several steps:
 *
 *     callout_check_answer_t answer;
 *     callout_check_allow(&answer);
 *     callout_check_set_header(&answer, callout_text("x-user"), callout_text("ada"),
 *                              CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD);
 *     callout_check_remove_query(&answer, callout_text("token"));
 *     return callout_check_respond(&answer, call);
 *
 * A denial stands: a later answer to the same call is refused (FAILED_PRECONDITION), so that
 * a missing `return` lets nothing pass. An allowance is replaced.
 *
 * What Envoy understands of an answer is the host's affair: an action is settled against the
 * request's headers, query parameters are encoded, and `status` agrees with the answer. What
 * it does not let through it counts as a fault (illegal_header): see callout_on_check.
 *
 * Views live as long as the call's message. Thread: [call].
 */
#ifndef CALLOUT_CHECK_H_
#define CALLOUT_CHECK_H_

#include <callout/answer.h>
#include <callout/headers.h>
#include <callout/struct.h>
#include <callout/wire.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- What is asked ------------------------------------------------------- */

/* The content of the message in `field` of `message`; empty if there is none. */
static inline callout_bytes_t callout_check_field(callout_bytes_t message, uint32_t field) {
  callout_bytes_t found = callout_make_bytes(NULL, 0);
  callout_reader_t reader = callout_read(message);
  while (callout_reader_next(&reader)) {
    if (callout_reader_is(&reader, field, CALLOUT_WIRE_BYTES)) found = reader.bytes;
  }
  return found;
}

/* AttributeContext.HttpRequest: AttributeContext.request 4, Request.http 2. Empty where
 * the network filter asks about a connection. */
static inline callout_bytes_t callout_check_http(const callout_call_t* call) {
  return callout_check_field(callout_check_field(call->message, 4), 2);
}

enum {
  CALLOUT_HTTP_ID = 1,
  CALLOUT_HTTP_METHOD = 2,
  CALLOUT_HTTP_PATH = 4, /* with the query */
  CALLOUT_HTTP_HOST = 5,
  CALLOUT_HTTP_SCHEME = 6,
  CALLOUT_HTTP_PROTOCOL = 10 /* "HTTP/1.1" */
};
/* One of these texts of the request, empty if there is none. */
static inline callout_bytes_t callout_check_text(const callout_call_t* call, uint32_t field) {
  return callout_check_field(callout_check_http(call), field);
}

/* The body, where Envoy is told to send it (with_request_body): `body` 11 or, with
 * pack_as_bytes, `raw_body` 12. */
static inline callout_bytes_t callout_check_body(const callout_call_t* call) {
  const callout_bytes_t http = callout_check_http(call);
  const callout_bytes_t raw = callout_check_field(http, 12);
  return raw.size > 0 ? raw : callout_check_field(http, 11);
}

/* Steps through the request's headers, in either form: `headers` 3, a map, whose values
 * are joined by commas, or `header_map` 13, with raw values.
 *
 *     callout_check_headers_t headers = callout_read_check_headers(call);
 *     while (callout_check_headers_next(&headers, &header)) ...  */
typedef struct callout_check_headers {
  callout_reader_t http;
  callout_reader_t map; /* of header_map, once it is met */
} callout_check_headers_t;

static inline callout_check_headers_t callout_read_check_headers(const callout_call_t* call) {
  callout_check_headers_t headers;
  headers.http = callout_read(callout_check_http(call));
  headers.map = callout_read(callout_make_bytes(NULL, 0));
  return headers;
}

static inline int callout_check_headers_next(callout_check_headers_t* headers,
                                             callout_header_t* header) {
  for (;;) {
    while (callout_reader_next(&headers->map)) {
      if (callout_reader_is(&headers->map, 1, CALLOUT_WIRE_BYTES)) {
        return callout_parse_header(headers->map.bytes, header);
      }
    }
    if (!callout_reader_next(&headers->http)) return 0;
    if (callout_reader_is(&headers->http, 13, CALLOUT_WIRE_BYTES)) {
      headers->map = callout_read(headers->http.bytes);
    } else if (callout_reader_is(&headers->http, 3, CALLOUT_WIRE_BYTES)) {
      /* An entry of a map is key 1 and value 2, as a HeaderValue is. */
      return callout_parse_header(headers->http.bytes, header);
    }
  }
}

/* 1 if the request has the header `key` (names compare without case): the first value. */
static inline int callout_check_header(const callout_call_t* call, callout_bytes_t key,
                                       callout_bytes_t* value) {
  callout_check_headers_t headers = callout_read_check_headers(call);
  callout_header_t header;
  while (callout_check_headers_next(&headers, &header)) {
    if (!callout_names_equal(header.key, key)) continue;
    *value = header.value;
    return 1;
  }
  return 0;
}

/* Who sends the request (`source` 1), and where it came in (`destination` 2). */
enum { CALLOUT_CHECK_SOURCE = 1, CALLOUT_CHECK_DESTINATION = 2 };

/* Peer: address 1 (socket_address 1: address 2, port_value 3), principal 4. An IP address as
 * text and its port; empty and 0 for what is no socket. */
static inline callout_bytes_t callout_check_address(const callout_call_t* call, uint32_t side,
                                                    uint32_t* port) {
  const callout_bytes_t peer = callout_check_field(call->message, side);
  const callout_bytes_t socket = callout_check_field(callout_check_field(peer, 1), 1);
  callout_reader_t reader = callout_read(socket);
  *port = 0;
  while (callout_reader_next(&reader)) {
    if (callout_reader_is(&reader, 3, CALLOUT_WIRE_VARINT)) {
      *port = CALLOUT_CAST(uint32_t, reader.number);
    }
  }
  return callout_check_field(socket, 2);
}
/* By the peer's certificate: a URI SAN, else a DNS SAN, else the subject; else empty. */
static inline callout_bytes_t callout_check_principal(const callout_call_t* call, uint32_t side) {
  return callout_check_field(callout_check_field(call->message, side), 4);
}
/* The peer's certificate as PEM, percent-encoded, where Envoy is told to send it
 * (include_peer_certificate); else empty. Peer: certificate 5. */
static inline callout_bytes_t callout_check_certificate(const callout_call_t* call, uint32_t side) {
  return callout_check_field(callout_check_field(call->message, side), 5);
}
/* The server's name that the client has asked for by SNI, where Envoy is told to send it
 * (include_tls_session); else empty. AttributeContext: tls_session 12 (sni 1). */
static inline callout_bytes_t callout_check_sni(const callout_call_t* call) {
  return callout_check_field(callout_check_field(call->message, 12), 1);
}

/* 1 if the route's configuration says something under `key` (context_extensions 10). */
static inline int callout_check_extension(const callout_call_t* call, callout_bytes_t key,
                                          callout_bytes_t* value) {
  return callout_map_find(call->message, 10, key, value);
}

/* --- The answer ----------------------------------------------------------- */

/* Every allow or deny is followed by a respond or a callout_check_free. Texts are copied. */
typedef struct callout_check_answer {
  callout_field_t field;   /* CALLOUT_CHECK_OK, _DENIED or _ERROR */
  callout_status_t status; /* the first step that failed; `reason` says why */
  const char* reason;
  callout_writer_t writer; /* the records of OkHttpResponse or DeniedHttpResponse */
} callout_check_answer_t;

static inline void callout_check_begin(callout_check_answer_t* answer, callout_field_t field) {
  answer->field = field;
  answer->status = CALLOUT_OK;
  answer->reason = NULL;
  callout_writer_init(&answer->writer, NULL, 0);
}
static inline void callout_check_free(callout_check_answer_t* answer) {
  callout_writer_free(&answer->writer);
}
static inline void callout_check_fail(callout_check_answer_t* answer, callout_status_t status,
                                      const char* reason) {
  if (answer->status != CALLOUT_OK) return;
  answer->status = status;
  answer->reason = reason;
}

/* Lets the request pass. */
static inline void callout_check_allow(callout_check_answer_t* answer) {
  callout_check_begin(answer, CALLOUT_CHECK_OK);
}

/* DeniedHttpResponse: status 1 (HttpStatus: code 1). */
static inline void callout_check_refuse(callout_check_answer_t* answer, callout_field_t field,
                                        uint32_t http_status) {
  callout_check_begin(answer, field);
  if (http_status < 200 || http_status > 599) {
    callout_check_fail(answer, CALLOUT_INVALID_ARGUMENT,
                       "a denial needs an HTTP status of 200 to 599");
    return;
  }
  callout_write_open(&answer->writer, 1);
  callout_write_number(&answer->writer, 1, http_status);
  callout_write_close(&answer->writer);
}
/* Refuses it with `http_status`, 200 to 599. */
static inline void callout_check_deny(callout_check_answer_t* answer, uint32_t http_status) {
  callout_check_refuse(answer, CALLOUT_CHECK_DENIED, http_status);
}
/* Says that the plugin cannot decide: Envoy refuses the request with `http_status` or, where it
 * is told to fail open, lets it pass. */
static inline void callout_check_error(callout_check_answer_t* answer, uint32_t http_status) {
  callout_check_refuse(answer, CALLOUT_CHECK_ERROR, http_status);
}

/* HeaderValueOption: header 1 (HeaderValue: key 1, value 2, raw_value 3), append 2,
 * append_action 3. */
static inline void callout_check_write_header(callout_check_answer_t* answer, uint32_t field,
                                              callout_bytes_t key, callout_bytes_t value,
                                              callout_append_action_t action) {
  callout_writer_t* writer = &answer->writer;
  if (action > CALLOUT_OVERWRITE_IF_EXISTS) {
    callout_check_fail(answer, CALLOUT_INVALID_ARGUMENT,
                       "a header was to be set with an append action that does not exist");
    return;
  }
  callout_write_open(writer, field);
  callout_write_open(writer, 1);
  callout_write_bytes(writer, 1, key);
  callout_write_bytes(writer, 2, value);
  callout_write_bytes(writer, 3, value);
  callout_write_close(writer);
  if (action == CALLOUT_APPEND_IF_EXISTS_OR_ADD) {
    callout_write_open(writer, 2);
    callout_write_number(writer, 1, 1);
    callout_write_close(writer);
  } else {
    callout_write_number(writer, 3, action);
  }
  callout_write_close(writer);
}

/* A header of the request that goes on or, in a denial, of the response. */
static inline void callout_check_set_header(callout_check_answer_t* answer, callout_bytes_t key,
                                            callout_bytes_t value, callout_append_action_t action) {
  callout_check_write_header(answer, 2, key, value, action);
}

/* 1 if the request is let pass; 0, and the answer has failed, if not. */
static inline int callout_check_must_allow(callout_check_answer_t* answer) {
  if (answer->field == CALLOUT_CHECK_OK) return 1;
  callout_check_fail(answer, CALLOUT_INVALID_ARGUMENT,
                     "a denial cannot change the request or its response");
  return 0;
}

/* OkHttpResponse: headers_to_remove 5, response_headers_to_add 6, query_parameters_to_set 7,
 * query_parameters_to_remove 8. */
static inline void callout_check_remove_header(callout_check_answer_t* answer,
                                               callout_bytes_t key) {
  if (callout_check_must_allow(answer)) callout_write_bytes(&answer->writer, 5, key);
}
/* A header of the response that the request will get. */
static inline void callout_check_set_response_header(callout_check_answer_t* answer,
                                                     callout_bytes_t key, callout_bytes_t value,
                                                     callout_append_action_t action) {
  if (callout_check_must_allow(answer)) callout_check_write_header(answer, 6, key, value, action);
}
/* Plain text: the host encodes it. */
static inline void callout_check_set_query(callout_check_answer_t* answer, callout_bytes_t key,
                                           callout_bytes_t value) {
  if (!callout_check_must_allow(answer)) return;
  callout_write_open(&answer->writer, 7);
  callout_write_bytes(&answer->writer, 1, key);
  callout_write_bytes(&answer->writer, 2, value);
  callout_write_close(&answer->writer);
}
static inline void callout_check_remove_query(callout_check_answer_t* answer, callout_bytes_t key) {
  if (callout_check_must_allow(answer)) callout_write_bytes(&answer->writer, 8, key);
}

/* The body of a denial: UTF-8. */
static inline void callout_check_set_body(callout_check_answer_t* answer, callout_bytes_t body) {
  if (answer->field == CALLOUT_CHECK_OK) {
    callout_check_fail(answer, CALLOUT_INVALID_ARGUMENT,
                       "an answer that lets the request pass has no body");
    return;
  }
  callout_write_bytes(&answer->writer, 3, body);
}

/* Gives the answer to the host and frees it. What comes back can be returned by the hook. */
static inline callout_status_t callout_check_respond(callout_check_answer_t* answer,
                                                     callout_call_t* call) {
  callout_status_t status = answer->status;
  callout_bytes_t bytes;
  if (status == CALLOUT_OK && callout_writer_status(&answer->writer) != CALLOUT_OK) {
    callout_check_fail(answer, callout_writer_status(&answer->writer),
                       "no memory for the answer to a Check");
    status = answer->status;
  }
  if (status != CALLOUT_OK) {
    call->host->set_error(call, callout_text(answer->reason));
    /* A denial that cannot be made is one, whatever the hook then returns. */
    if (answer->field != CALLOUT_CHECK_OK) call->host->respond(call, answer->field, NULL, 0);
  } else {
    bytes = callout_writer_bytes(&answer->writer);
    status = call->host->respond(call, answer->field, &bytes, 1);
  }
  callout_check_free(answer);
  return status;
}

/* --- The tools of the samples --------------------------------------------- */

/* Lets the request pass, with these headers set. */
static inline callout_status_t callout_allow_request(callout_call_t* call,
                                                     const callout_header_t* headers,
                                                     size_t count) {
  callout_check_answer_t answer;
  size_t i;
  callout_check_allow(&answer);
  for (i = 0; i < count; ++i) {
    callout_check_set_header(&answer, headers[i].key, headers[i].value,
                             CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD);
  }
  return callout_check_respond(&answer, call);
}

/* Refuses it. The samples' tool of this name lets requests pass; this one does not. */
static inline callout_status_t callout_deny_request_with(callout_call_t* call, uint32_t http_status,
                                                         callout_bytes_t body,
                                                         const callout_header_t* headers,
                                                         size_t count) {
  callout_check_answer_t answer;
  size_t i;
  callout_check_deny(&answer, http_status);
  for (i = 0; i < count; ++i) {
    callout_check_set_header(&answer, headers[i].key, headers[i].value,
                             CALLOUT_APPEND_IF_EXISTS_OR_ADD);
  }
  if (body.size > 0) callout_check_set_body(&answer, body);
  return callout_check_respond(&answer, call);
}
static inline callout_status_t callout_deny_request(callout_call_t* call, uint32_t http_status,
                                                    callout_bytes_t body) {
  return callout_deny_request_with(call, http_status, body, NULL, 0);
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* CALLOUT_CHECK_H_ */
