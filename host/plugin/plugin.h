// SPDX-License-Identifier: Apache-2.0

// A loaded shared object: its exported functions, and what it says about itself. LoadPlugin
// (host/plugin/loader.h) makes it; a test may make one from functions of its own. Instances
// (host/plugin/instance.h) are created from it.
//
// It never changes, so any thread may read it. The code stays mapped until the process ends, also
// after the Plugin is deleted: thread-local data, unique symbols and exit handlers make unloading
// unsafe.
//
// Tested by tests/host/plugin/loader_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_PLUGIN_H_
#define CALLOUT_HOST_PLUGIN_PLUGIN_H_

#include <callout/plugin.h>

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "host/wire/phase.h"
#include "host/wire/rpc_service.h"

namespace callout::host {

// Null where the plugin does not export the hook.
struct Hooks {
  using CallHook = decltype(&callout_on_process);
  using StreamOpenHook = decltype(&callout_on_stream_open);
  using StreamHook = decltype(&callout_on_stream_close);
  using CreateHook = decltype(&callout_plugin_create);
  using DestroyHook = decltype(&callout_plugin_destroy);
  using DestroyWithHook = decltype(&callout_plugin_destroy_with);

  CreateHook plugin_create = nullptr;
  DestroyHook plugin_destroy = nullptr;  // this one or the next
  DestroyWithHook plugin_destroy_with = nullptr;
  StreamOpenHook stream_open = nullptr;
  StreamHook stream_close = nullptr;
  StreamHook stream_cancel = nullptr;
  CallHook on_process = nullptr;
  std::array<CallHook, kPhaseSlots> phases{};  // by PhaseSlot

  // Of any phase.
  CallHook Of(callout_phase_t phase) const {
    return IsKnownPhase(phase) ? phases[PhaseSlot(phase)] : nullptr;
  }

  // The services that there are hooks for. on_process alone is for ext_proc.
  RpcServices services() const {
    RpcServices services;
    if (on_process != nullptr) services.Add(RpcService::kExtProc);
    for (const callout_phase_t phase : kPhases) {
      if (Of(phase) != nullptr) services.Add(ServiceOf(phase));
    }
    return services;
  }
};

// The strings of callout_plugin_info, printable: control characters are escaped, and each is cut at
// 256 bytes. "": the plugin does not say.
struct PluginInfo {
  std::string name;
  std::string version;
  std::string description;
};

class Plugin {
 public:
  struct Fields {
    std::string path;  // as passed to LoadPlugin
    std::string name;  // the file's name without ".so"
    PluginInfo info;
    uint32_t abi_version = CALLOUT_ABI_VERSION;
    uint32_t abi_revision = CALLOUT_ABI_REVISION;
    std::string config_schema;  // JSON, or empty; printable
    Hooks hooks;
    std::vector<std::string> hook_names;  // symbols behind `hooks`, in the header's order
    std::vector<std::string> warnings;    // one printable line each
    bool stands_in = false;               // for a plugin that cannot serve
    bool stands_in_for_unknown = false;   // and nobody knows which hooks that one has
  };

  explicit Plugin(Fields fields) : fields_(std::move(fields)) {}
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;

  const std::string& path() const { return fields_.path; }
  const std::string& name() const { return fields_.name; }
  const PluginInfo& info() const { return fields_.info; }
  uint32_t abi_version() const { return fields_.abi_version; }
  uint32_t abi_revision() const { return fields_.abi_revision; }
  const std::string& config_schema() const { return fields_.config_schema; }
  const Hooks& hooks() const { return fields_.hooks; }
  const std::vector<std::string>& hook_names() const { return fields_.hook_names; }
  const std::vector<std::string>& warnings() const { return fields_.warnings; }
  bool stands_in() const { return fields_.stands_in; }
  bool stands_in_for_unknown() const { return fields_.stands_in_for_unknown; }

 private:
  const Fields fields_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_PLUGIN_H_
