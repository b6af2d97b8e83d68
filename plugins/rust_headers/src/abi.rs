// SPDX-License-Identifier: Apache-2.0

//! What this plugin uses of <callout/plugin.h>, in Rust's words. The header tells what each thing
//! means; the layout here is that of ABI version 1, of which every host has all fields.
use std::ffi::{c_char, c_void};

pub const ABI_VERSION: u32 = 1;

pub type Status = i32;
pub const OK: Status = 0;
pub const INVALID_ARGUMENT: Status = -3;
pub const INTERNAL: Status = -13;

pub const LOG_INFO: u32 = 9;
pub const LOG_ERROR: u32 = 17;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bytes {
    pub data: *const u8,
    pub size: usize,
}

#[repr(C)]
pub struct Call {
    pub struct_size: u32,
    pub phase: u32,
    pub host: *const Host,
    pub plugin: *mut c_void,
    pub stream: *mut c_void,
    pub message: Bytes,
    pub request: Bytes,
    pub attributes: Bytes,
    pub metadata_context: Bytes,
    pub body_offset: u64,
    pub deadline_ns: u64,
    pub body_mode: u32,
    pub flags: u32,
}

/// The table ends with more services; what is not named here has no type either.
#[repr(C)]
pub struct Host {
    pub struct_size: u32,
    pub abi_version: u32,
    pub name: *const c_char,
    pub respond: unsafe extern "C" fn(*mut Call, u32, *const Bytes, usize) -> Status,
    send: *const c_void,
    annotate: *const c_void,
    pub set_error: unsafe extern "C" fn(*mut Call, Bytes),
    finish: *const c_void,
    is_cancelled: *const c_void,
    get_metadata: *const c_void,
    get_property: *const c_void,
    log_enabled: *const c_void,
    pub log: unsafe extern "C" fn(*const Host, u32, Bytes),
}

#[repr(C)]
pub struct CreateArgs {
    pub struct_size: u32,
    pub blocking: u32,
    pub host: *const Host,
    pub instance: *const c_char,
    pub config: Bytes,
    pub phases: u64,
    pub whole_body_bytes_max: u64,
    pub plugin: *mut c_void,
}

#[repr(C)]
pub struct PluginInfo {
    pub struct_size: u32,
    pub name: *const c_char,
    pub version: *const c_char,
    pub description: *const c_char,
}

// SAFETY: it points to constants only.
unsafe impl Sync for PluginInfo {}
