// SPDX-License-Identifier: Apache-2.0

// One RPC of the nghttp2 transport: carries bytes between an HTTP/2 stream and
// the RPC's handler.
//
// It outlives its HTTP/2 stream, and its connection, until the handler is closed
// and nothing posted to it is on its way; then it goes back to the context.
// Loop's thread only, but for what RpcContext lets other threads call.
//
// Tested by tests/host/transport/h2/h2_connection_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_H2_H2_CALL_H_
#define CALLOUT_HOST_TRANSPORT_H2_H2_CALL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "host/plugin/rpc_context.h"
#include "host/transport/h2/grpc_wire.h"
#include "host/transport/h2/h2_context.h"
#include "host/transport/rpc_handler.h"

namespace callout::host {

class H2Connection;

class H2Call final : public RpcContext, public H2Timed {
 public:
  explicit H2Call(H2Context* context);
  ~H2Call();

  void Begin(H2Connection* connection, int32_t stream_id);

  // --- From the connection ---
  // What comes is read at once, worked on in OnResume when all that came with it has
  // been read, and answered in Respond: in each step the same code runs for many
  // streams in turn, and stays in the processor's cache.
  RequestHead& head() { return head_; }
  void OnHead();
  // Says through H2Connection::Consume what it has taken, now or later.
  void OnData(std::string_view data);
  void OnRemoteEnd();
  // nghttp2 wants bytes for a DATA frame; its own result and flags.
  ptrdiff_t OnWantsData(char* buffer, size_t size, uint32_t* data_flags);
  // A DATA frame of it has been sent, and is not the stream's end.
  void OnDataSent();
  // It was to be resumed: there is something to work on, or it may have what it
  // waited for, memory or room for answers.
  void OnResume();
  // Brings what the handler has come to on its way.
  void Respond();
  // It waited for memory of the connection, which has counted the message now.
  void OnAdmitted();
  // The system has no memory for what it was doing.
  void OnNoMemory();
  void OnServingChanged();
  void OnShutdown();
  void OnDrainDeadline();
  // The HTTP/2 stream is gone. May destroy the call.
  void OnClosed();
  // The connection is gone. May destroy the call.
  void OnConnectionLost();

  int32_t stream_id() const { return stream_id_; }
  const StreamTimes<H2Call>::Entry& times_entry() const { return times_; }
  void Describe(LiveRpc* rpc) const;
  // Anything at all has been sent to the client.
  bool answered() const { return answered_; }
  void SetResponded() { answered_ = true; }
  bool remote_ended() const { return remote_ended_; }
  // The client has said something, and that this was all.
  bool is_whole() const { return remote_ended_ && has_data_; }
  // A message of it has been with a plugin, which has not answered yet.
  bool at_work() const { return handler_ && handler_->at_work(); }

  // The connection's list of its calls.
  H2Call* previous = nullptr;
  H2Call* next = nullptr;
  // Where the connection has put it among those to resume.
  static constexpr size_t kNotQueued = SIZE_MAX;
  size_t queued_at = kNotQueued;
  // The connection's queue of those that wait for its memory, and for how much.
  H2Call* need_previous = nullptr;
  H2Call* need_next = nullptr;
  size_t needs_bytes = 0;  // 0: it does not wait

  // --- From the context ---
  void OnPosted(CallState* state, Event event);
  void OnOverdue(StreamTime time);  // its client has taken too long
  void OnTime(uint64_t now_ns) override;

  // RpcContext
  void Post(CallState* call, Event event) override;
  std::shared_ptr<const void> KeepMessage() override;
  size_t unsent_bytes() const override { return outgoing_bytes_; }
  std::string_view peer() const override { return peer_->address; }
  std::string_view listener() const override { return peer_->secure ? "secure" : "plaintext"; }
  std::string_view peer_identity() const override { return peer_->identity; }
  bool GetMetadata(std::string_view key, uint32_t index, std::string_view* value) const override {
    return head_.GetMetadata(key, index, value);
  }
  bool GetMetadataAt(uint32_t index, std::string_view* key,
                     std::string_view* value) const override {
    return head_.GetMetadataAt(index, key, value);
  }

 private:
  // Whether nghttp2 asks for DATA. Once it has all there is, it is told that there is no
  // more, and what comes later is submitted anew: to let it ask in vain and then wait would
  // cost some 500 instructions for each message (nghttp2 1.52).
  enum class Data : uint8_t {
    kNone,    // not until it is submitted
    kAsked,   // when there is room for a frame
    kEnding,  // no more, and the last frame is on its way
  };

  void Route();
  void AnswerProbe();
  void Refuse(const RequestHead::Refusal& refusal);
  void Fail(absl::Status status);
  void FailHandler();
  bool CanTake() const;
  void Read(std::string_view* data);
  void GiveMessage();
  void OnReadFailed(MessageReader::Result result);
  void Advance();
  void HalfCloseIfRead();
  void Collect();
  void Add(std::string response);
  void SendMore();
  void ResumeIfWaiting();
  void SubmitTrailers();
  void UpdateDeadline();
  void Close();
  void DropOutput();
  void DropInput();
  void DropMessage();
  void DropUnread();
  bool FreeHandler();
  void FreeAfterFailure();
  void GoOn();
  // Without memory for a step its stream ends, and nothing beside it.
  template <class Step>
  void Guarded(Step step) {
    try {
      step();
    } catch (const std::bad_alloc&) {
      OnNoMemory();
    }
  }
  void TakePending(size_t bytes);
  bool MayGrow(std::string_view data);
  void FailOverLimit(H2StreamLimit limit, absl::Status status);
  size_t CountBytes() const;
  void Recount();
  void ReleaseIfDone();
  // Its own end of the RPC, else the handler's.
  const std::optional<absl::Status>& end() const {
    return failure_.has_value() || !handler_ ? failure_ : handler_.end();
  }

  H2Context* const context_;
  H2Connection* connection_ = nullptr;  // null: lost, or between two lives
  std::shared_ptr<const H2Peer> peer_;
  int32_t stream_id_ = 0;

  RequestHead head_;
  MessageReader reader_;
  std::string pending_;  // bytes that have come and are not taken yet
  size_t pending_taken_ = 0;
  size_t message_bytes_ = 0;  // of the message in reader_, counted by the connection
  size_t drawn_bytes_ = 0;    // of the process's memory

  RpcHolder handler_;
  std::optional<absl::Status> failure_;  // the transport's own end of the RPC

  absl::InlinedVector<std::string, 1> outgoing_;
  size_t outgoing_index_ = 0;   // of the answer under way
  size_t outgoing_offset_ = 0;  // in it, its head included
  size_t outgoing_bytes_ = 0;   // not sent yet, counted by the connection
  StreamTimes<H2Call>::Entry times_{this};
  uint64_t rpc_deadline_ns_ = 0;
  uint64_t deadline_ns_ = 0;  // as the context has it

  bool open_ = false;  // the HTTP/2 stream is there
  bool has_head_ = false;
  bool refused_in_http_ = false;
  const char* http_status_ = "";  // then
  bool bad_encoding_ = false;
  bool needs_memory_ = false;   // for a message whose head has been read
  bool message_ready_ = false;  // there is one in reader_
  bool message_given_ = false;  // and it is the handler's
  bool has_data_ = false;
  bool remote_ended_ = false;
  bool half_closed_ = false;  // the handler has been told so
  bool freed_ = false;        // it is over, and gone
  bool response_begun_ = false;
  Data data_ = Data::kNone;
  bool status_submitted_ = false;
  bool answered_ = false;
  std::atomic<int> posted_{0};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_H2_H2_CALL_H_
