/* SPDX-License-Identifier: Apache-2.0 */

/* Wants to know of streams, but of no message in them. */
#include <callout/plugin.h>

CALLOUT_PLUGIN();

callout_status_t callout_on_stream_open(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}
