// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/call_log.h"

#include <fmt/format.h>

#include <utility>

#include "host/base/ascii.h"
#include "host/base/log.h"
#include "host/plugin/instance.h"
#include "host/plugin/services.h"
#include "host/plugin/shown_redaction.h"
#include "host/wire/phase.h"
#include "host/wire/response.h"

namespace callout::host {

namespace {

constexpr size_t kHeadersBytesMax = 2048;

Redaction& Redacted() {
  static auto* const redaction = new Redaction();
  return *redaction;
}

std::string_view AnswerName(callout_phase_t phase, callout_field_t field) {
  if (field != 0 && IsOtherService(phase)) return "a response";
  switch (field) {
    case 0:
      return "nothing";
    case CALLOUT_IMMEDIATE_RESPONSE:
      return "immediate_response";
    case CALLOUT_STREAMED_IMMEDIATE_RESPONSE:
      return "streamed_immediate_response";
    default:
      return PhaseName(field + 1);
  }
}

std::string HeaderText(std::string_view message) {
  ResponseView view;
  // HttpTrailers has its header list in the same field.
  if (!ReadHttpHeaders(message, &view)) return "malformed headers";
  std::string text;
  for (const HeaderSet& header : view.headers.set) {
    const std::string name = ToLowerAscii(header.key);
    fmt::format_to(std::back_inserter(text), "{}{}: {}", text.empty() ? "" : ", ", name,
                   ShownHeaderValue(name, header.value));
    if (text.size() > kHeadersBytesMax) {
      text.resize(kHeadersBytesMax);
      return text + "…";
    }
  }
  return text;
}

}  // namespace

const std::vector<std::string>& RedactedHeadersDefault() { return Redaction::DefaultPatterns(); }

std::string ShownHeaderValue(std::string_view name, std::string_view value) {
  return Redacted().Shown(name, value);
}

const Redaction& ShownRedaction() { return Redacted(); }

void SetRedactedHeaders(std::vector<std::string> names) {
  Redacted() = Redaction(std::move(names));
}

std::string StatusName(callout_status_t status) {
  switch (status) {
    case CALLOUT_OK:
      return "OK";
    case CALLOUT_DEFERRED:
      return "DEFERRED";
    case CALLOUT_NEXT:
      return "NEXT";
    case CALLOUT_NO_RESPONSE:
      return "NO_RESPONSE";
    default:
      if (status < 0 && status >= CALLOUT_UNAUTHENTICATED) {
        return absl::StatusCodeToString(static_cast<absl::StatusCode>(-status));
      }
      return fmt::format("{}", status);
  }
}

void LogCall(const CallState& state, std::string_view plugin_name, callout_status_t status,
             uint64_t nanoseconds) {
  const callout_call_t& call = state.slot->call;
  std::string text = fmt::format("stream {} plugin {} {} {} us -> {}", state.stream_id, plugin_name,
                                 PhaseName(call.phase), nanoseconds / 1000, StatusName(status));
  if (status != CALLOUT_DEFERRED) {
    // The call is over for the plugin, but its bytes are still valid.
    text += fmt::format(", answered {}", AnswerName(call.phase, state.response.field));
    // The messages of other services hold more than headers, and headers in another form.
    if (IsBodyPhase(call.phase) || IsOtherService(call.phase)) {
      text += fmt::format("; {} bytes", call.message.size);
    } else {
      text += "; " + HeaderText(ToView(call.message));
    }
  }
  LogText(LogLevel::kDebug, text);
}

}  // namespace callout::host
