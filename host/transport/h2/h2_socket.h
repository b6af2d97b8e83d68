// SPDX-License-Identifier: Apache-2.0

// A connection with its socket: TLS, reading and writing, and the times that it
// may take. The loop's, on the loop's thread.
//
// Tested by tests/host/transport/h2/h2_server_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_H2_H2_SOCKET_H_
#define CALLOUT_HOST_TRANSPORT_H2_H2_SOCKET_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "host/transport/h2/h2_connection.h"
#include "host/transport/h2/h2_context.h"
#include "host/transport/h2/h2_tls.h"

namespace callout::host {

class H2Loop;

class H2Socket final : public H2Connection::Owner, public H2Timed {
 public:
  // Owns `fd`, which is connected and non-blocking. `tls` is null for plaintext.
  H2Socket(H2Loop* loop, int fd, H2TlsContexts* tls);
  ~H2Socket();

  int fd() const { return fd_; }
  // Of a plaintext connection: somebody else has read them before.
  void OnFirstBytes(std::string_view bytes);
  // The socket may be read or written, or another turn is due. `events`: epoll's; 0: none.
  void OnEvent(uint32_t events);
  void OnHandshakeTurn();  // the loop has time for a step of the TLS handshake
  void Flush();            // sends what there is
  void OnTime(uint64_t now_ns) override;
  void OnOutput() override;

  void BeginShutdown();
  void EndStreams();
  void OnServingChanged();
  // Ends it here and now. The loop destroys it after its turn.
  void Close();
  // The same, to make room for another.
  void Evict();
  bool closed() const { return state_ == State::kClosed; }
  bool has_calls() const { return connection_.has_value() && connection_->has_calls(); }
  // When its last RPC began, or it was opened.
  uint64_t last_used_ns() const {
    return connection_.has_value() ? std::max(opened_ns_, connection_->last_call_ns()) : opened_ns_;
  }

  size_t index = 0;     // in the loop's list
  bool dirty = false;   // in the loop's list of those to flush
  bool again = false;   // in the loop's list of those with more to do
  bool shakes = false;  // in the loop's queue of TLS handshakes

 private:
  enum class State : uint8_t {
    kHandshake,
    kOpen,
    kLingering,  // all is sent: reads until the peer closes, so that none of it is lost
    kClosed,
  };
  // For what epoll is asked. kTurn: for the loop's turn; the peer may only leave.
  enum class Wait : uint8_t { kRead, kWrite, kTurn };

  void Handshake();
  bool BeginTls();
  void FailHandshake();
  void BeginTurn();
  bool Recount();
  void OpenConnection();
  void Read();
  void Discard();
  // Whether all has gone out. Else the rest waits for the peer or for the next turn, or the socket
  // is closed.
  bool WriteOutput();
  void OnBlocked();
  void Linger();
  // Bytes moved; 0: the socket would block; -1: closed or broken.
  ptrdiff_t ReadSome(char* buffer, size_t size);
  ptrdiff_t WriteSome(std::string_view bytes);
  ptrdiff_t SslResult(int result);
  void SetReadBlocked(bool blocked);
  void SetWait(Wait wait);
  void CheckTimes(uint64_t now_ns);
  uint64_t NextDeadline() const;
  void Reschedule();

  H2Loop* const loop_;
  H2Context* const context_;
  const int fd_;
  H2TlsContexts* const tls_;
  SslPtr ssl_;                 // from the first turn of the handshake on
  uint64_t key_updates_ = 0;   // by TLS, and not yet counted
  bool read_blocked_ = false;  // TLS has to write before it reads on
  std::optional<H2Connection> connection_;
  State state_;
  Wait wait_ = Wait::kRead;
  std::string unsent_;      // what the socket would not take
  size_t turn_bytes_ = 0;   // sent in this turn
  bool turn_cut_ = false;   // with more to send
  bool flushing_ = false;   // WriteOutput is at work
  size_t drawn_bytes_ = 0;  // of the process's memory

  uint64_t deadline_ns_ = 0;  // as the context has it
  const uint64_t opened_ns_;
  const uint64_t age_ns_;  // when it is old; 0: never
  uint64_t last_read_ns_;
  uint64_t idle_since_ns_;
  uint64_t blocked_ns_ = 0;   // since when unsent_ has bytes, or read_blocked_
  uint64_t pinged_ns_ = 0;    // when the peer was asked for a sign of life
  uint64_t shutdown_ns_ = 0;  // when BeginShutdown was called
  bool shutdown_finished_ = false;
  uint64_t linger_end_ns_ = 0;
  bool old_ = false;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_H2_H2_SOCKET_H_
