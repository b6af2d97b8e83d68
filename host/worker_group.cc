#include "host/worker_group.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "host/log.h"
#include "host/plain_codec.h"
#include "host/status_text.h"
#include "host/stream_environment.h"

namespace callout::host {
namespace {

using prometheus::MetricFamily;
using Clock = std::chrono::steady_clock;

// How long pages wait for workers; then they show what was known before.
constexpr std::chrono::seconds kPagePatience(2);
constexpr std::chrono::seconds kOrderPatience(10);
constexpr std::chrono::seconds kEndPatience(5);
// How often a generation is tried in workers that end for other reasons meanwhile.
constexpr int kPrepareTries = 5;
// Ids of stand-ins are not among those that the reloader gives.
constexpr GenerationId kStandIn = GenerationId{1} << 63;

std::string Reason(const CrashCount& crashes, const std::string& plugin, const WorkerEnd& end) {
  return fmt::format("plugin {} is in quarantine after {} crashes, the last one: {}", plugin,
                     crashes.totals().at(plugin), end.text);
}

}  // namespace

WorkerGroup::WorkerGroup(Options options)
    : options_(std::move(options)), crashes_(options_.containment.quarantine) {}

WorkerGroup::~WorkerGroup() {
  for (Worker& worker : workers_) worker.keeper->LetEnd();
  for (Worker& worker : workers_) worker.keeper->Join(std::chrono::milliseconds(0));
}

absl::StatusOr<std::unique_ptr<WorkerGroup>> WorkerGroup::Start(Options options) {
  std::unique_ptr<WorkerGroup> group(new WorkerGroup(std::move(options)));
  if (absl::Status status = group->DefineMetrics(); !status.ok()) return status;
  const WorkerProcess::Launch launch = {.options = group->options_.worker_options,
                                        .sockets = group->options_.sockets};
  group->workers_.resize(group->options_.containment.workers);
  int number = 0;
  for (Worker& worker : group->workers_) {
    worker.keeper = std::make_unique<WorkerKeeper>(
        ++number, launch, group->options_.containment.watchdog_ms,
        WorkerKeeper::Callbacks{
            .on_start = [group = group.get(),
                         &worker](const ProcessPtr& process) { group->OnStart(&worker, process); },
            .on_message =
                [group = group.get()](const WorkerMessage& message) { group->OnMessage(message); },
            .on_end = [group = group.get(), &worker](
                          const ProcessPtr& process,
                          const WorkerEnd& end) { group->OnEnd(&worker, process, end); }});
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
                               "Worker processes that ended without being told to");
  if (!ends.ok()) return ends.status();
  serving_gauge_ = *serving;
  ends_ = *ends;
  return absl::OkStatus();
}

// --- What becomes of workers ----------------------------------------------------

void WorkerGroup::OnStart(Worker* worker, const ProcessPtr& process) {
  std::lock_guard<std::mutex> lock(mutex_);
  worker->process = process;
  BringUp(worker, /*anew=*/true);
  if (draining_) process->Ask(WorkerMessageKind::kBeginDrain);
  changed_.notify_all();
}

void WorkerGroup::OnMessage(const WorkerMessage& message) {
  if (message.kind == WorkerMessageKind::kTrialsFailed) {
    const auto failed = Decode<std::vector<GenerationId>>(message.body);
    std::lock_guard<std::mutex> lock(failed_trials_mutex_);
    if (failed) failed_trials_.insert(failed_trials_.end(), failed->begin(), failed->end());
  }
  options_.wake();
}

void WorkerGroup::OnEnd(Worker* worker, const ProcessPtr& process, const WorkerEnd& end) {
  bool is_refusal = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    worker->process.reset();
    worker->asked.clear();
    worker->brought_up = {};
    ended_metrics_.Add(WithoutGauges(std::exchange(worker->metrics, {})));
    // Whether it was what is being prepared that ended it.
    const bool at_load = end.hook == Hook::kLoad || end.hook == Hook::kCreate;
    is_refusal = !preparing_.empty() && !end.from_outside &&
                 (end.plugin.empty() || (end.plugin == preparing_ && at_load));
    if (!draining_) options_.metrics->Add(ends_);
    if (!end.plugin.empty()) CountCrash(end, is_refusal);
  }
  process->Close(is_refusal ? absl::AbortedError(end.text) : absl::UnavailableError(end.text));
  options_.wake();
}

// Under mutex_, as are the next ones. One `of_a_trial` never served.
void WorkerGroup::CountCrash(const WorkerEnd& end, bool of_a_trial) {
  absl::StatusOr<Metrics::Id> crashes = options_.metrics->Define(
      Metrics::Kind::kCounter, "callout_plugin_crashes_total",
      "Worker processes that a plugin ended, or was killed for", {{"plugin", end.plugin}});
  if (crashes.ok()) options_.metrics->Add(*crashes);
  last_crash_[end.plugin] = end.text;
  if (of_a_trial) {
    crashes_.AddToTotal(end.plugin);
  } else if (crashes_.Add(end.plugin, MonotonicNs())) {
    Quarantine(end.plugin, end);
  }
}

void WorkerGroup::Quarantine(const std::string& plugin, const WorkerEnd& end) {
  const auto id = std::find_if(chain_.begin(), chain_.end(), [&](GenerationId candidate) {
    return sources_.at(candidate).name == plugin;
  });
  if (id == chain_.end() || stand_ins_.count(*id) > 0) return;
  std::string reason = Reason(crashes_, plugin, end);
  Log(LogLevel::kError, "{}; it is left out until its file changes", reason);
  GenerationSource stand_in = sources_.at(*id);
  stand_in.id = *id | kStandIn;
  stand_in.quarantine = reason;
  stand_in.on_trial = false;
  stand_ins_.emplace(*id, std::move(stand_in));
  quarantined_[plugin] = std::move(reason);
  SetQuarantined(plugin, true);
  BringAllUp();
}

void WorkerGroup::SetQuarantined(const std::string& plugin, bool quarantined) {
  absl::StatusOr<Metrics::Id> gauge = options_.metrics->Define(
      Metrics::Kind::kGauge, "callout_plugin_quarantined",
      "1 while the plugin is left out because it has crashed too often", {{"plugin", plugin}});
  if (gauge.ok()) options_.metrics->Set(*gauge, quarantined ? 1 : 0);
}

// Asks for all that is in service, and for serving it. Whatever a worker has been
// asked for before is not asked again, unless `anew`.
void WorkerGroup::BringUp(Worker* worker, bool anew) {
  if (worker->process == nullptr) return;
  if (anew && options_.certificates != nullptr) {
    worker->process->Ask(WorkerMessageKind::kCertificate,
                         Encode(options_.certificates->CurrentPem()));
  }
  if (anew) worker->asked.clear();
  std::vector<GenerationId> chain;
  for (GenerationId id : chain_) {
    const auto stand_in = stand_ins_.find(id);
    GenerationSource source = stand_in == stand_ins_.end() ? sources_.at(id) : stand_in->second;
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
  for (std::future<Reply>& reply : AskAll(WorkerMessageKind::kServe)) {
    // One that has ended meanwhile is replaced, and no reason not to start.
    const absl::Status status = reply.get().status();
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

std::vector<std::future<WorkerGroup::Reply>> WorkerGroup::AskAll(WorkerMessageKind kind) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::future<Reply>> replies;
  for (const ProcessPtr& process : Processes()) replies.push_back(process->Ask(kind));
  return replies;
}

void WorkerGroup::ReloadCertificates() {
  std::lock_guard<std::mutex> lock(mutex_);
  const std::string pem = Encode(options_.certificates->CurrentPem());
  for (const ProcessPtr& process : Processes()) {
    process->Ask(WorkerMessageKind::kCertificate, pem);
  }
}

void WorkerGroup::BeginDrain() {
  std::lock_guard<std::mutex> lock(mutex_);
  draining_ = true;
  for (const ProcessPtr& process : Processes()) {
    process->Ask(WorkerMessageKind::kBeginDrain);
    // What is being prepared will not serve any more, however long it takes.
    process->Fail(WorkerMessageKind::kPrepare, absl::CancelledError("the host is draining"));
  }
  changed_.notify_all();
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
    if (all == false)
      Log(LogLevel::kWarning, "a plugin still holds a call, which is left as it is");
  }
  const auto end = Clock::now() + kEndPatience;
  for (Worker& worker : workers_) {
    worker.keeper->Join(std::chrono::duration_cast<std::chrono::milliseconds>(
        std::max(end - Clock::now(), Clock::duration(0))));
  }
  return true;
}

bool WorkerGroup::serving() const {
  return std::any_of(workers_.begin(), workers_.end(),
                     [](const Worker& worker) { return worker.keeper->serving(); });
}

std::vector<MetricFamily> WorkerGroup::CollectMetrics() {
  struct Asked {
    Worker* worker;
    ProcessPtr process;
    std::future<Reply> reply;
  };
  std::vector<Asked> asked;
  std::unique_lock<std::mutex> lock(mutex_);
  for (Worker& worker : workers_) {
    if (worker.process == nullptr) continue;
    asked.push_back(
        {&worker, worker.process, worker.process->Ask(WorkerMessageKind::kCollectMetrics)});
  }
  lock.unlock();
  const auto deadline = Clock::now() + kPagePatience;
  for (Asked& one : asked) {
    if (one.reply.wait_until(deadline) != std::future_status::ready) continue;
    const Reply reply = one.reply.get();
    if (!reply.ok()) continue;
    auto families = Decode<std::vector<MetricFamily>>(*reply);
    if (!families.has_value()) continue;
    std::lock_guard<std::mutex> again(mutex_);
    // What has ended meanwhile has been added to the others already.
    if (one.worker->process == one.process) one.worker->metrics = *std::move(families);
  }
  lock.lock();
  MetricSum sum = ended_metrics_;
  for (const Worker& worker : workers_) sum.Add(worker.metrics);
  const auto serving = std::count_if(workers_.begin(), workers_.end(),
                                     [](const Worker& worker) { return worker.keeper->serving(); });
  options_.metrics->Set(serving_gauge_, static_cast<double>(serving));
  lock.unlock();
  sum.Add(options_.metrics->Collect());
  return sum.Get();
}

// --- Generations ----------------------------------------------------------------

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
      if (is_new) crashes_.BeginAnew(sources_.at(id).name);
    }
    chain_ = chain;
    const std::set<GenerationId> kept(chain.begin(), chain.end());
    std::erase_if(sources_, [&](const auto& entry) { return kept.count(entry.first) == 0; });
    std::erase_if(stand_ins_, [&, this](const auto& entry) {
      if (kept.count(entry.first) > 0) return false;
      quarantined_.erase(entry.second.name);
      SetQuarantined(entry.second.name, false);
      return true;
    });
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
    usage.quarantined = quarantined_;
    usage.last_crash = last_crash_;
    usage.crashes = crashes_.totals();
  }
  const auto deadline = Clock::now() + kPagePatience;
  for (std::future<Reply>& future : replies) {
    if (future.wait_until(deadline) != std::future_status::ready) continue;
    const Reply reply = future.get();
    const std::optional<Usage> of_worker = reply.ok() ? Decode<Usage>(*reply) : std::nullopt;
    if (!of_worker.has_value()) continue;
    for (const auto& [id, streams] : of_worker->streams) usage.streams[id & ~kStandIn] += streams;
    usage.mapped = std::max(usage.mapped, of_worker->mapped);
  }
  return usage;
}

}  // namespace callout::host
