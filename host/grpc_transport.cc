// SPDX-License-Identifier: Apache-2.0

#include "host/grpc_transport.h"

#include "host/transport/grpc/grpc_credentials.h"
#include "host/transport/grpc/grpc_server.h"

namespace callout::host {

absl::StatusOr<std::unique_ptr<Transport>> StartGrpcTransport(const TransportLimits& limits,
                                                              bool plaintext,
                                                              const CertificateStore* certificates,
                                                              StreamEnvironment* environment) {
  GrpcServerOptions options;
  static_cast<TransportLimits&>(options) = limits;
  options.plaintext = plaintext;
  if (certificates != nullptr) options.secure = MakeTlsCredentials(certificates);
  return GrpcServer::Start(options, environment);
}

}  // namespace callout::host
