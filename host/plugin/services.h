// SPDX-License-Identifier: Apache-2.0

// The host's side of the ABI's table of services (struct callout_host).
//
// Each instance has a table. The functions write their arguments to the call's state. They decide
// nothing about the protocol; the guard does, after the hook has returned.
//
// Tested by tests/host/stream/stream_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_SERVICES_H_
#define CALLOUT_HOST_PLUGIN_SERVICES_H_

#include <callout/plugin.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "host/metrics/metrics.h"
#include "host/plugin/call.h"
#include "host/wire/phase.h"
#include "host/wire/wire.h"

namespace callout::host {

// What hooks print about the host: "callout-host/<version>".
extern const char kHostName[];
// "<version>".
extern const char kHostVersion[];

// The largest text set_error() keeps and log() writes, in bytes.
inline constexpr size_t kErrorTextBytesMax = 1024;
inline constexpr size_t kLogTextBytesMax = 8192;

// The most metrics one instance may define, and files it may follow.
inline constexpr size_t kPluginMetricsMax = 64;
inline constexpr size_t kFollowedFilesMax = 64;

// How much of the ABI's structs a plugin sees: by default all of this header. Tests act as a host
// of an earlier or later revision.
struct AbiShape {
  size_t host_bytes = sizeof(callout_host_t);
  size_t call_bytes = sizeof(callout_call_t);
  size_t create_bytes = sizeof(callout_create_args_t);
};

// The state of a call; null, and logged, if it is over or no call at all. `service` is static. For
// the functions of extensions that take a call.
CallState* FindState(const callout_call_t* call, const char* service);
// Logs why a service was refused, and returns `status`.
callout_status_t RefuseCall(const callout_call_t& call, const char* service,
                            callout_status_t status, std::string_view why);

// A table with every service, for `instance`. `abi` comes first: a plugin's
// `host` pointer is a pointer to this.
//
// It outlives its instance, for threads that the plugin has not joined. Once it is retired, [any]
// services only log the call. So it holds all that these need.
class ServiceTable {
 public:
  struct Options {
    Metrics* metrics = nullptr;  // outlives the table
    bool strict = false;         // logs every refused call
    size_t bytes = sizeof(callout_host_t);
  };
  ServiceTable(Instance* instance, std::string name, const Options& options);
  ServiceTable(const ServiceTable&) = delete;
  ServiceTable& operator=(const ServiceTable&) = delete;

  static const ServiceTable* From(const callout_host_t* host) {
    return reinterpret_cast<const ServiceTable*>(host);
  }

  const callout_host_t* abi() const { return &abi_; }
  const std::string& name() const { return name_; }
  Instance* instance() const { return instance_; }

  // Callers are [control]: before the instance has been created.
  absl::StatusOr<uint32_t> DefineMetric(const callout_metric_spec_t& spec);
  // Any thread.
  void RecordMetric(uint32_t id, double value) const;

  // The instance is about to be deleted. Takes over the table and never frees it, as the code of a
  // generation is never unmapped.
  static void Retire(std::unique_ptr<ServiceTable> table);
  bool retired() const { return retired_.load(std::memory_order_acquire); }
  // Any thread: the plugin has called `service` after callout_plugin_destroy.
  void LogUseAfterDestroy(const char* service) const;
  // Any thread: finish() on a call that is over, or was never deferred.
  void CountStaleFinish(callout_phase_t phase, uint64_t stream_id) const;
  // Any thread: `service` has refused a call. `what` says why, and what to do.
  void LogRefusal(const char* service, callout_phase_t phase, std::string_view what) const;

 private:
  struct PluginMetric {
    callout_metric_kind_t kind;
    Metrics::Id id;
  };

  callout_host_t abi_;
  // NULLs, for a plugin that calls services of a newer host without having checked.
  std::array<void*, 32> no_services_{};
  Instance* const instance_;
  const std::string name_;
  Metrics* const metrics_;
  const bool strict_;
  // Written during create only, when threads of the plugin's own may already read those before.
  std::array<PluginMetric, kPluginMetricsMax> plugin_metrics_{};
  std::atomic<size_t> plugin_metric_count_{0};
  std::atomic<bool> retired_{false};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_SERVICES_H_
