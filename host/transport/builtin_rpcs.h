// SPDX-License-Identifier: Apache-2.0

// The services that stand on every listener beside those that plugins answer:
// grpc.health.v1.Health and server reflection (v1alpha and v1), answered here,
// without any I/O.
//
//   std::unique_ptr<BuiltinRpc> rpc = MakeBuiltinRpc(path, &serving);
//   if (rpc == nullptr) fail(UnknownMethod(path));
//   … as any RpcHandler …
//
// An RPC belongs to one thread at a time.
#ifndef CALLOUT_HOST_TRANSPORT_BUILTIN_RPCS_H_
#define CALLOUT_HOST_TRANSPORT_BUILTIN_RPCS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "host/transport/rpc_handler.h"
#include "host/wire/rpc_service.h"

namespace callout::host {

inline constexpr char kProcessPath[] = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

// The full names of those on every listener.
inline constexpr std::array<std::string_view, 3> kBuiltinServiceNames = {
    "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection"};

// And with them those of the services that plugins answer, of which `served` are on: what
// reflection lists and health knows.
std::vector<std::string_view> ServiceNames(RpcServices served);

// What the built-in RPCs share: they answer at once, and wait for nothing of ours.
class BuiltinRpc : public RpcHandler {
 public:
  void OnCancel() override {}
  void OnPosted(CallState* /*call*/, RpcContext::Event /*event*/) override {}
  void OnDeadline(uint64_t /*now_ns*/) override {}
  void OnServingChanged() override {}
  // Says what has changed last, and ends: a watch would go on for ever.
  void OnDrain() override;

  bool wants_message() const override { return !end_.has_value(); }
  bool quiet() const override { return false; }
  bool has_output() const override { return !output_.empty(); }
  Output TakeOutput() override { return std::exchange(output_, {}); }
  const std::optional<absl::Status>& end() const override { return end_; }
  bool closed() const override { return true; }
  uint64_t deadline_ns() const override { return 0; }
  void Describe(LiveRpc* rpc) const override { rpc->kind = "health or reflection"; }

 protected:
  Output output_;
  std::optional<absl::Status> end_;
};

// Which services a listener has: all, all but reflection, or for load balancers
// grpc.health.v1 alone, which knows the names of all.
enum class ServiceSet : uint8_t { kAll, kWithoutReflection, kHealth };

// Null: there is no such method. `serving`, which outlives the RPC: whether health
// says SERVING. `served`: the services that plugins answer now.
std::unique_ptr<BuiltinRpc> MakeBuiltinRpc(std::string_view path, const std::atomic<bool>* serving,
                                           ServiceSet services = ServiceSet::kAll,
                                           RpcServices served = RpcServices::All());

// What one RPC of reflection is answered; then it ends with RESOURCE_EXHAUSTED. A tool
// asks a few dozen times.
inline constexpr int kReflectionQuestionsMax = 1000;

// The end of an RPC for a method that is not there: UNIMPLEMENTED, which names the
// method, up to 100 bytes of it, and the services that are there.
absl::Status UnknownMethod(std::string_view path, ServiceSet services = ServiceSet::kAll,
                           RpcServices served = RpcServices::All());

// For builtin_rpcs.cc.
std::unique_ptr<BuiltinRpc> MakeReflectionRpc(RpcServices served);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_BUILTIN_RPCS_H_
