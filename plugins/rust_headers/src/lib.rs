// SPDX-License-Identifier: Apache-2.0

//! A plugin in Rust: sets and removes headers, and tells how many there were. See README.md.
use std::mem::size_of;

mod abi;
mod border;
#[allow(dead_code)]
mod messages {
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}

use abi::{Call, CreateArgs, PluginInfo, Status};
use messages::envoy::config::core::v3::{
    header_value_option::HeaderAppendAction, HeaderValue, HeaderValueOption,
};
use messages::envoy::service::ext_proc::v3::{
    CommonResponse, HeaderMutation, HeadersResponse, HttpHeaders,
};

fn on_request_headers(message: HttpHeaders) -> HeadersResponse {
    let set_headers = vec![
        set("header-request", "request"),
        set("x-rust", &count(&message)),
    ];
    respond(CommonResponse {
        header_mutation: Some(HeaderMutation {
            set_headers,
            ..Default::default()
        }),
        clear_route_cache: true,
        ..Default::default()
    })
}

fn on_response_headers(message: HttpHeaders) -> HeadersResponse {
    let set_headers = vec![
        set("header-response", "response"),
        set("x-rust", &count(&message)),
    ];
    let remove_headers = vec!["foo".to_string()];
    respond(CommonResponse {
        header_mutation: Some(HeaderMutation {
            set_headers,
            remove_headers,
        }),
        ..Default::default()
    })
}

fn count(message: &HttpHeaders) -> String {
    message
        .headers
        .as_ref()
        .map_or(0, |map| map.headers.len())
        .to_string()
}

fn set(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_string(),
            // Envoy reads no other field for the value.
            raw_value: value.as_bytes().to_vec(),
            ..Default::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    }
}

fn respond(response: CommonResponse) -> HeadersResponse {
    HeadersResponse {
        response: Some(response),
    }
}

// --- What the plugin exports. The host keeps to <callout/plugin.h>, which is what makes it safe. ---

#[no_mangle]
#[allow(non_upper_case_globals)]
pub static callout_abi_version: u32 = abi::ABI_VERSION;

#[no_mangle]
#[allow(non_upper_case_globals)]
pub static callout_plugin_info: PluginInfo = PluginInfo {
    struct_size: size_of::<PluginInfo>() as u32,
    name: c"rust_headers".as_ptr(),
    version: c"1.0.0".as_ptr(),
    description: c"Sets and counts headers, in Rust".as_ptr(),
};

#[no_mangle]
unsafe extern "C" fn callout_plugin_create(args: *mut CreateArgs) -> Status {
    let (host, config) = unsafe { ((*args).host, (*args).config) };
    if config.size != 0 {
        unsafe {
            border::log(
                host,
                abi::LOG_ERROR,
                "it has no configuration, and was given one",
            )
        };
        return abi::INVALID_ARGUMENT;
    }
    unsafe {
        border::log(
            host,
            abi::LOG_INFO,
            "messages are read and written by prost",
        )
    };
    abi::OK
}

#[no_mangle]
unsafe extern "C" fn callout_on_request_headers(call: *mut Call) -> Status {
    unsafe { border::answer(call, on_request_headers) }
}

#[no_mangle]
unsafe extern "C" fn callout_on_response_headers(call: *mut Call) -> Status {
    unsafe { border::answer(call, on_response_headers) }
}
