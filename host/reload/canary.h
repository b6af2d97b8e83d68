// SPDX-License-Identifier: Apache-2.0

// Decides about a canary: a new version of a plugin that serves a share of the streams beside the
// old one (setting `canary`).
//
//   CanaryVerdict verdict = Judge(settings, counts_of_old, counts_of_new, seconds);
//
// A plain function; any thread.
//
// Tested by tests/host/reload/canary_test.cc.
#ifndef CALLOUT_HOST_RELOAD_CANARY_H_
#define CALLOUT_HOST_RELOAD_CANARY_H_

#include <cstdint>
#include <string>

#include "host/plugin/call_tally.h"
#include "host/plugin/settings.h"

namespace callout::host {

struct CanaryVerdict {
  enum class What : uint8_t { kGoesOn, kRollBack, kPromote };
  What what = What::kGoesOn;
  std::string why;  // of kRollBack: what was found, and the limit by its name
};

// `seconds` is how long it has served. Faults decide as soon as they are too many of min_calls; all
// else takes min_calls calls. The mean is compared if the old version has had min_calls, too.
CanaryVerdict Judge(const CanarySettings& settings, const CallCounts& before,
                    const CallCounts& canary, uint64_t seconds);

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_CANARY_H_
