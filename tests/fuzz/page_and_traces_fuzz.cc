// SPDX-License-Identifier: Apache-2.0

// What clients, collectors and browsers write, as traces and the admin page read it: traceparent,
// a collector's reply, an endpoint, a form; and what they show of it.
//
// Readers: host/telemetry/otlp_encoding.cc host/admin/html.cc
// Not counted: CspHash (of the host's own page)
#include <memory>
#include <string>
#include <vector>

#include "host/admin/admin_site.h"
#include "host/admin/html.h"
#include "host/base/utf8.h"
#include "host/telemetry/otlp_config.h"
#include "host/telemetry/otlp_encoding.h"
#include "host/trace/exchange_trace.h"
#include "host/trace/span_notes.h"
#include "host/wire/wire.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

class NoSink final : public TraceSink {
 public:
  void Take(std::unique_ptr<ExchangeTrace>) override {}
};

// As the callers of what takes UTF-8 only do.
std::string SafeText(std::string text) {
  return IsUtf8(text) ? text : std::string(text.size(), 'u');
}

std::string ReadParent(const std::string& text) {
  const std::optional<SpanContext> context = ParseTraceparent(text);
  if (!context.has_value()) return "";
  const std::string again = "-" + ToHex(context->trace_id) + "-" + ToHex(context->span_id) + "-";
  return text.compare(2, again.size(), again) == 0 ? "" : "another context than was given: " + text;
}

// What a plugin says about its call.
std::unique_ptr<SpanNotes> AnyNotes(Choices& choices) {
  const SpanLimits limits = {.attributes_max = 3, .events_max = 2, .text_bytes_max = 20};
  SpanBudget budget{1000};
  auto notes = std::make_unique<SpanNotes>();
  const auto any_attribute = [&] {
    SpanAttribute attribute{SafeText(choices.Bytes(8)), int64_t{choices.Next(256)}};
    switch (choices.Next(4)) {
      case 0:
        attribute.value = SafeText(choices.Bytes(20));
        break;
      case 1:
        attribute.value = choices.Next(256) / 8.0;
        break;
      case 2:
        attribute.value = choices.Next(2) == 0;
        break;
      default:
        break;
    }
    return attribute;
  };
  for (unsigned i = choices.Next(6); i > 0; --i) {
    if (choices.Next(2) == 0) {
      (void)notes->Set(any_attribute(), limits, &budget);
      continue;
    }
    SpanEvent event;
    event.name = SafeText(choices.Bytes(12));
    event.dropped_attributes = choices.Next(2);
    for (unsigned k = choices.Next(3); k > 0; --k) event.attributes.push_back(any_attribute());
    (void)notes->Add(std::move(event), limits, &budget);
  }
  return notes;
}

// All texts are a stranger's. The message must stay one, and UTF-8, or a collector refuses all.
std::string EncodeStrangers(Choices& choices) {
  NoSink sink;
  const std::string parent = choices.Bytes(80), state = choices.Bytes(80);
  std::vector<std::unique_ptr<ExchangeTrace>> traces;
  traces.push_back(Tracer(*Sampler::Parse("always_on", ""), &sink)
                       .Begin("service/Method", ParseTraceparent(parent), 1));
  ExchangeTrace& trace = *traces.front();
  trace.SetTracestate(state);
  trace.SetRequest(choices.Bytes(40), choices.Bytes(255));
  trace.AddCall({.plugin = choices.Bytes(40), .phase = "check", .outcome = choices.Bytes(40)});
  if (choices.Next(2) == 0) {
    trace.SetStreamId(choices.Next(256));
    trace.SetHttpStatus(403);
    trace.AddCall({.plugin = "p",
                   .phase = "check",
                   .deferred = true,
                   .generation = choices.Next(3),
                   .http_status = 403 * static_cast<int>(choices.Next(2)),
                   .failed = choices.Next(2) == 0,
                   .notes = AnyNotes(choices)});
    trace.End({.status = "INTERNAL", .failed = true, .message = SafeText(choices.Bytes(20))});
  }
  if (!IsUtf8(trace.http_method()) || !IsUtf8(trace.path()) || !IsUtf8(trace.context().state) ||
      !IsUtf8(trace.calls()[0].plugin) || !IsUtf8(trace.calls()[0].outcome)) {
    return "a text is not UTF-8";
  }
  const OtlpResource resource = {{"service.name", SafeText(choices.Bytes(20))}};
  const std::string message = EncodeTraces(resource, traces, 1);
  if (!IsWellFormed(message)) return "the message is malformed";
  // The collector's reply has the same form.
  return ReadOtlpReply(message).rejected_spans == 0 ? "" : "a message is taken for a refusal";
}

std::string Show(const std::string& text) {
  const std::string html = EscapeHtml(text);
  if (html.find_first_of("<>\"'\n") != html.npos) return "markup gets through: " + html;
  return IsUtf8(html) ? "" : "the page is not UTF-8";
}

}  // namespace
}  // namespace callout::host

FUZZ_TARGET(page_and_traces, .rounds = 20000, .bytes = 60) {
  using namespace callout::host;
  switch (choices.Next(6)) {
    case 0:
      return ReadParent(choices.Rest());
    case 1:
      return EncodeStrangers(choices);
    case 2: {
      const OtlpReply reply = ReadOtlpReply(choices.Rest());
      return reply.valid || (reply.rejected_spans == 0 && reply.message.empty())
                 ? ""
                 : "what is no reply says something";
    }
    case 3: {
      const absl::StatusOr<OtlpEndpoint> endpoint = ParseOtlpEndpoint(choices.Rest());
      if (!endpoint.ok()) return "";
      const std::string whole = endpoint->host + endpoint->target;
      for (const char c : whole) {
        if (c <= ' ' || c > '~') return "an endpoint with a line break in it";
      }
      return endpoint->target.starts_with('/') ? "" : "no path";
    }
    case 4:
      static_cast<void>(ParseForm(choices.Rest()));
      return "";
    default:
      return Show(choices.Rest());
  }
}
