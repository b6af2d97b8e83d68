/* SPDX-License-Identifier: Apache-2.0 */

/* callout/plugin.h - the binary contract between the callout host and a plugin.
 *
 * A plugin is a shared object that exports `callout_abi_version` and at least
 * one hook: a function of this header named callout_on_*. Every symbol but the
 * version is optional; the host looks each up by name and calls only what is
 * there, so `nm -D plugin.so` tells what a plugin does. The smallest plugin:
 *
 *     #include <callout/plugin.h>
 *     CALLOUT_PLUGIN();
 *     callout_status_t callout_on_request_headers(callout_call_t *call) {
 *       (void)call;
 *       return CALLOUT_OK;  // nothing set: the message passes unchanged
 *     }
 *
 *     cc -shared -fPIC -I plugin_api smallest.c -o smallest.so
 *
 * This header needs only the C standard library (C99, C++11 or later) and is
 * the whole contract. <callout/message.h> (C) and <callout/plugin.hpp> (C++)
 * build on it and are compiled into the plugin. ABI.md tells the reasons.
 *
 * Rules
 *
 * 1. Growth. CALLOUT_ABI_VERSION changes only if an existing plugin would
 *    break. Within a version the ABI grows by revisions: CALLOUT_ABI_REVISION
 *    counts them, and a plugin exports the revision that it was compiled with.
 *    New hooks are new symbols. Structs that start with `struct_size` are
 *    APPENDABLE: fields are added at the end only, in multiples of 8 bytes, so
 *    that no field ever lies in what was padding. A side reads AND WRITES a
 *    field that it cannot be sure of behind CALLOUT_HAS. FROZEN types never
 *    change. Every hook takes one pointer, so that no hook ever changes its
 *    signature. A host serves every version of the ABI from
 *    CALLOUT_ABI_VERSION_MIN to its own, and every revision of each.
 * 2. Numbers. Phases and fields are the field numbers of ProcessingRequest and
 *    ProcessingResponse in envoy/service/ext_proc/v3. Errors are negated gRPC
 *    status codes. Expect values that this header does not name. Phases 32 to
 *    63 are for hooks of other services than ext_proc: see CALLOUT_CHECK and
 *    CALLOUT_RATE_LIMIT.
 * 3. Names. All symbols that begin with `callout_` are reserved for this
 *    contract. The host refuses a plugin that exports a name beginning with
 *    `callout_on_` or `callout_plugin_` that it does not know: a misspelt hook
 *    would be a filter that never runs. Only a plugin of a later revision than
 *    the host's may have such names, and only if it says by CALLOUT_PLUGIN_NEEDS
 *    that it can do without.
 * 4. Ownership. Whoever allocates, frees. What the host hands out is valid
 *    until the hook returns or, if it returned CALLOUT_DEFERRED, until finish()
 *    is called; each exception says so. What the plugin hands in is copied
 *    before the host's function returns. A call is known by its address: a
 *    copied callout_call_t is no call, and every service refuses it. Each call
 *    has an address of its own, used again only after many other calls; what the
 *    calls of a stream share is call->stream.
 * 5. Threads. Every function has one tag:
 *      [control]  one call at a time for an instance, and no other hook of that
 *                 instance runs. Other instances, those of the same file
 *                 included, may run hooks at the same time
 *      [stream]   calls for one stream never overlap, and each sees the writes
 *                 of the one before; different streams run at once on
 *                 different threads; the thread of a stream may change
 *      [cancel]   at most once for a stream, on any thread, while a call of the
 *                 stream runs or is deferred
 *      [call]     from the hook that was given the call or, once the call is
 *                 deferred, from wherever the work is done; one thread at a
 *                 time for a call
 *      [any]      from any thread, at any time while the instance lives
 *    No service calls back into the plugin before it returns, unless it says so.
 * 6. Time. A hook holds up one of the host's threads, which serves many
 *    streams. Work that waits for something is deferred, or the phases that
 *    wait are declared blocking (callout_create_args.blocking_phases).
 * 7. Exceptions, longjmp and panics must not cross this border.
 * 8. The process belongs to the host: signal handlers and masks, SIGCHLD and
 *    wait(), locale, umask, working directory, environment, resource limits,
 *    and standard input, output and error. A plugin reads them and changes none.
 *    It never ends the process: no exit(), abort() or raise(). Destructors of
 *    static objects, atexit handlers and callout_plugin_destroy may never run:
 *    a host that crashes or is killed runs none of them.
 * 9. Status. Services that return a callout_status_t return CALLOUT_OK or a
 *    negative status, in every future version too. A hook may pass it on.
 * 10. 64-bit machines only: pointers and size_t have 8 bytes.
 * 11. Trust. A plugin runs inside the host process with all its rights.
 */
#ifndef CALLOUT_PLUGIN_H_
#define CALLOUT_PLUGIN_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CALLOUT_ABI_VERSION 1u
/* The oldest version that a host of this header serves. */
#define CALLOUT_ABI_VERSION_MIN 1u
/* Counts what was added within the version. A revision's additions:
 *   1  all of this header that no later revision names
 *   2  ext_authz: callout_on_check, CALLOUT_CHECK, CALLOUT_CHECK_*
 *   3  rate limits: callout_on_rate_limit, CALLOUT_RATE_LIMIT, CALLOUT_RATE_LIMIT_*;
 *      network ext_proc: callout_on_connection, callout_on_read_data,
 *      callout_on_write_data, CALLOUT_CONNECTION, CALLOUT_READ_DATA*,
 *      CALLOUT_WRITE_DATA*, CALLOUT_DATA_DYNAMIC_METADATA */
#define CALLOUT_ABI_REVISION 3u

#if defined(__GNUC__) || defined(__clang__)
#define CALLOUT_EXPORT __attribute__((visibility("default")))
#else
#define CALLOUT_EXPORT
#endif

/* 1 if the struct at `ptr`, of type `type`, was made by a side that knows
 * `field`. Ask before reading a field of a later revision than the one that the
 * plugin needs, and before writing one (the out-fields of callout_create_args):
 * the struct of an older host ends before it. It says nothing of the field's
 * value: test pointers for NULL too.
 *     if (CALLOUT_HAS(call, callout_call_t, deadline_ns)) ... */
#define CALLOUT_HAS(ptr, type, field) \
  ((ptr)->struct_size >= offsetof(type, field) + CALLOUT_FIELD_SIZE(type, field))
#ifdef __cplusplus
#define CALLOUT_FIELD_SIZE(type, field) sizeof(type::field)
#else
#define CALLOUT_FIELD_SIZE(type, field) sizeof(((type *)0)->field)
#endif

/* --- Types -------------------------------------------------------------- */

/* Bytes that someone else owns. `data` may be NULL if `size` is 0. FROZEN. */
typedef struct callout_bytes {
  const char *data;
  size_t size;
} callout_bytes_t;

/* What a hook or a host function came to. FROZEN; values may be added.
 *
 * A negative status from a hook: PERMISSION_DENIED and UNAUTHENTICATED are
 * decisions of the plugin and always end the gRPC stream with that code (a Check
 * is answered by a denial with it). Every other negative status is a fault and falls under
 * the policy that the operator has set for the instance (fail, continue or deny).
 * The default is fail. */
typedef int32_t callout_status_t;
enum {
  CALLOUT_OK = 0,          /* send the answer that was set; if none was: the
                              phase's empty answer, which changes nothing */
  CALLOUT_DEFERRED = 1,    /* the call now belongs to the plugin, which calls
                              finish() on it once, from any thread */
  CALLOUT_NEXT = 2,        /* callout_on_process only: go on to the phase's own
                              hook */
  CALLOUT_NO_RESPONSE = 3, /* Where the body of the call's direction is sent
                              FULL_DUPLEX_STREAMED only; elsewhere a fault
                              (bad_status).
                              A body phase: answer this chunk later, or drop it.
                              The end of the stream is still passed on.
                              A headers phase with a body to come: hold the
                              headers. A later body or trailers call of the same
                              direction settles them, once, by send() or
                              respond() with the headers phase's field, or by
                              its body answer. If none has when the direction
                              ends, that is a fault (headers_held).
                              A trailers phase: a fault */

  CALLOUT_CANCELLED = -1, /* the client has left */
  CALLOUT_UNKNOWN = -2,
  CALLOUT_INVALID_ARGUMENT = -3,
  CALLOUT_DEADLINE_EXCEEDED = -4,
  CALLOUT_NOT_FOUND = -5,
  CALLOUT_ALREADY_EXISTS = -6,
  CALLOUT_PERMISSION_DENIED = -7,
  CALLOUT_RESOURCE_EXHAUSTED = -8,
  CALLOUT_FAILED_PRECONDITION = -9,
  CALLOUT_ABORTED = -10,
  CALLOUT_OUT_OF_RANGE = -11,
  CALLOUT_UNIMPLEMENTED = -12,
  CALLOUT_INTERNAL = -13,
  CALLOUT_UNAVAILABLE = -14,
  CALLOUT_DATA_LOSS = -15,
  CALLOUT_UNAUTHENTICATED = -16
};

/* Where in the HTTP exchange a call stands: the field number of the message in
 * ProcessingRequest, or the question of another service. 0 while a stream is
 * opened, cancelled or closed. */
typedef uint32_t callout_phase_t;
enum {
  CALLOUT_REQUEST_HEADERS = 2,   /* message: HttpHeaders */
  CALLOUT_RESPONSE_HEADERS = 3,  /* message: HttpHeaders */
  CALLOUT_REQUEST_BODY = 4,      /* message: HttpBody */
  CALLOUT_RESPONSE_BODY = 5,     /* message: HttpBody */
  CALLOUT_REQUEST_TRAILERS = 6,  /* message: HttpTrailers */
  CALLOUT_RESPONSE_TRAILERS = 7, /* message: HttpTrailers */

  /* Revision 2. ext_authz (envoy.service.auth.v3.Authorization/Check): may this
   * request, or this connection, go on? message: AttributeContext; call->request
   * is the CheckRequest, call->metadata_context its metadata_context. A stream has
   * this one call, with CALLOUT_CALL_FIRST and CALLOUT_CALL_LAST */
  CALLOUT_CHECK = 32,

  /* Revision 3. Network ext_proc (envoy.service.network_ext_proc.v3
   * .NetworkExternalProcessor/Process), a stream for each TCP connection. message: Data;
   * call->request is its ProcessingRequest, call->attributes has the connection's
   * attributes as those of ext_proc, call->body_offset the bytes of the direction before
   * these. CALLOUT_CALL_LAST: nothing more follows in this direction */
  CALLOUT_READ_DATA = 33,  /* from the client */
  CALLOUT_WRITE_DATA = 34, /* to the client */
  CALLOUT_CONNECTION = 35, /* before the first of them; message: empty */

  /* Revision 3. Rate limits (envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit):
   * is this request within its limits? message and call->request: the RateLimitRequest. A
   * stream has this one call, with CALLOUT_CALL_FIRST and CALLOUT_CALL_LAST */
  CALLOUT_RATE_LIMIT = 36
};
#define CALLOUT_PHASE_BIT(phase) (UINT64_C(1) << (phase))

/* What an answer is: the field number of the response message of the call's
 * service, which is ProcessingResponse for phases below 32. There the answer to
 * a phase has the field number `phase - 1`. For a phase of another service the
 * numbers below mean fields of that service's response. */
typedef uint32_t callout_field_t;
enum {
  CALLOUT_WHOLE_RESPONSE = 0, /* the bytes are a ProcessingResponse */

  /* Answers, for respond() and send(): */
  CALLOUT_REQUEST_HEADERS_RESPONSE = 1,  /* HeadersResponse */
  CALLOUT_RESPONSE_HEADERS_RESPONSE = 2, /* HeadersResponse */
  CALLOUT_REQUEST_BODY_RESPONSE = 3,     /* BodyResponse */
  CALLOUT_RESPONSE_BODY_RESPONSE = 4,    /* BodyResponse */
  CALLOUT_REQUEST_TRAILERS_RESPONSE = 5, /* TrailersResponse */
  CALLOUT_RESPONSE_TRAILERS_RESPONSE = 6, /* TrailersResponse */
  CALLOUT_IMMEDIATE_RESPONSE = 7,         /* ImmediateResponse */
  CALLOUT_STREAMED_IMMEDIATE_RESPONSE = 11, /* StreamedImmediateResponse */

  /* Beside the answer, for annotate(): */
  CALLOUT_DYNAMIC_METADATA = 8,           /* google.protobuf.Struct */
  CALLOUT_MODE_OVERRIDE = 9,              /* ProcessingMode */
  CALLOUT_OVERRIDE_MESSAGE_TIMEOUT = 10,  /* google.protobuf.Duration; asked of
                                             Envoy at once if the hook then
                                             returns DEFERRED, and the deadline
                                             moves by it; else dropped */
  CALLOUT_TYPED_DYNAMIC_METADATA = 13,    /* one entry of map<string, Any> */

  /* Revision 2. Answers to CALLOUT_CHECK, fields of CheckResponse; with
   * CALLOUT_WHOLE_RESPONSE the bytes are a CheckResponse. The host writes `status`
   * itself, so that it agrees with the answer, and sends every header in the form
   * that Envoy reads. */
  CALLOUT_CHECK_DENIED = 2, /* DeniedHttpResponse: status 200 to 599, 0 for 403 */
  CALLOUT_CHECK_OK = 3,     /* OkHttpResponse */
  CALLOUT_CHECK_ERROR = 5,  /* DeniedHttpResponse: the plugin cannot decide. Envoy
                               refuses the request or, told to fail open, lets it
                               pass */
  /* Beside the answer to CALLOUT_CHECK, for annotate(): */
  CALLOUT_CHECK_DYNAMIC_METADATA = 4, /* google.protobuf.Struct, for later filters */

  /* Revision 3. The answer to CALLOUT_RATE_LIMIT is a RateLimitResponse as a whole, given
   * as CALLOUT_WHOLE_RESPONSE. Beside it, for annotate(): */
  CALLOUT_RATE_LIMIT_DYNAMIC_METADATA = 6, /* google.protobuf.Struct, for later filters */

  /* Revision 3. Answers to CALLOUT_READ_DATA and CALLOUT_WRITE_DATA, fields of network
   * ext_proc's ProcessingResponse; with CALLOUT_WHOLE_RESPONSE the bytes are one */
  CALLOUT_READ_DATA_RESPONSE = 1,  /* Data */
  CALLOUT_WRITE_DATA_RESPONSE = 2, /* Data */
  /* Beside the answer, for annotate(): */
  CALLOUT_DATA_DYNAMIC_METADATA = 5 /* google.protobuf.Struct, for later filters */
};

/* How Envoy sends the body of a direction (ProcessingMode.BodySendMode). */
typedef uint32_t callout_body_mode_t;
enum {
  CALLOUT_BODY_NONE = 0,
  CALLOUT_BODY_STREAMED = 1,
  CALLOUT_BODY_BUFFERED = 2,
  CALLOUT_BODY_BUFFERED_PARTIAL = 3,
  CALLOUT_BODY_FULL_DUPLEX_STREAMED = 4,
  CALLOUT_BODY_GRPC = 5
};

/* callout_call.flags */
enum {
  CALLOUT_CALL_FIRST = 1 << 0, /* the first call of this phase in the stream */
  CALLOUT_CALL_LAST = 1 << 1,  /* end of this direction's headers-only message,
                                  body or trailers: no more of it will follow.
                                  Not set on the last body chunk if trailers
                                  follow, which cannot be known in advance */
  CALLOUT_CALL_WHOLE_BODY = 1 << 2,    /* the message holds the entire body; no
                                          instance before has sent a part ahead */
  CALLOUT_CALL_OBSERVABILITY = 1 << 3  /* answers are not sent to Envoy */
};

/* The numbers are OpenTelemetry's. A level between two is taken for the lower
 * one; 0 for TRACE, all above ERROR for ERROR. This host writes TRACE at DEBUG. */
typedef uint32_t callout_log_level_t;
enum {
  CALLOUT_LOG_TRACE = 1,
  CALLOUT_LOG_DEBUG = 5,
  CALLOUT_LOG_INFO = 9,
  CALLOUT_LOG_WARNING = 13,
  CALLOUT_LOG_ERROR = 17
};

typedef uint32_t callout_metric_kind_t;
enum {
  CALLOUT_METRIC_COUNTER = 0,   /* metric_record adds; values must be >= 0 */
  CALLOUT_METRIC_GAUGE = 1,     /* metric_record sets */
  CALLOUT_METRIC_HISTOGRAM = 2, /* metric_record observes */
  CALLOUT_METRIC_UP_DOWN = 3    /* metric_record adds; values may be < 0. Served
                                   as a gauge */
};

typedef struct callout_label {
  callout_bytes_t name;  /* [a-zA-Z_][a-zA-Z0-9_]*, not "plugin" and not "__..." */
  callout_bytes_t value; /* UTF-8, up to 1024 bytes */
} callout_label_t; /* FROZEN */

/* A metric for define_metric(). Start from zero: what is 0 or NULL has its
 * default. All of it is copied. APPENDABLE. */
typedef struct callout_metric_spec {
  uint32_t struct_size;
  callout_metric_kind_t kind;
  callout_bytes_t name; /* [a-zA-Z_:][a-zA-Z0-9_:]*, up to 256 bytes. By custom
                           the unit is its end: "cache_age_seconds" */
  callout_bytes_t help; /* UTF-8, up to 1024 bytes */
  callout_bytes_t unit; /* "seconds", "bytes", ...: appended to `name` with an
                           underscore unless it ends so; empty: none */
  const callout_label_t *labels; /* beside plugin="INSTANCE" */
  size_t label_count;            /* up to 8 */
  const double *buckets; /* of a histogram: upper bounds, finite and rising; NULL:
                            10 us to 10 s, in seconds */
  size_t bucket_count;   /* up to 100 */
} callout_metric_spec_t;

/* What get_property() knows. Every view lives as long as the stream: until
 * callout_on_stream_close has returned. */
typedef uint32_t callout_property_t;
enum {
  CALLOUT_PEER = 0,          /* "ipv4:10.0.0.7:41312", "ipv6:[::1]:41312",
                                "unix:/path" */
  CALLOUT_LISTENER = 1,      /* "secure" or "plaintext" */
  CALLOUT_PEER_IDENTITY = 2, /* the verified client certificate's first URI SAN,
                                else DNS SAN, else common name; NOT_FOUND
                                without a client certificate */
  CALLOUT_STREAM_ID = 3      /* decimal, unique in this process */
};

typedef struct callout_host callout_host_t;

/* How a stream ended. More values may be added: take an unknown one for
 * CALLOUT_END_UNKNOWN. */
typedef uint32_t callout_outcome_t;
enum {
  CALLOUT_END_UNKNOWN = 0,
  CALLOUT_END_COMPLETED = 1, /* Envoy ended the stream and nothing was outstanding.
                                An exchange that went to its end and a client that
                                left between two messages look alike */
  CALLOUT_END_EARLY = 2,     /* the host ended it with OK, since no instance wanted
                                more of it; the exchange goes on unseen. Never for
                                an instance with CALLOUT_WANT_REAL_END */
  CALLOUT_END_IMMEDIATE = 3, /* a plugin or a policy had Envoy answer the client */
  CALLOUT_END_ERROR = 4,     /* the host ended it with the error `status` */
  CALLOUT_END_CANCELLED = 5, /* Envoy left while a response was outstanding: the
                                client is gone, or Envoy's timeout has passed */
  CALLOUT_END_DRAINED = 6    /* the host shut down */
};

/* The end of a stream, for callout_on_stream_close. APPENDABLE. */
typedef struct callout_stream_end {
  uint32_t struct_size;
  callout_outcome_t outcome;
  callout_status_t status; /* of the gRPC stream; 0: OK, or reset with nothing open */
  uint32_t http_status; /* the response's ":status" as it came last, of an immediate
                           response its own; 0: none was seen */
  uint64_t request_body_bytes;  /* that Envoy sent to the host; bodies that it does */
  uint64_t response_body_bytes; /* not send (mode NONE, ended early) are not in it */
  uint64_t stream_ns;   /* from the first message to the end */
  uint64_t instance_ns; /* of it, time in hooks of this instance and in its deferred
                           calls */
} callout_stream_end_t;

/* One message of one stream; or the opening, cancelling or closing of a stream,
 * with `phase` 0 and empty views. Made by the host; the plugin writes only
 * `stream`. All fields below are present in revision 1. APPENDABLE. */
typedef struct callout_call {
  uint32_t struct_size;
  callout_phase_t phase;
  const callout_host_t *host;
  void *plugin; /* what callout_plugin_create left in args->plugin */
  void *stream; /* the plugin's own, kept from call to call of one stream; NULL
                   at first. A write while the call is deferred is kept too */
  callout_bytes_t message; /* serialized HttpHeaders, HttpBody or HttpTrailers,
                              as the instances before in the chain left it */
  callout_bytes_t request; /* the serialized request message of the call's service
                              around it (ProcessingRequest for phases below 32);
                              empty where there is none */
  callout_bytes_t attributes; /* every record of ProcessingRequest.attributes
                                 (field 9) that the stream has brought so far,
                                 oldest first: Envoy sends them once for each
                                 direction. Valid until the stream's next call */
  callout_bytes_t metadata_context; /* serialized config.core.v3.Metadata: the
                                       latest that was not empty */
  uint64_t body_offset; /* body phases: bytes of this direction's body in the
                           messages before this one */
  uint64_t deadline_ns; /* CLOCK_MONOTONIC; when it is past, the host answers in
                           the place of a deferred or blocking hook. What
                           override_message_timeout adds is not in it. 0: none */
  callout_body_mode_t body_mode; /* of this phase's direction */
  uint32_t flags;                /* CALLOUT_CALL_* */
  callout_bytes_t request_headers; /* in response phases, with
                                      CALLOUT_WANT_REQUEST_HEADERS: the HttpHeaders
                                      of the request as Envoy sent them, kept once
                                      for all instances; else empty. Valid until
                                      the stream is closed */
  const callout_stream_end_t *end; /* in callout_on_stream_close only; else NULL */
  const void *self; /* the host's own; by it a copy of a call is told */
} callout_call_t;

/* Services of the host, a table for each plugin instance, valid from
 * callout_plugin_create until callout_plugin_destroy has returned. All members
 * below are present in revision 1 and never NULL. APPENDABLE.
 *
 * A service that refuses a call does nothing else, and the host logs the refusal
 * with its reason. FAILED_PRECONDITION from a service of [call] also means: this is
 * a copy of a call, or a call that is over. */
struct callout_host {
  uint32_t struct_size;
  uint32_t abi_version;
  const char *name; /* "callout-host/1.4.0", NUL-terminated, for logs */

  /* Set the answer to this call: the concatenation of `parts` is the message in
   * `field` of the service's response. Called again, the last one counts, with what
   * a CALLOUT_WHOLE_RESPONSE has beside its answer. A body is passed on as one part
   * between two small ones without a copy of the plugin's own.
   * A refusal stands: an immediate response, CALLOUT_CHECK_DENIED and _ERROR,
   * OVER_LIMIT, the end of a connection. After it respond() and send() of this call
   * return FAILED_PRECONDITION and change nothing. It goes out also where the hook
   * returns NO_RESPONSE, PERMISSION_DENIED or UNAUTHENTICATED; any other negative
   * status is a fault that not even the policy `continue` lets pass.
   * INVALID_ARGUMENT: `field` is no answer, and nothing changes; or the bytes of a
   * CALLOUT_WHOLE_RESPONSE are no ProcessingResponse. FAILED_PRECONDITION: the
   * stream is being opened (the open then counts as failed), cancelled or closed.
   * RESOURCE_EXHAUSTED: over --max_message_bytes. After malformed bytes or too many
   * of them the answer set before is dropped, and the call is a fault unless a later
   * respond() succeeds. A refusal of too many bytes stands as well. [call] */
  callout_status_t (*respond)(callout_call_t *call, callout_field_t field,
                              const callout_bytes_t *parts, size_t part_count);

  /* Send one more answer now, ahead of the one the call ends with: body answers
   * in FULL_DUPLEX_STREAMED, held headers, and streamed immediate responses. What
   * else a body answer says, such as headers, counts as with respond().
   * Errors as respond(), which drop nothing here; CANCELLED: the client has left.
   * RESOURCE_EXHAUSTED also if what waits to be sent on this stream would be more
   * than --max_sent_bytes: nothing was taken; try later, when send_room()
   * is large enough. [call] */
  callout_status_t (*send)(callout_call_t *call, callout_field_t field,
                           const callout_bytes_t *parts, size_t part_count);

  /* Put a field beside the answer; repeats merge, as in protobuf. In a body or
   * trailers call it goes out with the direction's headers if these are still
   * held, else with the next answer of the direction that goes out. With
   * CALLOUT_WHOLE_RESPONSE, `message` is a ProcessingResponse with any fields
   * outside its oneof. INVALID_ARGUMENT: `field` is none of those, or such a
   * ProcessingResponse is malformed or has an answer; nothing of it is taken.
   * RESOURCE_EXHAUSTED: all of them together are over --max_message_bytes. [call] */
  callout_status_t (*annotate)(callout_call_t *call, callout_field_t field,
                               callout_bytes_t message);

  /* The text that goes with the negative status about to be returned or given
   * to finish(). Cut at 1024 bytes. [call] */
  void (*set_error)(callout_call_t *call, callout_bytes_t text);

  /* End a deferred call as if its hook had returned `status` (not DEFERRED or
   * NEXT: INVALID_ARGUMENT, and the call stays open). Exactly once for each
   * CALLOUT_DEFERRED; it may come before the hook has returned, and the hook
   * must not touch the call after handing it on. `call` is gone afterwards,
   * whatever comes back. Until then the instance gets no other call of this
   * stream (but see CALLOUT_WANT_BOTH_DIRECTIONS), nor its close.
   * CANCELLED: the client had left, nothing was sent.
   * DEADLINE_EXCEEDED: the deadline had passed and the policy has answered. Where
   * the policy is continue, the instance has lost this call only: the later calls
   * of the stream come once this one is finished, each with a deadline of its own
   * that runs meanwhile.
   * FAILED_PRECONDITION: the call had been finished before, or was never deferred.
   * It is counted (stale_finish) and logged, and settles nothing. Do not rely on
   * it: long after the end of a call its address may be that of another. [call] */
  callout_status_t (*finish)(callout_call_t *call, callout_status_t status);

  /* 1 if the client has left, so that the work can stop early. [call] */
  int32_t (*is_cancelled)(const callout_call_t *call);

  /* gRPC request metadata: the `index`th value of `key` (lower case). NOT_FOUND
   * past the last. The view lives as long as the stream. [call] */
  callout_status_t (*get_metadata)(const callout_call_t *call,
                                   callout_bytes_t key, uint32_t index,
                                   callout_bytes_t *value);

  /* NOT_FOUND: unknown or not to be had for this stream. [call] */
  callout_status_t (*get_property)(const callout_call_t *call,
                                   callout_property_t property,
                                   callout_bytes_t *value);

  /* log() writes one line to the host's log with the instance's name; control
   * characters are escaped, and it is cut at 8192 bytes. log_enabled() is
   * cheap; log() asks it itself. [any] */
  int32_t (*log_enabled)(const callout_host_t *host, callout_log_level_t level);
  void (*log)(const callout_host_t *host, callout_log_level_t level,
              callout_bytes_t text);

  /* Name a metric, in callout_plugin_create; the same name and kind give the
   * same id. It is served at /metrics with the label plugin="INSTANCE". The short
   * form of define_metric().
   * INVALID_ARGUMENT: `name` is not [a-zA-Z_:][a-zA-Z0-9_:]*, or is that of one of
   * the host's metrics (docs/metrics.md), or `kind` is unknown, or the name is known
   * with another kind or with other labels or buckets.
   * FAILED_PRECONDITION: the instance has been created. RESOURCE_EXHAUSTED: over 64
   * for an instance. [control] */
  callout_status_t (*metric_define)(const callout_host_t *host,
                                    callout_metric_kind_t kind,
                                    callout_bytes_t name, callout_bytes_t help,
                                    uint32_t *id);
  /* Unknown ids and values that are not finite are ignored. [any] */
  void (*metric_record)(const callout_host_t *host, uint32_t id, double value);

  /* A further table of services by name and revision, such as
   * "callout.shared_data/1"; NULL if this host has none. It is valid as long as
   * this table, and the same id always gives the same pointer. The layout and
   * meaning of an id are FROZEN: what changes gets another revision. [any] */
  const void *(*get_extension)(const callout_host_t *host, const char *id);

  /* Name a metric in full, in callout_plugin_create; the same kind, name and labels
   * give the same id. Errors as metric_define; INVALID_ARGUMENT also for labels and
   * buckets out of their limits. [control] */
  callout_status_t (*define_metric)(const callout_host_t *host,
                                    const callout_metric_spec_t *spec,
                                    uint32_t *id);

  /* In callout_plugin_create: a file whose change means a new generation of this
   * instance, as a change of its configuration does (a set of keys, a list). The
   * host only watches it; the plugin reads it. Follow first and read then, so that
   * no change is missed. `path` is absolute, up to 4095 bytes; the file need not
   * exist yet. The host follows it where it follows the plugin's own files
   * (--plugins_dir, --watch_plugins).
   * INVALID_ARGUMENT: not absolute, or with a NUL. FAILED_PRECONDITION: the instance
   * has been created. RESOURCE_EXHAUSTED: over 64 for an instance. [control] */
  callout_status_t (*follow_file)(const callout_host_t *host, callout_bytes_t path);

  /* How many bytes send() would take now; 0 if it would take none. [call] */
  uint64_t (*send_room)(const callout_call_t *call);
};

/* What an instance may wish for: callout_create_args.wants. */
enum {
  /* A call of the request direction and one of the response direction may be under
   * way at once, on two threads: [stream] holds for each direction by itself. The
   * plugin guards what is behind call->stream, and sets the pointer in
   * callout_on_stream_open or in the stream's first call only. */
  CALLOUT_WANT_BOTH_DIRECTIONS = 1 << 0,
  /* The stream is not ended early: callout_on_stream_close comes when the exchange
   * is over. For limits of concurrency and for accounts. It costs every exchange an
   * open stream. */
  CALLOUT_WANT_REAL_END = 1 << 1,
  /* callout_call.request_headers in response phases. */
  CALLOUT_WANT_REQUEST_HEADERS = 1 << 2
};

/* What callout_plugin_create gets and gives back. APPENDABLE. */
typedef struct callout_create_args {
  uint32_t struct_size;
  uint32_t blocking; /* out: 1 if all hooks wait for something: the short form of
                        blocking_phases with all bits set. In: 0 */
  const callout_host_t *host;
  const char *instance;   /* the instance's name, NUL-terminated; lives as long
                             as the instance */
  callout_bytes_t config; /* the configuration text; its form is the plugin's
                             own affair. Valid during create */
  uint64_t phases; /* in: what this plugin can be called for (CALLOUT_PHASE_BIT):
                      phases whose hook is exported and, if callout_on_process
                      is, bit 0 and all phases of ext_proc of the plugin's
                      revision.
                      out: with bits cleared that this configuration does not
                      want. A phase without its bit is sent to no hook, not to
                      callout_on_process either. Without bit 0
                      callout_on_process is not called, and phases that have no
                      hook of their own are not sent. Bits that were not set do
                      nothing */
  uint64_t whole_body_bytes_max; /* out: above 0, body hooks get whole bodies of
                                    up to so many bytes instead of chunks, an
                                    empty body that only trailers end excepted;
                                    larger ones fall under the operator's
                                    too_large policy. In BUFFERED_PARTIAL a part
                                    may come, without CALLOUT_CALL_WHOLE_BODY.
                                    In: 0 */
  void *plugin; /* out: becomes call->plugin. In: NULL */
  uint64_t blocking_phases; /* out: phases whose hooks wait for something; bit 0:
                               callout_on_stream_open and callout_on_stream_close.
                               The host runs them on threads kept for that, and the
                               deadline holds for them. callout_on_process waits
                               where its phase does. In: 0 */
  uint64_t grants; /* in: the CALLOUT_WANT_* bits that this host knows */
  uint64_t wants;  /* out: those that the instance wishes for; bits that are not in
                      `grants` do nothing. In: 0 */
} callout_create_args_t;

/* Why an instance is destroyed. More values may be added. */
typedef uint32_t callout_destroy_reason_t;
enum {
  CALLOUT_DESTROY_UNKNOWN = 0,
  CALLOUT_DESTROY_REPLACED = 1, /* a newer generation of it serves */
  CALLOUT_DESTROY_REMOVED = 2,  /* it is configured no longer */
  CALLOUT_DESTROY_WITHDRAWN = 3, /* it failed its trial, or never served */
  CALLOUT_DESTROY_SHUTDOWN = 4  /* the process ends */
};

/* What callout_plugin_destroy_with gets. APPENDABLE. */
typedef struct callout_destroy_args {
  uint32_t struct_size;
  callout_destroy_reason_t reason;
  const callout_host_t *host; /* valid until the hook returns */
  void *plugin;               /* what create left in args->plugin */
  uint64_t deadline_ns; /* CLOCK_MONOTONIC; after it the process may end without
                           waiting for the hook. 0: none */
} callout_destroy_args_t;

/* Strings are NUL-terminated, NULL where unknown, and live as long as the
 * plugin. APPENDABLE. */
typedef struct callout_plugin_info {
  uint32_t struct_size;
  const char *name;        /* "header-stamp" */
  const char *version;     /* "1.2.0" */
  const char *description; /* one line */
} callout_plugin_info_t;

/* --- What a plugin exports ---------------------------------------------- */

/* Required. Data, so that the host can read it before it runs plugin code. */
extern CALLOUT_EXPORT const uint32_t callout_abi_version;
/* The revision that the plugin was compiled with; 1 if it is not exported. The host
 * calls no hook of a later revision: a plugin that exports one is refused. */
extern CALLOUT_EXPORT const uint32_t callout_abi_revision;
#define CALLOUT_PLUGIN()                                      \
  const uint32_t callout_abi_version = CALLOUT_ABI_VERSION;   \
  const uint32_t callout_abi_revision = CALLOUT_ABI_REVISION; \
  typedef int callout_plugin_needs_a_semicolon

/* Optional. The oldest revision that the plugin can do with; the host refuses it if
 * its own is older. A plugin that exports hooks of a later revision than the host's
 * is refused unless it has this, which then says that it can do without them. */
extern CALLOUT_EXPORT const uint32_t callout_abi_revision_min;
#define CALLOUT_PLUGIN_NEEDS(revision)                   \
  const uint32_t callout_abi_revision_min = (revision);  \
  typedef int callout_plugin_needs_needs_a_semicolon

/* Optional. Shown by --check and at /plugins. */
extern CALLOUT_EXPORT const callout_plugin_info_t callout_plugin_info;

/* Optional. The JSON Schema of the configuration, NUL-terminated UTF-8: an array, not
 * a pointer to one. The host shows it and does not apply it. */
extern CALLOUT_EXPORT const char callout_plugin_config_schema[];

/* The life of a plugin, in order:
 *   1. the file is loaded; its constructors run
 *   2. callout_plugin_create, once for each instance
 *   3. for each stream: callout_on_stream_open, calls, callout_on_stream_close
 *   4. callout_plugin_destroy or callout_plugin_destroy_with, after the last stream
 *      of the instance is closed and its last deferred call finished; never, if a
 *      call is never finished, or if the process ends first
 * A plugin is never unloaded; a new version of it is loaded beside it. Threads of the
 * plugin's own must be joined before destroy returns, after which the table of
 * services is gone. Start them in create, not in constructors: those also run where
 * the file is only checked. */

/* Optional. Make an instance: read the configuration, define metrics, open what
 * has to be open. For a negative status, log the reason first, and free what
 * was made: destroy is called only for a create that returned OK. The host then
 * refuses to start or, on a reload, keeps the instance it has. A plugin without it
 * has no configuration: the host warns if it is given one that is neither blank nor
 * `{}`. [control] */
CALLOUT_EXPORT callout_status_t
callout_plugin_create(callout_create_args_t *args);
/* Optional. `plugin` is what create left in args->plugin. The short form of
 * callout_plugin_destroy_with. FROZEN. [control] */
CALLOUT_EXPORT void callout_plugin_destroy(void *plugin);
/* Optional, in the place of callout_plugin_destroy: a plugin that exports both is
 * refused. [control] */
CALLOUT_EXPORT void callout_plugin_destroy_with(const callout_destroy_args_t *args);

/* Optional. Before the instance's first call of a stream; a stream that brings it
 * no call is not opened. `attributes`, `metadata_context` and all services but
 * respond, send and annotate can be used. It returns OK or a negative status; the
 * others, and an answer, are faults: answer in the first call. A negative status and a
 * fault are treated as those of the call that follows, which is then not made. After
 * a negative status close is not called: free here what open has made. [stream] */
CALLOUT_EXPORT callout_status_t callout_on_stream_open(callout_call_t *call);
/* Optional. After the last call of a stream, exactly once for each open that
 * returned OK (or was not exported), however the stream ends: free
 * call->stream here. call->end tells how the stream ended; phase, flags and views
 * are 0 and empty. [stream] */
CALLOUT_EXPORT void callout_on_stream_close(callout_call_t *call);
/* Optional. The client has left while a call of this instance is deferred, or runs
 * on a thread for blocking hooks. It has a callout_call_t of its own, with phase 0
 * and empty views, in which `stream` is what it was when that call began, after
 * open. It runs beside that call: do no more than set a flag or wake a thread.
 * Not called while open runs: then the call that follows it is not made. [cancel] */
CALLOUT_EXPORT void callout_on_stream_cancel(callout_call_t *call);

/* Optional. Gets every message first, of the phases in callout_create_args.phases.
 * CALLOUT_NEXT passes it on to the hook of its phase (without one: CALLOUT_OK); any
 * other status settles the call. [stream] */
CALLOUT_EXPORT callout_status_t callout_on_process(callout_call_t *call);

/* Optional. One for each phase. [stream] */
CALLOUT_EXPORT callout_status_t
callout_on_request_headers(callout_call_t *call);
CALLOUT_EXPORT callout_status_t
callout_on_response_headers(callout_call_t *call);
CALLOUT_EXPORT callout_status_t callout_on_request_body(callout_call_t *call);
CALLOUT_EXPORT callout_status_t callout_on_response_body(callout_call_t *call);
CALLOUT_EXPORT callout_status_t
callout_on_request_trailers(callout_call_t *call);
CALLOUT_EXPORT callout_status_t
callout_on_response_trailers(callout_call_t *call);

/* Optional, revision 2. ext_authz asks whether a request may go on; phase
 * CALLOUT_CHECK. The instances of a chain are asked in order, each about the
 * request as those before it left it, until one refuses it.
 *   respond(CALLOUT_CHECK_OK)      allows it, with changes to the request and to its
 *                                  response
 *   respond(CALLOUT_CHECK_DENIED)  refuses it
 *   respond(CALLOUT_CHECK_ERROR)   the others are asked still, and a refusal of theirs
 *                                  goes out. If others change the request, it is refused
 *                                  with the error's status: Envoy takes no changes with
 *                                  an error
 *   CALLOUT_OK, nothing set        refuses it, with 403: only what a plugin says
 *                                  lets a request pass
 *   PERMISSION_DENIED, UNAUTHENTICATED   refuse it, with 403 and 401
 *   any other negative status      a fault: the operator's policy decides
 * The host refuses as a fault (illegal_header) what Envoy would pass on unchecked: an
 * HTTP status that is not 200 to 599, CR, LF or NUL in a header, text that is not UTF-8,
 * content-length, and pseudo headers that a request or a response does not have. Query
 * parameters are given as they are; the host encodes them. CALLOUT_NO_RESPONSE and send()
 * have no place here. [stream] */
CALLOUT_EXPORT callout_status_t callout_on_check(callout_call_t *call);

/* Optional, revision 3. Envoy's rate limit filter asks whether a request is within its
 * limits; phase CALLOUT_RATE_LIMIT. The instances of a chain are asked in order, until one
 * says that it is not. respond(CALLOUT_WHOLE_RESPONSE) gives a RateLimitResponse:
 *   overall_code OVER_LIMIT        Envoy answers 429, with raw_body and headers
 *   OK, or none                    the request is within the limits of this instance
 *   statuses                       none, or one for each descriptor, in their order. Any of
 *                                  them OVER_LIMIT, and overall_code not: a fault
 *   CALLOUT_OK, nothing set        within the limits
 *   PERMISSION_DENIED, UNAUTHENTICATED   over the limit
 *   any other negative status      a fault: the operator's policy decides
 * The host refuses as a fault (illegal_header) what Envoy would pass on unchecked: CR, LF or
 * NUL in a header, text that is not UTF-8, content-length, pseudo headers, host, and a quote,
 * backslash or control character in the name of a limit. CALLOUT_NO_RESPONSE and send() have
 * no place here. [stream] */
CALLOUT_EXPORT callout_status_t callout_on_rate_limit(callout_call_t *call);

/* Optional, revision 3. Network ext_proc: the bytes of a TCP connection, in pieces as they
 * come; phases CALLOUT_READ_DATA and CALLOUT_WRITE_DATA. From the client they pass the
 * instances of a chain in order, to it in reverse; hooks of one instance never overlap.
 *   CALLOUT_OK, nothing set        the bytes go on as they came
 *   respond(the phase's own field) these go on in their place; none, if Data is empty
 *   respond(CALLOUT_WHOLE_RESPONSE)  the same; and by connection_status CLOSE or CLOSE_RST
 *                                  the connection ends, without the bytes of this call
 *   PERMISSION_DENIED, UNAUTHENTICATED   reset the connection
 *   any other negative status      a fault: the operator's policy decides. `fail` and `deny`
 *                                  reset the connection
 * Data of the other direction is a fault (wrong_type): Envoy would inject it there. end_of_stream
 * and data_processing_status of an answer do nothing; the end of a direction stays where it is.
 * close_stream_to_ext_proc_server does nothing. CALLOUT_NO_RESPONSE and send() have no place
 * here. [stream] */
CALLOUT_EXPORT callout_status_t callout_on_read_data(callout_call_t *call);
CALLOUT_EXPORT callout_status_t callout_on_write_data(callout_call_t *call);
/* Optional, revision 3. Before the instance's first bytes of a connection, of either
 * direction; phase CALLOUT_CONNECTION. Nothing set: it goes on. [stream] */
CALLOUT_EXPORT callout_status_t callout_on_connection(callout_call_t *call);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* CALLOUT_PLUGIN_H_ */
