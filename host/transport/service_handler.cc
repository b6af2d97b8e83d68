// SPDX-License-Identifier: Apache-2.0

#include "host/transport/service_handler.h"

#include <utility>

#include "host/l4/data_stream.h"
#include "host/unary/check_service.h"
#include "host/unary/rate_limit_service.h"
#include "host/unary/unary_rpc.h"

namespace callout::host {

namespace {

class UnaryHandler final : public HandlerOf<UnaryRpc> {
 public:
  UnaryHandler(StreamEnvironment* environment, RpcContext* rpc,
               std::unique_ptr<UnaryService> service)
      : HandlerOf(environment, rpc, std::move(service)) {}

  bool quiet() const override { return false; }
  size_t kept_bytes() const override { return rpc_.kept_bytes(); }
  bool at_work() const override { return rpc_.at_work(); }
};

class DataHandler final : public HandlerOf<DataStream> {
 public:
  DataHandler(StreamEnvironment* environment, RpcContext* rpc) : HandlerOf(environment, rpc) {}

  bool quiet() const override { return rpc_.idle(); }
  size_t kept_bytes() const override { return rpc_.kept_bytes(); }
  bool at_work() const override { return !rpc_.idle(); }
};

}  // namespace

std::unique_ptr<RpcHandler> MakeServiceHandler(std::string_view path,
                                               StreamEnvironment* environment, RpcContext* rpc) {
  const RpcServices services = environment->services();
  if (path == InfoOf(RpcService::kNetworkExtProc).path) {
    if (!services.Has(RpcService::kNetworkExtProc)) return nullptr;
    return std::make_unique<DataHandler>(environment, rpc);
  }
  std::unique_ptr<UnaryService> service;
  if (path == InfoOf(RpcService::kExtAuthz).path) {
    service = std::make_unique<CheckService>(&environment->limits());
  } else if (path == InfoOf(RpcService::kRateLimit).path) {
    service = std::make_unique<RateLimitService>(&environment->limits());
  }
  if (service == nullptr || !services.Has(service->service())) return nullptr;
  return std::make_unique<UnaryHandler>(environment, rpc, std::move(service));
}

}  // namespace callout::host
