// SPDX-License-Identifier: Apache-2.0

// Instances of plugins that fuzz targets are made of, for the services beside ext_proc.
#ifndef CALLOUT_TESTS_FUZZ_FUZZ_INSTANCE_H_
#define CALLOUT_TESTS_FUZZ_FUZZ_INSTANCE_H_

#include <memory>
#include <string>
#include <utility>

#include "host/plugin/instance.h"
#include "tests/fuzz/choices.h"

namespace callout::host {

// One for all runs: defining metrics is dear.
inline Metrics& FuzzMetrics() {
  static auto* const metrics = new Metrics;
  return *metrics;
}

// "fuzz" and its number, with `hooks` and a policy of the input's choice, or none.
// `settings` are the others.
inline std::shared_ptr<Instance> MakeFuzzInstance(const Hooks& hooks, unsigned number,
                                                  Choices* choices,
                                                  InstanceSettings settings = {}) {
  Plugin::Fields fields;
  fields.path = fields.name = "fuzz";
  fields.hooks = hooks;
  fields.hooks.plugin_create = [](callout_create_args_t*) { return callout_status_t{CALLOUT_OK}; };
  constexpr ErrorPolicy kPolicies[] = {{ErrorPolicy::Action::kContinue, 0},
                                       {ErrorPolicy::Action::kDeny, 503},
                                       {ErrorPolicy::Action::kFail, 0}};
  if (const unsigned policy = choices->Next(4); policy < 3) settings.policy = kPolicies[policy];
  return *Instance::Create(std::make_shared<const Plugin>(std::move(fields)),
                           "fuzz" + std::to_string(number), "", settings,
                           {.metrics = &FuzzMetrics(), .message_bytes_max = 4096});
}

}  // namespace callout::host

#endif  // CALLOUT_TESTS_FUZZ_FUZZ_INSTANCE_H_
