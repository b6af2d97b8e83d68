// SPDX-License-Identifier: Apache-2.0

// In place of grpc_transport.cc, in a build without gRPC C++.
//
// Tested by tests/host/config/config_test.cc.
#include "host/grpc_transport.h"

namespace callout::host {

// Not reached: --transport refuses grpc in such a build.
absl::StatusOr<std::unique_ptr<Transport>> StartGrpcTransport(const TransportLimits&, bool,
                                                              const CertificateStore*,
                                                              StreamEnvironment*) {
  return absl::UnimplementedError("this build of the host has no gRPC C++ (-Dgrpc=disabled)");
}

}  // namespace callout::host
