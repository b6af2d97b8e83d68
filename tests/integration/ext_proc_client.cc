// SPDX-License-Identifier: Apache-2.0

#include "ext_proc_client.h"

#include <grpcpp/generic/generic_stub.h>

#include <chrono>

namespace callout::tests {
namespace {

// Only a failing test gets there.
constexpr std::chrono::seconds kGiveUp(120);

ChannelPtr MakeChannel(const std::string& address,
                       const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetSslTargetNameOverride("localhost");
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // windows stay as they are, 64 KiB
  return grpc::CreateCustomChannel(address, credentials, arguments);
}

grpc::ByteBuffer ToBuffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

std::string ToText(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  (void)buffer.Dump(&slices);
  std::string text;
  for (const grpc::Slice& slice : slices) {
    text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return text;
}

void FillMap(const HeaderList& headers, envoy::config::core::v3::HeaderMap* map) {
  for (const auto& [key, value] : headers) {
    auto* header = map->add_headers();
    header->set_key(key);
    header->set_raw_value(value);
  }
}

void FillHeaders(const HeaderList& headers, bool end_of_stream, ext_proc::HttpHeaders* target) {
  FillMap(headers, target->mutable_headers());
  target->set_end_of_stream(end_of_stream);
}

}  // namespace

ChannelPtr PlaintextChannel(const std::string& address) {
  return MakeChannel(address, grpc::InsecureChannelCredentials());
}

ChannelPtr TlsChannel(const std::string& address, const ClientTls& tls) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = tls.ca_pem;
  options.pem_cert_chain = tls.cert_pem;
  options.pem_private_key = tls.key_pem;
  return MakeChannel(address, grpc::SslCredentials(options));
}

LiveStream::LiveStream(const ChannelPtr& channel, const HeaderList& metadata)
    : stub_(ext_proc::ExternalProcessor::NewStub(channel)) {
  context_.set_deadline(std::chrono::system_clock::now() + kGiveUp);
  for (const auto& [key, value] : metadata) context_.AddMetadata(key, value);
  stream_ = stub_->Process(&context_);
}

LiveStream::~LiveStream() {
  if (finished_) return;
  Cancel();
  Finish();
}

std::optional<ext_proc::ProcessingResponse> LiveStream::Receive() {
  ext_proc::ProcessingResponse response;
  if (!stream_->Read(&response)) return std::nullopt;
  return response;
}

std::optional<ext_proc::ProcessingResponse> LiveStream::Exchange(
    const ext_proc::ProcessingRequest& request) {
  return Send(request) ? Receive() : std::nullopt;
}

grpc::Status LiveStream::Finish() {
  finished_ = true;
  stream_->WritesDone();
  while (Receive().has_value()) {
  }
  return stream_->Finish();
}

RawOutcome CallRaw(const ChannelPtr& channel, const std::string& method, const std::string& request,
                   const std::function<bool(const std::string&)>& on_answer) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kGiveUp);
  grpc::CompletionQueue queue;
  const auto await = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  const auto call = stub.PrepareCall(&context, method, &queue);
  call->StartCall(nullptr);
  bool open = await();
  if (open) {
    call->WriteLast(ToBuffer(request), grpc::WriteOptions(), nullptr);
    open = await();
  }
  RawOutcome outcome;
  while (open) {
    grpc::ByteBuffer answer;
    call->Read(&answer, nullptr);
    open = await();
    if (!open) break;
    outcome.answers.push_back(ToText(answer));
    if (on_answer && !on_answer(outcome.answers.back())) {
      context.TryCancel();
      break;
    }
  }
  call->Finish(&outcome.status, nullptr);
  await();
  return outcome;
}

std::string GrpcHealth(const ChannelPtr& channel, const std::string& service) {
  // HealthCheckRequest{service = 1} and HealthCheckResponse{status = 1}.
  std::string request;
  if (!service.empty()) {
    request = std::string("\x0a") + static_cast<char>(service.size()) + service;
  }
  const RawOutcome outcome = CallRaw(channel, "/grpc.health.v1.Health/Check", request);
  if (!outcome.status.ok()) return outcome.status.error_message();
  if (outcome.answers.size() != 1) return "no answer";
  if (outcome.answers.front() == "\x08\x01") return "SERVING";
  if (outcome.answers.front() == "\x08\x02") return "NOT_SERVING";
  return "unexpected bytes";
}

ext_proc::ProcessingRequest RequestHeaders(const HeaderList& headers, bool end_of_stream) {
  ext_proc::ProcessingRequest request;
  FillHeaders(headers, end_of_stream, request.mutable_request_headers());
  return request;
}

ext_proc::ProcessingRequest ResponseHeaders(const HeaderList& headers, bool end_of_stream) {
  ext_proc::ProcessingRequest request;
  FillHeaders(headers, end_of_stream, request.mutable_response_headers());
  return request;
}

ext_proc::ProcessingRequest RequestBody(const std::string& body, bool end_of_stream) {
  ext_proc::ProcessingRequest request;
  request.mutable_request_body()->set_body(body);
  request.mutable_request_body()->set_end_of_stream(end_of_stream);
  return request;
}

ext_proc::ProcessingRequest ResponseBody(const std::string& body, bool end_of_stream) {
  ext_proc::ProcessingRequest request;
  request.mutable_response_body()->set_body(body);
  request.mutable_response_body()->set_end_of_stream(end_of_stream);
  return request;
}

ext_proc::ProcessingRequest RequestTrailers(const HeaderList& trailers) {
  ext_proc::ProcessingRequest request;
  FillMap(trailers, request.mutable_request_trailers()->mutable_trailers());
  return request;
}

ext_proc::ProcessingRequest ResponseTrailers(const HeaderList& trailers) {
  ext_proc::ProcessingRequest request;
  FillMap(trailers, request.mutable_response_trailers()->mutable_trailers());
  return request;
}

ext_proc::ProcessingRequest WithBodyMode(ext_proc::ProcessingRequest request, int mode) {
  using Mode = envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;
  auto* config = request.mutable_protocol_config();
  config->set_request_body_mode(static_cast<Mode::BodySendMode>(mode));
  config->set_response_body_mode(static_cast<Mode::BodySendMode>(mode));
  return request;
}

}  // namespace callout::tests
