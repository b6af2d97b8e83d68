// SPDX-License-Identifier: Apache-2.0

#include "host/diff/difference.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "host/base/ascii.h"
#include "host/base/log.h"
#include "host/base/redaction.h"
#include "host/plugin/call_log.h"
#include "host/plugin/request_ids.h"
#include "host/plugin/shown_redaction.h"
#include "host/wire/field_numbers.h"
#include "host/wire/response.h"
#include "host/wire/wire.h"

namespace callout::host {
namespace {

using Json = nlohmann::ordered_json;
// Values of each name, in their order.
using Headers = std::map<std::string, std::vector<std::string>>;

constexpr std::array<const char*, 2> kSides = {"request", "response"};
constexpr size_t kWhatBytesMax = 128;

std::string Shown(std::string_view text) {
  std::string shown = EscapeControls(text.substr(0, kDifferenceTextBytesMax));
  if (shown.size() > kDifferenceTextBytesMax) shown.resize(kDifferenceTextBytesMax);
  return shown;
}

// Of HttpHeaders, or of HttpTrailers, which has its list in the same field.
Headers ReadHeaders(std::string_view message) {
  Headers headers;
  ResponseView view;
  if (message.empty() || !ReadHttpHeaders(message, &view)) return headers;
  for (const HeaderSet& header : view.headers.set) {
    headers[ToLowerAscii(header.key)].emplace_back(header.value);
  }
  headers.erase("content-length");
  return headers;
}

// Of a header; a plugin may have copied the value of a hidden one there.
std::string ShownValue(const std::string& name, const std::string& value,
                       const MessageRedactor& secrets) {
  if (!secrets.complete()) return std::string(kRedacted);
  return secrets.RewriteText(ShownHeaderValue(name, value));
}

// "absent", or the values that may be shown.
std::string ShownValues(const Headers& headers, const std::string& name,
                        const MessageRedactor& secrets) {
  const auto found = headers.find(name);
  if (found == headers.end()) return "absent";
  std::string shown;
  for (const std::string& value : found->second) {
    if (!shown.empty()) shown += ", ";
    shown += ShownValue(name, value, secrets);
    if (shown.size() > kDifferenceTextBytesMax) break;
  }
  return Shown(shown);
}

void CompareHeaders(DifferenceKind kind, std::string_view side, std::string_view before,
                    std::string_view after, const MessageRedactor& secrets,
                    std::vector<Difference>* found) {
  if (before == after) return;
  const Headers old_list = ReadHeaders(before);
  const Headers new_list = ReadHeaders(after);
  Headers both = old_list;
  both.insert(new_list.begin(), new_list.end());
  for (const auto& [name, values] : both) {
    const auto old_values = old_list.find(name);
    const auto new_values = new_list.find(name);
    const bool same = old_values != old_list.end() && new_values != new_list.end() &&
                      old_values->second == new_values->second;
    if (same) continue;
    const bool status = kind == DifferenceKind::kHeader && name == ":status";
    found->push_back({status ? DifferenceKind::kStatus : kind,
                      fmt::format("{} {}", side, Shown(name.substr(0, kWhatBytesMax))),
                      ShownValues(old_list, name, secrets), ShownValues(new_list, name, secrets)});
  }
}

void CompareBodies(std::string_view side, const BodySum& before, const BodySum& after,
                   std::vector<Difference>* found) {
  if (before == after) return;
  const bool same_size = before.bytes == after.bytes;
  found->push_back({DifferenceKind::kBody, std::string(side), fmt::format("{} bytes", before.bytes),
                    fmt::format("{} {}bytes", after.bytes, same_size ? "other " : "")});
}

// By namespace: the value's bytes.
std::map<std::string, std::string> Namespaces(std::string_view metadata) {
  std::map<std::string, std::string> namespaces;
  WireReader fields(metadata);
  while (fields.Next()) {
    if (!fields.Is(field::Struct::kFields)) continue;
    std::string name, value;
    WireReader entry(fields.bytes());
    while (entry.Next()) {
      if (entry.Is(field::FieldsEntry::kKey)) name = entry.bytes();
      if (entry.Is(field::FieldsEntry::kValue)) value = entry.bytes();
    }
    namespaces[name] = std::move(value);
  }
  return namespaces;
}

void CompareMetadata(std::string_view before, std::string_view after,
                     std::vector<Difference>* found) {
  if (before == after) return;
  const auto old_ones = Namespaces(before);
  const auto new_ones = Namespaces(after);
  auto both = old_ones;
  both.insert(new_ones.begin(), new_ones.end());
  for (const auto& [name, value] : both) {
    const auto old_one = old_ones.find(name);
    const auto new_one = new_ones.find(name);
    const bool had = old_one != old_ones.end();
    const bool has = new_one != new_ones.end();
    if (had && has && old_one->second == new_one->second) continue;
    found->push_back({DifferenceKind::kMetadata, Shown(name.substr(0, kWhatBytesMax)),
                      had ? "set" : "absent",
                      has ? (had ? "set to another value" : "set") : "absent"});
  }
}

std::string StatusText(const ExchangeOutcome& outcome) {
  return outcome.immediate ? fmt::format("{}", outcome.status) : "the upstream's";
}

std::string EntryKey(const Difference& difference) {
  return fmt::format("{} {}", DifferenceKindName(difference.kind), difference.what);
}

double MicrosecondsPerCall(const DifferenceSummary::Times& times) {
  constexpr double kNsPerUs = 1000;
  return static_cast<double>(times.ns) / static_cast<double>(times.calls) / kNsPerUs;
}

Json TimeJson(const DifferenceSummary::Times& times) {
  return times.calls == 0 ? Json() : Json(MicrosecondsPerCall(times));
}

std::string TimeText(const DifferenceSummary::Times& times) {
  return times.calls == 0 ? "not measured" : fmt::format("{:.1f} us", MicrosecondsPerCall(times));
}

DifferenceSummary::Entry NewEntry(const Difference& difference, const DifferenceExample& example) {
  return {0, difference.before, difference.after,
          EscapeControls(example.request_id.substr(0, kRequestIdBytesMax)), Shown(example.text)};
}

std::vector<Difference> Find(const ExchangeOutcome& before, const ExchangeOutcome& after,
                             const MessageRedactor& secrets) {
  std::vector<Difference> found;
  if (before.error != after.error) {
    found.push_back({DifferenceKind::kError, "rpc",
                     before.error.empty() ? "none" : Shown(before.error),
                     after.error.empty() ? "none" : Shown(after.error)});
  }
  if (!before.error.empty() || !after.error.empty()) return found;
  CompareMetadata(before.dynamic_metadata, after.dynamic_metadata, &found);
  if (before.immediate != after.immediate || before.status != after.status) {
    found.push_back({DifferenceKind::kStatus, "response", StatusText(before), StatusText(after)});
    return found;
  }
  if (before.mode_override != after.mode_override) {
    const auto shown = [](const std::string& mode) { return mode.empty() ? "none" : "asked for"; };
    found.push_back({DifferenceKind::kMode, "mode_override", shown(before.mode_override),
                     shown(after.mode_override)});
  }
  for (size_t side = 0; side < 2; ++side) {
    // Nobody sees the request of an exchange that is answered here.
    if (side == 0 && before.immediate) continue;
    const ExchangeOutcome::Side& old_side = before.sides[side];
    const ExchangeOutcome::Side& new_side = after.sides[side];
    CompareHeaders(DifferenceKind::kHeader, kSides[side], old_side.headers, new_side.headers,
                   secrets, &found);
    CompareBodies(kSides[side], old_side.body, new_side.body, &found);
    CompareHeaders(DifferenceKind::kTrailers, kSides[side], old_side.trailers, new_side.trailers,
                   secrets, &found);
  }
  return found;
}

}  // namespace

std::string_view DifferenceKindName(DifferenceKind kind) {
  constexpr std::array<std::string_view, kDifferenceKinds> kNames = {
      "header", "body", "status", "metadata", "mode", "trailers", "error"};
  return kNames[static_cast<size_t>(kind)];
}

std::vector<Difference> Compare(const ExchangeOutcome& before, const ExchangeOutcome& after,
                                const LearnMessages& learn) {
  MessageRedactor secrets(ShownRedaction());
  std::vector<Difference> found = Find(before, after, secrets);
  if (found.empty()) return found;
  for (const ExchangeOutcome* outcome : {&before, &after}) {
    for (const ExchangeOutcome::Side& side : outcome->sides) {
      secrets.LearnHeaders(side.headers);
      secrets.LearnHeaders(side.trailers);
    }
  }
  if (learn != nullptr) learn(&secrets);
  return Find(before, after, secrets);
}

std::string DescribeRequest(std::string_view headers) {
  constexpr size_t kPathBytesMax = 60;
  const std::string_view method = FindHeader(headers, ":method");
  const std::string path = ShownHeaderValue(":path", FindHeader(headers, ":path"));
  if (method.empty() && path.empty()) return "";
  return Shown(fmt::format("{} {}", method, path.substr(0, kPathBytesMax)));
}

void AddExchange(const std::vector<Difference>& differences, const DifferenceExample& example,
                 DifferenceSummary* summary) {
  ++summary->exchanges;
  if (differences.empty()) return;
  ++summary->differing;
  std::array<bool, kDifferenceKinds> seen{};
  for (const Difference& difference : differences) {
    const auto kind = static_cast<size_t>(difference.kind);
    if (!std::exchange(seen[kind], true)) ++summary->by_kind[kind];
    const std::string key = EntryKey(difference);
    auto entry = summary->entries.find(key);
    if (entry == summary->entries.end()) {
      if (summary->entries.size() >= kDifferenceEntriesMax) {
        ++summary->unlisted;
        continue;
      }
      entry = summary->entries.emplace(key, NewEntry(difference, example)).first;
    }
    ++entry->second.exchanges;
  }
}

void DifferenceSummary::Add(const DifferenceSummary& other) {
  exchanges += other.exchanges;
  differing += other.differing;
  for (size_t kind = 0; kind < kDifferenceKinds; ++kind) by_kind[kind] += other.by_kind[kind];
  for (const auto& [key, entry] : other.entries) {
    const auto known = entries.find(key);
    if (known != entries.end()) {
      known->second.exchanges += entry.exchanges;
    } else if (entries.size() < kDifferenceEntriesMax) {
      entries.emplace(key, entry);
    } else {
      unlisted += entry.exchanges;
    }
  }
  unlisted += other.unlisted;
  before.calls += other.before.calls;
  before.ns += other.before.ns;
  after.calls += other.after.calls;
  after.ns += other.after.ns;
}

std::vector<std::pair<std::string, DifferenceSummary::Entry>> Commonest(
    const DifferenceSummary& summary, size_t max) {
  std::vector<std::pair<std::string, DifferenceSummary::Entry>> all(summary.entries.begin(),
                                                                    summary.entries.end());
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return a.second.exchanges > b.second.exchanges;
  });
  if (all.size() > max) all.resize(max);
  return all;
}

Json ReportJson(const DifferenceSummary& summary) {
  Json json = {{"exchanges", summary.exchanges}, {"differing", summary.differing}};
  json["by_kind"] = Json::object();
  for (size_t kind = 0; kind < kDifferenceKinds; ++kind) {
    json["by_kind"][std::string(DifferenceKindName(static_cast<DifferenceKind>(kind)))] =
        summary.by_kind[kind];
  }
  json["commonest"] = Json::array();
  for (const auto& [key, entry] : Commonest(summary)) {
    const size_t space = std::min(key.find(' '), key.size() - 1);
    json["commonest"].push_back({{"kind", key.substr(0, space)},
                                 {"what", key.substr(space + 1)},
                                 {"exchanges", entry.exchanges},
                                 {"before", entry.before},
                                 {"after", entry.after},
                                 {"example", entry.example},
                                 {"request_id", entry.request_id}});
  }
  json["unlisted"] = summary.unlisted;
  json["time_per_call_us"] = {{"before", TimeJson(summary.before)},
                              {"after", TimeJson(summary.after)}};
  return json;
}

std::string ExampleText(const DifferenceSummary::Entry& entry) {
  if (entry.request_id.empty()) return entry.example;
  return fmt::format("{}{}x-request-id {}", entry.example, entry.example.empty() ? "" : ", ",
                     entry.request_id);
}

std::string ReportText(const DifferenceSummary& summary) {
  std::string text =
      fmt::format("{} of {} exchanges differ\n", summary.differing, summary.exchanges);
  for (size_t kind = 0; kind < kDifferenceKinds; ++kind) {
    if (summary.by_kind[kind] == 0) continue;
    text += fmt::format("  {}: {}\n", DifferenceKindName(static_cast<DifferenceKind>(kind)),
                        summary.by_kind[kind]);
  }
  for (const auto& [key, entry] : Commonest(summary)) {
    const std::string example = ExampleText(entry);
    text += fmt::format("{} x {}: {} -> {}{}\n", entry.exchanges, key, entry.before, entry.after,
                        example.empty() ? "" : fmt::format(" ({})", example));
  }
  if (summary.unlisted > 0) {
    text += fmt::format("{} more differences are not listed\n", summary.unlisted);
  }
  return text + fmt::format("time per call: before {}, after {}\n", TimeText(summary.before),
                            TimeText(summary.after));
}

}  // namespace callout::host
