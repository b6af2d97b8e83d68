#include "host/containment_options.h"

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"

namespace callout::host {
namespace {

constexpr char kGroup[] = "Containment";
constexpr uint64_t kMsMax = 86'400'000;

absl::Status Expected(std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("expected {}", what));
}

bool ToNumber(std::string_view text, uint64_t max, uint64_t* value) {
  // SimpleAtoi would take " 1" and "+1" as well.
  return text.find_first_not_of("0123456789") == std::string_view::npos &&
         absl::SimpleAtoi({text.data(), text.size()}, value) && *value <= max;
}

template <class Number>
absl::Status SetNumber(const std::string& text, uint64_t max, Number* number) {
  uint64_t value = 0;
  if (!ToNumber(text, max, &value))
    return Expected(fmt::format("a whole number from 0 to {}", max));
  *number = static_cast<Number>(value);
  return absl::OkStatus();
}

}  // namespace

void AddContainmentOptions(ContainmentConfig* config, OptionSet* options) {
  const auto add = [options](const char* name, const char* value, std::string default_text,
                             const char* help,
                             std::function<absl::Status(const std::string&)> set) {
    options->Add({.name = name,
                  .group = kGroup,
                  .value = value,
                  .default_text = std::move(default_text),
                  .help = help,
                  .set = std::move(set)});
  };
  add("watchdog_ms", "MS", fmt::format("{}", config->watchdog_ms),
      "A hook that holds a serving thread for longer is logged. 0: never",
      [config](const std::string& text) { return SetNumber(text, kMsMax, &config->watchdog_ms); });
}

}  // namespace callout::host
