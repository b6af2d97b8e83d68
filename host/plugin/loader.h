// SPDX-License-Identifier: Apache-2.0

// Loads plugins: reads the file, checks it (host/plugin/elf_preflight.h), and only then lets the
// dynamic linker map it and run its constructors. No other module loads code with dlopen.
//
//   absl::StatusOr<std::shared_ptr<const Plugin>> plugin = LoadPlugin("/x/y.so");
//
// A loaded file stays mapped until the process ends, also if its Plugin is deleted. The same file
// (by inode) loaded twice is one copy of the code with one set of globals.
//
// Any thread; one file is loaded at a time. A constructor must not throw: an exception cannot pass
// the dynamic linker, so the process ends after a log line that names the file.
#ifndef CALLOUT_HOST_PLUGIN_LOADER_H_
#define CALLOUT_HOST_PLUGIN_LOADER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "host/plugin/plugin.h"

namespace callout::host {

// The largest file that is read.
inline constexpr size_t kPluginBytesMax = size_t{1} << 30;

// INVALID_ARGUMENT or NOT_FOUND with one line: "cannot load plugin ORIGINAL: reason; remedy".
// `original` is the operator's file, of which `path` is a copy; errors name it.
absl::StatusOr<std::shared_ptr<const Plugin>> LoadPlugin(const std::string& path,
                                                         const std::string& original);
inline absl::StatusOr<std::shared_ptr<const Plugin>> LoadPlugin(const std::string& path) {
  return LoadPlugin(path, path);
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_LOADER_H_
