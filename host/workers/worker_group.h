// SPDX-License-Identifier: Apache-2.0

// N worker processes as one: they serve the streams, and have the generations.
// The process that has the group, the supervisor, loads no plugin's code.
//
//   absl::StatusOr<std::unique_ptr<WorkerGroup>> group = WorkerGroup::Start(options);
//   PluginManager::Load(config, &metrics, group->get(), wake);   // a GenerationTarget
//   (*group)->Serve(sockets);                                   // a Traffic
//
// A generation is made in one worker first, which is the one to suffer should it
// crash, and then in the others; it is refused if one of them cannot make it.
// A worker that takes the place of one that ended gets all that the others serve
// before it accepts; one that cannot make it does not serve, and tries again.
//
// A plugin that crashes too often is replaced in all workers by what stands in its
// place (host/workers/quarantine.h), until another generation of it comes, the operator
// touches its file, or a trial in one worker goes well. For a trial the worker is taken
// that has the fewest streams, none if there is one: a crash takes no others with it.
//
// Nothing is believed that comes from a worker, for a plugin may have written it: names
// of plugins that crashed have to be those of plugins that serve, metrics have to be
// such as Metrics::Define takes, and counts of what is kept for it have limits.
//
// Metrics: callout_workers (that serve), callout_worker_ends_total. Those of the
// workers are summed; of one that has ended counts stay, as of the last time they
// were collected, and gauges go. What it counted after that is lost: to keep it, the
// names of series would have to be in shared memory as well as their values, whole
// at every moment in which a plugin may crash. Crashes are counted here.
//
// Two files implement it: worker_group.cc (the processes and their traffic) and
// worker_generations.cc (how generations come to all of them).
//
// Threads: as the interfaces say; Start, Serve, BeginDrain, StopAccepting, Drain
// and the destructor belong to one.
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
    ContainmentConfig containment;  // with `workers` above 0
    std::vector<std::string> worker_options;
    uint64_t drain_timeout_ms = 10000;
    std::vector<TrafficSocket> sockets;              // bound; stay the owner's
    const CertificateStore* certificates = nullptr;  // null: none needed
    Metrics* metrics = nullptr;
    std::function<void()> wake;  // the reloading thread has something to do
  };

  // What is pointed to outlives the group. The workers are there when it returns,
  // and wait.
  static absl::StatusOr<std::unique_ptr<WorkerGroup>> Start(Options options);
  // Kills the workers.
  ~WorkerGroup() override;

  // --- Traffic. The sockets are those of the options, which the workers have.
  absl::Status Serve(const std::vector<TrafficSocket>& sockets) override;
  void ReloadCertificates() override;
  void SetServing(bool serving) override;
  void BeginDrain() override;
  bool HealthAskedWithin(uint64_t seconds) override;
  void StopAccepting() override;
  // Always true: whatever a plugin holds is in another process.
  bool Drain() override;
  bool serving() const override { return CountServing() > 0; }
  std::vector<prometheus::MetricFamily> CollectMetrics() override;

  // --- GenerationTarget.
  absl::StatusOr<GenerationFacts> Prepare(const GenerationSource& source) override;
  void Commit(const std::vector<GenerationId>& chain) override;
  void EndQuarantine(GenerationId id) override;
  void DoChores() override;
  std::vector<GenerationId> TakeFailedTrials() override;
  Usage GetUsage() const override;

 private:
  using Reply = WorkerProcess::Reply;
  using ProcessPtr = std::shared_ptr<WorkerProcess>;

  // How long pages wait for workers; then they show what was known before.
  static constexpr std::chrono::seconds kPagePatience{2};
  static constexpr std::chrono::seconds kOrderPatience{10};

  // A question to a process for the pages. While it is not answered the process is not
  // asked again: one that is stopped would take in no more after some hundred.
  struct Question {
    std::shared_future<Reply> reply;  // not valid: none
    std::chrono::steady_clock::time_point asked;
  };

  // The place of one worker, with the process that is in it.
  struct Worker {
    std::unique_ptr<WorkerKeeper> keeper;
    ProcessPtr process;                             // null while there is none
    std::set<GenerationId> asked;                   // to be prepared, and not left out since
    std::shared_future<Reply> brought_up;           // the last thing asked for that
    std::vector<prometheus::MetricFamily> metrics;  // as collected last
    Question metrics_question;
    mutable Usage usage;  // as told last
    mutable Question usage_question;
  };

  explicit WorkerGroup(Options options);

  absl::Status DefineMetrics();
  void OnStart(Worker* worker, const ProcessPtr& process);
  void OnMessage(const WorkerMessage& message);
  void OnEnd(Worker* worker, const ProcessPtr& process, const WorkerEnd& end);
  void LeaveOut(const WorkerEnd& end);
  void BringUp(Worker* worker, bool anew);
  void BringAllUp();
  void TellServing();
  std::vector<ProcessPtr> Processes() const;
  std::vector<std::future<Reply>> AskAll(WorkerMessageKind kind, const std::string& body = "");
  size_t CountServing() const;
  Question AskOnce(const ProcessPtr& process, WorkerMessageKind kind, Question* question) const;
  static const Reply* AwaitPage(const Question& question);

  // --- worker_generations.cc ---
  bool AwaitProcess();
  absl::StatusOr<GenerationFacts> PrepareInAll(const GenerationSource& source);
  absl::StatusOr<GenerationFacts> PrepareIn(size_t workers_max, const GenerationSource& source);
  void Discard(GenerationId id);
  void TryQuarantined();
  Worker* FindQuietest();

  const Options options_;
  Metrics::Id serving_gauge_ = 0, ends_ = 0;

  mutable std::mutex mutex_;  // guards the following
  std::condition_variable changed_;
  std::vector<Worker> workers_;
  bool serve_ = false;        // Serve was called
  bool says_serving_ = true;  // as SetServing has it
  bool draining_ = false;     // BeginDrain was
  std::vector<GenerationId> chain_;
  std::map<GenerationId, GenerationSource> sources_;  // also of what is being prepared
  std::string preparing_;                             // plugin; "": none
  Quarantine quarantine_;
  const Worker* trial_worker_ = nullptr;  // where a plugin in quarantine is tried
  MetricSum ended_metrics_;               // of processes that have ended

  // Of its own, because whoever has the other may be sending to the worker whose
  // message is being read.
  std::mutex failed_trials_mutex_;
  std::vector<GenerationId> failed_trials_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_WORKERS_WORKER_GROUP_H_
