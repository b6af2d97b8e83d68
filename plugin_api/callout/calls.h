/* SPDX-License-Identifier: Apache-2.0 */

/* callout/calls.h - the extension that makes calls to other services: HTTP and unary gRPC, to
 * upstreams that the operator has configured (--upstreams=FILE), without blocking.
 *
 *     const callout_calls_t *calls = host->get_extension(host, CALLOUT_CALLS);  // in create
 *     callout_outgoing_t ask = {sizeof(ask)};
 *     ask.upstream = callout_text("tokens");
 *     ask.path = callout_text("/introspect");
 *     ask.body = form;
 *     ask.done = take_response;
 *     ask.data = call;                                  // a deferred call
 *     status = calls->start(host, &ask, &id);
 *
 * C++ has <callout/calls.hpp>. Tests: <callout/testing.hpp> has upstreams that answer as the test
 * says.
 *
 * What the host does. It keeps connections open, limits them and what waits for one, retries what
 * is safe to send again, stops asking a service that fails (circuit breaking), and counts all of it
 * by upstream. docs/upstreams.md has the options of an upstream and their defaults.
 *
 * Threads. `done` is called on a thread that serves no stream and makes the calls of all plugins
 * (tag [done]): it must not wait for anything. Work that waits is for a timer without a delay
 * (<callout/timers.h>). `done` runs beside hooks and timers of the instance; two of them never
 * overlap. It may finish a deferred call, and start further calls.
 *
 * Life. Calls can be started once create has returned OK, not in create: start a timer there.
 * Before callout_plugin_destroy is called, the host cancels the calls of the instance; a `done`
 * that is running is waited for, and none runs afterwards.
 *
 * Bounds. Connections, limits and circuits are those of one process: with --workers each worker has
 * its own.
 */
#ifndef CALLOUT_CALLS_H_
#define CALLOUT_CALLS_H_

#include <callout/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CALLOUT_CALLS "callout.calls/1"

/* Of one request. A path, a method and the name of an upstream in bytes. */
#define CALLOUT_OUTGOING_HEADERS_MAX 128
#define CALLOUT_OUTGOING_HEADER_BYTES_MAX 65536 /* names and values together */
#define CALLOUT_OUTGOING_PATH_BYTES_MAX 8192
#define CALLOUT_OUTGOING_METHOD_BYTES_MAX 32
#define CALLOUT_UPSTREAM_NAME_BYTES_MAX 64

/* FROZEN. */
typedef struct callout_header_field {
  callout_bytes_t name; /* of a response in lower case */
  callout_bytes_t value;
} callout_header_field_t;

/* callout_outgoing.flags */
enum {
  /* A unary gRPC call: `path` is "/package.Service/Method", `body` the serialized message, and
   * `method` is empty. Only of an upstream with CALLOUT_UPSTREAM_GRPC. */
  CALLOUT_OUTGOING_GRPC = 1 << 0,
  /* The request may reach the service twice without harm, so that the host may retry it when the
   * connection breaks. Implied by GET, HEAD, OPTIONS, TRACE, PUT and DELETE. Other requests are
   * retried only if the service cannot have seen them. */
  CALLOUT_OUTGOING_IDEMPOTENT = 1 << 1
};

/* How a call came out, for `done`. Views are valid until `done` returns. FROZEN. */
typedef struct callout_incoming {
  uint32_t struct_size;
  /* HTTP: OK, if there is a response, whatever its http_status.
   * gRPC: what the service said, with `from_service` set.
   * Else: UNAVAILABLE: no connection, a broken one, or the circuit is open.
   * DEADLINE_EXCEEDED: no whole response within the time. RESOURCE_EXHAUSTED: the response is over
   * the upstream's limit, or too many calls wait for a connection. DATA_LOSS: what came is no
   * valid HTTP or gRPC. More values may be added. */
  callout_status_t status;
  uint32_t from_service;                 /* 1: `status` is that of a gRPC response */
  uint32_t http_status;                  /* 0: there is no response */
  callout_bytes_t body;                  /* gRPC: the serialized message */
  const callout_header_field_t* headers; /* without pseudo headers */
  size_t header_count;
  const callout_header_field_t* trailers;
  size_t trailer_count;
  callout_bytes_t message; /* what went wrong, for a log; of gRPC: grpc-message. UTF-8 */
  uint64_t elapsed_ns;     /* since start() */
  uint64_t attempts;       /* that were made; 0: none */
} callout_incoming_t;

/* A request. Start from zero. All of it is copied before start() returns. FROZEN. */
typedef struct callout_outgoing {
  uint32_t struct_size;
  uint32_t flags; /* CALLOUT_OUTGOING_* */
  callout_bytes_t upstream;
  callout_bytes_t method; /* upper case; empty: POST if there is a body, else GET. Not CONNECT */
  callout_bytes_t path;   /* with the query: "/introspect?x=1"; visible ASCII, without '#' */
  /* Names in any case. Refused: pseudo headers, what belongs to the connection or the framing
   * (connection, content-length, transfer-encoding, te, upgrade and their like), with gRPC also
   * content-type and grpc-*; host, unless the operator allows it for this upstream; CR, LF, NUL and
   * other control characters, and spaces around a value. */
  const callout_header_field_t* headers;
  size_t header_count;
  callout_bytes_t body;
  uint64_t timeout_ns; /* for all of it, waiting and retries included; 0, or more than the
                          upstream's timeout_ms: that one */
  /* [done] Called once, unless the call is cancelled before. */
  void (*done)(void* data, const callout_incoming_t* incoming);
  /* Optional. Called exactly once for each start() that returned OK, when the host uses `data` no
   * more: after `done`, after a cancel, or before destroy. On a [done] thread, or on that of the
   * function that ends the call: cancel(), or the host's own before destroy. */
  void (*release)(void* data);
  void* data;
} callout_outgoing_t;

/* callout_upstream_info.flags */
enum { CALLOUT_UPSTREAM_GRPC = 1 << 0 /* it is asked by HTTP/2, or may be */ };

/* FROZEN. */
typedef struct callout_upstream_info {
  uint32_t struct_size; /* in */
  uint32_t flags;       /* CALLOUT_UPSTREAM_* */
  uint64_t timeout_ns;
  uint64_t request_bytes_max;  /* of a body */
  uint64_t response_bytes_max; /* of a body */
} callout_upstream_info_t;

/* FROZEN. */
typedef struct callout_calls {
  uint32_t struct_size;
  uint32_t reserved;
  /* Whether there is an upstream of this name; `info` may be NULL. Ask in create, so that a wrong
   * name refuses the configuration. NOT_FOUND. [any] */
  callout_status_t (*find)(const callout_host_t* host, callout_bytes_t upstream,
                           callout_upstream_info_t* info);
  /* Starts a call. `id` is never that of another call of the instance.
   * INVALID_ARGUMENT: no `done`, or something in the request is not allowed. NOT_FOUND: there is no
   * such upstream. RESOURCE_EXHAUSTED: the instance has --max_calls of them, or the body is over
   * the upstream's limit. UNAVAILABLE: the host could not start its thread, or plugins are only
   * checked. FAILED_PRECONDITION: gRPC by HTTP/1.1, create has not returned, or the instance is
   * being destroyed. The host logs each with its reason. After an error neither function is called.
   * [any] */
  callout_status_t (*start)(const callout_host_t* host, const callout_outgoing_t* outgoing,
                            uint64_t* id);
  /* Ends a call. It never waits, so it may be called with a lock held that `done` takes, and from
   * `done` itself.
   * OK: `done` is not called; `release` has been called. ABORTED: `done` is running at this moment.
   * NOT_FOUND: the call is over. [any] */
  callout_status_t (*cancel)(const callout_host_t* host, uint64_t id);
} callout_calls_t;

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* CALLOUT_CALLS_H_ */
