/* SPDX-License-Identifier: Apache-2.0 */

/* Its callout_plugin_info says that it is larger than it is. */
#include <callout/plugin.h>

CALLOUT_PLUGIN();

struct info {
  uint32_t struct_size;
  const char* name;
};
CALLOUT_EXPORT const struct info short_info;
const struct info short_info = {sizeof(callout_plugin_info_t), "short"};
__asm__(
    ".globl callout_plugin_info\n"
    ".set callout_plugin_info, short_info\n"
    ".type callout_plugin_info, @object\n"
    ".size callout_plugin_info, 16\n");

callout_status_t callout_on_request_headers(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}
