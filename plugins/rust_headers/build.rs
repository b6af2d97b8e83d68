// SPDX-License-Identifier: Apache-2.0

//! Makes Rust types of the ext_proc messages; needs protoc.
use std::io::Result;

const PROTO: &str = "../../proto";

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed={PROTO}");
    prost_build::Config::new()
        .include_file("messages.rs")
        .compile_protos(
            &[format!(
                "{PROTO}/envoy/service/ext_proc/v3/external_processor.proto"
            )],
            &[PROTO.to_string()],
        )
}
