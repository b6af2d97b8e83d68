// SPDX-License-Identifier: Apache-2.0

#include "local_rate_limit/limits.h"

#include <array>

namespace callout::plugins {
namespace {

constexpr int64_t kCountMax = 1000000000;

struct Unit {
  const char* name;
  callout_limit_unit_t unit;
};
constexpr std::array<Unit, 7> kUnits = {{{"second", CALLOUT_PER_SECOND},
                                         {"minute", CALLOUT_PER_MINUTE},
                                         {"hour", CALLOUT_PER_HOUR},
                                         {"day", CALLOUT_PER_DAY},
                                         {"week", CALLOUT_PER_WEEK},
                                         {"month", CALLOUT_PER_MONTH},
                                         {"year", CALLOUT_PER_YEAR}}};

callout_limit_unit_t ReadUnit(JsonConfig* config) {
  const std::string name = config->text("per", "second");
  for (const Unit& unit : kUnits) {
    if (name == unit.name) return unit.unit;
  }
  config->refuse("per", "is none of second, minute, hour, day, week, month and year");
}

// Envoy shows it in a header, in quotes.
std::string ReadName(JsonConfig* config) {
  std::string name = config->text("name", "");
  for (const char c : name) {
    if (c < ' ' || c > '~' || c == '"' || c == '\\') {
      config->refuse("name", "has a character other than printable ASCII, or a quote or backslash");
    }
  }
  return name;
}

std::vector<Limit::Entry> ReadDescriptor(JsonConfig* config) {
  std::vector<Limit::Entry> entries;
  for (JsonConfig& entry : config->objects("descriptor")) {
    entries.push_back({entry.text("key"), entry.optional_text("value")});
    entry.done();
  }
  if (entries.empty()) {
    config->refuse("descriptor", R"(has no entries; write it as [{"key": "remote_address"}])");
  }
  return entries;
}

}  // namespace

bool Limit::Fits(std::string_view of_domain, const callout::Descriptor& of) const {
  if (domain.has_value() && *domain != of_domain) return false;
  size_t count = 0;
  for (const callout::Header& entry : of.entries()) {
    if (count == descriptor.size()) return false;
    const Entry& wanted = descriptor[count++];
    if (entry.key != wanted.key || (wanted.value.has_value() && entry.value != *wanted.value)) {
      return false;
    }
  }
  return count == descriptor.size();
}

std::vector<Limit> ReadLimits(JsonConfig* config) {
  std::vector<Limit> limits;
  for (JsonConfig& item : config->objects("limits")) {
    Limit limit;
    limit.domain = item.optional_text("domain");
    limit.descriptor = ReadDescriptor(&item);
    limit.name = ReadName(&item);
    const int64_t count = item.integer("count", {.min = 0, .max = kCountMax});
    const int64_t burst = item.integer("burst", {.fallback = count, .min = 0, .max = kCountMax});
    limit.rate = {static_cast<uint32_t>(count), ReadUnit(&item), 1};
    limit.bucket = {static_cast<double>(burst),
                    static_cast<double>(count) / SecondsOf(limit.rate.unit)};
    limit.overdraws = item.boolean("overdraw", false);
    item.done();
    limits.push_back(std::move(limit));
  }
  return limits;
}

}  // namespace callout::plugins
