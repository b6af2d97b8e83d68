// SPDX-License-Identifier: Apache-2.0

// The way from the extension callout.trace/1 (trace_service) to the trace of an exchange
// (host/stream/trace_watcher): what a plugin adds to the span of its call.
//
// An RpcObserver that records the exchange has one. A plugin may call from any thread as long as it
// holds the call, also when the host has given the call up or the RPC has ended.
//
// Tested by tests/host/plugin/trace_service_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_SPAN_WRITER_H_
#define CALLOUT_HOST_PLUGIN_SPAN_WRITER_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "host/trace/span_notes.h"
#include "host/trace/trace_context.h"

namespace callout::host {

struct CallState;

class SpanWriter {
 public:
  enum class Added : uint8_t {
    kYes,
    kOverLimit,  // and counted in the span
    kEnded,      // the span is over
  };

  virtual bool IsOpen(const CallState& call) = 0;
  virtual Added SetAttribute(const CallState& call, SpanAttribute attribute) = 0;
  virtual Added AddEvent(const CallState& call, SpanEvent event) = 0;
  // Of the call's span; `span->state` stays empty. False: the span is over.
  virtual bool ContextOf(const CallState& call, SpanContext* span) = 0;
  // Of the exchange, in hexadecimal. Any thread.
  virtual std::string trace_id() const = 0;
  // The tracestate of the exchange; lives as long as the RPC.
  virtual std::string_view tracestate() const = 0;
  virtual const SpanLimits& limits() const = 0;

 protected:
  ~SpanWriter() = default;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_SPAN_WRITER_H_
