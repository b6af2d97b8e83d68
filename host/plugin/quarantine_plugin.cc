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

std::shared_ptr<const Plugin> QuarantinePlugin(std::optional<uint64_t> phases) {
  Plugin::Fields fields;
  fields.path = fields.name = fields.info.name = "quarantine";
  fields.stands_in = true;
  fields.hooks.plugin_create = Create;
  fields.hooks.plugin_destroy = Destroy;
  fields.stands_in_for_unknown = !phases.has_value();
  uint64_t ext_proc = 0;
  for (const callout_phase_t phase : kPhases) {
    if (phases.has_value() && (*phases & CALLOUT_PHASE_BIT(phase)) == 0) continue;
    if (IsOtherService(phase)) {
      fields.hooks.phases[PhaseSlot(phase)] = Process;
    } else {
      ext_proc |= CALLOUT_PHASE_BIT(phase);
    }
  }
  // A stream is answered at its first message, whichever the plugin has hooks for. One that has
  // them for a request's headers alone may answer a Check, too, and so does what stands in for it.
  if (ext_proc == CALLOUT_PHASE_BIT(CALLOUT_REQUEST_HEADERS)) {
    fields.hooks.phases[PhaseSlot(CALLOUT_REQUEST_HEADERS)] = Process;
  } else if (ext_proc != 0) {
    fields.hooks.on_process = Process;
  }
  return std::make_shared<const Plugin>(std::move(fields));
}

}  // namespace callout::host
