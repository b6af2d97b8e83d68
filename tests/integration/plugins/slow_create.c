/* SPDX-License-Identifier: Apache-2.0 */

/* Its create says so in the log and waits until the file that its configuration names is there. */
#define _POSIX_C_SOURCE 200809L
#include <callout/plugin.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

CALLOUT_PLUGIN();

callout_status_t callout_plugin_create(callout_create_args_t* args) {
  static const char kText[] = "creating";
  char path[256] = "";
  struct stat status;
  const struct timespec pause = {0, 1000000};
  if (args->config.size >= sizeof(path)) return CALLOUT_INVALID_ARGUMENT;
  memcpy(path, args->config.data, args->config.size);
  args->host->log(args->host, CALLOUT_LOG_INFO, (callout_bytes_t){kText, sizeof(kText) - 1});
  while (stat(path, &status) != 0) nanosleep(&pause, NULL);
  return CALLOUT_OK;
}

callout_status_t callout_on_request_headers(callout_call_t* call) {
  (void)call;
  return CALLOUT_OK;
}
