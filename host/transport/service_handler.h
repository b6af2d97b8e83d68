// SPDX-License-Identifier: Apache-2.0

// The RPCs of services other than ext_proc as handlers, by their path: a UnaryRpc, or the
// DataStream of network ext_proc.
//
// Tested by tests/host/transport/service_handler_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_SERVICE_HANDLER_H_
#define CALLOUT_HOST_TRANSPORT_SERVICE_HANDLER_H_

#include <memory>
#include <string_view>

#include "host/plugin/rpc_context.h"
#include "host/stream/stream_environment.h"
#include "host/transport/rpc_handler.h"

namespace callout::host {

// Null: `path` is of no such service, or of one that is not answered now. Both outlive it.
std::unique_ptr<RpcHandler> MakeServiceHandler(std::string_view path,
                                               StreamEnvironment* environment, RpcContext* rpc);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_SERVICE_HANDLER_H_
