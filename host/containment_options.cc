#include "host/containment_options.h"

#include "host/option_kinds.h"

namespace callout::host {
namespace {

constexpr char kGroup[] = "Containment";
constexpr uint64_t kMsMax = 86'400'000;

}  // namespace

void AddContainmentOptions(ContainmentConfig* config, OptionSet* options) {
  options->Add(NumberOption("watchdog_ms", kGroup, "MS", 0, kMsMax, &config->watchdog_ms,
                            "A hook that holds a serving thread for longer is logged. 0: never"));
}

}  // namespace callout::host
