// SPDX-License-Identifier: Apache-2.0

// PROTO_ROOT is the repository's folder proto/.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::env::var("PROTO_ROOT")?;
    println!("cargo:rerun-if-env-changed=PROTO_ROOT");
    tonic_prost_build::configure()
        .build_client(false)
        .compile_protos(
            &[
                format!("{root}/envoy/service/auth/v3/external_auth.proto"),
                format!("{root}/envoy/service/ext_proc/v3/external_processor.proto"),
            ],
            &[root],
        )?;
    Ok(())
}
