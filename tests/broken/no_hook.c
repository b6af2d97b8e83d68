/* SPDX-License-Identifier: Apache-2.0 */

/* Creation and destruction, but nothing that is given a message. */
#include <callout/plugin.h>

CALLOUT_PLUGIN();

callout_status_t callout_plugin_create(callout_create_args_t* args) {
  (void)args;
  return CALLOUT_OK;
}

void callout_plugin_destroy(void* plugin) { (void)plugin; }
