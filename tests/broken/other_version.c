/* SPDX-License-Identifier: Apache-2.0 */

/* Built with a <callout/plugin.h> of another ABI version. */
#include <callout/plugin.h>

const uint32_t callout_abi_version = 7;

callout_status_t callout_on_request_headers(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}
