// SPDX-License-Identifier: Apache-2.0

#include "host/workers/worker_group.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <optional>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/plain_codec.h"
#include "host/transport/live_rpcs.h"

namespace callout::host {
namespace {

using prometheus::MetricFamily;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kEndPatience(5);
constexpr std::chrono::milliseconds kHealthPatience(500);
// More than can be between two rescans.
constexpr size_t kFailedTrialsMax = 4096;

// What those hear who wait for a worker that has ended.
absl::Status ReasonOf(const WorkerEnd& end, bool is_refusal) {
  if (!is_refusal) return absl::UnavailableError(end.text);
  return end.hung ? absl::DeadlineExceededError(end.text) : absl::AbortedError(end.text);
}

}  // namespace

WorkerGroup::WorkerGroup(Options options)
    : options_(std::move(options)),
      quarantine_(options_.containment.quarantine, options_.metrics) {}

WorkerGroup::~WorkerGroup() {
  for (Worker& worker : workers_) worker.keeper->LetEnd();
  for (Worker& worker : workers_) worker.keeper->Join(std::chrono::milliseconds(0));
}

absl::StatusOr<std::unique_ptr<WorkerGroup>> WorkerGroup::Start(Options options) {
  std::unique_ptr<WorkerGroup> group(new WorkerGroup(std::move(options)));
  if (absl::Status status = group->DefineMetrics(); !status.ok()) return status;
  const WorkerProcess::Launch launch = {.options = group->options_.worker_options,
                                        .sockets = group->options_.sockets};
  const HangLimits limits = {.serving_ms = group->options_.containment.watchdog_ms,
                             .create_ms = group->options_.create_timeout_ms,
                             .destroy_ms = group->options_.create_timeout_ms};
  group->workers_.resize(group->options_.containment.workers);
  int number = 0;
  for (Worker& worker : group->workers_) {
    worker.keeper = std::make_unique<WorkerKeeper>(
        ++number, launch, limits,
        WorkerKeeper::Callbacks{
            .on_start = [group = group.get(),
                         &worker](const ProcessPtr& process) { group->OnStart(&worker, process); },
            .on_message =
                [group = group.get()](const WorkerMessage& message) { group->OnMessage(message); },
            .on_end =
                [group = group.get(), &worker](const ProcessPtr& process, const WorkerEnd& end,
                                               std::vector<MetricFamily> counts) {
                  group->OnEnd(&worker, process, end, std::move(counts));
                }});
  }
  for (Worker& worker : group->workers_) {
    if (absl::Status status = worker.keeper->Start(); !status.ok()) return status;
  }
  return group;
}

absl::Status WorkerGroup::DefineMetrics() {
  absl::StatusOr<Metrics::Id> serving = options_.metrics->Define(
      Metrics::Kind::kGauge, "callout_workers", "Worker processes that accept connections");
  if (!serving.ok()) return serving.status();
  absl::StatusOr<Metrics::Id> ends =
      options_.metrics->Define(Metrics::Kind::kCounter, "callout_worker_ends_total",
                               "Worker processes that ended unexpectedly");
  if (!ends.ok()) return ends.status();
  serving_gauge_ = *serving;
  ends_ = *ends;
  return absl::OkStatus();
}

// --- Starts and ends of workers -------------------------------------------------

void WorkerGroup::OnStart(Worker* worker, const ProcessPtr& process) {
  std::lock_guard<std::mutex> lock(mutex_);
  worker->process = process;
  process->Ask(WorkerMessageKind::kSetServing, Encode(says_serving_));
  if (watch_.has_value()) process->Ask(WorkerMessageKind::kSetWatch, Encode(*watch_));
  BringUp(worker, /*anew=*/true);
  changed_.notify_all();
}

void WorkerGroup::OnMessage(const WorkerMessage& message) {
  if (message.kind == WorkerMessageKind::kTrialsFailed) {
    const auto failed =
        Decode<std::vector<GenerationId>>(message.body).value_or(std::vector<GenerationId>());
    std::lock_guard<std::mutex> lock(failed_trials_mutex_);
    for (GenerationId id : failed) {
      if (failed_trials_.size() < kFailedTrialsMax) failed_trials_.push_back(Quarantine::IdOf(id));
    }
  }
  options_.wake();
}

void WorkerGroup::OnEnd(Worker* worker, const ProcessPtr& process, const WorkerEnd& told,
                        std::vector<MetricFamily> counts) {
  DropUnsound(&counts);
  bool is_refusal = false;
  WorkerEnd end = told;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    // The name is from memory that the plugin could write to.
    const bool known = std::any_of(sources_.begin(), sources_.end(), [&](const auto& source) {
      return source.second.name == end.plugin;
    });
    if (!known) end.plugin.clear();
    worker->process.reset();
    worker->usage = {};
    worker->usage_question = worker->metrics_question = worker->sight_question = {};
    worker->explained_question = worker->exemplars_question = worker->shadows_question = {};
    const bool of_a_trial = trial_worker_ == worker;
    if (of_a_trial) {
      trial_worker_ = nullptr;
      quarantine_.FailTrial(end.text, MonotonicNs());
    }
    worker->asked.clear();
    worker->brought_up = {};
    worker->failures = 0;
    worker->metrics.clear();
    ended_metrics_.Add(counts);
    // Whether the generation that is being prepared ended it.
    is_refusal = !preparing_.empty() && !end.from_outside && !end.by_itself &&
                 (end.plugin.empty() || (end.plugin == preparing_ && IsAtLoad(end.hook)));
    if (!draining_) options_.metrics->Add(ends_);
    // The reloader takes a canary out of service after one crash.
    const bool of_a_canary = HasCanary(end.plugin);
    // Of a version that serves no more. It may happen in every worker, and must not count for the
    // version that has replaced it.
    const bool of_destroy = end.hook == Hook::kDestroy;
    if (!end.plugin.empty() && of_destroy) {
      quarantine_.NoteCrash(end);
    } else if (!end.plugin.empty() &&
               quarantine_.CountCrash(end, is_refusal || of_a_trial || of_a_canary)) {
      Disable(end);
    }
  }
  process->Close(ReasonOf(end, is_refusal));
  options_.wake();
}

// Under mutex_, like the next ones. Disables the plugin that the end names, if it serves.
void WorkerGroup::Disable(const WorkerEnd& end) {
  const auto id = std::find_if(chain_.begin(), chain_.end(), [&](GenerationId candidate) {
    return sources_.at(candidate).name == end.plugin;
  });
  if (id == chain_.end()) return;
  quarantine_.Disable(sources_.at(*id), end.text, MonotonicNs());
  BringAllUp();
}

// Under mutex_. Whether two versions of the plugin serve.
bool WorkerGroup::HasCanary(const std::string& plugin) const {
  return std::count_if(chain_.begin(), chain_.end(),
                       [&](GenerationId id) { return sources_.at(id).name == plugin; }) > 1;
}

// Asks a worker to prepare all generations in service, and to serve. It is not asked again for
// those it was asked for before, unless `anew`.
void WorkerGroup::BringUp(Worker* worker, bool anew) {
  if (worker->process == nullptr) return;
  worker->retry_at_ns = 0;
  if (anew && options_.certificates != nullptr) {
    worker->process->Ask(WorkerMessageKind::kCertificate,
                         Encode(options_.certificates->CurrentPem()));
  }
  if (anew) worker->asked.clear();
  std::vector<GenerationId> chain;
  for (GenerationId id : chain_) {
    GenerationSource source = quarantine_.InPlaceOf(sources_.at(id), worker == trial_worker_);
    chain.push_back(source.id);
    if (worker->asked.count(source.id) > 0) continue;
    if (anew) source.on_trial = false;  // the others have served it
    worker->process->Ask(WorkerMessageKind::kPrepare, Encode(PrepareOrder{source, true}));
  }
  worker->asked = std::set<GenerationId>(chain.begin(), chain.end());
  worker->brought_up = worker->process->Ask(WorkerMessageKind::kCommit, Encode(chain)).share();
  if (serve_ && !worker->keeper->serving()) {
    worker->brought_up = worker->process->Ask(WorkerMessageKind::kServe).share();
  }
}

void WorkerGroup::BringAllUp() {
  for (Worker& worker : workers_) BringUp(&worker, /*anew=*/false);
}

// --- Traffic --------------------------------------------------------------------

absl::Status WorkerGroup::Serve(const std::vector<TrafficSocket>&) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    serve_ = true;
  }
  // When the host says that it serves, a worker does. Without plugins nobody has waited for one
  // yet.
  AwaitProcess();
  for (std::future<Reply>& reply : AskAll(WorkerMessageKind::kServe)) {
    // A worker that has ended meanwhile is replaced; that is no reason not to start.
    absl::Status status = reply.get().status();
    if (!status.ok() && !absl::IsUnavailable(status)) return status;
  }
  return absl::OkStatus();
}

std::vector<WorkerGroup::ProcessPtr> WorkerGroup::Processes() const {
  std::vector<ProcessPtr> processes;
  for (const Worker& worker : workers_) {
    if (worker.process != nullptr) processes.push_back(worker.process);
  }
  return processes;
}

std::vector<std::future<WorkerGroup::Reply>> WorkerGroup::AskAll(WorkerMessageKind kind,
                                                                 const std::string& body) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::future<Reply>> replies;
  for (const ProcessPtr& process : Processes()) replies.push_back(process->Ask(kind, body));
  return replies;
}

void WorkerGroup::ReloadCertificates() {
  std::lock_guard<std::mutex> lock(mutex_);
  const std::string pem = Encode(options_.certificates->CurrentPem());
  for (const ProcessPtr& process : Processes()) {
    process->Ask(WorkerMessageKind::kCertificate, pem);
  }
}

void WorkerGroup::SetServing(bool serving) {
  std::lock_guard<std::mutex> lock(mutex_);
  says_serving_ = serving;
  TellServing();
}

// Under mutex_.
void WorkerGroup::TellServing() {
  for (const ProcessPtr& process : Processes()) {
    process->Ask(WorkerMessageKind::kSetServing, Encode(says_serving_));
  }
}

// Whoever changes something expects it to hold from now on.
void WorkerGroup::SetWatch(const WatchSettings& settings) {
  std::vector<std::future<Reply>> replies;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    watch_ = settings;
    for (const ProcessPtr& process : Processes()) {
      replies.push_back(process->Ask(WorkerMessageKind::kSetWatch, Encode(settings)));
    }
  }
  const auto deadline = Clock::now() + kPagePatience;
  for (std::future<Reply>& reply : replies) reply.wait_until(deadline);
}

void WorkerGroup::BeginDrain() {
  std::lock_guard<std::mutex> lock(mutex_);
  draining_ = true;
  says_serving_ = false;
  TellServing();
  for (const ProcessPtr& process : Processes()) {
    // The generation that is being prepared will not serve any more.
    process->Fail(WorkerMessageKind::kPrepare, absl::CancelledError("the host is draining"));
  }
  changed_.notify_all();
}

// A worker that does not reply in time may have been asked.
bool WorkerGroup::HealthAskedWithin(uint64_t seconds) {
  const auto deadline = Clock::now() + kHealthPatience;
  std::vector<std::future<Reply>> replies =
      AskAll(WorkerMessageKind::kHealthAsked, Encode(seconds));
  return std::any_of(replies.begin(), replies.end(), [&](std::future<Reply>& future) {
    if (future.wait_until(deadline) != std::future_status::ready) return true;
    const Reply reply = future.get();
    return reply.ok() && Decode<bool>(*reply).value_or(true);
  });
}

void WorkerGroup::StopAccepting() {
  for (Worker& worker : workers_) worker.keeper->LetEnd();
  const auto deadline = Clock::now() + kOrderPatience;
  for (auto& reply : AskAll(WorkerMessageKind::kStopAccepting)) reply.wait_until(deadline);
}

bool WorkerGroup::Drain() {
  const auto deadline =
      Clock::now() + std::chrono::milliseconds(options_.drain_timeout_ms) + kOrderPatience;
  for (auto& reply : AskAll(WorkerMessageKind::kDrain)) {
    if (reply.wait_until(deadline) != std::future_status::ready) continue;
    const Reply closed = reply.get();
    const std::optional<bool> all = closed.ok() ? Decode<bool>(*closed) : std::nullopt;
    if (all == false) Log(LogLevel::kWarning, "a plugin still holds a call, which is abandoned");
  }
  const auto end = Clock::now() + kEndPatience;
  for (Worker& worker : workers_) {
    worker.keeper->Join(std::chrono::duration_cast<std::chrono::milliseconds>(
        std::max(end - Clock::now(), Clock::duration(0))));
  }
  return true;
}

size_t WorkerGroup::CountServing() const {
  return static_cast<size_t>(
      std::count_if(workers_.begin(), workers_.end(),
                    [](const Worker& worker) { return worker.keeper->serving(); }));
}

// --- Pages ----------------------------------------------------------------------

// Under mutex_.
WorkerGroup::Question WorkerGroup::AskOnce(const ProcessPtr& process, WorkerMessageKind kind,
                                           Question* question) const {
  const bool open = question->reply.valid() &&
                    question->reply.wait_for(Clock::duration(0)) != std::future_status::ready;
  if (!open) *question = {process->Ask(kind).share(), Clock::now()};
  return *question;
}

// Null if there is no reply within kPagePatience.
const WorkerGroup::Reply* WorkerGroup::AwaitPage(const Question& question) {
  return question.reply.wait_until(question.asked + kPagePatience) == std::future_status::ready
             ? &question.reply.get()
             : nullptr;
}

// A worker that has not replied to the last one gets no further one.
std::vector<WorkerGroup::Question> WorkerGroup::AskEach(WorkerMessageKind kind,
                                                        Question Worker::*question) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<Question> questions;
  for (Worker& worker : workers_) {
    if (worker.process == nullptr) continue;
    questions.push_back(AskOnce(worker.process, kind, &(worker.*question)));
  }
  return questions;
}

TrafficSight WorkerGroup::GetSight() {
  TrafficSight all;
  for (const Question& question : AskEach(WorkerMessageKind::kGetSight, &Worker::sight_question)) {
    const Reply* const reply = AwaitPage(question);
    std::optional<TrafficSight> sight;
    if (reply != nullptr && reply->ok()) sight = Decode<TrafficSight>(**reply);
    if (!sight.has_value()) {
      ++all.live.silent_threads;
      continue;
    }
    BoundSight(&*sight);
    JoinLiveRpcs(std::move(sight->live), TrafficSight::kRpcsMax, &all.live);
    all.faults.insert(all.faults.end(), sight->faults.begin(), sight->faults.end());
  }
  all.faults = JoinRecentFaults(std::move(all.faults));
  return all;
}

// What the workers reply that do so within kPagePatience.
template <class T>
std::vector<T> WorkerGroup::CollectFromAll(WorkerMessageKind kind, Question Worker::*question,
                                           size_t each_max) {
  std::vector<T> all;
  for (const Question& asked : AskEach(kind, question)) {
    const Reply* const reply = AwaitPage(asked);
    if (reply == nullptr || !reply->ok()) continue;
    auto some = Decode<std::vector<T>>(**reply).value_or(std::vector<T>());
    if (some.size() > each_max) some.resize(each_max);
    std::move(some.begin(), some.end(), std::back_inserter(all));
  }
  return all;
}

std::vector<Explained> WorkerGroup::CollectExplained() {
  auto all = CollectFromAll<Explained>(WorkerMessageKind::kCollectExplained,
                                       &Worker::explained_question, options_.explained_max);
  DropUnsound(&all, options_.explained_max * workers_.size());
  return all;
}

std::vector<ShadowReport> WorkerGroup::CollectShadows() {
  auto all = CollectFromAll<ShadowReport>(WorkerMessageKind::kCollectShadows,
                                          &Worker::shadows_question, SIZE_MAX);
  BoundReports(&all);
  return JoinShadowReports(std::move(all));
}

std::vector<Exemplar> WorkerGroup::CollectExemplars() {
  auto all = CollectFromAll<Exemplar>(WorkerMessageKind::kCollectExemplars,
                                      &Worker::exemplars_question, Metrics::kSeriesMax);
  DropUnsound(&all);
  return all;
}

std::vector<MetricFamily> WorkerGroup::CollectMetrics() {
  struct Asked {
    Worker* worker;
    ProcessPtr process;
    Question question;
  };
  std::vector<Asked> asked;
  std::unique_lock<std::mutex> lock(mutex_);
  for (Worker& worker : workers_) {
    if (worker.process == nullptr) continue;
    asked.push_back(
        {&worker, worker.process,
         AskOnce(worker.process, WorkerMessageKind::kCollectMetrics, &worker.metrics_question)});
  }
  lock.unlock();
  for (const Asked& one : asked) {
    const Reply* const reply = AwaitPage(one.question);
    if (reply == nullptr || !reply->ok()) continue;
    auto families = Decode<std::vector<MetricFamily>>(**reply);
    if (!families.has_value()) continue;
    DropUnsound(&*families);
    std::lock_guard<std::mutex> again(mutex_);
    // The metrics of a worker that has ended are in ended_metrics_ already.
    if (one.worker->process == one.process) one.worker->metrics = *std::move(families);
  }
  lock.lock();
  MetricSum sum = ended_metrics_;
  for (const Worker& worker : workers_) sum.Add(worker.metrics);
  lock.unlock();
  options_.metrics->Set(serving_gauge_, static_cast<double>(CountServing()));
  sum.Add(options_.metrics->Collect());
  return sum.Get();
}

}  // namespace callout::host
