// SPDX-License-Identifier: Apache-2.0

// A UnaryRpc as a handler, by the path of its service.
//
// Tested by tests/host/transport/unary_handler_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_UNARY_HANDLER_H_
#define CALLOUT_HOST_TRANSPORT_UNARY_HANDLER_H_

#include <memory>
#include <string_view>

#include "host/plugin/rpc_context.h"
#include "host/stream/stream_environment.h"
#include "host/transport/rpc_handler.h"

namespace callout::host {

// Null: `path` is of no unary service, or of one that is not answered now. Both outlive it.
std::unique_ptr<RpcHandler> MakeUnaryHandler(std::string_view path, StreamEnvironment* environment,
                                             RpcContext* rpc);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_UNARY_HANDLER_H_
