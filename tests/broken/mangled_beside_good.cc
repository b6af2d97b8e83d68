// SPDX-License-Identifier: Apache-2.0

// One hook is declared by the header; the other is misspelt, and so a C++ function.
#include <callout/plugin.h>

CALLOUT_PLUGIN();

callout_status_t callout_on_request_headers(callout_call_t*) { return CALLOUT_OK; }
CALLOUT_EXPORT callout_status_t callout_on_responce_body(callout_call_t*);
callout_status_t callout_on_responce_body(callout_call_t*) { return CALLOUT_PERMISSION_DENIED; }
