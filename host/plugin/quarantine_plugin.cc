// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/quarantine_plugin.h"

#include <string>
#include <utility>

#include "host/plugin/services.h"

namespace callout::host {
namespace {

callout_status_t Create(callout_create_args_t* args) {
  args->plugin = new std::string(ToView(args->config));
  return CALLOUT_OK;
}

void Destroy(void* plugin) { delete static_cast<std::string*>(plugin); }

callout_status_t Process(callout_call_t* call) {
  call->host->set_error(call, ToBytes(*static_cast<const std::string*>(call->plugin)));
  return CALLOUT_UNAVAILABLE;
}

}  // namespace

std::shared_ptr<const Plugin> QuarantinePlugin() {
  Plugin::Fields fields;
  fields.path = fields.name = fields.info.name = "quarantine";
  fields.stands_in = true;
  fields.hooks.plugin_create = Create;
  fields.hooks.plugin_destroy = Destroy;
  fields.hooks.on_process = Process;
  // What stands in for a plugin stands in for it on every service.
  for (const callout_phase_t phase : kPhases) {
    if (IsOtherService(phase)) fields.hooks.phases[PhaseSlot(phase)] = Process;
  }
  return std::make_shared<const Plugin>(std::move(fields));
}

}  // namespace callout::host
