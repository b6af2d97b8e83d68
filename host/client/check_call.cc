// SPDX-License-Identifier: Apache-2.0

#include "host/client/check_call.h"

#include <memory>

#include "envoy/service/auth/v3/external_auth.grpc.pb.h"
#include "host/client/connection.h"

namespace callout::host {

CallOutcome CallCheck(const ClientConfig& config, const std::vector<CheckRequest>& requests,
                      const std::function<void(const CheckResponse&)>& take) {
  const Connection connection = Connect(config);
  CallOutcome outcome;
  outcome.connected = connection.connected;
  const auto stub = envoy::service::auth::v3::Authorization::NewStub(connection.channel);
  for (const CheckRequest& request : requests) {
    grpc::ClientContext context;
    context.set_deadline(connection.deadline);
    CheckResponse response;
    const grpc::Status status = stub->Check(&context, request, &response);
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

}  // namespace callout::host
