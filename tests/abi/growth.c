/* SPDX-License-Identifier: Apache-2.0 */

/* Every type of <callout/plugin.h>, reachable from one symbol, so that abidiff compares
 * them all. Compiled with the header of each revision by growth_test.py.
 */
#include <callout/plugin.h>

struct all_types {
  callout_bytes_t bytes;
  callout_status_t status;
  callout_phase_t phase;
  callout_field_t field;
  callout_body_mode_t body_mode;
  callout_log_level_t log_level;
  callout_metric_kind_t metric_kind;
  callout_label_t label;
  callout_metric_spec_t* metric_spec;
  callout_property_t property;
  callout_outcome_t outcome;
  callout_stream_end_t* stream_end;
  callout_call_t* call;
  callout_host_t* host;
  callout_create_args_t* create_args;
  callout_destroy_reason_t destroy_reason;
  callout_destroy_args_t* destroy_args;
  callout_plugin_info_t* plugin_info;
};

/* The signatures of the hooks. */
struct all_hooks {
  __typeof__(&callout_plugin_create) create;
  __typeof__(&callout_plugin_destroy) destroy;
  __typeof__(&callout_plugin_destroy_with) destroy_with;
  __typeof__(&callout_on_stream_open) stream_open;
  __typeof__(&callout_on_stream_close) stream_close;
  __typeof__(&callout_on_stream_cancel) stream_cancel;
  __typeof__(&callout_on_process) process;
  __typeof__(&callout_on_request_headers) request_headers;
  __typeof__(&callout_on_response_headers) response_headers;
  __typeof__(&callout_on_request_body) request_body;
  __typeof__(&callout_on_response_body) response_body;
  __typeof__(&callout_on_request_trailers) request_trailers;
  __typeof__(&callout_on_response_trailers) response_trailers;
};

CALLOUT_EXPORT void all(const struct all_types* types, const struct all_hooks* hooks);
void all(const struct all_types* types, const struct all_hooks* hooks) {
  (void)types;
  (void)hooks;
}
