// SPDX-License-Identifier: Apache-2.0

#include "host/worker.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "host/base/cores.h"
#include "host/base/health_asked.h"
#include "host/base/log.h"
#include "host/base/plain_codec.h"
#include "host/base/status_text.h"
#include "host/base/thread.h"
#include "host/base/wake.h"
#include "host/metrics/metric_memory.h"
#include "host/metrics/metrics.h"
#include "host/net/certificate_store.h"
#include "host/ops/health.h"
#include "host/ops/process_metrics.h"
#include "host/plugin/hook_table.h"
#include "host/reload/plugin_manager.h"
#include "host/reload/plugin_set.h"
#include "host/traffic_server.h"
#include "host/workers/worker_channel.h"
#include "host/workers/worker_messages.h"

namespace callout::host {
namespace {

constexpr int kExitError = 2;
// Time for plugins' timers to return after live streams have ended.
constexpr uint64_t kTimersEndMs = 500;

// No plugin is to be blamed that happens to run.
[[noreturn]] void EndAtOnce() {
  HookTable::NoteOwnEnd();
  FlushLog(kLastLinesMs);
  _exit(kExitError);
}

using Reply = absl::StatusOr<std::string>;

// Runs slow orders one after the other, on a thread of their own.
class OrderQueue {
 public:
  ~OrderQueue() { Stop(); }

  absl::Status Start() {
    absl::StatusOr<std::thread> thread = StartThread("a worker's orders", [this] { Run(); });
    if (!thread.ok()) return thread.status();
    thread_ = *std::move(thread);
    return absl::OkStatus();
  }

  void Add(std::function<void()> order) {
    std::lock_guard<std::mutex> lock(mutex_);
    orders_.push_back(std::move(order));
    changed_.notify_all();
  }

  // After everything that was added before.
  void Stop() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
  }

 private:
  void Run() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stop_ || !orders_.empty(); });
      if (orders_.empty()) return;
      const std::function<void()> order = std::move(orders_.front());
      orders_.pop_front();
      lock.unlock();
      order();
      lock.lock();
    }
  }

  std::mutex mutex_;  // guards the following
  std::condition_variable changed_;
  std::deque<std::function<void()>> orders_;
  bool stop_ = false;
  std::thread thread_;
};

class Worker {
 public:
  // `memory` outlives it.
  Worker(const WorkerDescriptors& descriptors, MetricMemory* memory, const Config& config);

  // Before Run. An error if a thread cannot be started.
  absl::Status Start() { return orders_.Start(); }
  // Returns once it has drained.
  void Run();

 private:
  void Take(WorkerMessage question);
  void Obey(const WorkerMessage& order);
  Reply Carry(const WorkerMessage& order);
  void Response(uint64_t number, Reply reply);
  void Say(WorkerMessageKind kind, std::string body = "") {
    channel_.Send({kind, 0, std::move(body)});
  }

  absl::Status TakeCertificate(const std::string& body);
  Reply Prepare(const std::string& body);
  absl::Status Commit(const std::string& body);
  absl::Status CommitAll(const std::vector<GenerationId>& chain);
  absl::Status Serve();
  void SetServing(bool serving);
  void SetWatch(WatchSettings settings);
  std::vector<Explained> CollectExplained();
  std::vector<ShadowReport> CollectShadows();
  void StopAccepting();
  void Drain(uint64_t number);
  void DoChores();
  std::vector<prometheus::MetricFamily> CollectMetrics();
  TrafficSight GetSight();

  const Config config_;
  const std::vector<TrafficSocket> sockets_;
  const int number_;
  WorkerChannel channel_;
  Metrics metrics_;
  ProcessMetrics process_metrics_{&metrics_};
  std::unique_ptr<CertificateStore> certificates_;
  std::atomic<bool> drained_{false};
  Wake wake_;  // when it has
  std::unique_ptr<PluginSet> plugins_;
  // Those prepared, and in every commit since.
  std::map<GenerationId, GenerationFacts> prepared_;
  bool complete_ = false;  // the last commit succeeded
  std::unique_ptr<TrafficServer> traffic_;
  std::atomic<TrafficServer*> published_traffic_{nullptr};  // for other threads than orders_'
  std::mutex serving_mutex_;                                // guards the following
  bool serving_ = true;                                     // what health says
  WatchSettings watch_;
  OrderQueue orders_;  // last: its thread uses the others
};

// The workers share the cores, unless --server_threads is given.
Config ForOneOfThem(Config config) {
  if (config.limits.thread_count == 0) {
    const int workers = std::max(static_cast<int>(config.containment.workers), 1);
    config.limits.thread_count = std::max(UsableCores() / workers, 1);
  }
  return config;
}

Worker::Worker(const WorkerDescriptors& descriptors, MetricMemory* memory, const Config& config)
    : config_(ForOneOfThem(config)),
      sockets_(descriptors.sockets),
      number_(descriptors.number),
      channel_(descriptors.channel),
      metrics_(Metrics::kSeriesMax, memory) {
  watch_.log_level = config_.log_level;
  plugins_ = std::make_unique<PluginSet>(
      PluginSetOptions(config_.reload, config_.limits.message_bytes_max, &metrics_),
      [this] { orders_.Add([this] { DoChores(); }); });
}

void Worker::Run() {
  while (!drained_) {
    pollfd readable[] = {{channel_.fd(), POLLIN, 0}, {wake_.fd(), POLLIN, 0}};
    if (poll(readable, 2, -1) < 0) continue;
    // A worker does not run without its supervisor.
    if (readable[0].revents != 0 && !channel_.Read() && !drained_) EndAtOnce();
    while (std::optional<WorkerMessage> message = channel_.Take()) Take(*std::move(message));
  }
  orders_.Stop();
  traffic_.reset();
  plugins_.reset();
}

// Questions that change nothing get a reply at once, whatever else is going on.
void Worker::Take(WorkerMessage question) {
  switch (question.kind) {
    case WorkerMessageKind::kCollectMetrics:
      return Response(question.number, Encode(CollectMetrics()));
    case WorkerMessageKind::kHealthAsked:
      return Response(question.number,
                      Encode(HealthAskedWithin(Decode<uint64_t>(question.body).value_or(0))));
    case WorkerMessageKind::kSetServing:
      SetServing(Decode<bool>(question.body).value_or(false));
      return Response(question.number, "");
    case WorkerMessageKind::kGetSight:
      return Response(question.number, Encode(GetSight()));
    case WorkerMessageKind::kSetWatch:
      SetWatch(Decode<WatchSettings>(question.body).value_or(WatchSettings()));
      return Response(question.number, "");
    case WorkerMessageKind::kCollectExplained:
      return Response(question.number, Encode(CollectExplained()));
    case WorkerMessageKind::kCollectShadows:
      return Response(question.number, Encode(CollectShadows()));
    case WorkerMessageKind::kCollectExemplars:
      return Response(question.number, Encode(metrics_.CollectExemplars()));
    case WorkerMessageKind::kGetUsage:
      return Response(question.number, Encode(plugins_->GetUsage()));
    default:
      return orders_.Add([this, question = std::move(question)] { Obey(question); });
  }
}

void Worker::Response(uint64_t number, Reply reply) {
  WorkerReply response = AnswerOf(reply.status());
  if (reply.ok()) response.body = *std::move(reply);
  channel_.Send({WorkerMessageKind::kAnswer, number, Encode(std::move(response))});
}

void Worker::Obey(const WorkerMessage& order) {
  if (order.kind == WorkerMessageKind::kDrain) return Drain(order.number);
  Reply reply = Carry(order);
  const bool brings_up =
      order.kind == WorkerMessageKind::kCommit || order.kind == WorkerMessageKind::kServe;
  const bool cannot_serve = brings_up && traffic_ == nullptr && !reply.ok();
  Response(order.number, std::move(reply));
  if (cannot_serve) Say(WorkerMessageKind::kCannotServe);
}

Reply Worker::Carry(const WorkerMessage& order) {
  absl::Status status;
  switch (order.kind) {
    case WorkerMessageKind::kCertificate:
      status = TakeCertificate(order.body);
      break;
    case WorkerMessageKind::kPrepare:
      return Prepare(order.body);
    case WorkerMessageKind::kDiscard:
      if (const auto id = Decode<GenerationId>(order.body); id.has_value()) {
        prepared_.erase(*id);
        plugins_->Discard(*id);
      }
      break;
    case WorkerMessageKind::kCommit:
      status = Commit(order.body);
      break;
    case WorkerMessageKind::kServe:
      status = Serve();
      break;
    case WorkerMessageKind::kStopAccepting:
      StopAccepting();
      break;
    default:
      status = absl::InvalidArgumentError("unknown order");
  }
  if (!status.ok()) return status;
  return "";
}

absl::Status Worker::TakeCertificate(const std::string& body) {
  const std::optional<CertificatePem> pem = Decode<CertificatePem>(body);
  if (!pem.has_value()) return absl::InvalidArgumentError("no certificate");
  if (certificates_ != nullptr) return certificates_->Replace(*pem);
  absl::StatusOr<std::unique_ptr<CertificateStore>> store = CertificateStore::Hold(*pem);
  if (!store.ok()) return store.status();
  certificates_ = *std::move(store);
  return absl::OkStatus();
}

Reply Worker::Prepare(const std::string& body) {
  const std::optional<PrepareOrder> order = Decode<PrepareOrder>(body);
  if (!order.has_value()) return absl::InvalidArgumentError("no generation");
  // A worker that lacked another generation is asked for all of them again.
  const auto known = prepared_.find(order->source.id);
  if (known != prepared_.end()) return Encode(known->second);
  absl::StatusOr<GenerationFacts> facts = plugins_->Prepare(order->source);
  if (facts.ok()) {
    prepared_.emplace(order->source.id, *facts);
    return Encode(*facts);
  }
  if (order->must) {
    const char* const then = traffic_ == nullptr ? "waits until it can" : "ends";
    LogLimited(LogLevel::kError, fmt::format("cannot create {}, {}", order->source.name, then),
               "plugin {}: a worker cannot create the version that the others serve, and {}: {}",
               order->source.name, then, MessageOf(facts.status()));
  }
  return facts.status();
}

absl::Status Worker::Commit(const std::string& body) {
  const auto chain = Decode<std::vector<GenerationId>>(body);
  absl::Status status =
      chain.has_value() ? CommitAll(*chain) : absl::InvalidArgumentError("no chain of generations");
  complete_ = status.ok();
  if (!complete_ && traffic_ != nullptr) {
    Log(LogLevel::kError, "a worker ends, since it must not serve without one of the plugins: {}",
        MessageOf(status));
    EndAtOnce();
  }
  return status;
}

absl::Status Worker::CommitAll(const std::vector<GenerationId>& chain) {
  const bool all = std::all_of(chain.begin(), chain.end(),
                               [this](GenerationId id) { return prepared_.contains(id); });
  if (!all) return absl::FailedPreconditionError("a generation of the chain was not created");
  if (absl::Status status = plugins_->CommitAll(chain); !status.ok()) {
    prepared_.clear();  // so that each is created anew
    return status;
  }
  const std::set<GenerationId> kept(chain.begin(), chain.end());
  std::erase_if(prepared_, [&](const auto& entry) { return !kept.contains(entry.first); });
  return absl::OkStatus();
}

absl::Status Worker::Serve() {
  if (traffic_ != nullptr) return absl::OkStatus();
  if (!complete_) return absl::UnavailableError("a generation of the chain was not created");
  auto traffic = std::make_unique<TrafficServer>(config_, certificates_.get(), &plugins_->chains(),
                                                 &metrics_, number_);
  if (absl::Status status = traffic->Serve(sockets_); !status.ok()) {
    Log(LogLevel::kError, "a worker cannot serve: {}", MessageOf(status));
    // Stopping what was started may need the threads that could not be started.
    if (absl::IsUnavailable(status)) EndAtOnce();
    return status;
  }
  traffic_ = std::move(traffic);
  {
    std::lock_guard<std::mutex> lock(serving_mutex_);
    published_traffic_.store(traffic_.get(), std::memory_order_release);
    traffic_->SetServing(serving_);
    traffic_->SetWatch(watch_);
  }
  Say(WorkerMessageKind::kServing);
  return absl::OkStatus();
}

void Worker::SetServing(bool serving) {
  std::lock_guard<std::mutex> lock(serving_mutex_);
  serving_ = serving;
  TrafficServer* traffic = published_traffic_.load(std::memory_order_acquire);
  if (traffic != nullptr) traffic->SetServing(serving);
}

void Worker::SetWatch(WatchSettings settings) {
  std::lock_guard<std::mutex> lock(serving_mutex_);
  watch_ = std::move(settings);
  TrafficServer* traffic = published_traffic_.load(std::memory_order_acquire);
  if (traffic != nullptr) traffic->SetWatch(watch_);
}

std::vector<Explained> Worker::CollectExplained() {
  TrafficServer* traffic = published_traffic_.load(std::memory_order_acquire);
  return traffic == nullptr ? std::vector<Explained>() : traffic->CollectExplained();
}

std::vector<ShadowReport> Worker::CollectShadows() {
  TrafficServer* traffic = published_traffic_.load(std::memory_order_acquire);
  return traffic == nullptr ? std::vector<ShadowReport>() : traffic->CollectShadows();
}

void Worker::StopAccepting() {
  if (traffic_ != nullptr) traffic_->StopAccepting();
  for (const TrafficSocket& socket : sockets_) close(socket.fd);
}

void Worker::Drain(uint64_t number) {
  bool closed = traffic_ == nullptr || traffic_->Drain();
  if (!plugins_->StopExtensions(kTimersEndMs)) {
    Log(LogLevel::kWarning, "a plugin's timer or call has not returned, and is abandoned");
    closed = false;
  }
  published_traffic_.store(nullptr, std::memory_order_release);
  Response(number, Encode(closed));
  if (!closed) {
    // A plugin still holds a call, or a timer runs, so nothing that it may touch can be destroyed.
    FlushLog(kLastLinesMs);
    fflush(nullptr);
    _exit(0);
  }
  drained_ = true;
  wake_.Set();
}

void Worker::DoChores() {
  plugins_->Reap();
  std::vector<GenerationId> failed = plugins_->TakeFailedTrials();
  if (!failed.empty()) Say(WorkerMessageKind::kTrialsFailed, Encode(std::move(failed)));
  Say(WorkerMessageKind::kGenerationsEnded);
}

std::vector<prometheus::MetricFamily> Worker::CollectMetrics() {
  process_metrics_.Update();
  TrafficServer* traffic = published_traffic_.load(std::memory_order_acquire);
  return traffic == nullptr ? metrics_.Collect() : traffic->CollectMetrics();
}

TrafficSight Worker::GetSight() {
  TrafficServer* traffic = published_traffic_.load(std::memory_order_acquire);
  return traffic == nullptr ? TrafficSight{{}, RecentFaults::InProcess().List()}
                            : traffic->GetSight();
}

// Signals to end are for the supervisor; a worker may get them as a member of its process group.
void LeaveSignalsToSupervisor() {
  struct sigaction action = {};
  action.sa_handler = [](int) {};  // unlike SIG_IGN, programs that plugins start do not inherit it
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (int number : {SIGTERM, SIGINT, SIGHUP}) sigaction(number, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
}

}  // namespace

int RunWorker(const WorkerDescriptors& descriptors, const Config& config) {
  LeaveSignalsToSupervisor();
  // No program that a plugin starts gets more rights than the worker has (setuid, capabilities).
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  fcntl(descriptors.channel, F_SETFD, FD_CLOEXEC);
  for (const TrafficSocket& socket : descriptors.sockets) fcntl(socket.fd, F_SETFD, FD_CLOEXEC);
  absl::StatusOr<HookTable*> hooks = HookTable::Share(descriptors.hooks);
  close(descriptors.hooks);
  if (!hooks.ok()) {
    Log(LogLevel::kError, "{}", MessageOf(hooks.status()));
    return kExitError;
  }
  HookTable::Use(*hooks);
  absl::StatusOr<std::unique_ptr<MetricMemory>> memory = MetricMemory::Map(descriptors.metrics);
  close(descriptors.metrics);
  if (!memory.ok()) {
    Log(LogLevel::kError, "{}", MessageOf(memory.status()));
    return kExitError;
  }
  Worker worker(descriptors, memory->get(), config);
  if (absl::Status status = worker.Start(); !status.ok()) {
    Log(LogLevel::kError, "a worker cannot start: {}", MessageOf(status));
    return kExitError;
  }
  worker.Run();
  return 0;
}

}  // namespace callout::host
