// SPDX-License-Identifier: Apache-2.0

//! The checks of ../../README.md.
use std::time::Duration;

use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::envoy::service::ext_proc::v3::body_mutation::Mutation;
use crate::envoy::service::ext_proc::v3::processing_request::Request as Part;
use crate::envoy::service::ext_proc::v3::processing_response::Response as Answer;
use crate::envoy::service::ext_proc::v3::{BodyResponse, ProcessingRequest, ProcessingResponse};
use crate::stream::{expect_status, some_path, whole, Found, Options, Stream};

const SERVICE: &str = "envoy.service.ext_proc.v3.ExternalProcessor";

fn large_body() -> Vec<u8> {
    (0..200_000).map(|i| (i % 251) as u8).collect()
}

fn expect_header(answer: &Answer, key: &str, value: &str) -> Found {
    let mutation = match answer {
        Answer::RequestHeaders(headers) => headers.response.as_ref(),
        _ => None,
    }
    .and_then(|response| response.header_mutation.as_ref());
    let found = mutation
        .into_iter()
        .flat_map(|mutation| &mutation.set_headers)
        .filter_map(|option| option.header.as_ref())
        .any(|header| header.key == key && header.raw_value == value.as_bytes());
    if found {
        return Ok(());
    }
    Err(format!("no {key}: {value} in: {answer:?}"))
}

fn expect_body(answer: &BodyResponse) -> Found {
    let mutation = answer
        .response
        .as_ref()
        .and_then(|response| response.body_mutation.as_ref())
        .and_then(|mutation| mutation.mutation.as_ref());
    let wanted = [large_body().as_slice(), b"-seen"].concat();
    match mutation {
        Some(Mutation::Body(body)) if *body == wanted => Ok(()),
        _ => Err("no body, or another than the one sent".to_string()),
    }
}

async fn open(channel: &Channel) -> Result<Stream, String> {
    Stream::open(
        channel,
        Options::default(),
        Part::RequestHeaders(some_path()),
    )
    .await
    .map_err(|status| status.to_string())
}

/// Of a stream that is to end without an answer.
async fn expect_refused(
    channel: &Channel,
    options: Options,
    first: Part,
    code: Code,
    text: &str,
) -> Found {
    match Stream::open(channel, options, first).await {
        Ok(stream) => stream.expect_end(code).await?,
        Err(status) => expect_status(&status, code, text)?,
    }
    process(channel).await
}

pub async fn process(channel: &Channel) -> Found {
    let mut stream = open(channel).await?;
    expect_header(&stream.receive().await?, "x-text", "none")?;
    stream.finish().await
}

pub async fn large_bodies(channel: &Channel) -> Found {
    let mut stream = open(channel).await?;
    stream.receive().await?;
    match stream
        .exchange(Part::RequestBody(whole(large_body())))
        .await?
    {
        Answer::RequestBody(answer) => expect_body(&answer)?,
        other => return Err(format!("no request body: {other:?}")),
    }
    stream.exchange(Part::ResponseHeaders(some_path())).await?;
    match stream
        .exchange(Part::ResponseBody(whole(large_body())))
        .await?
    {
        Answer::ResponseBody(answer) => expect_body(&answer)?,
        other => return Err(format!("no response body: {other:?}")),
    }
    stream.finish().await
}

pub async fn streams_at_once(channel: &Channel) -> Found {
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(open(channel).await?);
    }
    for stream in &mut streams {
        expect_header(&stream.receive().await?, "x-text", "none")?;
    }
    for stream in streams {
        stream.finish().await?;
    }
    Ok(())
}

/// To tonic, a stream that is dropped is cancelled.
pub async fn cancel(channel: &Channel) -> Found {
    let mut stream = open(channel).await?;
    stream.receive().await?;
    drop(stream);
    process(channel).await
}

pub async fn deadline(channel: &Channel) -> Found {
    let options = Options {
        timeout: Duration::from_millis(300),
        ..Default::default()
    };
    match Stream::open(channel, options, Part::RequestHeaders(some_path())).await {
        Ok(mut stream) => {
            stream.receive().await?;
            stream.expect_end(Code::DeadlineExceeded).await?;
        }
        // tonic's own clock, which runs until the head of the response, was the faster one.
        Err(status) if status.code() == Code::Cancelled => {}
        Err(status) => expect_status(&status, Code::DeadlineExceeded, "")?,
    }
    process(channel).await
}

pub async fn unknown_method(channel: &Channel) -> Found {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| error.to_string())?;
    let path = PathAndQuery::try_from(format!("/{SERVICE}/Unknown")).unwrap();
    let codec = tonic_prost::ProstCodec::<ProcessingRequest, ProcessingResponse>::default();
    match client
        .unary(Request::new(ProcessingRequest::default()), path, codec)
        .await
    {
        Ok(_) => Err("it was answered".to_string()),
        Err(status) => expect_status(&status, Code::Unimplemented, ""),
    }
}

fn expect_serving(answer: Option<HealthCheckResponse>) -> Found {
    match answer {
        Some(answer) if answer.status() == ServingStatus::Serving => Ok(()),
        other => Err(format!("the health is {other:?}")),
    }
}

pub async fn health_check(channel: &Channel) -> Found {
    let request = HealthCheckRequest::default();
    let answer = HealthClient::new(channel.clone()).check(request).await;
    expect_serving(Some(
        answer.map_err(|status| status.to_string())?.into_inner(),
    ))
}

pub async fn health_watch(channel: &Channel) -> Found {
    let request = HealthCheckRequest {
        service: SERVICE.into(),
    };
    let watch = HealthClient::new(channel.clone()).watch(request).await;
    let mut answers = watch.map_err(|status| status.to_string())?.into_inner();
    expect_serving(
        answers
            .message()
            .await
            .map_err(|status| status.to_string())?,
    )
}

pub async fn metadata(channel: &Channel) -> Found {
    let options = Options {
        with_metadata: true,
        ..Default::default()
    };
    let mut stream = Stream::open(channel, options, Part::RequestHeaders(some_path()))
        .await
        .map_err(|status| status.to_string())?;
    let answer = stream.receive().await?;
    expect_header(&answer, "x-text", "hello")?;
    expect_header(&answer, "x-bytes", "00ff1080")?;
    stream.finish().await
}

pub async fn compression(channel: &Channel) -> Found {
    let options = Options {
        compressed: true,
        ..Default::default()
    };
    let body = Part::RequestBody(whole(large_body()));
    expect_refused(channel, options, body, Code::Unimplemented, "gzip").await
}

pub async fn message_too_large(channel: &Channel) -> Found {
    let body = Part::RequestBody(whole(vec![b'a'; 1_000_001]));
    expect_refused(
        channel,
        Options::default(),
        body,
        Code::ResourceExhausted,
        "",
    )
    .await
}
