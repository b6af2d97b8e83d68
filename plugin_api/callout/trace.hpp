// SPDX-License-Identifier: Apache-2.0

// callout/trace.hpp - what a plugin adds to the trace of an exchange, as <callout/trace.h>
// describes it. Include it beside <callout/plugin.hpp>.
//
//     class Limited {
//      public:
//       explicit Limited(callout::Setup& setup) : trace_(setup) {}
//       void on_request_headers(callout::HeadersCall& call) {
//         const callout::Span span = trace_.span(call);
//         span.set("limit.group", "free");
//         if (span) span.event("cache", {{"hit", false}, {"entries", count_entries()}});
//         if (auto context = trace_.context(call)) ask(context->traceparent);
//       }
//      private:
//       callout::Trace trace_;
//     };
//
// An exchange that is not sampled records nothing: then `span` is false, and set() and event() do
// nothing. A host without this extension never records.
//
// A Span belongs to its call: to the hook, and to a deferred call until it is finished.
//
// Thread: Trace is [any]; a Span and context() belong to whoever holds the call.
#ifndef CALLOUT_TRACE_HPP_
#define CALLOUT_TRACE_HPP_

#include <callout/trace.h>

#include <callout/host.hpp>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

namespace callout {

// A key, and a text, a number or a bool. Views: for the statement that it is made in.
class TraceAttribute {
 public:
  template <class Value>
  TraceAttribute(std::string_view key, const Value& value) {
    raw_.key = to_bytes(key);
    if constexpr (std::is_same_v<Value, bool>) {
      raw_.type = CALLOUT_TRACE_FLAG;
      raw_.integer = value ? 1 : 0;
    } else if constexpr (std::is_integral_v<Value>) {
      raw_.type = CALLOUT_TRACE_INTEGER;
      raw_.integer = static_cast<int64_t>(value);
    } else if constexpr (std::is_floating_point_v<Value>) {
      raw_.type = CALLOUT_TRACE_REAL;
      raw_.real = static_cast<double>(value);
    } else {
      raw_.type = CALLOUT_TRACE_TEXT;
      raw_.text = to_bytes(std::string_view(value));
    }
  }
  const callout_trace_attribute_t& raw() const { return raw_; }

 private:
  callout_trace_attribute_t raw_ = {};
};

// The span of one call.
class Span {
 public:
  Span(const callout_trace_t* table, callout_call_t* call)
      : table_(table != nullptr && table->is_recording(call) != 0 ? table : nullptr), call_(call) {}
  // Whether it is recorded.
  explicit operator bool() const { return table_ != nullptr; }

  template <class Value>
  callout_status_t set(std::string_view key, const Value& value) const {
    if (table_ == nullptr) return CALLOUT_OK;
    return table_->set_attribute(call_, &TraceAttribute(key, value).raw());
  }
  callout_status_t event(std::string_view name,
                         std::initializer_list<TraceAttribute> attributes = {}) const {
    static_assert(sizeof(TraceAttribute) == sizeof(callout_trace_attribute_t));
    if (table_ == nullptr) return CALLOUT_OK;
    return table_->add_event(call_, to_bytes(name),
                             attributes.size() == 0 ? nullptr : &attributes.begin()->raw(),
                             attributes.size());
  }

 private:
  const callout_trace_t* table_;
  callout_call_t* call_;
};

class Trace {
 public:
  // Of the request that the plugin sends itself.
  struct Context {
    std::string traceparent;
    std::string tracestate;  // "": none
  };

  // There is none: nothing is recorded.
  Trace() = default;
  explicit Trace(Setup& setup) : Trace(setup.host().raw()) {}
  explicit Trace(const callout_host_t* host)
      : table_(static_cast<const callout_trace_t*>(host->get_extension(host, CALLOUT_TRACE))) {}
  // Whether the host has the extension.
  explicit operator bool() const { return table_ != nullptr; }

  // `call` is what a hook is given, or *deferred.
  template <class PhaseCall>
  Span span(const PhaseCall& call) const {
    return Span(table_, call.raw());
  }
  template <class PhaseCall>
  std::optional<Context> context(const PhaseCall& call) const {
    char traceparent[CALLOUT_TRACEPARENT_BYTES];
    callout_bytes_t tracestate = {};
    if (table_ == nullptr ||
        table_->get_context(call.raw(), traceparent, &tracestate) != CALLOUT_OK) {
      return std::nullopt;
    }
    return Context{std::string(traceparent, sizeof(traceparent)), std::string(to_view(tracestate))};
  }

 private:
  const callout_trace_t* table_ = nullptr;
};

}  // namespace callout

#endif  // CALLOUT_TRACE_HPP_
