// SPDX-License-Identifier: Apache-2.0

// One RPC of a unary service: takes the request in, asks the instances of the chain in order,
// and gives one response and a status out. Sans-IO, as Stream is, and driven the same way:
//
//     UnaryRpc rpc(environment, rpc_context,
//     std::make_unique<CheckService>(&environment->limits())); rpc.OnMessage(bytes); for (auto&
//     response : rpc.TakeOutput()) write(response); if (rpc.end()) finish(*rpc.end());
//     arm_timer(rpc.deadline_ns());
//     if (rpc.closed()) delete it;
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

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/fixed_array.h"
#include "absl/status/status.h"
#include "host/plugin/chain.h"
#include "host/plugin/rpc_context.h"
#include "host/stream/live_rpc.h"
#include "host/stream/stream.h"
#include "host/stream/stream_environment.h"
#include "host/unary/unary_service.h"

namespace callout::host {

class UnaryRpc {
 public:
  // `environment` and `rpc` outlive it.
  UnaryRpc(StreamEnvironment* environment, RpcContext* rpc, std::unique_ptr<UnaryService> service);
  ~UnaryRpc();
  UnaryRpc(const UnaryRpc&) = delete;
  UnaryRpc& operator=(const UnaryRpc&) = delete;

  // --- What the transport has seen ---
  void OnMessage(std::string_view bytes);
  void OnHalfClose();
  void OnCancel();
  void OnPosted(CallState* call, RpcContext::Event event);
  void OnDeadline(uint64_t now_ns);
  void OnDrainDeadline();

  // --- What came of it ---
  bool wants_message() const { return state_ == State::kWaits && !end_.has_value(); }
  bool at_work() const { return state_ == State::kRuns; }
  bool has_output() const { return !output_.empty(); }
  Stream::Output TakeOutput() { return std::exchange(output_, {}); }
  const std::optional<absl::Status>& end() const { return end_; }
  bool closed() const { return closed_; }
  uint64_t deadline_ns() const { return deadline_ns_; }
  // What it is at, for people.
  void Describe(LiveRpc* rpc) const;

 private:
  enum class State : uint8_t {
    kWaits,  // for the request
    kRuns,   // instances are asked
    kOver,
  };

  // One instance's part of it.
  struct Part {
    enum class Openness : uint8_t { kUnopened, kOpen, kRefused };

    CallState call;
    callout_phase_t phase = 0;  // of the call
    Openness openness = Openness::kUnopened;
    void* stream = nullptr;  // the plugin's own
  };

  bool live() const { return state_ == State::kRuns; }
  void Run();
  bool Visit(Part* part);
  bool Invoke(Part* part);
  void InitializeState(size_t part, CallState* state);
  bool Dispatch(Part* part);
  bool NeedsThread(const Part& part) const;
  void RunDispatched(Part* part, bool in_time);
  callout_status_t OpenAndCall(Part* part);
  bool Open(Part* part, uint64_t* now_ns);
  void BeginCall(Part* part, uint64_t now_ns);
  bool Wait(Part* part);
  void OnFinished(Part* part);
  void Settle(Part* part, callout_status_t status);
  void BeginWatch();
  void TellCall(const CallRecord& record, Part* part);
  void TellGivenUp(Part* part);
  void TellEnd();
  void Fault(Part* part, Finding finding);
  void Overload(Part* part);
  void Respond();
  void End(absl::Status status);
  void Finish();
  void Notify(Part* part);
  void ClosePart(Part* part);

  StreamEnvironment* const environment_;
  RpcContext* const rpc_;
  const std::unique_ptr<UnaryService> service_;
  const std::shared_ptr<const Chain> chain_;
  absl::FixedArray<Part, 1> parts_;
  const uint64_t id_;

  State state_ = State::kWaits;
  size_t next_ = 0;  // the part to be asked, or that is being asked
  size_t calls_at_work_ = 0;
  size_t closing_ = 0;
  bool closed_ = false;
  uint64_t deadline_ns_ = 0;
  std::unique_ptr<RpcObservers> observers_;  // null: nobody watches the RPC
  std::atomic<bool> cancelled_{false};
  uint64_t begun_ns_ = 0;
  bool told_ = false;                   // the observers, of the end
  callout_stream_end_t told_end_ = {};  // for callout_on_stream_close
  Stream::Output output_;
  std::optional<absl::Status> end_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_UNARY_UNARY_RPC_H_
