// SPDX-License-Identifier: Apache-2.0

// One RPC of a unary service: takes the request in, asks the instances of the chain in order,
// and gives one response and a status out. Sans-IO, as Stream is, and driven the same way:
//
//   UnaryRpc rpc(environment, rpc_context, std::make_unique<CheckService>(&limits));
//   rpc.OnMessage(bytes);
//   for (std::string& response : rpc.TakeOutput()) write(response);
//   if (rpc.end()) finish(*rpc.end());
//   arm_timer(rpc.deadline_ns());
//   if (rpc.closed()) delete it;
//
// The request's bytes must stay where they are until it is closed.
//
// An instance is opened, called once and closed. Match, deadlines, deferral, threads for
// blocking hooks and error policies are those of streams. A fault under the policy `fail`
// refuses the request by a response, whoever caused it: an error of the RPC would let the
// request pass where Envoy fails open. Errors are left for what is no plugin's doing: a request
// that is none, and the end of a drain.
//
// Not thread-safe; other threads reach it through RpcContext::Post only.
#ifndef CALLOUT_HOST_UNARY_UNARY_RPC_H_
#define CALLOUT_HOST_UNARY_UNARY_RPC_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/container/fixed_array.h"
#include "host/base/heap_bytes.h"
#include "host/plugin/rpc_context.h"
#include "host/stream/chain_rpc.h"
#include "host/stream/live_rpc.h"
#include "host/stream/stream_environment.h"
#include "host/unary/unary_service.h"

namespace callout::host {

class UnaryRpc final : public ChainRpc {
 public:
  // `environment` and `rpc` outlive it.
  UnaryRpc(StreamEnvironment* environment, RpcContext* rpc, std::unique_ptr<UnaryService> service);

  // --- What the transport has seen ---
  void OnMessage(std::string_view bytes);
  void OnHalfClose();
  void OnCancel();
  void OnDeadline(uint64_t now_ns);
  void OnDrainDeadline();

  // --- What came of it, beside what ChainRpc says ---
  bool wants_message() const { return state_ == State::kWaits && !end_.has_value(); }
  bool at_work() const { return live(); }
  size_t kept_bytes() const { return sizeof(*this) + HeapBytes(parts_) + service_->kept_bytes(); }
  // What it is at, for people.
  void Describe(LiveRpc* rpc) const;

 private:
  enum class State : uint8_t {
    kWaits,  // for the request
    kRuns,   // instances are asked
  };

  // ChainRpc
  Part& part(size_t index) override { return parts_[index]; }
  bool live() const override { return state_ == State::kRuns && !end_.has_value(); }
  void FillCall(Part* part) override;
  std::string_view SeenWith(const Part&) override { return service_->headers_for_log(); }
  void OnWait(Part* part, uint64_t deadline_ns) override;
  void OnCallOver(Part* part, bool counts) override;
  Finding Take(Part* part) override;
  void TakeDenial(Part* part, callout_status_t status, std::string_view why) override;
  void Fault(Part* part, Finding finding) override;

  void Run();
  bool Visit(Part* part);
  void Respond();
  void EndWithError(absl::Status status);

  const std::unique_ptr<UnaryService> service_;
  absl::FixedArray<Part, 1> parts_;
  State state_ = State::kWaits;
  size_t next_ = 0;  // the part to be asked, or that is being asked
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_UNARY_UNARY_RPC_H_
