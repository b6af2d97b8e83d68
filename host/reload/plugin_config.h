// SPDX-License-Identifier: Apache-2.0

// Which plugins the operator wants, and from where. Plain values.
//
// Tested by tests/host/reload/plugin_sources_test.cc.
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
  // Those of --plugin. In place of one of a directory that does not load a stand-in answers by its
  // error policy, and the host is not ready until a version of it serves. Every --plugins_dir has
  // to be readable.
  kAuto,
  kAll,   // those of directories as well: else the host does not start
  kNone,  // the host serves without those that do not load
};

// What becomes of plugin files, configurations and settings that others may change.
enum class PluginPermissions : uint8_t {
  kStrict,  // writable by every user: refused; by a group or another owner: a warning
  kWarn,    // a warning in either case
  kOff,     // nobody looks
};

// What a plugin's files must be like to be read.
struct PluginFileRules {
  PluginPermissions permissions = PluginPermissions::kStrict;  // --plugin_permissions
  size_t max_code_bytes = size_t{256} << 20;                   // --max_plugin_file_bytes
};

struct ReloadConfig {
  std::vector<std::string> directories;  // --plugins_dir
  bool watch_plugins = false;
  RequirePlugins require_plugins = RequirePlugins::kAuto;
  PluginFileRules file_rules;
  uint64_t create_timeout_ms = 10000;  // --plugin_create_timeout_ms
  size_t generations_max = 1000;
  ReloadGuard guard;
  bool strict_plugins = false;  // every refused service call is logged
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_PLUGIN_CONFIG_H_
