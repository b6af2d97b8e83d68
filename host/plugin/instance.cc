#include "host/plugin/instance.h"

#include <fmt/format.h>

#include <array>
#include <exception>
#include <string>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/plugin/call_log.h"

namespace callout::host {

namespace {

// A create that throws breaks the ABI's rules; but a start or a reload that fails is
// better than a process that ends. The error says what was thrown.
absl::StatusOr<callout_status_t> CallCreate(Hooks::CreateHook create, callout_create_args_t* args) {
  std::string thrown = "no std::exception";
  try {
    return create(args);
  } catch (const std::exception& exception) {
    thrown = EscapeControls(exception.what());
  } catch (...) {
  }
  return absl::InternalError(
      fmt::format("threw an exception ({}); catch it there and return a negative status", thrown));
}

// Where an error goes that is logged by the plugin being created on this thread; null
// while none is.
thread_local std::string* t_create_error = nullptr;

// Why the plugin was not created; OK if it was.
absl::Status RunCreate(Hooks::CreateHook create, callout_create_args_t* args) {
  std::string said;
  t_create_error = &said;
  const absl::StatusOr<callout_status_t> status = CallCreate(create, args);
  t_create_error = nullptr;
  if (!status.ok()) return status.status();
  if (*status == CALLOUT_OK) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("returned {}{}", StatusName(*status),
                  said.empty() ? ", and it logged no error that would say why" : ": " + said));
}

}  // namespace

Instance::Instance(std::shared_ptr<const Plugin> plugin, std::string name,
                   const InstanceSettings& settings, const InstanceContext& context)
    : plugin_(std::move(plugin)),
      name_(std::move(name)),
      settings_(settings),
      context_(context),
      marker_(HookTable::InUse()->FindOrAddPlugin(name_)),
      services_(this) {}

absl::StatusOr<std::shared_ptr<Instance>> Instance::Create(std::shared_ptr<const Plugin> plugin,
                                                           std::string name,
                                                           const std::string& config,
                                                           const InstanceSettings& settings,
                                                           const InstanceContext& context) {
  std::shared_ptr<Instance> instance(
      new Instance(std::move(plugin), std::move(name), settings, context));
  if (absl::Status status = instance->DefineHostMetrics(); !status.ok()) return status;
  if (absl::Status status = instance->CreatePlugin(config); !status.ok()) return status;
  return instance;
}

absl::Status Instance::CreatePlugin(const std::string& config) {
  const Hooks& hooks = plugin_->hooks();
  callout_create_args_t args = {};
  args.struct_size = sizeof(args);
  args.host = &services_.abi;
  args.instance = name_.c_str();
  args.config = ToBytes(config);
  if (hooks.on_process != nullptr) args.phases |= CALLOUT_PHASE_BIT(0);
  for (callout_phase_t phase = CALLOUT_REQUEST_HEADERS; phase < kPhaseCount; ++phase) {
    if (hooks.phases[phase] != nullptr) args.phases |= CALLOUT_PHASE_BIT(phase);
  }
  const uint64_t exported = args.phases;
  if (hooks.plugin_create != nullptr) {
    const HookScope scope({marker_, Hook::kCreate, true}, MonotonicNs());
    if (absl::Status status = RunCreate(hooks.plugin_create, &args); !status.ok()) {
      return absl::InvalidArgumentError(
          fmt::format("creating plugin {} from {}: callout_plugin_create {}", name_,
                      plugin_->path(), std::string(status.message())));
    }
  }
  created_ = true;
  plugin_data_ = args.plugin;
  phases_ = args.phases & exported;
  // on_process sees every phase.
  if ((phases_ & CALLOUT_PHASE_BIT(0)) != 0) phases_ = ~uint64_t{0};
  whole_body_bytes_max_ = settings_.whole_body_bytes_max.value_or(args.whole_body_bytes_max);
  blocking_ = settings_.blocking.value_or(args.blocking != 0);
  return absl::OkStatus();
}

void Instance::NoteError(std::string_view text) {
  if (t_create_error != nullptr) *t_create_error = EscapeControls(text);
}

absl::Status Instance::DefineHostMetrics() {
  for (size_t phase = 0; phase < kPhaseCount; ++phase) {
    if (phase != 0 && plugin_->hooks().phases[phase] == nullptr &&
        plugin_->hooks().on_process == nullptr) {
      continue;
    }
    absl::StatusOr<Metrics::Id> id = context_.metrics->Define(
        Metrics::Kind::kHistogram, "callout_call_seconds",
        "Time a plugin's hook held the thread that called it",
        {{"plugin", name_}, {"phase", std::string(PhaseName(static_cast<uint32_t>(phase)))}});
    if (!id.ok()) return id.status();
    call_seconds_[phase] = *id;
  }
  for (size_t kind = 1; kind < kViolationCount; ++kind) {
    absl::StatusOr<Metrics::Id> id = context_.metrics->Define(
        Metrics::Kind::kCounter, "callout_plugin_faults_total",
        "Calls that a plugin did not settle with a legal answer, by kind",
        {{"plugin", name_}, {"kind", std::string(ViolationName(static_cast<Violation>(kind)))}});
    if (!id.ok()) return id.status();
    violations_[kind] = *id;
  }
  return absl::OkStatus();
}

Instance::~Instance() {
  if (created_ && plugin_->hooks().plugin_destroy != nullptr) {
    const HookScope scope({marker_, Hook::kDestroy, true}, MonotonicNs());
    plugin_->hooks().plugin_destroy(plugin_data_);
  }
}

void Instance::BeginTrial(std::shared_ptr<Trial> trial) {
  trial_ = std::move(trial);
  running_trial_.store(trial_.get(), std::memory_order_release);
}

void Instance::Prepare(CallState* state) {
  state->call.struct_size = sizeof(state->call);
  state->call.host = &services_.abi;
  state->call.plugin = plugin_data_;
}

callout_status_t Instance::OpenStream(CallState* state, uint64_t now_ns) {
  const HookScope scope(PlaceOf(Hook::kOpen), now_ns);
  return plugin_->hooks().stream_open(&state->call);
}

void Instance::CloseStream(CallState* state) {
  const auto close = plugin_->hooks().stream_close;
  if (close == nullptr) return;
  const HookScope scope(PlaceOf(Hook::kClose), MonotonicNs());
  close(&state->call);
}

void Instance::CancelStream(CallState* state) {
  const HookScope scope(PlaceOf(Hook::kCancel), MonotonicNs());
  plugin_->hooks().stream_cancel(&state->call);
}

callout_status_t Instance::Call(CallState* state, uint64_t now_ns) {
  const callout_phase_t phase = state->call.phase;
  Trial* const trial = running_trial_.load(std::memory_order_acquire);
  if (trial != nullptr && !trial->CountCall()) {
    running_trial_.store(nullptr, std::memory_order_relaxed);
  }
  const callout_status_t status = CallHooks(state, now_ns);
  const uint64_t taken_ns = MonotonicNs() - now_ns;
  context_.metrics->Observe(call_seconds_[phase], static_cast<double>(taken_ns) * 1e-9);
  if (LogEnabled(LogLevel::kDebug)) LogCall(*state, name_, status, taken_ns);
  return status;
}

callout_status_t Instance::CallHooks(CallState* state, uint64_t now_ns) {
  const Hooks& hooks = plugin_->hooks();
  const callout_phase_t phase = state->call.phase;
  const HookPlace place = PlaceOf(static_cast<Hook>(phase));
  HookScope scope(hooks.on_process != nullptr ? PlaceOf(Hook::kProcess) : place, now_ns);
  if (hooks.on_process != nullptr) {
    const callout_status_t status = hooks.on_process(&state->call);
    if (status != CALLOUT_NEXT) return status;
    scope.MoveTo(place);
  }
  const auto hook = hooks.phases[phase];
  return hook == nullptr ? CALLOUT_OK : hook(&state->call);
}

void Instance::CountViolation(Violation violation, callout_phase_t phase, std::string_view why) {
  context_.metrics->Add(violations_[static_cast<size_t>(violation)]);
  // A large body and a full host are no fault of the plugin's code.
  Trial* const trial = running_trial_.load(std::memory_order_acquire);
  if (trial != nullptr && violation != Violation::kBodyTooLarge &&
      violation != Violation::kDeferLimit) {
    trial->CountFault();
  }
  LogLimited(violation == Violation::kBodyLost ? LogLevel::kError : LogLevel::kWarning,
             fmt::format("{}/{}", name_, ViolationName(violation)), "plugin {}: {}{}: {}{}{}",
             name_, IsInvalidResponse(violation) ? "invalid response to " : "", PhaseName(phase),
             ViolationName(violation), why.empty() ? "" : ": ", why);
}

callout_status_t Instance::DefineMetric(callout_metric_kind_t kind, std::string_view name,
                                        std::string_view help, uint32_t* id) {
  if (created_) return CALLOUT_FAILED_PRECONDITION;
  if (kind > CALLOUT_METRIC_HISTOGRAM) return CALLOUT_INVALID_ARGUMENT;
  static constexpr std::array<Metrics::Kind, 3> kKinds = {
      Metrics::Kind::kCounter, Metrics::Kind::kGauge, Metrics::Kind::kHistogram};
  absl::StatusOr<Metrics::Id> defined = context_.metrics->Define(
      kKinds[kind], std::string(name), std::string(help), {{"plugin", name_}});
  if (!defined.ok()) return -static_cast<callout_status_t>(defined.status().code());
  for (size_t i = 0; i < plugin_metrics_.size(); ++i) {
    if (plugin_metrics_[i].id == *defined && plugin_metrics_[i].kind == kind) {
      *id = static_cast<uint32_t>(i);
      return CALLOUT_OK;
    }
  }
  if (plugin_metrics_.size() >= kMetricsMax) return CALLOUT_RESOURCE_EXHAUSTED;
  *id = static_cast<uint32_t>(plugin_metrics_.size());
  plugin_metrics_.push_back({kind, *defined});
  return CALLOUT_OK;
}

void Instance::RecordMetric(uint32_t id, double value) {
  if (id >= plugin_metrics_.size()) return;
  const PluginMetric& metric = plugin_metrics_[id];
  switch (metric.kind) {
    case CALLOUT_METRIC_COUNTER:
      if (value >= 0) context_.metrics->Add(metric.id, value);
      return;
    case CALLOUT_METRIC_GAUGE:
      return context_.metrics->Set(metric.id, value);
    default:
      return context_.metrics->Observe(metric.id, value);
  }
}

}  // namespace callout::host
