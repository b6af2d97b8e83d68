// SPDX-License-Identifier: Apache-2.0

#include "host/shadow/shadow_runner.h"

#include <algorithm>
#include <utility>

#include "host/base/clock.h"
#include "host/plugin/instance.h"
#include "host/shadow/shadow_loop.h"
#include "host/wire/envelope.h"

namespace callout::host {
namespace {

constexpr std::array<const char*, ShadowRunner::kDrops> kDropNames = {"queue_full", "memory",
                                                                      "too_large", "removed"};

// With a view into the exchange, whose first message has the request's headers.
DifferenceExample ExampleOf(const ShadowExchange& exchange) {
  const ShadowExchange::Message& first = exchange.messages.front();
  return {exchange.request_id, first.phase == CALLOUT_REQUEST_HEADERS
                                   ? DescribeRequest(MessageOf(first.request, first.phase))
                                   : std::string()};
}

}  // namespace

ShadowRunner::ShadowRunner(const ShadowLimits& limits, Metrics* metrics)
    : limits_(limits), metrics_(metrics) {}

absl::StatusOr<std::unique_ptr<ShadowRunner>> ShadowRunner::Create(
    const ShadowLimits& limits, const StreamLimits& stream_limits, Metrics* metrics) {
  std::unique_ptr<ShadowRunner> runner(new ShadowRunner(limits, metrics));
  const auto gauge = [metrics](const char* name, const char* help) {
    return metrics->Define(Metrics::Kind::kGauge, name, help);
  };
  absl::StatusOr<Metrics::Id> exchanges =
      gauge("callout_shadow_exchanges", "Exchanges that wait for plugins in shadow, or run there");
  if (!exchanges.ok()) return exchanges.status();
  absl::StatusOr<Metrics::Id> bytes =
      gauge("callout_shadow_bytes", "Bytes of messages that are kept for shadows");
  if (!bytes.ok()) return bytes.status();
  runner->exchanges_gauge_ = *exchanges;
  runner->bytes_gauge_ = *bytes;
  StreamLimits own = stream_limits;
  own.early_end = true;
  // Envoy is never asked.
  own.mode_override = EnvoyModeOverride::kIgnored;
  own.defer_budget_ms = 0;
  runner->no_chains_ = std::make_unique<ChainSource>(std::make_shared<const Chain>());
  auto environment =
      StreamEnvironment::Create(own, runner->no_chains_.get(), &runner->unseen_metrics_);
  if (!environment.ok()) return environment.status();
  runner->environment_ = *std::move(environment);
  runner->watcher_ = MakeShadowRunWatcher();
  runner->environment_->watchers().Add(runner->watcher_.get());
  runner->environment_->watchers().SetActive(runner->watcher_.get(), true);
  return runner;
}

ShadowRunner::~ShadowRunner() { Stop(UINT32_MAX); }

absl::Status ShadowRunner::Start() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (running_) return absl::OkStatus();
  std::vector<std::unique_ptr<ShadowLoop>> loops;
  for (size_t i = 0; i < limits_.threads; ++i) {
    loops.push_back(std::make_unique<ShadowLoop>(this, environment_.get()));
    if (absl::Status status = loops.back()->Start(); !status.ok()) {
      loops.pop_back();
      if (loops.empty()) return status;
      break;  // with fewer
    }
  }
  loops_ = std::move(loops);
  running_.store(true, std::memory_order_release);
  return absl::OkStatus();
}

bool ShadowRunner::Stop(uint64_t timeout_ms) {
  const uint64_t deadline_ns = MonotonicNs() + timeout_ms * kNsPerMs;
  for (const auto& loop : loops_) loop->BeginStop();
  bool ended = true;
  for (const auto& loop : loops_) ended = loop->AwaitStop(deadline_ns) && ended;
  return ended;
}

const ShadowRunner::PluginMetrics& ShadowRunner::MetricsOf(const std::string& plugin) {
  const auto known = plugin_metrics_.find(plugin);
  if (known != plugin_metrics_.end()) return known->second;
  PluginMetrics added;
  const auto define = [&](const char* name, const char* help, Metrics::Labels labels) {
    labels.emplace_back("plugin", plugin);
    return metrics_->Define(Metrics::Kind::kCounter, name, help, std::move(labels)).value_or(0);
  };
  added.exchanges =
      define("callout_shadow_exchanges_total", "Exchanges that a plugin in shadow has run", {});
  for (size_t i = 0; i < kDifferenceKinds; ++i) {
    const auto kind = std::string(DifferenceKindName(static_cast<DifferenceKind>(i)));
    added.differences[i] = define("callout_shadow_differences_total",
                                  "Exchanges that would have come to something else with the "
                                  "plugin in shadow, by kind",
                                  {{"kind", kind}});
  }
  for (size_t i = 0; i < kDrops; ++i) {
    added.drops[i] = define("callout_shadow_dropped_total",
                            "Exchanges that a plugin in shadow was not shown, by reason",
                            {{"why", kDropNames[i]}});
  }
  return plugin_metrics_.emplace(plugin, added).first->second;
}

void ShadowRunner::UpdateGauges() {
  metrics_->Set(exchanges_gauge_, static_cast<double>(exchanges_.load(std::memory_order_relaxed)));
  metrics_->Set(bytes_gauge_, static_cast<double>(bytes_.load(std::memory_order_relaxed)));
}

void ShadowRunner::CountDrop(const std::string& plugin, Drop why) {
  const std::lock_guard<std::mutex> lock(mutex_);
  metrics_->Add(MetricsOf(plugin).drops[static_cast<size_t>(why)]);
}

bool ShadowRunner::HasRoom(const std::string& plugin) {
  if (!running_.load(std::memory_order_acquire)) return false;
  if (exchanges_.load(std::memory_order_relaxed) < limits_.exchanges_max) return true;
  CountDrop(plugin, Drop::kQueueFull);
  return false;
}

bool ShadowRunner::TakeBytes(const std::string& plugin, size_t before, size_t bytes) {
  if (before + bytes > limits_.exchange_bytes_max) {
    CountDrop(plugin, Drop::kTooLarge);
    return false;
  }
  if (bytes_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= limits_.bytes_max) {
    UpdateGauges();
    return true;
  }
  bytes_.fetch_sub(bytes, std::memory_order_relaxed);
  CountDrop(plugin, Drop::kMemory);
  return false;
}

void ShadowRunner::ReturnBytes(size_t bytes) {
  bytes_.fetch_sub(bytes, std::memory_order_relaxed);
  UpdateGauges();
}

void ShadowRunner::Submit(std::unique_ptr<ShadowExchange> exchange) {
  if (exchanges_.fetch_add(1, std::memory_order_relaxed) >= limits_.exchanges_max) {
    exchanges_.fetch_sub(1, std::memory_order_relaxed);
    CountDrop(exchange->instance().name(), Drop::kQueueFull);
    return ReturnBytes(exchange->bytes);
  }
  UpdateGauges();
  const size_t loop = next_loop_.fetch_add(1, std::memory_order_relaxed) % loops_.size();
  loops_[loop]->Add(std::move(exchange));
}

void ShadowRunner::SetShadows(const Chain& chain) {
  const std::lock_guard<std::mutex> lock(mutex_);
  shadows_.emplace();
  for (const ShadowPlace& place : chain.shadows) shadows_->push_back(place.instance.get());
}

bool ShadowRunner::MayRun(const ShadowExchange& exchange) {
  const Instance* const instance = &exchange.instance();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!shadows_.has_value()) return true;
    if (std::find(shadows_->begin(), shadows_->end(), instance) != shadows_->end()) return true;
  }
  CountDrop(instance->name(), Drop::kRemoved);
  exchanges_.fetch_sub(1, std::memory_order_relaxed);
  ReturnBytes(exchange.bytes);
  return false;
}

void ShadowRunner::Finish(const ShadowExchange& exchange, const ExchangeOutcome& after,
                          const DifferenceSummary::Times& calls) {
  Count(exchange, after, calls);
  exchanges_.fetch_sub(1, std::memory_order_relaxed);
  ReturnBytes(exchange.bytes);
}

void ShadowRunner::Count(const ShadowExchange& exchange, const ExchangeOutcome& after,
                         const DifferenceSummary::Times& calls) {
  const Instance& instance = exchange.instance();
  const bool replaces = !instance.settings().instead_of.empty();
  // Its `match` leaves the exchange to others, or nothing came that it is for.
  if (calls.calls == 0 && (!replaces || exchange.before_times.calls == 0)) return;
  const std::vector<Difference> differences =
      Compare(exchange.before, after, [&exchange](MessageRedactor* secrets) {
        for (const auto& message : exchange.messages) {
          secrets->Learn(MessageKind::kRequest, message.request);
        }
      });
  const std::lock_guard<std::mutex> lock(mutex_);
  const PluginMetrics& metrics = MetricsOf(instance.name());
  metrics_->Add(metrics.exchanges);
  std::array<bool, kDifferenceKinds> seen{};
  for (const Difference& difference : differences) {
    const auto kind = static_cast<size_t>(difference.kind);
    if (!std::exchange(seen[kind], true)) metrics_->Add(metrics.differences[kind]);
  }
  ShadowReport& report = reports_[instance.name()];
  if (report.generation > instance.generation()) return;  // a late one of the version before
  if (report.generation < instance.generation()) report = {};
  report.plugin = instance.name();
  report.generation = instance.generation();
  report.instead_of = instance.settings().instead_of;
  report.summary.before.calls += exchange.before_times.calls;
  report.summary.before.ns += exchange.before_times.ns;
  report.summary.after.calls += calls.calls;
  report.summary.after.ns += calls.ns;
  AddExchange(differences, differences.empty() ? DifferenceExample() : ExampleOf(exchange),
              &report.summary);
}

std::vector<ShadowReport> ShadowRunner::Collect() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<ShadowReport> reports;
  for (const auto& [plugin, report] : reports_) reports.push_back(report);
  return reports;
}

}  // namespace callout::host
