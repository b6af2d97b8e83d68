// SPDX-License-Identifier: Apache-2.0

//! Breaks as the request header `fault` says, behind the border of plugins/rust_headers.
// A plugin uses less of them than the sample does.
#[allow(dead_code)]
#[path = "../../../plugins/rust_headers/src/abi.rs"]
mod abi;
#[allow(dead_code)]
#[path = "../../../plugins/rust_headers/src/border.rs"]
mod border;
#[allow(dead_code)]
mod messages {
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}

use messages::envoy::config::core::v3::HeaderValue;
use messages::envoy::service::ext_proc::v3::{HeadersResponse, HttpHeaders};

#[no_mangle]
#[allow(non_upper_case_globals)]
pub static callout_abi_version: u32 = abi::ABI_VERSION;

fn on_request_headers(message: HttpHeaders) -> HeadersResponse {
    let headers = message.headers.unwrap_or_default().headers;
    let fault = headers.iter().find(|header| header.key == "fault");
    match fault.map(|header| header.raw_value.as_slice()) {
        Some(b"panic") => panic!("a text"),
        Some(b"formatted") => panic!("{} headers", headers.len()),
        Some(b"index") => past_the_end(&headers),
        Some(b"payload") => std::panic::panic_any(7),
        _ => HeadersResponse::default(),
    }
}

fn past_the_end(list: &[HeaderValue]) -> HeadersResponse {
    let key = list[list.len()].key.clone();
    panic!("there is a header {key} past the last")
}

#[no_mangle]
unsafe extern "C" fn callout_on_request_headers(call: *mut abi::Call) -> abi::Status {
    unsafe { border::answer(call, on_request_headers) }
}
