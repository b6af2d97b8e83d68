/* SPDX-License-Identifier: Apache-2.0 */

/* Holds every other call until the next one comes. */
#include <callout/plugin.h>
#include <stdatomic.h>
#include <stddef.h>

CALLOUT_PLUGIN();

static _Atomic(callout_call_t*) held;

CALLOUT_EXPORT callout_status_t callout_on_request_headers(callout_call_t* call) {
  callout_call_t* none = NULL;
  if (atomic_compare_exchange_strong(&held, &none, call)) return CALLOUT_DEFERRED;
  call->host->finish(atomic_exchange(&held, NULL), CALLOUT_OK);
  return CALLOUT_OK;
}
