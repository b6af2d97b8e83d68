/* SPDX-License-Identifier: Apache-2.0 */

/* Stamps requests and responses: wants the headers of both, and no bodies. */
#include <callout/message.h>

CALLOUT_PLUGIN();

static callout_status_t Stamp(callout_call_t* call) {
  static const callout_header_t kStamp[] = {CALLOUT_HEADER("x-callout", "minimal-c")};
  return callout_add_header_mutation(call, kStamp, 1, NULL, 0, 0,
                                     CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD);
}

callout_status_t callout_on_request_headers(callout_call_t* call) { return Stamp(call); }

callout_status_t callout_on_response_headers(callout_call_t* call) { return Stamp(call); }
