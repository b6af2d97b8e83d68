// SPDX-License-Identifier: Apache-2.0

#include "host/reload/plugin_sources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "sockets.h"

namespace callout::host {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PluginSourcesTest : public ::testing::Test {
 protected:
  void Touch(const std::string& name) { std::ofstream(directory_.Path(name)) << "x"; }

  static std::vector<std::string> Names(const PluginSources::Listing& listing) {
    std::vector<std::string> names;
    for (const PluginFiles& files : listing.plugins) names.push_back(files.name);
    return names;
  }

  static PluginConfig Plugin(const std::string& name) {
    PluginConfig plugin;
    plugin.name = name;
    plugin.path = "/elsewhere/" + name + ".so";
    return plugin;
  }

  TempDir directory_;
};

TEST_F(PluginSourcesTest, ListsSharedObjectsInTheOrderOfTheirFileNames) {
  for (const char* name : {"20-b.so", "10-a.so", "10-a.config", "b.so", "b-c.so", "B.so", "read.me",
                           ".hidden.so", "so"}) {
    Touch(name);
  }
  fs::create_directory(directory_.Path("00-directory.so"));
  PluginSources sources({.plugins = {}, .directories = {directory_.Path("")}});
  const auto listing = sources.List();
  // A directory in a file's place is what docker makes of a mount whose source is missing.
  EXPECT_THAT(Names(listing), ElementsAre("00-directory", "10-a", "20-b", "B", "b-c", "b"));
  EXPECT_THAT(listing.problems, IsEmpty());
  EXPECT_EQ(listing.plugins[1].path, directory_.Path("10-a.so"));
  EXPECT_EQ(listing.plugins[1].config_path, directory_.Path("10-a.config"));
  EXPECT_EQ(listing.plugins[1].settings_path, directory_.Path("10-a.settings"));
}

TEST_F(PluginSourcesTest, PutsThoseOfTheCommandLineFirstAndDirectoriesInTheOrderGiven) {
  for (const char* name : {"1", "2"}) fs::create_directory(directory_.Path(name));
  Touch("1/a.so");
  Touch("2/b.so");
  PluginSources sources({.plugins = {Plugin("z"), Plugin("y")},
                         .directories = {directory_.Path("2"), directory_.Path("1")}});
  EXPECT_THAT(Names(sources.List()), ElementsAre("z", "y", "b", "a"));
}

TEST_F(PluginSourcesTest, ANameThatIsTakenIsAProblemOfTheLaterFile) {
  Touch("a.so");
  PluginSources sources({.plugins = {Plugin("a")}, .directories = {directory_.Path("")}});
  const auto listing = sources.List();
  EXPECT_THAT(Names(listing), ElementsAre("a"));
  EXPECT_EQ(listing.plugins[0].path, "/elsewhere/a.so");
  ASSERT_EQ(listing.problems.size(), 1u);
  EXPECT_EQ(listing.problems[0].name, "a");
  EXPECT_THAT(
      listing.problems[0].text,
      HasSubstr("another plugin is named 'a', from /elsewhere/a.so; rename one of the files"));
}

TEST_F(PluginSourcesTest, ANameThatIsNoNameIsAProblem) {
  Touch("a b.so");
  PluginSources sources({.plugins = {}, .directories = {directory_.Path("")}});
  const auto listing = sources.List();
  EXPECT_THAT(Names(listing), ElementsAre("a_b_2")) << "a made-up name, to be refused under";
  EXPECT_EQ(listing.plugins[0].wrong, listing.problems.at(0).text);
  ASSERT_EQ(listing.problems.size(), 1u);
  EXPECT_THAT(listing.problems[0].text, HasSubstr("'a b' is not a valid plugin name"));
  EXPECT_THAT(listing.problems[0].text, HasSubstr("rename the file"));
}

TEST_F(PluginSourcesTest, ConfigurationsAndSettingsOfNoPluginAreProblems) {
  for (const char* name : {"auth.so", "auth.config", "auth.settings", "auht.settings", "x.config",
                           ".auth2.settings", "notes.txt"}) {
    Touch(name);
  }
  PluginSources sources({.plugins = {}, .directories = {directory_.Path("")}});
  const auto listing = sources.List();
  EXPECT_THAT(Names(listing), ElementsAre("auth"));
  ASSERT_EQ(listing.problems.size(), 2u);
  EXPECT_TRUE(listing.problems[0].stray);
  EXPECT_EQ(listing.problems[0].name, "auht");
  EXPECT_EQ(listing.problems[0].text,
            directory_.Path("auht.settings") +
                " is ignored: there is no auht.so beside it; did you mean auth.settings? rename "
                "the file, or put the plugin there");
  EXPECT_EQ(
      listing.problems[1].text,
      directory_.Path("x.config") +
          " is ignored: there is no x.so beside it; rename the file, or put the plugin there");
}

TEST_F(PluginSourcesTest, WhatAPluginOfTheCommandLineHasInTheDirectoryIsItsOwn) {
  Touch("a.settings");
  PluginConfig plugin = Plugin("a");
  plugin.settings_path = directory_.Path("a.settings");
  PluginSources sources({.plugins = {plugin}, .directories = {directory_.Path("")}});
  EXPECT_THAT(sources.List().problems, IsEmpty());
}

TEST_F(PluginSourcesTest, ADirectoryThatIsGoneKeepsThePluginsItHad) {
  fs::create_directory(directory_.Path("plugins"));
  Touch("plugins/a.so");
  PluginSources sources({.plugins = {}, .directories = {directory_.Path("plugins")}});
  EXPECT_THAT(Names(sources.List()), ElementsAre("a"));
  fs::remove_all(directory_.Path("plugins"));
  const auto listing = sources.List();
  EXPECT_THAT(Names(listing), ElementsAre("a"));
  ASSERT_EQ(listing.problems.size(), 1u);
  EXPECT_THAT(listing.problems[0].text, HasSubstr("No such file or directory; waiting for it"));
  fs::create_directory(directory_.Path("plugins"));
  EXPECT_THAT(Names(sources.List()), IsEmpty()) << "it is there, and the file is not in it";
}

TEST_F(PluginSourcesTest, WatchesThePluginsOfTheCommandLineIfToldTo) {
  PluginConfig plugin = Plugin("a");
  plugin.config_path = "/elsewhere/a.json";
  for (bool watch : {false, true}) {
    PluginSources sources({.plugins = {plugin}, .watch_plugins = watch, .directories = {}});
    const auto listing = sources.List();
    const auto paths = sources.WatchedPaths(listing);
    EXPECT_EQ(listing.plugins[0].watched, watch);
    if (watch) {
      EXPECT_THAT(paths, ElementsAre("/elsewhere/a.so", "/elsewhere/a.json"));
    } else {
      EXPECT_THAT(paths, IsEmpty());
    }
  }
}

}  // namespace
}  // namespace callout::host
