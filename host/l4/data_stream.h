// SPDX-License-Identifier: Apache-2.0

// One Process RPC of network ext_proc: the bytes of a TCP connection on their way through the
// chain. Sans-IO, as Stream is, and driven the same way.
//
// Each direction is a line in which no message overtakes another. It goes from instance to
// instance, from the client forwards and to the client in reverse. A deferred call delays what
// comes after it in its direction; the other direction only waits for the same instance, whose
// hooks never overlap, and gets it next.
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
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <string>
#include <string_view>

#include "absl/container/fixed_array.h"
#include "absl/status/status.h"
#include "host/base/heap_bytes.h"
#include "host/plugin/rpc_context.h"
#include "host/plugin/violation.h"
#include "host/stream/chain_rpc.h"
#include "host/stream/live_rpc.h"
#include "host/stream/stream_environment.h"
#include "host/wire/network_message.h"

namespace callout::host {

class DataStream final : public ChainRpc {
 public:
  // Both outlive it.
  DataStream(StreamEnvironment* environment, RpcContext* rpc);

  // --- What the transport has seen ---
  void OnMessage(std::string_view bytes);
  void OnHalfClose();
  void OnCancel();
  void OnDeadline(uint64_t now_ns);
  void OnDrainDeadline();

  // --- What came of it, beside what ChainRpc says ---
  // False at --max_queued_bytes and --max_queued_messages.
  bool wants_message() const;
  // What it takes in memory.
  size_t kept_bytes() const {
    return sizeof(*this) + HeapBytes(parts_) + message_bytes_ + facts_bytes_;
  }
  // No message waits for its response.
  bool idle() const { return lines_[0].empty() && lines_[1].empty(); }
  // What it is at, for people.
  void Describe(LiveRpc* rpc) const;

 private:
  enum class State : uint8_t {
    kOpen,
    kShut,  // Envoy was told to close the connection
  };
  enum class Step : uint8_t { kPassed, kAgain, kWaits };

  struct Message {
    // `total`, which outlives it: of all messages that are there, those of late calls too.
    explicit Message(size_t* total) : all_bytes(total) { *all_bytes += sizeof(Message); }
    ~Message() { *all_bytes -= sizeof(Message) + kept_bytes; }
    Message(const Message&) = delete;
    Message& operator=(const Message&) = delete;

    size_t* const all_bytes;
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
    std::list<std::string> shown;
    size_t kept_bytes = 0;

    size_t line() const { return view.kind == NetworkKind::kWrite ? 1 : 0; }
  };
  using MessagePointer = std::shared_ptr<Message>;

  struct DataPart : Part {
    // What it has been shown of a direction.
    struct Shown {
      bool begun = false;
      uint64_t bytes = 0;
    };

    MessagePointer message;  // of the call under way
    bool fits = false;       // it has a hook, and the connection matches
    bool connected = false;  // its callout_on_connection has been called, or it has none
    bool altered = false;    // it has given bytes that are not those it got
    std::array<Shown, 2> shown;
  };

  // ChainRpc
  Part& part(size_t index) override { return parts_[index]; }
  bool live() const override { return state_ == State::kOpen && !end_.has_value(); }
  void FillCall(Part* part) override;
  std::string_view SeenWith(const Part& part) override { return MessageOf(part).data; }
  void OnWait(Part* part, uint64_t deadline_ns) override;
  void OnCallOver(Part* part, bool counts) override;
  Finding Take(Part* part) override;
  void TakeDenial(Part* part, callout_status_t status, std::string_view why) override;
  void Fault(Part* part, Finding finding) override;

  // All parts are DataParts.
  static DataPart* AsDataPart(Part* part) { return static_cast<DataPart*>(part); }
  static Message& MessageOf(const Part& part) {
    return *static_cast<const DataPart&>(part).message;
  }

  void TakeFacts(const NetworkRequestView& view);
  void Match();
  void Run();
  size_t FirstLine() const;
  void RunLine(size_t line);
  size_t IndexFor(const Message& message) const;
  static callout_phase_t PhaseFor(const Message& message, const DataPart& part);
  Step Visit(const MessagePointer& message, DataPart* part);
  static Step StepAfter(DataPart* part);
  void OnOverdue(Message* message);
  void FaultOf(const Message& message, Part* part, callout_phase_t phase, const Finding& finding);
  void Charge(Message* message, size_t bytes);
  void Respond(const Message& message);
  void Shut(const Message& message, ConnectionStatus how);
  void End(absl::Status status, callout_outcome_t outcome);
  void UpdateDeadline();

  size_t message_bytes_ = 0;  // of all messages; before those that hold some
  absl::FixedArray<DataPart, 1> parts_;
  State state_ = State::kOpen;
  std::array<std::deque<MessagePointer>, 2> lines_;  // from the client, and to it
  size_t queued_bytes_ = 0;                          // of those in lines
  bool matched_ = false;
  bool half_closed_ = false;
  // Records of attributes, and the latest metadata; late calls keep those that they were given.
  std::shared_ptr<const std::string> attributes_;
  std::shared_ptr<const std::string> metadata_context_;
  size_t facts_bytes_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_L4_DATA_STREAM_H_
