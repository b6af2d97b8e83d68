// SPDX-License-Identifier: Apache-2.0

// The options about single plugins, merged into one list:
//
//   --plugin=[NAME=]PATH                      in chain order
//   --plugin_config=NAME=TEXT or NAME=@FILE
//   --plugin_settings=NAME=@FILE              JSON, see host/plugin/settings.h
//   --on_plugin_error=NAME=fail|continue|deny[:STATUS]
//
// Single-threaded; for the start of the process.
//
// Tested by tests/host/config/config_test.cc.
#ifndef CALLOUT_HOST_CONFIG_PLUGIN_OPTIONS_H_
#define CALLOUT_HOST_CONFIG_PLUGIN_OPTIONS_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/config/config.h"

namespace callout::host {

// Name and path of "[NAME=]PATH", unchecked. By default the file names the plugin, without ".so".
PluginConfig NameAndPath(const std::string& value);

class PluginOptions {
 public:
  // Each takes one value of its option; errors do not repeat the value.
  absl::Status AddPlugin(const std::string& value);
  absl::Status AddConfig(const std::string& value);
  absl::Status AddSettings(const std::string& value);
  absl::Status AddErrorPolicy(const std::string& value);

  // Adds a line for each plugin whose configuration was given as a text that seems to have a
  // secret.
  void WarnOfSecrets(std::vector<std::string>* warnings) const;

  // Reads the files. An option for an unknown plugin is an error.
  absl::StatusOr<std::vector<PluginConfig>> Finish() const;

 private:
  using ByName = std::map<std::string, std::string, std::less<>>;

  absl::Status CheckNames(std::string_view option, const ByName& values) const;
  absl::Status FinishPlugin(PluginConfig* plugin) const;

  std::vector<PluginConfig> plugins_;  // name and path
  ByName configs_;
  ByName settings_files_;
  std::map<std::string, ErrorPolicy, std::less<>> policies_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_CONFIG_PLUGIN_OPTIONS_H_
