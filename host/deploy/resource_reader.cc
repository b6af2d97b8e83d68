// SPDX-License-Identifier: Apache-2.0

#include "host/deploy/resource_reader.h"

#include <algorithm>
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

BodyMode BodyModeOf(const Place& mode, BodyMode by_default) {
  std::string word = Word(mode);
  constexpr std::string_view kGcloudPrefix = "bodysendmode";
  if (word.starts_with(kGcloudPrefix)) word.erase(0, kGcloudPrefix.size());
  if (word == "none") return BodyMode::kNone;
  if (word == "streamed") return BodyMode::kStreamed;
  if (word == "buffered") return BodyMode::kBuffered;
  if (word == "bufferedpartial") return BodyMode::kBufferedPartial;
  if (word == "fullduplexstreamed") return BodyMode::kFullDuplex;
  return by_default;
}

bool SendOf(const Place& mode, bool by_default) {
  const std::string word = Word(mode);
  return word == "send" || (word != "skip" && by_default);
}

void ReadFlag(const Place& place, bool by_default, Known<bool>* known) {
  known->Set(place.Bool().value_or(by_default), place);
}

void ReadTimeout(const Place& place, Known<uint64_t>* known) {
  known->Set(place.DurationMs().value_or(kMessageTimeoutMs), place);
}

// --- Envoy Gateway ---

void ReadGatewayDirection(const Place& direction, ProxyDirection* read) {
  const Place body = direction.Get("body");
  // A direction that is there has its headers sent.
  read->headers.Set(direction.there(), direction);
  read->body.Set(BodyModeOf(body, BodyMode::kNone), body);
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
    ReadGatewayDirection(modes.Get("request"), &settings.request);
    ReadGatewayDirection(modes.Get("response"), &settings.response);
    ReadFlag(modes.Get("allow_mode_override"), false, &settings.overrides);
    ReadFlag(filter.Get("fail_open"), false, &settings.fail_open);
    ReadFlag(filter.Get("shadow_mode"), false, &settings.observability);
    ReadTimeout(filter.Get("message_timeout"), &settings.timeout_ms);
    const Place attributes = modes.Find("request.attributes");
    settings.attributes.Set(attributes.Texts(), attributes);
    if (buffer != nullptr) {
      settings.buffer_bytes.Set(buffer->Quantity().value_or(kGatewayBufferBytes), *buffer);
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
               ProxyDirection* read) {
  const Place headers = modes.Get(direction + "_header_mode");
  const Place body = modes.Get(direction + "_body_mode");
  const Place trailers = modes.Get(direction + "_trailer_mode");
  read->headers.Set(SendOf(headers, true), headers);
  read->body.Set(BodyModeOf(body, defaults.body), body);
  read->trailers.Set(SendOf(trailers, defaults.trailers), trailers);
}

void ReadKgateway(const Place& extension, std::vector<ProxySettings>* found) {
  const Place filter = extension.Find("spec.ext_proc");
  if (!filter.there()) return;
  ProxySettings settings;
  settings.kind = DeployTarget::kKgateway;
  settings.path = filter.path();
  const ModeDefaults defaults = {BodyMode::kNone, false};
  ReadModes(filter.Get("processing_mode"), "request", defaults, &settings.request);
  ReadModes(filter.Get("processing_mode"), "response", defaults, &settings.response);
  ReadFlag(filter.Get("fail_open"), true, &settings.fail_open);
  ReadFlag(filter.Get("allow_processing_mode_override"), false, &settings.overrides);
  ReadTimeout(filter.Get("message_timeout"), &settings.timeout_ms);
  const Place max_timeout = filter.Get("max_message_timeout");
  settings.max_timeout_ms.Set(max_timeout.DurationMs().value_or(0), max_timeout);
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
  ReadModes(modes, "request", defaults, &settings.request);
  ReadModes(modes, "response", defaults, &settings.response);
  ReadFlag(modes.Get("allow_mode_override"), false, &settings.overrides);
  const Place failure = filter.Get("failure_mode");
  settings.fail_open.Set(failure.Text() == "FailOpen", failure);
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

void ReadGoogleDirection(const Place& extension, const std::string& direction,
                         ProxyDirection* read) {
  const Place events = extension.Get("supported_events");
  const Place mode = extension.Get(direction + "_body_send_mode");
  read->headers.Set(HasEvent(events, direction + "headers"), events);
  read->trailers.Set(HasEvent(events, direction + "trailers"), events);
  if (HasEvent(events, direction + "body")) {
    read->body.Set(BodyModeOf(mode, BodyMode::kStreamed), mode);
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
      ReadGoogleDirection(extension, "request", &settings.request);
      ReadGoogleDirection(extension, "response", &settings.response);
      ReadFlag(extension.Get("fail_open"), false, &settings.fail_open);
      ReadFlag(extension.Get("observability_mode"), false, &settings.observability);
      const Place timeout = extension.Get("timeout");
      if (timeout.DurationMs().has_value()) settings.timeout_ms.Set(*timeout.DurationMs(), timeout);
      const Place attributes = extension.Get("forward_attributes");
      settings.attributes.Set(attributes.Texts(), attributes);
      found->push_back(settings);
    }
  }
}

}  // namespace

void ReadResources(const std::vector<Place>& documents, std::vector<ProxySettings>* found) {
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
