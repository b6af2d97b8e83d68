// What the files of one plugin hold, all read as they stood at one moment.
//
//   const PluginStamps stamps = StampsOf(files);
//   …  // once they have rested
//   absl::StatusOr<PluginContents> contents = ReadContents(files, stamps);
//
// Plain functions; any thread.
#ifndef CALLOUT_HOST_RELOAD_PLUGIN_CONTENTS_H_
#define CALLOUT_HOST_RELOAD_PLUGIN_CONTENTS_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "host/base/file_stamp.h"
#include "host/reload/plugin_sources.h"

namespace callout::host {

struct PluginStamps {
  FileStamp code, config, settings;
  std::vector<FileStamp> followed;  // the plugin's own; see GenerationFacts
  bool operator==(const PluginStamps&) const = default;
};

struct PluginContents {
  std::string code;
  std::string sha256;  // of the code
  std::string config;
  std::string settings_text;
};

PluginStamps StampsOf(const PluginFiles& files);

// ABORTED if a file is not any more what `stamps` say. Files beside one in a
// directory may be absent.
absl::StatusOr<PluginContents> ReadContents(const PluginFiles& files, const PluginStamps& stamps);

// Whether the code looks for libraries in places named after its own directory.
bool HasOriginInRunPath(std::string_view code);

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_PLUGIN_CONTENTS_H_
