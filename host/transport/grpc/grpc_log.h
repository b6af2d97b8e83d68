// gRPC's own log, led into the host's: its errors as warnings, at most one a
// minute for each place in its code, for a client can provoke them; the rest
// only at DEBUG.
//
// Once, before gRPC does anything.
//
// Tested by tests/integration/tls_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_GRPC_GRPC_LOG_H_
#define CALLOUT_HOST_TRANSPORT_GRPC_GRPC_LOG_H_

namespace callout::host {

void RouteGrpcLog();

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_GRPC_GRPC_LOG_H_
