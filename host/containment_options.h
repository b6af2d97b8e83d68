// The options that say what a plugin's crash or hang takes with it.
//
// Plain values; AddContainmentOptions is for the start.
#ifndef CALLOUT_HOST_CONTAINMENT_OPTIONS_H_
#define CALLOUT_HOST_CONTAINMENT_OPTIONS_H_

#include <cstddef>
#include <cstdint>

#include "host/crash_count.h"
#include "host/options.h"

namespace callout::host {

struct ContainmentConfig {
  size_t workers = 0;  // processes that run the plugins; 0: this one does
  QuarantineLimit quarantine;
  uint64_t watchdog_ms = 5000;  // 0: none
};

// `config` outlives the parsing of `options`.
void AddContainmentOptions(ContainmentConfig* config, OptionSet* options);

}  // namespace callout::host

#endif  // CALLOUT_HOST_CONTAINMENT_OPTIONS_H_
