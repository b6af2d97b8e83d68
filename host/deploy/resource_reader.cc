// SPDX-License-Identifier: Apache-2.0

#include "host/deploy/resource_reader.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"

namespace callout::host {
namespace {

// "Send" and "SEND", "FullDuplexStreamed" and "FULL_DUPLEX_STREAMED" are one word here.
std::string Word(const Place& place) {
  return absl::AsciiStrToLower(absl::StrReplaceAll(place.Text(), {{"_", ""}}));
}

constexpr std::string_view kSendWords = "Send, Skip or Default";
constexpr std::string_view kBodyWords =
    "None, Streamed, Buffered, BufferedPartial or FullDuplexStreamed";

std::optional<BodyMode> BodyWordOf(const Place& mode) {
  std::string word = Word(mode);
  constexpr std::string_view kGcloudPrefix = "bodysendmode";
  if (word.starts_with(kGcloudPrefix)) word.erase(0, kGcloudPrefix.size());
  if (word == "none") return BodyMode::kNone;
  if (word == "streamed") return BodyMode::kStreamed;
  if (word == "buffered") return BodyMode::kBuffered;
  if (word == "bufferedpartial") return BodyMode::kBufferedPartial;
  if (word == "fullduplexstreamed") return BodyMode::kFullDuplex;
  return std::nullopt;
}

std::optional<bool> SendWordOf(const Place& mode, bool by_default) {
  const std::string word = Word(mode);
  if (word == "send") return true;
  if (word == "skip") return false;
  if (word == "default") return by_default;
  return std::nullopt;
}

using Findings = std::vector<ConfigFinding>;

void ReadBody(const Place& mode, BodyMode by_default, ProxyDirection* read, Findings* findings) {
  SetRead(mode, BodyWordOf(mode), by_default, kBodyWords, &read->body, findings);
}

void ReadFlag(const Place& place, bool by_default, Known<bool>* known, Findings* findings) {
  SetRead(place, place.Bool(), by_default, kBoolForm, known, findings);
}

void ReadTimeout(const Place& place, uint64_t by_default, Known<uint64_t>* known,
                 Findings* findings) {
  SetRead(place, place.DurationMs(), by_default, kDurationForm, known, findings);
}

// --- Envoy Gateway ---

void ReadGatewayDirection(const Place& direction, ProxyDirection* read, Findings* findings) {
  const Place body = direction.Get("body");
  // A direction that is there has its headers sent.
  read->headers.Set(direction.there(), direction);
  ReadBody(body, BodyMode::kNone, read, findings);
  read->trailers.Set(read->body.value == BodyMode::kFullDuplex, body);
}

// Of a ClientTrafficPolicy in the same file; not there if there is none.
const Place* BufferLimitIn(const std::vector<Place>& documents, std::vector<Place>* kept) {
  for (const Place& document : documents) {
    if (document.At("kind").Text() != "ClientTrafficPolicy") continue;
    kept->push_back(document.Find("spec.connection.buffer_limit"));
    return &kept->back();
  }
  return nullptr;
}

void ReadEnvoyGateway(const Place& policy, const std::vector<Place>& documents,
                      std::vector<ProxySettings>* found) {
  constexpr uint64_t kGatewayBufferBytes = 32768;
  std::vector<Place> kept;
  const Place* buffer = BufferLimitIn(documents, &kept);
  for (const Place& filter : policy.Find("spec.ext_proc").Children()) {
    ProxySettings settings;
    settings.kind = DeployTarget::kEnvoyGateway;
    settings.path = filter.path();
    const Place modes = filter.Get("processing_mode");
    Findings* const findings = &settings.findings;
    ReadGatewayDirection(modes.Get("request"), &settings.request, findings);
    ReadGatewayDirection(modes.Get("response"), &settings.response, findings);
    ReadFlag(modes.Get("allow_mode_override"), false, &settings.overrides, findings);
    ReadFlag(filter.Get("fail_open"), false, &settings.fail_open, findings);
    ReadFlag(filter.Get("shadow_mode"), false, &settings.observability, findings);
    ReadTimeout(filter.Get("message_timeout"), kMessageTimeoutMs, &settings.timeout_ms, findings);
    const Place attributes = modes.Find("request.attributes");
    settings.attributes.Set(attributes.Texts(), attributes);
    if (buffer != nullptr) {
      SetRead(*buffer, buffer->Quantity(), kGatewayBufferBytes, "a quantity, such as 1Mi",
              &settings.buffer_bytes, findings);
    }
    found->push_back(settings);
  }
}

// --- kgateway and agentgateway: Envoy's modes under other names ---

struct ModeDefaults {
  BodyMode body;
  bool trailers;
};

void ReadModes(const Place& modes, const std::string& direction, const ModeDefaults& defaults,
               ProxyDirection* read, Findings* findings) {
  const Place headers = modes.Get(direction + "_header_mode");
  const Place trailers = modes.Get(direction + "_trailer_mode");
  SetRead(headers, SendWordOf(headers, true), true, kSendWords, &read->headers, findings);
  ReadBody(modes.Get(direction + "_body_mode"), defaults.body, read, findings);
  SetRead(trailers, SendWordOf(trailers, defaults.trailers), defaults.trailers, kSendWords,
          &read->trailers, findings);
}

void ReadKgateway(const Place& extension, std::vector<ProxySettings>* found) {
  const Place filter = extension.Find("spec.ext_proc");
  if (!filter.there()) return;
  ProxySettings settings;
  settings.kind = DeployTarget::kKgateway;
  settings.path = filter.path();
  Findings* const findings = &settings.findings;
  const ModeDefaults defaults = {BodyMode::kNone, false};
  const Place modes = filter.Get("processing_mode");
  ReadModes(modes, "request", defaults, &settings.request, findings);
  ReadModes(modes, "response", defaults, &settings.response, findings);
  ReadFlag(filter.Get("fail_open"), true, &settings.fail_open, findings);
  ReadFlag(filter.Get("allow_processing_mode_override"), false, &settings.overrides, findings);
  ReadTimeout(filter.Get("message_timeout"), kMessageTimeoutMs, &settings.timeout_ms, findings);
  ReadTimeout(filter.Get("max_message_timeout"), 0, &settings.max_timeout_ms, findings);
  found->push_back(settings);
}

void ReadAgentgateway(const Place& policy, std::vector<ProxySettings>* found) {
  const Place filter = policy.Find("spec.traffic.ext_proc");
  if (!filter.there()) return;
  ProxySettings settings;
  settings.kind = DeployTarget::kAgentgateway;
  settings.path = filter.path();
  const Place modes = filter.Get("processing_options");
  const ModeDefaults defaults = {BodyMode::kFullDuplex, true};
  Findings* const findings = &settings.findings;
  ReadModes(modes, "request", defaults, &settings.request, findings);
  ReadModes(modes, "response", defaults, &settings.response, findings);
  ReadFlag(modes.Get("allow_mode_override"), false, &settings.overrides, findings);
  const Place failure = filter.Get("failure_mode");
  std::optional<bool> fail_open;
  if (Word(failure) == "failopen") fail_open = true;
  if (Word(failure) == "failclosed") fail_open = false;
  SetRead(failure, fail_open, false, "FailClosed or FailOpen", &settings.fail_open, findings);
  std::vector<std::string> names;
  const Place attributes = filter.Get("request_attributes");
  for (const Place& value : attributes.Children()) {
    names.push_back(value.path().substr(attributes.path().size() + 1));
  }
  settings.attributes.Set(names, attributes);
  found->push_back(settings);
}

// --- Google's load balancers ---

bool HasEvent(const Place& events, std::string_view name) {
  const std::vector<Place> all = events.Children();
  return std::any_of(all.begin(), all.end(),
                     [name](const Place& event) { return Word(event) == name; });
}

void ReadGoogleDirection(const Place& extension, const std::string& direction, ProxyDirection* read,
                         Findings* findings) {
  const Place events = extension.Get("supported_events");
  const Place mode = extension.Get(direction + "_body_send_mode");
  read->headers.Set(HasEvent(events, direction + "headers"), events);
  read->trailers.Set(HasEvent(events, direction + "trailers"), events);
  if (HasEvent(events, direction + "body")) {
    ReadBody(mode, BodyMode::kStreamed, read, findings);
  } else {
    read->body.Set(BodyMode::kNone, events);
  }
}

void ReadGoogle(const Place& chains, DeployTarget kind, std::vector<ProxySettings>* found) {
  for (const Place& chain : chains.Children()) {
    for (const Place& extension : chain.Get("extensions").Children()) {
      ProxySettings settings;
      settings.kind = kind;
      settings.path = extension.path();
      Findings* const findings = &settings.findings;
      ReadGoogleDirection(extension, "request", &settings.request, findings);
      ReadGoogleDirection(extension, "response", &settings.response, findings);
      ReadFlag(extension.Get("fail_open"), false, &settings.fail_open, findings);
      ReadFlag(extension.Get("observability_mode"), false, &settings.observability, findings);
      const Place timeout = extension.Get("timeout");
      if (timeout.there()) ReadTimeout(timeout, 0, &settings.timeout_ms, findings);
      const Place attributes = extension.Get("forward_attributes");
      settings.attributes.Set(attributes.Texts(), attributes);
      found->push_back(settings);
    }
  }
}

// kubectl prints several resources as one document of the kind List.
std::vector<Place> WithoutLists(const std::vector<Place>& documents) {
  std::vector<Place> resources;
  for (const Place& document : documents) {
    const Place items = document.At("items");
    if (!document.At("kind").Text().ends_with("List") || !items.IsArray()) {
      resources.push_back(document);
      continue;
    }
    for (const Place& item : items.Children()) resources.push_back(item);
  }
  return resources;
}

}  // namespace

void ReadResources(const std::vector<Place>& given, std::vector<ProxySettings>* found) {
  const std::vector<Place> documents = WithoutLists(given);
  for (const Place& document : documents) {
    const std::string kind = document.At("kind").Text();
    if (kind == "EnvoyExtensionPolicy") ReadEnvoyGateway(document, documents, found);
    if (kind == "GatewayExtension") ReadKgateway(document, found);
    if (kind == "AgentgatewayPolicy") ReadAgentgateway(document, found);
    if (kind == "GCPTrafficExtension" || kind == "GCPRoutingExtension") {
      ReadGoogle(document.Find("spec.extension_chains"), DeployTarget::kGke, found);
    }
    if (kind.empty()) {
      ReadGoogle(document.Get("extension_chains"), DeployTarget::kGcloud, found);
    }
  }
}

}  // namespace callout::host
