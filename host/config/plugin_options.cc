// SPDX-License-Identifier: Apache-2.0

#include "host/config/plugin_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "host/base/file.h"
#include "host/base/status_text.h"

namespace callout::host {
namespace {

// "NAME=REST"; what follows the first equals sign is the rest.
absl::StatusOr<std::pair<std::string, std::string>> SplitName(std::string_view value,
                                                              std::string_view expected) {
  const size_t equals = value.find('=');
  if (equals == std::string_view::npos || !CheckPluginName(value.substr(0, equals)).ok()) {
    return absl::InvalidArgumentError(
        fmt::format("no plugin name before the text; expected {}", expected));
  }
  return std::pair(std::string(value.substr(0, equals)), std::string(value.substr(equals + 1)));
}

absl::Status Twice(std::string_view name) {
  return absl::InvalidArgumentError(
      fmt::format("plugin '{}' already has one; expected one for each plugin", name));
}

std::string FileNameWithoutSo(std::string_view path) {
  std::string_view name = path.substr(path.rfind('/') + 1);
  if (name.ends_with(".so")) name.remove_suffix(3);
  return std::string(name);
}

// "TEXT" or "@FILE".
absl::StatusOr<std::string> TextOrFile(const std::string& value) {
  if (!value.starts_with('@')) return value;
  const std::string path = value.substr(1);
  absl::StatusOr<std::string> text = ReadFile(path, kPluginFileBytesMax);
  if (text.ok()) return text;
  return absl::InvalidArgumentError(
      fmt::format("cannot read {}: {}", path, MessageOf(text.status())));
}

// Whether it has a JSON key such as "api_key" or "client_secret".
bool LooksSecret(const std::string& text) {
  const std::string lower = absl::AsciiStrToLower(text);
  for (const std::string_view word :
       {"secret", "password", "passwd", "passphrase", "api_key", "apikey", "api-key", "token",
        "credential", "private_key", "access_key", "\"key\""}) {
    for (size_t at = lower.find(word); at != lower.npos; at = lower.find(word, at + 1)) {
      // Of a path, only the name is here.
      const std::string_view rest = std::string_view(lower).substr(at + word.size());
      if (!rest.starts_with("_path") && !rest.starts_with("_file")) return true;
    }
  }
  return false;
}

absl::Status Prefixed(const std::string& prefix, const absl::Status& status) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", prefix, MessageOf(status)));
}

}  // namespace

PluginConfig NameAndPath(const std::string& value) {
  PluginConfig plugin;
  const size_t equals = value.find('=');
  // A path may contain an equals sign; a name contains no slash.
  if (equals != std::string::npos && value.find('/') > equals) {
    plugin.name = value.substr(0, equals);
    plugin.path = value.substr(equals + 1);
  } else {
    plugin.name = FileNameWithoutSo(value);
    plugin.path = value;
  }
  return plugin;
}

absl::Status PluginOptions::AddPlugin(const std::string& value) {
  PluginConfig plugin = NameAndPath(value);
  if (plugin.path.empty()) {
    return absl::InvalidArgumentError("no path after the name; expected [NAME=]PATH");
  }
  if (absl::Status status = CheckPluginName(plugin.name); !status.ok()) {
    return absl::InvalidArgumentError(fmt::format("{}; give one as NAME=PATH", MessageOf(status)));
  }
  for (const PluginConfig& other : plugins_) {
    if (other.name != plugin.name) continue;
    return absl::InvalidArgumentError(fmt::format(
        "another plugin is named '{}', from {}; give this one a different name as NAME=PATH",
        other.name, other.path));
  }
  plugins_.push_back(std::move(plugin));
  return absl::OkStatus();
}

absl::Status PluginOptions::AddConfig(const std::string& value) {
  auto split = SplitName(value, "NAME=TEXT or NAME=@FILE");
  if (!split.ok()) return split.status();
  return configs_.insert(*split).second ? absl::OkStatus() : Twice(split->first);
}

void PluginOptions::WarnOfSecrets(std::vector<std::string>* warnings) const {
  for (const auto& [name, value] : configs_) {
    if (value.starts_with('@') || !LooksSecret(value)) continue;
    warnings->push_back(
        fmt::format("--plugin_config={}=… has what looks like a secret on the command line, which "
                    "every user of "
                    "the machine can read; put it into a file and give --plugin_config={}=@FILE",
                    name, name));
  }
}

absl::Status PluginOptions::AddSettings(const std::string& value) {
  auto split = SplitName(value, "NAME=@FILE");
  if (!split.ok()) return split.status();
  if (!split->second.starts_with('@')) {
    return absl::InvalidArgumentError("no @FILE after the name; expected NAME=@FILE");
  }
  return settings_files_.insert(*split).second ? absl::OkStatus() : Twice(split->first);
}

absl::Status PluginOptions::AddErrorPolicy(const std::string& value) {
  auto split = SplitName(value, "NAME=fail, NAME=continue or NAME=deny[:STATUS]");
  if (!split.ok()) return split.status();
  absl::StatusOr<ErrorPolicy> policy = ParseErrorPolicy(split->second);
  if (!policy.ok()) return policy.status();
  return policies_.emplace(split->first, *policy).second ? absl::OkStatus() : Twice(split->first);
}

absl::Status PluginOptions::CheckNames(std::string_view option, const ByName& values) const {
  for (const auto& [name, value] : values) {
    const auto found = std::find_if(
        plugins_.begin(), plugins_.end(),
        [&wanted = name](const PluginConfig& plugin) { return plugin.name == wanted; });
    if (found != plugins_.end()) continue;
    std::vector<std::string> names;
    for (const PluginConfig& plugin : plugins_) names.push_back(plugin.name);
    return absl::InvalidArgumentError(
        fmt::format("--{}: no --plugin is named '{}'; expected {}", option, name,
                    names.empty() ? "a --plugin" : absl::StrJoin(names, ", ")));
  }
  return absl::OkStatus();
}

absl::Status PluginOptions::FinishPlugin(PluginConfig* plugin) const {
  if (const auto found = configs_.find(plugin->name); found != configs_.end()) {
    absl::StatusOr<std::string> text = TextOrFile(found->second);
    if (!text.ok()) return Prefixed("--plugin_config=" + plugin->name, text.status());
    plugin->config = *std::move(text);
    if (found->second.starts_with('@')) plugin->config_path = found->second.substr(1);
  }
  if (const auto found = settings_files_.find(plugin->name); found != settings_files_.end()) {
    const std::string option = fmt::format("--plugin_settings={}={}", plugin->name, found->second);
    absl::StatusOr<std::string> text = TextOrFile(found->second);
    if (!text.ok()) return Prefixed(option, text.status());
    absl::StatusOr<InstanceSettings> settings = ParseInstanceSettings(*text);
    if (!settings.ok()) return Prefixed(option, settings.status());
    plugin->settings = *std::move(settings);
    plugin->settings_path = found->second.substr(1);
  }
  if (const auto found = policies_.find(plugin->name); found != policies_.end()) {
    plugin->settings.policy = plugin->policy = found->second;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<PluginConfig>> PluginOptions::Finish() const {
  ByName policy_names;
  for (const auto& [name, policy] : policies_) policy_names.emplace(name, "");
  for (const auto& [option, values] :
       {std::pair("plugin_config", &configs_), std::pair("plugin_settings", &settings_files_),
        std::pair("on_plugin_error", &std::as_const(policy_names))}) {
    if (absl::Status status = CheckNames(option, *values); !status.ok()) return status;
  }
  std::vector<PluginConfig> plugins = plugins_;
  for (PluginConfig& plugin : plugins) {
    if (absl::Status status = FinishPlugin(&plugin); !status.ok()) return status;
  }
  return plugins;
}

}  // namespace callout::host
