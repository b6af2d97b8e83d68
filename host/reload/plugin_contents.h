// SPDX-License-Identifier: Apache-2.0

// What the files of one plugin hold, all read as they stood at one moment.
//
//   const PluginStamps stamps = StampsOf(files);
//   …  // once they have rested
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
  FileStamp code, config, settings;
  std::vector<FileStamp> watched;   // of the settings
  std::vector<FileStamp> followed;  // the plugin's own; see GenerationFacts
  bool operator==(const PluginStamps&) const = default;
};

struct PluginContents {
  std::string code;    // empty if the settings disable the plugin, or are invalid
  std::string sha256;  // of the code
  std::string config;
  std::string settings_text;
  std::vector<std::string> watch;  // files that the settings tell to follow
  std::string watched_sha256;      // of what those hold; "": there are none
  std::vector<std::string> warnings;
};

PluginStamps StampsOf(const PluginFiles& files);

// ABORTED if a file is not any more what `stamps` say. Configuration and settings beside a plugin
// in a directory may be absent. One that is there and cannot be read is an error, whichever it is:
// a plugin must not serve without the settings that it was given. PERMISSION_DENIED if a file may
// be changed by others than `rules` allow.
absl::StatusOr<PluginContents> ReadContents(const PluginFiles& files, const PluginStamps& stamps,
                                            const PluginFileRules& rules);

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_PLUGIN_CONTENTS_H_
