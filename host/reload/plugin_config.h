// SPDX-License-Identifier: Apache-2.0

// The plugins that the operator wants, and their files. Plain values.
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
#include "host/base/minisign.h"
#include "host/extensions/extensions.h"
#include "host/plugin/settings.h"
#include "host/plugin/trial.h"

namespace callout::host {

// An error unless the name can be used unchanged in options, file names, labels and pages.
absl::Status CheckPluginName(std::string_view name);

// The largest configuration or settings file that is read, in bytes.
inline constexpr size_t kPluginFileBytesMax = 16777216;

struct PluginConfig {
  std::string name;
  std::string path;
  std::string config;
  InstanceSettings settings;
  // The files that they were read from; "": none.
  std::string config_path;
  std::string settings_path;
  std::optional<ErrorPolicy> policy;  // of --on_plugin_error; `settings` has it already
};

// Which plugins must load at the start.
enum class RequirePlugins : uint8_t {
  // Those of --plugin. If a plugin of a directory does not load, a stand-in answers by its error
  // policy, and the host is not ready until a version of it serves. Every --plugins_dir must be
  // readable.
  kAuto,
  kAll,   // also those of directories, else the host does not start
  kNone,  // the host serves without those that do not load
};

// What the host does about plugin files, configurations and settings that others may change.
enum class PluginPermissions : uint8_t {
  kStrict,  // writable by every user: refused; by a group or another owner: a warning
  kWarn,    // a warning in either case
  kOff,     // no check
};

// Requirements on a plugin's files.
struct PluginFileRules {
  PluginPermissions permissions = PluginPermissions::kStrict;  // --plugin_permissions
  size_t max_code_bytes = size_t{256} << 20;                   // --max_plugin_file_bytes
  // --plugin_keys. Not empty: code is only loaded if PATH.minisig says that one of these keys has
  // signed it.
  std::vector<MinisignKey> keys;
};

struct ReloadConfig {
  std::vector<std::string> directories;  // --plugins_dir
  bool watch_plugins = false;
  RequirePlugins require_plugins = RequirePlugins::kAuto;
  PluginFileRules file_rules;
  std::vector<std::string> key_files;  // of which the keys of `file_rules` are
  uint64_t create_timeout_ms = 10000;  // --plugin_create_timeout_ms
  size_t generations_max = 1000;
  ReloadGuard guard;
  std::string state_dir;        // --state_dir; "": nothing is kept over a restart
  bool strict_plugins = false;  // logs every refused service call
  ExtensionOptions extensions;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_PLUGIN_CONFIG_H_
