// SPDX-License-Identifier: Apache-2.0

#include "host/reload/plugin_sources.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "host/base/nearest_name.h"
#include "host/base/status_text.h"
#include "host/reload/plugin_config.h"

namespace callout::host {
namespace {

namespace fs = std::filesystem;

using PathsByName = std::map<std::string, std::string, std::less<>>;

PluginFiles FilesOf(const PluginConfig& plugin, bool watched) {
  PluginFiles files;
  files.name = plugin.name;
  files.path = plugin.path;
  files.config_path = plugin.config_path;
  files.settings_path = plugin.settings_path;
  files.config = plugin.config;
  files.policy = plugin.policy;
  files.watched = watched;
  return files;
}

// A valid name like `name` that is not in use.
std::string MakeUpName(std::string_view name, const PathsByName& taken) {
  std::string legal(name.substr(0, 40));
  for (char& c : legal) {
    if (!CheckPluginName(std::string_view(&c, 1)).ok()) c = '_';
  }
  for (size_t number = 2;; ++number) {
    std::string made_up = fmt::format("{}_{}", legal, number);
    if (taken.count(made_up) == 0) return made_up;
  }
}

// For "did you mean": a short name is like too many others.
constexpr size_t kWrongLettersMax = 2;

// Whether a plugin of the same name has this file beside it.
bool IsText(const std::string& file) {
  return file.ends_with(".config") || file.ends_with(".settings");
}

PluginFiles FilesBeside(const std::string& directory, const std::string& name) {
  const std::string base = (fs::path(directory) / name).string();
  PluginFiles files;
  files.name = name;
  files.path = base + ".so";
  files.config_path = base + ".config";
  files.settings_path = base + ".settings";
  files.from_directory = true;
  return files;
}

}  // namespace

// What is wrong with the directory; none: nothing. `texts` are the paths of configurations and
// settings.
std::optional<std::string> PluginSources::ReadDirectory(const std::string& directory,
                                                        std::vector<PluginFiles>* plugins,
                                                        std::vector<std::string>* texts) const {
  std::error_code error;
  fs::directory_iterator entry(directory, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string file = entry->path().filename().string();
    // Editors and copying programs use temporary names that begin with a dot.
    if (file.starts_with('.')) continue;
    if (IsText(file)) texts->push_back((fs::path(directory) / file).string());
    if (!file.ends_with(".so")) continue;
    plugins->push_back(FilesBeside(directory, file.substr(0, file.size() - 3)));
  }
  if (error) return error.message();
  std::sort(plugins->begin(), plugins->end(),
            [](const PluginFiles& a, const PluginFiles& b) { return a.path < b.path; });
  std::sort(texts->begin(), texts->end());
  return std::nullopt;
}

// Whether --plugin or --plugin_settings name the file: a plugin elsewhere has it.
bool PluginSources::IsOfCommandLine(const std::string& path) const {
  return std::any_of(options_.plugins.begin(), options_.plugins.end(), [&](const auto& plugin) {
    return path == plugin.config_path || path == plugin.settings_path;
  });
}

void PluginSources::ListStrays(const std::vector<PluginFiles>& plugins,
                               const std::vector<std::string>& texts,
                               std::vector<Problem>* problems) const {
  std::vector<std::string_view> names;
  for (const PluginFiles& files : plugins) names.push_back(files.name);
  for (const std::string& path : texts) {
    const fs::path file = fs::path(path).filename();
    const std::string name = file.stem().string();
    const bool known = std::find(names.begin(), names.end(), name) != names.end();
    if (known || IsOfCommandLine(path)) continue;
    const std::string_view nearest =
        NearestName(name, names, std::min(kWrongLettersMax, name.size() / 2));
    const std::string meant =
        nearest.empty() ? ""
                        : fmt::format("; did you mean {}{}?", nearest, file.extension().string());
    Problem problem = {name, path,
                       fmt::format("{} is ignored: there is no {}.so beside it{}{} rename the "
                                   "file, or put the plugin there",
                                   path, name, meant, meant.empty() ? ";" : "")};
    problem.stray = true;
    problems->push_back(std::move(problem));
  }
}

PluginSources::Listing PluginSources::List() {
  Listing listing;
  PathsByName paths;
  const auto list_wrong = [&](PluginFiles files, std::string text) {
    listing.problems.push_back({files.name, files.path, text});
    files.wrong = std::move(text);
    files.name = MakeUpName(files.name, paths);
    paths.emplace(files.name, files.path);
    listing.plugins.push_back(std::move(files));
  };
  const auto add = [&](PluginFiles files) {
    if (options_.signed_files) files.signature_path = files.path + ".minisig";
    if (absl::Status status = CheckPluginName(files.name); !status.ok()) {
      std::string text =
          fmt::format("{} is ignored: {}; rename the file", files.path, MessageOf(status));
      return list_wrong(std::move(files), std::move(text));
    }
    const auto [taken, is_new] = paths.emplace(files.name, files.path);
    if (is_new) return listing.plugins.push_back(std::move(files));
    listing.problems.push_back(
        {files.name, files.path,
         fmt::format("{} is ignored: another plugin is named '{}', from {}; rename "
                     "one of the files",
                     files.path, files.name, taken->second)});
  };
  for (const PluginConfig& plugin : options_.plugins) add(FilesOf(plugin, options_.watch_plugins));
  for (const std::string& directory : options_.directories) {
    std::vector<PluginFiles> plugins;
    std::vector<std::string> texts;
    const std::optional<std::string> wrong = ReadDirectory(directory, &plugins, &texts);
    if (wrong.has_value()) {
      listing.problems.push_back(
          {"", directory,
           fmt::format(
               "cannot read --plugins_dir {}: {}; waiting for it, with {} plugins of it active",
               directory, *wrong, last_[directory].size()),
           *wrong});
    } else {
      ListStrays(plugins, texts, &listing.problems);
      last_[directory] = std::move(plugins);
    }
    for (PluginFiles files : last_[directory]) {
      files.reachable = !wrong.has_value();
      add(std::move(files));
    }
  }
  return listing;
}

std::vector<std::string> PluginSources::WatchedPaths(const Listing& listing) const {
  std::vector<std::string> paths = options_.directories;
  for (const PluginFiles& files : listing.plugins) {
    if (!files.watched) continue;
    for (const std::string& path :
         {files.path, files.config_path, files.settings_path, files.signature_path}) {
      if (!path.empty()) paths.push_back(path);
    }
  }
  return paths;
}

}  // namespace callout::host
