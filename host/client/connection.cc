// SPDX-License-Identifier: Apache-2.0

#include "host/client/connection.h"

#include <algorithm>

#include "absl/status/status.h"

namespace callout::host {
namespace {

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
bool AwaitReady(grpc::Channel* channel, Deadline patience, Deadline deadline) {
  for (;;) {
    const grpc_connectivity_state state = channel->GetState(true);
    if (state == GRPC_CHANNEL_READY) return true;
    const bool failed = state == GRPC_CHANNEL_TRANSIENT_FAILURE;
    if (failed && std::chrono::system_clock::now() >= patience) return false;
    if (!channel->WaitForStateChange(state, failed ? patience : deadline) && !failed) return false;
  }
}

}  // namespace

Connection Connect(const ClientConfig& config) {
  const Deadline now = std::chrono::system_clock::now();
  Connection connection;
  connection.deadline = now + std::chrono::milliseconds(config.timeout_ms);
  connection.channel = MakeChannel(config);
  const Deadline patience =
      std::min(connection.deadline, now + std::chrono::milliseconds(config.wait_ms));
  connection.connected = AwaitReady(connection.channel.get(), patience, connection.deadline);
  return connection;
}

std::string ErrorText(const grpc::Status& status) {
  return absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code())) + ": " +
         status.error_message();
}

}  // namespace callout::host
