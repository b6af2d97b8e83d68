// SPDX-License-Identifier: Apache-2.0

// Short texts of operators beside options and settings: the file of --upstreams, OpenTelemetry's
// environment variables, the rules and forms by which exchanges are recorded.
//
// Readers: host/upstream/upstream_config.cc host/telemetry/otlp_config.cc
// host/record/record_rule.cc host/trace/sampler.cc host/base/percent.cc
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "host/base/percent.h"
#include "host/base/status_text.h"
#include "host/record/record_rule.h"
#include "host/telemetry/otlp_config.h"
#include "host/trace/sampler.h"
#include "host/upstream/upstream_config.h"
#include "tests/fuzz/target.h"
#include "tests/fuzz/text_file.h"

namespace callout::host {
namespace {

bool IsLine(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  }
  return !text.empty();
}

std::string ReadUpstreamsText(const std::string& text) {
  const absl::StatusOr<std::vector<UpstreamConfig>> upstreams = ParseUpstreams(text);
  const TextFile file(text);
  std::string kept;
  const auto read = ReadUpstreams(file.path(), &kept);
  if (read.ok() && (!upstreams.ok() || kept != text)) return "a file is read as another text";
  if (!read.ok() && !IsLine(MessageOf(read.status()))) return "an error of a file is not one line";
  if (ReadUpstreams("@" + file.path()).ok()) return "a file is read that is not there";
  if (!upstreams.ok()) {
    return IsLine(MessageOf(upstreams.status())) ? "" : "an error is not one line";
  }
  if (!nlohmann::json::accept(text)) return "what is no JSON is taken for upstreams";
  std::set<std::string> names;
  for (const UpstreamConfig& upstream : *upstreams) {
    if (!names.insert(upstream.name).second) return "two upstreams of one name";
    if (!IsLine(upstream.name)) return "a name that is none";
    if (upstream.host.empty() == upstream.unix_path.empty()) return "an upstream without a place";
    if (!upstream.host.empty() && upstream.port == 0) return "an upstream without a port";
    if (!IsLine(upstream.authority)) return "an authority that breaks a request";
    if (upstream.timeout_ms == 0 || upstream.max_connections == 0) return "a limit that is 0";
  }
  return "";
}

std::string ReadEnvironment(Choices& choices) {
  static const char* const kNames[] = {"OTEL_EXPORTER_OTLP_ENDPOINT",
                                       "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                                       "OTEL_EXPORTER_OTLP_HEADERS",
                                       "OTEL_EXPORTER_OTLP_PROTOCOL",
                                       "OTEL_EXPORTER_OTLP_COMPRESSION",
                                       "OTEL_EXPORTER_OTLP_TIMEOUT",
                                       "OTEL_EXPORTER_OTLP_CERTIFICATE",
                                       "OTEL_RESOURCE_ATTRIBUTES",
                                       "OTEL_SERVICE_NAME",
                                       "OTEL_SDK_DISABLED",
                                       "OTEL_TRACES_EXPORTER",
                                       "OTEL_TRACES_SAMPLER",
                                       "OTEL_TRACES_SAMPLER_ARG",
                                       "OTEL_BSP_MAX_QUEUE_SIZE",
                                       "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
                                       "OTEL_BSP_SCHEDULE_DELAY",
                                       "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
                                       "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"};
  std::vector<std::string> variables;
  if (!choices.OneIn(4)) variables.emplace_back("OTEL_TRACES_EXPORTER=otlp");
  for (unsigned i = choices.Next(5); i > 0; --i) {
    variables.push_back(std::string(kNames[choices.Next(18)]) + "=" + choices.Bytes(60));
  }
  variables.push_back("OTEL_" + choices.Bytes(30));
  std::vector<const char*> pointers;
  for (const std::string& variable : variables) pointers.push_back(variable.c_str());
  pointers.push_back(nullptr);
  const OtlpConfig config = ReadOtlpConfig(pointers.data());
  for (const std::string& warning : config.warnings) {
    if (!IsLine(warning)) return "a warning is not one line: " + warning;
  }
  for (const auto& [name, value] : config.headers) {
    if (name.find_first_of("\r\n: ") != name.npos || value.find_first_of("\r\n") != value.npos) {
      return "a header that breaks a request";
    }
  }
  if (config.batch_spans_max == 0 || config.batch_spans_max > config.queue_spans_max) {
    return "a batch that is larger than the queue, or empty";
  }
  return config.request_timeout_ms > 0 ? "" : "no time for a request";
}

std::string ReadRule(Choices& choices) {
  constexpr uint64_t kBytesMax = 1 << 20;
  if (choices.Next(2) == 0) {
    const double percent = 1 + choices.Next(100);
    const absl::StatusOr<RecordRule> rule = MakeRecordRule(percent, choices.Rest());
    if (rule.ok()) {
      (void)rule->Samples(7);
      if (rule->match.has_value() && rule->Matches("")) return "a rule matches without headers";
      // A header with a path and a method.
      const std::string_view message(
          "\x0a\x1a\x0a\x0a\x0a\x05:path\x1a\x01/\x0a\x0c\x0a\x07:method\x1a\x01G");
      if (!rule->match.has_value() && !rule->Matches(message))
        return "a rule without a match is one";
    }
    return rule.ok() || IsLine(MessageOf(rule.status())) ? "" : "an error is not one line";
  }
  const bool is_long = choices.OneIn(16);
  const std::string text = choices.Rest() + std::string(is_long ? 5000 : 0, 'x');
  const absl::StatusOr<TapForm> form = ParseTapForm(text, kBytesMax);
  if (!form.ok()) return IsLine(MessageOf(form.status())) ? "" : "an error is not one line";
  if (form->stop) return "";
  if (form->seconds < 1 || form->seconds > 3600) return "a tap without an end";
  if (form->count < 1 || form->count > 1'000'000) return "a tap of exchanges without number";
  if (form->bytes < 4096 || form->bytes > kBytesMax) return "a tap that fills the disk";
  return form->rule.percent > 0 && form->rule.percent <= 100 ? "" : "a share that is none";
}

std::string ReadNumbers(const std::string& text) {
  if (const absl::StatusOr<double> percent = ParsePercent(text); percent.ok()) {
    if (!(*percent > 0 && *percent <= 100)) return "a share that is none: " + text;
  }
  (void)Sampler::Parse("parentbased_traceidratio", text);
  (void)Sampler::Parse(text, "0.5");
  return "";
}

std::string ReadForm(const std::string& text) {
  const std::optional<std::string> decoded = PercentDecoded(text);
  if (decoded.has_value() && decoded->size() > text.size()) return "decoded, a text is longer";
  if (decoded.has_value() && LenientlyDecoded(text) != *decoded)
    return "decoded leniently, it differs";
  size_t bytes = 0;
  for (const FormPair& pair : FormPairs(text)) {
    if (pair.key.has_value()) bytes += pair.key->size();
    if (pair.value.has_value()) bytes += pair.value->size();
  }
  return bytes <= text.size() ? "" : "a form says more than is in it";
}

FUZZ_TARGET(operator_texts, .rounds = 20000, .bytes = 40) {
  switch (choices.Next(5)) {
    case 0:
      return ReadUpstreamsText(choices.Rest());
    case 1:
      return ReadEnvironment(choices);
    case 2:
      return ReadRule(choices);
    case 3:
      return ReadNumbers(choices.Rest());
    default:
      return ReadForm(choices.Rest());
  }
}

}  // namespace
}  // namespace callout::host
