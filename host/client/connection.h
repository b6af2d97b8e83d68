// SPDX-License-Identifier: Apache-2.0

// The connection that an RPC of callout-client goes over.
//
// Tested by tests/client/client_test.cc.
#ifndef CALLOUT_HOST_CLIENT_CONNECTION_H_
#define CALLOUT_HOST_CLIENT_CONNECTION_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>

#include "host/client/client_options.h"

namespace callout::host {

struct Connection {
  std::shared_ptr<grpc::Channel> channel;
  bool connected = false;
  std::chrono::system_clock::time_point deadline;  // of all that goes over it: `timeout_ms`
};

// Retries for `wait_ms`.
Connection Connect(const ClientConfig& config);

// "PERMISSION_DENIED: Callout DENIED."
std::string ErrorText(const grpc::Status& status);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CLIENT_CONNECTION_H_
