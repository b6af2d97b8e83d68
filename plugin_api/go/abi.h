/* SPDX-License-Identifier: Apache-2.0 */

/* What C and Go of this package share: Go cannot call what a pointer in C points to. */
#ifndef CALLOUT_GO_ABI_H_
#define CALLOUT_GO_ABI_H_

#include <stdlib.h>
#include <time.h>

#include "callout_abi.h"

/* Behind call->plugin. */
typedef struct callout_go_instance {
  const callout_host_t* host;
  uintptr_t handle; /* of the bridge.Instance */
  int opens;        /* the plugin has OnStreamOpen */
  int ends;         /* the plugin has OnStreamEnd */
} callout_go_instance_t;

/* Behind call->stream, from open to close. A cancel reads it beside a call. */
typedef struct callout_go_stream {
  uintptr_t handle; /* of what Go keeps for the stream; 0: nothing */
} callout_go_stream_t;

static inline uintptr_t callout_go_stream_handle(const callout_call_t* call) {
  return __atomic_load_n(&((const callout_go_stream_t*)call->stream)->handle, __ATOMIC_ACQUIRE);
}
static inline void callout_go_set_stream(callout_call_t* call, uintptr_t handle) {
  __atomic_store_n(&((callout_go_stream_t*)call->stream)->handle, handle, __ATOMIC_RELEASE);
}

static inline callout_bytes_t callout_go_bytes(const char* data, size_t size) {
  callout_bytes_t bytes;
  bytes.data = data;
  bytes.size = size;
  return bytes;
}

static inline callout_status_t callout_go_respond(callout_call_t* call, callout_field_t field,
                                                  const char* head, size_t head_size,
                                                  const char* body, size_t body_size,
                                                  const char* tail, size_t tail_size) {
  const callout_bytes_t parts[3] = {{head, head_size}, {body, body_size}, {tail, tail_size}};
  return call->host->respond(call, field, parts, 3);
}
static inline callout_status_t callout_go_send(callout_call_t* call, callout_field_t field,
                                               const char* head, size_t head_size, const char* body,
                                               size_t body_size) {
  const callout_bytes_t parts[2] = {{head, head_size}, {body, body_size}};
  return call->host->send(call, field, parts, 2);
}
static inline callout_status_t callout_go_annotate(callout_call_t* call, callout_field_t field,
                                                   const char* data, size_t size) {
  return call->host->annotate(call, field, callout_go_bytes(data, size));
}
static inline void callout_go_set_error(callout_call_t* call, const char* data, size_t size) {
  call->host->set_error(call, callout_go_bytes(data, size));
}
static inline void callout_go_finish(callout_call_t* call, callout_status_t status) {
  call->host->finish(call, status);
}
static inline int callout_go_is_cancelled(callout_call_t* call) {
  return call->host->is_cancelled(call);
}
static inline callout_status_t callout_go_get_metadata(callout_call_t* call, const char* key,
                                                       size_t size, uint32_t index,
                                                       callout_bytes_t* value) {
  return call->host->get_metadata(call, callout_go_bytes(key, size), index, value);
}
static inline callout_status_t callout_go_get_property(callout_call_t* call,
                                                       callout_property_t property,
                                                       callout_bytes_t* value) {
  return call->host->get_property(call, property, value);
}
static inline uint64_t callout_go_send_room(callout_call_t* call) {
  return call->host->send_room(call);
}

static inline callout_status_t callout_go_metadata_at(callout_call_t* call, uint32_t index,
                                                      callout_bytes_t* key,
                                                      callout_bytes_t* value) {
  const callout_rpc_metadata_t* metadata =
      (const callout_rpc_metadata_t*)call->host->get_extension(call->host, CALLOUT_RPC_METADATA);
  return metadata == NULL ? CALLOUT_NOT_FOUND : metadata->at(call, index, key, value);
}

static inline const callout_trace_t* callout_go_trace(const callout_call_t* call) {
  return (const callout_trace_t*)call->host->get_extension(call->host, CALLOUT_TRACE);
}
static inline int callout_go_is_recording(const callout_call_t* call) {
  const callout_trace_t* trace = callout_go_trace(call);
  return trace != NULL && trace->is_recording(call) == 1;
}
static inline callout_trace_attribute_t callout_go_attribute(const char* key, size_t key_size,
                                                             uint32_t type, const char* text,
                                                             size_t text_size, int64_t integer,
                                                             double real) {
  callout_trace_attribute_t attribute = {0};
  attribute.key = callout_go_bytes(key, key_size);
  attribute.text = callout_go_bytes(text, text_size);
  attribute.integer = integer;
  attribute.real = real;
  attribute.type = type;
  return attribute;
}
static inline callout_status_t callout_go_set_attribute(callout_call_t* call, const char* key,
                                                        size_t key_size, uint32_t type,
                                                        const char* text, size_t text_size,
                                                        int64_t integer, double real) {
  const callout_trace_attribute_t attribute =
      callout_go_attribute(key, key_size, type, text, text_size, integer, real);
  return callout_go_trace(call)->set_attribute(call, &attribute);
}
/* `texts` has keys and texts in turn, one after the other, and `sizes` the size of each. */
static inline callout_status_t callout_go_add_event(callout_call_t* call, const char* name,
                                                    size_t name_size, const char* texts,
                                                    const size_t* sizes, const uint32_t* types,
                                                    const int64_t* integers, const double* reals,
                                                    size_t count) {
  callout_status_t status;
  size_t i;
  callout_trace_attribute_t* attributes =
      (callout_trace_attribute_t*)calloc(count + 1, sizeof(*attributes));
  if (attributes == NULL) return CALLOUT_RESOURCE_EXHAUSTED;
  for (i = 0; i < count; ++i) {
    attributes[i] = callout_go_attribute(texts, sizes[2 * i], types[i], texts + sizes[2 * i],
                                         sizes[2 * i + 1], integers[i], reals[i]);
    texts += sizes[2 * i] + sizes[2 * i + 1];
  }
  status =
      callout_go_trace(call)->add_event(call, callout_go_bytes(name, name_size), attributes, count);
  free(attributes);
  return status;
}
static inline callout_status_t callout_go_get_context(callout_call_t* call, char* traceparent,
                                                      callout_bytes_t* tracestate) {
  const callout_trace_t* trace = callout_go_trace(call);
  return trace == NULL ? CALLOUT_NOT_FOUND : trace->get_context(call, traceparent, tracestate);
}

static inline int callout_go_log_enabled(const callout_host_t* host, callout_log_level_t level) {
  return host->log_enabled(host, level);
}
static inline void callout_go_log(const callout_host_t* host, callout_log_level_t level,
                                  const char* data, size_t size) {
  host->log(host, level, callout_go_bytes(data, size));
}
static inline callout_status_t callout_go_define_metric(
    const callout_host_t* host, callout_metric_kind_t kind, const char* name, size_t name_size,
    const char* help, size_t help_size, const double* buckets, size_t bucket_count, uint32_t* id) {
  callout_metric_spec_t spec = {0};
  spec.struct_size = sizeof(spec);
  spec.kind = kind;
  spec.name = callout_go_bytes(name, name_size);
  spec.help = callout_go_bytes(help, help_size);
  spec.buckets = bucket_count > 0 ? buckets : NULL;
  spec.bucket_count = bucket_count;
  return host->define_metric(host, &spec, id);
}
static inline void callout_go_record(const callout_host_t* host, uint32_t id, double value) {
  host->metric_record(host, id, value);
}
static inline callout_status_t callout_go_follow_file(const callout_host_t* host, const char* path,
                                                      size_t size) {
  return host->follow_file(host, callout_go_bytes(path, size));
}

static inline const callout_timers_t* callout_go_timers(const callout_host_t* host) {
  return (const callout_timers_t*)host->get_extension(host, CALLOUT_TIMERS);
}
static inline const callout_shared_data_t* callout_go_shared_data(const callout_host_t* host) {
  return (const callout_shared_data_t*)host->get_extension(host, CALLOUT_SHARED_DATA);
}

/* The timer's data is a handle of Go's, in memory of its own: a handle is no pointer. */
void callout_go_run_timer(void* data);
void callout_go_release_handle(void* data);

static inline callout_status_t callout_go_start_timer(const callout_host_t* host,
                                                      const callout_timers_t* timers,
                                                      uintptr_t handle, uint64_t delay_ns,
                                                      uint64_t period_ns, uint64_t* id) {
  callout_timer_t timer = {0};
  callout_status_t status;
  uintptr_t* data = (uintptr_t*)malloc(sizeof(*data));
  if (data == NULL) return CALLOUT_RESOURCE_EXHAUSTED;
  *data = handle;
  timer.struct_size = sizeof(timer);
  timer.run = callout_go_run_timer;
  timer.release = callout_go_release_handle;
  timer.data = data;
  timer.delay_ns = delay_ns;
  timer.period_ns = period_ns;
  status = timers->start(host, &timer, id);
  if (status != CALLOUT_OK) free(data);
  return status;
}
static inline callout_status_t callout_go_cancel_timer(const callout_host_t* host,
                                                       const callout_timers_t* timers,
                                                       uint64_t id) {
  return timers->cancel(host, id);
}

static inline callout_status_t callout_go_get_shared(const callout_host_t* host,
                                                     const callout_shared_data_t* data,
                                                     const char* space, size_t space_size,
                                                     const char* key, size_t key_size, char* to,
                                                     size_t capacity,
                                                     callout_shared_entry_t* entry) {
  entry->struct_size = sizeof(*entry);
  return data->get(host, callout_go_bytes(space, space_size), callout_go_bytes(key, key_size), to,
                   capacity, entry);
}
static inline callout_status_t callout_go_put_shared(
    const callout_host_t* host, const callout_shared_data_t* data, const char* space,
    size_t space_size, const char* key, size_t key_size, const char* value, size_t value_size,
    int may_evict, uint64_t ttl_ns, uint64_t expected, uint64_t* version) {
  callout_shared_put_t how = {0};
  how.struct_size = sizeof(how);
  how.may_evict = may_evict != 0;
  how.ttl_ns = ttl_ns;
  how.expected = expected;
  return data->put(host, callout_go_bytes(space, space_size), callout_go_bytes(key, key_size),
                   callout_go_bytes(value, value_size), &how, version);
}
static inline callout_status_t callout_go_remove_shared(const callout_host_t* host,
                                                        const callout_shared_data_t* data,
                                                        const char* space, size_t space_size,
                                                        const char* key, size_t key_size,
                                                        uint64_t expected) {
  return data->remove(host, callout_go_bytes(space, space_size), callout_go_bytes(key, key_size),
                      expected);
}
static inline callout_status_t callout_go_add_shared(const callout_host_t* host,
                                                     const callout_shared_data_t* data,
                                                     const char* space, size_t space_size,
                                                     const char* key, size_t key_size,
                                                     int64_t amount, uint64_t ttl_ns,
                                                     int64_t* sum) {
  return data->add(host, callout_go_bytes(space, space_size), callout_go_bytes(key, key_size),
                   amount, ttl_ns, sum);
}

static inline const callout_calls_t* callout_go_calls(const callout_host_t* host) {
  return (const callout_calls_t*)host->get_extension(host, CALLOUT_CALLS);
}
static inline callout_status_t callout_go_find_upstream(const callout_host_t* host,
                                                        const callout_calls_t* calls,
                                                        const char* name, size_t size) {
  return calls->find(host, callout_go_bytes(name, size), NULL);
}

/* A handle of Go's as for timers. */
void callout_go_call_done(void* data, const callout_incoming_t* incoming);

/* `headers` has names and values in turn, one after the other, and `sizes` the size of each. */
static inline callout_status_t callout_go_start_call(
    const callout_host_t* host, const callout_calls_t* calls, uint32_t flags, const char* upstream,
    size_t upstream_size, const char* method, size_t method_size, const char* path,
    size_t path_size, const char* headers, const size_t* sizes, size_t header_count,
    const char* body, size_t body_size, uint64_t timeout_ns, uintptr_t handle, uint64_t* id) {
  callout_outgoing_t outgoing = {0};
  callout_status_t status;
  size_t i;
  uintptr_t* data = (uintptr_t*)malloc(sizeof(*data));
  callout_header_field_t* fields =
      (callout_header_field_t*)calloc(header_count + 1, sizeof(*fields));
  if (data == NULL || fields == NULL) {
    free(data);
    free(fields);
    return CALLOUT_RESOURCE_EXHAUSTED;
  }
  for (i = 0; i < header_count; ++i) {
    fields[i].name = callout_go_bytes(headers, sizes[2 * i]);
    headers += sizes[2 * i];
    fields[i].value = callout_go_bytes(headers, sizes[2 * i + 1]);
    headers += sizes[2 * i + 1];
  }
  *data = handle;
  outgoing.struct_size = sizeof(outgoing);
  outgoing.flags = flags;
  outgoing.upstream = callout_go_bytes(upstream, upstream_size);
  outgoing.method = callout_go_bytes(method, method_size);
  outgoing.path = callout_go_bytes(path, path_size);
  outgoing.headers = fields;
  outgoing.header_count = header_count;
  outgoing.body = callout_go_bytes(body, body_size);
  outgoing.timeout_ns = timeout_ns;
  outgoing.done = callout_go_call_done;
  outgoing.release = callout_go_release_handle;
  outgoing.data = data;
  status = calls->start(host, &outgoing, id);
  free(fields);
  if (status != CALLOUT_OK) free(data);
  return status;
}
static inline void callout_go_cancel_call(const callout_host_t* host, const callout_calls_t* calls,
                                          uint64_t id) {
  calls->cancel(host, id);
}

/* From now to a time of CLOCK_MONOTONIC. */
static inline int64_t callout_go_ns_until(uint64_t then_ns) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)then_ns - ((int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
}

#endif /* CALLOUT_GO_ABI_H_ */
