// SPDX-License-Identifier: Apache-2.0

// One HTTP/2 connection without its socket: bytes in, RPCs, bytes out.
//
//     connection.BeginTurn();
//     connection.OnBytes(read from the peer);
//     while (connection.Fill(&out, 65536)) write(out);
//     if (connection.has_work()) take another turn, after the others;
//     if (connection.done()) close it;
//
// A turn has a budget of messages, so that a client that has prepared much work cannot
// hold up others: what is left is done in the next turns.
//
// Flow control is backpressure both ways. What a busy stream cannot take stays in
// its window of 65,535 bytes; a message is admitted, by the size in its head,
// only while the connection's memory allows; a stream takes no further message
// while its answers are not sent.
//
// Loop's thread only.
#ifndef CALLOUT_HOST_TRANSPORT_H2_H2_CONNECTION_H_
#define CALLOUT_HOST_TRANSPORT_H2_H2_CONNECTION_H_

#include <nghttp2/nghttp2.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "host/transport/h2/h2_call.h"
#include "host/transport/h2/h2_context.h"
#include "host/transport/h2/h2_guard.h"

namespace callout::host {

class H2Connection {
 public:
  class Owner {
   public:
    // There may be something to send that no OnBytes() has brought about.
    virtual void OnOutput() = 0;

   protected:
    ~Owner() = default;
  };

  // `context` and `owner` outlive the connection.
  H2Connection(H2Context* context, std::shared_ptr<const H2Peer> peer, Owner* owner);
  // Cancels what is left of its RPCs.
  ~H2Connection();
  H2Connection(const H2Connection&) = delete;
  H2Connection& operator=(const H2Connection&) = delete;

  // The connection may work again.
  void BeginTurn() { turn_left_ = context_->turn_messages(); }
  // Reads them; what they ask for is done in Work(), or else in Fill().
  void OnBytes(std::string_view bytes);
  void Work();
  // The turn is over and there is more to do.
  bool has_work() const { return turn_left_ == 0 && !ready_.empty(); }
  bool turn_is_over() const { return turn_left_ == 0; }
  // Appends what is to be sent until there are `bytes_max`; false if `out` is
  // empty after it.
  bool Fill(std::string* out, size_t bytes_max);
  // Nothing more is to be read, and once all is sent the connection is over.
  bool done() const;
  // The peer broke the protocol or a limit: nothing is owed to it.
  bool broken() const { return broken_; }

  // The peer has begun to speak HTTP/2.
  bool settled() const { return guard_.settled(); }
  bool has_calls() const { return call_count_ > 0; }
  uint64_t last_call_ns() const { return last_call_ns_; }  // when it began; 0: none has
  // When the last call ended, while there is none.
  uint64_t idle_since_ns() const { return idle_since_ns_; }
  // TLS has taken so many.
  void OnKeyUpdates(uint64_t count);

  // Asks the client to open no more streams, and closes after the last of those
  // that are open: GOAWAY, and when the client has seen that, or the owner says
  // FinishShutdown, a second GOAWAY that names the last stream.
  void BeginShutdown();
  void FinishShutdown();
  bool shutdown_begun() const { return shutdown_begun_; }
  // The time of a drain is up: every stream ends.
  void EndStreams();
  // Ends it with GOAWAY, and counts why.
  void Terminate(H2Reason reason);
  void Ping();
  void OnServingChanged();
  // What it keeps beside its streams, in bytes.
  size_t kept_bytes() const { return 2 * guard_.block_bytes(); }

  // --- For H2Call ---
  const std::shared_ptr<const H2Peer>& peer() const { return peer_; }
  // Counts bytes of a message that is about to come; false: not now, but OnAdmitted and
  // OnResume follow, in the order of asking.
  bool Admit(H2Call* call, size_t bytes);
  void AddBytes(size_t bytes) { memory_bytes_ += bytes; }
  void RemoveBytes(size_t bytes) {
    memory_bytes_ -= bytes;
    if (bytes > 0 && need_first_ != nullptr) AdmitWaiting();
  }
  void StopWaiting(H2Call* call);
  // Whether the turn has room for a message of so many bytes; if so it is counted.
  bool SpendTurn(size_t message_bytes);
  void Consume(H2Call* call, size_t bytes);
  void SubmitHeaders(H2Call* call, const nghttp2_nv* headers, size_t count, bool with_data);
  // While nghttp2 asks for DATA; else OnOutput() is to follow.
  void SubmitTrailers(H2Call* call, const nghttp2_nv* headers, size_t count);
  void OnOutput() { owner_->OnOutput(); }
  // nghttp2 asks for DATA once more: after the last frame of what it was given has been sent.
  void SubmitData(H2Call* call);
  void Reset(H2Call* call);
  void Resume(H2Call* call);  // calls its OnResume soon
  void Forget(H2Call* call);  // it is going

 private:
  struct Callbacks;

  void OnBeginHeaders(int32_t stream_id);
  void OnFrame(const nghttp2_frame& frame);
  void OnFrameSent(const nghttp2_frame& frame);
  void OnEndSent(int32_t stream_id);
  void OnStreamClosed(H2Call* call, uint32_t error_code);
  H2Call* Find(int32_t stream_id);  // null: none
  void PutBack(size_t begin);
  bool Fits(size_t bytes) const;
  void AdmitWaiting();
  void OnUnansweredReset();
  void OnLateReset();

  void NoteResult(int result);

  H2Context* const context_;
  const std::shared_ptr<const H2Peer> peer_;
  Owner* const owner_;
  nghttp2_session* session_ = nullptr;
  H2Guard guard_;
  H2Budget resets_;          // of streams that had no answer yet
  H2Budget late_resets_;     // of streams that are over
  H2Call* found_ = nullptr;  // by Find, the last time
  H2Call* calls_ = nullptr;
  size_t call_count_ = 0;
  size_t memory_bytes_ = 0;
  H2Call* need_first_ = nullptr;  // those that wait for memory, in order of asking
  H2Call* need_last_ = nullptr;
  std::vector<H2Call*> ready_;    // null: gone meanwhile
  std::vector<H2Call*> working_;  // empty but during Work
  size_t turn_left_;
  size_t block_bytes_ = 0;  // of the header block under way, decoded
  size_t block_bytes_max_ = 0;
  size_t turn_header_bytes_ = 0;  // decoded, and not yet counted
  uint64_t last_call_ns_ = 0;
  uint64_t idle_since_ns_;
  bool broken_ = false;
  bool asked_to_leave_ = false;  // for its resets
  bool shutdown_begun_ = false;
  bool shutdown_finished_ = false;
  H2Reason reason_ = H2Reason::kNone;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_H2_H2_CONNECTION_H_
