// SPDX-License-Identifier: Apache-2.0

// What one instance has of the extensions (get_extension): its timers, its calls to upstreams, its
// use of shared data and of traces, and which extensions it has asked for.
//
//   InstanceExtensions extensions(context.extensions, context.metrics, name, marker);
//   const void* table = extensions.Find(CALLOUT_TIMERS);
//   extensions.Open();       // create has returned OK
//   extensions.End(on_idle); // before destroy
//
// Any thread, but Open, End and the destructor belong to the instance's owner.
//
// Tested by tests/host/plugin/instance_extensions_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_INSTANCE_EXTENSIONS_H_
#define CALLOUT_HOST_PLUGIN_INSTANCE_EXTENSIONS_H_

#include <callout/plugin.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "host/extensions/extensions.h"
#include "host/metrics/metrics.h"

namespace callout::host {

class InstanceExtensions {
 public:
  // `extensions` may be null: then there are none. It and `metrics` outlive this. `marker` is the
  // instance's in the table of running hooks. `strict`: every call that is refused is logged.
  InstanceExtensions(Extensions* extensions, Metrics* metrics, std::string name, uint32_t marker,
                     bool strict = false);

  // The table of an extension; null if this host has none of the id.
  const void* Find(std::string_view id);
  // The ids that were asked for before Open; those without a table with " (unknown)".
  std::vector<std::string> asked() const;
  // For services.cc: it has given out the table of `id` itself.
  void NoteAsked(std::string_view id, bool is_known);

  // From now on timers run, and calls can be made.
  void Open();
  // No timer runs from now on, no call ends, and none can be started. False if a function of one is
  // running: `on_idle` is called, once or twice, when it has returned.
  bool End(const std::function<void()>& on_idle);
  // The same, and waits for it.
  void EndAndWait();

  // The functions of the tables.
  TimerSet* timers();
  CallSet* calls();
  SharedData* shared_data() { return &extensions_->shared_data; }
  const std::string& name() const { return name_; }
  callout_status_t RefuseSharedData(callout_status_t status, std::string_view why);
  // An "attribute" or "event" (`what`) of a span was over a limit, and is left out.
  void CountTraceDrop(const char* what, callout_phase_t phase, std::string_view why);

 private:
  enum class State : uint8_t { kCreating, kServing, kEnded };
  static constexpr size_t kAskedMax = 32;

  Extensions* const extensions_;
  Metrics* const metrics_;
  const std::string name_;
  const uint32_t marker_;
  const bool strict_;

  std::atomic<State> state_{State::kCreating};  // changed with mutex_
  mutable std::mutex mutex_;                    // guards the following
  std::vector<std::string> asked_;
  Metrics::Id shared_data_refused_ = 0;
  std::map<std::string, Metrics::Id, std::less<>> trace_drops_;  // by what
  std::unique_ptr<TimerSet> timers_;                             // made when it is asked for
  std::unique_ptr<CallSet> calls_;                               // the same
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_INSTANCE_EXTENSIONS_H_
