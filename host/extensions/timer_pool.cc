// SPDX-License-Identifier: Apache-2.0

#include "host/extensions/timer_pool.h"

#include <chrono>
#include <string_view>

#include <fmt/format.h>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/base/thread.h"

namespace callout::host {
namespace {

constexpr uint64_t kThreadRetryNs = 1'000'000'000;
constexpr uint64_t kNotQueued = UINT64_MAX;
// How long the end of an instance waits for its timer before the log says so.
constexpr std::chrono::seconds kTimerPatience{5};

Metrics::Id DefineOr0(Metrics* metrics, Metrics::Kind kind, const char* name, const char* help,
                      const std::string& plugin) {
  return metrics->Define(kind, name, help, {{"plugin", plugin}}).value_or(0);
}

std::chrono::steady_clock::time_point AtNs(uint64_t ns) {
  return std::chrono::steady_clock::time_point(std::chrono::nanoseconds(ns));
}

double Seconds(uint64_t ns) { return static_cast<double>(ns) * 1e-9; }

}  // namespace

// --- The pool ---

TimerPool::TimerPool(const Options& options, Metrics* metrics)
    : options_(options), metrics_(metrics) {}

TimerPool::~TimerPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  due_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool TimerPool::Stop(uint64_t timeout_ms) {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  due_.notify_all();
  return returned_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                            [this] { return running_ == 0; });
}

// With the lock. False if there is none at all.
bool TimerPool::AddThread() {
  const uint64_t now_ns = MonotonicNs();
  if (threads_.size() >= options_.threads_max || now_ns < try_threads_at_ns_) {
    return !threads_.empty();
  }
  absl::StatusOr<std::thread> thread = StartThread("timers of plugins", [this] { Run(); });
  if (thread.ok()) {
    threads_.push_back(*std::move(thread));
    ++idle_;  // it is as good as waiting
    return true;
  }
  try_threads_at_ns_ = now_ns + kThreadRetryNs;
  LogLimited(LogLevel::kError, "timer_pool/thread", "{}; there are {} of --max_timer_threads={}",
             MessageOf(thread.status()), threads_.size(), options_.threads_max);
  return !threads_.empty();
}

// With the lock: the set has a timer that may run.
void TimerPool::Queue(TimerSet* set) {
  if (!set->IsReady() || set->waiting_.empty()) return;
  const uint64_t due_ns = set->waiting_.begin()->first.first;
  if (due_ns == set->queued_at_ns_) return;
  Unqueue(set);
  set->queued_at_ns_ = due_ns;
  const auto place = queue_.emplace(due_ns, set).first;
  if (place == queue_.begin()) due_.notify_one();
}

void TimerPool::Unqueue(TimerSet* set) {
  if (set->queued_at_ns_ == kNotQueued) return;
  queue_.erase({set->queued_at_ns_, set});
  set->queued_at_ns_ = kNotQueued;
}

void TimerPool::Run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (queue_.empty()) {
      due_.wait(lock);
      continue;
    }
    const auto [due_ns, set] = *queue_.begin();
    if (MonotonicNs() < due_ns) {
      due_.wait_until(lock, AtNs(due_ns));
      continue;
    }
    Unqueue(set);
    --idle_;
    // Somebody has to wait for the next one meanwhile.
    if (!queue_.empty()) {
      if (idle_ == 0) AddThread();
      due_.notify_one();
    }
    RunOne(set, &lock);
    ++idle_;
  }
}

// The earliest timer of the set. Unlocks while it runs.
void TimerPool::RunOne(TimerSet* set, std::unique_lock<std::mutex>* lock) {
  const auto first = set->waiting_.begin();
  const auto [due_ns, id] = first->first;
  callout_timer_t timer = first->second;
  set->waiting_.erase(first);
  set->due_.erase(id);
  set->running_ =
      timer.period_ns == 0 ? TimerSet::Running::kRunsForTheLastTime : TimerSet::Running::kRuns;
  set->running_id_ = id;
  ++running_;
  lock->unlock();

  const uint64_t began_ns = MonotonicNs();
  metrics_->Observe(set->late_seconds_, Seconds(began_ns - due_ns));
  set->options_.call(timer.run, timer.data);
  const uint64_t ended_ns = MonotonicNs();
  metrics_->Observe(set->seconds_, Seconds(ended_ns - began_ns));

  lock->lock();
  if (set->running_ == TimerSet::Running::kRuns && set->state_ == TimerSet::State::kOpen) {
    const uint64_t next_ns = ended_ns + timer.period_ns;
    set->waiting_.emplace(std::pair(next_ns, id), timer);
    set->due_.emplace(id, next_ns);
  } else {
    set->running_ = TimerSet::Running::kRunsForTheLastTime;
    set->running_id_ = 0;  // a cancel finds that it is over
    lock->unlock();
    set->Release(timer);
    lock->lock();
  }
  set->running_ = TimerSet::Running::kNone;
  set->running_id_ = 0;
  --running_;
  Queue(set);
  std::function<void()> on_idle;
  if (set->state_ == TimerSet::State::kClosed) on_idle.swap(set->on_idle_);
  // The set may be gone once the lock is released.
  returned_.notify_all();
  if (on_idle == nullptr) return;
  lock->unlock();
  on_idle();
  on_idle = nullptr;
  lock->lock();
}

// --- A set ---

TimerSet::TimerSet(TimerPool* pool, Options options)
    : pool_(pool), options_(std::move(options)), queued_at_ns_(kNotQueued) {
  const auto define = [&](Metrics::Kind kind, const char* name, const char* help) {
    return DefineOr0(pool_->metrics_, kind, name, help, options_.name);
  };
  timers_gauge_ =
      define(Metrics::Kind::kGauge, "callout_timers", "Timers of a plugin that wait or run");
  seconds_ =
      define(Metrics::Kind::kHistogram, "callout_timer_seconds", "Time that a plugin's timers ran");
  late_seconds_ = define(Metrics::Kind::kHistogram, "callout_timer_late_seconds",
                         "Time from when a plugin's timer was due until it ran");
  refused_ = define(Metrics::Kind::kCounter, "callout_timers_refused_total",
                    "Timers that the host did not start for a plugin");
}

void TimerSet::CloseAndWait() {
  if (Close(nullptr)) return;
  std::unique_lock lock(pool_->mutex_);
  const auto returned = [this] { return running_ == Running::kNone; };
  while (!pool_->returned_.wait_for(lock, kTimerPatience, returned)) {
    LogLimited(LogLevel::kWarning, options_.name + "/timer",
               "plugin {}: a timer has not returned, and the end of the instance waits for it",
               options_.name);
  }
}

void TimerSet::Release(const callout_timer_t& timer) {
  if (timer.release != nullptr) options_.call(timer.release, timer.data);
  pool_->metrics_->Add(timers_gauge_, -1);
}

callout_status_t TimerSet::Refuse(callout_status_t status, std::string_view why) {
  pool_->metrics_->Add(refused_);
  LogLimited(LogLevel::kWarning, options_.name + "/timers/refused",
             "plugin {}: a timer was not started: {}", options_.name, why);
  return status;
}

std::string TimerSet::WhyInvalid(const callout_timer_t& timer) {
  if (!CALLOUT_HAS(&timer, callout_timer_t, period_ns)) {
    return fmt::format("its struct_size is {}; set it to sizeof(callout_timer_t), which is {}",
                       timer.struct_size, sizeof(timer));
  }
  if (timer.run == nullptr) return "it has no function to run";
  if (timer.delay_ns > CALLOUT_TIMER_NS_MAX) {
    return fmt::format("its delay is {} ns, the limit is {}", timer.delay_ns, CALLOUT_TIMER_NS_MAX);
  }
  const bool repeats = timer.period_ns != 0;
  if (repeats &&
      (timer.period_ns < CALLOUT_TIMER_PERIOD_MIN_NS || timer.period_ns > CALLOUT_TIMER_NS_MAX)) {
    return fmt::format("its period is {} ns, expected 0 or {} to {}", timer.period_ns,
                       CALLOUT_TIMER_PERIOD_MIN_NS, CALLOUT_TIMER_NS_MAX);
  }
  return "";
}

callout_status_t TimerSet::Start(const callout_timer_t& timer, uint64_t* id) {
  if (const std::string why = WhyInvalid(timer); !why.empty()) {
    return Refuse(CALLOUT_INVALID_ARGUMENT, why);
  }
  {
    const std::lock_guard lock(pool_->mutex_);
    const bool may_start = state_ != State::kClosed && Count() < options_.timers_max;
    const bool has_thread =
        may_start && (!pool_->options_.runs || pool_->idle_ > 0 || pool_->AddThread());
    if (has_thread) {
      *id = ++pool_->last_id_;
      const uint64_t due_ns = MonotonicNs() + timer.delay_ns;
      waiting_.emplace(std::pair(due_ns, *id), timer);
      due_.emplace(*id, due_ns);
      pool_->metrics_->Add(timers_gauge_, 1);
      pool_->Queue(this);
      return CALLOUT_OK;
    }
    if (state_ == State::kClosed) return CALLOUT_FAILED_PRECONDITION;
    if (may_start) return CALLOUT_UNAVAILABLE;  // AddThread has said why
  }
  return Refuse(
      CALLOUT_RESOURCE_EXHAUSTED,
      fmt::format("the instance has {} of them, the limit --max_timers", options_.timers_max));
}

callout_status_t TimerSet::Cancel(uint64_t id) {
  callout_timer_t timer;
  {
    const std::lock_guard lock(pool_->mutex_);
    if (id != 0 && id == running_id_) {
      running_ = Running::kRunsForTheLastTime;
      return CALLOUT_ABORTED;
    }
    const auto due = due_.find(id);
    if (due == due_.end()) return CALLOUT_NOT_FOUND;
    const auto waiting = waiting_.find({due->second, id});
    timer = waiting->second;
    waiting_.erase(waiting);
    due_.erase(due);
    if (waiting_.empty()) {
      pool_->Unqueue(this);
    } else {
      pool_->Queue(this);
    }
  }
  Release(timer);
  return CALLOUT_OK;
}

void TimerSet::Open() {
  const std::lock_guard lock(pool_->mutex_);
  if (state_ != State::kNew || !pool_->options_.runs) return;
  state_ = State::kOpen;
  // Since they were started, all threads may have become busy with timers of other sets.
  if (!waiting_.empty() && pool_->idle_ == 0) pool_->AddThread();
  pool_->Queue(this);
}

bool TimerSet::Close(std::function<void()> on_idle) {
  Waiting waiting;
  {
    const std::lock_guard lock(pool_->mutex_);
    state_ = State::kClosed;
    waiting.swap(waiting_);
    due_.clear();
    pool_->Unqueue(this);
  }
  for (const auto& [due, timer] : waiting) Release(timer);
  const std::lock_guard lock(pool_->mutex_);
  if (running_ == Running::kNone) return true;
  on_idle_ = std::move(on_idle);
  return false;
}

}  // namespace callout::host
