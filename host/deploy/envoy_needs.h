// SPDX-License-Identifier: Apache-2.0

// What a chain of plugins, under the host's options, needs of the proxy that calls it:
// which phases, in which form, how much time, and which limits. --print_config writes
// it down for one kind of proxy; --doctor compares a file with it.
//
//   absl::StatusOr<EnvoyNeeds> needs = LoadNeeds(config);   // loads the plugins
//
// Plain values. LoadNeeds runs plugins' create and destroy on the calling thread.
//
// Tested by tests/host/deploy/envoy_needs_test.cc.
#ifndef CALLOUT_HOST_DEPLOY_ENVOY_NEEDS_H_
#define CALLOUT_HOST_DEPLOY_ENVOY_NEEDS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "host/config/config.h"
#include "host/plugin/chain.h"

namespace callout::host {

enum class BodyNeed : uint8_t { kNone, kChunks, kWhole };

// A proxy's body modes (processing_mode.proto).
enum class BodyMode : uint8_t { kNone, kStreamed, kBuffered, kBufferedPartial, kFullDuplex };

// One direction. A name is that of the first instance that wants the phase; "": none does.
struct DirectionNeeds {
  std::string headers_for;
  std::string body_for;
  std::string whole_body_for;
  std::string trailers_for;

  bool any() const { return headers() || body() != BodyNeed::kNone || trailers(); }
  bool headers() const { return !headers_for.empty(); }
  bool trailers() const { return !trailers_for.empty(); }
  BodyNeed body() const {
    if (!whole_body_for.empty()) return BodyNeed::kWhole;
    return body_for.empty() ? BodyNeed::kNone : BodyNeed::kChunks;
  }
};

// Where the host listens.
struct CalloutEndpoint {
  std::string unix_path;  // "": ip and port
  std::string ip;         // "": every address of the machine
  uint16_t port = 0;
};

struct EnvoyNeeds {
  DirectionNeeds request, response;
  // The largest body that an instance takes whole; 0: none does.
  uint64_t whole_body_bytes_max = 0;
  std::vector<std::string> attributes;  // that `match` of the settings looks at
  std::vector<std::string> plugins;     // in chain order
  // The first instance whose faults stop the exchange; "": all of them let it pass.
  std::string denying;

  // The longest that the host may take for one message: the deadlines of all instances that
  // are called with it, one after the other.
  uint64_t answer_ms_max = 0;
  uint64_t hook_deadline_ms = 0;
  uint64_t extra_ms = 0;  // --defer_budget_ms
  uint64_t drain_delay_ms = 0;
  uint64_t drain_timeout_ms = 0;
  size_t message_bytes_max = 0;
  size_t header_bytes_max = 0;
  size_t header_count_max = 0;
  size_t live_streams_max = 0;
  EnvoyModeOverride mode_override = EnvoyModeOverride::kUnknown;
  bool early_end = true;
  bool requires_client_certificate = false;
  std::optional<CalloutEndpoint> plaintext, secure, health;
};

// `chain` is what new streams get under `config`.
EnvoyNeeds NeedsOf(const Config& config, const Chain& chain);

// Loads the plugins that `config` names, each of which has to load, and asks them. The error is
// that of the plugin that does not.
absl::StatusOr<EnvoyNeeds> LoadNeeds(const Config& config);

// --- What follows from the needs, the same for every kind of proxy. ---

// A timeout that the host always meets: above answer_ms_max, and at least Envoy's default.
uint64_t MessageTimeoutMs(const EnvoyNeeds& needs);

// How often a proxy has to check health, so that it has seen a drain before --drain_delay_ms is
// over: two checks that fail, and the timeout of the second.
uint64_t HealthIntervalMs(const EnvoyNeeds& needs);

inline constexpr uint64_t kEnvoyBufferBytesDefault = 1 << 20;
// What Envoy has to buffer, so that an instance gets its whole body; its own default if that
// does. Below message_bytes_max, for the message has to reach the host.
uint64_t BufferBytes(const EnvoyNeeds& needs);

}  // namespace callout::host

#endif  // CALLOUT_HOST_DEPLOY_ENVOY_NEEDS_H_
