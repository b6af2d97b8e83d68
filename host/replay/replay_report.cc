// SPDX-License-Identifier: Apache-2.0

#include "host/replay/replay_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "host/base/log.h"

namespace callout::host {
namespace {

using Json = nlohmann::ordered_json;

double Rate(uint64_t exchanges, double seconds) {
  return seconds > 0 ? static_cast<double>(exchanges) / seconds : 0;
}

double Microseconds(const CallTime& time) {
  return time.calls == 0 ? 0 : time.seconds * 1e6 / static_cast<double>(time.calls);
}

DifferenceSummary::Times Sum(const std::vector<CallTime>& calls) {
  DifferenceSummary::Times times;
  for (const CallTime& time : calls) {
    times.calls += time.calls;
    times.ns += static_cast<uint64_t>(time.seconds * 1e9);
  }
  return times;
}

DifferenceSummary SummaryOf(const ReplayReport& report) {
  DifferenceSummary summary = report.result.summary;
  summary.before = Sum(report.against);
  summary.after = Sum(report.calls);
  return summary;
}

std::string CallLines(std::string_view which, const std::vector<CallTime>& calls) {
  std::string text;
  for (const CallTime& time : calls) {
    text += fmt::format("{}{} {}: {} calls, {:.1f} us each\n", which, time.plugin, time.phase,
                        time.calls, Microseconds(time));
  }
  return text;
}

Json CallsJson(const std::vector<CallTime>& calls) {
  Json list = Json::array();
  for (const CallTime& time : calls) {
    list.push_back({{"plugin", time.plugin},
                    {"phase", time.phase},
                    {"calls", time.calls},
                    {"us_per_call", Microseconds(time)}});
  }
  return list;
}

}  // namespace

std::vector<CallTime> CallTimes(const Metrics& metrics) {
  std::vector<CallTime> times;
  for (const auto& family : metrics.Collect()) {
    if (family.name != "callout_call_seconds") continue;
    for (const auto& metric : family.metric) {
      if (metric.histogram.sample_count == 0) continue;
      CallTime& time = times.emplace_back();
      for (const auto& label : metric.label) {
        if (label.name == "plugin") time.plugin = label.value;
        if (label.name == "phase") time.phase = label.value;
      }
      time.calls = metric.histogram.sample_count;
      time.seconds = metric.histogram.sample_sum;
    }
  }
  return times;
}

std::string ReplayText(const ReplayReport& report) {
  const ReplayResult& result = report.result;
  std::string text = fmt::format(
      "{} exchanges with {} messages in {:.3f} s on {} thread{}: {:.0f} a second, {:.0f} a second "
      "of CPU\n",
      result.exchanges, result.messages, report.seconds, report.threads,
      report.threads == 1 ? "" : "s", Rate(result.exchanges, report.seconds),
      Rate(result.exchanges, report.cpu_seconds));
  text += ReportText(SummaryOf(report));
  const auto note = [&text](uint64_t count, std::string_view what) {
    if (count > 0) text += fmt::format("{} {}\n", count, what);
  };
  note(result.allowed, "exchanges differ only as --expect allows");
  note(result.without_bytes,
       "exchanges were recorded without the bytes of their bodies: differences of bodies are "
       "unknown");
  note(result.unknown,
       "exchanges were not compared: a body without bytes decides what they come to");
  note(result.incomplete, "exchanges were not compared: the recording does not have all of them");
  note(result.abandoned, "calls were not finished by their plugin, and are abandoned");
  return text + CallLines(report.has_against ? "before: " : "", report.against) +
         CallLines(report.has_against ? "after: " : "", report.calls);
}

std::string ReplayJson(const ReplayReport& report) {
  const ReplayResult& result = report.result;
  Json json = {{"files", report.files},
               {"exchanges", result.exchanges},
               {"messages", result.messages},
               {"seconds", report.seconds},
               {"threads", report.threads},
               {"exchanges_per_second", Rate(result.exchanges, report.seconds)},
               {"exchanges_per_cpu_second", Rate(result.exchanges, report.cpu_seconds)},
               {"compared", ReportJson(SummaryOf(report))},
               {"allowed", result.allowed},
               {"bodies_unknown", result.without_bytes},
               {"unknown", result.unknown},
               {"incomplete", result.incomplete},
               {"abandoned_calls", result.abandoned},
               {"calls", CallsJson(report.calls)}};
  if (report.has_against) json["calls_before"] = CallsJson(report.against);
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace callout::host
