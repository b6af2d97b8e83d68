#include <callout/message.h>
#include <stdlib.h>
#include <string.h>

CALLOUT_PLUGIN();
const callout_plugin_info_t callout_plugin_info = {sizeof(callout_plugin_info_t), "@name@", "0.1.0",
                                                   "Stamps every request with x-seen-by"};

struct plugin {
  callout_bytes_t stamp;
  uint32_t requests;
  char text[];
};

callout_status_t callout_plugin_create(callout_create_args_t* args) {
  const callout_bytes_t given = args->config.size > 0 ? args->config : callout_text("@name@");
  struct plugin* plugin = malloc(sizeof(*plugin) + given.size);
  if (plugin == NULL) return CALLOUT_RESOURCE_EXHAUSTED;
  memcpy(plugin->text, given.data, given.size);
  plugin->stamp = callout_make_bytes(plugin->text, given.size);
  args->plugin = plugin;
  const callout_status_t status = args->host->metric_define(
      args->host, CALLOUT_METRIC_COUNTER, callout_text("@name@_requests_total"),
      callout_text("Requests stamped"), &plugin->requests);
  if (status != CALLOUT_OK) free(plugin); /* destroy is only called after OK */
  return status;
}

void callout_plugin_destroy(void* plugin) { free(plugin); }

/* Called on several threads at once: synchronize access to state of the instance. */
callout_status_t callout_on_request_headers(callout_call_t* call) {
  const struct plugin* plugin = call->plugin;
  const callout_header_t seen_by = callout_make_header(callout_text("x-seen-by"), plugin->stamp);
  call->host->metric_record(call->host, plugin->requests, 1);
  return callout_add_header_mutation(call, &seen_by, 1, NULL, 0, 0,
                                     CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD);
}
