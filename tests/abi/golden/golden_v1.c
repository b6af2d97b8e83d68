/* The source of golden_v1*.so, a plugin of ABI version 1, revision 1, as it was built on
 * the day that revision was frozen; see README.md beside it. It uses every hook, reads
 * every field and calls every service, and depends on nothing.
 *
 * A hook that finds something wrong returns INTERNAL with the number of the line.
 */
#include <callout/plugin.h>

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_NEEDS(1);

CALLOUT_EXPORT const callout_plugin_info_t callout_plugin_info = {
    sizeof(callout_plugin_info_t), "golden", "1", "every hook and service of revision 1"};
CALLOUT_EXPORT const char callout_plugin_config_schema[] = "{\"type\": \"string\"}";

struct golden {
  const callout_host_t* host;
  uint32_t opened, closed, seconds, level;
};
static struct golden golden;
static int stream;

static callout_bytes_t text(const char* data) {
  callout_bytes_t bytes = {data, 0};
  while (data[bytes.size] != '\0') ++bytes.size;
  return bytes;
}

static callout_status_t wrong(callout_call_t* call, int line) {
  char digits[12];
  callout_bytes_t number = {digits + sizeof(digits), 0};
  for (; line > 0; line /= 10, ++number.size) *(char*)--number.data = (char)('0' + line % 10);
  call->host->set_error(call, number);
  return CALLOUT_INTERNAL;
}
#define EXPECT(condition) \
  if (!(condition)) return wrong(call, __LINE__)

callout_status_t callout_plugin_create(callout_create_args_t* args) {
  const callout_host_t* host = args->host;
  static const double buckets[] = {0.1, 1};
  static const callout_label_t label = {{"kind", 4}, {"gold", 4}};
  static callout_metric_spec_t spec; /* a compiler would call memset for another */
  golden.host = host;
  if (args->struct_size < sizeof(*args)) return CALLOUT_FAILED_PRECONDITION;
  if (host->struct_size < sizeof(*host)) return CALLOUT_FAILED_PRECONDITION;
  if (host->abi_version < CALLOUT_ABI_VERSION || host->name[0] == '\0') return CALLOUT_INTERNAL;
  if (args->config.size != 6 || args->instance[0] == '\0') return CALLOUT_INVALID_ARGUMENT;
  if (args->phases != 0xfd || args->whole_body_bytes_max != 0 || args->plugin != NULL ||
      args->blocking != 0 || args->blocking_phases != 0 || args->wants != 0) {
    return CALLOUT_OUT_OF_RANGE;
  }
  args->wants = args->grants & CALLOUT_WANT_REAL_END;
  args->plugin = &golden;
  if (host->log_enabled(host, CALLOUT_LOG_INFO)) {
    host->log(host, CALLOUT_LOG_INFO, text("created"));
  }
  if (host->get_extension(host, "callout.nothing/1") != NULL) return CALLOUT_INTERNAL;
  spec.struct_size = sizeof(spec);
  spec.kind = CALLOUT_METRIC_HISTOGRAM;
  spec.name = text("golden_time");
  spec.help = text("Time.");
  spec.unit = text("seconds");
  spec.labels = &label;
  spec.label_count = 1;
  spec.buckets = buckets;
  spec.bucket_count = 2;
  if (host->define_metric(host, &spec, &golden.seconds) != CALLOUT_OK) return CALLOUT_INTERNAL;
  if (host->follow_file(host, text("/etc/golden")) != CALLOUT_OK) return CALLOUT_INTERNAL;
  if (host->metric_define(host, CALLOUT_METRIC_GAUGE, text("golden_level"), text("Level."),
                          &golden.level) != CALLOUT_OK ||
      host->metric_define(host, CALLOUT_METRIC_UP_DOWN, text("golden_closed"), text("Closed."),
                          &golden.closed) != CALLOUT_OK) {
    return CALLOUT_INTERNAL;
  }
  return host->metric_define(host, CALLOUT_METRIC_COUNTER, text("golden_streams_total"),
                             text("Streams opened."), &golden.opened);
}

void callout_plugin_destroy_with(const callout_destroy_args_t* args) {
  if (args->struct_size < sizeof(*args) || args->plugin != &golden) return;
  if (args->reason <= CALLOUT_DESTROY_SHUTDOWN && args->deadline_ns == 0) {
    args->host->log(args->host, CALLOUT_LOG_INFO, text("destroyed"));
  }
}

callout_status_t callout_on_stream_open(callout_call_t* call) {
  callout_bytes_t value;
  EXPECT(call->struct_size >= sizeof(*call));
  EXPECT(call->phase == 0 && call->plugin == &golden && call->stream == NULL);
  EXPECT(call->host == golden.host && call->self == call);
  EXPECT(call->message.size == 0 && call->request.size == 0 && call->end == NULL);
  EXPECT(call->host->get_property(call, CALLOUT_LISTENER, &value) == CALLOUT_OK);
  EXPECT(call->host->get_property(call, CALLOUT_STREAM_ID, &value) == CALLOUT_OK);
  EXPECT(call->host->get_property(call, CALLOUT_PEER, &value) == CALLOUT_OK && value.size > 0);
  call->stream = &stream;
  call->host->metric_record(call->host, golden.opened, 1);
  call->host->metric_record(call->host, golden.level, 7);
  call->host->metric_record(call->host, golden.seconds, 0.5);
  return CALLOUT_OK;
}

void callout_on_stream_close(callout_call_t* call) {
  const callout_stream_end_t* end = call->end;
  const int is_told = end != NULL && end->struct_size >= sizeof(*end) && call->phase == 0 &&
                      call->message.size == 0 && call->request.size == 0 && call->flags == 0 &&
                      call->deadline_ns == 0 && call->body_offset == 0 && call->body_mode == 0 &&
                      end->outcome <= CALLOUT_END_DRAINED && end->status <= 0 &&
                      end->http_status < 600 && end->request_body_bytes < 100 &&
                      end->response_body_bytes < 100 && end->instance_ns > 0 &&
                      (end->stream_ns == 0 || end->stream_ns >= end->instance_ns);
  call->host->metric_record(call->host, golden.closed, is_told ? 1 : -1);
  call->stream = NULL;
}
void callout_on_stream_cancel(callout_call_t* call) { (void)call; }

callout_status_t callout_on_process(callout_call_t* call) {
  EXPECT(call->stream == &stream && call->request.size > 0);
  EXPECT(call->message.size == 0 || call->message.data != NULL);
  EXPECT(call->deadline_ns == 0 || call->deadline_ns > 1000000);
  EXPECT((call->flags & CALLOUT_CALL_OBSERVABILITY) == 0);
  return CALLOUT_NEXT;
}

/* HeadersResponse { response { clear_route_cache: true } } in two parts. */
callout_status_t callout_on_request_headers(callout_call_t* call) {
  static const char kHead[] = {0x0a, 0x02};
  static const char kTail[] = {0x28, 0x01};
  callout_bytes_t parts[2] = {{kHead, 2}, {kTail, 2}};
  callout_bytes_t value;
  EXPECT(call->phase == CALLOUT_REQUEST_HEADERS && (call->flags & CALLOUT_CALL_FIRST) != 0);
  EXPECT(call->attributes.size == 0 || call->attributes.data != NULL);
  EXPECT(call->metadata_context.size == 0 || call->metadata_context.data != NULL);
  EXPECT(call->host->get_metadata(call, text("x-none"), 0, &value) == CALLOUT_NOT_FOUND);
  EXPECT(call->host->get_metadata(call, text("x-tenant"), 0, &value) == CALLOUT_OK);
  /* Struct { fields { key: "golden" value { } } } */
  EXPECT(call->host->annotate(call, CALLOUT_DYNAMIC_METADATA, text("\x0a\x08\x0a\x06golden")) ==
         CALLOUT_OK);
  return call->host->respond(call, CALLOUT_REQUEST_HEADERS_RESPONSE, parts, 2);
}

callout_status_t callout_on_response_headers(callout_call_t* call) {
  EXPECT(call->request_headers.size == 0 || call->request_headers.data != NULL);
  EXPECT(!call->host->is_cancelled(call));
  EXPECT(call->host->finish(call, CALLOUT_OK) == CALLOUT_OK);
  return CALLOUT_DEFERRED;
}

callout_status_t callout_on_request_body(callout_call_t* call) {
  static const char kChunk[] = {0x0a, 0x07, 0x1a, 0x05, 0x1a, 0x03, 0x0a, 0x01, 's'};
  callout_bytes_t part = {kChunk, sizeof(kChunk)};
  EXPECT(call->body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED && call->body_offset == 0);
  EXPECT(call->host->send_room(call) >= sizeof(kChunk));
  return call->host->send(call, CALLOUT_REQUEST_BODY_RESPONSE, &part, 1);
}

callout_status_t callout_on_response_body(callout_call_t* call) {
  call->host->set_error(call, text("golden error"));
  return CALLOUT_UNAVAILABLE;
}

callout_status_t callout_on_request_trailers(callout_call_t* call) {
  EXPECT((call->flags & CALLOUT_CALL_LAST) != 0);
  return CALLOUT_OK;
}

callout_status_t callout_on_response_trailers(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}
