// The services that stand beside ExternalProcessor on every listener:
// grpc.health.v1.Health and server reflection (v1alpha and v1), answered here,
// without any I/O.
//
//   auto rpc = MakeBuiltinRpc(path, &serving);        // null: no such method
//   rpc->OnMessage(bytes);
//   for (std::string& answer : rpc->TakeOutput()) write(answer);
//   if (rpc->end()) finish(*rpc->end());
//
// An RPC belongs to one thread at a time.
#ifndef CALLOUT_HOST_TRANSPORT_BUILTIN_RPCS_H_
#define CALLOUT_HOST_TRANSPORT_BUILTIN_RPCS_H_

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace callout::host {

inline constexpr char kProcessPath[] = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

class BuiltinRpc {
 public:
  virtual ~BuiltinRpc() = default;

  virtual void OnMessage(std::string_view bytes) = 0;
  // The client has sent its last message.
  virtual void OnHalfClose() = 0;
  // What health says may have changed.
  virtual void OnServingChanged() {}

  std::vector<std::string> TakeOutput() { return std::exchange(output_, {}); }
  // Set once: the RPC is over with this status, after the output.
  const std::optional<absl::Status>& end() const { return end_; }

 protected:
  std::vector<std::string> output_;
  std::optional<absl::Status> end_;
};

// `serving`, which outlives the RPC: whether health says SERVING. `reflection`: whether
// reflection is served. Null: there is no such method.
std::unique_ptr<BuiltinRpc> MakeBuiltinRpc(std::string_view path, const std::atomic<bool>* serving,
                                           bool reflection = true);

// UNIMPLEMENTED, for an RPC of a method that is not served. Names it.
absl::Status UnknownMethod(std::string_view path);

// What one RPC of reflection is answered; then it ends with RESOURCE_EXHAUSTED. A tool
// asks a few dozen times.
inline constexpr int kReflectionQuestionsMax = 1000;

// For builtin_rpcs.cc.
std::unique_ptr<BuiltinRpc> MakeReflectionRpc();

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_BUILTIN_RPCS_H_
