// Which plugins the operator wants, and from where. Plain values.
#ifndef CALLOUT_HOST_RELOAD_PLUGIN_CONFIG_H_
#define CALLOUT_HOST_RELOAD_PLUGIN_CONFIG_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "host/plugin/settings.h"
#include "host/plugin/trial.h"

namespace callout::host {

// A plugin's name may stand in options, file names, labels and pages as it is.
absl::Status CheckPluginName(std::string_view name);

// The longest text read for a plugin from a file that an option names, in bytes.
inline constexpr size_t kPluginFileBytesMax = 16777216;

struct PluginConfig {
  std::string name;
  std::string path;
  std::string config;
  InstanceSettings settings;
  // Where they were read from, to be read again; "": from no file.
  std::string config_path;
  std::string settings_path;
  std::optional<ErrorPolicy> policy;  // of --on_plugin_error; in `settings` already
};

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
  bool strict_plugins = false;  // every refused service call is logged
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_PLUGIN_CONFIG_H_
