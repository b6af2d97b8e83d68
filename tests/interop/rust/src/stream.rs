// SPDX-License-Identifier: Apache-2.0

//! A Process stream whose messages are sent one by one, and what is sent on it.
use std::time::Duration;

use tokio::sync::mpsc::{unbounded_channel, UnboundedSender};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use crate::envoy::config::core::v3::{HeaderMap, HeaderValue};
use crate::envoy::service::ext_proc::v3::external_processor_client::ExternalProcessorClient;
use crate::envoy::service::ext_proc::v3::processing_request::Request as Part;
use crate::envoy::service::ext_proc::v3::processing_response::Response as Answer;
use crate::envoy::service::ext_proc::v3::{
    HttpBody, HttpHeaders, ProcessingRequest, ProcessingResponse,
};

pub type Found = Result<(), String>;

pub struct Stream {
    requests: UnboundedSender<ProcessingRequest>,
    answers: Streaming<ProcessingResponse>,
}

/// What a stream begins with.
pub struct Options {
    pub timeout: Duration,
    pub compressed: bool,
    pub with_metadata: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            timeout: Duration::from_secs(120),
            compressed: false,
            with_metadata: false,
        }
    }
}

impl Stream {
    /// With its first message, for tonic awaits the head of the response, which comes with the
    /// first answer.
    pub async fn open(channel: &Channel, options: Options, first: Part) -> Result<Self, Status> {
        let (requests, receiver) = unbounded_channel();
        let mut call = Request::new(UnboundedReceiverStream::new(receiver));
        call.set_timeout(options.timeout);
        if options.with_metadata {
            let metadata = call.metadata_mut();
            metadata.insert("x-interop", "hello".parse().unwrap());
            let bytes = tonic::metadata::MetadataValue::from_bytes(b"\x00\xff\x10\x80");
            metadata.insert_bin("x-interop-bin", bytes);
        }
        let mut client = ExternalProcessorClient::new(channel.clone());
        if options.compressed {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        let _ = requests.send(request(first));
        let answers = client.process(call).await?.into_inner();
        Ok(Stream { requests, answers })
    }

    pub async fn receive(&mut self) -> Result<Answer, String> {
        match self.answers.message().await {
            Ok(Some(answer)) => answer.response.ok_or("an answer of no kind".to_string()),
            Ok(None) => Err("the stream ended before its answer".to_string()),
            Err(status) => Err(format!("the stream ended with {status}")),
        }
    }

    pub async fn exchange(&mut self, part: Part) -> Result<Answer, String> {
        let _ = self.requests.send(request(part));
        self.receive().await
    }

    /// Half-closes; then nothing must come but OK.
    pub async fn finish(self) -> Found {
        drop(self.requests);
        expect_end(self.answers, Code::Ok).await
    }

    /// Without a half close.
    pub async fn expect_end(self, code: Code) -> Found {
        let ended = expect_end(self.answers, code).await;
        drop(self.requests);
        ended
    }
}

async fn expect_end(mut answers: Streaming<ProcessingResponse>, code: Code) -> Found {
    match answers.message().await {
        Ok(Some(answer)) => Err(format!("an answer too many: {answer:?}")),
        Ok(None) if code == Code::Ok => Ok(()),
        Ok(None) => Err(format!("the status is not {code:?}, but OK")),
        Err(status) => expect_status(&status, code, ""),
    }
}

pub fn expect_status(status: &Status, code: Code, text: &str) -> Found {
    if status.code() == code && status.message().contains(text) {
        return Ok(());
    }
    Err(format!("the status is not {code:?}: {status}"))
}

fn request(part: Part) -> ProcessingRequest {
    ProcessingRequest {
        request: Some(part),
        ..Default::default()
    }
}

pub fn some_path() -> HttpHeaders {
    let path = HeaderValue {
        key: ":path".into(),
        raw_value: b"/".to_vec(),
        ..Default::default()
    };
    HttpHeaders {
        headers: Some(HeaderMap {
            headers: vec![path],
        }),
        ..Default::default()
    }
}

pub fn whole(body: Vec<u8>) -> HttpBody {
    HttpBody {
        body,
        end_of_stream: true,
        ..Default::default()
    }
}
