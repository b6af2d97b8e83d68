// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/hook_status.h"

#include <fmt/format.h>

#include "host/base/log.h"
#include "host/plugin/call_log.h"
#include "host/plugin/instance.h"
#include "host/wire/phase.h"

namespace callout::host {

bool IsDecision(callout_status_t status) {
  return status == CALLOUT_PERMISSION_DENIED || status == CALLOUT_UNAUTHENTICATED;
}

absl::StatusCode ToStatusCode(callout_status_t status) {
  const int code = -status;
  return code >= 1 && code <= 16 ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown;
}

std::string ErrorText(const CallState& state, callout_phase_t phase, callout_status_t status) {
  if (!state.error.empty()) return state.error;
  if (IsDecision(status)) return fmt::format("denied by plugin {}", state.instance->name());
  return fmt::format("plugin {} returned {} from {}", state.instance->name(), StatusName(status),
                     PhaseName(phase));
}

void WarnOfFinish(const CallState& state, callout_status_t status) {
  if (!state.handshake().finished()) return;
  LogLimited(LogLevel::kWarning, fmt::format("{}/finish", state.instance->name()),
             "plugin {}: {} called finish() and then returned {} instead of CALLOUT_DEFERRED; "
             "finish() is ignored",
             state.instance->name(), PhaseName(state.slot->call.phase), StatusName(status));
}

}  // namespace callout::host
