// SPDX-License-Identifier: Apache-2.0

#include "host/telemetry/otlp_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "host/base/ascii.h"
#include "host/base/field_text.h"
#include "host/base/log.h"
#include "host/base/percent.h"
#include "host/base/status_text.h"
#include "host/base/utf8.h"

namespace callout::host {
namespace {

constexpr char kServiceName[] = "callout-host";
constexpr size_t kHeadersMax = 64;
constexpr size_t kResourceAttributesMax = 64;
constexpr size_t kTextBytesMax = 4096;

// The variables whose names begin with OTEL_. One that is empty counts as unset.
class Variables {
 public:
  explicit Variables(const char* const* environment) {
    for (; *environment != nullptr; ++environment) {
      const std::string_view variable = *environment;
      const size_t equals = variable.find('=');
      if (!variable.starts_with("OTEL_") || equals == variable.npos) continue;
      if (equals + 1 == variable.size()) continue;
      values_.emplace(variable.substr(0, equals), variable.substr(equals + 1));
    }
  }

  bool Has(const std::string& name) const { return values_.count(name) > 0; }
  std::string Get(const std::string& name, const std::string& otherwise = "") const {
    const auto found = values_.find(name);
    return found == values_.end() ? otherwise : found->second;
  }
  // OTEL_EXPORTER_OTLP_TRACES_X before OTEL_EXPORTER_OTLP_X.
  std::string NameOfExporter(const std::string& suffix) const {
    const std::string of_traces = "OTEL_EXPORTER_OTLP_TRACES_" + suffix;
    return Has(of_traces) ? of_traces : "OTEL_EXPORTER_OTLP_" + suffix;
  }

 private:
  std::map<std::string, std::string, std::less<>> values_;
};

std::string Trimmed(std::string_view text) {
  const std::string copy(text);
  return std::string(absl::StripAsciiWhitespace(copy));
}

// "a=1,b=2", the values percent-encoded. Entries that are not of this form are left out, and
// counted in `bad`.
std::vector<std::pair<std::string, std::string>> ReadPairs(const std::string& text, size_t max,
                                                           size_t* bad) {
  std::vector<std::pair<std::string, std::string>> pairs;
  const std::vector<std::string> entries = absl::StrSplit(text, ',', absl::SkipWhitespace());
  for (const std::string& entry : entries) {
    const size_t equals = entry.find('=');
    const std::string key = Trimmed(std::string_view(entry).substr(0, equals));
    std::optional<std::string> value;
    if (equals != entry.npos) {
      value = PercentDecoded(Trimmed(std::string_view(entry).substr(equals + 1)));
    }
    const bool good = value.has_value() && !key.empty() && pairs.size() < max &&
                      key.size() <= kTextBytesMax && value->size() <= kTextBytesMax && IsUtf8(key);
    if (good) {
      pairs.emplace_back(key, *std::move(value));
    } else {
      ++*bad;
    }
  }
  return pairs;
}

class Reader {
 public:
  explicit Reader(const char* const* environment) : variables_(environment) {}

  OtlpConfig Read() {
    if (!IsWanted()) return std::move(config_);
    config_.enabled = ReadProtocol() && ReadEndpoint();
    ReadCompression();
    ReadHeaders();
    ReadFiles();
    ReadLimits();
    ReadResource();
    ReadSampler();
    return std::move(config_);
  }

 private:
  template <class... Args>
  void Warn(fmt::format_string<Args...> format, Args&&... args) {
    config_.warnings.push_back(EscapeControls(fmt::format(format, std::forward<Args>(args)...)));
  }

  bool IsWanted() {
    if (ToLowerAscii(variables_.Get("OTEL_SDK_DISABLED")) == "true") return false;
    constexpr char kExporter[] = "OTEL_TRACES_EXPORTER";
    if (!variables_.Has(kExporter)) {
      return variables_.Has("OTEL_EXPORTER_OTLP_ENDPOINT") ||
             variables_.Has("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    }
    bool wanted = false;
    const std::vector<std::string> names =
        absl::StrSplit(variables_.Get(kExporter), ',', absl::SkipWhitespace());
    for (const std::string& name : names) {
      const std::string exporter = Trimmed(name);
      wanted |= exporter == "otlp";
      if (exporter != "otlp" && exporter != "none") {
        Warn("{}={}: this host has the exporters otlp and none", kExporter, exporter);
      }
    }
    return wanted;
  }

  bool ReadProtocol() {
    const std::string name = variables_.NameOfExporter("PROTOCOL");
    const std::string protocol = variables_.Get(name, "http/protobuf");
    if (protocol == "grpc") {
      Warn(
          "{}=grpc: this host sends traces by http/protobuf only, so it sends none; set {} to "
          "http/protobuf, and the endpoint to the collector's port for it, which is usually 4318",
          name, name);
      return false;
    }
    if (protocol != "http/protobuf") {
      Warn("{}={}: traces are sent by http/protobuf", name, protocol);
    }
    return true;
  }

  void ReadCompression() {
    const std::string name = variables_.NameOfExporter("COMPRESSION");
    const std::string compression = variables_.Get(name, "none");
    config_.gzip = compression == "gzip";
    if (compression != "gzip" && compression != "none") {
      Warn("{}={}: expected gzip or none; traces are sent without compression", name, compression);
    }
  }

  bool ReadEndpoint() {
    constexpr char kOfTraces[] = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    std::string name = kOfTraces;
    std::string url = variables_.Get(name);
    if (url.empty()) {
      name = "OTEL_EXPORTER_OTLP_ENDPOINT";
      url = variables_.Get(name, "http://localhost:4318");
      url += url.ends_with('/') ? "v1/traces" : "/v1/traces";
    }
    absl::StatusOr<OtlpEndpoint> endpoint = ParseOtlpEndpoint(url);
    if (!endpoint.ok()) {
      Warn("{}: {}; no traces are sent", name, MessageOf(endpoint.status()));
      return false;
    }
    config_.endpoint = *std::move(endpoint);
    return true;
  }

  // Values are secrets, so that warnings do not quote them.
  void ReadHeaders() {
    const std::string name = variables_.NameOfExporter("HEADERS");
    size_t bad = 0;
    for (auto& [key, value] : ReadPairs(variables_.Get(name), kHeadersMax, &bad)) {
      if (!IsToken(key) || !IsFieldText(value)) {
        ++bad;
        continue;
      }
      config_.headers.emplace_back(std::move(key), std::move(value));
    }
    if (bad > 0) {
      Warn(
          "{}: {} entries are left out; expected NAME=VALUE,NAME=VALUE with percent-encoded "
          "values, at most {} entries",
          name, bad, kHeadersMax);
    }
  }

  void ReadFiles() {
    config_.ca_path = variables_.Get(variables_.NameOfExporter("CERTIFICATE"));
    config_.client_cert_path = variables_.Get(variables_.NameOfExporter("CLIENT_CERTIFICATE"));
    config_.client_key_path = variables_.Get(variables_.NameOfExporter("CLIENT_KEY"));
  }

  template <class Number>
  void ReadNumber(const std::string& name, uint64_t min, uint64_t max, Number* target) {
    if (!variables_.Has(name)) return;
    const std::string text = variables_.Get(name);
    uint64_t number = 0;
    if (!absl::SimpleAtoi(text, &number) || number < min || number > max) {
      Warn("{}={}: expected a whole number from {} to {}; using {}", name, text, min, max, *target);
      return;
    }
    *target = static_cast<Number>(number);
  }

  void ReadLimits() {
    constexpr uint64_t kDayMs = 86'400'000;
    ReadNumber(variables_.NameOfExporter("TIMEOUT"), 1, kDayMs, &config_.request_timeout_ms);
    ReadNumber("OTEL_BSP_SCHEDULE_DELAY", 1, kDayMs, &config_.schedule_delay_ms);
    ReadNumber("OTEL_BSP_EXPORT_TIMEOUT", 1, kDayMs, &config_.export_timeout_ms);
    // About a kilobyte for each span at most, texts included.
    ReadNumber("OTEL_BSP_MAX_QUEUE_SIZE", 1, 1'000'000, &config_.queue_spans_max);
    ReadNumber("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1, 100'000, &config_.batch_spans_max);
    config_.batch_spans_max = std::min(config_.batch_spans_max, config_.queue_spans_max);
    ReadSpanLimits();
  }

  // Those of a span go before those of everything.
  void ReadSpanLimits() {
    constexpr uint64_t kCountMax = 1000;
    constexpr uint64_t kBytesMax = 65536;
    SpanLimits* const limits = &config_.span_limits;
    ReadNumber("OTEL_ATTRIBUTE_COUNT_LIMIT", 0, kCountMax, &limits->attributes_max);
    limits->event_attributes_max = limits->attributes_max;
    ReadNumber("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", 0, kCountMax, &limits->attributes_max);
    ReadNumber("OTEL_SPAN_EVENT_COUNT_LIMIT", 0, kCountMax, &limits->events_max);
    ReadNumber("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", 0, kCountMax, &limits->event_attributes_max);
    ReadNumber("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", 0, kBytesMax, &limits->text_bytes_max);
    ReadNumber("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", 0, kBytesMax, &limits->text_bytes_max);
  }

  void ReadResource() {
    constexpr char kName[] = "OTEL_RESOURCE_ATTRIBUTES";
    size_t bad = 0;
    config_.resource = ReadPairs(variables_.Get(kName), kResourceAttributesMax, &bad);
    const auto not_utf8 = [](const auto& pair) { return !IsUtf8(pair.second); };
    bad += static_cast<size_t>(std::erase_if(config_.resource, not_utf8));
    if (bad > 0) {
      Warn(
          "{}: {} entries are left out; expected KEY=VALUE,KEY=VALUE with percent-encoded values, "
          "at most {} entries",
          kName, bad, kResourceAttributesMax);
    }
    const auto is_name = [](const auto& pair) { return pair.first == "service.name"; };
    const std::string service = variables_.Get("OTEL_SERVICE_NAME");
    if (!service.empty() && IsUtf8(service)) {
      std::erase_if(config_.resource, is_name);
      config_.resource.emplace_back("service.name", service);
    } else if (std::none_of(config_.resource.begin(), config_.resource.end(), is_name)) {
      config_.resource.emplace_back("service.name", kServiceName);
    }
  }

  void ReadSampler() {
    constexpr char kName[] = "OTEL_TRACES_SAMPLER";
    if (!variables_.Has(kName)) return;
    absl::StatusOr<Sampler> sampler =
        Sampler::Parse(variables_.Get(kName), variables_.Get("OTEL_TRACES_SAMPLER_ARG"));
    if (sampler.ok()) {
      config_.sampler = *sampler;
    } else {
      Warn("{}={}: {}; using parentbased_always_on", kName, variables_.Get(kName),
           MessageOf(sampler.status()));
    }
  }

  const Variables variables_;
  OtlpConfig config_;
};

absl::Status BadUrl() {
  return absl::InvalidArgumentError(
      "not a URL of the form http://HOST:PORT/PATH or https://HOST:PORT/PATH");
}

}  // namespace

absl::StatusOr<OtlpEndpoint> ParseOtlpEndpoint(const std::string& url) {
  OtlpEndpoint endpoint;
  std::string_view rest = url;
  const size_t scheme_end = rest.find("://");
  if (scheme_end == rest.npos) return BadUrl();
  const std::string scheme = ToLowerAscii(rest.substr(0, scheme_end));
  if (scheme != "http" && scheme != "https") return BadUrl();
  endpoint.tls = scheme == "https";
  rest.remove_prefix(scheme_end + 3);
  const size_t path = std::min(rest.find_first_of("/?#"), rest.size());
  std::string_view authority = rest.substr(0, path);
  // User and password would be sent by nobody: OTEL_EXPORTER_OTLP_HEADERS has such things.
  if (authority.find('@') != authority.npos) {
    return absl::InvalidArgumentError(
        "a URL with a user or password; give them in OTEL_EXPORTER_OTLP_HEADERS");
  }
  endpoint.target = rest.substr(path);
  endpoint.target.resize(std::min(endpoint.target.find('#'), endpoint.target.size()));
  if (!endpoint.target.starts_with('/')) endpoint.target.insert(0, "/");
  std::string_view port;
  if (authority.starts_with('[')) {
    const size_t end = authority.find(']');
    if (end == authority.npos) return BadUrl();
    endpoint.host = authority.substr(1, end - 1);
    port = authority.substr(end + 1);
  } else {
    const size_t colon = std::min(authority.find(':'), authority.size());
    endpoint.host = authority.substr(0, colon);
    port = authority.substr(colon);
  }
  uint32_t number = endpoint.tls ? 443 : 80;
  if (!port.empty() &&
      (!port.starts_with(':') || !absl::SimpleAtoi({port.data() + 1, port.size() - 1}, &number))) {
    return BadUrl();
  }
  const auto is_plain = [](char c) { return c > ' ' && c <= '~'; };
  if (endpoint.host.empty() || number == 0 || number > 65535 ||
      !std::all_of(url.begin(), url.end(), is_plain)) {
    return BadUrl();
  }
  endpoint.port = static_cast<uint16_t>(number);
  endpoint.url = url;
  return endpoint;
}

OtlpConfig ReadOtlpConfig(const char* const* environment) { return Reader(environment).Read(); }

}  // namespace callout::host
