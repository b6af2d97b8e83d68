/* SPDX-License-Identifier: Apache-2.0 */

/* A plugin that writes down all that it sees of its host, for both_hosts_test.cc: one line
 * for each call, and one for what each service came to. It does what plugins may do, and
 * what they may not.
 */
#include "tests/plugin_api/witness.h"

#include <callout/calls.h>
#include <callout/message.h>
#include <callout/shared_data.h>
#include <callout/timers.h>
#include <callout/trace.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

CALLOUT_PLUGIN();

static char transcript[65536];
static size_t transcript_size;
static callout_call_t* over; /* a call that has returned */
static int stream_mark;
static int refuses; /* by the configuration */

void witness_begin(void) { transcript_size = 0; }
const char* witness_transcript(void) {
  transcript[transcript_size] = '\0';
  return transcript;
}

static void note(const char* format, ...) {
  va_list arguments;
  int size;
  va_start(arguments, format);
  size = vsnprintf(transcript + transcript_size, sizeof(transcript) - transcript_size, format,
                   arguments);
  va_end(arguments);
  if (size > 0) transcript_size += (size_t)size;
}

static int has(callout_bytes_t bytes) { return bytes.size > 0; }

static void note_call(const char* hook, const callout_call_t* call) {
  note(
      "%s phase=%u flags=%u mode=%u offset=%llu message=%zu request=%d attributes=%zu "
      "metadata=%zu request_headers=%zu deadline=%d end=%d stream=%s size=%u\n",
      hook, call->phase, call->flags, call->body_mode, (unsigned long long)call->body_offset,
      call->message.size, has(call->request), call->attributes.size, call->metadata_context.size,
      call->request_headers.size, call->deadline_ns != 0, call->end != NULL,
      call->stream == NULL           ? "NULL"
      : call->stream == &stream_mark ? "mark"
                                     : "other",
      call->struct_size);
}

/* Every service on a call, in ways that change nothing. */
static void note_services(const char* where, callout_call_t* call) {
  const callout_host_t* host = call->host;
  const callout_bytes_t nothing = callout_text("");
  callout_bytes_t cut = callout_text("\x0a\x7f");
  callout_bytes_t value = nothing;
  note("%s:", where);
  note(" respond field 12: %d", host->respond(call, 12, &nothing, 1));
  note(", respond field 8: %d", host->respond(call, CALLOUT_DYNAMIC_METADATA, &nothing, 1));
  note(", send field 9: %d", host->send(call, CALLOUT_MODE_OVERRIDE, &nothing, 1));
  note(", send whole cut: %d", host->send(call, CALLOUT_WHOLE_RESPONSE, &cut, 1));
  note(", annotate field 1: %d", host->annotate(call, CALLOUT_REQUEST_HEADERS_RESPONSE, nothing));
  note(", annotate whole cut: %d", host->annotate(call, CALLOUT_WHOLE_RESPONSE, cut));
  note(", annotate whole answer: %d",
       host->annotate(call, CALLOUT_WHOLE_RESPONSE, callout_text("\x0a\x00")));
  note(", finish DEFERRED: %d", host->finish(call, CALLOUT_DEFERRED));
  note(", finish NEXT: %d", host->finish(call, CALLOUT_NEXT));
  note(", cancelled: %d", host->is_cancelled(call));
  note(", room: %d", host->send_room(call) > 0);
  note(", metadata: %d", host->get_metadata(call, callout_text("x-tenant"), 0, &value));
  note(" %.*s", (int)value.size, value.data);
  note(", metadata 1: %d", host->get_metadata(call, callout_text("x-tenant"), 1, &value));
  note(", metadata none: %d", host->get_metadata(call, callout_text("x-none"), 0, &value));
  note(", peer: %d", host->get_property(call, CALLOUT_PEER, &value));
  note(", identity: %d", host->get_property(call, CALLOUT_PEER_IDENTITY, &value));
  note(", property 99: %d\n", host->get_property(call, 99, &value));
}

static void note_metric(const char* what, const callout_host_t* host, callout_metric_spec_t spec) {
  uint32_t id = 99;
  spec.struct_size = spec.struct_size == 0 ? sizeof(spec) : spec.struct_size;
  spec.help = callout_text("help");
  note("metric %s: %d", what, host->define_metric(host, &spec, &id));
  note(" id %u\n", id);
}

static void note_metrics(const callout_host_t* host) {
  static const double kRising[] = {1, 2};
  static const double kFalling[] = {2, 1};
  callout_label_t label = {callout_text("zone"), callout_text("a")};
  callout_metric_spec_t spec = {0};
  spec.name = callout_text("witness_total");
  note_metric("new", host, spec);
  note_metric("again", host, spec);
  spec.kind = CALLOUT_METRIC_GAUGE;
  note_metric("of another kind", host, spec);
  spec.kind = 77;
  note_metric("of an unknown kind", host, spec);
  spec.kind = CALLOUT_METRIC_HISTOGRAM;
  spec.name = callout_text("witness_age");
  spec.unit = callout_text("seconds");
  spec.buckets = kFalling;
  spec.bucket_count = 2;
  note_metric("with falling buckets", host, spec);
  spec.buckets = kRising;
  note_metric("with buckets and a unit", host, spec);
  spec.name = callout_text("witness_age_seconds");
  note_metric("whose name has the unit", host, spec);
  spec.kind = CALLOUT_METRIC_COUNTER;
  note_metric("with buckets that is no histogram", host, spec);
  spec.buckets = NULL;
  spec.bucket_count = 0;
  spec.unit = callout_text("");
  spec.name = callout_text("9witness");
  note_metric("with a bad name", host, spec);
  spec.name = callout_text("");
  note_metric("without a name", host, spec);
  spec.name = callout_text("witness_zones");
  spec.labels = &label;
  spec.label_count = 1;
  note_metric("with a label", host, spec);
  label.name = callout_text("plugin");
  note_metric("with the label plugin", host, spec);
  label.name = callout_text("__zone");
  note_metric("with a reserved label", host, spec);
  spec.label_count = 9;
  note_metric("with nine labels", host, spec);
  spec.label_count = 0;
  spec.struct_size = 8;
  note_metric("with a short struct", host, spec);
}

static void never(void* data) { note("ran %s\n", (const char*)data); }
static void released(void* data) { note("released %s\n", (const char*)data); }

static void note_timers(const callout_host_t* host) {
  const callout_timers_t* timers = host->get_extension(host, CALLOUT_TIMERS);
  callout_timer_t timer = {0};
  uint64_t id = 0;
  note("timers size=%u", timers->struct_size);
  note(" empty: %d", timers->start(host, &timer, &id));
  timer.struct_size = sizeof(timer);
  note(" no function: %d", timers->start(host, &timer, &id));
  timer.run = never;
  timer.data = "a timer";
  timer.period_ns = 1;
  note(" short period: %d", timers->start(host, &timer, &id));
  timer.period_ns = 0;
  timer.delay_ns = CALLOUT_TIMER_NS_MAX + 1;
  note(" long delay: %d", timers->start(host, &timer, &id));
  timer.delay_ns = CALLOUT_TIMER_NS_MAX;
  note(" good: %d", timers->start(host, &timer, &id));
  note(" cancel: %d", timers->cancel(host, id));
  note(" again: %d", timers->cancel(host, id));
  note(" of nobody: %d\n", timers->cancel(host, 0));
  timer.release = released;
  note("with release: %d\n", timers->start(host, &timer, &id));
  note("cancel: %d\n", timers->cancel(host, id));
  timer.data = "that of the end";
  note("until the end: %d\n", timers->start(host, &timer, &id));
}

static void never_done(void* data, const callout_incoming_t* incoming) {
  (void)incoming;
  note("done %s\n", (const char*)data);
}

static void note_calls(const callout_host_t* host) {
  const callout_calls_t* calls = host->get_extension(host, CALLOUT_CALLS);
  callout_outgoing_t outgoing = {0};
  uint64_t id = 0;
  note("calls size=%u", calls->struct_size);
  note(" find: %d", calls->find(host, callout_text("none"), NULL));
  note(" empty: %d", calls->start(host, &outgoing, &id));
  outgoing.struct_size = sizeof(outgoing);
  note(" no function: %d", calls->start(host, &outgoing, &id));
  outgoing.done = never_done;
  outgoing.release = released;
  outgoing.upstream = callout_text("none");
  note(" no upstream: %d", calls->start(host, &outgoing, &id));
  note(" cancel: %d\n", calls->cancel(host, id));
}

static void note_get(const char* what, const callout_host_t* host, callout_bytes_t space,
                     callout_bytes_t key, size_t capacity) {
  const callout_shared_data_t* data = host->get_extension(host, CALLOUT_SHARED_DATA);
  callout_shared_entry_t entry = {0};
  char value[16];
  callout_status_t status = 0;
  entry.struct_size = sizeof(entry);
  status = data->get(host, space, key, value, capacity, &entry);
  note("get %s: %d size=%d version=%d expires=%d %.*s\n", what, status, (int)entry.size,
       entry.version != 0, entry.expires_ns != 0, status == CALLOUT_OK ? (int)entry.size : 0,
       value);
}

static void note_shared_data(const callout_host_t* host) {
  const callout_shared_data_t* data = host->get_extension(host, CALLOUT_SHARED_DATA);
  const callout_bytes_t own = callout_text(""), common = callout_text("common");
  const callout_bytes_t key = callout_text("k");
  callout_shared_put_t put = {0};
  char long_text[2000];
  uint64_t version = 0, first = 0;
  int64_t sum = 0;
  memset(long_text, 'x', sizeof(long_text));
  note("put with an empty struct: %d", data->put(host, own, key, key, &put, &version));
  put.struct_size = sizeof(put);
  note(" absent: %d", data->put(host, own, key, callout_text("one"), &put, &first));
  note(" absent, again: %d", data->put(host, own, key, callout_text("two"), &put, &version));
  note(" same version: %d", version == first);
  put.expected = first;
  put.ttl_ns = CALLOUT_SHARED_TTL_NS_MAX;
  note(" expected: %d", data->put(host, own, key, callout_text("three"), &put, &version));
  note(" later: %d", version > first);
  note(" no longer expected: %d", data->put(host, own, key, callout_text("four"), &put, NULL));
  put.expected = CALLOUT_SHARED_ANY;
  note(" any: %d\n", data->put(host, common, key, callout_text("five"), &put, NULL));
  put.ttl_ns = CALLOUT_SHARED_TTL_NS_MAX + 1;
  note("put for too long: %d", data->put(host, own, key, key, &put, NULL));
  put.ttl_ns = 0;
  put.may_evict = 2;
  note(" unknown flag: %d", data->put(host, own, key, key, &put, NULL));
  put.may_evict = 1;
  note(" long space: %d",
       data->put(host, callout_make_bytes(long_text, CALLOUT_SHARED_SPACE_BYTES_MAX + 1), key, key,
                 &put, NULL));
  note(" long key: %d",
       data->put(host, own, callout_make_bytes(long_text, CALLOUT_SHARED_KEY_BYTES_MAX + 1), key,
                 &put, NULL));
  note(" no key: %d\n", data->put(host, own, own, key, &put, NULL));
  note_get("own", host, own, key, 16);
  note_get("common", host, common, key, 16);
  note_get("little room", host, own, key, 4);
  note_get("unknown", host, own, callout_text("u"), 16);
  note("add: %d", data->add(host, own, callout_text("n"), -3, 0, &sum));
  note(" %d", (int)sum);
  note(", more: %d", data->add(host, own, callout_text("n"), INT64_MIN, 0, &sum));
  note(" at the limit: %d", sum == INT64_MIN);
  note(", to a text: %d\n", data->add(host, own, key, 1, 0, &sum));
  note("remove what changed: %d", data->remove(host, own, key, first));
  note(", as it is: %d", data->remove(host, own, key, version));
  note(", again: %d\n", data->remove(host, own, key, CALLOUT_SHARED_ANY));
}

static callout_trace_attribute_t attribute(callout_bytes_t key, uint32_t type) {
  callout_trace_attribute_t made = {0};
  made.key = key;
  made.type = type;
  return made;
}

static void note_set(const char* what, callout_call_t* call, callout_trace_attribute_t made) {
  const callout_trace_t* trace = call->host->get_extension(call->host, CALLOUT_TRACE);
  note(" %s: %d", what, trace->set_attribute(call, &made));
}

/* The id of the span is any. */
static void note_context(callout_call_t* call) {
  const callout_trace_t* trace = call->host->get_extension(call->host, CALLOUT_TRACE);
  char traceparent[CALLOUT_TRACEPARENT_BYTES];
  callout_bytes_t state = {0};
  const callout_status_t status = trace->get_context(call, traceparent, &state);
  note("context: %d", status);
  if (status == CALLOUT_OK) {
    note(" %.36s %.3s state=%.*s", traceparent, traceparent + 52, (int)state.size, state.data);
  }
  note("\n");
}

static void note_trace(const char* where, callout_call_t* call) {
  const callout_trace_t* trace = call->host->get_extension(call->host, CALLOUT_TRACE);
  static char text[5000];
  callout_trace_attribute_t text_of = attribute(callout_text("a"), CALLOUT_TRACE_TEXT);
  callout_trace_attribute_t flag = attribute(callout_text("f"), CALLOUT_TRACE_FLAG);
  int i = 0, kept = 0;
  memset(text, 'x', sizeof(text));
  note("trace %s size=%u recording=%d", where, trace->struct_size, trace->is_recording(call));
  text_of.text = callout_make_bytes(text, sizeof(text));
  note_set("long text", call, text_of);
  text_of.text = callout_make_bytes("\xc3", 1);
  note_set("half a character", call, text_of);
  text_of.text = callout_make_bytes("\xed\xa0\x80", 3);
  note_set("surrogate", call, text_of);
  text_of.text = callout_make_bytes("\xf0\x9f\x98\x80", 4);
  note_set("four bytes", call, text_of);
  flag.integer = 2;
  note_set("flag of 2", call, flag);
  flag.integer = 1;
  note_set("flag", call, flag);
  note_set("no type", call, attribute(callout_text("n"), 0));
  note_set("no key", call, attribute(callout_text(""), CALLOUT_TRACE_INTEGER));
  note_set("longest key", call,
           attribute(callout_make_bytes(text, CALLOUT_TRACE_KEY_BYTES_MAX), CALLOUT_TRACE_INTEGER));
  note_set(
      "longer key", call,
      attribute(callout_make_bytes(text, CALLOUT_TRACE_KEY_BYTES_MAX + 1), CALLOUT_TRACE_INTEGER));
  note_set("the host's key", call, attribute(callout_text("callout.phase"), CALLOUT_TRACE_INTEGER));
  note_set("the host's other key", call,
           attribute(callout_text("http.response.status_code"), CALLOUT_TRACE_INTEGER));
  note(" event: %d", trace->add_event(call, callout_text("e"), &flag, 1));
  note(" without a name: %d\n", trace->add_event(call, callout_text(""), NULL, 0));
  for (i = 0; i < 200; ++i)
    kept += trace->add_event(call, callout_text("e"), NULL, 0) == CALLOUT_OK;
  note("events kept: %d", kept);
  for (i = 0, kept = 0; i < 2000; ++i) {
    const callout_trace_attribute_t again = attribute(callout_text("r"), CALLOUT_TRACE_REAL);
    kept += trace->set_attribute(call, &again) == CALLOUT_OK;
  }
  note(" attributes kept: %d\n", kept);
  note_context(call);
}

callout_status_t callout_plugin_create(callout_create_args_t* args) {
  const callout_host_t* host = args->host;
  char long_path[5000];
  note(
      "create size=%u blocking=%u config=%.*s phases=%llx whole=%llu plugin=%d "
      "blocking_phases=%llu "
      "grants=%llx wants=%llx host=%u version=%u\n",
      args->struct_size, args->blocking, (int)args->config.size, args->config.data,
      (unsigned long long)args->phases, (unsigned long long)args->whole_body_bytes_max,
      args->plugin != NULL, (unsigned long long)args->blocking_phases,
      (unsigned long long)args->grants, (unsigned long long)args->wants, host->struct_size,
      host->abi_version);
  note_metrics(host);
  memset(long_path, '/', sizeof(long_path));
  note("follow /a: %d", host->follow_file(host, callout_text("/a")));
  note(", again: %d", host->follow_file(host, callout_text("/a")));
  note(", relative: %d", host->follow_file(host, callout_text("a")));
  note(", with a NUL: %d", host->follow_file(host, callout_make_bytes("/\0b", 3)));
  note(", nothing: %d", host->follow_file(host, callout_text("")));
  note(", too long: %d\n",
       host->follow_file(host, callout_make_bytes(long_path, sizeof(long_path))));
  note("extension: %d\n", host->get_extension(host, "callout.none/1") != NULL);
  note_timers(host);
  note_shared_data(host);
  note_calls(host);
  args->wants = CALLOUT_WANT_REQUEST_HEADERS;
  refuses = callout_bytes_equal(args->config, callout_text("refuse"));
  if (args->config.size > 0) args->phases &= ~CALLOUT_PHASE_BIT(CALLOUT_RESPONSE_BODY);
  return CALLOUT_OK;
}

void callout_plugin_destroy(void* plugin) { note("destroy plugin=%d\n", plugin != NULL); }

callout_status_t callout_on_stream_open(callout_call_t* call) {
  note_call("open", call);
  call->stream = &stream_mark;
  return CALLOUT_OK;
}

void callout_on_stream_close(callout_call_t* call) {
  const callout_stream_end_t* end = call->end;
  note_call("close", call);
  note("end size=%u outcome=%u status=%d http=%u bytes=%llu/%llu\n", end->struct_size, end->outcome,
       end->status, end->http_status, (unsigned long long)end->request_body_bytes,
       (unsigned long long)end->response_body_bytes);
  note_services("at close", call);
  note("finish at close: %d\n", call->host->finish(call, CALLOUT_OK));
  note_trace("at close", call);
}

callout_status_t callout_on_process(callout_call_t* call) {
  note_call("process", call);
  return CALLOUT_NEXT;
}

/* A refusal, and what comes after it. */
static void note_refusal(callout_call_t* call) {
  const callout_header_t header = CALLOUT_HEADER("x-a", "1");
  const callout_bytes_t whole = callout_make_bytes("\x0a\x00", 2);
  const callout_bytes_t nothing = callout_text("");
  note("header: %d", callout_add_header_mutation(call, &header, 1, NULL, 0, 0,
                                                 CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD));
  note(", deny: %d", callout_deny(call, 403, "no"));
  note(", header: %d", callout_add_header_mutation(call, &header, 1, NULL, 0, 0,
                                                   CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD));
  note(", deny: %d", callout_deny(call, 200, "welcome"));
  note(", whole: %d", call->host->respond(call, CALLOUT_WHOLE_RESPONSE, &whole, 1));
  note(", send: %d", call->host->send(call, CALLOUT_STREAMED_IMMEDIATE_RESPONSE, &nothing, 1));
  note(", annotate: %d\n", call->host->annotate(call, CALLOUT_DYNAMIC_METADATA, nothing));
}

callout_status_t callout_on_request_headers(callout_call_t* call) {
  const callout_host_t* host = call->host;
  callout_call_t copy;
  uint32_t id = 0;
  note_call("request_headers", call);
  note_services("in a hook", call);
  memcpy(&copy, call, sizeof(copy));
  note_services("with a copy", &copy);
  note_trace("in a hook", call);
  note_trace("with a copy", &copy);
  note("follow after create: %d\n", host->follow_file(host, callout_text("/b")));
  note("metric after create: %d\n",
       host->metric_define(host, CALLOUT_METRIC_COUNTER, callout_text("late"), callout_text("h"),
                           &id));
  if (refuses) note_refusal(call);
  over = call;
  return CALLOUT_OK;
}

static void* finish_later(void* argument) {
  callout_call_t* call = argument;
  callout_status_t first = call->host->finish(call, CALLOUT_OK);
  (void)first; /* the transcript is the hooks' */
  return NULL;
}

callout_status_t callout_on_request_body(callout_call_t* call) {
  note_call("request_body", call);
  if ((call->flags & CALLOUT_CALL_FIRST) != 0) {
    note_services("with a call that has returned", over);
    note("finish of a call that has returned: %d\n", over->host->finish(over, CALLOUT_OK));
    /* Finished in the hook, twice. */
    note("finish: %d", call->host->finish(call, CALLOUT_OK));
    note(", again: %d\n", call->host->finish(call, CALLOUT_INTERNAL));
    note_services("after finish", call);
    over = call;
    return CALLOUT_DEFERRED;
  }
  {
    pthread_t thread;
    pthread_create(&thread, NULL, finish_later, call);
    pthread_detach(thread);
  }
  over = call;
  return CALLOUT_DEFERRED;
}

callout_status_t callout_on_request_trailers(callout_call_t* call) {
  note_call("request_trailers", call);
  note("finish of a call that was deferred: %d\n", over->host->finish(over, CALLOUT_OK));
  return CALLOUT_OK;
}

callout_status_t callout_on_response_headers(callout_call_t* call) {
  const callout_bytes_t cut = callout_text("\x0a\x7f");
  callout_header_t header = {callout_text("x-a"), callout_text("1")};
  note_call("response_headers", call);
  note("whole cut: %d", call->host->respond(call, CALLOUT_WHOLE_RESPONSE, &cut, 1));
  note(", header: %d\n", callout_add_header_mutation(call, &header, 1, NULL, 0, 0,
                                                     CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD));
  return CALLOUT_OK;
}

callout_status_t callout_on_response_body(callout_call_t* call) {
  note_call("response_body", call);
  return CALLOUT_OK;
}
