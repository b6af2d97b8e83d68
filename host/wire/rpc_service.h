// SPDX-License-Identifier: Apache-2.0

// The services of Envoy's that the host answers with plugins.
//
// Tested by tests/host/transport/builtin_rpcs_test.cc.
#ifndef CALLOUT_HOST_WIRE_RPC_SERVICE_H_
#define CALLOUT_HOST_WIRE_RPC_SERVICE_H_

#include <callout/plugin.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace callout::host {

enum class RpcService : uint8_t { kExtProc, kExtAuthz, kRateLimit, kNetworkExtProc };

struct RpcServiceInfo {
  RpcService service;
  std::string_view name;       // of --services and of the metrics' label
  std::string_view full_name;  // of health and reflection
  std::string_view path;       // of its one method
};

inline constexpr std::array<RpcServiceInfo, 4> kRpcServices = {{
    {RpcService::kExtProc, "ext_proc", "envoy.service.ext_proc.v3.ExternalProcessor",
     "/envoy.service.ext_proc.v3.ExternalProcessor/Process"},
    {RpcService::kExtAuthz, "ext_authz", "envoy.service.auth.v3.Authorization",
     "/envoy.service.auth.v3.Authorization/Check"},
    {RpcService::kRateLimit, "ratelimit", "envoy.service.ratelimit.v3.RateLimitService",
     "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"},
    {RpcService::kNetworkExtProc, "network_ext_proc",
     "envoy.service.network_ext_proc.v3.NetworkExternalProcessor",
     "/envoy.service.network_ext_proc.v3.NetworkExternalProcessor/Process"},
}};

inline constexpr const RpcServiceInfo& InfoOf(RpcService service) {
  return kRpcServices[static_cast<size_t>(service)];
}

// The service that calls of a phase belong to.
inline constexpr RpcService ServiceOf(callout_phase_t phase) {
  if (phase == CALLOUT_CHECK) return RpcService::kExtAuthz;
  if (phase == CALLOUT_RATE_LIMIT) return RpcService::kRateLimit;
  return phase > CALLOUT_CHECK ? RpcService::kNetworkExtProc : RpcService::kExtProc;
}

// A set of services.
class RpcServices {
 public:
  constexpr RpcServices() = default;
  static constexpr RpcServices All() { return FromBits((1u << kRpcServices.size()) - 1); }
  static constexpr RpcServices FromBits(uint32_t bits) {
    RpcServices services;
    services.bits_ = bits;
    return services;
  }

  constexpr void Add(RpcService service) { bits_ |= BitOf(service); }
  constexpr void Add(RpcServices services) { bits_ |= services.bits_; }
  constexpr bool Has(RpcService service) const { return (bits_ & BitOf(service)) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr uint32_t bits() const { return bits_; }

 private:
  static constexpr uint32_t BitOf(RpcService service) {
    return 1u << static_cast<uint32_t>(service);
  }
  uint32_t bits_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_RPC_SERVICE_H_
