// SPDX-License-Identifier: Apache-2.0

#include "host/transport/service_handler.h"

#include <utility>

#include "host/l4/data_stream.h"
#include "host/unary/check_service.h"
#include "host/unary/rate_limit_service.h"
#include "host/unary/unary_rpc.h"

namespace callout::host {

namespace {

class UnaryHandler final : public RpcHandler {
 public:
  UnaryHandler(StreamEnvironment* environment, RpcContext* rpc,
               std::unique_ptr<UnaryService> service)
      : rpc_(environment, rpc, std::move(service)) {}

  void OnMessage(std::string_view bytes) override { rpc_.OnMessage(bytes); }
  void OnHalfClose() override { rpc_.OnHalfClose(); }
  void OnCancel() override { rpc_.OnCancel(); }
  void OnPosted(CallState* call, RpcContext::Event event) override { rpc_.OnPosted(call, event); }
  void OnDeadline(uint64_t now_ns) override { rpc_.OnDeadline(now_ns); }
  void OnServingChanged() override {}
  void OnDrain() override {}
  void OnDrainDeadline() override { rpc_.OnDrainDeadline(); }

  bool wants_message() const override { return rpc_.wants_message(); }
  bool quiet() const override { return false; }
  bool has_output() const override { return rpc_.has_output(); }
  Output TakeOutput() override { return rpc_.TakeOutput(); }
  const std::optional<absl::Status>& end() const override { return rpc_.end(); }
  bool closed() const override { return rpc_.closed(); }
  uint64_t deadline_ns() const override { return rpc_.deadline_ns(); }
  bool at_work() const override { return rpc_.at_work(); }
  void Describe(LiveRpc* rpc) const override { rpc_.Describe(rpc); }

 private:
  UnaryRpc rpc_;
};

class DataHandler final : public RpcHandler {
 public:
  DataHandler(StreamEnvironment* environment, RpcContext* rpc) : stream_(environment, rpc) {}

  void OnMessage(std::string_view bytes) override { stream_.OnMessage(bytes); }
  void OnHalfClose() override { stream_.OnHalfClose(); }
  void OnCancel() override { stream_.OnCancel(); }
  void OnPosted(CallState* call, RpcContext::Event event) override {
    stream_.OnPosted(call, event);
  }
  void OnDeadline(uint64_t now_ns) override { stream_.OnDeadline(now_ns); }
  void OnServingChanged() override {}
  void OnDrain() override {}
  void OnDrainDeadline() override { stream_.OnDrainDeadline(); }

  bool wants_message() const override { return stream_.wants_message(); }
  bool quiet() const override { return stream_.idle(); }
  bool has_output() const override { return stream_.has_output(); }
  Output TakeOutput() override { return stream_.TakeOutput(); }
  const std::optional<absl::Status>& end() const override { return stream_.end(); }
  bool closed() const override { return stream_.closed(); }
  uint64_t deadline_ns() const override { return stream_.deadline_ns(); }
  size_t kept_bytes() const override { return stream_.kept_bytes(); }
  bool at_work() const override { return !stream_.idle(); }

 private:
  DataStream stream_;
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
