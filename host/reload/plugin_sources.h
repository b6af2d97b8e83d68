// SPDX-License-Identifier: Apache-2.0

// Which plugins the operator wants, in chain order: those of --plugin, then the
// `*.so` of each --plugins_dir in lexical order.
//
//   PluginSources sources({.plugins = config.plugins, .directories = config.plugins_dirs});
//   for (const PluginFiles& files : sources.List().plugins) …
//
// Reads directories, no files. Not for use by two threads at once.
#ifndef CALLOUT_HOST_RELOAD_PLUGIN_SOURCES_H_
#define CALLOUT_HOST_RELOAD_PLUGIN_SOURCES_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "host/plugin/settings.h"
#include "host/reload/plugin_config.h"

namespace callout::host {

// One wanted instance and the files that it is made of.
struct PluginFiles {
  std::string name;
  std::string path;           // of the shared object
  std::string config_path;    // "": `config` is the text
  std::string settings_path;  // "": none
  std::string config;
  std::optional<ErrorPolicy> policy;  // above what the settings say
  bool from_directory = false;        // then config and settings need not exist
  bool reachable = true;              // false: its directory cannot be read; leave it as it is
  bool watched = true;                // false: read once
  // Files that the plugin's settings tell to follow ("watch"); known once the settings were read.
  std::vector<std::string> watch;
  // Not empty: the file cannot be taken, whatever it holds, and why. `name` is made up then.
  std::string wrong;
};

class PluginSources {
 public:
  struct Options {
    std::vector<PluginConfig> plugins;
    bool watch_plugins = false;
    std::vector<std::string> directories;
  };

  struct Problem {
    std::string name;  // of the plugin; "" for a directory
    std::string path;
    std::string text;      // one line
    std::string why = "";  // of a directory: what is wrong with it, alone
  };

  struct Listing {
    std::vector<PluginFiles> plugins;
    std::vector<Problem> problems;
  };

  explicit PluginSources(Options options) : options_(std::move(options)) {}

  // A name that is taken already is a problem of the later file. A file whose name is none is
  // listed with a name made up for it and the reason in `wrong`. A directory that cannot be read is
  // a problem, and the plugins it had are listed as they were: nobody has removed them one by one.
  Listing List();

  // Whatever List or the files' contents depend on, for a DirectoryWatch.
  std::vector<std::string> WatchedPaths(const Listing& listing) const;

 private:
  std::optional<std::string> ReadDirectory(const std::string& directory,
                                           std::vector<PluginFiles>* plugins) const;

  const Options options_;
  std::map<std::string, std::vector<PluginFiles>> last_;  // by directory
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_PLUGIN_SOURCES_H_
