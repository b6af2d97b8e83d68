// SPDX-License-Identifier: Apache-2.0

// Makes the trace of each exchange that is sampled, from what the seam of calls
// (host/plugin/call_observer.h) tells of it.
//
//   TraceWatcher watcher(sampler, &exporter);
//   environment.watchers().Add(&watcher);
//   environment.watchers().SetActive(&watcher, true);
//
// The trace goes to the sink when the RPC ends. What plugins add to their spans (callout.trace/1)
// is in it, within `limits`. Any thread; it outlives all RPCs.
//
// Tested by tests/host/stream/trace_watcher_test.cc.
#ifndef CALLOUT_HOST_STREAM_TRACE_WATCHER_H_
#define CALLOUT_HOST_STREAM_TRACE_WATCHER_H_

#include <memory>
#include <string_view>

#include "host/plugin/call_observer.h"
#include "host/trace/exchange_trace.h"
#include "host/trace/sampler.h"

namespace callout::host {

class TraceWatcher final : public RpcWatcher {
 public:
  // `sink` outlives the watcher.
  TraceWatcher(const Sampler& sampler, TraceSink* sink, const SpanLimits& limits = {})
      : tracer_(sampler, sink), limits_(limits) {}

  std::unique_ptr<RpcObserver> Watch(const RpcStart& start) override;

 private:
  std::unique_ptr<RpcObserver> WatchBelow(const RpcStart& start, std::string_view of_rpc);
  std::unique_ptr<RpcObserver> Observe(const RpcStart& start, std::unique_ptr<ExchangeTrace> trace);

  const Tracer tracer_;
  const SpanLimits limits_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_TRACE_WATCHER_H_
