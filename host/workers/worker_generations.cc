// The generations of a WorkerGroup: how they come to all workers, or to none.
//
// Tested by tests/reload/workers_test.cc.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "host/base/plain_codec.h"
#include "host/base/status_text.h"
#include "host/workers/worker_group.h"

namespace callout::host {
namespace {

using Clock = std::chrono::steady_clock;

// How often a generation is tried in workers that end for other reasons meanwhile.
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
    preparing_ = source.name;
  }
  absl::StatusOr<GenerationFacts> facts = PrepareInAll(source);
  std::lock_guard<std::mutex> lock(mutex_);
  preparing_.clear();
  if (!facts.ok()) Discard(source.id);
  if (absl::IsAborted(facts.status())) {
    return absl::AbortedError(fmt::format("loading {} ended the worker that tried it: {}",
                                          source.path, MessageOf(facts.status())));
  }
  return facts;
}

// In one, and then in the others.
absl::StatusOr<GenerationFacts> WorkerGroup::PrepareInAll(const GenerationSource& source) {
  absl::StatusOr<GenerationFacts> facts = absl::UnavailableError("");
  for (int tries = 0; tries < kPrepareTries && absl::IsUnavailable(facts.status()); ++tries) {
    if (!AwaitProcess()) return absl::CancelledError("the host is draining");
    facts = PrepareIn(1, source);
  }
  if (!facts.ok()) return facts;
  const absl::Status of_others = PrepareIn(SIZE_MAX, source).status();
  // Those that have ended for other reasons get it when they are replaced.
  if (!of_others.ok() && !absl::IsUnavailable(of_others)) return of_others;
  return facts;
}

// At once in so many of those that have not been asked yet. The first error that is
// the generation's; UNAVAILABLE if none of them has lived to make it.
absl::StatusOr<GenerationFacts> WorkerGroup::PrepareIn(size_t workers_max,
                                                       const GenerationSource& source) {
  std::vector<std::future<Reply>> replies;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (draining_) return absl::CancelledError("the host is draining");
    const std::string order = Encode(PrepareOrder{source, false});
    for (Worker& worker : workers_) {
      if (replies.size() == workers_max || worker.process == nullptr) continue;
      if (!worker.asked.insert(source.id).second) continue;
      replies.push_back(worker.process->Ask(WorkerMessageKind::kPrepare, order));
    }
  }
  absl::StatusOr<GenerationFacts> result = absl::UnavailableError("no worker is there");
  for (std::future<Reply>& future : replies) {
    const Reply reply = future.get();
    const auto facts = reply.ok() ? Decode<GenerationFacts>(*reply) : std::nullopt;
    if (!reply.ok() && !absl::IsUnavailable(reply.status())) {
      result = reply.status();
    } else if (facts.has_value() && absl::IsUnavailable(result.status())) {
      result = *facts;
    }
  }
  return result;
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
    BringAllUp();
    // Those that do not serve yet are not waited for.
    for (const Worker& worker : workers_) {
      if (worker.keeper->serving()) replies.push_back(worker.brought_up);
    }
  }
  const auto deadline = Clock::now() + kOrderPatience;
  for (const std::shared_future<Reply>& reply : replies) {
    if (reply.valid()) reply.wait_until(deadline);
  }
}

// What a worker could not make it tries again.
void WorkerGroup::DoChores() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (Worker& worker : workers_) {
    if (worker.keeper->serving() || worker.process == nullptr) continue;
    const bool done =
        worker.brought_up.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    if (done && !worker.brought_up.get().ok()) BringUp(&worker, /*anew=*/true);
  }
}

std::vector<GenerationId> WorkerGroup::TakeFailedTrials() {
  std::lock_guard<std::mutex> lock(failed_trials_mutex_);
  return std::exchange(failed_trials_, {});
}

WorkerGroup::Usage WorkerGroup::GetUsage() const {
  Usage usage;
  std::vector<std::future<Reply>> replies;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const ProcessPtr& process : Processes()) {
      replies.push_back(process->Ask(WorkerMessageKind::kGetUsage));
    }
    for (GenerationId id : chain_) usage.streams[id] = 0;
    quarantine_.Describe(&usage);
  }
  const auto deadline = Clock::now() + kPagePatience;
  for (std::future<Reply>& future : replies) {
    if (future.wait_until(deadline) != std::future_status::ready) continue;
    const Reply reply = future.get();
    const std::optional<Usage> of_worker = reply.ok() ? Decode<Usage>(*reply) : std::nullopt;
    if (!of_worker.has_value()) continue;
    for (const auto& [id, streams] : of_worker->streams)
      usage.streams[Quarantine::IdOf(id)] += streams;
    usage.mapped = std::max(usage.mapped, of_worker->mapped);
  }
  return usage;
}

}  // namespace callout::host
