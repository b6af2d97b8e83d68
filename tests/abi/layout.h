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
#define ABI_OFFSET(type, field, offset) \
  ABI_ASSERT(type##_##field, offsetof(type, field) == (offset))

ABI_ASSERT(version, CALLOUT_ABI_VERSION == 1u);
ABI_ASSERT(status_size, sizeof(callout_status_t) == 4);
ABI_ASSERT(status_signed, (callout_status_t)-1 < 0);

ABI_ASSERT(bytes, sizeof(callout_bytes_t) == 16);
ABI_OFFSET(callout_bytes_t, data, 0);
ABI_OFFSET(callout_bytes_t, size, 8);

ABI_ASSERT(call, sizeof(callout_call_t) >= 120);
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

ABI_ASSERT(host, sizeof(callout_host_t) >= 120);
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

ABI_ASSERT(create_args, sizeof(callout_create_args_t) >= 64);
ABI_OFFSET(callout_create_args_t, struct_size, 0);
ABI_OFFSET(callout_create_args_t, blocking, 4);
ABI_OFFSET(callout_create_args_t, host, 8);
ABI_OFFSET(callout_create_args_t, instance, 16);
ABI_OFFSET(callout_create_args_t, config, 24);
ABI_OFFSET(callout_create_args_t, phases, 40);
ABI_OFFSET(callout_create_args_t, whole_body_bytes_max, 48);
ABI_OFFSET(callout_create_args_t, plugin, 56);

ABI_ASSERT(info, sizeof(callout_plugin_info_t) >= 32);
ABI_OFFSET(callout_plugin_info_t, struct_size, 0);
ABI_OFFSET(callout_plugin_info_t, name, 8);
ABI_OFFSET(callout_plugin_info_t, version, 16);
ABI_OFFSET(callout_plugin_info_t, description, 24);

/* Numbers that are in the binaries of plugins. */
ABI_ASSERT(ok, CALLOUT_OK == 0);
ABI_ASSERT(deferred, CALLOUT_DEFERRED == 1);
ABI_ASSERT(next, CALLOUT_NEXT == 2);
ABI_ASSERT(no_response, CALLOUT_NO_RESPONSE == 3);
ABI_ASSERT(cancelled, CALLOUT_CANCELLED == -1);
ABI_ASSERT(unauthenticated, CALLOUT_UNAUTHENTICATED == -16);
ABI_ASSERT(request_headers, CALLOUT_REQUEST_HEADERS == 2);
ABI_ASSERT(response_trailers, CALLOUT_RESPONSE_TRAILERS == 7);
ABI_ASSERT(immediate, CALLOUT_IMMEDIATE_RESPONSE == 7);
ABI_ASSERT(streamed_immediate, CALLOUT_STREAMED_IMMEDIATE_RESPONSE == 11);
ABI_ASSERT(dynamic_metadata, CALLOUT_DYNAMIC_METADATA == 8);
ABI_ASSERT(mode_override, CALLOUT_MODE_OVERRIDE == 9);
ABI_ASSERT(timeout, CALLOUT_OVERRIDE_MESSAGE_TIMEOUT == 10);
ABI_ASSERT(typed_metadata, CALLOUT_TYPED_DYNAMIC_METADATA == 13);
ABI_ASSERT(duplex, CALLOUT_BODY_FULL_DUPLEX_STREAMED == 4);
ABI_ASSERT(observability, CALLOUT_CALL_OBSERVABILITY == 8);

#endif /* CALLOUT_TESTS_ABI_LAYOUT_H_ */
