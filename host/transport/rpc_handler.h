// SPDX-License-Identifier: Apache-2.0

// What answers one RPC, as transports see it: a Process RPC's Stream, or one of the
// built-in RPCs (health, reflection). A transport feeds it and after each On…()
// looks at what came of it:
//
//   RpcHolder handler;
//   handler.BeginStream(environment, this);           // or handler.Begin(MakeBuiltinRpc(…))
//   handler->OnMessage(bytes);                         // only while wants_message()
//   for (std::string& response : handler->TakeOutput()) write(response);
//   if (handler->end()) finish(*handler->end());
//   arm_timer(handler->deadline_ns());
//   if (handler->closed()) handler.Reset();
//
// A handler belongs to one thread at a time. It never blocks for I/O.
#ifndef CALLOUT_HOST_TRANSPORT_RPC_HANDLER_H_
#define CALLOUT_HOST_TRANSPORT_RPC_HANDLER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "host/plugin/rpc_context.h"
#include "host/stream/live_rpc.h"
#include "host/stream/stream.h"

namespace callout::host {

class RpcHandler {
 public:
  using Output = Stream::Output;

  virtual ~RpcHandler() = default;

  // --- What the transport has seen ---
  // The bytes stay where they are until wants_message() is true again or the
  // handler is closed, and longer if it takes them over (RpcContext::KeepMessage).
  virtual void OnMessage(std::string_view bytes) = 0;
  virtual void OnHalfClose() = 0;  // the client has sent its last message
  virtual void OnCancel() = 0;     // nothing can be sent any more
  // The transport ends the RPC with an error of its own, which goes out after what comes of this.
  virtual void OnFailure() { OnCancel(); }
  virtual void OnPosted(CallState* call, RpcContext::Event event) = 0;
  virtual void OnDeadline(uint64_t now_ns) = 0;  // deadline_ns() has come
  virtual void OnServingChanged() = 0;           // what health says has changed
  virtual void OnDrain() = 0;                    // the server wants the RPC to end
  virtual void OnDrainDeadline() {}              // and has waited for it for long enough

  // --- What came of it ---
  virtual bool wants_message() const = 0;
  // Without the client's next message nothing comes of it but its end.
  virtual bool quiet() const = 0;
  virtual bool has_output() const = 0;
  virtual Output TakeOutput() = 0;  // whole messages, in order
  // Set once: the RPC is over with this status, after the output.
  virtual const std::optional<absl::Status>& end() const = 0;
  virtual bool closed() const = 0;           // it may be destroyed
  virtual uint64_t deadline_ns() const = 0;  // CLOCK_MONOTONIC; 0: never
  // What it takes in memory beside itself, that of a handler which is no stream included.
  virtual size_t kept_bytes() const { return 0; }
  // To half-close is to fail it: who has left is to be told of by OnCancel.
  virtual bool fails_at_half_close() const { return false; }
  // A message of the client's is under way in it.
  virtual bool at_work() const { return false; }
  // Sets kind, stream_id, phase, plugin and state.
  virtual void Describe(LiveRpc* rpc) const = 0;
};

// A Stream, or what is driven as one is, as a handler. The derived class says the rest.
template <class Rpc>
class HandlerOf : public RpcHandler {
 public:
  void OnMessage(std::string_view bytes) override { rpc_.OnMessage(bytes); }
  void OnHalfClose() override { rpc_.OnHalfClose(); }
  void OnCancel() override { rpc_.OnCancel(); }
  void OnPosted(CallState* call, RpcContext::Event event) override { rpc_.OnPosted(call, event); }
  void OnDeadline(uint64_t now_ns) override { rpc_.OnDeadline(now_ns); }
  void OnServingChanged() override {}
  void OnDrain() override {}
  void OnDrainDeadline() override { rpc_.OnDrainDeadline(); }

  bool wants_message() const override { return rpc_.wants_message(); }
  bool has_output() const override { return rpc_.has_output(); }
  Output TakeOutput() override { return rpc_.TakeOutput(); }
  const std::optional<absl::Status>& end() const override { return rpc_.end(); }
  bool closed() const override { return rpc_.closed(); }
  uint64_t deadline_ns() const override { return rpc_.deadline_ns(); }
  void Describe(LiveRpc* rpc) const override { rpc_.Describe(rpc); }

 protected:
  template <class... Args>
  explicit HandlerOf(Args&&... args) : rpc_(std::forward<Args>(args)...) {}

  Rpc rpc_;
};

class StreamHandler final : public HandlerOf<Stream> {
 public:
  // Both outlive it.
  StreamHandler(StreamEnvironment* environment, RpcContext* rpc) : HandlerOf(environment, rpc) {}

  void OnFailure() override { rpc_.OnFailure(); }
  // A call that is under way has a deadline. At the end of a drain, a body that is owed has the
  // stream respond before the error.
  bool quiet() const override { return !rpc_.may_speak_unasked() && !rpc_.fails_at_half_close(); }
  size_t kept_bytes() const override { return rpc_.kept_bytes() + rpc_.owned_bytes(); }
  bool fails_at_half_close() const override { return rpc_.fails_at_half_close(); }
  bool at_work() const override { return !rpc_.idle(); }
  template <class Take>
  void DrainOutput(Take take) {
    rpc_.DrainOutput(take);
  }
};

// The handler of one RPC, if there is one yet. A stream lies in the holder itself:
// beginning it allocates nothing.
class RpcHolder {
 public:
  // Once until Reset(), one of the two.
  void BeginStream(StreamEnvironment* environment, RpcContext* rpc) {
    handler_ = &stream_.emplace(environment, rpc);
  }
  void Begin(std::unique_ptr<RpcHandler> handler) {
    owned_ = std::move(handler);
    handler_ = owned_.get();
  }
  void Reset() {
    handler_ = nullptr;
    stream_.reset();
    owned_.reset();
  }

  explicit operator bool() const { return handler_ != nullptr; }
  RpcHandler* operator->() const { return handler_; }

  // What transports do and ask for each message, as of the handler: nearly all are
  // streams, whose part costs no virtual call here.
  void OnMessage(std::string_view bytes) {
    if (stream_.has_value()) return stream_->OnMessage(bytes);
    handler_->OnMessage(bytes);
  }
  bool wants_message() const {
    return stream_.has_value() ? stream_->wants_message() : handler_->wants_message();
  }
  bool has_output() const {
    return stream_.has_value() ? stream_->has_output() : handler_->has_output();
  }
  const std::optional<absl::Status>& end() const {
    return stream_.has_value() ? stream_->end() : handler_->end();
  }
  bool closed() const { return stream_.has_value() ? stream_->closed() : handler_->closed(); }
  uint64_t deadline_ns() const {
    return stream_.has_value() ? stream_->deadline_ns() : handler_->deadline_ns();
  }
  size_t kept_bytes() const {
    return stream_.has_value() ? stream_->kept_bytes() : handler_->kept_bytes();
  }
  // Gives each message of TakeOutput() to `take`, which may throw.
  template <class Take>
  void DrainOutput(Take take) {
    if (stream_.has_value()) return stream_->DrainOutput(take);
    for (std::string& response : handler_->TakeOutput()) take(std::move(response));
  }

 private:
  RpcHandler* handler_ = nullptr;
  std::optional<StreamHandler> stream_;
  std::unique_ptr<RpcHandler> owned_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_RPC_HANDLER_H_
