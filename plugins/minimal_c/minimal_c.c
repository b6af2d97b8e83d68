/* SPDX-License-Identifier: Apache-2.0 */

/* The smallest useful plugin, in plain C: stamps every request. See README.md. */
#include <callout/message.h>

CALLOUT_PLUGIN();

callout_status_t callout_on_request_headers(callout_call_t* call) {
  static const callout_header_t kStamp[] = {CALLOUT_HEADER("x-callout", "minimal-c")};
  return callout_add_header_mutation(call, kStamp, 1, NULL, 0, 0,
                                     CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD);
}
