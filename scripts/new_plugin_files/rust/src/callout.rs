//! The connection to the host: the types of `callout/plugin.h` that this plugin needs, in C's layout,
//! and protobuf's wire format of the messages that it reads and writes.

use std::any::Any;
use std::ffi::c_void;
use std::panic::catch_unwind;
use std::slice;

#[no_mangle]
#[allow(non_upper_case_globals)]
pub static callout_abi_version: u32 = 1;

type Status = i32;
const INTERNAL: Status = -13;
const REQUEST_HEADERS_RESPONSE: u32 = 1;

/// Borrowed bytes; `data` may be null if `size` is 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bytes {
    data: *const u8,
    size: usize,
}

/// `struct callout_host` up to what is used; it only grows at its end.
#[repr(C)]
pub struct Host {
    struct_size: u32,
    abi_version: u32,
    name: *const u8,
    respond: unsafe extern "C" fn(*mut Call, u32, *const Bytes, usize) -> Status,
    send: *const c_void,
    annotate: *const c_void,
    set_error: unsafe extern "C" fn(*mut Call, Bytes),
}

/// `callout_call_t`, the same way.
#[repr(C)]
pub struct Call {
    struct_size: u32,
    phase: u32,
    host: *const Host,
    plugin: *mut c_void,
    stream: *mut c_void,
    message: Bytes,
}

/// # Safety
/// The host calls it as `callout/plugin.h` says.
#[no_mangle]
pub unsafe extern "C" fn callout_on_request_headers(call: *mut Call) -> Status {
    // A panic must not reach the host. Its text goes to the host's log.
    let outcome = catch_unwind(|| {
        let message = (*call).message;
        let bytes = match message.size {
            0 => &[],
            size => slice::from_raw_parts(message.data, size),
        };
        let answer = crate::on_request_headers(&read_headers(bytes)).to_headers_response();
        let part = Bytes {
            data: answer.as_ptr(),
            size: answer.len(),
        };
        ((*(*call).host).respond)(call, REQUEST_HEADERS_RESPONSE, &part, 1)
    });
    outcome.unwrap_or_else(|panic| {
        let text = format!("panic: {}", panic_text(panic.as_ref()));
        let bytes = Bytes {
            data: text.as_ptr(),
            size: text.len(),
        };
        ((*(*call).host).set_error)(call, bytes);
        INTERNAL
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return text;
    }
    panic
        .downcast_ref::<String>()
        .map_or("not a text", String::as_str)
}

/// A header field. Values are bytes, not necessarily UTF-8.
#[derive(Clone, Copy, Default)]
pub struct Header<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl Header<'_> {
    pub fn is(&self, name: &str) -> bool {
        self.key.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// HttpHeaders: headers 1, a HeaderMap of HeaderValue 1, each of key 1, value 2 and raw_value 3.
fn read_headers(message: &[u8]) -> Vec<Header<'_>> {
    let maps = fields(message)
        .into_iter()
        .filter(|(number, _)| *number == 1);
    let values = maps
        .flat_map(|(_, map)| fields(map))
        .filter(|(number, _)| *number == 1);
    values.map(|(_, value)| read_header(value)).collect()
}

fn read_header(bytes: &[u8]) -> Header<'_> {
    let mut header = Header::default();
    for (number, bytes) in fields(bytes) {
        match number {
            1 => header.key = bytes,
            2 | 3 if !bytes.is_empty() => header.value = bytes,
            _ => {}
        }
    }
    header
}

/// The length-delimited fields of a message, up to its end or the first malformed one.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let mut found = Vec::new();
    while let Some(tag) = take_varint(&mut bytes) {
        let size = match tag & 7 {
            0 if take_varint(&mut bytes).is_some() => continue,
            1 => 8,
            2 => take_varint(&mut bytes).unwrap_or(u64::MAX),
            5 => 4,
            _ => break,
        };
        if size > bytes.len() as u64 {
            break;
        }
        let (field, rest) = bytes.split_at(size as usize);
        bytes = rest;
        if tag & 7 == 2 {
            found.push((tag >> 3, field));
        }
    }
    found
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if *first < 0x80 {
            return Some(value);
        }
    }
    None
}

/// How to change the headers.
#[derive(Default)]
pub struct Answer {
    pub set: Vec<(String, String)>,
    pub remove: Vec<String>,
}

impl Answer {
    pub fn set_header(&mut self, key: &str, value: &str) {
        self.set.push((key.to_string(), value.to_string()));
    }

    pub fn remove_header(&mut self, key: &str) {
        self.remove.push(key.to_string());
    }

    /// HeadersResponse: response 1, its header_mutation 2 with set_headers 1 and remove_headers 2.
    fn to_headers_response(&self) -> Vec<u8> {
        let mut mutation = Vec::new();
        for (key, value) in &self.set {
            let header = [field(1, key.as_bytes()), field(3, value.as_bytes())].concat();
            // append_action 3 is OVERWRITE_IF_EXISTS_OR_ADD, 2.
            mutation.extend(field(1, &[field(1, &header), vec![3 << 3, 2]].concat()));
        }
        for key in &self.remove {
            mutation.extend(field(2, key.as_bytes()));
        }
        field(1, &field(2, &mutation))
    }
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut size = bytes.len();
    while size >= 0x80 {
        out.push(size as u8 | 0x80);
        size >>= 7;
    }
    out.push(size as u8);
    out.extend(bytes);
    out
}
