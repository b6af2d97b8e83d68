// SPDX-License-Identifier: Apache-2.0

#include "recorded.h"

#include <callout/plugin.h>
#include <fmt/format.h>

#include <optional>
#include <utility>

#include "../socket.h"
#include "absl/status/status.h"
#include "host/record/recording_reader.h"
#include "host/replay/player.h"

namespace callout::bench {
namespace {

using host::MessageKind;
using host::RecordedExchange;
using host::RecordingReader;

// Nothing: it cannot be sent again as it was.
std::optional<Scenario> ScenarioOf(const RecordedExchange& exchange) {
  const bool ended_well = exchange.end_code == static_cast<uint32_t>(absl::StatusCode::kOk) ||
                          exchange.end_code == static_cast<uint32_t>(absl::StatusCode::kCancelled);
  if (!ended_well || exchange.outcome == CALLOUT_END_DRAINED || exchange.messages_left_out > 0) {
    return std::nullopt;
  }
  Scenario scenario;
  scenario.may_end_early = true;
  const host::Requests requests(exchange);
  for (const host::RecordedMessage& message : exchange.messages) {
    if (message.kind == MessageKind::kRequest) {
      scenario.awaited.push_back(scenario.answers);
      scenario.requests.emplace_back(requests[scenario.requests.size()]);
    } else if (!host::IsTimeRequest(message.bytes)) {
      ++scenario.answers;
    }
  }
  if (scenario.requests.empty() || scenario.answers == 0) return std::nullopt;
  return scenario;
}

}  // namespace

std::vector<Scenario> ReadScenarios(const std::vector<std::string>& files) {
  std::vector<Scenario> scenarios;
  size_t bytes = 0, left_out = 0;
  for (const std::string& file : files) {
    auto reader = RecordingReader::Open(file);
    if (!reader.ok()) Fail(std::string(reader.status().message()));
    while ((*reader)->Next()) {
      std::optional<Scenario> scenario = ScenarioOf((*reader)->exchange());
      if (!scenario.has_value()) {
        ++left_out;
        continue;
      }
      for (const std::string& request : scenario->requests) bytes += request.size();
      if (bytes > kRecordedBytesMax) {
        Fail(fmt::format("{}: the messages have more than {} bytes; record fewer exchanges", file,
                         kRecordedBytesMax));
      }
      scenarios.push_back(*std::move(scenario));
    }
    if (!(*reader)->status().ok()) Fail(std::string((*reader)->status().message()));
  }
  if (scenarios.empty()) {
    Fail(fmt::format("no exchange can be sent again: {} have failed, or are not complete",
                     left_out));
  }
  return scenarios;
}

}  // namespace callout::bench
