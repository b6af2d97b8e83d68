// SPDX-License-Identifier: Apache-2.0

// Lets an exception out of its create, against rule 6 of <callout/plugin.h>.
#include <callout/plugin.h>

#include <stdexcept>

CALLOUT_PLUGIN();

callout_status_t callout_plugin_create(callout_create_args_t*) {
  throw std::runtime_error("cannot parse\nthe configuration");
}

callout_status_t callout_on_request_headers(callout_call_t*) { return CALLOUT_OK; }
