// SPDX-License-Identifier: Apache-2.0

#include "host/transport/h2/h2_loop.h"

#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <utility>

#include "host/base/clock.h"
#include "host/base/thread.h"

namespace callout::host {

H2Loop::H2Loop(const CertificateStore* certificates) {
  if (certificates != nullptr) tls_.emplace(certificates);
  epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
}

absl::StatusOr<std::unique_ptr<H2Loop>> H2Loop::Start(const H2Options& options,
                                                      StreamEnvironment* environment,
                                                      const H2Metrics& metrics, H2Shared* shared,
                                                      const std::atomic<bool>* serving,
                                                      const CertificateStore* certificates) {
  std::unique_ptr<H2Loop> loop(new H2Loop(certificates));
  epoll_event event{};
  event.events = EPOLLIN;  // data.ptr is null: the wake
  if (loop->epoll_fd_ < 0 || loop->wake_.fd() < 0 ||
      epoll_ctl(loop->epoll_fd_, EPOLL_CTL_ADD, loop->wake_.fd(), &event) != 0) {
    return absl::UnavailableError(
        "cannot start a thread to serve streams: no descriptor is left; raise the limit "
        "(ulimit -n)");
  }
  loop->handshake_pace_.emplace(options.handshake_percent_max);
  loop->context_.emplace(options, environment, metrics, shared, serving,
                         [wake = &loop->wake_] { wake->Set(); });
  absl::StatusOr<std::thread> thread =
      StartThread("serving streams", [loop = loop.get()] { loop->Run(); });
  if (!thread.ok()) return thread.status();
  loop->thread_ = *std::move(thread);
  return loop;
}

H2Loop::~H2Loop() {
  if (epoll_fd_ >= 0) close(epoll_fd_);
}

// --- Any thread -------------------------------------------------------------

void H2Loop::Add(int fd, bool secure, std::string first) {
  connections_.fetch_add(1, std::memory_order_relaxed);
  Do([=, this, first = std::move(first)] { TakeConnection(fd, secure, first); });
}

void H2Loop::Ask(std::shared_ptr<LiveRpcQuestion> question) {
  if (!question_.Put(std::move(question))) return;
  Do([this] {
    if (const auto open = question_.Take(); open != nullptr) {
      open->Add(ListLiveRpcs(&context_->times(), open->max()));
    }
  });
}

void H2Loop::TellServingChanged() {
  Do([this] {
    for (const auto& socket : sockets_) socket->OnServingChanged();
  });
}

void H2Loop::BeginShutdown() {
  Do([this] {
    shutting_down_ = true;
    for (const auto& socket : sockets_) socket->BeginShutdown();
  });
}

void H2Loop::EndStreams() {
  Do([this] {
    for (const auto& socket : sockets_) socket->EndStreams();
  });
}

void H2Loop::CloseAll() {
  Do([this] {
    for (const auto& socket : sockets_) socket->Close();
  });
}

void H2Loop::Stop() {
  CloseAll();
  Do([this] { stopping_ = true; });
  thread_.join();
}

// --- The loop's thread ------------------------------------------------------

void H2Loop::Run() {
  // OpenSSL writes without MSG_NOSIGNAL.
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  while (!stopping_) {
    const int count = epoll_wait(epoll_fd_, events_.data(), kEventsInTurn, TimeoutMs());
    context_->SetNow(MonotonicNs());
    context_->memory().budget()->TellAllocator();
    std::vector<H2Socket*> again;
    again.swap(again_);
    context_->SetBusy(again.size() + static_cast<size_t>(std::max(count, 0)));
    for (H2Socket* socket : again) {
      socket->again = false;
      socket->OnEvent(0);
      FlushDirty();
    }
    TakeEvents(count);
    TakeHandshakes();
    context_->TakeDeadlines();
    FlushDirty();
    DestroyRemoved();
  }
}

void H2Loop::TakeEvents(int count) {
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events_[static_cast<size_t>(i)];
    auto* socket = static_cast<H2Socket*>(event.data.ptr);
    if (socket != nullptr) {
      socket->OnEvent(event.events);
      FlushDirty();
      continue;
    }
    wake_.Clear();
    for (const auto& task : tasks_.Take()) task();
    context_->TakePosted();
  }
}

// A handshake is a millisecond of arithmetic or more, and its client need do none.
void H2Loop::TakeHandshakes() {
  const size_t max = context_->options().turn_handshakes_max;
  for (size_t i = 0; i < max && !handshakes_.empty(); ++i) {
    const uint64_t begin_ns = MonotonicNs();
    if (handshake_pace_->WaitNs(begin_ns) > 0) break;
    H2Socket* const socket = handshakes_.front();
    handshakes_.pop_front();
    socket->shakes = false;
    socket->OnHandshakeTurn();
    handshake_pace_->OnStep(begin_ns, MonotonicNs());
  }
  if (!handshakes_.empty()) context_->CountCut(H2TurnLimit::kHandshakes);
}

int H2Loop::TimeoutMs() const {
  if (!again_.empty()) return 0;
  if (handshakes_.empty() && context_->next_deadline_ns() == 0) return -1;
  const uint64_t now_ns = MonotonicNs();
  const uint64_t next_ns = NextTurnNs(now_ns);
  if (next_ns <= now_ns) return 0;
  return static_cast<int>(
      std::min<uint64_t>((next_ns - now_ns + kNsPerMs - 1) / kNsPerMs, INT_MAX));
}

uint64_t H2Loop::NextTurnNs(uint64_t now_ns) const {
  const uint64_t deadline_ns = context_->next_deadline_ns();
  if (handshakes_.empty()) return deadline_ns;
  const uint64_t handshake_ns = now_ns + handshake_pace_->WaitNs(now_ns);
  return deadline_ns == 0 ? handshake_ns : std::min(deadline_ns, handshake_ns);
}

// At the limit of connections the one goes that has been of no use for longest.
void H2Loop::MakeRoom() {
  const size_t max = context_->options().loop_connections_max;
  if (max == 0 || sockets_.size() - removed_.size() < max) return;
  H2Socket* least = nullptr;
  const auto use = [](const H2Socket& socket) {
    return std::pair(socket.has_calls(), socket.last_used_ns());
  };
  for (const auto& socket : sockets_) {
    if (socket->closed()) continue;
    if (least == nullptr || use(*socket) < use(*least)) least = socket.get();
  }
  if (least != nullptr) least->Evict();
}

// The socket is in the loop's lists as soon as it is made, so it ends as others do.
void H2Loop::TakeConnection(int fd, bool secure, std::string_view first) {
  const bool refused = !context_->memory().budget()->may_open_connection();
  if (refused) context_->memory().budget()->CountRefusal(MemoryBudget::Use::kConnection);
  if (refused) {
    close(fd);
    connections_.fetch_sub(1, std::memory_order_release);
    return;
  }
  MakeRoom();
  sockets_.push_back(std::make_unique<H2Socket>(this, fd, secure ? &*tls_ : nullptr));
  H2Socket* const socket = sockets_.back().get();
  socket->index = sockets_.size() - 1;
  epoll_event event{};
  event.events = secure ? EPOLLIN | EPOLLRDHUP : EPOLLIN;
  event.data.ptr = socket;
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) return socket->Close();
  if (!first.empty()) socket->OnFirstBytes(first);
}

void H2Loop::SetEvents(H2Socket* socket, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = socket;
  epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, socket->fd(), &event);
}

void H2Loop::MarkDirty(H2Socket* socket) {
  if (!std::exchange(socket->dirty, true)) dirty_.push_back(socket);
}

void H2Loop::ReadAgain(H2Socket* socket) {
  if (!std::exchange(socket->again, true)) again_.push_back(socket);
}

void H2Loop::QueueHandshake(H2Socket* socket) {
  if (!std::exchange(socket->shakes, true)) handshakes_.push_back(socket);
}

void H2Loop::Remove(H2Socket* socket) { removed_.push_back(socket); }

// A flush may bring about more: answers that were waiting for room.
void H2Loop::FlushDirty() {
  while (!dirty_.empty()) {
    flushing_.swap(dirty_);
    for (H2Socket* socket : flushing_) {
      socket->dirty = false;
      socket->Flush();
    }
    flushing_.clear();
  }
}

void H2Loop::DestroyRemoved() {
  for (H2Socket* socket : removed_) {
    if (socket->again) std::erase(again_, socket);
    if (socket->shakes) std::erase(handshakes_, socket);
    if (socket->dirty) std::erase(dirty_, socket);
    const size_t index = socket->index;
    std::swap(sockets_[index], sockets_.back());
    sockets_[index]->index = index;
    sockets_.pop_back();
    connections_.fetch_sub(1, std::memory_order_release);
  }
  removed_.clear();
}

}  // namespace callout::host
