// SPDX-License-Identifier: Apache-2.0

#include "host/reload/reload_loop.h"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/base/thread.h"

namespace callout::host {
namespace {

// How often to look where the kernel tells of changes, in case it has not; and
// where it does not.
constexpr uint64_t kSeldomNs = 10'000'000'000;
constexpr uint64_t kOftenNs = 1'000'000'000;
// Between looks, however much happens.
constexpr uint64_t kGapNs = 20'000'000;

}  // namespace

ReloadLoop::ReloadLoop(std::shared_ptr<const Wake> wake)
    : wake_(std::move(wake)), watch_(DirectoryWatch::Create()) {}

void ReloadLoop::Start(Reloader* reloader, std::function<void()> chores) {
  reloader_ = reloader;
  chores_ = std::move(chores);
  ended_ = false;
  absl::StatusOr<std::thread> thread = StartThread("watching plugin files", [this] {
    Run();
    std::lock_guard<std::mutex> lock(ended_mutex_);
    ended_ = true;
    ended_changed_.notify_all();
  });
  if (!thread.ok()) ended_ = true;
  if (!thread.ok()) {
    Log(LogLevel::kError, "{}; changes of plugin files are not taken up",
        MessageOf(thread.status()));
    return;
  }
  thread_ = *std::move(thread);
}

void ReloadLoop::RescanAll() {
  again_ = true;
  wake_->Set();
}

void ReloadLoop::BeginStop() {
  stop_ = true;
  wake_->Set();
}

bool ReloadLoop::AwaitStop(uint64_t timeout_ms) {
  std::unique_lock<std::mutex> lock(ended_mutex_);
  return ended_changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                                 [this] { return ended_; });
}

void ReloadLoop::Stop() {
  BeginStop();
  if (thread_.joinable()) thread_.join();
}

void ReloadLoop::Sleep(uint64_t due_ns) const {
  const uint64_t now_ns = MonotonicNs();
  // Rounded up, so as not to wake a moment too early.
  const uint64_t wait_ms = due_ns <= now_ns ? 0 : (due_ns - now_ns + 999'999) / 1'000'000;
  pollfd readable[] = {{wake_->fd(), POLLIN, 0}, {watch_->fd(), POLLIN, 0}};
  poll(readable, 2, static_cast<int>(wait_ms));
  wake_->Clear();
}

void ReloadLoop::Run() {
  uint64_t looked_ns = 0;
  uint64_t due_ns = 0;  // at once: for what happened before there was a watch
  while (!stop_) {
    chores_();
    reloader_->WithdrawFailed();
    reloader_->NoteEnded();
    if (watch_->TakeEvents()) due_ns = std::min(due_ns, looked_ns + kGapNs);
    if (again_.exchange(false)) {
      reloader_->Retry();
      due_ns = 0;
    }
    const uint64_t now_ns = MonotonicNs();
    if (now_ns < due_ns) {
      Sleep(due_ns);
      continue;
    }
    looked_ns = now_ns;
    due_ns = std::min(reloader_->Rescan(now_ns), now_ns + (watch_->blind() ? kOftenNs : kSeldomNs));
    if (watch_->Watch(reloader_->watched_paths())) due_ns = 0;
  }
  chores_();
  reloader_->NoteEnded();
}

}  // namespace callout::host
