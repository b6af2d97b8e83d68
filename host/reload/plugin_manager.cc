// SPDX-License-Identifier: Apache-2.0

#include "host/reload/plugin_manager.h"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/base/thread.h"
#include "host/reload/plugin_status.h"

namespace callout::host {
namespace {

// How often files are rescanned where the kernel reports changes, in case it missed one, and where
// it reports none.
constexpr uint64_t kSeldomNs = 10'000'000'000;
constexpr uint64_t kOftenNs = 1'000'000'000;
// The least time from one rescan to the next.
constexpr uint64_t kGapNs = 20'000'000;

Reloader::Options ReloaderOptions(const PluginManager::Options& from, GenerationTarget* target,
                                  Metrics* metrics) {
  Reloader::Options options;
  options.sources.plugins = from.plugins;
  options.sources.watch_plugins = from.reload.watch_plugins;
  options.sources.directories = from.reload.directories;
  options.require_plugins = from.reload.require_plugins;
  options.file_rules = from.reload.file_rules;
  options.sources.signed_files = !from.reload.file_rules.keys.empty();
  options.create_timeout_ms = from.reload.create_timeout_ms;
  options.state_dir = from.reload.state_dir;
  options.target = target;
  options.metrics = metrics;
  return options;
}

}  // namespace

PluginSet::Options PluginSetOptions(const ReloadConfig& reload, size_t message_bytes_max,
                                    Metrics* metrics) {
  PluginSet::Options options;
  options.instance.metrics = metrics;
  options.instance.message_bytes_max = message_bytes_max;
  options.instance.strict = reload.strict_plugins;
  options.generations_max = reload.generations_max;
  options.guard = reload.guard;
  options.extensions = reload.extensions;
  return options;
}

PluginManager::PluginManager(const Options& options, Metrics* metrics, GenerationTarget* target,
                             std::shared_ptr<const Wake> wake)
    : generations_max_(options.reload.generations_max),
      target_(target),
      reloader_(ReloaderOptions(options, target, metrics)),
      wake_(std::move(wake)),
      watch_(DirectoryWatch::Create()) {}

PluginManager::~PluginManager() { Stop(); }

absl::StatusOr<std::unique_ptr<PluginManager>> PluginManager::Load(
    const Options& options, Metrics* metrics, GenerationTarget* target,
    std::shared_ptr<const Wake> wake) {
  std::unique_ptr<PluginManager> manager(
      new PluginManager(options, metrics, target, std::move(wake)));
  if (absl::Status status = manager->reloader_.LoadFirst(MonotonicNs()); !status.ok())
    return status;
  return manager;
}

void PluginManager::Follow() {
  reloader_.LogFirst();
  ended_ = false;
  absl::StatusOr<std::thread> thread = StartThread("watching plugin files", [this] {
    Run();
    std::lock_guard<std::mutex> lock(ended_mutex_);
    ended_ = true;
    ended_changed_.notify_all();
  });
  if (!thread.ok()) {
    ended_ = true;
    Log(LogLevel::kError, "{}; changes of plugin files are not taken up",
        MessageOf(thread.status()));
    return;
  }
  thread_ = *std::move(thread);
}

void PluginManager::RescanAll() {
  rescan_all_ = true;
  wake_->Set();
}

absl::Status PluginManager::GoBack(const std::string& plugin, uint64_t timeout_ms) {
  return Ask([this, plugin] { return reloader_.GoBack(plugin); }, timeout_ms);
}

absl::Status PluginManager::Promote(const std::string& plugin, uint64_t timeout_ms) {
  return Ask([this, plugin] { return reloader_.Promote(plugin); }, timeout_ms);
}

absl::Status PluginManager::Release(const std::string& plugin, uint64_t timeout_ms) {
  return Ask(
      [this, plugin] {
        absl::Status status = reloader_.Release(plugin);
        // A version that was withdrawn is loaded by the next rescan.
        if (status.ok()) rescan_now_ = true;
        return status;
      },
      timeout_ms);
}

absl::Status PluginManager::Ask(std::function<absl::Status()> run, uint64_t timeout_ms) {
  if (stop_) return absl::UnavailableError("the host is stopping");
  auto order = std::make_shared<Order>();
  order->run = std::move(run);
  std::future<absl::Status> result = order->result.get_future();
  {
    const std::lock_guard<std::mutex> lock(order_mutex_);
    if (order_ != nullptr) return absl::UnavailableError("another such request waits; try again");
    order_ = order;
  }
  wake_->Set();
  if (result.wait_for(std::chrono::milliseconds(timeout_ms)) == std::future_status::ready) {
    return result.get();
  }
  {
    const std::lock_guard<std::mutex> lock(order_mutex_);
    if (order_ == order) {
      order_ = nullptr;
      return absl::DeadlineExceededError(
          "the thread that loads plugins is busy; nothing was changed");
    }
  }
  return result.get();  // it has begun
}

void PluginManager::TakeOrder() {
  std::shared_ptr<Order> order;
  {
    const std::lock_guard<std::mutex> lock(order_mutex_);
    order = std::exchange(order_, nullptr);
  }
  if (order != nullptr) order->result.set_value(order->run());
}

void PluginManager::BeginStop() {
  stop_ = true;
  wake_->Set();
}

bool PluginManager::AwaitStop(uint64_t timeout_ms) {
  std::unique_lock<std::mutex> lock(ended_mutex_);
  return ended_changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                                 [this] { return ended_; });
}

void PluginManager::Stop() {
  BeginStop();
  if (thread_.joinable()) thread_.join();
}

void PluginManager::Sleep(uint64_t due_ns) const {
  const uint64_t now_ns = MonotonicNs();
  // Rounded up, so that it does not wake too early.
  const uint64_t wait_ms = due_ns <= now_ns ? 0 : (due_ns - now_ns + 999'999) / 1'000'000;
  pollfd readable[] = {{wake_->fd(), POLLIN, 0}, {watch_->fd(), POLLIN, 0}};
  poll(readable, 2, static_cast<int>(wait_ms));
  wake_->Clear();
}

void PluginManager::Run() {
  uint64_t rescanned_ns = 0;
  uint64_t due_ns = 0;  // at once: files may have changed before they were watched
  while (!stop_) {
    const uint64_t chores_due_ns = target_->DoChores();
    reloader_.WithdrawFailed();
    TakeOrder();
    if (std::exchange(rescan_now_, false)) due_ns = 0;
    const uint64_t return_due_ns = reloader_.CheckReturns(MonotonicNs());
    const uint64_t canary_due_ns = reloader_.CheckCanaries(MonotonicNs());
    reloader_.NoteEnded();
    if (watch_->TakeEvents()) due_ns = std::min(due_ns, rescanned_ns + kGapNs);
    if (rescan_all_.exchange(false)) {
      reloader_.Retry();
      due_ns = 0;
    }
    const uint64_t now_ns = MonotonicNs();
    if (now_ns < due_ns) {
      Sleep(std::min({due_ns, canary_due_ns, return_due_ns, chores_due_ns}));
      continue;
    }
    rescanned_ns = now_ns;
    due_ns = std::min(reloader_.Rescan(now_ns), now_ns + (watch_->blind() ? kOftenNs : kSeldomNs));
    if (watch_->Watch(reloader_.watched_paths())) due_ns = 0;
  }
  target_->DoChores();
  reloader_.NoteEnded();
}

std::string PluginManager::StatusJson(const std::vector<prometheus::MetricFamily>& metrics) const {
  return PluginStatusJson(reloader_.Status(), target_->GetUsage(), generations_max_, metrics);
}

}  // namespace callout::host
