// SPDX-License-Identifier: Apache-2.0

//! gRPC as tonic speaks it: `client ADDRESS [CA_FILE]`; see ../../README.md.
mod checks;
mod envoy;
mod stream;

use std::process::ExitCode;

use tonic::transport::{Certificate, Channel, ClientTlsConfig};

// As in Cargo.toml.
const TONIC: &str = "0.14.9";

async fn connect(arguments: &[String]) -> Result<Channel, Box<dyn std::error::Error>> {
    if arguments.len() == 1 {
        let target = Channel::from_shared(format!("http://{}", arguments[0]))?;
        return Ok(target.connect().await?);
    }
    let authority = Certificate::from_pem(std::fs::read(&arguments[1])?);
    let tls = ClientTlsConfig::new().ca_certificate(authority);
    let target = Channel::from_shared(format!("https://{}", arguments[0]))?;
    Ok(target.tls_config(tls)?.connect().await?)
}

fn tell(name: &str, found: stream::Found) -> bool {
    match &found {
        Ok(()) => println!("ok {name}"),
        Err(what) => {
            let words: Vec<&str> = what.split_whitespace().collect();
            println!("FAILED {name}: {:.300}", words.join(" "));
        }
    }
    found.is_ok()
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    println!("client tonic {TONIC}");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let channel = connect(&arguments).await?;
    let outcomes = [
        tell("process", checks::process(&channel).await),
        tell("large-bodies", checks::large_bodies(&channel).await),
        tell("streams-at-once", checks::streams_at_once(&channel).await),
        tell("cancel", checks::cancel(&channel).await),
        tell("deadline", checks::deadline(&channel).await),
        tell("unknown-method", checks::unknown_method(&channel).await),
        tell("health-check", checks::health_check(&channel).await),
        tell("health-watch", checks::health_watch(&channel).await),
        tell("metadata", checks::metadata(&channel).await),
        tell("compression", checks::compression(&channel).await),
        tell(
            "message-too-large",
            checks::message_too_large(&channel).await,
        ),
    ];
    let good = outcomes.iter().all(|passed| *passed);
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
