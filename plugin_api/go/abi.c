/* SPDX-License-Identifier: Apache-2.0 */

/* What a plugin exports. Go is entered only for what the plugin has: the opening and closing of a
 * stream of which Go keeps nothing stays in C. */
#include "callout_abi.h"

#include <stdlib.h>

#include "_cgo_export.h"
#include "abi.h"

CALLOUT_PLUGIN();

callout_status_t callout_plugin_create(callout_create_args_t* args) {
  callout_go_instance_t* instance = calloc(1, sizeof(*instance));
  callout_status_t status;
  if (instance == NULL) return CALLOUT_RESOURCE_EXHAUSTED;
  instance->host = args->host;
  status = calloutGoCreate(args, instance);
  if (status != CALLOUT_OK) {
    free(instance);
    return status;
  }
  args->plugin = instance;
  return CALLOUT_OK;
}

void callout_plugin_destroy(void* plugin) {
  callout_go_instance_t* instance = plugin;
  calloutGoDestroy(instance->handle);
  free(instance);
}

callout_status_t callout_on_stream_open(callout_call_t* call) {
  const callout_go_instance_t* instance = call->plugin;
  callout_status_t status;
  call->stream = calloc(1, sizeof(callout_go_stream_t));
  if (call->stream == NULL) return CALLOUT_RESOURCE_EXHAUSTED;
  if (!instance->opens) return CALLOUT_OK;
  status = calloutGoOpen(call);
  if (status < 0) {
    /* The host calls no close. */
    calloutGoForget(callout_go_stream_handle(call));
    free(call->stream);
    call->stream = NULL;
  }
  return status;
}

void callout_on_stream_close(callout_call_t* call) {
  const callout_go_instance_t* instance = call->plugin;
  if (instance->ends || callout_go_stream_handle(call) != 0) calloutGoClose(call);
  free(call->stream);
  call->stream = NULL;
}

void callout_on_stream_cancel(callout_call_t* call) {
  if (call->stream != NULL && callout_go_stream_handle(call) != 0) calloutGoCancel(call);
}

#define CALLOUT_GO_HOOK(name) \
  callout_status_t callout_on_##name(callout_call_t* call) { return calloutGoMessage(call); }
CALLOUT_GO_HOOK(request_headers)
CALLOUT_GO_HOOK(response_headers)
CALLOUT_GO_HOOK(request_body)
CALLOUT_GO_HOOK(response_body)
CALLOUT_GO_HOOK(request_trailers)
CALLOUT_GO_HOOK(response_trailers)
CALLOUT_GO_HOOK(check)
CALLOUT_GO_HOOK(rate_limit)
CALLOUT_GO_HOOK(connection)
CALLOUT_GO_HOOK(read_data)
CALLOUT_GO_HOOK(write_data)

void callout_go_run_timer(void* data) { calloutGoRunTimer(*(uintptr_t*)data); }
void callout_go_release_handle(void* data) {
  calloutGoForget(*(uintptr_t*)data);
  free(data);
}

void callout_go_call_done(void* data, const callout_incoming_t* incoming) {
  calloutGoCallDone(*(uintptr_t*)data, (callout_incoming_t*)incoming);
}
