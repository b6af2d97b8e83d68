// SPDX-License-Identifier: Apache-2.0

// The calls of an RPC that is no ext_proc stream: what unary RPCs (host/unary/) and connections
// (host/l4/) do alike. An instance has one call at a time, and a call takes one response. It is
// opened before its first call and closed once, after its last. Deadlines, deferral, threads for
// blocking hooks, records for observers and the finding of faults are here; which instance is
// called with what, and what a response does, is the derived class's:
//
//   part->phase = CALLOUT_CHECK;
//   if (!Invoke(part)) return;  // OnWait() was called; OnCallOver() will be, when it is finished
//   …                           // Take(), TakeDenial() or Fault() was called
//
// A Stream does the same in a way of its own, since its calls belong to messages and are compiled
// as one piece.
//
// Not thread-safe; other threads reach it through RpcContext::Post only.
//
// Tested by tests/host/unary/unary_rpc_test.cc.
#ifndef CALLOUT_HOST_STREAM_CHAIN_RPC_H_
#define CALLOUT_HOST_STREAM_CHAIN_RPC_H_

#include <callout/plugin.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "host/plugin/call.h"
#include "host/plugin/call_observer.h"
#include "host/plugin/chain.h"
#include "host/plugin/rpc_context.h"
#include "host/plugin/violation.h"
#include "host/stream/stream.h"
#include "host/stream/stream_environment.h"
#include "host/wire/rpc_service.h"

namespace callout::host {

class ChainRpc {
 public:
  ChainRpc(const ChainRpc&) = delete;
  ChainRpc& operator=(const ChainRpc&) = delete;

  void OnPosted(CallState* call, RpcContext::Event event);

  bool has_output() const { return !output_.empty(); }
  Stream::Output TakeOutput() { return std::exchange(output_, {}); }
  const std::optional<absl::Status>& end() const { return end_; }
  bool closed() const { return closed_; }
  uint64_t deadline_ns() const { return deadline_ns_; }

 protected:
  // One instance's part of the RPC.
  struct Part {
    enum class Openness : uint8_t { kUnopened, kOpen, kRefused };

    CallState call;
    callout_phase_t phase = 0;  // of the call
    Openness openness = Openness::kUnopened;
    void* stream = nullptr;  // the plugin's own
  };

  // `environment` and `rpc` outlive it. The derived class calls InitializeState for each part.
  ChainRpc(StreamEnvironment* environment, RpcContext* rpc, RpcService service);
  ~ChainRpc();

  // --- The derived class's ---
  virtual Part& part(size_t index) = 0;
  // Calls are made, and what they come to counts.
  virtual bool live() const = 0;
  // Views, flags and the like: all but phase and deadline.
  virtual void FillCall(Part* part) = 0;
  // What observers are shown beside a call's response.
  virtual std::string_view SeenWith(const Part& part) = 0;
  // The call may take longer, up to this time.
  virtual void OnWait(Part* part, uint64_t deadline_ns) = 0;
  // A call that took longer is over. `counts`: what it has come to has just been settled.
  virtual void OnCallOver(Part* part, bool counts) = 0;
  // What a call has come to that returned CALLOUT_OK. A fault if not ok(), of which nothing is
  // taken.
  virtual Finding Take(Part* part) = 0;
  // The plugin has refused by a status: CALLOUT_PERMISSION_DENIED or _UNAUTHENTICATED.
  virtual void TakeDenial(Part* part, callout_status_t status, std::string_view why) = 0;
  // The call's fault, to be counted by CountFault.
  virtual void Fault(Part* part, Finding finding) = 0;

  // --- Calls ---
  void InitializeState(size_t index, CallState* state);
  // Calls the instance in part->phase, and settles what comes of it. False: that is still to come.
  bool Invoke(Part* part);
  // The call's deadline has come, which is a fault. False: it was finished in time after all, and
  // the event is on its way.
  bool Expire(Part* part);
  uint64_t DeadlineFromNow() const;
  // Counts and tells of a fault. True: by its policy (by default to fail) the instance has no say.
  bool CountFault(Part* part, callout_phase_t phase, const Finding& finding,
                  std::string_view headers_for_log);

  // --- Observers ---
  void BeginWatch(callout_phase_t phase, std::string_view headers);
  template <class Tell>
  void TellObservers(Tell tell) {
    if (observers_ != nullptr) observers_->Each(tell);
  }
  // Of the last of output_.
  void TellResponse();

  // --- The end ---
  void CountRpc(RpcOutcome outcome) { environment_->CountRpc(rpc_service_, outcome); }
  // Nothing is sent any more; `told` is the status that plugins are told at the close.
  void Leave(absl::Status status, callout_status_t told);
  void EndWith(absl::Status status);

  StreamEnvironment* const environment_;
  RpcContext* const rpc_;
  const std::shared_ptr<const Chain> chain_;
  const uint64_t id_;

  std::atomic<bool> cancelled_{false};
  uint64_t begun_ns_ = 0;
  uint64_t deadline_ns_ = 0;
  callout_stream_end_t told_end_ = {};  // for callout_on_stream_close
  Stream::Output output_;
  std::optional<absl::Status> end_;

 private:
  size_t size() const { return chain_->instances.size(); }
  static bool NeedsThread(const Part& part);
  bool Dispatch(Part* part);
  void RunDispatched(Part* part, bool in_time);
  callout_status_t OpenAndCall(Part* part);
  bool Wait(Part* part);
  void OnFinished(Part* part);
  static void EndPartCall(Part* part);
  void Settle(Part* part, callout_status_t status);
  void Overload(Part* part);
  void Notify(Part* part);
  void TellCall(const CallRecord& record, Part* part);
  void TellGivenUp(Part* part);
  // Nothing of the call is used: the RPC is over, or refused, without it.
  void TellOverruled(const CallRecord& record, Part* part);
  void TellEnd();
  void Finish();
  void ClosePart(Part* part);

  const RpcService rpc_service_;
  size_t calls_at_work_ = 0;
  size_t closing_ = 0;
  bool closed_ = false;
  std::unique_ptr<RpcObservers> observers_;  // null: nobody watches the RPC
  bool told_ = false;                        // the observers, of the end
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_CHAIN_RPC_H_
