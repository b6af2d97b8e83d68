// SPDX-License-Identifier: Apache-2.0

#include "host/config/reload_options.h"

#include <fmt/format.h>

#include <climits>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "host/base/file.h"
#include "host/base/status_text.h"
#include "host/config/option_kinds.h"
#include "host/plugin/loader.h"

namespace callout::host {
namespace {

constexpr char kReloadGroup[] = "Reload";
// Each file takes several of the 65,530 mappings that the kernel allows a process.
constexpr uint64_t kGenerationsMax = 1'000'000;
constexpr uint64_t kGuardCallsMax = 1'000'000;

absl::Status SetDirectory(const std::string& text, std::vector<std::string>* directories) {
  if (text.empty()) return Expected("a directory");
  directories->push_back(text);
  return absl::OkStatus();
}

absl::Status SetPermissions(const std::string& text, PluginPermissions* permissions) {
  if (text == "strict") {
    *permissions = PluginPermissions::kStrict;
  } else if (text == "warn") {
    *permissions = PluginPermissions::kWarn;
  } else if (text == "off") {
    *permissions = PluginPermissions::kOff;
  } else {
    return Expected("strict, warn or off");
  }
  return absl::OkStatus();
}

// The keys of several files add up.
absl::Status AddKeys(const std::string& path, ReloadConfig* config) {
  const absl::StatusOr<std::string> text = ReadFile(path, kMinisignKeysBytesMax);
  if (!text.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("cannot read {}: {}", path, MessageOf(text.status())));
  }
  const absl::StatusOr<std::vector<MinisignKey>> read = ParseMinisignKeys(*text);
  if (!read.ok()) return read.status();
  std::vector<MinisignKey>* keys = &config->file_rules.keys;
  keys->insert(keys->end(), read->begin(), read->end());
  config->key_files.push_back(path);
  return absl::OkStatus();
}

absl::Status SetRequire(const std::string& text, RequirePlugins* require) {
  if (text == "auto") {
    *require = RequirePlugins::kAuto;
  } else if (text == "all") {
    *require = RequirePlugins::kAll;
  } else if (text == "none") {
    *require = RequirePlugins::kNone;
  } else {
    return Expected("auto, all or none");
  }
  return absl::OkStatus();
}

// "0.5/100"
absl::Status SetGuard(const std::string& text, ReloadGuard* guard) {
  const size_t slash = text.find('/');
  double rate = 0;
  uint64_t calls = 0;
  if (slash == std::string::npos || !absl::SimpleAtod(text.substr(0, slash), &rate) ||
      !(rate >= 0 && rate <= 1) ||
      !ParseNumber(text.substr(slash + 1), 0, kGuardCallsMax, &calls)) {
    return Expected(
        fmt::format("RATE/CALLS with a rate from 0 to 1 and a whole number up to {}, "
                    "such as 0.5/100; /0 for no guard",
                    kGuardCallsMax));
  }
  *guard = {rate, static_cast<uint32_t>(calls)};
  return absl::OkStatus();
}

}  // namespace

void AddReloadOptions(ReloadConfig* config, OptionSet* options) {
  const auto add = [&](const char* name, const char* value, const char* default_text,
                       const char* help, bool repeatable, auto set, auto* target) {
    options->Add({.name = name,
                  .group = kReloadGroup,
                  .value = value,
                  .default_text = default_text,
                  .help = help,
                  .repeatable = repeatable,
                  .set = [=](const std::string& text) { return set(text, target); }});
  };
  add("plugins_dir", "DIR", "",
      "Run every *.so of this directory, in lexical order, with the files NAME.config and "
      "NAME.settings beside it. The host watches the directory for additions, changes and removals",
      true, SetDirectory, &config->directories);
  options->Add(Switch("strict_plugins", kReloadGroup, &config->strict_plugins,
                      "For plugin authors: log every service call that the host refuses, instead "
                      "of one of each kind per minute; give each call its own copy of the message, "
                      "and overwrite the copy when the call is over"));
  options->Add(Switch("watch_plugins", kReloadGroup, &config->watch_plugins,
                      "Watch the files of --plugin, and their @FILEs, for changes, too"));
  add("require_plugins", "WHICH", "auto",
      "Which plugins must load at the start. all: every one, else the host exits with 2. auto: the "
      "same for --plugin; for a plugin of --plugins_dir a stand-in answers by its error policy, "
      "and the host is not ready. none: the host starts without those that do not load",
      false, SetRequire, &config->require_plugins);
  add("plugin_permissions", "HOW", "strict",
      "What to do about plugin files, configurations and settings that every user may change, "
      "unless they are on a read-only mount. strict: refuse them; warn: use them and log a "
      "warning; off: do not check",
      false, SetPermissions, &config->file_rules.permissions);
  options->Add({.name = "plugin_keys",
                .group = kReloadGroup,
                .value = "FILE",
                .default_text = "",
                .help = "Public keys of minisign. Only load plugins that one of them has signed: "
                        "PATH.minisig, beside the file, is the signature. Read once, at the start",
                .repeatable = true,
                .supervisor_only = true,  // workers load copies of what was verified
                .set = [config](const std::string& path) { return AddKeys(path, config); }});
  options->Add(NumberOption("max_plugin_file_bytes", kReloadGroup, "BYTES", 4096, kPluginBytesMax,
                            &config->file_rules.max_code_bytes,
                            "Largest plugin file that the host reads"));
  options->Add({.name = "state_dir",
                .group = kReloadGroup,
                .value = "DIR",
                .default_text = "",
                .help = "A directory of this host's own, in which it keeps which versions of "
                        "plugins were withdrawn: rolled back, gone back from, or in quarantine. "
                        "They do not serve after a restart either, until their files change",
                .supervisor_only = true,
                .set = [config](const std::string& path) {
                  config->state_dir = path;
                  return absl::OkStatus();
                }});
  options->Add(NumberOption("plugin_create_timeout_ms", kReloadGroup, "MS", 1, INT_MAX,
                            &config->create_timeout_ms,
                            "Time that the create hook of a new version may take before the host "
                            "reports a problem. The old version serves until create returns. With "
                            "workers, the worker in which it runs is killed, and the version is "
                            "refused. The same time holds for the destroy hook: the host logs one "
                            "that takes longer and, with workers, kills the worker"));
  options->Add(NumberOption("max_generations", kReloadGroup, "FILES", 1, kGenerationsMax,
                            &config->generations_max,
                            "Plugin files that a process may load in its lifetime, since none can "
                            "be unloaded. Beyond that, the old versions keep serving"));
  add("reload_guard", "RATE/CALLS", "0.5/100",
      "Roll back a new version if more than RATE (0 to 1) of its first CALLS calls fail. /0: never",
      false, SetGuard, &config->guard);
}

}  // namespace callout::host
