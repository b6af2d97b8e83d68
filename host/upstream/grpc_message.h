// SPDX-License-Identifier: Apache-2.0

// A unary gRPC call in the terms of HTTP: its message's frame, and what a response says.
//
//   request.body = FrameGrpcMessage(message);
//   const GrpcReply reply = ReadGrpcReply(response);
//
// No compression is offered, so a compressed message is invalid.
//
// Stateless; any thread.
#ifndef CALLOUT_HOST_UPSTREAM_GRPC_MESSAGE_H_
#define CALLOUT_HOST_UPSTREAM_GRPC_MESSAGE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "host/upstream/upstream_message.h"

namespace callout::host {

inline constexpr size_t kGrpcFrameBytes = 5;

std::string FrameGrpcMessage(std::string_view message);

// "1500m", for grpc-timeout.
std::string GrpcTimeout(uint64_t timeout_ns);

struct GrpcReply {
  bool valid = false;    // it is gRPC
  std::string why = {};  // unless it is
  callout_status_t status = CALLOUT_OK;
  std::string message = {};  // grpc-message
  std::string body = {};     // the serialized message; "" with an error
};
// A proxy's response without grpc-status is invalid, too; `why` has its HTTP status.
GrpcReply ReadGrpcReply(const UpstreamResponse& response);

}  // namespace callout::host

#endif  // CALLOUT_HOST_UPSTREAM_GRPC_MESSAGE_H_
