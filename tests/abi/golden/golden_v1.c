/* The source of golden_v1.so, a plugin of ABI version 1 as it was built on the
 * day that version was made; see README.md beside it. It uses every hook and
 * every service, and depends on nothing.
 */
#include <callout/plugin.h>

CALLOUT_PLUGIN();

CALLOUT_EXPORT const callout_plugin_info_t callout_plugin_info = {
    sizeof(callout_plugin_info_t), "golden", "1", "every hook and service of ABI version 1"};

static uint32_t streams_opened;

static callout_bytes_t text(const char* data) {
  callout_bytes_t bytes = {data, 0};
  while (data[bytes.size] != '\0') ++bytes.size;
  return bytes;
}

callout_status_t callout_plugin_create(callout_create_args_t* args) {
  if (args->config.size != 6) return CALLOUT_INVALID_ARGUMENT; /* "golden" */
  args->plugin = &streams_opened;
  if (args->host->log_enabled(args->host, CALLOUT_LOG_INFO)) {
    args->host->log(args->host, CALLOUT_LOG_INFO, text("created"));
  }
  if (args->host->get_extension(args->host, "callout.nothing/1") != NULL) return CALLOUT_INTERNAL;
  return args->host->metric_define(args->host, CALLOUT_METRIC_COUNTER, text("golden_streams_total"),
                                   text("Streams opened."), &streams_opened);
}

void callout_plugin_destroy(void* plugin) { (void)plugin; }

callout_status_t callout_on_stream_open(callout_call_t* call) {
  callout_bytes_t peer;
  call->stream = call;
  call->host->metric_record(call->host, *(uint32_t*)call->plugin, 1);
  return call->host->get_property(call, CALLOUT_PEER, &peer);
}

void callout_on_stream_close(callout_call_t* call) { call->stream = NULL; }
void callout_on_stream_cancel(callout_call_t* call) { (void)call; }

callout_status_t callout_on_process(callout_call_t* call) {
  return call->stream == NULL ? CALLOUT_INTERNAL : CALLOUT_NEXT;
}

/* HeadersResponse { response { clear_route_cache: true } } in two parts. */
callout_status_t callout_on_request_headers(callout_call_t* call) {
  static const char kHead[] = {0x0a, 0x02};
  static const char kTail[] = {0x28, 0x01};
  callout_bytes_t parts[2] = {{kHead, 2}, {kTail, 2}};
  callout_bytes_t value;
  if (call->host->get_metadata(call, text("x-none"), 0, &value) != CALLOUT_NOT_FOUND) {
    return CALLOUT_INTERNAL;
  }
  /* Struct { fields { key: "golden" value { } } } */
  if (call->host->annotate(call, CALLOUT_DYNAMIC_METADATA, text("\x0a\x08\x0a\x06golden")) !=
      CALLOUT_OK) {
    return CALLOUT_INTERNAL;
  }
  return call->host->respond(call, CALLOUT_REQUEST_HEADERS_RESPONSE, parts, 2);
}

callout_status_t callout_on_response_headers(callout_call_t* call) {
  if (call->host->is_cancelled(call)) return CALLOUT_CANCELLED;
  return call->host->finish(call, CALLOUT_OK) == CALLOUT_OK ? CALLOUT_DEFERRED : CALLOUT_INTERNAL;
}

callout_status_t callout_on_request_body(callout_call_t* call) {
  static const char kChunk[] = {0x0a, 0x07, 0x1a, 0x05, 0x1a, 0x03, 0x0a, 0x01, 's'};
  callout_bytes_t part = {kChunk, sizeof(kChunk)};
  return call->host->send(call, CALLOUT_REQUEST_BODY_RESPONSE, &part, 1);
}

callout_status_t callout_on_response_body(callout_call_t* call) {
  call->host->set_error(call, text("golden error"));
  return CALLOUT_UNAVAILABLE;
}

callout_status_t callout_on_request_trailers(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}

callout_status_t callout_on_response_trailers(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}
