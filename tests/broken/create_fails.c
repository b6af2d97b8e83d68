/* SPDX-License-Identifier: Apache-2.0 */

/* Refuses every configuration. */
#include <callout/plugin.h>

CALLOUT_PLUGIN();

callout_status_t callout_plugin_create(callout_create_args_t* args) {
  const callout_bytes_t reason = {"no upstream is configured", 25};
  args->host->log(args->host, CALLOUT_LOG_ERROR, reason);
  return CALLOUT_FAILED_PRECONDITION;
}

callout_status_t callout_on_request_headers(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}
