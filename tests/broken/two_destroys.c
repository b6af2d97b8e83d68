/* SPDX-License-Identifier: Apache-2.0 */

/* The host would call only one of them. */
#include <callout/plugin.h>

CALLOUT_PLUGIN();

callout_status_t callout_plugin_create(callout_create_args_t* args) {
  (void)args;
  return CALLOUT_OK;
}
void callout_plugin_destroy(void* plugin) { (void)plugin; }
void callout_plugin_destroy_with(const callout_destroy_args_t* args) { (void)args; }

callout_status_t callout_on_request_headers(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}
