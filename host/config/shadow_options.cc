// SPDX-License-Identifier: Apache-2.0

#include "host/config/shadow_options.h"

#include <climits>
#include <cstdint>

#include "host/config/option_kinds.h"

namespace callout::host {

void AddShadowOptions(ShadowLimits* config, OptionSet* options) {
  constexpr char kGroup[] = "Shadow";
  constexpr uint64_t kBytesMax = uint64_t{1} << 40;
  options->Add(NumberOption("shadow_threads", kGroup, "THREADS", 1, 64, &config->threads,
                            "Threads of a process that run plugins in shadow (setting \"mode\": "
                            "\"shadow\"); they start with the first such plugin"));
  options->Add(NumberOption("max_shadow_exchanges", kGroup, "EXCHANGES", 1, INT_MAX,
                            &config->exchanges_max,
                            "Exchanges of a process that wait for plugins in shadow or run there. "
                            "Further ones are dropped and counted"));
  options->Add(
      NumberOption("max_shadow_bytes", kGroup, "BYTES", 0, kBytesMax, &config->bytes_max,
                   "Memory for the messages of these exchanges, and of those that are being "
                   "copied"));
  options->Add(NumberOption("max_shadow_exchange_bytes", kGroup, "BYTES", 0, kBytesMax,
                            &config->exchange_bytes_max,
                            "Messages of one exchange that are copied; a larger one is dropped "
                            "and counted"));
}

}  // namespace callout::host
