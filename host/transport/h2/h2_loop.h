// SPDX-License-Identifier: Apache-2.0

// One thread with an epoll of its own, and the connections that live on it.
//
// Each turn takes what is ready, what other threads have posted and what is due,
// and then writes once for each connection that has something to send.
//
// Tested by tests/host/transport/h2/h2_server_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_H2_H2_LOOP_H_
#define CALLOUT_HOST_TRANSPORT_H2_H2_LOOP_H_

#include <sys/epoll.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "host/base/wake.h"
#include "host/net/certificate_store.h"
#include "host/transport/h2/h2_context.h"
#include "host/transport/h2/h2_socket.h"
#include "host/transport/h2/h2_tls.h"
#include "host/transport/h2/handshake_pace.h"
#include "host/transport/live_rpcs.h"
#include "host/transport/mailbox.h"

namespace callout::host {

class H2Loop {
 public:
  static constexpr size_t kReadBytes = 65536;

  // Starts the thread. `certificates` may be null, without a TLS listener. All
  // outlive the loop. UNAVAILABLE if the system gives no descriptors.
  static absl::StatusOr<std::unique_ptr<H2Loop>> Start(const H2Options& options,
                                                       StreamEnvironment* environment,
                                                       const H2Metrics& metrics, H2Shared* shared,
                                                       const std::atomic<bool>* serving,
                                                       const CertificateStore* certificates);
  // After Stop().
  ~H2Loop();

  // --- Any thread ---
  // Takes over a connection, of which `first` has been read already.
  void Add(int fd, bool secure, std::string first = "");
  void TellServingChanged();
  // Asks every client to leave, those yet to come too.
  void BeginShutdown();
  // The time of a drain is up: every stream ends (Stream::OnDrainDeadline).
  void EndStreams();
  // Closes every connection, which cancels its streams.
  void CloseAll();
  void Ask(std::shared_ptr<LiveRpcQuestion> question);
  size_t connections() const { return connections_.load(std::memory_order_acquire); }
  // RPCs that are not over, for this end or for a plugin.
  size_t live() const { return context_->live(); }
  // Ends the thread, and with it every connection. Once, when live() is 0.
  void Stop();

  // --- For H2Socket, on the loop's thread ---
  H2Context* context() { return &*context_; }
  bool shutting_down() const { return shutting_down_; }
  char* read_buffer() { return read_buffer_.get(); }
  std::string& write_buffer() { return write_buffer_; }
  void SetEvents(H2Socket* socket, uint32_t events);
  void MarkDirty(H2Socket* socket);
  // In the next turn its OnEvent is called, whatever epoll says.
  void ReadAgain(H2Socket* socket);
  // Calls its OnHandshakeTurn when its turn has come.
  void QueueHandshake(H2Socket* socket);
  void Remove(H2Socket* socket);

 private:
  explicit H2Loop(const CertificateStore* certificates);

  void Do(std::function<void()> task) { tasks_.Put(std::move(task)); }
  void Run();
  int TimeoutMs() const;
  // When the loop has to wake by itself; 0: never.
  uint64_t NextTurnNs(uint64_t now_ns) const;
  void TakeEvents(int count);
  void TakeHandshakes();
  void TakeConnection(int fd, bool secure, std::string_view first);
  void MakeRoom();
  void FlushDirty();
  void DestroyRemoved();

  std::optional<H2Context> context_;
  std::optional<H2TlsContexts> tls_;
  std::optional<HandshakePace> handshake_pace_;
  int epoll_fd_ = -1;
  const Wake wake_;
  std::thread thread_;

  static constexpr int kEventsInTurn = 128;
  std::array<epoll_event, kEventsInTurn> events_;
  const std::unique_ptr<char[]> read_buffer_{new char[kReadBytes]};
  std::string write_buffer_;
  std::vector<std::unique_ptr<H2Socket>> sockets_;
  std::vector<H2Socket*> dirty_;
  std::vector<H2Socket*> flushing_;  // which were dirty
  std::vector<H2Socket*> again_;
  std::deque<H2Socket*> handshakes_;
  std::vector<H2Socket*> removed_;
  bool shutting_down_ = false;
  bool stopping_ = false;
  std::atomic<size_t> connections_{0};
  Mailbox<std::function<void()>> tasks_{[this] { wake_.Set(); }};
  OpenLiveRpcQuestion question_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_H2_H2_LOOP_H_
