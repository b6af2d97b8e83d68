// SPDX-License-Identifier: Apache-2.0

#include "host/client/unary_call.h"

#include <memory>

#include "envoy/service/auth/v3/external_auth.grpc.pb.h"
#include "envoy/service/ratelimit/v3/rls.grpc.pb.h"
#include "host/client/connection.h"

namespace callout::host {

namespace {

// `ask(stub, context, request, response)` is the RPC.
template <class Service, class Request, class Response, class Ask>
CallOutcome CallUnary(const ClientConfig& config, const std::vector<Request>& requests, Ask ask,
                      const std::function<void(const Response&)>& take) {
  const Connection connection = Connect(config);
  CallOutcome outcome;
  outcome.connected = connection.connected;
  const auto stub = Service::NewStub(connection.channel);
  for (const Request& request : requests) {
    grpc::ClientContext context;
    context.set_deadline(connection.deadline);
    Response response;
    const grpc::Status status = ask(stub.get(), &context, request, &response);
    if (!status.ok()) {
      outcome.error = ErrorText(status);
      return outcome;
    }
    outcome.connected = true;
    ++outcome.answers;
    take(response);
  }
  return outcome;
}

}  // namespace

CallOutcome CallCheck(const ClientConfig& config, const std::vector<CheckRequest>& requests,
                      const std::function<void(const CheckResponse&)>& take) {
  return CallUnary<envoy::service::auth::v3::Authorization>(
      config, requests,
      [](auto* stub, grpc::ClientContext* context, const CheckRequest& request,
         CheckResponse* response) { return stub->Check(context, request, response); },
      take);
}

CallOutcome CallRateLimit(const ClientConfig& config, const std::vector<RateLimitRequest>& requests,
                          const std::function<void(const RateLimitResponse&)>& take) {
  return CallUnary<envoy::service::ratelimit::v3::RateLimitService>(
      config, requests,
      [](auto* stub, grpc::ClientContext* context, const RateLimitRequest& request,
         RateLimitResponse* response) { return stub->ShouldRateLimit(context, request, response); },
      take);
}

}  // namespace callout::host
