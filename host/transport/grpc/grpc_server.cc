// SPDX-License-Identifier: Apache-2.0

#include "host/transport/grpc/grpc_server.h"

#include <fmt/format.h>
#include <grpc/grpc.h>
#include <grpc/support/log.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "host/base/log.h"
#include "host/transport/drain_poll.h"
#include "host/transport/grpc/grpc_call.h"
#include "host/transport/grpc/grpc_queue.h"

#include "host/base/thread.h"

namespace callout::host {

namespace {

// What a client that is asked to leave gets to see GOAWAY once no RPC is left.
constexpr std::chrono::milliseconds kShutdownNotice(200);
// PINGs that come closer to one another than this are counted, until anything but
// PINGs is sent, and one more than so many end the connection.
constexpr uint64_t kPingIntervalMinMs = 100;
constexpr uint64_t kEarlyPingsMax = 1000;

// gRPC's own log, led into the host's: its errors as warnings, at most one a minute
// for each place in its code, for a client can provoke them; the rest at DEBUG only.
void WriteLog(gpr_log_func_args* args) {
  if (args->severity == GPR_LOG_SEVERITY_ERROR) {
    LogLimited(LogLevel::kWarning, fmt::format("grpc {}:{}", args->file, args->line), "gRPC: {}",
               args->message);
  } else {
    Log(LogLevel::kDebug, "gRPC: {}", args->message);
  }
}

void SetArguments(const GrpcServerOptions& options, grpc::ServerBuilder* builder) {
  const auto set = [builder](const char* name, uint64_t value) {
    builder->AddChannelArgument(name, static_cast<int>(value));
  };
  builder->SetMaxReceiveMessageSize(static_cast<int>(options.message_bytes_max));
  // As on the other transport: nobody compresses to a neighbour, and who attacks sends little bytes
  // that become many.
  builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  set(GRPC_ARG_MAX_METADATA_SIZE, options.metadata_bytes_max);
  set(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.concurrent_streams_max);
  set(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, options.handshake_timeout_ms);
  set(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // A proxy that is gone without a word is noticed, and one that pings to find
  // out the same of us, once a second or more, is not cut off for it.
  set(GRPC_ARG_KEEPALIVE_TIME_MS, 60000);
  set(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000);
  set(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  set(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kPingIntervalMinMs);
  set(GRPC_ARG_HTTP2_MAX_PING_STRIKES, kEarlyPingsMax);
  if (options.connection_idle_ms > 0) {
    set(GRPC_ARG_MAX_CONNECTION_IDLE_MS, options.connection_idle_ms);
  }
  if (options.connection_age_ms > 0) {
    set(GRPC_ARG_MAX_CONNECTION_AGE_MS, options.connection_age_ms);
    set(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, options.connection_age_grace_ms);
  }
}

}  // namespace

GrpcServer::GrpcServer(const TransportLimits& limits) : limits_(limits) {}

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const GrpcServerOptions& options,
                                                              StreamEnvironment* environment) {
  gpr_set_log_function(&WriteLog);
  std::unique_ptr<GrpcServer> server(new GrpcServer(options));
  server->credentials_ = options.secure;
  absl::StatusOr<StreamTimeMetrics> time_metrics =
      StreamTimeMetrics::Define(&environment->metrics());
  if (!time_metrics.ok()) return time_metrics.status();
  server->time_metrics_ = *time_metrics;
  grpc::ServerBuilder builder;
  SetArguments(options, &builder);
  builder.RegisterAsyncGenericService(&server->service_);
  using Type = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
  if (options.plaintext) {
    server->plaintext_acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
        Type::FROM_FD, grpc::InsecureServerCredentials());
  }
  if (options.secure != nullptr) {
    server->secure_acceptor_ =
        builder.experimental().AddExternalConnectionAcceptor(Type::FROM_FD, options.secure);
  }
  const int threads = options.threads();
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues;
  queues.reserve(threads);
  for (int i = 0; i < threads; ++i) queues.push_back(builder.AddCompletionQueue());
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr) {
    return absl::InternalError("gRPC refused to start a server; its log says why");
  }
  server->serving_ = true;
  for (auto& queue : queues) {
    server->queues_.push_back(
        std::make_unique<GrpcQueue>(std::move(queue), server->server_->c_server(), &server->limits_,
                                    &server->time_metrics_, environment, &server->serving_));
    absl::Status status = server->queues_.back()->Start();
    if (status.ok()) continue;
    // Leaked: what its queue was asked for already needs a thread to be ended.
    static_cast<void>(server.release());
    return status;
  }
  return server;
}

GrpcServer::~GrpcServer() {
  if (!drained_) Drain(0);
}

void GrpcServer::HandlePlaintext(int descriptor) { Handle(plaintext_acceptor_.get(), descriptor); }

void GrpcServer::HandleSecure(int descriptor) { Handle(secure_acceptor_.get(), descriptor); }

void GrpcServer::Handle(grpc::experimental::ExternalConnectionAcceptor* acceptor, int descriptor) {
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
  parameters.listener_fd = -1;
  parameters.fd = descriptor;
  acceptor->HandleNewConnection(&parameters);
}

void GrpcServer::SetServing(bool serving) {
  serving_ = serving;
  for (const auto& queue : queues_) queue->NotifyServing();
}

size_t GrpcServer::live() const {
  size_t live = 0;
  for (const auto& queue : queues_) live += queue->live();
  return live;
}

LiveRpcs GrpcServer::ListRpcs(size_t max, uint64_t timeout_ms) {
  const auto question = std::make_shared<LiveRpcQuestion>(queues_.size(), max);
  for (const auto& queue : queues_) queue->Ask(question);
  return question->Await(timeout_ms);
}

// gRPC waits 20 s for every client to answer the PING that goes with GOAWAY,
// however idle it is. When no RPC is left, nothing is lost if it waits no longer.
void GrpcServer::Shutdown(uint64_t timeout_ms) {
  std::atomic<bool> done{false};
  const auto timeout = std::chrono::milliseconds(timeout_ms);
  const auto streams_end = std::chrono::steady_clock::now() + timeout;
  const auto shut_down = [&] {
    server_->Shutdown(std::chrono::system_clock::now() + timeout +
                      std::chrono::milliseconds(kLastWordsMs));
    done = true;
  };
  absl::StatusOr<std::thread> shutdown = StartThread("shutting down", shut_down);
  if (!shutdown.ok()) return shut_down();  // it takes the whole of the timeout then
  bool ended = false;
  auto cut_off = std::chrono::steady_clock::now() + kShutdownNotice;
  while (!done && std::chrono::steady_clock::now() < cut_off) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (live() != 0) cut_off = std::chrono::steady_clock::now() + kShutdownNotice;
    if (std::chrono::steady_clock::now() < streams_end || std::exchange(ended, true)) continue;
    for (const auto& queue : queues_) queue->EndStreams();
  }
  if (!done) grpc_server_cancel_all_calls(server_->c_server());
  shutdown->join();
}

bool GrpcServer::Drain(uint64_t timeout_ms) {
  drained_ = true;
  for (const auto& queue : queues_) queue->Drain();
  Shutdown(timeout_ms);
  // gRPC has ended every RPC; the queues' threads may still be closing streams.
  if (!PollUntil(kCloseTimeMs, [this] { return live() == 0; })) return false;
  for (const auto& queue : queues_) queue->Stop();
  return true;
}

}  // namespace callout::host
