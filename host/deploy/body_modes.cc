// SPDX-License-Identifier: Apache-2.0

#include "host/deploy/body_modes.h"

namespace callout::host {
namespace {

// Envoy itself: one message for a whole body, with the headers still held.
BodyMode EnvoyBody(BodyNeed need) {
  switch (need) {
    case BodyNeed::kNone:
      return BodyMode::kNone;
    case BodyNeed::kChunks:
      return BodyMode::kStreamed;
    case BodyNeed::kWhole:
      return BodyMode::kBuffered;
  }
  return BodyMode::kNone;
}

// Google's load balancers do not buffer. In STREAMED a body that trailers follow has no end that
// the host can see, and a new body cannot be larger than its chunks, so whole bodies need the other
// mode.
BodyMode GoogleBody(BodyNeed need) {
  return need == BodyNeed::kWhole ? BodyMode::kFullDuplex : EnvoyBody(need);
}

BodyMode BodyFor(DeployTarget target, const DirectionNeeds& needs) {
  switch (target) {
    case DeployTarget::kEnvoy:
    case DeployTarget::kIstio:
    case DeployTarget::kKgateway:
      return EnvoyBody(needs.body());
    case DeployTarget::kEnvoyGateway:
      // It sends trailers in this mode only.
      return needs.trailers() ? BodyMode::kFullDuplex : EnvoyBody(needs.body());
    case DeployTarget::kAgentgateway:
      // It buffers 8 KB at most, and knows no STREAMED.
      return needs.body() == BodyNeed::kNone ? BodyMode::kNone : BodyMode::kFullDuplex;
    case DeployTarget::kGke:
    case DeployTarget::kGcloud:
      return GoogleBody(needs.body());
  }
  return BodyMode::kNone;
}

}  // namespace

DirectionModes ModesFor(DeployTarget target, const DirectionNeeds& needs) {
  DirectionModes modes;
  modes.headers = needs.headers();
  modes.body = BodyFor(target, needs);
  // A proxy refuses FULL_DUPLEX_STREAMED without them.
  modes.trailers = needs.trailers() || modes.body == BodyMode::kFullDuplex;
  return modes;
}

std::string_view BodyModeName(BodyMode mode) {
  constexpr std::string_view kNames[] = {"NONE", "STREAMED", "BUFFERED", "BUFFERED_PARTIAL",
                                         "FULL_DUPLEX_STREAMED"};
  return kNames[static_cast<size_t>(mode)];
}

std::string_view BodyModeCamelName(BodyMode mode) {
  constexpr std::string_view kNames[] = {"None", "Streamed", "Buffered", "BufferedPartial",
                                         "FullDuplexStreamed"};
  return kNames[static_cast<size_t>(mode)];
}

}  // namespace callout::host
