// SPDX-License-Identifier: Apache-2.0

// What --doctor does: compares the configuration of a proxy with what the plugins and
// options of this host need, and lists what would fail in silence: the proxy starts,
// requests pass, and a plugin never sees them or is not obeyed.
//
//   absl::StatusOr<Diagnosis> diagnosis = Examine("envoy.yaml", text, needs);
//
// A finding names its place in the file, what was found there, what to write instead, and
// why. What a proxy refuses by itself, and what only costs speed, is no finding.
//
// A plain function; any thread.
#ifndef CALLOUT_HOST_DEPLOY_DOCTOR_H_
#define CALLOUT_HOST_DEPLOY_DOCTOR_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "host/deploy/envoy_needs.h"
#include "host/deploy/proxy_settings.h"

namespace callout::host {

struct Diagnosis {
  std::vector<ConfigFinding> findings;
  size_t filters = 0;  // that were judged

  // To be printed: every finding, and a line that counts them.
  std::string Text(const std::string& file) const;
};

// INVALID_ARGUMENT if `text` is neither YAML nor JSON, or has no ext_proc filter that this knows.
absl::StatusOr<Diagnosis> Examine(const std::string& file, const std::string& text,
                                  const EnvoyNeeds& needs);

}  // namespace callout::host

#endif  // CALLOUT_HOST_DEPLOY_DOCTOR_H_
