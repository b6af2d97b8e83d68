// SPDX-License-Identifier: Apache-2.0

#include "host/deploy/envoy_needs.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "host/base/wake.h"
#include "host/metrics/metrics.h"
#include "host/reload/plugin_manager.h"
#include "host/reload/plugin_set.h"
#include "host/wire/phase.h"

namespace callout::host {
namespace {

constexpr uint64_t kEnvoyMessageTimeoutMs = 200;  // its default
// Beside a body a message has its envelope, the attributes and the metadata.
constexpr uint64_t kEnvelopeBytes = 65536;

void Note(const std::string& instance, std::string* first) {
  if (first->empty()) *first = instance;
}

// `headers` is the phase that the direction begins with; its body and trailers follow by twos.
void AddDirection(const Instance& instance, callout_phase_t headers, DirectionNeeds* needs) {
  const callout_phase_t body = headers + 2;
  const callout_phase_t trailers =
      headers == CALLOUT_REQUEST_HEADERS ? CALLOUT_REQUEST_TRAILERS : CALLOUT_RESPONSE_TRAILERS;
  if (instance.Wants(body)) {
    Note(instance.name(), &needs->body_for);
    if (instance.whole_body_bytes_max() > 0) Note(instance.name(), &needs->whole_body_for);
  }
  if (instance.Wants(trailers)) Note(instance.name(), &needs->trailers_for);
  // The host judges a body, and trailers, by the headers before them.
  if (instance.Wants(headers) || instance.Wants(body) || instance.Wants(trailers)) {
    Note(instance.name(), &needs->headers_for);
  }
}

// What is decided on a stream's first message needs the request's headers.
bool NeedsFirstMessage(const Instance& instance) {
  return !instance.settings().match.empty() || instance.has_stream_open() ||
         instance.has_stream_close() || instance.wants(CALLOUT_WANT_REQUEST_HEADERS);
}

bool LetsFaultsPass(const Instance& instance) {
  const std::optional<ErrorPolicy>& policy = instance.settings().policy;
  return policy.has_value() && policy->action == ErrorPolicy::Action::kContinue;
}

size_t CountCalls(const Chain& chain, callout_phase_t phase) {
  return static_cast<size_t>(
      std::count_if(chain.instances.begin(), chain.instances.end(),
                    [phase](const auto& instance) { return instance->Wants(phase); }));
}

uint64_t AnswerMsMax(const Chain& chain, uint64_t hook_deadline_ms) {
  size_t calls_max = 0;
  for (callout_phase_t phase = CALLOUT_REQUEST_HEADERS; phase < kPhaseCount; ++phase) {
    calls_max = std::max(calls_max, CountCalls(chain, phase));
  }
  return calls_max * hook_deadline_ms;
}

bool IsEveryAddress(const Address& address) {
  const std::string text = address.ToString();
  return text.starts_with("0.0.0.0:") || text.starts_with("[::]:");
}

std::optional<CalloutEndpoint> EndpointOf(const std::optional<Address>& address,
                                          uint16_t default_port) {
  if (!address.has_value()) return std::nullopt;
  CalloutEndpoint endpoint;
  endpoint.unix_path = address->unix_path();
  if (!endpoint.unix_path.empty()) return endpoint;
  endpoint.port = address->port() == 0 ? default_port : address->port();
  if (IsEveryAddress(*address)) return endpoint;
  endpoint.ip = address->ToString();
  endpoint.ip.resize(endpoint.ip.rfind(':'));
  if (endpoint.ip.starts_with('[')) endpoint.ip = endpoint.ip.substr(1, endpoint.ip.size() - 2);
  return endpoint;
}

}  // namespace

EnvoyNeeds NeedsOf(const Config& config, const Chain& chain) {
  EnvoyNeeds needs;
  for (const auto& instance : chain.instances) {
    needs.plugins.push_back(instance->name());
    AddDirection(*instance, CALLOUT_REQUEST_HEADERS, &needs.request);
    AddDirection(*instance, CALLOUT_RESPONSE_HEADERS, &needs.response);
    if (NeedsFirstMessage(*instance)) Note(instance->name(), &needs.request.headers_for);
    if (!LetsFaultsPass(*instance)) Note(instance->name(), &needs.denying);
    needs.whole_body_bytes_max =
        std::max(needs.whole_body_bytes_max, instance->whole_body_bytes_max());
    for (const auto& [name, value] : instance->settings().match.attributes) {
      needs.attributes.push_back(name);
    }
  }
  std::sort(needs.attributes.begin(), needs.attributes.end());
  needs.attributes.erase(std::unique(needs.attributes.begin(), needs.attributes.end()),
                         needs.attributes.end());
  const StreamLimits& limits = config.stream_limits;
  needs.answer_ms_max = AnswerMsMax(chain, limits.hook_deadline_ms);
  needs.hook_deadline_ms = limits.hook_deadline_ms;
  needs.extra_ms = limits.defer_budget_ms;
  needs.drain_delay_ms = config.drain_delay_ms;
  needs.drain_timeout_ms = config.drain_timeout_ms;
  needs.message_bytes_max = config.limits.message_bytes_max;
  needs.header_bytes_max = limits.header_bytes_max;
  needs.header_count_max = limits.header_count_max;
  needs.live_streams_max = limits.live_max;
  needs.mode_override = limits.mode_override;
  needs.early_end = limits.early_end;
  needs.requires_client_certificate = !config.client_ca_path.empty();
  needs.plaintext = EndpointOf(config.plaintext_address, 8080);
  needs.secure = EndpointOf(config.secure_address, 8443);
  needs.health = EndpointOf(config.health_check_address, 8000);
  return needs;
}

absl::StatusOr<EnvoyNeeds> LoadNeeds(const Config& config) {
  Metrics metrics;
  Config strict = config;
  strict.reload.require_plugins = RequirePlugins::kAll;
  strict.reload.extensions.run_timers = false;
  strict.reload.state_dir.clear();  // a host may be using it
  PluginSet set(PluginSetOptions(strict.reload, strict.limits.message_bytes_max, &metrics), [] {});
  absl::StatusOr<std::unique_ptr<PluginManager>> plugins = PluginManager::Load(
      {strict.plugins, strict.reload}, &metrics, &set, std::make_shared<Wake>());
  if (!plugins.ok()) return plugins.status();
  return NeedsOf(config, *set.chains().current());
}

uint64_t MessageTimeoutMs(const EnvoyNeeds& needs) {
  // Half as much again for the way there and back and for a machine that is busy.
  const uint64_t wanted_ms = needs.answer_ms_max + std::max<uint64_t>(needs.answer_ms_max / 2, 100);
  const uint64_t rounded_ms = (wanted_ms + 49) / 50 * 50;
  return std::max(rounded_ms, kEnvoyMessageTimeoutMs);
}

uint64_t HealthIntervalMs(const EnvoyNeeds& needs) {
  constexpr uint64_t kUsualMs = 1000, kLeastMs = 100;
  if (needs.drain_delay_ms == 0) return kUsualMs;
  return std::clamp(needs.drain_delay_ms / 4 / 50 * 50, kLeastMs, kUsualMs);
}

uint64_t BufferBytes(const EnvoyNeeds& needs) {
  const uint64_t wanted = std::max(needs.whole_body_bytes_max, kEnvoyBufferBytesDefault);
  const uint64_t largest = needs.message_bytes_max > 2 * kEnvelopeBytes
                               ? needs.message_bytes_max - kEnvelopeBytes
                               : needs.message_bytes_max / 2;
  return std::min<uint64_t>(wanted, largest);
}

}  // namespace callout::host
