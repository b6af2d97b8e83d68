/* SPDX-License-Identifier: Apache-2.0 */

/* A plugin of the next revision (later_header.py), on a host of this one. Compiled several
 * times: with NEEDS, the revision it says it can do with; with HOOK, its new hook; with
 * UNASKED, a write to the new out-field without CALLOUT_HAS; with UNASKED_CALL, a call of
 * the new service without it.
 */
#include <callout/plugin.h>

CALLOUT_PLUGIN();
#ifdef NEEDS
CALLOUT_PLUGIN_NEEDS(NEEDS);
#endif

callout_status_t callout_plugin_create(callout_create_args_t* args) {
#ifdef UNASKED
  args->later_out = ~UINT64_C(0);
#endif
#ifdef UNASKED_CALL
  return args->host->later_service(args->host);
#else
  if (CALLOUT_HAS(args, callout_create_args_t, later_out)) args->later_out = 1;
  if (CALLOUT_HAS(args->host, callout_host_t, later_service)) return CALLOUT_INTERNAL;
  return CALLOUT_OK;
#endif
}

#ifdef HOOK
callout_status_t callout_on_later(callout_call_t* call) {
  (void)call;
  return CALLOUT_INTERNAL;
}
#endif

callout_status_t callout_on_request_headers(callout_call_t* call) {
  static const callout_bytes_t done = {"without", 7};
  /* A fault where the host says that it has what it does not have. */
  if (CALLOUT_HAS(call, callout_call_t, later_field)) return CALLOUT_INTERNAL;
  call->host->set_error(call, done);
  return CALLOUT_PERMISSION_DENIED;
}
