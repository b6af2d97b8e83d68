// SPDX-License-Identifier: Apache-2.0

// TLS for the gRPC transport, with the certificate that the store has at the time of
// each handshake: ALPN h2, and by gRPC's own defaults the versions and suites of the
// host's policy (host/net/tls_policy.h).
//
// gRPC's own credentials read certificates once, or from files that it watches;
// this asks the store, so that what was checked is what is used.
//
// Tested by tests/host/transport/grpc/grpc_server_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_GRPC_GRPC_CREDENTIALS_H_
#define CALLOUT_HOST_TRANSPORT_GRPC_GRPC_CREDENTIALS_H_

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "host/net/certificate_store.h"

namespace callout::host {

// For one server, which keeps it, and one listener. `store` outlives the server.
std::shared_ptr<grpc::ServerCredentials> MakeTlsCredentials(const CertificateStore* store);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_GRPC_GRPC_CREDENTIALS_H_
