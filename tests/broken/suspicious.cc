// SPDX-License-Identifier: Apache-2.0

// Can be loaded, but deserves every warning there is.
#include <callout/plugin.h>

CALLOUT_PLUGIN();

extern "C" {
// As of a header without the last field, and with a control character.
const callout_plugin_info_t callout_plugin_info = {offsetof(callout_plugin_info_t, description),
                                                   "suspicious\n", "0.1", "never read"};

void callout_plugin_destroy(void*) {}
CALLOUT_EXPORT void callout_future_extension_of_some_kind();
CALLOUT_EXPORT void callout_future_extension_of_some_kind() {}
}

// One for the whole process, by the rules of GNU_UNIQUE.
template <class T>
struct Counter {
  static inline int count = 0;
};
int* Count() { return &Counter<int>::count; }

callout_status_t callout_on_request_headers(callout_call_t*) {
  ++*Count();
  return CALLOUT_OK;
}
