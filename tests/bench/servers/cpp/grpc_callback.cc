// SPDX-License-Identifier: Apache-2.0

// gRPC C++ as its documentation recommends it: the callback API and generated
// classes.
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/synchronization/mutex.h"
#include "envoy/service/ext_proc/v3/external_processor.grpc.pb.h"
#include "grpc_credentials.h"

namespace callout::bench {
namespace {

using envoy::service::ext_proc::v3::ExternalProcessor;
using envoy::service::ext_proc::v3::ProcessingRequest;
using envoy::service::ext_proc::v3::ProcessingResponse;
using Mode = envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;

void SetHeader(ProcessingResponse* response) {
  auto* option = response->mutable_request_headers()
                     ->mutable_response()
                     ->mutable_header_mutation()
                     ->add_set_headers();
  option->mutable_header()->set_key("x-callout");
  option->mutable_header()->set_raw_value("minimal-c");
  option->set_append_action(envoy::config::core::v3::HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD);
}

// In FULL_DUPLEX_STREAMED a chunk goes on only if the response repeats it.
void Repeat(const envoy::service::ext_proc::v3::HttpBody& chunk, ProcessingResponse* response) {
  auto* streamed = response->mutable_request_body()
                       ->mutable_response()
                       ->mutable_body_mutation()
                       ->mutable_streamed_response();
  streamed->set_body(chunk.body());
  streamed->set_end_of_stream(chunk.end_of_stream());
}

void Answer(const ProcessingRequest& request, ProcessingResponse* response) {
  response->Clear();
  switch (request.request_case()) {
    case ProcessingRequest::kRequestHeaders:
      return SetHeader(response);
    case ProcessingRequest::kResponseHeaders:
      return (void)response->mutable_response_headers();
    case ProcessingRequest::kRequestBody:
      return (void)response->mutable_request_body();
    case ProcessingRequest::kResponseBody:
      return (void)response->mutable_response_body();
    case ProcessingRequest::kRequestTrailers:
      return (void)response->mutable_request_trailers();
    default:
      return (void)response->mutable_response_trailers();
  }
}

class Reactor final : public grpc::ServerBidiReactor<ProcessingRequest, ProcessingResponse> {
 public:
  Reactor() { StartRead(&request_); }

  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    if (request_.has_protocol_config()) {
      is_duplex_ = request_.protocol_config().request_body_mode() == Mode::FULL_DUPLEX_STREAMED;
    }
    Answer(request_, &response_);
    if (is_duplex_ && request_.has_request_body()) Repeat(request_.request_body(), &response_);
    StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override { ok ? StartRead(&request_) : Finish(grpc::Status::OK); }
  void OnDone() override { delete this; }

 private:
  ProcessingRequest request_;
  ProcessingResponse response_;
  bool is_duplex_ = false;
};

class Service final : public ExternalProcessor::CallbackService {
 public:
  grpc::ServerBidiReactor<ProcessingRequest, ProcessingResponse>* Process(
      grpc::CallbackServerContext*) override {
    return new Reactor;
  }
};

void Run(const ServerOptions& options) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  Service service;
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(-1);  // no limit; the default is 4 MiB
  int port = 0;
  builder.AddListeningPort(AddressOf(options), MakeCredentials(options), &port);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) Fail("gRPC cannot listen");
  SayListening(port);
  server->Wait();
}

}  // namespace
}  // namespace callout::bench

int main(int argc, char** argv) {
  callout::bench::Run(callout::bench::ParseServerOptions(argc, argv));
}
