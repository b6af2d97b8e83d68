// SPDX-License-Identifier: Apache-2.0

//! What a plugin adds to the trace of an exchange: attributes and events of the span that the host makes
//! of each call, and the context for requests of the plugin's own. It is the extension `callout.trace/1`.
//!
//! ```
//! # #[derive(Default)] struct Tenants;
//! # #[callout::plugin(no_export)]
//! # impl callout::Plugin for Tenants {
//! #     fn create(_: (), _: &mut callout::Setup) -> callout::Result<Self> { Ok(Tenants) }
//! fn request_headers(&self, call: &mut callout::HeadersCall<'_, Self>) -> callout::Result {
//!     let span = call.span();
//!     span.set("tenant", "blue");
//!     if span.is_recorded() {
//!         span.event("policy", &[("rules", 3.into()), ("cached", true.into())]);
//!     }
//!     Ok(())
//! }
//! # }
//! ```
//!
//! An exchange that is not sampled records nothing, and a host that is older than the extension never
//! does: then `set` and `event` do nothing and return `true`. Ask `is_recorded` only where it takes time
//! to find out what to add. What is refused never ends a call: traces decide about no request.
//!
//! A key and a name have 1 to 256 bytes. Keys that begin with `callout.`, and
//! `http.response.status_code`, are the host's. OpenTelemetry's variables and `--max_trace_bytes` limit
//! what is kept; docs/tracing.md has them.

use std::ffi::c_char;
use std::sync::Mutex;

use crate::call::{Call, RawCall};
use crate::host::{bytes, view, Extension};
use crate::plugin::Plugin;
use crate::raw;
use crate::task::lock;

/// The value of an attribute: `"a text".into()`, `3.into()`, `0.5.into()`, `true.into()`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'v> {
    /// A text. The host cuts long ones.
    Text(&'v str),
    /// An integer.
    Integer(i64),
    /// A real number.
    Real(f64),
    /// True or false.
    Flag(bool),
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(text: &'v str) -> Self {
        Value::Text(text)
    }
}
impl<'v> From<&'v String> for Value<'v> {
    fn from(text: &'v String) -> Self {
        Value::Text(text)
    }
}
impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Value::Flag(flag)
    }
}
macro_rules! numbers {
    ($($kind:ty, $number:ident => $value:expr;)*) => {$(
        impl From<$kind> for Value<'_> {
            fn from($number: $kind) -> Self {
                $value
            }
        }
    )*};
}
// What is above the largest integer of a trace becomes that.
numbers! {
    i32, number => Value::Integer(number.into());
    u32, number => Value::Integer(number.into());
    i64, number => Value::Integer(number);
    u64, number => Value::Integer(number.try_into().unwrap_or(i64::MAX));
    usize, number => Value::Integer(number.try_into().unwrap_or(i64::MAX));
    f32, number => Value::Real(number.into());
    f64, number => Value::Real(number);
}

/// The span of one call. It takes what is added until the call is over.
pub struct Span<'c> {
    /// `None`: nothing is recorded.
    trace: Option<Extension<raw::Trace>>,
    call: RawCall,
    /// That of the call.
    turn: &'c Mutex<()>,
}

/// For requests that the plugin sends on behalf of a call, by W3C Trace Context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The header `traceparent`.
    pub traceparent: String,
    /// The header `tracestate`; empty: there is none.
    pub tracestate: String,
}

const PARENT_BYTES: usize = raw::TRACEPARENT_BYTES as usize;

fn find<K, P: Plugin>(call: &Call<'_, K, P>) -> Option<Extension<raw::Trace>> {
    // SAFETY: the id is that of the table.
    unsafe { Extension::new(call.host(), raw::TRACE, "") }.ok()
}

impl<K, P: Plugin> Call<'_, K, P> {
    /// The span of this call, for attributes and events: see [`crate::trace`].
    pub fn span(&self) -> Span<'_> {
        let (call, turn) = self.raw_call();
        // SAFETY: the call is open.
        let is_recording = |trace: &Extension<raw::Trace>| {
            let _turn = lock(turn);
            trace.call(|table, _| unsafe { ((*table).is_recording)(call.0) }) == 1
        };
        Span {
            trace: find(self).filter(is_recording),
            call,
            turn,
        }
    }

    /// The context to pass on. If the exchange is recorded, this call's span is the parent; else it is what
    /// came with the gRPC request. `None`: there is none.
    pub fn trace_context(&self) -> Option<Context> {
        let mut parent: [c_char; PARENT_BYTES] = [0; PARENT_BYTES];
        let mut state = bytes(&[]);
        let (call, turn) = self.raw_call();
        let trace = find(self)?;
        let _turn = lock(turn);
        // SAFETY: the call is open, and `parent` has room for a traceparent.
        let status = trace.call(|table, _| unsafe {
            ((*table).get_context)(call.0, parent.as_mut_ptr(), &mut state)
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (status == raw::OK).then(|| Context {
            traceparent: text(&parent.map(|byte| byte as u8)),
            // SAFETY: the view lives as long as the stream.
            tracestate: text(unsafe { view(state) }),
        })
    }
}

impl Span<'_> {
    /// Whether what is added is kept.
    pub fn is_recorded(&self) -> bool {
        self.trace.is_some()
    }

    /// Sets an attribute, in the place of one of this key. `false`: the host has refused it, as the log or
    /// `callout_trace_dropped_total` says.
    pub fn set<'v>(&self, key: &str, value: impl Into<Value<'v>>) -> bool {
        let Some(trace) = &self.trace else {
            return true;
        };
        let attribute = to_raw(key, &value.into());
        let _turn = lock(self.turn);
        // SAFETY: the call is open; the attribute is copied.
        let status =
            trace.call(|table, _| unsafe { ((*table).set_attribute)(self.call.0, &attribute) });
        status == raw::OK
    }

    /// Adds an event, which has the time of now. `false`: the host has refused it.
    pub fn event(&self, name: &str, attributes: &[(&str, Value<'_>)]) -> bool {
        let Some(trace) = &self.trace else {
            return true;
        };
        let attributes: Vec<raw::TraceAttribute> = attributes
            .iter()
            .map(|(key, value)| to_raw(key, value))
            .collect();
        let _turn = lock(self.turn);
        // SAFETY: the call is open; all of it is copied.
        let status = trace.call(|table, _| unsafe {
            ((*table).add_event)(
                self.call.0,
                bytes(name.as_bytes()),
                attributes.as_ptr(),
                attributes.len(),
            )
        });
        status == raw::OK
    }
}

fn to_raw(key: &str, value: &Value<'_>) -> raw::TraceAttribute {
    let mut attribute = raw::TraceAttribute {
        key: bytes(key.as_bytes()),
        text: bytes(&[]),
        integer: 0,
        real: 0.0,
        type_: 0,
        reserved: 0,
    };
    match *value {
        Value::Text(text) => {
            attribute.type_ = raw::TRACE_TEXT;
            attribute.text = bytes(text.as_bytes());
        }
        Value::Integer(integer) => {
            attribute.type_ = raw::TRACE_INTEGER;
            attribute.integer = integer;
        }
        Value::Real(real) => {
            attribute.type_ = raw::TRACE_REAL;
            attribute.real = real;
        }
        Value::Flag(flag) => {
            attribute.type_ = raw::TRACE_FLAG;
            attribute.integer = flag.into();
        }
    }
    attribute
}
