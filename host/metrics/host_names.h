// SPDX-License-Identifier: Apache-2.0

// The names of the host's own metrics, those of docs/metrics.md. Many appear with the first event
// only: a plugin that had defined one before would keep the host from counting by it.
//
// Tested by tests/host/metrics/metrics_test.cc.
#ifndef CALLOUT_HOST_METRICS_HOST_NAMES_H_
#define CALLOUT_HOST_METRICS_HOST_NAMES_H_

#include <algorithm>
#include <array>
#include <string_view>

namespace callout::host {

// Sorted.
inline constexpr std::array<std::string_view, 95> kHostMetrics = {
    "callout_accept_pauses_total",
    "callout_admin_refused_total",
    "callout_blocking_jobs",
    "callout_bodies_lost_total",
    "callout_build_info",
    "callout_call_seconds",
    "callout_call_wait_seconds_total",
    "callout_calls",
    "callout_calls_deferred_total",
    "callout_calls_refused_total",
    "callout_calls_total",
    "callout_canary_running",
    "callout_changed_bytes_total",
    "callout_connections",
    "callout_connections_accepted_total",
    "callout_connections_refused_total",
    "callout_deferred_calls",
    "callout_denials_total",
    "callout_exchanges_pruned_total",
    "callout_explained_total",
    "callout_generations_mapped",
    "callout_h2_connections_closed_total",
    "callout_h2_connections_drained_total",
    "callout_h2_stream_limits_total",
    "callout_h2_streams_refused_total",
    "callout_h2_turns_cut_total",
    "callout_http_connections",
    "callout_http_rejected_total",
    "callout_http_requests_total",
    "callout_ignored_total",
    "callout_late_body_headers_total",
    "callout_live_streams",
    "callout_log_dropped_lines_total",
    "callout_memory_budget_bytes",
    "callout_memory_bytes",
    "callout_memory_refusals_total",
    "callout_message_seconds",
    "callout_messages_refused_total",
    "callout_messages_total",
    "callout_mode_overrides_dropped_total",
    "callout_plugin_crashes_total",
    "callout_plugin_creates_running",
    "callout_plugin_faults_total",
    "callout_plugin_problems",
    "callout_plugin_quarantined",
    "callout_plugin_refused",
    "callout_plugin_stand_ins",
    "callout_queue_seconds",
    "callout_record_active",
    "callout_record_bytes_total",
    "callout_record_dropped_total",
    "callout_record_exchanges_total",
    "callout_record_queue_bytes",
    "callout_reloads_total",
    "callout_request_bytes_total",
    "callout_response_bytes_total",
    "callout_rpcs_ended_total",
    "callout_rpcs_started_total",
    "callout_shadow_bytes",
    "callout_shadow_call_seconds",
    "callout_shadow_differences_total",
    "callout_shadow_dropped_total",
    "callout_shadow_exchanges",
    "callout_shadow_exchanges_total",
    "callout_shadow_faults_total",
    "callout_shared_data_bytes",
    "callout_shared_data_evicted_total",
    "callout_shared_data_expired_total",
    "callout_shared_data_keys",
    "callout_shared_data_refused_total",
    "callout_stalled_bodies_total",
    "callout_state_write_errors_total",
    "callout_streams_ended_total",
    "callout_streams_refused_total",
    "callout_streams_started_total",
    "callout_streams_timed_out_total",
    "callout_thread_failures_total",
    "callout_timer_late_seconds",
    "callout_timer_seconds",
    "callout_timers",
    "callout_timers_refused_total",
    "callout_trace_dropped_total",
    "callout_trace_exports_total",
    "callout_trace_queue_spans",
    "callout_trace_spans_total",
    "callout_upstream_active",
    "callout_upstream_calls_total",
    "callout_upstream_circuit_open",
    "callout_upstream_circuit_opens_total",
    "callout_upstream_connections",
    "callout_upstream_pending",
    "callout_upstream_retries_total",
    "callout_upstream_seconds",
    "callout_worker_ends_total",
    "callout_workers",
};

// Also a line of one of its histograms.
inline bool IsHostMetric(std::string_view name) {
  for (const std::string_view ending : {"_bucket", "_count", "_sum", ""}) {
    if (!name.ends_with(ending)) continue;
    const std::string_view family = name.substr(0, name.size() - ending.size());
    if (std::binary_search(kHostMetrics.begin(), kHostMetrics.end(), family)) return true;
  }
  return false;
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_METRICS_HOST_NAMES_H_
