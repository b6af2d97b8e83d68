// One RPC of the nghttp2 transport: carries bytes between an HTTP/2 stream and
// the RPC's handler.
//
// It outlives its HTTP/2 stream, and its connection, until the handler is closed
// and nothing posted to it is on its way; then it goes back to the context.
// Loop's thread only, but for what RpcContext lets other threads call.
#ifndef CALLOUT_HOST_TRANSPORT_H2_H2_CALL_H_
#define CALLOUT_HOST_TRANSPORT_H2_H2_CALL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
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

// Who is at the other end of a connection.
struct H2Peer {
  std::string address;   // RpcContext::peer
  std::string identity;  // RpcContext::peer_identity
  bool secure = false;
};

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
  // It was to be resumed: there is something to work on, or it may have what it
  // waited for, memory or room for answers.
  void OnResume();
  // Brings what the handler has come to on its way.
  void Respond();
  void OnServingChanged();
  void OnShutdown();
  // The HTTP/2 stream is gone. May destroy the call.
  void OnClosed();
  // The connection is gone. May destroy the call.
  void OnConnectionLost();

  int32_t stream_id() const { return stream_id_; }
  // Anything at all has been sent to the client.
  bool answered() const { return answered_; }
  void SetResponded() { answered_ = true; }
  bool remote_ended() const { return remote_ended_; }

  // The connection's list of its calls.
  H2Call* previous = nullptr;
  H2Call* next = nullptr;
  // Where the connection has put it among those to resume.
  static constexpr size_t kNotQueued = SIZE_MAX;
  size_t queued_at = kNotQueued;

  // --- From the context ---
  void OnPosted(CallState* state, Event event);
  void OnTime(uint64_t now_ns) override;

  // RpcContext
  void Post(CallState* call, Event event) override;
  void RetainMessage() override;
  std::string_view peer() const override { return peer_->address; }
  std::string_view listener() const override { return peer_->secure ? "secure" : "plaintext"; }
  std::string_view peer_identity() const override { return peer_->identity; }
  bool GetMetadata(std::string_view key, uint32_t index, std::string_view* value) const override {
    return head_.GetMetadata(key, index, value);
  }

 private:
  void Route();
  void AnswerProbe();
  void Refuse(const RequestHead::Refusal& refusal);
  void Fail(absl::Status status);
  bool CanTake() const;
  void Read(std::string_view* data);
  void GiveMessage();
  void OnReadFailed(MessageReader::Result result);
  void Advance();
  void HalfCloseIfRead();
  void Collect();
  void Add(std::string response);
  void ResumeData();
  void SubmitTrailers();
  void UpdateDeadline();
  void Close();
  void DropOutput();
  void DropInput();
  void DropMessage();
  void ReleaseIfDone();
  const std::optional<absl::Status>& end() const;

  H2Context* const context_;
  H2Connection* connection_ = nullptr;  // null: lost, or between two lives
  std::shared_ptr<const H2Peer> peer_;
  int32_t stream_id_ = 0;

  RequestHead head_;
  MessageReader reader_;
  std::string pending_;  // bytes that have come and are not taken yet
  size_t pending_taken_ = 0;
  std::vector<std::vector<char>> retained_;
  size_t message_bytes_ = 0;  // of the message in reader_, counted by the connection

  RpcHolder handler_;
  std::optional<absl::Status> failure_;  // the transport's own end of the RPC

  absl::InlinedVector<std::string, 1> outgoing_;
  size_t outgoing_index_ = 0;   // of the answer under way
  size_t outgoing_offset_ = 0;  // in it, its head included
  size_t outgoing_bytes_ = 0;   // not sent yet, counted by the connection
  uint64_t rpc_deadline_ns_ = 0;
  uint64_t deadline_ns_ = 0;  // as the context has it

  bool open_ = false;  // the HTTP/2 stream is there
  bool refused_in_http_ = false;
  const char* http_status_ = "";  // then
  bool bad_encoding_ = false;
  bool needs_memory_ = false;   // for a message whose head has been read
  bool message_ready_ = false;  // there is one in reader_
  bool message_given_ = false;  // and it is the handler's
  bool remote_ended_ = false;
  bool half_closed_ = false;  // the handler has been told so
  bool response_begun_ = false;
  bool data_deferred_ = false;  // nghttp2 asks for no DATA until told
  bool trailers_submitted_ = false;
  bool answered_ = false;
  std::atomic<int> posted_{0};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_H2_H2_CALL_H_
