// SPDX-License-Identifier: Apache-2.0

// The generations of a WorkerGroup: brings each to all workers, or to none.
//
// Tested by tests/reload/workers_test.cc.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/plain_codec.h"
#include "host/base/status_text.h"
#include "host/workers/backoff.h"
#include "host/workers/worker_group.h"

namespace callout::host {
namespace {

using Clock = std::chrono::steady_clock;

// How often a generation is tried if workers end for other reasons meanwhile.
constexpr int kPrepareTries = 5;

}  // namespace

// False if there will be none.
bool WorkerGroup::AwaitProcess() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return draining_ || !Processes().empty(); });
  return !draining_;
}

absl::StatusOr<GenerationFacts> WorkerGroup::Prepare(const GenerationSource& source) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    sources_.insert_or_assign(source.id, source);
  }
  return TryToPrepare(source, [&] { return PrepareInAll(source); });
}

// If `prepare` fails, no worker keeps what it has created.
absl::StatusOr<GenerationFacts> WorkerGroup::TryToPrepare(
    const GenerationSource& source,
    const std::function<absl::StatusOr<GenerationFacts>()>& prepare) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    preparing_ = source.name;
  }
  absl::StatusOr<GenerationFacts> facts = prepare();
  std::lock_guard<std::mutex> lock(mutex_);
  preparing_.clear();
  if (!facts.ok()) Discard(source.id);
  // For a stand-in, should it crash too often.
  const auto kept = sources_.find(source.id);
  if (facts.ok() && source.quarantine.empty() && kept != sources_.end()) {
    kept->second.phases = facts->phases;
  }
  if (absl::IsDeadlineExceeded(facts.status())) {
    return absl::DeadlineExceededError(fmt::format(
        "creating {} has not returned for {} ms (--plugin_create_timeout_ms), and the worker that "
        "tried it was killed: {}",
        source.path, options_.create_timeout_ms, MessageOf(facts.status())));
  }
  if (absl::IsAborted(facts.status())) {
    return absl::AbortedError(fmt::format("loading {} ended the worker that tried it: {}",
                                          source.path, MessageOf(facts.status())));
  }
  return facts;
}

// In one worker, and then in the others.
absl::StatusOr<GenerationFacts> WorkerGroup::PrepareInAll(const GenerationSource& source) {
  absl::StatusOr<GenerationFacts> facts = absl::UnavailableError("");
  for (int tries = 0; tries < kPrepareTries && absl::IsUnavailable(facts.status()); ++tries) {
    if (!AwaitProcess()) return absl::CancelledError("the host is draining");
    facts = PrepareIn(1, source);
  }
  if (!facts.ok()) return facts;
  const absl::Status of_others = PrepareIn(SIZE_MAX, source).status();
  // Workers that have ended for other reasons get it when they are replaced.
  if (!of_others.ok() && !absl::IsUnavailable(of_others)) return of_others;
  return facts;
}

// Asks so many workers at once of those that have not been asked yet, or `only` that one. Returns
// the first error of the generation itself; UNAVAILABLE if all workers ended before they could
// create it.
absl::StatusOr<GenerationFacts> WorkerGroup::PrepareIn(size_t workers_max,
                                                       const GenerationSource& source,
                                                       const Worker* only) {
  std::vector<Preparing> preparing;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (draining_) return absl::CancelledError("the host is draining");
    const std::string order = Encode(PrepareOrder{source, false});
    for (Worker& worker : workers_) {
      if (preparing.size() == workers_max || worker.process == nullptr) continue;
      if (only != nullptr && only != &worker) continue;
      if (!worker.asked.insert(source.id).second) continue;
      preparing.push_back({worker.process, worker.process->Ask(WorkerMessageKind::kPrepare, order),
                           PrepareDeadline(worker)});
    }
  }
  absl::StatusOr<GenerationFacts> result = absl::UnavailableError("there is no worker");
  for (Preparing& one : preparing) {
    const Reply reply = AwaitPrepared(&one);
    const auto facts = reply.ok() ? Decode<GenerationFacts>(*reply) : std::nullopt;
    if (!reply.ok() && !absl::IsUnavailable(reply.status())) {
      result = reply.status();
    } else if (facts.has_value() && absl::IsUnavailable(result.status())) {
      result = *facts;
    }
  }
  return result;
}

// Under mutex_. No worker takes longer that works: its keeper ends it sooner if it hangs while it
// loads the file, or in create. One that does not serve yet may have all others to create first.
Clock::time_point WorkerGroup::PrepareDeadline(const Worker& worker) const {
  const size_t generations = worker.keeper->serving() ? 1 : chain_.size() + 1;
  const std::chrono::milliseconds each(2 * options_.create_timeout_ms);
  return Clock::now() + kOrderPatience + each * static_cast<int64_t>(generations);
}

// A worker that was stopped, or whose plugin has spoilt what the keeper reads, is ended here: the
// reloading thread waits for nobody for ever.
WorkerGroup::Reply WorkerGroup::AwaitPrepared(Preparing* preparing) {
  if (preparing->reply.wait_until(preparing->deadline) != std::future_status::ready) {
    preparing->process->Kill();
    Log(LogLevel::kError, "the worker in process {} does not answer, and is killed",
        preparing->process->pid());
    return absl::DeadlineExceededError("it did not answer");
  }
  return preparing->reply.get();
}

// Under mutex_.
void WorkerGroup::Discard(GenerationId id) {
  sources_.erase(id);
  for (Worker& worker : workers_) {
    if (worker.asked.erase(id) > 0 && worker.process != nullptr) {
      worker.process->Ask(WorkerMessageKind::kDiscard, Encode(id));
    }
  }
}

void WorkerGroup::Commit(const std::vector<GenerationId>& chain) {
  std::vector<std::shared_future<Reply>> replies;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (GenerationId id : chain) {
      const bool is_new = std::find(chain_.begin(), chain_.end(), id) == chain_.end();
      if (is_new) quarantine_.BeginAnew(sources_.at(id).name);
    }
    chain_ = chain;
    const std::set<GenerationId> kept(chain.begin(), chain.end());
    std::erase_if(sources_, [&](const auto& entry) { return kept.count(entry.first) == 0; });
    quarantine_.KeepOnly(chain);
    if (!quarantine_.trying()) trial_worker_ = nullptr;
    BringAllUp();
    // Does not wait for workers that do not serve yet.
    for (const Worker& worker : workers_) {
      if (worker.keeper->serving()) replies.push_back(worker.brought_up);
    }
  }
  const auto deadline = Clock::now() + kOrderPatience;
  for (const std::shared_future<Reply>& reply : replies) {
    if (reply.valid()) reply.wait_until(deadline);
  }
}

uint64_t WorkerGroup::DoChores() {
  uint64_t due_ns = kNothingDue;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const uint64_t now_ns = MonotonicNs();
    for (Worker& worker : workers_) due_ns = std::min(due_ns, RetryBringUp(&worker, now_ns));
  }
  TryQuarantined();
  return due_ns;
}

// Under mutex_. Lets a worker try again what it could not create, after a pause. Returns when it is
// to be called again at the latest; until the worker has failed, its message will wake the thread.
uint64_t WorkerGroup::RetryBringUp(Worker* worker, uint64_t now_ns) {
  if (worker->process == nullptr) return kNothingDue;
  if (worker->keeper->serving()) {
    worker->failures = 0;
    return kNothingDue;
  }
  const std::shared_future<Reply>& reply = worker->brought_up;
  const bool done = reply.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  if (!done || reply.get().ok()) return kNothingDue;
  if (worker->retry_at_ns == 0) {
    const std::chrono::nanoseconds pause = PauseAfter(++worker->failures);
    worker->retry_at_ns = now_ns + static_cast<uint64_t>(pause.count());
  }
  if (now_ns < worker->retry_at_ns) return worker->retry_at_ns;
  BringUp(worker, /*anew=*/true);
  return kNothingDue;
}

std::vector<GenerationId> WorkerGroup::TakeFailedTrials() {
  std::lock_guard<std::mutex> lock(failed_trials_mutex_);
  return std::exchange(failed_trials_, {});
}

WorkerGroup::Usage WorkerGroup::GetUsage() const {
  struct Asked {
    const Worker* worker;
    ProcessPtr process;
    Question question;
  };
  Usage usage;
  std::vector<Asked> asked;
  std::unique_lock<std::mutex> lock(mutex_);
  for (const Worker& worker : workers_) {
    if (worker.process == nullptr) continue;
    asked.push_back(
        {&worker, worker.process,
         AskOnce(worker.process, WorkerMessageKind::kGetUsage, &worker.usage_question)});
  }
  lock.unlock();
  for (const Asked& one : asked) {
    const Reply* const reply = AwaitPage(one.question);
    if (reply == nullptr) usage.complete = false;
    if (reply == nullptr || !reply->ok()) continue;
    std::optional<Usage> of_worker = Decode<Usage>(**reply);
    if (!of_worker.has_value()) continue;
    std::lock_guard<std::mutex> again(mutex_);
    if (one.worker->process == one.process) one.worker->usage = *std::move(of_worker);
  }
  lock.lock();
  for (GenerationId id : chain_) usage.streams[id] = 0;
  for (const Worker& worker : workers_) {
    for (const auto& [id, streams] : worker.usage.streams) {
      usage.streams[Quarantine::IdOf(id)] += streams;
    }
    for (const auto& [id, counts] : worker.usage.calls) {
      usage.calls[Quarantine::IdOf(id)].Add(counts);
    }
    usage.mapped = std::max(usage.mapped, worker.usage.mapped);
  }
  quarantine_.Describe(&usage);
  return usage;
}

// --- Quarantine -----------------------------------------------------------------

absl::Status WorkerGroup::EndQuarantine(GenerationId id) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    // Whoever asks for it has mended something, so nobody waits long for the next try.
    for (Worker& worker : workers_) {
      worker.failures = 0;
      worker.retry_at_ns = 0;
    }
  }
  return BringOutOfQuarantine(id, /*by_operator=*/true);
}

// OK if it is not in quarantine. The stand-in answers until all workers have what replaces it:
// a worker that serves has to end if it lacks one of its plugins.
absl::Status WorkerGroup::BringOutOfQuarantine(GenerationId id, bool by_operator) {
  std::optional<GenerationSource> again;
  bool tried = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto source = sources_.find(id);
    if (source != sources_.end()) again = quarantine_.ReturnOf(source->second);
    tried = quarantine_.IsTried(id);
  }
  if (!again.has_value()) return absl::OkStatus();
  absl::Status status = TryToPrepare(*again, [&]() -> absl::StatusOr<GenerationFacts> {
                          if (!tried) return PrepareInAll(*again);
                          // The worker that tries it has created it, and may be the only one.
                          absl::StatusOr<GenerationFacts> of_others = PrepareIn(SIZE_MAX, *again);
                          if (absl::IsUnavailable(of_others.status())) return GenerationFacts();
                          return of_others;
                        }).status();
  std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t now_ns = MonotonicNs();
  // The trial may have ended meanwhile.
  if (status.ok() && tried && !quarantine_.IsTried(id)) {
    Discard(again->id);
    return absl::UnavailableError("its trial has ended with a crash");
  }
  if (status.ok()) {
    quarantine_.Release(id, by_operator, now_ns);
  } else {
    quarantine_.RefuseReturn(id, std::string(MessageOf(status)), now_ns);
  }
  if (!quarantine_.trying()) trial_worker_ = nullptr;
  BringAllUp();
  return status;
}

// Under mutex_. By the last reports of the workers.
WorkerGroup::Worker* WorkerGroup::FindQuietest() {
  Worker* quietest = nullptr;
  size_t fewest = 0;
  for (Worker& worker : workers_) {
    if (worker.process == nullptr || !worker.keeper->serving()) continue;
    size_t streams = 0;
    for (const auto& [id, count] : worker.usage.streams) streams = std::max(streams, count);
    if (quietest != nullptr && streams >= fewest) continue;
    quietest = &worker;
    fewest = streams;
  }
  return quietest;
}

void WorkerGroup::TryQuarantined() {
  std::optional<GenerationId> passed;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (draining_) return;
    passed = quarantine_.FindPassedTrial(MonotonicNs());
  }
  if (passed.has_value()) {
    BringOutOfQuarantine(*passed, /*by_operator=*/false).IgnoreError();  // it was logged
  }
  std::optional<GenerationId> due;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    due = quarantine_.FindDueTrial(MonotonicNs());
  }
  if (due.has_value()) BeginTrial(*due);
}

// In one worker, which goes on with the stand-in if it cannot create the plugin.
void WorkerGroup::BeginTrial(GenerationId id) {
  Worker* worker = nullptr;
  std::optional<GenerationSource> tried;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    worker = FindQuietest();
    if (worker == nullptr) return;
    quarantine_.BeginTrial(id, MonotonicNs());
    tried = quarantine_.ReturnOf(sources_.at(id));
  }
  if (!tried.has_value()) return;
  const absl::Status status =
      TryToPrepare(*tried, [&] { return PrepareIn(1, *tried, worker); }).status();
  std::lock_guard<std::mutex> lock(mutex_);
  if (!status.ok()) {
    // Its worker may have ended for another reason.
    quarantine_.FailTrial(
        absl::IsUnavailable(status) ? "the end of its worker" : std::string(MessageOf(status)),
        MonotonicNs());
    return;
  }
  trial_worker_ = worker;
  BringUp(worker, /*anew=*/false);
}

}  // namespace callout::host
