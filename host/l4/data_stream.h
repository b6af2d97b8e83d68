// SPDX-License-Identifier: Apache-2.0

// One Process RPC of network ext_proc: the bytes of a TCP connection on their way through the
// chain. Sans-IO, as Stream is, and driven the same way.
//
// Each direction is a line in which no message overtakes another. It goes from instance to
// instance, from the client forwards and to the client in reverse. A deferred call delays what
// comes after it in its direction; the other direction only waits for the same instance, whose
// hooks never overlap.
//
// Every message gets one response, with the bytes of its own direction and its own end. A plugin
// that closes the connection, a fault under the policies `fail` and `deny`, and a denial by a
// status end it: after that response the others get none. A fault resets the connection, so that no
// peer takes what it has got for all there was.
//
// The host never ends the stream with OK while Envoy has the connection open: the rest would pass
// unseen, and what Envoy has sent meanwhile would be lost. A drain waits for connections to end,
// and then ends them with an error.
//
// Not thread-safe; other threads reach it through RpcContext::Post only.
//
// Tested by tests/host/l4/data_stream_test.cc.
#ifndef CALLOUT_HOST_L4_DATA_STREAM_H_
#define CALLOUT_HOST_L4_DATA_STREAM_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/fixed_array.h"
#include "absl/status/status.h"
#include "host/plugin/call_observer.h"
#include "host/plugin/chain.h"
#include "host/plugin/rpc_context.h"
#include "host/plugin/violation.h"
#include "host/stream/stream.h"
#include "host/stream/stream_environment.h"
#include "host/wire/network_message.h"

namespace callout::host {

class DataStream {
 public:
  // Both outlive it.
  DataStream(StreamEnvironment* environment, RpcContext* rpc);
  ~DataStream();
  DataStream(const DataStream&) = delete;
  DataStream& operator=(const DataStream&) = delete;

  // --- What the transport has seen ---
  void OnMessage(std::string_view bytes);
  void OnHalfClose();
  void OnCancel();
  void OnPosted(CallState* call, RpcContext::Event event);
  void OnDeadline(uint64_t now_ns);
  void OnDrainDeadline();

  // --- What came of it ---
  // False at --max_queued_bytes and --max_queued_messages.
  bool wants_message() const;
  bool has_output() const { return !output_.empty(); }
  Stream::Output TakeOutput() { return std::exchange(output_, {}); }
  const std::optional<absl::Status>& end() const { return end_; }
  bool closed() const { return closed_; }
  uint64_t deadline_ns() const { return deadline_ns_; }
  size_t kept_bytes() const { return queued_bytes_ + facts_bytes_; }
  // No message waits for its response.
  bool idle() const { return lines_[0].empty() && lines_[1].empty(); }

 private:
  enum class State : uint8_t {
    kOpen,
    kShut,  // Envoy was told to close the connection
    kOver,
  };
  enum class Step : uint8_t { kPassed, kAgain, kWaits };

  struct Message {
    std::string bytes;
    NetworkRequestView view;  // of `bytes`
    size_t position = 0;      // in the order of its direction
    bool called = false;      // a call of it is under way
    uint64_t begun_ns = 0;
    uint64_t deadline_ns = 0;
    // As the instances before have left it.
    std::string_view data;
    bool is_modified = false;
    std::string new_data;
    std::string metadata;  // a Struct
    bool has_metadata = false;
    // What an instance is shown, where that is not in `bytes`; the older ones for late calls.
    std::deque<std::string> shown;
    size_t kept_bytes = 0;

    size_t line() const { return view.kind == NetworkKind::kWrite ? 1 : 0; }
  };
  using MessagePointer = std::shared_ptr<Message>;

  // One instance's part of it.
  struct Part {
    enum class Openness : uint8_t { kUnopened, kOpen, kRefused };
    // What it has been shown of a direction.
    struct Shown {
      bool begun = false;
      uint64_t bytes = 0;
    };

    CallState call;
    MessagePointer message;     // of the call under way
    callout_phase_t phase = 0;  // of the call
    Openness openness = Openness::kUnopened;
    bool fits = false;       // it has a hook, and the connection matches
    bool connected = false;  // its callout_on_connection has been called, or it has none
    std::array<Shown, 2> shown;
    void* stream = nullptr;  // the plugin's own
  };

  bool live() const { return state_ == State::kOpen; }
  void TakeFacts(const NetworkRequestView& view);
  void Match();
  void Run();
  void RunLine(size_t line);
  Part* PartAt(const Message& message);
  static callout_phase_t PhaseFor(const Message& message, const Part& part);
  Step Visit(const MessagePointer& message, Part* part);
  Step Invoke(const MessagePointer& message, Part* part);
  static Step StepAfter(Part* part);
  void InitializeState(size_t part, CallState* state);
  void FillCall(Message* message, Part* part);
  static void EndPartCall(Part* part);
  static bool NeedsThread(const Part& part);
  Step Dispatch(const MessagePointer& message, Part* part);
  void RunDispatched(Part* part, bool in_time);
  callout_status_t OpenAndCall(Part* part);
  bool Wait(const MessagePointer& message, Part* part);
  void OnFinished(Part* part);
  void OnOverdue(Message* message);
  void Settle(Message* message, Part* part, callout_status_t status);
  Finding Take(Message* message, Part* part);
  void BeginWatch();
  void TellCall(const CallRecord& record, Part* part);
  void TellGivenUp(Part* part);
  void TellResponse();
  void TellEnd();
  void Charge(Message* message, size_t bytes);
  void Fault(Message* message, Part* part, callout_phase_t phase, Finding finding);
  void Overload(Message* message, Part* part);
  void Respond(const Message& message);
  void Shut(const Message& message, ConnectionStatus how);
  void End(absl::Status status, callout_outcome_t outcome);
  void Finish();
  void Notify(Part* part);
  void ClosePart(Part* part);
  void UpdateDeadline();
  uint64_t DeadlineFromNow() const;

  StreamEnvironment* const environment_;
  RpcContext* const rpc_;
  const std::shared_ptr<const Chain> chain_;
  absl::FixedArray<Part, 1> parts_;
  const uint64_t id_;

  State state_ = State::kOpen;
  std::array<std::deque<MessagePointer>, 2> lines_;  // from the client, and to it
  size_t queued_bytes_ = 0;
  bool matched_ = false;
  bool half_closed_ = false;
  // Records of attributes, and the latest metadata; late calls keep those that they were given.
  std::shared_ptr<const std::string> attributes_;
  std::shared_ptr<const std::string> metadata_context_;
  size_t facts_bytes_ = 0;

  size_t calls_at_work_ = 0;
  size_t closing_ = 0;
  bool closed_ = false;
  uint64_t deadline_ns_ = 0;
  std::unique_ptr<RpcObservers> observers_;  // null: nobody watches the RPC
  bool told_ = false;                        // the observers, of the end
  std::atomic<bool> cancelled_{false};
  uint64_t begun_ns_ = 0;
  callout_stream_end_t told_end_ = {};  // for callout_on_stream_close
  Stream::Output output_;
  std::optional<absl::Status> end_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_L4_DATA_STREAM_H_
