// SPDX-License-Identifier: Apache-2.0

// What clients, collectors and browsers write, as traces and the admin page read it: traceparent,
// a collector's reply, an endpoint, a form; and what they show of it.
//
// Readers: host/trace/trace_context.cc host/telemetry/otlp_encoding.cc host/admin/html.cc
#include <memory>
#include <string>
#include <vector>

#include "host/admin/admin_site.h"
#include "host/admin/html.h"
#include "host/base/utf8.h"
#include "host/telemetry/otlp_config.h"
#include "host/telemetry/otlp_encoding.h"
#include "host/trace/exchange_trace.h"
#include "host/wire/wire.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

class NoSink final : public TraceSink {
 public:
  void Take(std::unique_ptr<ExchangeTrace>) override {}
};

std::string ReadParent(const std::string& text) {
  const std::optional<SpanContext> context = ParseTraceparent(text);
  if (!context.has_value()) return "";
  const std::string again = "-" + ToHex(context->trace_id) + "-" + ToHex(context->span_id) + "-";
  return text.compare(2, again.size(), again) == 0 ? "" : "another context than was given: " + text;
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
  if (!IsUtf8(trace.http_method()) || !IsUtf8(trace.path()) || !IsUtf8(trace.context().state) ||
      !IsUtf8(trace.calls()[0].plugin) || !IsUtf8(trace.calls()[0].outcome)) {
    return "a text is not UTF-8";
  }
  return IsWellFormed(EncodeTraces({}, traces, 0)) ? "" : "the message is malformed";
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
