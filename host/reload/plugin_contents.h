// SPDX-License-Identifier: Apache-2.0

// Reads the files of one plugin consistently: all as of one moment.
//
//   const PluginStamps stamps = StampsOf(files);
//   …  // once they have not changed for a while
//   absl::StatusOr<PluginContents> contents = ReadContents(files, stamps, rules);
//
// Plain functions; any thread.
//
// Tested by tests/host/reload/reloader_test.cc.
#ifndef CALLOUT_HOST_RELOAD_PLUGIN_CONTENTS_H_
#define CALLOUT_HOST_RELOAD_PLUGIN_CONTENTS_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "host/base/file.h"
#include "host/reload/plugin_config.h"
#include "host/reload/plugin_sources.h"

namespace callout::host {

struct PluginStamps {
  FileStamp code, config, settings, signature;
  std::vector<FileStamp> watched;  // by the settings
  bool operator==(const PluginStamps&) const = default;
};

struct PluginContents {
  std::string code;    // empty if the settings disable the plugin, or are invalid
  std::string sha256;  // of the code
  std::string signer;  // the id of the key that has signed the code; "": no key is asked for
  std::string config;
  std::string settings_text;       // "": there is no such file
  std::vector<std::string> watch;  // files of the setting `watch`
  std::string watched_sha256;      // of the contents of these files; "": none
  std::vector<std::string> warnings;
};

PluginStamps StampsOf(const PluginFiles& files);

// ABORTED if a file has changed since `stamps`. Configuration and settings beside a plugin in a
// directory may be absent. If one exists and cannot be read, that is an error: a plugin must not
// serve without its settings. The same holds for settings that are empty. PERMISSION_DENIED if
// others may change a file than `rules` allow, or if none of their keys has signed the code.
absl::StatusOr<PluginContents> ReadContents(const PluginFiles& files, const PluginStamps& stamps,
                                            const PluginFileRules& rules);

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_PLUGIN_CONTENTS_H_
