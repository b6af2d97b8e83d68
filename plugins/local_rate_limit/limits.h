// SPDX-License-Identifier: Apache-2.0

// The configured limits, and which of them a descriptor falls under. See README.md.
#ifndef CALLOUT_PLUGINS_LOCAL_RATE_LIMIT_LIMITS_H_
#define CALLOUT_PLUGINS_LOCAL_RATE_LIMIT_LIMITS_H_

#include <callout/plugin.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "local_rate_limit/token_buckets.h"
#include "support/json_config.hpp"

namespace callout::plugins {

// A month is 30 days, a year 365. 0 for a unit that is none.
constexpr double SecondsOf(callout_limit_unit_t unit) {
  constexpr double kDay = 86400;
  switch (unit) {
    case CALLOUT_PER_SECOND:
      return 1;
    case CALLOUT_PER_MINUTE:
      return 60;
    case CALLOUT_PER_HOUR:
      return 3600;
    case CALLOUT_PER_DAY:
      return kDay;
    case CALLOUT_PER_WEEK:
      return 7 * kDay;
    case CALLOUT_PER_MONTH:
      return 30 * kDay;
    case CALLOUT_PER_YEAR:
      return 365 * kDay;
    default:
      return 0;
  }
}

struct Limit {
  struct Entry {
    std::string key;
    std::optional<std::string> value;  // none: any, and each value has a bucket of its own
  };
  std::optional<std::string> domain;  // none: any
  std::vector<Entry> descriptor;
  std::string name;
  callout::LimitRate rate;
  TokenBuckets::Rate bucket;
  bool overdraws = false;  // hits are costs that there were already: they are taken in any case

  // Whether the descriptor has these entries and no others, in this order.
  bool Fits(std::string_view of_domain, const callout::Descriptor& of) const;
};

// Throws std::invalid_argument with what is wrong.
std::vector<Limit> ReadLimits(JsonConfig* config);

}  // namespace callout::plugins

#endif  // CALLOUT_PLUGINS_LOCAL_RATE_LIMIT_LIMITS_H_
