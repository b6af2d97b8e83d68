// The options that say where plugins come from while the host runs, and when a
// new one of them is taken back.
//
// Plain values; AddReloadOptions is for the start.
#ifndef CALLOUT_HOST_RELOAD_OPTIONS_H_
#define CALLOUT_HOST_RELOAD_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "host/options.h"
#include "host/trial.h"

namespace callout::host {

// Which plugins must load at the start.
enum class RequirePlugins : uint8_t {
  kAuto,  // those of --plugin
  kAll,
  kNone,
};

struct ReloadConfig {
  std::vector<std::string> directories;  // --plugins_dir
  bool watch_plugins = false;
  RequirePlugins require_plugins = RequirePlugins::kAuto;
  size_t generations_max = 1000;
  ReloadGuard guard;
};

// `config` outlives the parsing of `options`.
void AddReloadOptions(ReloadConfig* config, OptionSet* options);

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_OPTIONS_H_
