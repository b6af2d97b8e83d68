// One Process RPC, which is one HTTP request: takes ProcessingRequests in, calls
// the chain's hooks, and gives ProcessingResponses and a status out.
//
// Sans-IO: a stream knows no socket, no gRPC type and no thread. A transport
// feeds it and after each On…() looks at what came of it:
//
//     stream.OnMessage(bytes);                 // only while wants_message()
//     for (auto& response : stream.TakeOutput()) write(response);
//     if (stream.end()) finish(*stream.end());
//     else if (stream.wants_message()) read_next();
//     arm_timer(stream.deadline_ns());
//     if (stream.closed()) delete it;
//
// A message's bytes must stay where they are until wants_message() is true
// again or the stream is closed. Messages are taken one at a time: while a call
// is deferred the next one waits in the transport, whose flow control holds the
// client back; so answers keep the order of the messages.
//
// Not thread-safe: all functions are called by one thread at a time. Other
// threads reach it through StreamCarrier::Post only.
#ifndef CALLOUT_HOST_STREAM_H_
#define CALLOUT_HOST_STREAM_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "host/carrier.h"
#include "host/chain.h"
#include "host/envelope.h"
#include "host/guard.h"
#include "host/stream_environment.h"

namespace callout::host {

class Stream {
 public:
  // `environment` and `carrier` outlive the stream.
  Stream(StreamEnvironment* environment, StreamCarrier* carrier);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // --- What the transport has seen ---
  void OnMessage(std::string_view bytes);
  void OnHalfClose();  // the client has sent its last message
  void OnCancel();     // the client has left; nothing can be sent any more
  void OnPosted(CallState* call, StreamCarrier::Event event);
  void OnDeadline(uint64_t now_ns);  // deadline_ns() has come

  // --- What came of it ---
  bool wants_message() const { return !busy_ && !end_.has_value() && !half_closed_; }
  std::vector<std::string> TakeOutput();
  // Set once: the RPC is over with this status, after the output.
  const std::optional<absl::Status>& end() const { return end_; }
  // No hook of it runs and none will: the stream may be destroyed.
  bool closed() const { return closed_; }
  // When OnDeadline is due, CLOCK_MONOTONIC; 0: never.
  uint64_t deadline_ns() const { return deadline_ns_; }

 private:
  // One instance's part of the stream.
  struct Part {
    CallState state;
    bool open = false;     // close is owed
    bool usable = true;    // false: gets no more calls of this stream
    bool late = false;     // a call of it has expired and is not finished yet
    bool altered[2] = {};  // has changed or kept body bytes of [direction]
  };

  // What is known of one direction of the HTTP exchange.
  struct Direction {
    enum class ContentLength : uint8_t { kUnknown, kAbsent, kPresent };

    callout_body_mode_t body_mode = CALLOUT_BODY_NONE;
    bool headers_seen = false;
    bool body_seen = false;
    bool ended = false;
    ContentLength content_length = ContentLength::kUnknown;
    uint64_t body_offset = 0;
  };

  // The message on its way through the chain.
  struct Current {
    callout_phase_t phase = 0;
    std::string_view request;
    std::string_view message;
    std::string_view body;  // of a body phase
    bool end_of_stream = false;
    bool first = false;
    bool no_response = false;  // the answer is to be left out
    uint64_t body_offset = 0;
    Answer answer;  // field 0: the phase's empty one
    std::string annotations;
  };

  Direction& direction() { return directions_[IsRequestPhase(current_.phase) ? 0 : 1]; }
  size_t direction_index() const { return IsRequestPhase(current_.phase) ? 0 : 1; }
  Part& PartAt(size_t position);
  void InitializeState(Instance* instance, CallState* state);

  // Message in.
  void Remember(const RequestView& view);
  absl::Status Enter(const RequestView& view);
  absl::Status EnterHeaders(const RequestView& view);
  absl::Status EnterBody(const RequestView& view);

  // Through the chain.
  void OpenParts();
  void Run();
  bool Invoke(Part* part);  // false: deferred
  void FillCall(Part* part);
  void Settle(Part* part, callout_status_t status);
  void TakeAnswer(Part* part);
  void TakeNoResponse(Part* part);
  void TakeSent(Part* part);
  void Replace(Part* part, Violation violation);
  void Fault(Part* part, Violation violation, absl::Status status);
  void Deny(int http_status);
  void Release();

  // Answer out.
  void EmitAnswer();
  void AdaptBodyAnswer();
  void SetContentLength(const AnswerView& view);
  void Emit(Answer answer, std::string_view annotations);

  void Notify(const Part& part);
  void End(absl::Status status);
  void CloseIfIdle();

  StreamEnvironment* const environment_;
  StreamCarrier* const carrier_;
  const std::shared_ptr<const Chain> chain_;
  const std::unique_ptr<Part[]> parts_;
  const uint64_t id_;

  std::array<Direction, 2> directions_;  // request, response
  Current current_;
  std::string attributes_;  // records, oldest first
  std::string metadata_context_;
  bool has_protocol_config_ = false;
  bool observability_ = false;
  bool opened_ = false;
  bool busy_ = false;      // a message is on its way
  bool silenced_ = false;  // after an immediate response nothing is sent
  bool half_closed_ = false;
  bool closed_ = false;
  size_t position_ = 0;      // in the chain, of the message on its way
  Part* waiting_ = nullptr;  // whose call is deferred
  uint64_t deadline_ns_ = 0;
  std::atomic<bool> cancelled_{false};
  std::vector<std::string> output_;
  std::optional<absl::Status> end_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_H_
