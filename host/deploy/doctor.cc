// SPDX-License-Identifier: Apache-2.0

#include "host/deploy/doctor.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/deploy/body_modes.h"
#include "host/deploy/config_document.h"
#include "host/deploy/envoy_reader.h"
#include "host/deploy/resource_reader.h"

namespace callout::host {
namespace {

enum class Part : uint8_t { kHeaders, kBody, kTrailers };

// "requestBodyMode: " or "request_body_mode: ".
std::string ModeKey(DeployTarget kind, std::string_view direction, Part part) {
  const bool snake = kind == DeployTarget::kEnvoy || kind == DeployTarget::kIstio;
  constexpr std::string_view kSnake[] = {"_header_mode", "_body_mode", "_trailer_mode"};
  constexpr std::string_view kCamel[] = {"HeaderMode", "BodyMode", "TrailerMode"};
  const auto index = static_cast<size_t>(part);
  return fmt::format("{}{}: ", direction, snake ? kSnake[index] : kCamel[index]);
}

std::string GoogleEvent(DeployTarget kind, const std::string& direction, Part part) {
  constexpr std::string_view kNames[] = {"HEADERS", "BODY", "TRAILERS"};
  constexpr std::string_view kCamel[] = {"Headers", "Body", "Trailers"};
  const auto index = static_cast<size_t>(part);
  if (kind == DeployTarget::kGcloud) {
    return fmt::format("{}_{}", absl::AsciiStrToUpper(direction), kNames[index]);
  }
  std::string name = direction;
  name[0] = absl::ascii_toupper(static_cast<unsigned char>(name[0]));
  return name + std::string(kCamel[index]);
}

// What brings a part of a direction to the host.
std::string WriteMode(DeployTarget kind, const std::string& direction, Part part, BodyMode body) {
  if (IsGoogle(kind)) {
    std::string event = fmt::format("supportedEvents: [{}, …]", GoogleEvent(kind, direction, part));
    if (part != Part::kBody || body != BodyMode::kFullDuplex) return event;
    const bool camel = kind == DeployTarget::kGke;
    return fmt::format("{}, {}BodySendMode: {}{}, and the event {}", event, direction,
                       camel ? "" : "BODY_SEND_MODE_",
                       camel ? BodyModeCamelName(body) : BodyModeName(body),
                       GoogleEvent(kind, direction, Part::kTrailers));
  }
  if (kind == DeployTarget::kEnvoyGateway) {
    if (part == Part::kHeaders) return fmt::format("{}: {{}}", direction);
    return fmt::format("body: {}", BodyModeCamelName(body));
  }
  const bool camel = kind == DeployTarget::kAgentgateway;
  std::string_view value = camel ? "Send" : "SEND";
  if (part == Part::kBody) value = camel ? BodyModeCamelName(body) : BodyModeName(body);
  return ModeKey(kind, direction, part) + std::string(value);
}

// Judges one filter.
class Judge {
 public:
  Judge(const ProxySettings& settings, const EnvoyNeeds& needs)
      : settings_(settings), needs_(needs) {}

  std::vector<ConfigFinding> Findings() {
    Direction("request", settings_.request, needs_.request);
    Direction("response", settings_.response, needs_.response);
    Times();
    Permissions();
    Attributes();
    Limits();
    findings_.insert(findings_.end(), settings_.findings.begin(), settings_.findings.end());
    return std::move(findings_);
  }

 private:
  // What the kind of proxy calls one of its settings.
  std::string Key(std::string_view envoy, std::string_view resource) const {
    return std::string(settings_.kind == DeployTarget::kEnvoy ? envoy : resource);
  }

  template <class T>
  void Add(const Known<T>& known, std::string write, std::string why) {
    findings_.push_back({known.path, known.found, std::move(write), std::move(why)});
  }

  void Direction(const std::string& name, const ProxyDirection& sent, const DirectionNeeds& needs) {
    const BodyMode right = ModesFor(settings_.kind, needs).body;
    if (needs.headers() && sent.headers.value == false) {
      Add(sent.headers, WriteMode(settings_.kind, name, Part::kHeaders, right),
          fmt::format("plugin {} needs the {}'s headers, which are not sent", needs.headers_for,
                      name));
    }
    if (needs.trailers() && sent.trailers.value == false) {
      Add(sent.trailers, WriteMode(settings_.kind, name, Part::kTrailers, right),
          fmt::format("plugin {} has a hook for {} trailers, which are not sent",
                      needs.trailers_for, name));
    }
    if (!sent.body.value.has_value() || needs.body() == BodyNeed::kNone) return;
    if (*sent.body.value == BodyMode::kNone) {
      Add(sent.body, WriteMode(settings_.kind, name, Part::kBody, right),
          fmt::format("plugin {} has a hook for the {}'s body, which is not sent", needs.body_for,
                      name));
    } else if (needs.body() == BodyNeed::kWhole) {
      WholeBody(name, sent, needs);
    }
  }

  void WholeBody(const std::string& name, const ProxyDirection& sent, const DirectionNeeds& needs) {
    const BodyMode right = ModesFor(settings_.kind, needs).body;
    const std::string write = WriteMode(settings_.kind, name, Part::kBody, right);
    if (*sent.body.value == BodyMode::kBufferedPartial) {
      Add(sent.body, write,
          fmt::format("plugin {} takes whole bodies; beyond the buffer's limit the rest of a body "
                      "passes unseen",
                      needs.whole_body_for));
    }
    // The host then asks for trailers itself.
    const bool host_asks =
        settings_.overrides.value == true && needs_.mode_override == EnvoyModeOverride::kAllowed;
    if (*sent.body.value == BodyMode::kStreamed && sent.trailers.value == false && !host_asks) {
      Add(sent.trailers,
          right == BodyMode::kFullDuplex || settings_.kind == DeployTarget::kEnvoyGateway
              ? write
              : WriteMode(settings_.kind, name, Part::kTrailers, right) + ", or " + write,
          fmt::format("plugin {} takes whole bodies, and the end of a body that trailers follow "
                      "does not show: such requests fail",
                      needs.whole_body_for));
    }
    const Known<uint64_t>& buffer = settings_.buffer_bytes;
    if (*sent.body.value == BodyMode::kBuffered && buffer.value.has_value() &&
        *buffer.value < std::min(needs_.whole_body_bytes_max, BufferBytes(needs_))) {
      Add(buffer,
          fmt::format("{}: {}", Key("per_connection_buffer_limit_bytes", "bufferLimit"),
                      BufferBytes(needs_)),
          fmt::format("plugin {} takes bodies up to {} bytes, and larger ones than {} end with 413 "
                      "or 500 before it sees them",
                      needs.whole_body_for, needs_.whole_body_bytes_max, *buffer.value));
    }
  }

  void Times() {
    const bool google = IsGoogle(settings_.kind);
    const Known<uint64_t>& timeout = settings_.timeout_ms;
    if (timeout.value.has_value() && needs_.answer_ms_max > 0 &&
        *timeout.value <= needs_.answer_ms_max) {
      const std::string key = google ? "timeout" : Key("message_timeout", "messageTimeout");
      Add(timeout, fmt::format("{}: {}", key, TimeText(MessageTimeoutMs(needs_))),
          fmt::format("the host may take {} ms (--hook_deadline_ms={} for each plugin of a "
                      "message); Envoy gives up first, and the plugin's error policy does not "
                      "count",
                      needs_.answer_ms_max, needs_.hook_deadline_ms));
    }
    const Known<uint64_t>& most = settings_.max_timeout_ms;
    if (most.value.has_value() && needs_.extra_ms > 0 && *most.value < needs_.extra_ms) {
      Add(most,
          fmt::format("{}: {}", Key("max_message_timeout", "maxMessageTimeout"),
                      TimeText(std::max<uint64_t>(10000, needs_.extra_ms))),
          fmt::format("--defer_budget_ms={} asks for more time, which is ignored above this",
                      needs_.extra_ms));
    }
    const bool other_ends = google || settings_.kind == DeployTarget::kAgentgateway;
    if (other_ends && needs_.early_end) {
      findings_.push_back({settings_.path, "--early_end=on", "start the host with --early_end=off",
                           "only Envoy is known to let the rest of an exchange pass when its "
                           "stream ends early"});
    }
  }

  // "0.25s" is protobuf's form, "250ms" Kubernetes'.
  std::string TimeText(uint64_t ms) const {
    if (ms % 1000 == 0) return fmt::format("{}s", ms / 1000);
    const bool seconds =
        settings_.kind == DeployTarget::kEnvoy || settings_.kind == DeployTarget::kGcloud;
    return seconds ? fmt::format("{}.{:03}s", ms / 1000, ms % 1000) : fmt::format("{}ms", ms);
  }

  void Permissions() {
    if (needs_.plugins.empty()) return;
    if (settings_.fail_open.value == true && !needs_.denying.empty()) {
      Add(settings_.fail_open,
          settings_.kind == DeployTarget::kAgentgateway
              ? "failureMode: FailClosed"
              : Key("failure_mode_allow: false", "failOpen: false"),
          fmt::format("plugin {} refuses requests, and all pass unchecked while the host cannot be "
                      "reached or a stream fails",
                      needs_.denying));
    }
    if (settings_.observability.value == true) {
      Add(settings_.observability, Key("observability_mode: false", "shadowMode: false"),
          "whatever plugins respond is ignored");
    }
    if (settings_.overrides.value == false && needs_.mode_override != EnvoyModeOverride::kIgnored) {
      Add(settings_.overrides,
          settings_.kind == DeployTarget::kKgateway
              ? "allowProcessingModeOverride: true"
              : Key("allow_mode_override: true", "allowModeOverride: true"),
          "a plugin's change of the processing mode is ignored; if none makes any, start the host "
          "with --envoy_mode_override=ignored");
    }
    if (settings_.routing.value == false && needs_.request.any()) {
      Add(settings_.routing, "mutation_rules: {allow_all_routing: true}",
          "plugins' changes of :authority, :method and :scheme are dropped; if none makes any, "
          "write mutation_rules: {}");
    }
  }

  void Attributes() {
    if (!settings_.attributes.value.has_value()) return;
    const std::vector<std::string>& sent = *settings_.attributes.value;
    for (const std::string& name : needs_.attributes) {
      if (std::find(sent.begin(), sent.end(), name) != sent.end()) continue;
      const std::string resource = settings_.kind == DeployTarget::kAgentgateway
                                       ? fmt::format("requestAttributes: {{{0}: {0}}}", name)
                                   : IsGoogle(settings_.kind)
                                       ? fmt::format("forwardAttributes: [{}]", name)
                                       : fmt::format("attributes: [{}]", name);
      Add(settings_.attributes, Key(fmt::format("request_attributes: [{}]", name), resource),
          fmt::format("the settings' match compares the attribute {}, which is not sent, so it "
                      "never matches",
                      name));
    }
  }

  void Limits() {
    const Known<uint64_t>& bytes = settings_.header_bytes;
    const uint64_t kb = (needs_.header_bytes_max + 1023) / 1024;
    if (bytes.value.has_value() && *bytes.value != kb * 1024) {
      Add(bytes, fmt::format("max_request_headers_kb: {}", kb),
          fmt::format("the host checks plugins' changes against --max_header_bytes={}; Envoy's "
                      "limit is {}",
                      needs_.header_bytes_max, *bytes.value));
    }
    const Known<uint64_t>& count = settings_.header_count;
    if (count.value.has_value() && *count.value != needs_.header_count_max) {
      Add(count, fmt::format("max_headers_count: {}", needs_.header_count_max),
          fmt::format("the host checks plugins' changes against --max_header_count={}; Envoy's "
                      "limit is {}",
                      needs_.header_count_max, *count.value));
    }
    const Known<uint64_t>& buffer = settings_.buffer_bytes;
    const bool bodies =
        needs_.request.body() != BodyNeed::kNone || needs_.response.body() != BodyNeed::kNone;
    if (bodies && buffer.value.has_value() && *buffer.value > needs_.message_bytes_max) {
      Add(buffer,
          fmt::format("{}: {}, or start the host with --max_message_bytes={}",
                      Key("per_connection_buffer_limit_bytes", "bufferLimit"), BufferBytes(needs_),
                      *buffer.value + 65536),
          fmt::format("the host refuses messages above --max_message_bytes={}, and such requests "
                      "fail",
                      needs_.message_bytes_max));
    }
  }

  const ProxySettings& settings_;
  const EnvoyNeeds& needs_;
  std::vector<ConfigFinding> findings_;
};

}  // namespace

absl::StatusOr<Diagnosis> Examine(const std::string& file, const std::string& text,
                                  const EnvoyNeeds& needs) {
  absl::StatusOr<std::vector<nlohmann::json>> documents = ParseDocuments(text);
  if (!documents.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("--doctor={}: {}; expected YAML or JSON", file, MessageOf(documents.status())));
  }
  std::vector<Place> places;
  for (size_t i = 0; i < documents->size(); ++i) {
    places.push_back(
        Place::Root((*documents)[i], documents->size() == 1 ? "" : fmt::format("document[{}]", i)));
  }
  std::vector<ProxySettings> filters;
  for (const Place& place : places) ReadEnvoyFilters(place, needs, &filters);
  ReadResources(places, &filters);
  if (filters.empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "--doctor={}: no ext_proc filter was found in it; expected an Envoy bootstrap, a config "
        "dump, or a resource of Envoy Gateway, Istio, kgateway, agentgateway, GKE or gcloud",
        file));
  }
  Diagnosis diagnosis;
  diagnosis.filters = filters.size();
  for (const ProxySettings& settings : filters) {
    std::vector<ConfigFinding> findings = Judge(settings, needs).Findings();
    std::move(findings.begin(), findings.end(), std::back_inserter(diagnosis.findings));
  }
  return diagnosis;
}

std::string Diagnosis::Text(const std::string& file) const {
  std::string text;
  // The file's own texts are shown, and a terminal obeys what it is shown.
  for (const ConfigFinding& finding : findings) {
    text += fmt::format("{}: {}\n  found  {}\n  write  {}\n  why    {}\n", EscapeControls(file),
                        EscapeControls(finding.path), EscapeControls(finding.found),
                        EscapeControls(finding.write), EscapeControls(finding.why));
  }
  const std::string judged = fmt::format("{} ext_proc filter{}", filters, filters == 1 ? "" : "s");
  if (findings.empty()) {
    return text +
           fmt::format("{}: nothing would fail in silence ({})\n", EscapeControls(file), judged);
  }
  return text + fmt::format("{}: {} finding{} ({})\n", EscapeControls(file), findings.size(),
                            findings.size() == 1 ? "" : "s", judged);
}

}  // namespace callout::host
