/* SPDX-License-Identifier: Apache-2.0 */

/* Allows every request, with the header that plugins/minimal_c sets. */
#include <callout/message.h>

CALLOUT_PLUGIN();

callout_status_t callout_on_check(callout_call_t* call) {
  callout_header_t header;
  header.key = callout_text("x-callout");
  header.value = callout_text("minimal-c");
  return callout_allow_request(call, &header, 1);
}
