// SPDX-License-Identifier: Apache-2.0

#include "host/client/process_call.h"

#include <grpcpp/grpcpp.h>

#include <memory>
#include <thread>

#include "envoy/service/ext_proc/v3/external_processor.grpc.pb.h"
#include "envoy/service/network_ext_proc/v3/network_external_processor.grpc.pb.h"
#include "host/client/connection.h"

namespace callout::host {
namespace {

using envoy::service::ext_proc::v3::ExternalProcessor;
using envoy::service::network_ext_proc::v3::NetworkExternalProcessor;

template <class Service, class Request, class Response, class Take>
CallOutcome CallStream(const ClientConfig& config, const std::vector<Request>& messages,
                       Take take) {
  const Connection connection = Connect(config);
  CallOutcome outcome;
  outcome.connected = connection.connected;
  // Without a connection the RPC fails at once and says why there is none.
  const std::unique_ptr<typename Service::Stub> stub = Service::NewStub(connection.channel);
  grpc::ClientContext context;
  context.set_deadline(connection.deadline);
  const auto stream = stub->Process(&context);
  // On its own thread, so that the two sides never wait for each other with full buffers.
  std::thread writer([&] {
    for (const Request& message : messages) {
      if (!stream->Write(message)) return;  // the server has ended the RPC
    }
    stream->WritesDone();
  });
  Response answer;
  while (stream->Read(&answer)) {
    ++outcome.answers;
    take(answer);
  }
  writer.join();
  const grpc::Status status = stream->Finish();
  // It may have come while the last attempt was given up.
  outcome.connected |= status.ok() || outcome.answers > 0;
  if (!status.ok()) outcome.error = ErrorText(status);
  return outcome;
}

}  // namespace

CallOutcome CallProcess(const ClientConfig& config, const std::vector<ProcessingRequest>& messages,
                        const std::function<void(const ProcessingResponse&)>& take) {
  bool immediate = false;
  CallOutcome outcome = CallStream<ExternalProcessor, ProcessingRequest, ProcessingResponse>(
      config, messages, [&](const ProcessingResponse& answer) {
        immediate |= answer.has_immediate_response() || answer.has_streamed_immediate_response();
        take(answer);
      });
  outcome.immediate = immediate;
  return outcome;
}

CallOutcome CallNetwork(const ClientConfig& config, const std::vector<NetworkRequest>& messages,
                        const std::function<void(const NetworkResponse&)>& take) {
  return CallStream<NetworkExternalProcessor, NetworkRequest, NetworkResponse>(config, messages,
                                                                               take);
}

}  // namespace callout::host
