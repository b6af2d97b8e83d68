// SPDX-License-Identifier: Apache-2.0

// N worker processes, which serve the streams and have the generations. The supervisor, which has
// the group, loads no code of plugins.
//
//   absl::StatusOr<std::unique_ptr<WorkerGroup>> group = WorkerGroup::Start(options);
//   PluginManager::Load(config, &metrics, group->get(), wake);   // a GenerationTarget
//   (*group)->Serve(sockets);                                   // a Traffic
//
// A generation is created in one worker first, so that a crash ends only that one, and then in the
// others. It is refused if one of them cannot create it. What comes out of quarantine is created so
// as well, beside its stand-in, which stays if one of them cannot. A new worker gets all
// generations that the others serve before it accepts connections. If it cannot create them, it
// does not serve, and tries again: after a pause that grows (host/workers/backoff.h), and soon
// after SIGHUP. What it has created already is not created again.
//
// A create that takes longer than --plugin_create_timeout_ms ends its worker, whose other orders
// would have to wait for it, and the version is refused with DEADLINE_EXCEEDED. A destroy that
// takes as long ends its worker, too, and no version is refused for it.
//
// A stand-in (host/workers/quarantine.h) replaces a plugin that crashes too often, in all workers,
// until there is a new generation, the operator touches its file, or a trial in one worker
// succeeds. The trial is in the worker with the fewest streams, at best none, so that a crash ends
// few other streams.
//
// Everything that comes from a worker is checked, since a plugin may have written it: the names of
// plugins that crashed must be those of plugins that serve, metrics must be valid for
// Metrics::Define, and the amount that is kept for a worker has limits.
//
// Metrics: callout_workers (that serve), callout_worker_ends_total. The metrics of the workers are
// summed. When a worker ends, its counts stay, to the last one before a crash: they are in memory
// that the supervisor shares (host/metrics/metric_memory.h). Its gauges are gone. The supervisor
// itself counts crashes.
//
// Two files implement it: worker_group.cc (the processes and their traffic) and
// worker_generations.cc (how generations reach all of them).
//
// Threads: as the interfaces say. Start, Serve, BeginDrain, StopAccepting, Drain and the destructor
// belong to one thread.
//
// Tested by tests/reload/workers_test.cc.
#ifndef CALLOUT_HOST_WORKERS_WORKER_GROUP_H_
#define CALLOUT_HOST_WORKERS_WORKER_GROUP_H_

#include <chrono>
#include <condition_variable>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "host/metrics/metric_sum.h"
#include "host/metrics/metrics.h"
#include "host/net/certificate_store.h"
#include "host/reload/generation.h"
#include "host/transport/traffic.h"
#include "host/workers/containment.h"
#include "host/workers/quarantine.h"
#include "host/workers/worker_keeper.h"

namespace callout::host {

class WorkerGroup final : public Traffic, public GenerationTarget {
 public:
  struct Options {
    ContainmentConfig containment;       // with `workers` above 0
    uint64_t create_timeout_ms = 10000;  // above 0
    std::vector<std::string> worker_options;
    uint64_t drain_timeout_ms = 10000;
    std::vector<TrafficSocket> sockets;              // bound; the caller owns them
    const CertificateStore* certificates = nullptr;  // null: no TLS
    Metrics* metrics = nullptr;
    std::function<void()> wake;  // wakes the reloading thread
    size_t explained_max = kExplainedDefault;
  };

  // Whatever the options point to outlives the group. Returns once the workers run; they do not
  // serve yet.
  static absl::StatusOr<std::unique_ptr<WorkerGroup>> Start(Options options);
  // Kills the workers.
  ~WorkerGroup() override;

  // --- Traffic. The sockets are those of the options; the workers have them already.
  absl::Status Serve(const std::vector<TrafficSocket>& sockets) override;
  void ReloadCertificates() override;
  void SetServing(bool serving) override;
  void BeginDrain() override;
  bool HealthAskedWithin(uint64_t seconds) override;
  void StopAccepting() override;
  // Always true, since whatever a plugin holds is in another process.
  bool Drain() override;
  bool serving() const override { return CountServing() > 0; }
  void SetWatch(const WatchSettings& settings) override;
  // Those of workers that have ended are lost.
  std::vector<Explained> CollectExplained() override;
  std::vector<ShadowReport> CollectShadows() override;
  std::vector<Exemplar> CollectExemplars() override;
  std::vector<prometheus::MetricFamily> CollectMetrics() override;
  TrafficSight GetSight() override;

  // --- GenerationTarget.
  absl::StatusOr<GenerationFacts> Prepare(const GenerationSource& source) override;
  void Commit(const std::vector<GenerationId>& chain) override;
  absl::Status EndQuarantine(GenerationId id) override;
  uint64_t DoChores() override;
  std::vector<GenerationId> TakeFailedTrials() override;
  Usage GetUsage() const override;

 private:
  using Reply = WorkerProcess::Reply;
  using ProcessPtr = std::shared_ptr<WorkerProcess>;

  // Time that pages wait for workers; then they show the previous values.
  static constexpr std::chrono::seconds kPagePatience{2};
  static constexpr std::chrono::seconds kOrderPatience{10};

  // A worker that was asked to create a generation, and has until `deadline` to answer.
  struct Preparing {
    ProcessPtr process;
    std::future<Reply> reply;
    std::chrono::steady_clock::time_point deadline;
  };

  // A question to a process for the pages. Until there is a reply, the process is not asked again:
  // the channel of a stopped process is full after some hundred questions.
  struct Question {
    std::shared_future<Reply> reply;  // not valid: none
    std::chrono::steady_clock::time_point asked;
  };

  // One of the N workers, with its current process.
  struct Worker {
    std::unique_ptr<WorkerKeeper> keeper;
    ProcessPtr process;                    // null while there is none
    std::set<GenerationId> asked;          // to prepare, and in every commit since
    std::shared_future<Reply> brought_up;  // the last reply that it waits for
    int failures = 0;                      // to bring this process up, in a row
    uint64_t retry_at_ns = 0;              // 0: the last try has not failed, as far as known
    std::vector<prometheus::MetricFamily> metrics;  // as collected last
    Question metrics_question;
    Question sight_question, explained_question, exemplars_question, shadows_question;
    mutable Usage usage;  // as told last
    mutable Question usage_question;
  };

  explicit WorkerGroup(Options options);

  absl::Status DefineMetrics();
  void OnStart(Worker* worker, const ProcessPtr& process);
  void OnMessage(const WorkerMessage& message);
  void OnEnd(Worker* worker, const ProcessPtr& process, const WorkerEnd& end,
             std::vector<prometheus::MetricFamily> counts);
  void Disable(const WorkerEnd& end);
  bool HasCanary(const std::string& plugin) const;
  void BringUp(Worker* worker, bool anew);
  void BringAllUp();
  void TellServing();
  std::vector<ProcessPtr> Processes() const;
  template <class T>
  std::vector<T> CollectFromAll(WorkerMessageKind kind, Question Worker::*question,
                                size_t each_max);
  std::vector<std::future<Reply>> AskAll(WorkerMessageKind kind, const std::string& body = "");
  size_t CountServing() const;
  std::vector<Question> AskEach(WorkerMessageKind kind, Question Worker::*question);
  Question AskOnce(const ProcessPtr& process, WorkerMessageKind kind, Question* question) const;
  static const Reply* AwaitPage(const Question& question);

  // --- worker_generations.cc ---
  bool AwaitProcess();
  absl::StatusOr<GenerationFacts> TryToPrepare(
      const GenerationSource& source,
      const std::function<absl::StatusOr<GenerationFacts>()>& prepare);
  absl::StatusOr<GenerationFacts> PrepareInAll(const GenerationSource& source);
  absl::StatusOr<GenerationFacts> PrepareIn(size_t workers_max, const GenerationSource& source,
                                            const Worker* only = nullptr);
  std::chrono::steady_clock::time_point PrepareDeadline(const Worker& worker) const;
  static Reply AwaitPrepared(Preparing* preparing);
  uint64_t RetryBringUp(Worker* worker, uint64_t now_ns);
  void Discard(GenerationId id) override;
  absl::Status BringOutOfQuarantine(GenerationId id, bool by_operator);
  void TryQuarantined();
  void BeginTrial(GenerationId id);
  Worker* FindQuietest();

  const Options options_;
  Metrics::Id serving_gauge_ = 0, ends_ = 0;

  mutable std::mutex mutex_;  // guards the following
  std::condition_variable changed_;
  std::vector<Worker> workers_;
  bool serve_ = false;        // Serve was called
  bool says_serving_ = true;  // as SetServing has it
  bool draining_ = false;     // BeginDrain was
  std::optional<WatchSettings> watch_;
  std::vector<GenerationId> chain_;
  std::map<GenerationId, GenerationSource> sources_;  // also the one that is being prepared
  std::string preparing_;                             // plugin; "": none
  Quarantine quarantine_;
  const Worker* trial_worker_ = nullptr;  // where a plugin in quarantine is tried
  MetricSum ended_metrics_;               // of processes that have ended

  // A mutex of its own: the holder of the other one may be sending to the worker whose message is
  // being read.
  std::mutex failed_trials_mutex_;
  std::vector<GenerationId> failed_trials_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_WORKERS_WORKER_GROUP_H_
