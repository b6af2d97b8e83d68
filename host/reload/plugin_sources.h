// SPDX-License-Identifier: Apache-2.0

// Lists the plugins that the operator wants, in chain order: those of --plugin, then the `*.so` of
// each
// --plugins_dir in lexical order.
//
//   PluginSources sources({.plugins = config.plugins, .directories = config.plugins_dirs});
//   for (const PluginFiles& files : sources.List().plugins) …
//
// Reads directories, not files. One thread at a time.
#ifndef CALLOUT_HOST_RELOAD_PLUGIN_SOURCES_H_
#define CALLOUT_HOST_RELOAD_PLUGIN_SOURCES_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "host/plugin/settings.h"
#include "host/reload/plugin_config.h"

namespace callout::host {

// One instance and its files.
struct PluginFiles {
  std::string name;
  std::string path;            // of the shared object
  std::string config_path;     // "": `config` is the text
  std::string settings_path;   // "": none
  std::string signature_path;  // "": none is wanted
  std::string config;
  std::optional<ErrorPolicy> policy;  // overrides that of the settings
  bool from_directory = false;        // configuration and settings may be absent
  bool reachable = true;              // false: its directory cannot be read, so nothing is changed
  bool watched = true;                // false: read once
  // The files of the setting `watch`; known once the settings are read.
  std::vector<std::string> watch;
  // Not empty: why the file cannot be used, whatever its content. `name` is then a made-up one.
  std::string wrong;
};

class PluginSources {
 public:
  struct Options {
    std::vector<PluginConfig> plugins;
    bool watch_plugins = false;
    std::vector<std::string> directories;
    bool signed_files = false;  // each plugin has a signature beside it
  };

  struct Problem {
    std::string name;  // of the plugin; "" for a directory
    std::string path;
    std::string text;      // one line
    std::string why = "";  // of a directory: the reason alone
    bool stray =
        false;  // a configuration or settings of no plugin, which keeps nothing from serving
  };

  struct Listing {
    std::vector<PluginFiles> plugins;
    std::vector<Problem> problems;
  };

  explicit PluginSources(Options options) : options_(std::move(options)) {}

  // A duplicate name is a problem of the later file. A file with an invalid name is listed with a
  // made-up name and the reason in `wrong`. A directory that cannot be read is a problem, and its
  // plugins are listed as before: nobody has removed them. A configuration or settings without a
  // shared object of that name is a problem, too, since a misspelled file would else be ignored in
  // silence.
  Listing List();

  // All paths on which List or the files' contents depend, for a DirectoryWatch.
  std::vector<std::string> WatchedPaths(const Listing& listing) const;

 private:
  std::optional<std::string> ReadDirectory(const std::string& directory,
                                           std::vector<PluginFiles>* plugins,
                                           std::vector<std::string>* texts) const;
  void ListStrays(const std::vector<PluginFiles>& plugins, const std::vector<std::string>& texts,
                  std::vector<Problem>* problems) const;
  bool IsOfCommandLine(const std::string& path) const;

  const Options options_;
  std::map<std::string, std::vector<PluginFiles>> last_;  // by directory
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_PLUGIN_SOURCES_H_
