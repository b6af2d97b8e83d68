// SPDX-License-Identifier: Apache-2.0

#include "host/shadow/shadow_loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "host/base/clock.h"
#include "host/base/thread.h"
#include "host/diff/outcome.h"
#include "host/plugin/hook_table.h"
#include "host/shadow/shadow_runner.h"
#include "host/stream/stream.h"
#include "host/wire/envelope.h"

namespace callout::host {

// One exchange on its way through the shadow. Of the loop's thread, but for Post and the facts of
// the RPC.
class ShadowRun final : public RpcContext {
 public:
  ShadowRun(ShadowLoop* loop, StreamEnvironment* environment,
            std::unique_ptr<ShadowExchange> exchange)
      : loop_(loop), exchange_(std::move(exchange)), stream_(environment, this, exchange_->chain) {}

  // Feeds what the stream takes, and takes what it says.
  void Advance() {
    while (next_ < exchange_->messages.size() && !stream_.end().has_value() &&
           stream_.wants_message()) {
      const ShadowExchange::Message& message = exchange_->messages[next_++];
      builder_.OnMessage(message.phase, MessageOf(message.request, message.phase));
      stream_.OnMessage(message.request);
      TakeOutput();
    }
    TakeOutput();
    if (stream_.end().has_value() && !cut_off_) NoteEnd();
    // What was copied is all that there is.
    if (next_ == exchange_->messages.size() && !std::exchange(cut_off_, true)) {
      stream_.OnHalfClose();
      TakeOutput();
    }
  }
  void OnPosted(CallState* call, Event event) { stream_.OnPosted(call, event); }
  void OnDeadline(uint64_t now_ns) { stream_.OnDeadline(now_ns); }
  void Cancel() { stream_.OnCancel(); }
  uint64_t deadline_ns() const { return stream_.deadline_ns(); }
  bool over() const { return stream_.end().has_value(); }
  bool closed() const { return stream_.closed(); }

  // Once, when it is over.
  ExchangeOutcome TakeOutcome() {
    // What came after an end with OK passes.
    for (; next_ < exchange_->messages.size(); ++next_) {
      const ShadowExchange::Message& message = exchange_->messages[next_];
      builder_.OnMessage(message.phase, MessageOf(message.request, message.phase));
    }
    if (!fault_.empty()) builder_.OnError(fault_);
    return builder_.Finish();
  }
  const ShadowExchange& exchange() const { return *exchange_; }
  const DifferenceSummary::Times& calls() const { return calls_; }

  // --- By its observer.
  void NoteFault(const FaultView& fault) {
    // The exchange was over before the body was: no fault of the shadow.
    if (cut_off_ && fault.violation == Violation::kBodyLost) return;
    if (fault_.empty()) fault_ = FaultText(fault.violation, fault.phase);
  }
  void NoteCall(const CallRecord& call) {
    ++calls_.calls;
    calls_.ns += call.taken_ns();
  }

  // --- RpcContext
  void Post(CallState* call, Event event) override { loop_->Post(this, call, event); }
  // The exchange keeps its messages.
  std::shared_ptr<const void> KeepMessage() override { return nullptr; }
  std::string_view peer() const override { return exchange_->peer; }
  std::string_view listener() const override { return exchange_->listener; }
  std::string_view peer_identity() const override { return exchange_->peer_identity; }
  bool GetMetadata(std::string_view key, uint32_t index, std::string_view* value) const override {
    for (const auto& [name, text] : exchange_->metadata) {
      if (name != key || index-- > 0) continue;
      *value = text;
      return true;
    }
    return false;
  }
  bool GetMetadataAt(uint32_t index, std::string_view* key,
                     std::string_view* value) const override {
    if (index >= exchange_->metadata.size()) return false;
    *key = exchange_->metadata[index].first;
    *value = exchange_->metadata[index].second;
    return true;
  }

 private:
  void TakeOutput() {
    for (const std::string& response : stream_.TakeOutput()) builder_.OnResponse(response);
  }
  void NoteEnd() { builder_.OnEnd(*stream_.end()); }

  ShadowLoop* const loop_;
  const std::unique_ptr<ShadowExchange> exchange_;
  size_t next_ = 0;       // of the messages
  bool cut_off_ = false;  // all are fed, and the stream was told so
  std::string fault_;
  DifferenceSummary::Times calls_;
  OutcomeBuilder builder_;
  Stream stream_;
};

namespace {

class RunObserver final : public RpcObserver {
 public:
  explicit RunObserver(ShadowRun* run) : run_(run) {}
  void OnFault(const FaultView& fault) override { run_->NoteFault(fault); }
  void OnCall(const CallRecord& call) override { run_->NoteCall(call); }

 private:
  ShadowRun* const run_;
};

class RunWatcher final : public RpcWatcher {
 public:
  // Every RPC of the environment is one of a ShadowRun, which is its context.
  std::unique_ptr<RpcObserver> Watch(const RpcStart& start) override {
    auto* const context = const_cast<RpcContext*>(start.rpc);
    return std::make_unique<RunObserver>(static_cast<ShadowRun*>(context));
  }
};

}  // namespace

std::unique_ptr<RpcWatcher> MakeShadowRunWatcher() { return std::make_unique<RunWatcher>(); }

ShadowLoop::ShadowLoop(ShadowRunner* runner, StreamEnvironment* environment)
    : runner_(runner), environment_(environment) {}

ShadowLoop::~ShadowLoop() {
  if (thread_.joinable()) thread_.join();
}

absl::Status ShadowLoop::Start() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ended_ = false;
  }
  absl::StatusOr<std::thread> thread = StartThread("shadows of plugins", [this] { Run(); });
  if (!thread.ok()) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
    return thread.status();
  }
  thread_ = *std::move(thread);
  return absl::OkStatus();
}

void ShadowLoop::BeginStop() {
  const std::lock_guard<std::mutex> lock(mutex_);
  stop_ = true;
  changed_.notify_all();
}

bool ShadowLoop::AwaitStop(uint64_t deadline_ns) {
  std::unique_lock<std::mutex> lock(mutex_);
  const uint64_t now_ns = MonotonicNs();
  const uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
  changed_.wait_for(lock, std::chrono::nanoseconds(left_ns), [this] { return ended_; });
  return ended_;
}

void ShadowLoop::Add(std::unique_ptr<ShadowExchange> exchange) {
  const std::lock_guard<std::mutex> lock(mutex_);
  added_.push_back(std::move(exchange));
  changed_.notify_all();
}

void ShadowLoop::Post(ShadowRun* run, CallState* call, RpcContext::Event event) {
  // The run may be gone once the lock is released.
  const std::lock_guard<std::mutex> lock(mutex_);
  posted_.push_back({run, call, event});
  changed_.notify_all();
}

// 0: none.
uint64_t ShadowLoop::NextDeadline() const {
  uint64_t next_ns = 0;
  for (const auto& run : runs_) {
    const uint64_t deadline_ns = run->deadline_ns();
    if (deadline_ns != 0 && (next_ns == 0 || deadline_ns < next_ns)) next_ns = deadline_ns;
  }
  return next_ns;
}

void ShadowLoop::DropFinished() {
  std::erase_if(runs_, [this](const std::unique_ptr<ShadowRun>& run) {
    if (!run->closed()) return false;
    runner_->Finish(run->exchange(), run->TakeOutcome(), run->calls());
    return true;
  });
}

void ShadowLoop::Run() {
  HookTable::LetThisThreadWait();
  std::vector<Posted> posted;
  bool stopping = false;
  while (!stopping) {
    std::unique_ptr<ShadowExchange> exchange;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      const auto ready = [this] { return stop_ || !added_.empty() || !posted_.empty(); };
      const uint64_t next_ns = NextDeadline();
      const uint64_t now_ns = MonotonicNs();
      if (next_ns == 0) {
        changed_.wait(lock, ready);
      } else if (next_ns > now_ns) {
        changed_.wait_for(lock, std::chrono::nanoseconds(next_ns - now_ns), ready);
      }
      posted.swap(posted_);
      stopping = stop_;
      // One at a time: calls that have been finished come first.
      if (!added_.empty() && !stopping) {
        exchange = std::move(added_.front());
        added_.pop_front();
      }
    }
    for (const Posted& one : posted) {
      one.run->OnPosted(one.call, one.event);
      one.run->Advance();
    }
    posted.clear();
    const uint64_t now_ns = MonotonicNs();
    for (const auto& run : runs_) {
      if (run->deadline_ns() == 0 || run->deadline_ns() > now_ns) continue;
      run->OnDeadline(now_ns);
      run->Advance();
    }
    if (exchange != nullptr && runner_->MayRun(*exchange)) {
      runs_.push_back(std::make_unique<ShadowRun>(this, environment_, std::move(exchange)));
      runs_.back()->Advance();
    }
    DropFinished();
  }
  GiveUpRuns();
  const std::lock_guard<std::mutex> lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

// What is cancelled is no difference. A plugin may have a call of one still, and finish it soon.
// This goes on for as long as one has; how long anybody waits for it is AwaitStop's.
void ShadowLoop::GiveUpRuns() {
  for (const auto& run : runs_) {
    if (!run->over()) run->Cancel();
  }
  const auto is_closed = [](const std::unique_ptr<ShadowRun>& run) { return run->closed(); };
  std::vector<Posted> posted;
  for (;;) {
    std::erase_if(runs_, is_closed);
    if (runs_.empty()) return;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return !posted_.empty(); });
      posted.swap(posted_);
    }
    for (const Posted& one : posted) one.run->OnPosted(one.call, one.event);
    posted.clear();
  }
}

}  // namespace callout::host
