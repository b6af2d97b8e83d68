// SPDX-License-Identifier: Apache-2.0

#include "host/client/process_call.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "envoy/service/ext_proc/v3/external_processor.grpc.pb.h"

namespace callout::host {
namespace {

using envoy::service::ext_proc::v3::ExternalProcessor;
using Deadline = std::chrono::system_clock::time_point;

constexpr int kRetryMs = 100;
// What an attempt may take, with its TLS handshake.
constexpr int kAttemptMs = 5000;

std::shared_ptr<grpc::Channel> MakeChannel(const ClientConfig& config) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kRetryMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kAttemptMs);  // gRPC's name for it
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kRetryMs);
  // Responses of any size are shown.
  arguments.SetMaxReceiveMessageSize(-1);
  if (!config.authority.empty()) {
    arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, config.authority);
    if (!config.plaintext) arguments.SetSslTargetNameOverride(config.authority);
  }
  if (config.plaintext) {
    return grpc::CreateCustomChannel(config.address, grpc::InsecureChannelCredentials(), arguments);
  }
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = config.ca_pem;
  tls.pem_cert_chain = config.cert_pem;
  tls.pem_private_key = config.key_pem;
  return grpc::CreateCustomChannel(config.address, grpc::SslCredentials(tls), arguments);
}

// False if an attempt fails after `patience`; gRPC would retry until the deadline.
bool Connect(grpc::Channel* channel, Deadline patience, Deadline deadline) {
  for (;;) {
    const grpc_connectivity_state state = channel->GetState(true);
    if (state == GRPC_CHANNEL_READY) return true;
    const bool failed = state == GRPC_CHANNEL_TRANSIENT_FAILURE;
    if (failed && std::chrono::system_clock::now() >= patience) return false;
    if (!channel->WaitForStateChange(state, failed ? patience : deadline) && !failed) return false;
  }
}

}  // namespace

CallOutcome CallProcess(const ClientConfig& config, const std::vector<ProcessingRequest>& messages,
                        const std::function<void(const ProcessingResponse&)>& take) {
  const Deadline now = std::chrono::system_clock::now();
  const Deadline deadline = now + std::chrono::milliseconds(config.timeout_ms);
  const Deadline patience = std::min(deadline, now + std::chrono::milliseconds(config.wait_ms));
  const std::shared_ptr<grpc::Channel> channel = MakeChannel(config);
  CallOutcome outcome;
  outcome.connected = Connect(channel.get(), patience, deadline);
  // Without a connection the RPC fails at once and says why there is none.
  const std::unique_ptr<ExternalProcessor::Stub> stub = ExternalProcessor::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(deadline);
  const auto stream = stub->Process(&context);
  // On its own thread, so that the two sides never wait for each other with full buffers.
  std::thread writer([&] {
    for (const ProcessingRequest& message : messages) {
      if (!stream->Write(message)) return;  // the server has ended the RPC
    }
    stream->WritesDone();
  });
  ProcessingResponse answer;
  while (stream->Read(&answer)) {
    ++outcome.answers;
    outcome.immediate |=
        answer.has_immediate_response() || answer.has_streamed_immediate_response();
    take(answer);
  }
  writer.join();
  const grpc::Status status = stream->Finish();
  // It may have come while the last attempt was given up.
  outcome.connected |= status.ok() || outcome.answers > 0;
  if (!status.ok()) {
    outcome.error = absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code())) +
                    ": " + status.error_message();
  }
  return outcome;
}

}  // namespace callout::host
