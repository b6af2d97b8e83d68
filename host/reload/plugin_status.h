// SPDX-License-Identifier: Apache-2.0

// The admin page /plugins: which version of each plugin serves, since when, its calls and faults,
// and what was refused and why.
//
//   {
//     "generations_mapped": 3,
//     "generations_max": 1000,
//     "problems": ["cannot read the plugins' directory …"],
//     "plugins": [                              in chain order, then removed ones
//       {
//         "name": "10-auth", "file": "/plugins/10-auth.so",
//         "mode": "live",                       or shadow
//         "state": "serving",                   quarantined, refused, waiting, disabled,
//                                               removed
//         "generation": 2, "sha256": "…",       absent if no version is active,
//         "version": "1.3.0", "abi": 1,         like the next ones
//         "signed_by": "E5E2E0ED3F3028EC",      only with --plugin_keys
//         "description": "…", "hooks": ["callout_on_request_headers"],
//         "loaded_at": "2026-11-24T19:10:28.123Z",
//         "calls": 1234, "errors": {"deadline": 2},   since the start, of all generations
//         "last_error": "…", "last_error_at": "…",    null: the current file serves
//         "crashes": 3,                         of workers, by this plugin
//         "last_crash": "SIGSEGV (11) while plugin 10-auth ran callout_on_…",   or null
//         "quarantined": "plugin 10-auth is in quarantine after …",             or null
//         "withdrawn": false,                   the file's version is, until it is released
//         "generations": [                      newest first
//           {"generation": 2, "sha256": "…", "version": "1.3.0", "loaded_at": "…",
//            "state": "serving", "streams": 7},
//           {"generation": 1, …, "state": "draining", "streams": 1},
//           {"generation": 3, …, "state": "canary", "percent": 5, "streams": 1,
//            "calls": 120, "faults": 0, "mean_ms": 0.02, "p99_ms": 0.05}   since it is beside
//         another one, which then has these four, too
//         ]
//       }
//     ]
//   }
//
// A plain function; any thread.
#ifndef CALLOUT_HOST_RELOAD_PLUGIN_STATUS_H_
#define CALLOUT_HOST_RELOAD_PLUGIN_STATUS_H_

#include <prometheus/metric_family.h>

#include <cstddef>
#include <string>
#include <vector>

#include "host/reload/generation.h"
#include "host/reload/reloader.h"

namespace callout::host {

std::string PluginStatusJson(const Reloader::Snapshot& snapshot,
                             const GenerationTarget::Usage& usage, size_t generations_max,
                             const std::vector<prometheus::MetricFamily>& metrics);

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_PLUGIN_STATUS_H_
