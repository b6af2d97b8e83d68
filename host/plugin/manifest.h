// SPDX-License-Identifier: Apache-2.0

// What goes with a plugin's file when it is shipped (--print_manifest).
//
// A plain function, for tools: it loads the file, which runs its constructors, but creates no
// instance. Any thread.
#ifndef CALLOUT_HOST_PLUGIN_MANIFEST_H_
#define CALLOUT_HOST_PLUGIN_MANIFEST_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace callout::host {

// Of each file, in this order; a JSON array of
//
//   {
//     "format": 1,                       grows if a key changes its meaning
//     "name": "auth",                    as the plugin says, else its file's without ".so"
//     "version": "1.3.0", "description": "…",                  "" if the plugin says nothing
//     "file": "auth.so", "sha256": "…",
//     "abi": 1, "abi_revision": 2, "hooks": ["callout_on_request_headers"],
//     "config_schema": {…}               a JSON schema of its configuration, or null
//   }
//
// The error is that of the first file that cannot be loaded.
absl::StatusOr<std::string> ManifestsJson(const std::vector<std::string>& paths);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_MANIFEST_H_
