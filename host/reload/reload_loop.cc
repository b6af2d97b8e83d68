#include "host/reload/reload_loop.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "host/base/clock.h"

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
  thread_ = std::thread([this] { Run(); });
}

void ReloadLoop::RescanAll() {
  again_ = true;
  wake_->Set();
}

void ReloadLoop::Stop() {
  stop_ = true;
  wake_->Set();
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
