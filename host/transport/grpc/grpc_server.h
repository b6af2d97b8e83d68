// SPDX-License-Identifier: Apache-2.0

// The gRPC C++ transport: serves envoy.service.ext_proc.v3.ExternalProcessor,
// grpc.health.v1 and reflection, and feeds every Process RPC to a Stream.
//
// One completion queue with one thread for each of `thread_count`; an RPC stays
// on its queue, so a stream is only ever touched by one thread. Messages travel
// as raw byte buffers: no generated class is on the way.
//
// It opens no listening socket: connections are handed in as descriptors.
//
// Tested by tests/integration/drain_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_GRPC_GRPC_SERVER_H_
#define CALLOUT_HOST_TRANSPORT_GRPC_GRPC_SERVER_H_

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "host/stream/stream_environment.h"
#include "host/transport/limits.h"
#include "host/transport/stream_times.h"
#include "host/transport/transport.h"

namespace callout::host {

struct GrpcServerOptions : TransportLimits {
  // The listeners connections may be handed in for.
  bool plaintext = true;
  std::shared_ptr<grpc::ServerCredentials> secure;  // null: no TLS listener
};

class GrpcQueue;

class GrpcServer final : public Transport {
 public:
  // `environment` outlives the server. Serves when it returns.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const GrpcServerOptions& options,
                                                           StreamEnvironment* environment);
  ~GrpcServer() override;
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  void HandlePlaintext(int descriptor) override;
  void HandleSecure(int descriptor) override;
  void SetServing(bool serving) override;
  bool Drain(uint64_t timeout_ms) override;
  size_t live() const override;
  LiveRpcs ListRpcs(size_t max, uint64_t timeout_ms) override;

 private:
  explicit GrpcServer(const TransportLimits& limits);
  void Shutdown(uint64_t timeout_ms);
  void Handle(grpc::experimental::ExternalConnectionAcceptor* acceptor, int descriptor);

  grpc::AsyncGenericService service_;  // tells gRPC that other methods are ours, too
  std::shared_ptr<grpc::ServerCredentials> credentials_;  // outlive server_
  const TransportLimits limits_;
  StreamTimeMetrics time_metrics_;
  std::atomic<bool> serving_{false};
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> plaintext_acceptor_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> secure_acceptor_;
  std::vector<std::unique_ptr<GrpcQueue>> queues_;
  std::unique_ptr<grpc::Server> server_;
  bool drained_ = false;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_GRPC_GRPC_SERVER_H_
