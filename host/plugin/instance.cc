// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/instance.h"

#include <absl/strings/ascii.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <string>
#include <utility>

#include "host/base/ascii.h"
#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/plugin/call_log.h"
#include "host/plugin/recent_faults.h"
#include "host/plugin/request_ids.h"
#include "host/plugin/span_writer.h"
#include "host/wire/response.h"

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
                  said.empty() ? ", and it logged no error with the reason" : ": " + said));
}

// Nothing, or a JSON object without members.
bool IsEmptyConfig(std::string config) {
  std::erase_if(config, [](char c) { return absl::ascii_isspace(static_cast<unsigned char>(c)); });
  return config.empty() || config == "{}";
}

std::string_view RequestIdOf(const Instance::FaultSite& site) {
  std::string_view id = site.request_id;
  if (id.empty()) id = FindHeader(site.headers, "x-request-id");
  return id.substr(0, kRequestIdBytesMax);
}

std::string TraceIdOf(const Instance::FaultSite& site) {
  if (site.span != nullptr) return site.span->trace_id();
  return std::string(FindTrace(site.rpc, site.headers).id);
}

// "stream 12, x-request-id 4711, trace_id 4bf9…"
std::vector<LogField> FieldsOf(const Instance::FaultSite& site) {
  return {{"stream", fmt::format("{}", site.stream_id), true},
          {"x-request-id", std::string(RequestIdOf(site))},
          {"trace_id", TraceIdOf(site)}};
}

}  // namespace

Instance::Instance(std::shared_ptr<const Plugin> plugin, std::string name,
                   const InstanceSettings& settings, const InstanceContext& context)
    : plugin_(std::move(plugin)),
      name_(std::move(name)),
      settings_(settings),
      context_(context),
      marker_(HookTable::InUse()->FindOrAddPlugin(name_)),
      services_(std::make_unique<ServiceTable>(
          this, name_,
          ServiceTable::Options{context.metrics, context.strict, context.abi.host_bytes})),
      extensions_(context.extensions, context.metrics, name_, marker_, context.strict) {}

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

// What the plugin can be called for: CALLOUT_PHASE_BIT of each.
uint64_t Instance::OfferedPhases() const {
  const Hooks& hooks = plugin_->hooks();
  uint64_t phases = hooks.on_process == nullptr ? 0 : CALLOUT_PHASE_BIT(0);
  for (const callout_phase_t phase : kPhases) {
    const bool by_process = hooks.on_process != nullptr && !IsOtherService(phase);
    if (by_process || hooks.Of(phase) != nullptr) {
      phases |= CALLOUT_PHASE_BIT(phase);
    }
  }
  return phases;
}

absl::Status Instance::CreatePlugin(const std::string& config) {
  const Hooks& hooks = plugin_->hooks();
  // Room behind it, so that a plugin that writes fields which this host does not know,
  // without having asked, harms nobody.
  struct {
    callout_create_args_t args;
    std::array<uint64_t, 32> spare;
  } padded = {};
  callout_create_args_t& args = padded.args;
  args.struct_size = static_cast<uint32_t>(context_.abi.create_bytes);
  args.host = services_->abi();
  args.instance = name_.c_str();
  args.config = ToBytes(config);
  args.phases = OfferedPhases();
  args.grants = kGrants;
  const uint64_t offered = args.phases;
  if (hooks.plugin_create != nullptr) {
    const HookScope scope({marker_, Hook::kCreate, true}, MonotonicNs());
    if (absl::Status status = RunCreate(hooks.plugin_create, &args); !status.ok()) {
      return absl::InvalidArgumentError(
          fmt::format("creating plugin {} from {}: callout_plugin_create {}", name_,
                      plugin_->path(), std::string(status.message())));
    }
  } else if (!plugin_->stands_in() && !IsEmptyConfig(config)) {
    // Whoever wrote it believes that it does something.
    Log(LogLevel::kWarning,
        "plugin {}: it was given a configuration and does not read one: {} exports no "
        "callout_plugin_create",
        name_, plugin_->path());
  }
  if (std::any_of(padded.spare.begin(), padded.spare.end(), [](uint64_t w) { return w != 0; })) {
    Log(LogLevel::kWarning,
        "plugin {}: callout_plugin_create wrote behind the callout_create_args_t of this host; ask "
        "CALLOUT_HAS before writing a field of a later revision",
        name_);
  }
  created_ = true;
  plugin_data_ = args.plugin;
  phases_ = args.phases & offered;
  calls_process_ = (phases_ & CALLOUT_PHASE_BIT(0)) != 0;
  for (const callout_phase_t phase : kPhases) {
    if (!calls_process_ && hooks.Of(phase) == nullptr) phases_ &= ~CALLOUT_PHASE_BIT(phase);
  }
  if ((phases_ & ~CALLOUT_PHASE_BIT(0)) == 0) {
    Log(LogLevel::kWarning,
        "plugin {}: callout_plugin_create has cleared every bit of callout_create_args.phases, so "
        "the instance is never called; leave those of the phases it is for",
        name_);
  }
  whole_body_bytes_max_ = settings_.whole_body_bytes_max.value_or(args.whole_body_bytes_max);
  blocking_phases_ =
      settings_.blocking.value_or(args.blocking != 0 ? kAllPhases : args.blocking_phases);
  wants_ = args.wants & kGrants;
  extensions_.Open();
  return absl::OkStatus();
}

void Instance::NoteError(std::string_view text) {
  if (t_create_error != nullptr) *t_create_error = EscapeControls(text);
}

absl::Status Instance::DefineHostMetrics() {
  std::vector<callout_phase_t> phases;
  for (const callout_phase_t phase : kPhases) {
    const bool by_process = plugin_->hooks().on_process != nullptr && !IsOtherService(phase);
    if (plugin_->hooks().Of(phase) != nullptr || by_process) phases.push_back(phase);
  }
  if (absl::Status status = call_metrics_.Define(context_.metrics, name_, phases, is_shadow());
      !status.ok()) {
    return status;
  }
  for (size_t kind = 1; kind < kViolationCount; ++kind) {
    absl::StatusOr<Metrics::Id> id = context_.metrics->Define(
        Metrics::Kind::kCounter,
        is_shadow() ? "callout_shadow_faults_total" : "callout_plugin_faults_total",
        is_shadow() ? "Calls without a valid response of a plugin in shadow, by kind"
                    : "Calls without a valid response of the plugin, by kind",
        {{"plugin", name_}, {"kind", std::string(ViolationName(static_cast<Violation>(kind)))}});
    if (!id.ok()) return id.status();
    violations_[kind] = *id;
  }
  return absl::OkStatus();
}

Instance::~Instance() {
  extensions_.EndAndWait();
  const Hooks& hooks = plugin_->hooks();
  if (created_ && (hooks.plugin_destroy != nullptr || hooks.plugin_destroy_with != nullptr)) {
    const HookScope scope({marker_, Hook::kDestroy, true}, MonotonicNs());
    if (hooks.plugin_destroy_with != nullptr) {
      struct {
        callout_destroy_args_t args;
        std::array<uint64_t, 8> spare;
      } padded = {};
      padded.args.struct_size = sizeof(padded.args);
      padded.args.reason = destroy_reason_.load(std::memory_order_relaxed);
      padded.args.host = services_->abi();
      padded.args.plugin = plugin_data_;
      hooks.plugin_destroy_with(&padded.args);
    } else {
      hooks.plugin_destroy(plugin_data_);
    }
  }
  ServiceTable::Retire(std::move(services_));
}

void Instance::BeginTrial(std::shared_ptr<Trial> trial) {
  trial_ = std::move(trial);
  running_trial_.store(trial_.get(), std::memory_order_release);
}

// A fault of the call was counted before: by then it is known.
void Instance::CountInTrial(const CallRecord& call) {
  Trial* const trial = running_trial_.load(std::memory_order_acquire);
  if (trial == nullptr || !call.begun || trial->CountCall()) return;
  running_trial_.store(nullptr, std::memory_order_relaxed);
}

void Instance::BeginTally(std::shared_ptr<CallTally> tally) {
  running_tally_.store(tally.get(), std::memory_order_release);
  if (tally != nullptr) tallies_.push_back(std::move(tally));
}

void Instance::Prepare(callout_call_t* call) const {
  call->struct_size = static_cast<uint32_t>(context_.abi.call_bytes);
  call->host = services_->abi();
  call->plugin = plugin_data_;
  call->self = call;
}

callout_status_t Instance::OpenStream(callout_call_t* call, CallState* state, uint64_t now_ns) {
  state->misuse = nullptr;
  callout_status_t status = CALLOUT_OK;
  {
    const HookScope scope(PlaceOf(Hook::kOpen), now_ns, state->stream_id);
    status = plugin_->hooks().stream_open(call);
  }
  state->hook_end_ns = MonotonicNs();
  const uint64_t taken_ns = state->hook_end_ns - now_ns;
  state->instance_ns += taken_ns;
  state->hook_ns += taken_ns;
  if (status < 0 || (status == CALLOUT_OK && state->misuse == nullptr)) return status;
  state->error =
      state->misuse != nullptr
          ? fmt::format(
                "plugin {}: callout_on_stream_open called {}(), which works in the hook of "
                "a phase only; answer in the stream's first call",
                name_, state->misuse)
          : fmt::format(
                "plugin {}: callout_on_stream_open returned {}; it may return CALLOUT_OK or "
                "a negative status, so defer in the stream's first call",
                name_, StatusName(status));
  // It has opened what its close is to free.
  call->attributes = call->metadata_context = {};
  call->deadline_ns = 0;
  CloseStream(call, {});
  return CALLOUT_FAILED_PRECONDITION;
}

void Instance::CloseStream(callout_call_t* call, callout_stream_end_t end) {
  const auto close = plugin_->hooks().stream_close;
  if (close == nullptr) return;
  end.struct_size = sizeof(end);
  call->end = &end;
  {
    const HookScope scope(PlaceOf(Hook::kClose), MonotonicNs(), CallSlot::From(call)->stream_id);
    close(call);
  }
  call->end = nullptr;
}

void Instance::CancelStream(callout_call_t* call) {
  const HookScope scope(PlaceOf(Hook::kCancel), MonotonicNs(), CallSlot::From(call)->stream_id);
  plugin_->hooks().stream_cancel(call);
}

callout_status_t Instance::Call(CallState* state, uint64_t now_ns) {
  if (state->observers != nullptr && state->observers->log_level().has_value()) {
    const LogLevelScope scope(*state->observers->log_level());
    return CountedCall(state, now_ns);
  }
  return CountedCall(state, now_ns);
}

callout_status_t Instance::CountedCall(CallState* state, uint64_t now_ns) {
  const callout_phase_t phase = state->slot->call.phase;
  const callout_status_t status = CallHooks(state, now_ns);
  state->hook_end_ns = MonotonicNs();
  const uint64_t taken_ns = state->hook_end_ns - now_ns;
  state->instance_ns += taken_ns;
  state->hook_ns += taken_ns;
  if (blocks_in(phase)) usual_ns_[PhaseSlot(phase)].Add(taken_ns);
  if (LogEnabled(LogLevel::kDebug, name_)) LogCall(*state, name_, status, taken_ns);
  return status;
}

callout_status_t Instance::CallHooks(CallState* state, uint64_t now_ns) {
  const Hooks& hooks = plugin_->hooks();
  callout_call_t* const call = &state->slot->call;
  const callout_phase_t phase = call->phase;
  HookPlace place = PlaceOf(calls_process_ ? Hook::kProcess : HookOf(phase));
  HookScope scope(place, now_ns, state->stream_id);
  if (calls_process_) {
    const callout_status_t status = hooks.on_process(call);
    if (status != CALLOUT_NEXT) return status;
    place.hook = HookOf(phase);
    scope.MoveTo(place);
  }
  const auto hook = hooks.Of(phase);
  return hook == nullptr ? CALLOUT_OK : hook(call);
}

void Instance::CountViolation(Violation violation, callout_phase_t phase, std::string_view why,
                              const FaultSite& site) {
  context_.metrics->Add(violations_[static_cast<size_t>(violation)]);
  const std::string shown = is_shadow() ? fmt::format("{} (shadow)", name_) : name_;
  RecentFaults::InProcess().Note({.plugin = shown,
                                  .phase = std::string(PhaseName(phase)),
                                  .kind = std::string(ViolationName(violation)),
                                  .what = std::string(why),
                                  .request_id = std::string(RequestIdOf(site)),
                                  .trace_id = TraceIdOf(site),
                                  .stream_id = site.stream_id,
                                  .time_ns = MonotonicNs()});
  Trial* const trial = running_trial_.load(std::memory_order_acquire);
  if (trial != nullptr && MayBeOfCode(violation, site.by_peer)) trial->CountFault();
  const LogLevel level = violation == Violation::kBodyLost ? LogLevel::kError : LogLevel::kWarning;
  uint64_t left_out = 0;
  if (!LogEnabled(level, name_) || !LogIsDue(fmt::format("{}/{}", name_, ViolationName(violation)),
                                             std::chrono::steady_clock::now(), &left_out)) {
    return;
  }
  std::vector<LogField> fields = FieldsOf(site);
  fields.push_back({"plugin", name_, false, true});
  fields.push_back({"phase", std::string(PhaseName(phase)), false, true});
  fields.push_back({"fault", std::string(ViolationName(violation)), false, true});
  LogTextWith(level,
              fmt::format("plugin {}: {}{}: {}{}{}", shown,
                          IsInvalidResponse(violation) ? "invalid response to " : "",
                          PhaseName(phase), ViolationName(violation), why.empty() ? "" : ": ", why),
              fields, LeftOutText(left_out));
}

absl::StatusOr<uint32_t> Instance::DefineMetric(const callout_metric_spec_t& spec) {
  if (!created_) return services_->DefineMetric(spec);
  return absl::FailedPreconditionError(
      "the instance has been created; define metrics in callout_plugin_create");
}

callout_status_t Instance::FollowFile(std::string_view path) {
  constexpr size_t kPathBytesMax = 4095;
  if (created_) return CALLOUT_FAILED_PRECONDITION;
  if (!path.starts_with('/') || path.size() > kPathBytesMax ||
      path.find('\0') != std::string_view::npos) {
    return CALLOUT_INVALID_ARGUMENT;
  }
  const std::string followed(path);
  if (followed_files_.contains(followed)) return CALLOUT_OK;
  if (followed_files_.size() >= kFollowedFilesMax) return CALLOUT_RESOURCE_EXHAUSTED;
  followed_files_.emplace(followed, StampOf(followed));
  return CALLOUT_OK;
}

}  // namespace callout::host
