// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/instance_extensions.h"

#include <callout/rpc_metadata.h>
#include <callout/trace.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/nearest_name.h"
#include "host/plugin/hook_table.h"
#include "host/plugin/instance.h"
#include "host/plugin/services.h"
#include "host/plugin/trace_service.h"
#include "host/wire/phase.h"
#include "host/wire/wire.h"

namespace callout::host {
namespace {

// Null, and logged, once the instance is gone.
InstanceExtensions* Of(const callout_host_t* host, const char* service) {
  const ServiceTable* table = ServiceTable::From(host);
  if (!table->retired()) return table->instance()->extensions();
  table->LogUseAfterDestroy(service);
  return nullptr;
}

// --- callout.timers/1 ---

callout_status_t StartTimer(const callout_host_t* host, const callout_timer_t* timer,
                            uint64_t* id) {
  InstanceExtensions* extensions = Of(host, "callout.timers: start");
  if (extensions == nullptr) return CALLOUT_FAILED_PRECONDITION;
  return extensions->timers()->Start(*timer, id);
}

callout_status_t CancelTimer(const callout_host_t* host, uint64_t id) {
  InstanceExtensions* extensions = Of(host, "callout.timers: cancel");
  if (extensions == nullptr) return CALLOUT_NOT_FOUND;
  return extensions->timers()->Cancel(id);
}

constexpr callout_timers_t kTimers = {sizeof(kTimers), 0, StartTimer, CancelTimer};

// --- callout.shared_data/1 ---

bool IsLegal(callout_bytes_t space, callout_bytes_t key, uint64_t ttl_ns = 0) {
  return space.size <= CALLOUT_SHARED_SPACE_BYTES_MAX && key.size > 0 &&
         key.size <= CALLOUT_SHARED_KEY_BYTES_MAX && ttl_ns <= CALLOUT_SHARED_TTL_NS_MAX;
}

std::string KeyOf(const InstanceExtensions& extensions, callout_bytes_t space,
                  callout_bytes_t key) {
  return SharedKey(extensions.name(), ToView(space), ToView(key));
}

// Why put or add was refused.
callout_status_t Refused(InstanceExtensions* extensions, size_t value_bytes) {
  const SharedData& data = *extensions->shared_data();
  const SharedData::Limits& limits = data.limits();
  return extensions->RefuseSharedData(
      CALLOUT_RESOURCE_EXHAUSTED,
      value_bytes > limits.value_bytes_max
          ? fmt::format("a value of {} bytes is over --max_shared_data_value_bytes={}", value_bytes,
                        limits.value_bytes_max)
          : fmt::format("the store is full: {} bytes of --max_shared_data_bytes={}, {} keys of "
                        "--max_shared_data_keys={}",
                        data.bytes(), limits.bytes_max, data.keys(), limits.keys_max));
}

callout_status_t GetShared(const callout_host_t* host, callout_bytes_t space, callout_bytes_t key,
                           char* to, size_t capacity, callout_shared_entry_t* entry) {
  InstanceExtensions* extensions = Of(host, "callout.shared_data: get");
  if (extensions == nullptr) return CALLOUT_FAILED_PRECONDITION;
  if (!IsLegal(space, key)) return CALLOUT_INVALID_ARGUMENT;
  SharedData::Entry found;
  const callout_status_t status = extensions->shared_data()->Get(KeyOf(*extensions, space, key), to,
                                                                 capacity, &found, MonotonicNs());
  if (entry != nullptr) {
    entry->size = found.size;
    entry->version = found.version;
    entry->expires_ns = found.expires_ns;
  }
  return status;
}

callout_status_t PutShared(const callout_host_t* host, callout_bytes_t space, callout_bytes_t key,
                           callout_bytes_t value, const callout_shared_put_t* how,
                           uint64_t* version) {
  InstanceExtensions* extensions = Of(host, "callout.shared_data: put");
  if (extensions == nullptr) return CALLOUT_FAILED_PRECONDITION;
  if (how == nullptr || !CALLOUT_HAS(how, callout_shared_put_t, expected) || how->may_evict > 1 ||
      !IsLegal(space, key, how->ttl_ns)) {
    return CALLOUT_INVALID_ARGUMENT;
  }
  const SharedData::Written written = extensions->shared_data()->Put(
      KeyOf(*extensions, space, key), ToView(value),
      {.ttl_ns = how->ttl_ns, .expected = how->expected, .may_evict = how->may_evict == 1},
      MonotonicNs());
  if (version != nullptr) *version = written.version;
  if (written.status != CALLOUT_RESOURCE_EXHAUSTED) return written.status;
  return Refused(extensions, value.size);
}

callout_status_t RemoveShared(const callout_host_t* host, callout_bytes_t space,
                              callout_bytes_t key, uint64_t expected) {
  InstanceExtensions* extensions = Of(host, "callout.shared_data: remove");
  if (extensions == nullptr) return CALLOUT_FAILED_PRECONDITION;
  if (!IsLegal(space, key)) return CALLOUT_INVALID_ARGUMENT;
  return extensions->shared_data()->Remove(KeyOf(*extensions, space, key), expected, MonotonicNs());
}

callout_status_t AddShared(const callout_host_t* host, callout_bytes_t space, callout_bytes_t key,
                           int64_t amount, uint64_t ttl_ns, int64_t* sum) {
  InstanceExtensions* extensions = Of(host, "callout.shared_data: add");
  if (extensions == nullptr) return CALLOUT_FAILED_PRECONDITION;
  if (!IsLegal(space, key, ttl_ns)) return CALLOUT_INVALID_ARGUMENT;
  int64_t now = 0;
  const callout_status_t status = extensions->shared_data()->Add(
      KeyOf(*extensions, space, key), amount, ttl_ns, &now, MonotonicNs());
  if (sum != nullptr) *sum = now;
  return status == CALLOUT_RESOURCE_EXHAUSTED ? Refused(extensions, sizeof(now)) : status;
}

constexpr callout_shared_data_t kSharedData = {sizeof(kSharedData), 0,        GetShared, PutShared,
                                               RemoveShared,        AddShared};

// --- callout.calls/1 ---

callout_status_t FindUpstream(const callout_host_t* host, callout_bytes_t upstream,
                              callout_upstream_info_t* info) {
  InstanceExtensions* extensions = Of(host, "callout.calls: find");
  if (extensions == nullptr) return CALLOUT_NOT_FOUND;
  return extensions->calls()->Find(ToView(upstream), info);
}

callout_status_t StartCall(const callout_host_t* host, const callout_outgoing_t* outgoing,
                           uint64_t* id) {
  InstanceExtensions* extensions = Of(host, "callout.calls: start");
  if (extensions == nullptr) return CALLOUT_FAILED_PRECONDITION;
  return extensions->calls()->Start(*outgoing, id);
}

callout_status_t CancelCall(const callout_host_t* host, uint64_t id) {
  InstanceExtensions* extensions = Of(host, "callout.calls: cancel");
  if (extensions == nullptr) return CALLOUT_NOT_FOUND;
  return extensions->calls()->Cancel(id);
}

constexpr callout_calls_t kCalls = {sizeof(kCalls), 0, FindUpstream, StartCall, CancelCall};

struct Known {
  std::string_view id;
  const void* table;  // null: services.cc has it
  bool needs_extensions;
};
constexpr std::array kKnown = {
    Known{CALLOUT_TIMERS, &kTimers, true}, Known{CALLOUT_SHARED_DATA, &kSharedData, true},
    Known{CALLOUT_CALLS, &kCalls, true}, Known{CALLOUT_TRACE, &kTraceService, false},
    Known{CALLOUT_RPC_METADATA, nullptr, false}};

}  // namespace

InstanceExtensions::InstanceExtensions(Extensions* extensions, Metrics* metrics, std::string name,
                                       uint32_t marker, bool strict)
    : extensions_(extensions),
      metrics_(metrics),
      name_(std::move(name)),
      marker_(marker),
      strict_(strict) {}

const void* InstanceExtensions::Find(std::string_view id) {
  const void* table = nullptr;
  for (const Known& known : kKnown) {
    if (known.id == id && (extensions_ != nullptr || !known.needs_extensions)) table = known.table;
  }
  NoteAsked(id, table != nullptr);
  return table;
}

std::vector<std::string> InstanceExtensions::asked() const {
  const std::lock_guard lock(mutex_);
  return asked_;
}

// A plugin that does without what it asks for is nothing to warn of; a misspelt id is found here.
void InstanceExtensions::NoteAsked(std::string_view id, bool is_known) {
  if (state_ != State::kCreating) return;
  const std::lock_guard lock(mutex_);
  if (asked_.size() >= kAskedMax) return;
  std::string text = is_known ? std::string(id) : fmt::format("{} (unknown)", EscapeControls(id));
  if (std::find(asked_.begin(), asked_.end(), text) != asked_.end()) return;
  asked_.push_back(std::move(text));
  if (is_known) return;
  std::vector<std::string_view> names;
  for (const Known& known : kKnown) names.push_back(known.id);
  const std::string_view nearest = NearestName(id, names, 3);
  Log(LogLevel::kInfo, "plugin {}: this host has no extension {}{}", name_, id,
      nearest.empty() || nearest == id ? "" : fmt::format("; did you mean {}?", nearest));
}

void InstanceExtensions::Open() {
  const std::lock_guard lock(mutex_);
  state_ = State::kServing;
  if (timers_ != nullptr) timers_->Open();
  if (calls_ != nullptr) calls_->Open();
}

bool InstanceExtensions::End(const std::function<void()>& on_idle) {
  TimerSet* timers = nullptr;
  CallSet* calls = nullptr;
  {
    // A function that still runs may be asking for its first timer or call at this moment.
    const std::lock_guard lock(mutex_);
    state_ = State::kEnded;
    timers = timers_.get();
    calls = calls_.get();
  }
  // From now on neither is made anew in another state than closed.
  const bool timers_idle = timers == nullptr || timers->Close(on_idle);
  const bool calls_idle = calls == nullptr || calls->Close(on_idle);
  return timers_idle && calls_idle;
}

void InstanceExtensions::EndAndWait() {
  if (End(nullptr)) return;
  // What was not there is made closed.
  timers()->CloseAndWait();
  calls()->CloseAndWait();
}

CallSet* InstanceExtensions::calls() {
  const std::lock_guard lock(mutex_);
  if (calls_ != nullptr) return calls_.get();
  calls_ = std::make_unique<CallSet>(
      &extensions_->upstreams, metrics_,
      CallSet::Options{.name = name_,
                       .calls_max = extensions_->options.calls_max,
                       .strict = strict_,
                       .call = [marker = marker_](const std::function<void()>& function) {
                         const HookScope scope({marker, Hook::kCallDone, false}, MonotonicNs());
                         function();
                       }});
  if (state_ == State::kServing) calls_->Open();
  if (state_ == State::kEnded) calls_->Close(nullptr);
  return calls_.get();
}

TimerSet* InstanceExtensions::timers() {
  const std::lock_guard lock(mutex_);
  if (timers_ != nullptr) return timers_.get();
  timers_ = std::make_unique<TimerSet>(
      &extensions_->timers,
      TimerSet::Options{.name = name_,
                        .timers_max = extensions_->options.timers_max,
                        .call = [marker = marker_](void (*function)(void*), void* data) {
                          const HookScope scope({marker, Hook::kTimer, true}, MonotonicNs());
                          function(data);
                        }});
  if (state_ == State::kServing) timers_->Open();
  if (state_ == State::kEnded) timers_->Close(nullptr);
  return timers_.get();
}

callout_status_t InstanceExtensions::RefuseSharedData(callout_status_t status,
                                                      std::string_view why) {
  Metrics::Id counter = 0;
  {
    const std::lock_guard lock(mutex_);
    if (shared_data_refused_ == 0) {
      shared_data_refused_ =
          metrics_
              ->Define(Metrics::Kind::kCounter, "callout_shared_data_refused_total",
                       "Shared values that were not kept, for want of room", {{"plugin", name_}})
              .value_or(0);
    }
    counter = shared_data_refused_;
  }
  metrics_->Add(counter);
  LogLimited(LogLevel::kWarning, name_ + "/shared_data",
             "plugin {}: a shared value was not kept: {}", name_, why);
  return status;
}

void InstanceExtensions::CountTraceDrop(const char* what, callout_phase_t phase,
                                        std::string_view why) {
  Metrics::Id counter = 0;
  {
    const std::lock_guard lock(mutex_);
    Metrics::Id& of_kind = trace_drops_[what];
    if (of_kind == 0) {
      of_kind = metrics_
                    ->Define(Metrics::Kind::kCounter, "callout_trace_dropped_total",
                             "Attributes and events of plugins that were over a limit of traces",
                             {{"plugin", name_}, {"what", what}})
                    .value_or(0);
    }
    counter = of_kind;
  }
  metrics_->Add(counter);
  LogLimited(LogLevel::kWarning, fmt::format("{}/trace/{}", name_, what),
             "plugin {}: {}: an {} of a span is left out: {}", name_, PhaseName(phase), what, why);
}

}  // namespace callout::host
