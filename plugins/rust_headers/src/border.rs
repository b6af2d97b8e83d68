// SPDX-License-Identifier: Apache-2.0

//! The border between the host, which speaks C, and hooks in safe Rust: bytes become messages and
//! back, errors and panics become a status with a text. No panic crosses it.
use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};

use prost::Message;

use crate::abi::{Bytes, Call, Host, Status, INTERNAL, INVALID_ARGUMENT};

/// A hook's work for one call. The message is `hook`'s own, so nothing of the host is kept.
///
/// # Safety
/// `call` is what the host has given to the hook that is running.
pub unsafe fn answer<Q, A>(call: *mut Call, hook: impl FnOnce(Q) -> A) -> Status
where
    Q: Message + Default,
    A: Message,
{
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let message = Q::decode(unsafe { view((*call).message) })?;
        Ok(hook(message).encode_to_vec())
    }));
    let (status, text) = match outcome {
        Ok(Ok(answer)) => return unsafe { respond(call, &answer) },
        Ok(Err(error)) => (INVALID_ARGUMENT, decode_text(&error)),
        Err(panic) => (INTERNAL, format!("panic: {}", panic_text(panic.as_ref()))),
    };
    unsafe { ((*(*call).host).set_error)(call, bytes(text.as_bytes())) };
    status
}

/// # Safety
/// `host` is the table that an instance was created with, and the instance lives.
pub unsafe fn log(host: *const Host, level: u32, text: &str) {
    unsafe { ((*host).log)(host, level, bytes(text.as_bytes())) }
}

// The host copies the answer before respond() returns.
unsafe fn respond(call: *mut Call, answer: &[u8]) -> Status {
    let part = bytes(answer);
    // The answer to a phase has the number before the phase's own.
    unsafe { ((*(*call).host).respond)(call, (*call).phase - 1, &part, 1) }
}

fn bytes(text: &[u8]) -> Bytes {
    Bytes {
        data: text.as_ptr(),
        size: text.len(),
    }
}

// Rust wants a pointer even where there is nothing.
unsafe fn view<'a>(bytes: Bytes) -> &'a [u8] {
    if bytes.size == 0 {
        return &[];
    }
    unsafe { std::slice::from_raw_parts(bytes.data, bytes.size) }
}

fn decode_text(error: &prost::DecodeError) -> String {
    format!("the message cannot be parsed: {error}")
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return text;
    }
    panic
        .downcast_ref::<String>()
        .map_or("not a text", String::as_str)
}
