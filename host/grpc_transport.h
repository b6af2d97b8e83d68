// SPDX-License-Identifier: Apache-2.0

// Starts the gRPC transport. In a build without gRPC C++ (-Dgrpc=disabled) it returns an error.
//
// Tested by tests/integration/serving_test.cc.
#ifndef CALLOUT_HOST_GRPC_TRANSPORT_H_
#define CALLOUT_HOST_GRPC_TRANSPORT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "host/net/certificate_store.h"
#include "host/stream/stream_environment.h"
#include "host/transport/limits.h"
#include "host/transport/transport.h"

namespace callout::host {

// `plaintext`: whether there is a plaintext listener. `certificates` is null without a TLS
// listener; it and `environment` outlive the transport. UNIMPLEMENTED in a build without gRPC.
absl::StatusOr<std::unique_ptr<Transport>> StartGrpcTransport(const TransportLimits& limits,
                                                              bool plaintext,
                                                              const CertificateStore* certificates,
                                                              StreamEnvironment* environment);

}  // namespace callout::host

#endif  // CALLOUT_HOST_GRPC_TRANSPORT_H_
