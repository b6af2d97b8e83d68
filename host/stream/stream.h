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
// A message's bytes must stay where they are until wants_message() is true again
// or the stream is closed, and longer if it asks so (RpcContext::RetainMessage).
// Messages are taken one at a time: while a call is deferred the next one waits in
// the transport, whose flow control holds the client back; so answers keep the
// order of the messages.
//
// Not thread-safe: all functions are called by one thread at a time. Other
// threads reach it through RpcContext::Post only.
//
// The code is in three files: stream.cc (messages in, answers out, the ends),
// stream_calls.cc (the way through the chain, deferral, deadlines) and
// stream_settle.cc (what a hook came to; bodies).
#ifndef CALLOUT_HOST_STREAM_STREAM_H_
#define CALLOUT_HOST_STREAM_STREAM_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/fixed_array.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "host/plugin/chain.h"
#include "host/plugin/rpc_context.h"
#include "host/stream/chain_message.h"
#include "host/stream/exchange.h"
#include "host/stream/guard.h"
#include "host/stream/stream_environment.h"
#include "host/wire/annotations.h"
#include "host/wire/envelope.h"

namespace callout::host {

class Stream {
 public:
  // `environment` and `carrier` outlive the stream.
  Stream(StreamEnvironment* environment, RpcContext* rpc);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // --- What the transport has seen ---
  void OnMessage(std::string_view bytes);
  void OnHalfClose();  // the client has sent its last message
  void OnCancel();     // the client has left; nothing can be sent any more
  void OnPosted(CallState* call, RpcContext::Event event);
  void OnDeadline(uint64_t now_ns);  // deadline_ns() has come

  // --- What came of it ---
  bool wants_message() const { return !busy_ && !end_.has_value() && !half_closed_; }
  bool has_output() const { return !output_.empty(); }
  // Whole ProcessingResponses, in the order in which they are to be sent.
  using Output = absl::InlinedVector<std::string, 2>;
  Output TakeOutput() { return std::exchange(output_, {}); }
  // Set once: the RPC is over with this status, after the output.
  const std::optional<absl::Status>& end() const { return end_; }
  // No hook of it runs and none will: the stream may be destroyed.
  bool closed() const { return closed_; }
  // When OnDeadline is due, CLOCK_MONOTONIC; 0: never.
  uint64_t deadline_ns() const { return deadline_ns_; }

 private:
  // One instance's part of the stream. Arrays are by direction.
  struct Part {
    enum class Openness : uint8_t { kUnopened, kOpen, kRefused };

    CallState state;
    Openness openness = Openness::kUnopened;
    bool usable = true;                   // false: gets no more calls of this stream
    bool late = false;                    // a call of it has expired and is not finished yet
    bool gave_mode = false;               // the current message's answer has a mode_override
    std::array<bool, 2> altered{};        // has changed or kept body bytes
    std::array<bool, 2> body_called{};    // has been given body bytes
    std::array<bool, 2> body_given_up{};  // too large: the rest passes unseen
    std::array<uint64_t, 2> body_offset{};
    std::array<std::string, 2> gathered;  // of a whole body
    // While a call is deferred or runs on the blocking pool:
    ChainMessage* waiting = nullptr;
    uint64_t deadline_ns = 0;
    void* stream_then = nullptr;  // call.stream, and whether open, when it began to wait
    bool open_then = false;
    std::vector<SharedBytes> retained;  // what an expired call may still read
    // What its header answers did, where Envoy holds the headers for the body.
    std::unique_ptr<std::array<MergedHeaders, 2>> header_effects;
  };

  // How far a message got.
  enum class Progress : uint8_t {
    kDone,     // through the chain
    kWaits,    // for a deferred call
    kAhead,    // others go first
    kStopped,  // the stream has ended, or answers nothing more
  };
  // What became of a message at one instance.
  enum class Step : uint8_t { kPassed, kWaits, kAhead };

  // --- stream.cc ---
  bool Remember(const RequestView& view);
  void MatchParts(const RequestView& view);
  void EmitResponse(ChainMessage* message);
  Response MakeBodyResponse(ChainMessage* message);
  bool SetsContentLength(const ChainMessage& message) const;
  void AppendContentLength(const ChainMessage& message, size_t body_bytes,
                           Response* response) const;
  std::string MakeAnnotations(ChainMessage* message);
  void CompleteModes(ChainMessage* message, ModeOverride* override);
  void Emit(Response response, std::string_view annotations);
  void EmitImmediate(Response response, std::string_view annotations);
  void Release();
  void End(absl::Status status);
  void Notify(const Part& part);
  void CloseIfIdle();
  void ClosePart(Part* part);

  // --- stream_calls.cc ---
  void InitializeState(Instance* instance, CallState* state);
  Part& PartAt(const ChainMessage& message, size_t position);
  Part* PartOf(const CallState* state);
  void Run();
  Progress Advance(ChainMessage* message);
  void StepOn(ChainMessage* message);
  bool HasAheadOf(const ChainMessage& message) const;
  void PutAhead(const ChainMessage& of, std::unique_ptr<ChainMessage> message);
  bool HasLaterReader(const ChainMessage& message);
  bool BeginReplacedBody(ChainMessage* message);
  Step Visit(ChainMessage* message, Part* part);
  Step Invoke(ChainMessage* message, Part* part);
  Step Dispatch(ChainMessage* message, Part* part);
  void RunDispatched(Part* part, bool in_time);
  void Overload(ChainMessage* message, Part* part);
  void OpenPart(Part* part, uint64_t* now_ns);
  void FillCall(const ChainMessage& message, Part* part, uint64_t now_ns);
  void Wait(ChainMessage* message, Part* part);
  void AskForTime(ChainMessage* message, Part* part);
  void OnFinished(Part* part);
  void Expire(Part* part, bool over_limit);
  void Retain(const ChainMessage& message, Part* part);
  void UpdateDeadline();

  // --- stream_settle.cc ---
  void Settle(ChainMessage* message, Part* part, callout_status_t status);
  void TakeResponse(ChainMessage* message, Part* part);
  void KeepHeaderOrder(ChainMessage* message, Part* part, const ResponseView& view);
  void ShowToLater(ChainMessage* message, const ResponseView& view);
  void TakeNoResponse(ChainMessage* message, Part* part);
  void TakeSent(ChainMessage* message, Part* part);
  void TakeSentChunk(ChainMessage* message, Part* part, const ResponseView& view);
  void TakeReply(ChainMessage* message, Part* part, Response response, const ResponseView& view);
  void FinishReply();
  Violation Check(const ChainMessage& message, callout_field_t field,
                  const ResponseView& view) const;
  // An answer of a wrong form: unless the operator says otherwise it is left
  // out, and the message passes as if the hook had set nothing.
  void Replace(ChainMessage* message, Part* part, Violation violation) {
    Fault(message, part, violation, absl::OkStatus());
  }
  void Fault(ChainMessage* message, Part* part, Violation violation, absl::Status status);
  void Deny(int http_status, Violation violation);
  // Counts it for the instance, and says where it was.
  void CountFault(const ChainMessage& message, Part* part, Violation violation,
                  std::string_view why = {});
  static void AddDetails(const Part& part, Response* response);
  bool Gather(ChainMessage* message, Part* part);
  void TakeTooLarge(ChainMessage* message, Part* part);
  void GiveBack(ChainMessage* message, Part* part);
  Step FlushGathered(ChainMessage* message, Part* part);
  void PutGatheredAhead(const ChainMessage& message, Part* part);
  bool owes_body() const;
  size_t kept_bytes() const;

  static size_t DirectionOf(const ChainMessage& message) { return message.phase % 2; }

  StreamEnvironment* const environment_;
  RpcContext* const rpc_;
  const std::shared_ptr<const Chain> chain_;
  absl::FixedArray<Part, 1> parts_;  // mostly one, which takes no memory of its own
  const uint64_t id_;

  Exchange exchange_;
  ChainMessage root_;  // the message of Envoy's that is on its way
  // Those that go before it: chunks that an instance has sent ahead of its
  // answer, and gathered bodies that have to go before trailers.
  std::vector<std::unique_ptr<ChainMessage>> ahead_;
  SharedBytes attributes_;  // records, oldest first; null: none
  SharedBytes metadata_context_;
  std::array<bool, 2> body_responded_{};  // by direction: to its end
  bool matched_ = false;
  bool busy_ = false;      // a message is on its way
  bool silenced_ = false;  // after an immediate response nothing is sent
  bool half_closed_ = false;
  bool closed_ = false;
  size_t closing_ = 0;  // parts that blocking instances are closing
  // The instance that has begun a streamed immediate response, and how far it is.
  Part* reply_part_ = nullptr;
  bool reply_ended_ = false;
  uint64_t deadline_ns_ = 0;
  std::atomic<bool> cancelled_{false};
  Output output_;
  std::optional<absl::Status> end_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_STREAM_H_
