// SPDX-License-Identifier: Apache-2.0

/* Every size and offset of ABI version 1, on a 64-bit machine. Compiled as C99,
 * C11 and as C++; a line here changes only with CALLOUT_ABI_VERSION, and new
 * fields add lines at the end of their struct.
 */
#ifndef CALLOUT_TESTS_ABI_LAYOUT_H_
#define CALLOUT_TESTS_ABI_LAYOUT_H_

#include <callout/plugin.h>

#ifdef __cplusplus
#define ABI_ASSERT(name, condition) static_assert(condition, #condition)
#else
/* C99 has no static_assert: an array of -1 elements does not compile. */
#define ABI_ASSERT(name, condition) typedef char abi_assert_##name[(condition) ? 1 : -1]
#endif
/* The struct of revision 1 is `bytes` long, and grows in multiples of 8. */
#define ABI_STRUCT(type, bytes) \
  ABI_ASSERT(type##_size, sizeof(type) >= (bytes) && sizeof(type) % 8 == 0)
#define ABI_OFFSET(type, field, offset) \
  ABI_ASSERT(type##_##field, offsetof(type, field) == (offset))

ABI_ASSERT(version, CALLOUT_ABI_VERSION == 1u);
ABI_ASSERT(version_min, CALLOUT_ABI_VERSION_MIN == 1u);
ABI_ASSERT(revision, CALLOUT_ABI_REVISION == 3u);
ABI_ASSERT(machine, sizeof(void*) == 8 && sizeof(size_t) == 8);
ABI_ASSERT(status_size, sizeof(callout_status_t) == 4);
ABI_ASSERT(status_signed, (callout_status_t)-1 < 0);

ABI_ASSERT(bytes, sizeof(callout_bytes_t) == 16);
ABI_OFFSET(callout_bytes_t, data, 0);
ABI_OFFSET(callout_bytes_t, size, 8);

ABI_STRUCT(callout_call_t, 152);
ABI_OFFSET(callout_call_t, struct_size, 0);
ABI_OFFSET(callout_call_t, phase, 4);
ABI_OFFSET(callout_call_t, host, 8);
ABI_OFFSET(callout_call_t, plugin, 16);
ABI_OFFSET(callout_call_t, stream, 24);
ABI_OFFSET(callout_call_t, message, 32);
ABI_OFFSET(callout_call_t, request, 48);
ABI_OFFSET(callout_call_t, attributes, 64);
ABI_OFFSET(callout_call_t, metadata_context, 80);
ABI_OFFSET(callout_call_t, body_offset, 96);
ABI_OFFSET(callout_call_t, deadline_ns, 104);
ABI_OFFSET(callout_call_t, body_mode, 112);
ABI_OFFSET(callout_call_t, flags, 116);
ABI_OFFSET(callout_call_t, request_headers, 120);
ABI_OFFSET(callout_call_t, end, 136);
ABI_OFFSET(callout_call_t, self, 144);

ABI_STRUCT(callout_host_t, 144);
ABI_OFFSET(callout_host_t, struct_size, 0);
ABI_OFFSET(callout_host_t, abi_version, 4);
ABI_OFFSET(callout_host_t, name, 8);
ABI_OFFSET(callout_host_t, respond, 16);
ABI_OFFSET(callout_host_t, send, 24);
ABI_OFFSET(callout_host_t, annotate, 32);
ABI_OFFSET(callout_host_t, set_error, 40);
ABI_OFFSET(callout_host_t, finish, 48);
ABI_OFFSET(callout_host_t, is_cancelled, 56);
ABI_OFFSET(callout_host_t, get_metadata, 64);
ABI_OFFSET(callout_host_t, get_property, 72);
ABI_OFFSET(callout_host_t, log_enabled, 80);
ABI_OFFSET(callout_host_t, log, 88);
ABI_OFFSET(callout_host_t, metric_define, 96);
ABI_OFFSET(callout_host_t, metric_record, 104);
ABI_OFFSET(callout_host_t, get_extension, 112);
ABI_OFFSET(callout_host_t, define_metric, 120);
ABI_OFFSET(callout_host_t, follow_file, 128);
ABI_OFFSET(callout_host_t, send_room, 136);

ABI_STRUCT(callout_create_args_t, 88);
ABI_OFFSET(callout_create_args_t, struct_size, 0);
ABI_OFFSET(callout_create_args_t, blocking, 4);
ABI_OFFSET(callout_create_args_t, host, 8);
ABI_OFFSET(callout_create_args_t, instance, 16);
ABI_OFFSET(callout_create_args_t, config, 24);
ABI_OFFSET(callout_create_args_t, phases, 40);
ABI_OFFSET(callout_create_args_t, whole_body_bytes_max, 48);
ABI_OFFSET(callout_create_args_t, plugin, 56);
ABI_OFFSET(callout_create_args_t, blocking_phases, 64);
ABI_OFFSET(callout_create_args_t, grants, 72);
ABI_OFFSET(callout_create_args_t, wants, 80);

ABI_STRUCT(callout_destroy_args_t, 32);
ABI_OFFSET(callout_destroy_args_t, struct_size, 0);
ABI_OFFSET(callout_destroy_args_t, reason, 4);
ABI_OFFSET(callout_destroy_args_t, host, 8);
ABI_OFFSET(callout_destroy_args_t, plugin, 16);
ABI_OFFSET(callout_destroy_args_t, deadline_ns, 24);

ABI_STRUCT(callout_stream_end_t, 48);
ABI_OFFSET(callout_stream_end_t, struct_size, 0);
ABI_OFFSET(callout_stream_end_t, outcome, 4);
ABI_OFFSET(callout_stream_end_t, status, 8);
ABI_OFFSET(callout_stream_end_t, http_status, 12);
ABI_OFFSET(callout_stream_end_t, request_body_bytes, 16);
ABI_OFFSET(callout_stream_end_t, response_body_bytes, 24);
ABI_OFFSET(callout_stream_end_t, stream_ns, 32);
ABI_OFFSET(callout_stream_end_t, instance_ns, 40);

ABI_ASSERT(label, sizeof(callout_label_t) == 32);
ABI_OFFSET(callout_label_t, name, 0);
ABI_OFFSET(callout_label_t, value, 16);

ABI_STRUCT(callout_metric_spec_t, 88);
ABI_OFFSET(callout_metric_spec_t, struct_size, 0);
ABI_OFFSET(callout_metric_spec_t, kind, 4);
ABI_OFFSET(callout_metric_spec_t, name, 8);
ABI_OFFSET(callout_metric_spec_t, help, 24);
ABI_OFFSET(callout_metric_spec_t, unit, 40);
ABI_OFFSET(callout_metric_spec_t, labels, 56);
ABI_OFFSET(callout_metric_spec_t, label_count, 64);
ABI_OFFSET(callout_metric_spec_t, buckets, 72);
ABI_OFFSET(callout_metric_spec_t, bucket_count, 80);

ABI_STRUCT(callout_plugin_info_t, 32);
ABI_OFFSET(callout_plugin_info_t, struct_size, 0);
ABI_OFFSET(callout_plugin_info_t, name, 8);
ABI_OFFSET(callout_plugin_info_t, version, 16);
ABI_OFFSET(callout_plugin_info_t, description, 24);

/* Numbers that are in the binaries of plugins: every enumerator. */
ABI_ASSERT(ok_value, CALLOUT_OK == 0);
ABI_ASSERT(deferred_value, CALLOUT_DEFERRED == 1);
ABI_ASSERT(next_value, CALLOUT_NEXT == 2);
ABI_ASSERT(no_response_value, CALLOUT_NO_RESPONSE == 3);
ABI_ASSERT(cancelled_value, CALLOUT_CANCELLED == -1);
ABI_ASSERT(unknown_value, CALLOUT_UNKNOWN == -2);
ABI_ASSERT(invalid_argument_value, CALLOUT_INVALID_ARGUMENT == -3);
ABI_ASSERT(deadline_exceeded_value, CALLOUT_DEADLINE_EXCEEDED == -4);
ABI_ASSERT(not_found_value, CALLOUT_NOT_FOUND == -5);
ABI_ASSERT(already_exists_value, CALLOUT_ALREADY_EXISTS == -6);
ABI_ASSERT(permission_denied_value, CALLOUT_PERMISSION_DENIED == -7);
ABI_ASSERT(resource_exhausted_value, CALLOUT_RESOURCE_EXHAUSTED == -8);
ABI_ASSERT(failed_precondition_value, CALLOUT_FAILED_PRECONDITION == -9);
ABI_ASSERT(aborted_value, CALLOUT_ABORTED == -10);
ABI_ASSERT(out_of_range_value, CALLOUT_OUT_OF_RANGE == -11);
ABI_ASSERT(unimplemented_value, CALLOUT_UNIMPLEMENTED == -12);
ABI_ASSERT(internal_value, CALLOUT_INTERNAL == -13);
ABI_ASSERT(unavailable_value, CALLOUT_UNAVAILABLE == -14);
ABI_ASSERT(data_loss_value, CALLOUT_DATA_LOSS == -15);
ABI_ASSERT(unauthenticated_value, CALLOUT_UNAUTHENTICATED == -16);
ABI_ASSERT(request_headers_value, CALLOUT_REQUEST_HEADERS == 2);
ABI_ASSERT(response_headers_value, CALLOUT_RESPONSE_HEADERS == 3);
ABI_ASSERT(request_body_value, CALLOUT_REQUEST_BODY == 4);
ABI_ASSERT(response_body_value, CALLOUT_RESPONSE_BODY == 5);
ABI_ASSERT(request_trailers_value, CALLOUT_REQUEST_TRAILERS == 6);
ABI_ASSERT(response_trailers_value, CALLOUT_RESPONSE_TRAILERS == 7);
ABI_ASSERT(check_value, CALLOUT_CHECK == 32);
ABI_ASSERT(read_data_value, CALLOUT_READ_DATA == 33);
ABI_ASSERT(write_data_value, CALLOUT_WRITE_DATA == 34);
ABI_ASSERT(connection_value, CALLOUT_CONNECTION == 35);
ABI_ASSERT(rate_limit_value, CALLOUT_RATE_LIMIT == 36);
ABI_ASSERT(whole_response_value, CALLOUT_WHOLE_RESPONSE == 0);
ABI_ASSERT(request_headers_response_value, CALLOUT_REQUEST_HEADERS_RESPONSE == 1);
ABI_ASSERT(response_headers_response_value, CALLOUT_RESPONSE_HEADERS_RESPONSE == 2);
ABI_ASSERT(request_body_response_value, CALLOUT_REQUEST_BODY_RESPONSE == 3);
ABI_ASSERT(response_body_response_value, CALLOUT_RESPONSE_BODY_RESPONSE == 4);
ABI_ASSERT(request_trailers_response_value, CALLOUT_REQUEST_TRAILERS_RESPONSE == 5);
ABI_ASSERT(response_trailers_response_value, CALLOUT_RESPONSE_TRAILERS_RESPONSE == 6);
ABI_ASSERT(immediate_response_value, CALLOUT_IMMEDIATE_RESPONSE == 7);
ABI_ASSERT(streamed_immediate_response_value, CALLOUT_STREAMED_IMMEDIATE_RESPONSE == 11);
ABI_ASSERT(dynamic_metadata_value, CALLOUT_DYNAMIC_METADATA == 8);
ABI_ASSERT(mode_override_value, CALLOUT_MODE_OVERRIDE == 9);
ABI_ASSERT(override_message_timeout_value, CALLOUT_OVERRIDE_MESSAGE_TIMEOUT == 10);
ABI_ASSERT(typed_dynamic_metadata_value, CALLOUT_TYPED_DYNAMIC_METADATA == 13);
ABI_ASSERT(check_denied_value, CALLOUT_CHECK_DENIED == 2);
ABI_ASSERT(check_ok_value, CALLOUT_CHECK_OK == 3);
ABI_ASSERT(check_error_value, CALLOUT_CHECK_ERROR == 5);
ABI_ASSERT(check_dynamic_metadata_value, CALLOUT_CHECK_DYNAMIC_METADATA == 4);
ABI_ASSERT(read_data_response_value, CALLOUT_READ_DATA_RESPONSE == 1);
ABI_ASSERT(write_data_response_value, CALLOUT_WRITE_DATA_RESPONSE == 2);
ABI_ASSERT(data_dynamic_metadata_value, CALLOUT_DATA_DYNAMIC_METADATA == 5);
ABI_ASSERT(rate_limit_dynamic_metadata_value, CALLOUT_RATE_LIMIT_DYNAMIC_METADATA == 6);
ABI_ASSERT(body_none_value, CALLOUT_BODY_NONE == 0);
ABI_ASSERT(body_streamed_value, CALLOUT_BODY_STREAMED == 1);
ABI_ASSERT(body_buffered_value, CALLOUT_BODY_BUFFERED == 2);
ABI_ASSERT(body_buffered_partial_value, CALLOUT_BODY_BUFFERED_PARTIAL == 3);
ABI_ASSERT(body_full_duplex_streamed_value, CALLOUT_BODY_FULL_DUPLEX_STREAMED == 4);
ABI_ASSERT(body_grpc_value, CALLOUT_BODY_GRPC == 5);
ABI_ASSERT(call_first_value, CALLOUT_CALL_FIRST == 1);
ABI_ASSERT(call_last_value, CALLOUT_CALL_LAST == 2);
ABI_ASSERT(call_whole_body_value, CALLOUT_CALL_WHOLE_BODY == 4);
ABI_ASSERT(call_observability_value, CALLOUT_CALL_OBSERVABILITY == 8);
ABI_ASSERT(log_trace_value, CALLOUT_LOG_TRACE == 1);
ABI_ASSERT(log_debug_value, CALLOUT_LOG_DEBUG == 5);
ABI_ASSERT(log_info_value, CALLOUT_LOG_INFO == 9);
ABI_ASSERT(log_warning_value, CALLOUT_LOG_WARNING == 13);
ABI_ASSERT(log_error_value, CALLOUT_LOG_ERROR == 17);
ABI_ASSERT(metric_counter_value, CALLOUT_METRIC_COUNTER == 0);
ABI_ASSERT(metric_gauge_value, CALLOUT_METRIC_GAUGE == 1);
ABI_ASSERT(metric_histogram_value, CALLOUT_METRIC_HISTOGRAM == 2);
ABI_ASSERT(metric_up_down_value, CALLOUT_METRIC_UP_DOWN == 3);
ABI_ASSERT(peer_value, CALLOUT_PEER == 0);
ABI_ASSERT(listener_value, CALLOUT_LISTENER == 1);
ABI_ASSERT(peer_identity_value, CALLOUT_PEER_IDENTITY == 2);
ABI_ASSERT(stream_id_value, CALLOUT_STREAM_ID == 3);
ABI_ASSERT(end_unknown_value, CALLOUT_END_UNKNOWN == 0);
ABI_ASSERT(end_completed_value, CALLOUT_END_COMPLETED == 1);
ABI_ASSERT(end_early_value, CALLOUT_END_EARLY == 2);
ABI_ASSERT(end_immediate_value, CALLOUT_END_IMMEDIATE == 3);
ABI_ASSERT(end_error_value, CALLOUT_END_ERROR == 4);
ABI_ASSERT(end_cancelled_value, CALLOUT_END_CANCELLED == 5);
ABI_ASSERT(end_drained_value, CALLOUT_END_DRAINED == 6);
ABI_ASSERT(want_both_directions_value, CALLOUT_WANT_BOTH_DIRECTIONS == 1);
ABI_ASSERT(want_real_end_value, CALLOUT_WANT_REAL_END == 2);
ABI_ASSERT(want_request_headers_value, CALLOUT_WANT_REQUEST_HEADERS == 4);
ABI_ASSERT(destroy_unknown_value, CALLOUT_DESTROY_UNKNOWN == 0);
ABI_ASSERT(destroy_replaced_value, CALLOUT_DESTROY_REPLACED == 1);
ABI_ASSERT(destroy_removed_value, CALLOUT_DESTROY_REMOVED == 2);
ABI_ASSERT(destroy_withdrawn_value, CALLOUT_DESTROY_WITHDRAWN == 3);
ABI_ASSERT(destroy_shutdown_value, CALLOUT_DESTROY_SHUTDOWN == 4);

#endif /* CALLOUT_TESTS_ABI_LAYOUT_H_ */
