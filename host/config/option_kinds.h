// SPDX-License-Identifier: Apache-2.0

// The common kinds of options: numbers, texts and switches.
//
//   options->Add(NumberOption("max_deferred", "Calls", "CALLS", 0, INT_MAX, &limit, "…"));
//   options->Add(Renamed("max_foo_bytes", "foo_bytes_max", NumberOption(…)));
//
// Plain functions, for the start of the process.
//
// Tested by tests/host/config/config_test.cc.
#ifndef CALLOUT_HOST_CONFIG_OPTION_KINDS_H_
#define CALLOUT_HOST_CONFIG_OPTION_KINDS_H_

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "host/config/options.h"

namespace callout::host {

// The error for an invalid value: "expected true or false".
absl::Status Expected(std::string_view what);

// Decimal digits only, with a value from `min` to `max`.
bool ParseNumber(std::string_view text, uint64_t min, uint64_t max, uint64_t* value);

// A number from `min` to `max`; --help shows both. `target` holds the default, and outlives the
// parsing.
template <class Number>
OptionSet::Option NumberOption(const char* name, const char* group, const char* value, uint64_t min,
                               uint64_t max, Number* target, const char* help) {
  return {.name = name,
          .group = group,
          .value = value,
          .default_text = fmt::format("{}", *target),
          .help = fmt::format("{} [{} to {}]", help, min, max),
          .set = [=](const std::string& text) {
            uint64_t number = 0;
            if (!ParseNumber(text, min, max, &number)) {
              return Expected(fmt::format("a whole number from {} to {}", min, max));
            }
            *target = static_cast<Number>(number);
            return absl::OkStatus();
          }};
}

// A text, unchanged.
OptionSet::Option TextOption(const char* name, const char* group, const char* value,
                             std::string* target, const char* help);

// One word of `choices`. `set` gets its index; `index` is that of the default.
OptionSet::Option ChoiceOption(const char* name, const char* group, const char* value,
                               const std::vector<std::string>& choices, size_t index,
                               const std::function<void(size_t)>& set, const char* help);

// A switch, off by default.
OptionSet::Option Switch(const char* name, const char* group, bool* target, const char* help);

// Patterns of header names (host/base/redaction.h): "Authorization, x-tenant"; "none": no header.
absl::Status SetHeaderPatterns(const std::string& text, std::vector<std::string>* patterns);

// The option with an old name that still works.
OptionSet::Option Renamed(const char* old_name, OptionSet::Option option);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CONFIG_OPTION_KINDS_H_
