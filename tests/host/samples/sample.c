/* SPDX-License-Identifier: Apache-2.0 */

/* A plugin with something of all that is read before loading: an export of each kind, imports, a
 * dependency, a number with a value, one that is zero, and a thread-local one. */
#include <callout/plugin.h>
#include <math.h>
#include <stdio.h>

CALLOUT_PLUGIN();

CALLOUT_EXPORT extern uint32_t sample_zero;
uint32_t sample_zero;

CALLOUT_EXPORT extern const uint32_t sample_number;
const uint32_t sample_number = 0xcafef00d;

CALLOUT_EXPORT extern __thread int sample_thread_local;
__thread int sample_thread_local;

CALLOUT_EXPORT double sample_weak(double x) __attribute__((weak));
double sample_weak(double x) { return cos(x); }

double sample_hidden(double x) __attribute__((visibility("hidden")));
double sample_hidden(double x) { return sample_weak(x) + sample_thread_local; }

const callout_plugin_info_t callout_plugin_info = {sizeof(callout_plugin_info_t), "sample", "1.2.3",
                                                   "Everything a loader looks at"};

callout_status_t callout_plugin_create(callout_create_args_t* args) {
  (void)args;
  return CALLOUT_OK;
}
void callout_plugin_destroy(void* plugin) { (void)plugin; }
callout_status_t callout_on_stream_open(callout_call_t* call) { return call == 0; }
void callout_on_stream_close(callout_call_t* call) { (void)call; }
void callout_on_stream_cancel(callout_call_t* call) { (void)call; }
callout_status_t callout_on_process(callout_call_t* call) {
  (void)call;
  return CALLOUT_NEXT;
}
callout_status_t callout_on_request_headers(callout_call_t* call) { return (int)call->phase + 100; }
callout_status_t callout_on_response_headers(callout_call_t* call) {
  return (int)call->phase + 100;
}
callout_status_t callout_on_request_body(callout_call_t* call) { return (int)call->phase + 100; }
callout_status_t callout_on_response_body(callout_call_t* call) { return (int)call->phase + 100; }
callout_status_t callout_on_request_trailers(callout_call_t* call) {
  return (int)call->phase + 100;
}
callout_status_t callout_on_response_trailers(callout_call_t* call) {
  return puts("") + (int)(sample_hidden(1) + (double)call->phase);
}
