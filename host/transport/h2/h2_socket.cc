// SPDX-License-Identifier: Apache-2.0

#include "host/transport/h2/h2_socket.h"

#include <openssl/err.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <utility>

#include "host/base/clock.h"
#include "host/net/address.h"
#include "host/transport/h2/h2_loop.h"

namespace callout::host {
namespace {

// Reads of one connection, and bytes sent on it, before the others have their turn.
constexpr int kReadsInTurn = 4;
constexpr size_t kTurnBytes = 262144;
constexpr size_t kTurnBytesMin = 65536;
constexpr size_t kReadBytesMin = 16384;
// What a connection costs, in cleartext and in TLS: its objects, nghttp2's session and
// tables, OpenSSL's buffers.
constexpr size_t kConnectionBytes = 16384;
constexpr size_t kTlsBytes = 49152;
// While the handshake lasts OpenSSL reserves what a ClientHello announces: up to 128 KiB.
constexpr size_t kHandshakeBytes = 196608;
constexpr size_t kWriteBytes = 65536;
// What a client that is asked to leave gets to see GOAWAY, and to close in peace.
constexpr uint64_t kShutdownNoticeNs = 200 * kNsPerMs;
constexpr uint64_t kLingerNs = 200 * kNsPerMs;

// The age with a tenth more or less: clients that came together do not all leave
// together.
uint64_t AgeNs(uint64_t now_ns, uint64_t age_ms) {
  if (age_ms == 0) return 0;
  static thread_local std::minstd_rand random(std::random_device{}());
  return now_ns + age_ms * kNsPerMs / 100 * (90 + random() % 21);
}

}  // namespace

H2Socket::H2Socket(H2Loop* loop, int fd, H2TlsContexts* tls)
    : loop_(loop),
      context_(loop->context()),
      fd_(fd),
      tls_(tls),
      state_(tls_ != nullptr ? State::kHandshake : State::kOpen),
      opened_ns_(context_->now_ns()),
      age_ns_(AgeNs(opened_ns_, context_->options().connection_age_ms)),
      last_read_ns_(opened_ns_),
      idle_since_ns_(opened_ns_) {
  if (state_ == State::kOpen) OpenConnection();
  Recount();
  Reschedule();
}

H2Socket::~H2Socket() {
  context_->SetDeadline(this, deadline_ns_, 0);
  connection_.reset();
  context_->memory().Resize(&drawn_bytes_, 0);
  close(fd_);
}

// False: the budget has not as much.
bool H2Socket::Recount() {
  const size_t tls_bytes = state_ == State::kHandshake ? kHandshakeBytes : kTlsBytes;
  size_t bytes = kConnectionBytes + (ssl_ != nullptr ? tls_bytes : 0) + unsent_.capacity();
  if (connection_.has_value()) bytes += connection_->kept_bytes();
  return context_->memory().Resize(&drawn_bytes_, bytes);
}

void H2Socket::OpenConnection() {
  auto peer = std::make_shared<H2Peer>();
  peer->address = PeerText(fd_);
  if (ssl_ != nullptr) {
    peer->secure = true;
    peer->identity = PeerIdentity(ssl_.get());
  }
  peer->count = context_->CountOf(peer->address);
  state_ = State::kOpen;
  connection_.emplace(context_, std::move(peer), this);
  OnOutput();
  if (loop_->shutting_down()) BeginShutdown();
}

void H2Socket::OnEvent(uint32_t events) {
  if (state_ == State::kHandshake) {
    // Who has gone already is not worth the arithmetic.
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) return Close();
    SetWait(Wait::kTurn);
    return loop_->QueueHandshake(this);
  }
  BeginTurn();
  if (state_ == State::kOpen) {
    if (!unsent_.empty()) Flush();
    Read();
  }
  if (state_ == State::kLingering) Discard();
}

void H2Socket::OnHandshakeTurn() {
  if (state_ == State::kHandshake) Handshake();
  if (state_ != State::kOpen) return;
  BeginTurn();
  Read();
}

void H2Socket::BeginTurn() {
  turn_bytes_ = 0;
  if (!connection_.has_value()) return;
  const bool had_work = connection_->has_work();
  connection_->BeginTurn();
  if (std::exchange(turn_cut_, false) || had_work) OnOutput();
  // Before more is read: reading alone may take a whole turn.
  if (had_work) connection_->Work();
}

void H2Socket::OnFirstBytes(std::string_view bytes) {
  connection_->OnBytes(bytes);
  Reschedule();
  OnOutput();
}

// A flush also sends the output that it causes.
void H2Socket::OnOutput() {
  if (!flushing_) loop_->MarkDirty(this);
}

// --- TLS --------------------------------------------------------------------

ptrdiff_t H2Socket::SslResult(int result) {
  if (result > 0) return result;
  const int error = SSL_get_error(ssl_.get(), result);
  return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

// OpenSSL's end of the connection costs as much as accepting it, so it waits for the first bytes
// and for its turn.
bool H2Socket::BeginTls() {
  ssl_ = tls_->Accept(fd_, &key_updates_);
  if (ssl_ == nullptr) return false;
  const bool has_memory = Recount();
  if (!has_memory) context_->memory().budget()->CountRefusal(MemoryBudget::Use::kConnection);
  return has_memory;
}

void H2Socket::Handshake() {
  if (ssl_ == nullptr && !BeginTls()) return FailHandshake();
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1 && HasChosenH2(ssl_.get())) {
    OpenConnection();
    Recount();
    return SetWait(Wait::kRead);
  }
  const int error = SSL_get_error(ssl_.get(), result);
  if (result != 1 && error == SSL_ERROR_WANT_READ) return SetWait(Wait::kRead);
  if (result != 1 && error == SSL_ERROR_WANT_WRITE) return SetWait(Wait::kWrite);
  FailHandshake();
}

void H2Socket::FailHandshake() {
  context_->CountClosed(H2Reason::kHandshake);
  Close();
}

// --- Reading and writing ----------------------------------------------------

ptrdiff_t H2Socket::ReadSome(char* buffer, size_t size) {
  if (ssl_ != nullptr) {
    ERR_clear_error();
    const ptrdiff_t moved = SslResult(SSL_read(ssl_.get(), buffer, static_cast<int>(size)));
    SetReadBlocked(moved == 0 && SSL_want_write(ssl_.get()));
    return moved;
  }
  const ssize_t result = recv(fd_, buffer, size, 0);
  if (result > 0) return result;
  return result < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

// OpenSSL reads on once the socket has taken its own answer, to a KeyUpdate for example. A peer
// that takes nothing gets no more time for that than for a response.
void H2Socket::SetReadBlocked(bool blocked) {
  if (!blocked && !read_blocked_) return;
  read_blocked_ = blocked;
  if (!blocked) {
    blocked_ns_ = 0;
  } else if (blocked_ns_ == 0) {
    blocked_ns_ = context_->now_ns();
  }
  SetWait(blocked ? Wait::kWrite : Wait::kRead);
  Reschedule();
}

ptrdiff_t H2Socket::WriteSome(std::string_view bytes) {
  if (ssl_ != nullptr) {
    ERR_clear_error();
    return SslResult(SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())));
  }
  const ssize_t result = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (result >= 0) return result;
  return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

// While the peer does not take what it is sent, it is not listened to either.
void H2Socket::Read() {
  const size_t most = context_->TurnPart(H2Loop::kReadBytes, kReadBytesMin);
  for (int i = 0; i < kReadsInTurn; ++i) {
    if (state_ != State::kOpen || !unsent_.empty()) return;
    if (connection_->turn_is_over()) return loop_->ReadAgain(this);
    const ptrdiff_t size = ReadSome(loop_->read_buffer(), most);
    const uint64_t updates = TakeKeyUpdates(ssl_.get(), &key_updates_);
    if (updates > 0) connection_->OnKeyUpdates(updates);
    if (size < 0) return Close();
    // After a KeyUpdate OpenSSL may hold what epoll cannot see.
    if (size == 0 && updates > 0 && !read_blocked_) loop_->ReadAgain(this);
    if (size == 0) return;
    last_read_ns_ = context_->now_ns();
    const bool was_settled = connection_->settled();
    connection_->OnBytes({loop_->read_buffer(), static_cast<size_t>(size)});
    if (!was_settled && connection_->settled()) Reschedule();
    OnOutput();
    Recount();
    // A short read has emptied the socket; of TLS it is one record.
    if (ssl_ == nullptr && static_cast<size_t>(size) < most) return;
  }
  if (ssl_ != nullptr) loop_->ReadAgain(this);  // OpenSSL may hold what epoll cannot see
}

void H2Socket::Flush() {
  if (state_ != State::kOpen) return;
  flushing_ = true;
  const bool all_written = WriteOutput();
  flushing_ = false;
  if (!all_written) return;
  if (connection_->broken()) return Close();
  if (connection_->has_work()) {
    context_->CountCut(H2TurnLimit::kMessages);
    loop_->ReadAgain(this);
  }
  // The connection may have asked its client to leave by itself.
  if (shutdown_ns_ == 0 && connection_->shutdown_begun()) BeginShutdown();
  if (connection_->done()) Linger();
}

bool H2Socket::WriteOutput() {
  for (;;) {
    const bool was_unsent = !unsent_.empty();
    std::string& out = was_unsent ? unsent_ : loop_->write_buffer();
    if (!was_unsent) {
      if (turn_bytes_ >= context_->TurnPart(kTurnBytes, kTurnBytesMin)) {
        context_->CountCut(H2TurnLimit::kBytes);
        turn_cut_ = true;
        loop_->ReadAgain(this);
        return false;
      }
      out.clear();
      if (!connection_->Fill(&out, kWriteBytes)) return true;
    }
    size_t sent = 0;
    while (sent < out.size()) {
      const ptrdiff_t size = WriteSome(std::string_view(out).substr(sent));
      if (size < 0) {
        Close();
        return false;
      }
      if (size == 0) break;
      sent += static_cast<size_t>(size);
    }
    turn_bytes_ += sent;
    if (sent < out.size()) {
      if (was_unsent) {
        unsent_.erase(0, sent);
      } else {
        unsent_.assign(out, sent);
      }
      if (sent > 0 || !was_unsent) blocked_ns_ = context_->now_ns();
      OnBlocked();
      return false;
    }
    if (was_unsent) {
      std::string().swap(unsent_);  // assigning would keep its memory
      blocked_ns_ = 0;
      Recount();
      SetWait(Wait::kRead);
      if (ssl_ != nullptr) loop_->ReadAgain(this);
    } else if (out.size() < kWriteBytes) {
      return true;  // it had room for more, and there was none
    }
  }
}

// The rest waits for the peer.
void H2Socket::OnBlocked() {
  SetWait(Wait::kWrite);
  if (connection_->broken()) return Close();
  Recount();
  Reschedule();
}

void H2Socket::SetWait(Wait wait) {
  if (wait_ == wait) return;
  wait_ = wait;
  const uint32_t handshake = state_ == State::kHandshake ? EPOLLRDHUP : 0U;
  const uint32_t ready = wait == Wait::kRead ? EPOLLIN : wait == Wait::kWrite ? EPOLLOUT : 0U;
  loop_->SetEvents(this, ready | handshake);
}

// Closing with unread bytes resets the connection, and the last answers may be
// lost with it.
void H2Socket::Linger() {
  state_ = State::kLingering;
  linger_end_ns_ = context_->now_ns() + kLingerNs;
  if (ssl_ != nullptr) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
  }
  shutdown(fd_, SHUT_WR);
  SetWait(Wait::kRead);
  Reschedule();
}

void H2Socket::Discard() {
  const ssize_t size = recv(fd_, loop_->read_buffer(), H2Loop::kReadBytes, 0);
  if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) Close();
}

void H2Socket::Close() {
  if (std::exchange(state_, State::kClosed) != State::kClosed) loop_->Remove(this);
}

// --- Times ------------------------------------------------------------------

void H2Socket::OnTime(uint64_t now_ns) {
  if (state_ != State::kClosed) CheckTimes(now_ns);
  Reschedule();
}

void H2Socket::CheckTimes(uint64_t now_ns) {
  const H2Options& options = context_->options();
  const auto end = [this](H2Reason reason) {
    context_->CountClosed(reason);
    Close();
  };
  if (state_ == State::kLingering) {
    if (now_ns >= linger_end_ns_) Close();
    return;
  }
  if (shutdown_ns_ != 0 && !shutdown_finished_ && now_ns >= shutdown_ns_ + kShutdownNoticeNs) {
    shutdown_finished_ = true;
    connection_->FinishShutdown();
  }
  if (state_ == State::kHandshake || !connection_->settled()) {
    if (now_ns >= opened_ns_ + options.handshake_timeout_ms * kNsPerMs)
      end(H2Reason::kHandshakeTimeout);
    return;
  }
  const uint64_t silence_ns = options.keepalive_timeout_ms * kNsPerMs;
  if (blocked_ns_ != 0 && now_ns >= blocked_ns_ + silence_ns) return end(H2Reason::kWriteStall);
  if (pinged_ns_ != 0 && last_read_ns_ >= pinged_ns_) pinged_ns_ = 0;
  if (pinged_ns_ != 0 && now_ns >= pinged_ns_ + silence_ns) return end(H2Reason::kKeepalive);
  if (pinged_ns_ == 0 && now_ns >= last_read_ns_ + options.keepalive_ms * kNsPerMs) {
    pinged_ns_ = now_ns;
    connection_->Ping();
  }
  // A PING and its answer are no use of the connection.
  idle_since_ns_ =
      connection_->has_calls() ? now_ns : std::max(idle_since_ns_, connection_->idle_since_ns());
  if (old_ && now_ns >= age_ns_ + options.connection_age_grace_ms * kNsPerMs) return Close();
  const bool idle = options.connection_idle_ms != 0 &&
                    now_ns >= idle_since_ns_ + options.connection_idle_ms * kNsPerMs;
  const bool old = age_ns_ != 0 && now_ns >= age_ns_;
  if (shutdown_ns_ == 0 && (idle || old)) {
    context_->CountClosed(idle ? H2Reason::kIdle : H2Reason::kAge);
    BeginShutdown();
  }
  old_ = old_ || old;
}

uint64_t H2Socket::NextDeadline() const {
  const H2Options& options = context_->options();
  if (state_ == State::kClosed) return 0;
  if (state_ == State::kLingering) return linger_end_ns_;
  uint64_t next = opened_ns_ + options.handshake_timeout_ms * kNsPerMs;
  const auto consider = [&next](uint64_t deadline_ns) { next = std::min(next, deadline_ns); };
  if (shutdown_ns_ != 0 && !shutdown_finished_) consider(shutdown_ns_ + kShutdownNoticeNs);
  if (state_ == State::kHandshake || !connection_->settled()) return next;
  const uint64_t silence_ns = options.keepalive_timeout_ms * kNsPerMs;
  next =
      pinged_ns_ != 0 ? pinged_ns_ + silence_ns : last_read_ns_ + options.keepalive_ms * kNsPerMs;
  if (shutdown_ns_ != 0 && !shutdown_finished_) consider(shutdown_ns_ + kShutdownNoticeNs);
  if (blocked_ns_ != 0) consider(blocked_ns_ + silence_ns);
  if (shutdown_ns_ == 0 && options.connection_idle_ms != 0) {
    consider(idle_since_ns_ + options.connection_idle_ms * kNsPerMs);
  }
  if (old_) {
    consider(age_ns_ + options.connection_age_grace_ms * kNsPerMs);
  } else if (age_ns_ != 0) {
    consider(age_ns_);
  }
  return next;
}

// Not with each byte: what a read puts off is found out when the time has come.
void H2Socket::Reschedule() {
  const uint64_t next_ns = NextDeadline();
  context_->SetDeadline(this, deadline_ns_, next_ns);
  deadline_ns_ = next_ns;
}

// --- From the loop ----------------------------------------------------------

void H2Socket::Evict() {
  context_->CountClosed(H2Reason::kEvicted);
  Close();
}

void H2Socket::BeginShutdown() {
  if (shutdown_ns_ != 0 || state_ != State::kOpen) {
    if (state_ == State::kHandshake) Close();
    return;
  }
  shutdown_ns_ = context_->now_ns();
  connection_->BeginShutdown();
  Reschedule();
}

void H2Socket::EndStreams() {
  if (state_ == State::kOpen) connection_->EndStreams();
}

void H2Socket::OnServingChanged() {
  if (state_ == State::kOpen) connection_->OnServingChanged();
}

}  // namespace callout::host
