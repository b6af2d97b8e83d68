#include "host/transport/h2/h2_loop.h"
#include "host/base/clock.h"

#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <utility>

namespace callout::host {
namespace {

constexpr int kEventsInTurn = 128;
constexpr uint64_t kMs = 1'000'000;

}  // namespace

H2Loop::H2Loop(const CertificateStore* certificates) {
  if (certificates != nullptr) tls_.emplace(certificates);
  epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
}

absl::StatusOr<std::unique_ptr<H2Loop>> H2Loop::Start(const H2Options& options,
                                                      StreamEnvironment* environment,
                                                      const H2Metrics& metrics,
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
  loop->context_.emplace(options, environment, metrics, serving,
                         [wake = &loop->wake_] { wake->Set(); });
  loop->thread_ = std::thread([loop = loop.get()] { loop->Run(); });
  return loop;
}

H2Loop::~H2Loop() {
  if (epoll_fd_ >= 0) close(epoll_fd_);
}

// --- Any thread -------------------------------------------------------------

void H2Loop::Do(std::function<void()> task) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  wake_.Set();
}

void H2Loop::Add(int fd, bool secure) {
  connections_.fetch_add(1, std::memory_order_relaxed);
  Do([=, this] { TakeConnection(fd, secure); });
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
  std::array<epoll_event, kEventsInTurn> events;
  while (!stopping_) {
    const int count = epoll_wait(epoll_fd_, events.data(), kEventsInTurn, TimeoutMs());
    context_->SetNow(MonotonicNs());
    std::vector<H2Socket*> again;
    again.swap(again_);
    for (H2Socket* socket : again) {
      socket->again = false;
      socket->OnEvent();
    }
    for (int i = 0; i < count; ++i) {
      auto* socket = static_cast<H2Socket*>(events[static_cast<size_t>(i)].data.ptr);
      if (socket != nullptr) {
        socket->OnEvent();
        FlushDirty();
        continue;
      }
      wake_.Clear();
      TakeTasks();
      context_->TakePosted();
    }
    context_->TakeDeadlines();
    FlushDirty();
    DestroyRemoved();
  }
}

int H2Loop::TimeoutMs() const {
  if (!again_.empty()) return 0;
  const uint64_t next_ns = context_->next_deadline_ns();
  if (next_ns == 0) return -1;
  const uint64_t now_ns = MonotonicNs();
  if (next_ns <= now_ns) return 0;
  return static_cast<int>(std::min<uint64_t>((next_ns - now_ns + kMs - 1) / kMs, INT_MAX));
}

void H2Loop::TakeTasks() {
  std::vector<std::function<void()>> tasks;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    tasks.swap(tasks_);
  }
  for (const auto& task : tasks) task();
}

void H2Loop::TakeConnection(int fd, bool secure) {
  SslPtr ssl = secure ? tls_->Accept(fd) : nullptr;
  epoll_event event{};
  event.events = EPOLLIN;
  std::unique_ptr<H2Socket> socket;
  if (!secure || ssl != nullptr) {
    socket = std::make_unique<H2Socket>(this, fd, std::move(ssl));
    event.data.ptr = socket.get();
  }
  if (socket == nullptr || epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) {
    if (socket == nullptr) close(fd);
    connections_.fetch_sub(1, std::memory_order_release);
    return;
  }
  socket->index = sockets_.size();
  sockets_.push_back(std::move(socket));
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

void H2Loop::Remove(H2Socket* socket) { removed_.push_back(socket); }

// A flush may bring about more: answers that were waiting for room.
void H2Loop::FlushDirty() {
  while (!dirty_.empty()) {
    std::vector<H2Socket*> dirty;
    dirty.swap(dirty_);
    for (H2Socket* socket : dirty) {
      socket->dirty = false;
      socket->Flush();
    }
  }
}

void H2Loop::DestroyRemoved() {
  for (H2Socket* socket : removed_) {
    if (socket->again) std::erase(again_, socket);
    const size_t index = socket->index;
    std::swap(sockets_[index], sockets_.back());
    sockets_[index]->index = index;
    sockets_.pop_back();
    connections_.fetch_sub(1, std::memory_order_release);
  }
  removed_.clear();
}

}  // namespace callout::host
