// SPDX-License-Identifier: Apache-2.0

//! The C headers in Rust, by scripts/sdk-bindings. Do not change it by hand: change the headers,
//! which say what each thing means, and run the script.
//!
//! `callout/plugin.h` `callout/rpc_metadata.h` `callout/timers.h` `callout/shared_data.h` `callout/calls.h` `callout/trace.h`

#![allow(missing_docs)]

use std::ffi::{c_char, c_void};

pub const ABI_VERSION: u32 = 1;
pub const ABI_VERSION_MIN: u32 = 1;
pub const ABI_REVISION: u32 = 3;
pub const OK: i32 = 0;
pub const DEFERRED: i32 = 1;
pub const NEXT: i32 = 2;
pub const NO_RESPONSE: i32 = 3;
pub const CANCELLED: i32 = -1;
pub const UNKNOWN: i32 = -2;
pub const INVALID_ARGUMENT: i32 = -3;
pub const DEADLINE_EXCEEDED: i32 = -4;
pub const NOT_FOUND: i32 = -5;
pub const ALREADY_EXISTS: i32 = -6;
pub const PERMISSION_DENIED: i32 = -7;
pub const RESOURCE_EXHAUSTED: i32 = -8;
pub const FAILED_PRECONDITION: i32 = -9;
pub const ABORTED: i32 = -10;
pub const OUT_OF_RANGE: i32 = -11;
pub const UNIMPLEMENTED: i32 = -12;
pub const INTERNAL: i32 = -13;
pub const UNAVAILABLE: i32 = -14;
pub const DATA_LOSS: i32 = -15;
pub const UNAUTHENTICATED: i32 = -16;
pub const REQUEST_HEADERS: u32 = 2;
pub const RESPONSE_HEADERS: u32 = 3;
pub const REQUEST_BODY: u32 = 4;
pub const RESPONSE_BODY: u32 = 5;
pub const REQUEST_TRAILERS: u32 = 6;
pub const RESPONSE_TRAILERS: u32 = 7;
pub const CHECK: u32 = 32;
pub const READ_DATA: u32 = 33;
pub const WRITE_DATA: u32 = 34;
pub const CONNECTION: u32 = 35;
pub const RATE_LIMIT: u32 = 36;
pub const WHOLE_RESPONSE: u32 = 0;
pub const REQUEST_HEADERS_RESPONSE: u32 = 1;
pub const RESPONSE_HEADERS_RESPONSE: u32 = 2;
pub const REQUEST_BODY_RESPONSE: u32 = 3;
pub const RESPONSE_BODY_RESPONSE: u32 = 4;
pub const REQUEST_TRAILERS_RESPONSE: u32 = 5;
pub const RESPONSE_TRAILERS_RESPONSE: u32 = 6;
pub const IMMEDIATE_RESPONSE: u32 = 7;
pub const STREAMED_IMMEDIATE_RESPONSE: u32 = 11;
pub const DYNAMIC_METADATA: u32 = 8;
pub const MODE_OVERRIDE: u32 = 9;
pub const OVERRIDE_MESSAGE_TIMEOUT: u32 = 10;
pub const TYPED_DYNAMIC_METADATA: u32 = 13;
pub const CHECK_DENIED: u32 = 2;
pub const CHECK_OK: u32 = 3;
pub const CHECK_ERROR: u32 = 5;
pub const CHECK_DYNAMIC_METADATA: u32 = 4;
pub const RATE_LIMIT_DYNAMIC_METADATA: u32 = 6;
pub const READ_DATA_RESPONSE: u32 = 1;
pub const WRITE_DATA_RESPONSE: u32 = 2;
pub const DATA_DYNAMIC_METADATA: u32 = 5;
pub const BODY_NONE: u32 = 0;
pub const BODY_STREAMED: u32 = 1;
pub const BODY_BUFFERED: u32 = 2;
pub const BODY_BUFFERED_PARTIAL: u32 = 3;
pub const BODY_FULL_DUPLEX_STREAMED: u32 = 4;
pub const BODY_GRPC: u32 = 5;
pub const CALL_FIRST: u32 = 1;
pub const CALL_LAST: u32 = 2;
pub const CALL_WHOLE_BODY: u32 = 4;
pub const CALL_OBSERVABILITY: u32 = 8;
pub const LOG_TRACE: u32 = 1;
pub const LOG_DEBUG: u32 = 5;
pub const LOG_INFO: u32 = 9;
pub const LOG_WARNING: u32 = 13;
pub const LOG_ERROR: u32 = 17;
pub const METRIC_COUNTER: u32 = 0;
pub const METRIC_GAUGE: u32 = 1;
pub const METRIC_HISTOGRAM: u32 = 2;
pub const METRIC_UP_DOWN: u32 = 3;
pub const PEER: u32 = 0;
pub const LISTENER: u32 = 1;
pub const PEER_IDENTITY: u32 = 2;
pub const STREAM_ID: u32 = 3;
pub const END_UNKNOWN: u32 = 0;
pub const END_COMPLETED: u32 = 1;
pub const END_EARLY: u32 = 2;
pub const END_IMMEDIATE: u32 = 3;
pub const END_ERROR: u32 = 4;
pub const END_CANCELLED: u32 = 5;
pub const END_DRAINED: u32 = 6;
pub const WANT_BOTH_DIRECTIONS: u32 = 1;
pub const WANT_REAL_END: u32 = 2;
pub const WANT_REQUEST_HEADERS: u32 = 4;
pub const DESTROY_UNKNOWN: u32 = 0;
pub const DESTROY_REPLACED: u32 = 1;
pub const DESTROY_REMOVED: u32 = 2;
pub const DESTROY_WITHDRAWN: u32 = 3;
pub const DESTROY_SHUTDOWN: u32 = 4;
pub const RPC_METADATA: &std::ffi::CStr = c"callout.rpc_metadata/1";
pub const TIMERS: &std::ffi::CStr = c"callout.timers/1";
pub const TIMER_PERIOD_MIN_NS: u64 = 1000000;
pub const TIMER_NS_MAX: u64 = 31536000000000000;
pub const SHARED_DATA: &std::ffi::CStr = c"callout.shared_data/1";
pub const SHARED_SPACE_BYTES_MAX: u32 = 128;
pub const SHARED_KEY_BYTES_MAX: u32 = 1024;
pub const SHARED_TTL_NS_MAX: u64 = 31536000000000000;
pub const SHARED_ABSENT: u64 = 0;
pub const SHARED_ANY: u64 = 18446744073709551615;
pub const CALLS: &std::ffi::CStr = c"callout.calls/1";
pub const OUTGOING_HEADERS_MAX: u32 = 128;
pub const OUTGOING_HEADER_BYTES_MAX: u32 = 65536;
pub const OUTGOING_PATH_BYTES_MAX: u32 = 8192;
pub const OUTGOING_METHOD_BYTES_MAX: u32 = 32;
pub const UPSTREAM_NAME_BYTES_MAX: u32 = 64;
pub const OUTGOING_GRPC: u32 = 1;
pub const OUTGOING_IDEMPOTENT: u32 = 2;
pub const UPSTREAM_GRPC: u32 = 1;
pub const TRACE: &std::ffi::CStr = c"callout.trace/1";
pub const TRACE_KEY_BYTES_MAX: u32 = 256;
pub const TRACEPARENT_BYTES: u32 = 55;
pub const TRACE_TEXT: u32 = 1;
pub const TRACE_INTEGER: u32 = 2;
pub const TRACE_REAL: u32 = 3;
pub const TRACE_FLAG: u32 = 4;

pub type Status = i32;
pub type Phase = u32;
pub type Field = u32;
pub type BodyMode = u32;
pub type LogLevel = u32;
pub type MetricKind = u32;
pub type Property = u32;
pub type Outcome = u32;
pub type DestroyReason = u32;

/// `callout_bytes_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bytes {
    pub data: *const c_char,
    pub size: usize,
}

/// `callout_label_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Label {
    pub name: Bytes,
    pub value: Bytes,
}

/// `callout_metric_spec_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MetricSpec {
    pub struct_size: u32,
    pub kind: MetricKind,
    pub name: Bytes,
    pub help: Bytes,
    pub unit: Bytes,
    pub labels: *const Label,
    pub label_count: usize,
    pub buckets: *const f64,
    pub bucket_count: usize,
}

/// `callout_stream_end_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StreamEnd {
    pub struct_size: u32,
    pub outcome: Outcome,
    pub status: Status,
    pub http_status: u32,
    pub request_body_bytes: u64,
    pub response_body_bytes: u64,
    pub stream_ns: u64,
    pub instance_ns: u64,
}

/// `callout_call_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    pub struct_size: u32,
    pub phase: Phase,
    pub host: *const Host,
    pub plugin: *mut c_void,
    pub stream: *mut c_void,
    pub message: Bytes,
    pub request: Bytes,
    pub attributes: Bytes,
    pub metadata_context: Bytes,
    pub body_offset: u64,
    pub deadline_ns: u64,
    pub body_mode: BodyMode,
    pub flags: u32,
    pub request_headers: Bytes,
    pub end: *const StreamEnd,
    pub self_: *const c_void,
}

/// `callout_host_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Host {
    pub struct_size: u32,
    pub abi_version: u32,
    pub name: *const c_char,
    pub respond: unsafe extern "C" fn(*mut Call, Field, *const Bytes, usize) -> Status,
    pub send: unsafe extern "C" fn(*mut Call, Field, *const Bytes, usize) -> Status,
    pub annotate: unsafe extern "C" fn(*mut Call, Field, Bytes) -> Status,
    pub set_error: unsafe extern "C" fn(*mut Call, Bytes),
    pub finish: unsafe extern "C" fn(*mut Call, Status) -> Status,
    pub is_cancelled: unsafe extern "C" fn(*const Call) -> i32,
    pub get_metadata: unsafe extern "C" fn(*const Call, Bytes, u32, *mut Bytes) -> Status,
    pub get_property: unsafe extern "C" fn(*const Call, Property, *mut Bytes) -> Status,
    pub log_enabled: unsafe extern "C" fn(*const Host, LogLevel) -> i32,
    pub log: unsafe extern "C" fn(*const Host, LogLevel, Bytes),
    pub metric_define:
        unsafe extern "C" fn(*const Host, MetricKind, Bytes, Bytes, *mut u32) -> Status,
    pub metric_record: unsafe extern "C" fn(*const Host, u32, f64),
    pub get_extension: unsafe extern "C" fn(*const Host, *const c_char) -> *const c_void,
    pub define_metric: unsafe extern "C" fn(*const Host, *const MetricSpec, *mut u32) -> Status,
    pub follow_file: unsafe extern "C" fn(*const Host, Bytes) -> Status,
    pub send_room: unsafe extern "C" fn(*const Call) -> u64,
}

/// `callout_create_args_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CreateArgs {
    pub struct_size: u32,
    pub blocking: u32,
    pub host: *const Host,
    pub instance: *const c_char,
    pub config: Bytes,
    pub phases: u64,
    pub whole_body_bytes_max: u64,
    pub plugin: *mut c_void,
    pub blocking_phases: u64,
    pub grants: u64,
    pub wants: u64,
}

/// `callout_destroy_args_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DestroyArgs {
    pub struct_size: u32,
    pub reason: DestroyReason,
    pub host: *const Host,
    pub plugin: *mut c_void,
    pub deadline_ns: u64,
}

/// `callout_plugin_info_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PluginInfo {
    pub struct_size: u32,
    pub name: *const c_char,
    pub version: *const c_char,
    pub description: *const c_char,
}

/// `callout_rpc_metadata_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RpcMetadata {
    pub struct_size: u32,
    pub reserved: u32,
    pub at: unsafe extern "C" fn(*const Call, u32, *mut Bytes, *mut Bytes) -> Status,
}

/// `callout_timer_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Timer {
    pub struct_size: u32,
    pub reserved: u32,
    pub run: Option<unsafe extern "C" fn(*mut c_void)>,
    pub release: Option<unsafe extern "C" fn(*mut c_void)>,
    pub data: *mut c_void,
    pub delay_ns: u64,
    pub period_ns: u64,
}

/// `callout_timers_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Timers {
    pub struct_size: u32,
    pub reserved: u32,
    pub start: unsafe extern "C" fn(*const Host, *const Timer, *mut u64) -> Status,
    pub cancel: unsafe extern "C" fn(*const Host, u64) -> Status,
}

/// `callout_shared_put_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SharedPut {
    pub struct_size: u32,
    pub may_evict: u32,
    pub ttl_ns: u64,
    pub expected: u64,
}

/// `callout_shared_entry_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SharedEntry {
    pub struct_size: u32,
    pub reserved: u32,
    pub size: u64,
    pub version: u64,
    pub expires_ns: u64,
}

/// `callout_shared_data_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SharedData {
    pub struct_size: u32,
    pub reserved: u32,
    pub get: unsafe extern "C" fn(
        *const Host,
        Bytes,
        Bytes,
        *mut c_char,
        usize,
        *mut SharedEntry,
    ) -> Status,
    pub put: unsafe extern "C" fn(
        *const Host,
        Bytes,
        Bytes,
        Bytes,
        *const SharedPut,
        *mut u64,
    ) -> Status,
    pub remove: unsafe extern "C" fn(*const Host, Bytes, Bytes, u64) -> Status,
    pub add: unsafe extern "C" fn(*const Host, Bytes, Bytes, i64, u64, *mut i64) -> Status,
}

/// `callout_header_field_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HeaderField {
    pub name: Bytes,
    pub value: Bytes,
}

/// `callout_incoming_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Incoming {
    pub struct_size: u32,
    pub status: Status,
    pub from_service: u32,
    pub http_status: u32,
    pub body: Bytes,
    pub headers: *const HeaderField,
    pub header_count: usize,
    pub trailers: *const HeaderField,
    pub trailer_count: usize,
    pub message: Bytes,
    pub elapsed_ns: u64,
    pub attempts: u64,
}

/// `callout_outgoing_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Outgoing {
    pub struct_size: u32,
    pub flags: u32,
    pub upstream: Bytes,
    pub method: Bytes,
    pub path: Bytes,
    pub headers: *const HeaderField,
    pub header_count: usize,
    pub body: Bytes,
    pub timeout_ns: u64,
    pub done: Option<unsafe extern "C" fn(*mut c_void, *const Incoming)>,
    pub release: Option<unsafe extern "C" fn(*mut c_void)>,
    pub data: *mut c_void,
}

/// `callout_upstream_info_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct UpstreamInfo {
    pub struct_size: u32,
    pub flags: u32,
    pub timeout_ns: u64,
    pub request_bytes_max: u64,
    pub response_bytes_max: u64,
}

/// `callout_calls_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Calls {
    pub struct_size: u32,
    pub reserved: u32,
    pub find: unsafe extern "C" fn(*const Host, Bytes, *mut UpstreamInfo) -> Status,
    pub start: unsafe extern "C" fn(*const Host, *const Outgoing, *mut u64) -> Status,
    pub cancel: unsafe extern "C" fn(*const Host, u64) -> Status,
}

/// `callout_trace_attribute_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TraceAttribute {
    pub key: Bytes,
    pub text: Bytes,
    pub integer: i64,
    pub real: f64,
    pub type_: u32,
    pub reserved: u32,
}

/// `callout_trace_t`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Trace {
    pub struct_size: u32,
    pub reserved: u32,
    pub is_recording: unsafe extern "C" fn(*const Call) -> i32,
    pub set_attribute: unsafe extern "C" fn(*mut Call, *const TraceAttribute) -> Status,
    pub add_event: unsafe extern "C" fn(*mut Call, Bytes, *const TraceAttribute, usize) -> Status,
    pub get_context: unsafe extern "C" fn(*const Call, *mut c_char, *mut Bytes) -> Status,
}

/// The functions that a plugin may export.
pub const EXPORTS: &[&str] = &[
    "callout_plugin_create",
    "callout_plugin_destroy",
    "callout_plugin_destroy_with",
    "callout_on_stream_open",
    "callout_on_stream_close",
    "callout_on_stream_cancel",
    "callout_on_process",
    "callout_on_request_headers",
    "callout_on_response_headers",
    "callout_on_request_body",
    "callout_on_response_body",
    "callout_on_request_trailers",
    "callout_on_response_trailers",
    "callout_on_check",
    "callout_on_rate_limit",
    "callout_on_read_data",
    "callout_on_write_data",
    "callout_on_connection",
];

// As the C compiler lays them out.
const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<Bytes>() == 16);
    assert!(offset_of!(Bytes, data) == 0);
    assert!(offset_of!(Bytes, size) == 8);
    assert!(size_of::<Label>() == 32);
    assert!(offset_of!(Label, name) == 0);
    assert!(offset_of!(Label, value) == 16);
    assert!(size_of::<MetricSpec>() == 88);
    assert!(offset_of!(MetricSpec, struct_size) == 0);
    assert!(offset_of!(MetricSpec, kind) == 4);
    assert!(offset_of!(MetricSpec, name) == 8);
    assert!(offset_of!(MetricSpec, help) == 24);
    assert!(offset_of!(MetricSpec, unit) == 40);
    assert!(offset_of!(MetricSpec, labels) == 56);
    assert!(offset_of!(MetricSpec, label_count) == 64);
    assert!(offset_of!(MetricSpec, buckets) == 72);
    assert!(offset_of!(MetricSpec, bucket_count) == 80);
    assert!(size_of::<StreamEnd>() == 48);
    assert!(offset_of!(StreamEnd, struct_size) == 0);
    assert!(offset_of!(StreamEnd, outcome) == 4);
    assert!(offset_of!(StreamEnd, status) == 8);
    assert!(offset_of!(StreamEnd, http_status) == 12);
    assert!(offset_of!(StreamEnd, request_body_bytes) == 16);
    assert!(offset_of!(StreamEnd, response_body_bytes) == 24);
    assert!(offset_of!(StreamEnd, stream_ns) == 32);
    assert!(offset_of!(StreamEnd, instance_ns) == 40);
    assert!(size_of::<Call>() == 152);
    assert!(offset_of!(Call, struct_size) == 0);
    assert!(offset_of!(Call, phase) == 4);
    assert!(offset_of!(Call, host) == 8);
    assert!(offset_of!(Call, plugin) == 16);
    assert!(offset_of!(Call, stream) == 24);
    assert!(offset_of!(Call, message) == 32);
    assert!(offset_of!(Call, request) == 48);
    assert!(offset_of!(Call, attributes) == 64);
    assert!(offset_of!(Call, metadata_context) == 80);
    assert!(offset_of!(Call, body_offset) == 96);
    assert!(offset_of!(Call, deadline_ns) == 104);
    assert!(offset_of!(Call, body_mode) == 112);
    assert!(offset_of!(Call, flags) == 116);
    assert!(offset_of!(Call, request_headers) == 120);
    assert!(offset_of!(Call, end) == 136);
    assert!(offset_of!(Call, self_) == 144);
    assert!(size_of::<Host>() == 144);
    assert!(offset_of!(Host, struct_size) == 0);
    assert!(offset_of!(Host, abi_version) == 4);
    assert!(offset_of!(Host, name) == 8);
    assert!(offset_of!(Host, respond) == 16);
    assert!(offset_of!(Host, send) == 24);
    assert!(offset_of!(Host, annotate) == 32);
    assert!(offset_of!(Host, set_error) == 40);
    assert!(offset_of!(Host, finish) == 48);
    assert!(offset_of!(Host, is_cancelled) == 56);
    assert!(offset_of!(Host, get_metadata) == 64);
    assert!(offset_of!(Host, get_property) == 72);
    assert!(offset_of!(Host, log_enabled) == 80);
    assert!(offset_of!(Host, log) == 88);
    assert!(offset_of!(Host, metric_define) == 96);
    assert!(offset_of!(Host, metric_record) == 104);
    assert!(offset_of!(Host, get_extension) == 112);
    assert!(offset_of!(Host, define_metric) == 120);
    assert!(offset_of!(Host, follow_file) == 128);
    assert!(offset_of!(Host, send_room) == 136);
    assert!(size_of::<CreateArgs>() == 88);
    assert!(offset_of!(CreateArgs, struct_size) == 0);
    assert!(offset_of!(CreateArgs, blocking) == 4);
    assert!(offset_of!(CreateArgs, host) == 8);
    assert!(offset_of!(CreateArgs, instance) == 16);
    assert!(offset_of!(CreateArgs, config) == 24);
    assert!(offset_of!(CreateArgs, phases) == 40);
    assert!(offset_of!(CreateArgs, whole_body_bytes_max) == 48);
    assert!(offset_of!(CreateArgs, plugin) == 56);
    assert!(offset_of!(CreateArgs, blocking_phases) == 64);
    assert!(offset_of!(CreateArgs, grants) == 72);
    assert!(offset_of!(CreateArgs, wants) == 80);
    assert!(size_of::<DestroyArgs>() == 32);
    assert!(offset_of!(DestroyArgs, struct_size) == 0);
    assert!(offset_of!(DestroyArgs, reason) == 4);
    assert!(offset_of!(DestroyArgs, host) == 8);
    assert!(offset_of!(DestroyArgs, plugin) == 16);
    assert!(offset_of!(DestroyArgs, deadline_ns) == 24);
    assert!(size_of::<PluginInfo>() == 32);
    assert!(offset_of!(PluginInfo, struct_size) == 0);
    assert!(offset_of!(PluginInfo, name) == 8);
    assert!(offset_of!(PluginInfo, version) == 16);
    assert!(offset_of!(PluginInfo, description) == 24);
    assert!(size_of::<RpcMetadata>() == 16);
    assert!(offset_of!(RpcMetadata, struct_size) == 0);
    assert!(offset_of!(RpcMetadata, reserved) == 4);
    assert!(offset_of!(RpcMetadata, at) == 8);
    assert!(size_of::<Timer>() == 48);
    assert!(offset_of!(Timer, struct_size) == 0);
    assert!(offset_of!(Timer, reserved) == 4);
    assert!(offset_of!(Timer, run) == 8);
    assert!(offset_of!(Timer, release) == 16);
    assert!(offset_of!(Timer, data) == 24);
    assert!(offset_of!(Timer, delay_ns) == 32);
    assert!(offset_of!(Timer, period_ns) == 40);
    assert!(size_of::<Timers>() == 24);
    assert!(offset_of!(Timers, struct_size) == 0);
    assert!(offset_of!(Timers, reserved) == 4);
    assert!(offset_of!(Timers, start) == 8);
    assert!(offset_of!(Timers, cancel) == 16);
    assert!(size_of::<SharedPut>() == 24);
    assert!(offset_of!(SharedPut, struct_size) == 0);
    assert!(offset_of!(SharedPut, may_evict) == 4);
    assert!(offset_of!(SharedPut, ttl_ns) == 8);
    assert!(offset_of!(SharedPut, expected) == 16);
    assert!(size_of::<SharedEntry>() == 32);
    assert!(offset_of!(SharedEntry, struct_size) == 0);
    assert!(offset_of!(SharedEntry, reserved) == 4);
    assert!(offset_of!(SharedEntry, size) == 8);
    assert!(offset_of!(SharedEntry, version) == 16);
    assert!(offset_of!(SharedEntry, expires_ns) == 24);
    assert!(size_of::<SharedData>() == 40);
    assert!(offset_of!(SharedData, struct_size) == 0);
    assert!(offset_of!(SharedData, reserved) == 4);
    assert!(offset_of!(SharedData, get) == 8);
    assert!(offset_of!(SharedData, put) == 16);
    assert!(offset_of!(SharedData, remove) == 24);
    assert!(offset_of!(SharedData, add) == 32);
    assert!(size_of::<HeaderField>() == 32);
    assert!(offset_of!(HeaderField, name) == 0);
    assert!(offset_of!(HeaderField, value) == 16);
    assert!(size_of::<Incoming>() == 96);
    assert!(offset_of!(Incoming, struct_size) == 0);
    assert!(offset_of!(Incoming, status) == 4);
    assert!(offset_of!(Incoming, from_service) == 8);
    assert!(offset_of!(Incoming, http_status) == 12);
    assert!(offset_of!(Incoming, body) == 16);
    assert!(offset_of!(Incoming, headers) == 32);
    assert!(offset_of!(Incoming, header_count) == 40);
    assert!(offset_of!(Incoming, trailers) == 48);
    assert!(offset_of!(Incoming, trailer_count) == 56);
    assert!(offset_of!(Incoming, message) == 64);
    assert!(offset_of!(Incoming, elapsed_ns) == 80);
    assert!(offset_of!(Incoming, attempts) == 88);
    assert!(size_of::<Outgoing>() == 120);
    assert!(offset_of!(Outgoing, struct_size) == 0);
    assert!(offset_of!(Outgoing, flags) == 4);
    assert!(offset_of!(Outgoing, upstream) == 8);
    assert!(offset_of!(Outgoing, method) == 24);
    assert!(offset_of!(Outgoing, path) == 40);
    assert!(offset_of!(Outgoing, headers) == 56);
    assert!(offset_of!(Outgoing, header_count) == 64);
    assert!(offset_of!(Outgoing, body) == 72);
    assert!(offset_of!(Outgoing, timeout_ns) == 88);
    assert!(offset_of!(Outgoing, done) == 96);
    assert!(offset_of!(Outgoing, release) == 104);
    assert!(offset_of!(Outgoing, data) == 112);
    assert!(size_of::<UpstreamInfo>() == 32);
    assert!(offset_of!(UpstreamInfo, struct_size) == 0);
    assert!(offset_of!(UpstreamInfo, flags) == 4);
    assert!(offset_of!(UpstreamInfo, timeout_ns) == 8);
    assert!(offset_of!(UpstreamInfo, request_bytes_max) == 16);
    assert!(offset_of!(UpstreamInfo, response_bytes_max) == 24);
    assert!(size_of::<Calls>() == 32);
    assert!(offset_of!(Calls, struct_size) == 0);
    assert!(offset_of!(Calls, reserved) == 4);
    assert!(offset_of!(Calls, find) == 8);
    assert!(offset_of!(Calls, start) == 16);
    assert!(offset_of!(Calls, cancel) == 24);
    assert!(size_of::<TraceAttribute>() == 56);
    assert!(offset_of!(TraceAttribute, key) == 0);
    assert!(offset_of!(TraceAttribute, text) == 16);
    assert!(offset_of!(TraceAttribute, integer) == 32);
    assert!(offset_of!(TraceAttribute, real) == 40);
    assert!(offset_of!(TraceAttribute, type_) == 48);
    assert!(offset_of!(TraceAttribute, reserved) == 52);
    assert!(size_of::<Trace>() == 40);
    assert!(offset_of!(Trace, struct_size) == 0);
    assert!(offset_of!(Trace, reserved) == 4);
    assert!(offset_of!(Trace, is_recording) == 8);
    assert!(offset_of!(Trace, set_attribute) == 16);
    assert!(offset_of!(Trace, add_event) == 24);
    assert!(offset_of!(Trace, get_context) == 32);
};
