// SPDX-License-Identifier: Apache-2.0

//! The benchmark's server on tonic: `server PORT|unix:PATH [--tls CERTIFICATE KEY]`.
//! Answers as plugins/minimal_c does, with the generated classes. Prints `listening PORT`, 0 on a
//! unix socket.
use std::pin::Pin;

use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

// The modules lie as the packages do, for the generated code refers to them so.
mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                tonic::include_proto!("envoy.config.core.v3");
            }
        }
    }
    pub mod extensions {
        pub mod filters {
            pub mod http {
                pub mod ext_proc {
                    pub mod v3 {
                        tonic::include_proto!("envoy.extensions.filters.http.ext_proc.v3");
                    }
                }
            }
        }
    }
    pub mod service {
        pub mod auth {
            pub mod v3 {
                tonic::include_proto!("envoy.service.auth.v3");
            }
        }
        pub mod ext_proc {
            pub mod v3 {
                tonic::include_proto!("envoy.service.ext_proc.v3");
            }
        }
    }
    pub mod r#type {
        pub mod v3 {
            tonic::include_proto!("envoy.r#type.v3");
        }
    }
}

mod google {
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

use envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use envoy::service::auth::v3::check_response::HttpResponse;
use envoy::service::auth::v3::{CheckRequest, CheckResponse, OkHttpResponse};
use envoy::service::ext_proc::v3::body_mutation::Mutation;
use envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy::service::ext_proc::v3::processing_request::Request as Part;
use envoy::service::ext_proc::v3::processing_response::Response as Answer;
use envoy::service::ext_proc::v3::{
    BodyMutation, BodyResponse, CommonResponse, HeaderMutation, HeadersResponse, HttpBody,
    ProcessingRequest, ProcessingResponse, StreamedBodyResponse, TrailersResponse,
};

// tonic's default is 4 MiB.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

struct Processor;

#[tonic::async_trait]
impl ExternalProcessor for Processor {
    type ProcessStream =
        Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send + 'static>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let mut is_duplex = false;
        let answers = request
            .into_inner()
            .map(move |message| message.map(|request| answer_to(request, &mut is_duplex)));
        Ok(Response::new(Box::pin(answers)))
    }
}

// `is_duplex` lasts for the stream.
fn answer_to(request: ProcessingRequest, is_duplex: &mut bool) -> ProcessingResponse {
    if let Some(config) = &request.protocol_config {
        *is_duplex = config.request_body_mode == BodySendMode::FullDuplexStreamed as i32;
    }
    let answer = request.request.map(|part| match part {
        Part::RequestHeaders(_) => Answer::RequestHeaders(stamp()),
        Part::ResponseHeaders(_) => Answer::ResponseHeaders(HeadersResponse::default()),
        Part::RequestBody(chunk) if *is_duplex => Answer::RequestBody(repeat(chunk)),
        Part::RequestBody(_) => Answer::RequestBody(BodyResponse::default()),
        Part::ResponseBody(_) => Answer::ResponseBody(BodyResponse::default()),
        Part::RequestTrailers(_) => Answer::RequestTrailers(TrailersResponse::default()),
        Part::ResponseTrailers(_) => Answer::ResponseTrailers(TrailersResponse::default()),
    });
    ProcessingResponse {
        response: answer,
        ..Default::default()
    }
}

// In FULL_DUPLEX_STREAMED a chunk goes on only if the response repeats it.
fn repeat(chunk: HttpBody) -> BodyResponse {
    let streamed = StreamedBodyResponse {
        body: chunk.body,
        end_of_stream: chunk.end_of_stream,
        ..Default::default()
    };
    BodyResponse {
        response: Some(CommonResponse {
            body_mutation: Some(BodyMutation {
                mutation: Some(Mutation::StreamedResponse(streamed)),
            }),
            ..Default::default()
        }),
    }
}

fn stamp() -> HeadersResponse {
    let option = HeaderValueOption {
        header: Some(HeaderValue {
            key: "x-callout".into(),
            raw_value: b"minimal-c".to_vec(),
            ..Default::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
        ..Default::default()
    };
    let mutation = HeaderMutation {
        set_headers: vec![option],
        ..Default::default()
    };
    HeadersResponse {
        response: Some(CommonResponse {
            header_mutation: Some(mutation),
            ..Default::default()
        }),
    }
}

struct Authorizer;

#[tonic::async_trait]
impl Authorization for Authorizer {
    async fn check(
        &self,
        _request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let option = HeaderValueOption {
            header: Some(HeaderValue {
                key: "x-callout".into(),
                value: "minimal-c".into(),
                ..Default::default()
            }),
            append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
            ..Default::default()
        };
        Ok(Response::new(CheckResponse {
            http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
                headers: vec![option],
                ..Default::default()
            })),
            ..Default::default()
        }))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let mut server = Server::builder();
    if arguments.len() == 5 && arguments[2] == "--tls" {
        let identity =
            Identity::from_pem(std::fs::read(&arguments[3])?, std::fs::read(&arguments[4])?);
        server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
    }
    let router = server
        .add_service(
            ExternalProcessorServer::new(Processor).max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(AuthorizationServer::new(Authorizer));
    if let Some(path) = arguments[1].strip_prefix("unix:") {
        let listener = UnixListener::bind(path)?;
        println!("listening 0");
        router
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await?;
        return Ok(());
    }
    let listener = TcpListener::bind(format!("127.0.0.1:{}", arguments[1])).await?;
    println!("listening {}", listener.local_addr()?.port());
    // The builder's own nodelay is for listeners that it opens itself.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    router.serve_with_incoming(incoming).await?;
    Ok(())
}
