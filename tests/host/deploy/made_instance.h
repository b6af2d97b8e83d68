// SPDX-License-Identifier: Apache-2.0

// Instances of plugins that only say what they have hooks for.
#ifndef CALLOUT_TESTS_HOST_DEPLOY_MADE_INSTANCE_H_
#define CALLOUT_TESTS_HOST_DEPLOY_MADE_INSTANCE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host/plugin/chain.h"
#include "host/plugin/instance.h"
#include "host/plugin/settings.h"

namespace callout::host {

inline std::shared_ptr<Instance> MadeInstance(const std::string& name,
                                              const std::vector<callout_phase_t>& phases,
                                              const std::string& settings = "{}") {
  static auto* const metrics = new Metrics;
  Plugin::Fields fields;
  fields.path = name + ".so";
  fields.name = name;
  for (const callout_phase_t phase : phases) {
    fields.hooks.phases[phase] = [](callout_call_t*) -> callout_status_t { return CALLOUT_OK; };
  }
  absl::StatusOr<InstanceSettings> parsed = ParseInstanceSettings(settings);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  InstanceContext context;
  context.metrics = metrics;
  auto instance =
      Instance::Create(std::make_shared<Plugin>(std::move(fields)), name, "", *parsed, context);
  EXPECT_TRUE(instance.ok()) << instance.status();
  return *std::move(instance);
}

inline Chain MadeChain(std::vector<std::shared_ptr<Instance>> instances) {
  return Chain(std::move(instances));
}

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_DEPLOY_MADE_INSTANCE_H_
