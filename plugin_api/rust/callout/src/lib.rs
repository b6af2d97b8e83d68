// SPDX-License-Identifier: Apache-2.0

#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]

// A panic that does not unwind ends the host, and with it every stream of every plugin.
#[cfg(panic = "abort")]
compile_error!(
    "a plugin needs panic = \"unwind\": remove panic = \"abort\" from the profile in Cargo.toml"
);

// For the attribute, in tests of what no other crate can do.
#[cfg(test)]
extern crate self as callout;

mod answer;
mod call;
pub mod calls;
mod error;
#[doc(hidden)]
pub mod ffi;
mod headers;
mod host;
mod json;
mod keys;
mod plugin;
#[doc(hidden)]
pub mod raw;
pub mod shared_data;
mod task;
pub mod testing;
pub mod timers;
pub mod trace;
mod wire;

pub use call::{
    kind, Allow, BodyCall, BodyMode, Call, CheckCall, ConnectionCall, DataCall, Descriptor,
    HeadersCall, Modes, OpenCall, Outcome, RateLimitCall, Refuse, Reply, StreamEnd, TrailersCall,
};
pub use callout_macros::plugin;
pub use error::{Error, Result, Status};
pub use headers::{Header, Headers};
pub use host::{Host, Level, Metric};
pub use plugin::{AsyncPlugin, Phase, Plugin, Setup};
pub use serde_json::{json, Value};
