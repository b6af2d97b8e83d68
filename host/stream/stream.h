// SPDX-License-Identifier: Apache-2.0

// One Process RPC, which is one HTTP request: takes ProcessingRequests in, calls
// the chain's hooks, and gives ProcessingResponses and a status out.
//
// Sans-IO: a stream knows no socket, no gRPC type and no thread. A transport
// feeds it and after each On…() looks at what came of it:
//
//     stream.OnMessage(bytes);                 // only while wants_message()
//     for (auto& response : stream.TakeOutput()) write(response);
//     if (stream.end()) finish(*stream.end()); // in the same write, if it can
//     else if (stream.wants_message()) read_next();
//     arm_timer(stream.deadline_ns());
//     if (stream.closed()) delete it;
//
// A message's bytes must stay where they are until the next OnMessage or until the
// stream is closed; what has to stay longer the stream takes over, within OnMessage
// (RpcContext::KeepMessage).
//
// The two directions of the exchange are two pipelines. Each is a line of messages in
// the order in which they came; a message goes from instance to instance, never past
// the one before it, and is answered when it has passed all and is the first of its
// line. So a call that is deferred holds up what comes after it in its own direction,
// and in the other one only what wants the same instance: hooks of one instance never
// overlap on one stream, unless it takes both directions at once
// (CALLOUT_WANT_BOTH_DIRECTIONS). Messages wait within limits; at a limit none is read.
//
// Not thread-safe: all functions are called by one thread at a time. Other
// threads reach it through RpcContext::Post only.
//
// The code is in several files: stream.cc (messages in, the ends), stream_pipeline.cc
// (the way through the chain), stream_calls.cc (calls and deadlines),
// stream_settle.cc (what a hook came to), stream_faults.cc (what becomes of a fault),
// stream_bodies.cc (whole bodies), stream_emit.cc (responses out).
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

#include "absl/cleanup/cleanup.h"
#include "absl/container/fixed_array.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "host/base/heap_bytes.h"
#include "host/plugin/chain.h"
#include "host/plugin/request_ids.h"
#include "host/plugin/rpc_context.h"
#include "host/stream/chain_message.h"
#include "host/stream/exchange.h"
#include "host/stream/guard.h"
#include "host/stream/live_rpc.h"
#include "host/stream/stream_environment.h"
#include "host/wire/annotations.h"
#include "host/wire/envelope.h"

namespace callout::host {

class Stream {
 public:
  // `environment` and `rpc` outlive the stream. Without a chain it takes the environment's current
  // one.
  Stream(StreamEnvironment* environment, RpcContext* rpc,
         std::shared_ptr<const Chain> chain = nullptr);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // --- What the transport has seen ---
  void OnMessage(std::string_view bytes);
  void OnHalfClose();  // the client has sent its last message
  void OnCancel();     // the client has left; nothing can be sent any more
  // The transport ends the RPC with an error of its own, which the client gets after the output.
  void OnFailure();
  void OnPosted(CallState* call, RpcContext::Event event);
  void OnDeadline(uint64_t now_ns);  // deadline_ns() has come
  // The time of a drain is up. The stream ends now: with OK, and Envoy lets the rest
  // of the exchange pass, if nothing is owed and every instance that wants more has
  // the setting "drain": "pass"; else with UNAVAILABLE.
  void OnDrainDeadline();

  // --- What came of it ---
  bool wants_message() const {
    return !end_.has_value() && !half_closed_ &&
           (silenced_ || (queued_bytes_ < environment_->limits().queued_bytes_max &&
                          queued_messages_ < environment_->limits().queued_messages_max));
  }
  // No message waits for anything.
  bool idle() const { return lines_[0].empty() && lines_[1].empty(); }
  // It may have something to say before the next message comes: a call at work, a
  // deadline, or an end with OK when a drain's time is up.
  bool may_speak_unasked() const;
  // The end of its client's messages would end it with an error.
  bool fails_at_half_close() const;
  // A hook runs on another thread, or a call is deferred; late ones, too.
  bool calls_at_work() const { return calls_at_work_ > 0; }
  bool has_output() const { return !output_.empty(); }
  // Whole ProcessingResponses, in the order in which they are to be sent.
  using Output = absl::InlinedVector<std::string, 2>;
  Output TakeOutput() { return std::exchange(output_, {}); }
  // The same, each given to `take` where it lies. If that throws, the rest is lost.
  template <class Take>
  void DrainOutput(Take take) {
    const absl::Cleanup clear = [this] { output_.clear(); };
    for (std::string& response : output_) take(std::move(response));
  }
  // Set once: the RPC is over with this status, after the output.
  const std::optional<absl::Status>& end() const { return end_; }
  // No hook of it runs and none will: the stream may be destroyed.
  bool closed() const { return closed_; }
  // When OnDeadline is due, CLOCK_MONOTONIC; 0: never.
  uint64_t deadline_ns() const { return deadline_ns_; }
  // What the stream keeps in memory beyond the message at hand: attributes, metadata,
  // bodies that are gathered, messages that wait.
  size_t kept_bytes() const { return kept_bytes_ + queued_bytes_; }
  // And what its parts and messages themselves take, for as long as it lives.
  size_t owned_bytes() const { return owned_bytes_; }
  // What it is at, for people.
  void Describe(LiveRpc* rpc) const;

 private:
  // One instance in one direction.
  struct Stage {
    bool altered = false;      // has changed or kept body bytes
    bool taken = false;        // chunks that were gathered are answered, and gone from Envoy
    bool body_called = false;  // has been given body bytes
    bool body_passes = false;  // too large, or left alone: the rest passes unseen
    bool declined = false;     // `body_passes` because the instance has asked for no body
    bool chunks = false;       // gets chunks, although it wants whole bodies
    bool checked = false;      // what its headers tell of the body has been looked at
    uint64_t named_modes = 0;  // phases (bits) in the mode_override of its answer
    uint64_t body_offset = 0;
    uint64_t held_bytes = 0;       // given to its hook while it holds the headers
    uint64_t body_until_ns = 0;    // of a body being gathered; 0: none is
    std::string gathered;          // of a whole body
    ChainMessage* held = nullptr;  // in state kHeld
    bool plugin_holds = false;     // `held` are headers that the hook held back itself
    // What its header answers did, where Envoy holds the headers for the body.
    std::unique_ptr<MergedHeaders> header_effects;
  };

  // One instance's part of the stream.
  struct Part {
    enum class Openness : uint8_t { kUnopened, kOpen, kRefused };

    Instance* instance = nullptr;
    CallState call;  // of the request direction, or of both
    // Of the response direction, for an instance that takes both at once.
    std::unique_ptr<CallState> response_call;
    Openness openness = Openness::kUnopened;
    bool usable = true;           // false: gets no calls of this stream
    void* stream = nullptr;       // what the plugin keeps from call to call
    std::array<Stage, 2> stages;  // by direction

    // That a message of the direction is called with.
    CallState& CallOf(size_t direction) {
      return direction == 0 || response_call == nullptr ? call : *response_call;
    }
    const CallState& CallOf(size_t direction) const {
      return const_cast<Part*>(this)->CallOf(direction);
    }
  };

  // Of a call, for its record.
  struct CallKind {
    bool deferred = false;
    bool blocking = false;
    bool begun = true;
    bool running = false;  // its hook may still run, on a thread of the pool
  };
  // The call that is being settled: what comes of it goes into `state->result`.
  struct Settling {
    CallState* state = nullptr;  // null: none is
    CallRecord record;
  };

  // Headers that Envoy holds until their body is answered (BUFFERED): body hooks may still change
  // them.
  struct HeadersAtEnvoy {
    std::string headers;  // HttpHeaders, as Envoy has sent them
    Response response;    // what went out for them; none: nothing is changed
    size_t bytes() const { return headers.size() + response.record.size(); }
  };

  // How far a message got.
  enum class Progress : uint8_t {
    kDone,     // through the chain
    kWaits,    // for a call, for its turn, or behind another message
    kAgain,    // the line has changed before it
    kStopped,  // the stream has ended, or answers nothing more
  };
  // What became of a message at one instance.
  enum class Step : uint8_t { kPassed, kWaits, kAgain, kCall };

  // The messages of one direction, in order.
  using Line = absl::InlinedVector<ChainMessage*, 4>;

  // --- stream.cc ---
  void RefuseMessage(int http_status, std::string_view details, absl::Status status);
  void BeginWatch(const RequestView& view);
  bool Remember(const RequestView& view);
  bool RememberAttributes(const RequestView& view);
  void EndForAttributes();
  bool RememberForInstances(ChainMessage* message);
  bool IsWithinMemory();
  void MatchParts(const RequestView& view);
  void OwnBytes(ChainMessage* message);
  bool OwesBody() const;
  bool HoldsMessage() const;
  bool RefusalOutstanding() const;
  void EmitBeforeError();
  bool Wanted(callout_phase_t phase) const;
  bool WantsMore() const;
  bool WantsRealEnd() const;
  const Instance* Keeper() const;
  bool CallsOutstanding() const;
  void EndIfDone();
  void EndHalfClosed();
  void End(absl::Status status, callout_outcome_t outcome);
  void End(absl::Status status);
  void NoteEnd(callout_outcome_t outcome, const absl::Status& status);
  void TellEnd(callout_outcome_t outcome, const absl::Status& status);
  void NoteLostBodies();
  void Notify(Part* part);
  void CloseIfIdle();
  void ClosePart(Part* part);

  // --- stream_pipeline.cc ---
  Part& PartAt(const ChainMessage& message, size_t position);
  const Part& PartAt(const ChainMessage& message, size_t position) const;
  Line& LineOf(const ChainMessage& message) { return lines_[message.response_phase % 2]; }
  ChainMessage* NewMessage();
  void FreeMessage(ChainMessage* message);
  void PutBefore(const ChainMessage& of, ChainMessage* message);
  void DropLine(Line* line);
  bool ReplacesUndecided(const Line& line, const ChainMessage& headers) const;
  void DropLines();
  void Run();
  bool RunLine(Line* line);
  Progress Advance(ChainMessage* message, const ChainMessage* ahead);
  void Settled(ChainMessage* message, Part* part);
  bool HasLaterReader(const ChainMessage& message) const;
  void TellPlace(ChainMessage* message);
  bool BeginReplacedBody(ChainMessage* message);
  bool GivesWay(const ChainMessage& message, const Part& part) const;
  Step Visit(ChainMessage* message, Part* part);
  void Hold(ChainMessage* message, Part* part, uint64_t for_ms);
  void LetGo(Stage* stage);
  bool live() const { return !end_.has_value() && !silenced_; }

  // --- stream_calls.cc ---
  void InitializeState(size_t part, CallState* state);
  callout_stream_end_t ToldEnd(const Part& part) const;
  static void EndPartCall(Part* part, CallState* state);
  static void KeepStreamPointer(Part* part, void* stream);
  static bool IsBusy(const ChainMessage& message, const Part& part);
  Step Invoke(ChainMessage* message, Part* part);
  Step Dispatch(ChainMessage* message, Part* part);
  static bool NeedsThread(const ChainMessage& message, const Part& part);
  void RunDispatched(Part* part, CallState* state, bool in_time);
  void Overload(ChainMessage* message, Part* part);
  static void OpenPart(Part* part, CallState* state, uint64_t* now_ns);
  void FillCall(const ChainMessage& message, Part* part, uint64_t now_ns);
  bool Wait(ChainMessage* message, Part* part);
  void AskForTime(ChainMessage* message, Part* part);
  void OnFinished(CallState* state);
  void BeginSettling(ChainMessage* message, Part* part, uint64_t end_ns, const CallKind& kind);
  void TellCall();
  void BeginGivingUp(ChainMessage* message, Part* part, bool begun);
  void TellGivenUp(ChainMessage* message, Part* part);
  void GiveUpOn(ChainMessage* message, Part* part);
  void OnOverdue(ChainMessage* message);
  void CheckBodyWaits(uint64_t now_ns);
  void UpdateDeadline();

  // --- stream_settle.cc ---
  void Settle(ChainMessage* message, Part* part, callout_status_t status);
  Finding Check(ChainMessage* message, callout_field_t field, const ResponseView& view) const;
  Finding ReadAndCheck(ChainMessage* message, const Response& response, ResponseView* view) const;
  Finding CheckBodyResponse(const ChainMessage& message, const Part& part,
                            const ResponseView& view) const;
  void TakeResponse(ChainMessage* message, Part* part);
  void JoinResponse(ChainMessage* message, Part* part, Response* response,
                    const ResponseView& view);
  Finding CheckHeadersOfBody(const ChainMessage& message, const Stage& stage,
                             const ResponseView& view) const;
  Finding CheckEntries(const ChainMessage& message) const;
  bool LosesEncoding(const ChainMessage& message, const ResponseView& view) const;
  Finding SettleBodyHeaders(ChainMessage* message, Part* part, const ResponseView& view);
  void TakeReplacement(ChainMessage* message, Part* part, const ResponseView& view);
  void TakeAnnotations(ChainMessage* message, std::string_view records);
  void KeepBeside(const ChainMessage& message);
  void AddBeside(ChainMessage* to, std::string_view records);
  void NoteModes(const ChainMessage& message, Part* part);
  void NoteEncoding(const ChainMessage& message, const ResponseView& view);
  bool MayBecomeBuffered(const ChainMessage& message) const;
  void KeepHeaderOrder(ChainMessage* message, Part* part, const ResponseView& view);
  void ShowToLater(ChainMessage* message, const ResponseView& view);
  void TakeNoResponse(ChainMessage* message, Part* part);
  static ChainMessage* HeldHeaders(const ChainMessage& message, Part* part);
  static bool SettlesHeldHeaders(const ChainMessage& message, Part* part, callout_field_t field);
  void SettleHeldHeaders(ChainMessage* message, Part* part, Response response);
  void CheckHeldHeaders(ChainMessage* message, Part* part);
  void TakeSent(ChainMessage* message, Part* part);
  void TakeSentMeanwhile(ChainMessage* message, Part* part);
  void FaultOfSent(ChainMessage* message, Part* part, const Finding& finding, bool is_piece);
  void NoteUnsent(const ChainMessage& message, CallState* state);
  void TakeSentChunk(ChainMessage* message, Part* part, const ResponseView& view);
  void TakeReply(ChainMessage* message, Part* part, Response response, const ResponseView& view);
  void FinishReply();

  // --- stream_faults.cc ---
  void Fault(ChainMessage* message, Part* part, const Finding& finding,
             absl::Status status = absl::OkStatus());
  void Refuse(Instance* by, int http_status, Violation violation, absl::Status status);
  void Deny(Instance* by, int http_status, Violation violation);
  bool CanReplyAtOnce() const;
  // Counts it for the instance, and says where it was.
  void CountFault(const ChainMessage& message, Part* part, Violation violation,
                  std::string_view why = {}, bool by_peer = false);
  void CountFault(Instance* instance, callout_phase_t phase, Violation violation,
                  std::string_view why, std::string_view headers, bool by_peer = false);
  // A part of the response is not used.
  void Overrule(const ChainMessage& message, Part* part, Overruled overruled);
  static void AddDetails(const Part& part, Response* response);

  // --- stream_bodies.cc ---
  bool TakesWhole(const Part& part, callout_phase_t phase) const;
  bool HoldsHeaders(const ChainMessage& message, const Part& part) const;
  Direction DirectionToCome(const ChainMessage& message) const;
  void NoteUpgrade(const ChainMessage& message);
  void CheckBodyToCome(ChainMessage* message, Part* part, std::string_view headers);
  void CheckBodiesToCome(ChainMessage* message);
  static bool LeavesAlone(const ChainMessage& message, const Part& part, std::string_view headers);
  void CheckLostRequest(ChainMessage* message);
  Step Gather(ChainMessage* message, Part* part);
  Step GatherChunk(ChainMessage* message, Part* part);
  void TakeTooLarge(ChainMessage* message, Part* part);
  void GiveBack(ChainMessage* message, Part* part);
  void PassBody(ChainMessage* message, Part* part);
  Step FlushGathered(ChainMessage* message, Part* part);
  void PutGatheredBefore(const ChainMessage& message, Part* part);
  void AddGathered(Stage* stage, std::string_view bytes);
  std::string TakeGathered(Stage* stage);

  // --- stream_emit.cc ---
  void EmitResponse(ChainMessage* message);
  void ObserveResponse(const ChainMessage& message);
  void KeepHeadersAtEnvoy(const ChainMessage& message, const Response& response);
  void ForgetHeadersAtEnvoy(size_t direction);
  bool BeginStalled(const ChainMessage& message);
  void EmitBodyResponse(ChainMessage* message);
  void EmitDuplexBody(ChainMessage* message);
  bool RemovesEncoding(const ChainMessage& message) const;
  bool SetsContentLength(const ChainMessage& message) const;
  bool KnowsLength(const ChainMessage& message) const;
  void AppendContentLength(const ChainMessage& message, size_t body_bytes,
                           Response* response) const;
  std::string MakeAnnotations(ChainMessage* message);
  void AskForTrailers(ChainMessage* message);
  void PrunePhases(ChainMessage* message);
  void DropModes(const ChainMessage& message, Part* asked, ModeOverride* override);
  void UniteModes(const ChainMessage& message, ModeOverride* override) const;
  void CompleteModes(ChainMessage* message, ModeOverride* override);
  void Emit(Response response, std::string_view annotations);
  void EmitImmediate(Response response, std::string_view annotations);

  static size_t DirectionOf(const ChainMessage& message) { return message.phase % 2; }
  static CallState& CallOf(const ChainMessage& message, Part* part) {
    return part->CallOf(DirectionOf(message));
  }
  static Stage& StageOf(const ChainMessage& message, Part* part) {
    return part->stages[DirectionOf(message)];
  }

  StreamEnvironment* const environment_;
  RpcContext* const rpc_;
  const std::shared_ptr<const Chain> chain_;
  absl::FixedArray<Part, 1> parts_;  // mostly one, which takes no memory of its own
  const uint64_t id_;

  Exchange exchange_;
  std::array<Line, 2> lines_;   // by direction
  ChainMessage first_message_;  // taken before any other, so that most need no memory
  bool first_message_taken_ = false;
  std::vector<std::unique_ptr<ChainMessage>> free_messages_;
  std::vector<std::unique_ptr<ChainMessage>> taken_messages_;
  size_t queued_bytes_ = 0;  // of messages in lines whose bytes the stream owns
  size_t queued_messages_ = 0;
  size_t kept_bytes_ = 0;
  size_t owned_bytes_;
  size_t calls_at_work_ = 0;                       // late ones, too
  std::shared_ptr<const std::string> attributes_;  // records, oldest first; null: none
  unsigned attribute_messages_ = 0;
  size_t attribute_records_ = 0;
  unsigned unknown_messages_ = 0;
  std::shared_ptr<const std::string> metadata_context_;
  RequestId request_id_;  // for faults in later phases than request headers
  std::array<std::unique_ptr<HeadersAtEnvoy>, 2> at_envoy_;  // by direction; null: none
  std::array<std::string, 2> beside_;  // by direction: records for the next response
  std::string request_headers_;        // of Envoy, where an instance wants them in response phases
  callout_stream_end_t told_end_{};    // to the instances, as far as it is known
  uint64_t began_ns_ = 0;              // where an instance is told of the end; else 0
  bool matched_ = false;
  bool let_go_ = false;    // headers that were held go on, since the last visit began
  bool silenced_ = false;  // after an immediate response nothing is sent
  bool half_closed_ = false;
  bool closed_ = false;
  size_t closing_ = 0;  // parts that blocking instances are closing
  Settling settling_;
  std::unique_ptr<RpcObservers> observers_;  // null: nobody watches the stream
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
