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
 *    break. New hooks are new symbols. Structs that start with `struct_size`
 *    are APPENDABLE: fields are added at the end only, and a side reads a field
 *    it cannot be sure of behind CALLOUT_HAS. FROZEN types never change. Every
 *    hook takes one pointer, so that no hook ever changes its signature.
 * 2. Numbers. Phases and fields are the field numbers of ProcessingRequest and
 *    ProcessingResponse in envoy/service/ext_proc/v3. Errors are negated gRPC
 *    status codes. Expect values that this header does not name. Phases 32 to
 *    63 are kept free for hooks of other services.
 * 3. Ownership. Whoever allocates, frees. What the host hands out is valid
 *    until the hook returns or, if it returned CALLOUT_DEFERRED, until finish()
 *    is called; each exception says so. What the plugin hands in is copied
 *    before the host's function returns.
 * 4. Threads. Every function has one tag:
 *      [control]  one call at a time for an instance, never while one of its
 *                 hooks runs
 *      [stream]   calls for one stream never overlap, and each sees the writes
 *                 of the one before; different streams run at once on
 *                 different threads; the thread of a stream may change
 *      [call]     from the hook that was given the call or, once the call is
 *                 deferred, from wherever the work is done; one thread at a
 *                 time for a call
 *      [any]      from any thread, at any time while the instance lives
 * 5. Time. A hook holds up one of the host's threads, which serves many
 *    streams. Work that waits for something is deferred, or the instance is
 *    declared blocking (callout_create_args.blocking).
 * 6. Exceptions, longjmp and panics must not cross this border.
 * 7. Trust. A plugin runs inside the host process with all its rights.
 */
#ifndef CALLOUT_PLUGIN_H_
#define CALLOUT_PLUGIN_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CALLOUT_ABI_VERSION 1u

#if defined(__GNUC__) || defined(__clang__)
#define CALLOUT_EXPORT __attribute__((visibility("default")))
#else
#define CALLOUT_EXPORT
#endif

/* 1 if the struct at `ptr`, of type `type`, was made by a side that knows
 * `field`. It says nothing of the field's value: test pointers for NULL too.
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
 * A negative status from a hook ends the gRPC stream with that code, but for
 * one thing: PERMISSION_DENIED and UNAUTHENTICATED are decisions of the plugin
 * and always do so; every other negative status is a fault and falls under the
 * policy the operator has set for the instance (fail, continue or deny). */
typedef int32_t callout_status_t;
enum {
  CALLOUT_OK = 0,          /* send the answer that was set; if none was: the
                              phase's empty answer, which changes nothing */
  CALLOUT_DEFERRED = 1,    /* the call now belongs to the plugin, which calls
                              finish() on it once, from any thread */
  CALLOUT_NEXT = 2,        /* callout_on_process only: go on to the phase's own
                              hook */
  CALLOUT_NO_RESPONSE = 3, /* body phases in FULL_DUPLEX_STREAMED only: answer
                              this chunk later, or drop it. The end of the
                              stream is still passed on */

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
 * ProcessingRequest. 0 while a stream is opened, cancelled or closed. */
typedef uint32_t callout_phase_t;
enum {
  CALLOUT_REQUEST_HEADERS = 2,   /* message: HttpHeaders */
  CALLOUT_RESPONSE_HEADERS = 3,  /* message: HttpHeaders */
  CALLOUT_REQUEST_BODY = 4,      /* message: HttpBody */
  CALLOUT_RESPONSE_BODY = 5,     /* message: HttpBody */
  CALLOUT_REQUEST_TRAILERS = 6,  /* message: HttpTrailers */
  CALLOUT_RESPONSE_TRAILERS = 7  /* message: HttpTrailers */
};
#define CALLOUT_PHASE_BIT(phase) (UINT64_C(1) << (phase))

/* What an answer is: the field number of ProcessingResponse. The answer to a
 * phase has the field number `phase - 1`. */
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
  CALLOUT_TYPED_DYNAMIC_METADATA = 13     /* one entry of map<string, Any> */
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
  CALLOUT_CALL_WHOLE_BODY = 1 << 2,    /* the message holds the entire body */
  CALLOUT_CALL_OBSERVABILITY = 1 << 3  /* answers are not sent to Envoy */
};

typedef uint32_t callout_log_level_t;
enum {
  CALLOUT_LOG_DEBUG = 0,
  CALLOUT_LOG_INFO = 1,
  CALLOUT_LOG_WARNING = 2,
  CALLOUT_LOG_ERROR = 3
};

typedef uint32_t callout_metric_kind_t;
enum {
  CALLOUT_METRIC_COUNTER = 0,  /* metric_record adds; values must be >= 0 */
  CALLOUT_METRIC_GAUGE = 1,    /* metric_record sets */
  CALLOUT_METRIC_HISTOGRAM = 2 /* metric_record observes */
};

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

/* One message of one stream; or the opening, cancelling or closing of a stream,
 * with `phase` 0 and empty views. Made by the host; the plugin writes only
 * `stream`. All fields below are present in ABI version 1. APPENDABLE. */
typedef struct callout_call {
  uint32_t struct_size;
  callout_phase_t phase;
  const callout_host_t *host;
  void *plugin; /* what callout_plugin_create left in args->plugin */
  void *stream; /* the plugin's own, kept from call to call of one stream; NULL
                   at first. A write while the call is deferred is kept too */
  callout_bytes_t message; /* serialized HttpHeaders, HttpBody or HttpTrailers,
                              as the instances before in the chain left it */
  callout_bytes_t request; /* the serialized ProcessingRequest around it */
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
} callout_call_t;

/* Services of the host, a table for each plugin instance, valid from
 * callout_plugin_create until callout_plugin_destroy has returned. All members
 * below are present in ABI version 1 and never NULL. APPENDABLE. */
struct callout_host {
  uint32_t struct_size;
  uint32_t abi_version;
  const char *name; /* "callout-host/1.4.0", NUL-terminated, for logs */

  /* Set the answer to this call: the concatenation of `parts` is the message in
   * `field` of ProcessingResponse. Called again, the last one counts. A body is
   * passed on as one part between two small ones without a copy of the
   * plugin's own.
   * INVALID_ARGUMENT: `field` is no answer. FAILED_PRECONDITION: the stream is
   * being opened or closed. RESOURCE_EXHAUSTED: over --max_message_bytes; the
   * answer set before is dropped and the call falls under the policy. [call] */
  callout_status_t (*respond)(callout_call_t *call, callout_field_t field,
                              const callout_bytes_t *parts, size_t part_count);

  /* Send one more answer now, ahead of the one the call ends with: body answers
   * in FULL_DUPLEX_STREAMED, and streamed immediate responses.
   * Errors as respond(); CANCELLED: the client has left. [call] */
  callout_status_t (*send)(callout_call_t *call, callout_field_t field,
                           const callout_bytes_t *parts, size_t part_count);

  /* Put a field beside the answer; repeats merge, as in protobuf. With
   * CALLOUT_WHOLE_RESPONSE, `message` is a ProcessingResponse with any fields
   * outside its oneof. INVALID_ARGUMENT: `field` is none of those. [call] */
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
   * stream, nor its close. CANCELLED: the client had left, nothing was sent.
   * DEADLINE_EXCEEDED: the deadline had passed and the policy has answered.
   * [call] */
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
   * same id. It is served at /metrics with the label plugin="INSTANCE".
   * INVALID_ARGUMENT: `name` is not [a-zA-Z_:][a-zA-Z0-9_:]*, or known with
   * another kind. RESOURCE_EXHAUSTED: over 64 for an instance. [control] */
  callout_status_t (*metric_define)(const callout_host_t *host,
                                    callout_metric_kind_t kind,
                                    callout_bytes_t name, callout_bytes_t help,
                                    uint32_t *id);
  /* Unknown ids and values that are not finite are ignored. [any] */
  void (*metric_record)(const callout_host_t *host, uint32_t id, double value);

  /* A further table of services by name and revision, such as
   * "callout.shared_data/1"; NULL if this host has none. [any] */
  const void *(*get_extension)(const callout_host_t *host, const char *id);
};

/* What callout_plugin_create gets and gives back. APPENDABLE. */
typedef struct callout_create_args {
  uint32_t struct_size;
  uint32_t blocking; /* out: 1 if hooks wait for something; the host then runs
                        all of [stream] but stream_cancel on threads kept for
                        that, and the deadline holds for them. In: 0 */
  const callout_host_t *host;
  const char *instance;   /* the instance's name, NUL-terminated; lives as long
                             as the instance */
  callout_bytes_t config; /* the configuration text; its form is the plugin's
                             own affair. Valid during create */
  uint64_t phases; /* in: phases whose hooks are exported (CALLOUT_PHASE_BIT;
                      bit 0: callout_on_process); out: with the bits cleared
                      that this configuration does not want */
  uint64_t whole_body_bytes_max; /* out: above 0, body hooks get whole bodies of
                                    up to so many bytes instead of chunks, an
                                    empty body that only trailers end excepted;
                                    larger ones fall under the operator's
                                    too_large policy. In BUFFERED_PARTIAL a part
                                    may come, without CALLOUT_CALL_WHOLE_BODY.
                                    In: 0 */
  void *plugin; /* out: becomes call->plugin. In: NULL */
} callout_create_args_t;

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
#define CALLOUT_PLUGIN()                                    \
  const uint32_t callout_abi_version = CALLOUT_ABI_VERSION; \
  typedef int callout_plugin_needs_a_semicolon

/* Optional. Shown by --check and at /plugins. */
extern CALLOUT_EXPORT const callout_plugin_info_t callout_plugin_info;

/* The life of a plugin, in order:
 *   1. the file is loaded; its constructors run
 *   2. callout_plugin_create, once for each instance
 *   3. for each stream: callout_on_stream_open, calls, callout_on_stream_close
 *   4. callout_plugin_destroy, after the last stream of the instance is closed
 *      and its last deferred call finished
 * A plugin is never unloaded; a new version of it is loaded beside it. */

/* Optional. Make an instance: read the configuration, define metrics, open what
 * has to be open. For a negative status, log the reason first, and free what
 * was made: destroy is called only for a create that returned OK. The host then
 * refuses to start or, on a reload, keeps the instance it has. [control] */
CALLOUT_EXPORT callout_status_t
callout_plugin_create(callout_create_args_t *args);
/* Optional. `plugin` is what create left in args->plugin. [control] */
CALLOUT_EXPORT void callout_plugin_destroy(void *plugin);

/* Optional. Before the instance's first call of a stream; a stream that brings it
 * no call is not opened. `attributes`, `metadata_context` and all services but
 * respond, send and annotate can be used. It may not defer. A negative status is
 * treated as one from the call that follows, which is then not made, and close is
 * not called. [stream] */
CALLOUT_EXPORT callout_status_t callout_on_stream_open(callout_call_t *call);
/* Optional. After the last call of a stream, exactly once for each open that
 * returned OK (or was not exported), however the stream ends: free
 * call->stream here. [stream] */
CALLOUT_EXPORT void callout_on_stream_close(callout_call_t *call);
/* Optional. The client has left while a call of this instance is deferred or runs
 * on a blocking thread, and still has to be finished. It runs while other threads may work on that call:
 * do no more than set a flag or wake them. [stream] */
CALLOUT_EXPORT void callout_on_stream_cancel(callout_call_t *call);

/* Optional. Gets every message first. CALLOUT_NEXT passes it on to the hook of
 * its phase; any other status settles the call. [stream] */
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

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* CALLOUT_PLUGIN_H_ */
