// SPDX-License-Identifier: Apache-2.0

// The calls that one instance of a plugin makes to upstreams (<callout/calls.h>).
//
//   CallSet calls(&pool, {.name = "10-auth", .calls_max = 10000, .call = …});
//   calls.Open();                             // create has returned OK
//   calls.Start(outgoing, &id); calls.Cancel(id);
//   if (!calls.Close(on_idle)) … a done is running; on_idle is called when it has returned …
//
// A call ends once: by its result, by Cancel, or by Close. Whoever takes it out of the table ends
// it, so a result that comes later finds nothing.
//
// Any thread, but Open, Close and the destructor belong to the owner. The pool outlives the set.
#ifndef CALLOUT_HOST_EXTENSIONS_CALL_SET_H_
#define CALLOUT_HOST_EXTENSIONS_CALL_SET_H_

#include <callout/calls.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "host/metrics/metrics.h"
#include "host/upstream/upstream_pool.h"

namespace callout::host {

class CallSet {
 public:
  struct Options {
    std::string name;  // of the instance, for metrics and log lines
    size_t calls_max = 10000;
    bool strict = false;  // logs every refused call, not one a minute for each cause
    // Calls a function of the plugin's, on whatever thread.
    std::function<void(const std::function<void()>& function)> call;
  };

  // Metrics: callout_calls, callout_calls_refused_total.
  CallSet(UpstreamPool* pool, Metrics* metrics, Options options);
  ~CallSet();
  CallSet(const CallSet&) = delete;
  CallSet& operator=(const CallSet&) = delete;

  // As <callout/calls.h> says; refusals are logged and counted.
  callout_status_t Find(std::string_view upstream, callout_upstream_info_t* info) const;
  callout_status_t Start(const callout_outgoing_t& outgoing, uint64_t* id);
  callout_status_t Cancel(uint64_t id);

  // Until then no call can be started.
  void Open();
  // Cancels the calls, and no further one can be started. False if a `done` is running: `on_idle`
  // is called once, on another thread, when it has returned. May be called again.
  bool Close(std::function<void()> on_idle);
  // The same, and waits for it. The log says so if it takes long.
  void CloseAndWait();

 private:
  class Table;  // outlives the set while a result is on its way

  callout_status_t Refuse(callout_status_t status, std::string_view upstream,
                          std::string_view why) const;

  UpstreamPool* const pool_;
  Metrics* const metrics_;
  const Options options_;
  Metrics::Id refused_ = 0;
  const std::shared_ptr<Table> table_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_EXTENSIONS_CALL_SET_H_
