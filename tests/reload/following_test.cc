// SPDX-License-Identifier: Apache-2.0

// What the host does about plugin files that come, change and go, seen from outside.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <string>

#include "plugins_page.h"
#include "tests/integration/http_get.h"
#include "traffic.h"

namespace callout::tests {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class Following : public ::testing::Test {
 protected:
  static std::string Version(TestHost* host) {
    return ExchangeOnce(PlaintextChannel(host->address("plaintext"))).version;
  }

  static std::string HealthOnceItIsNot(const std::string& before, const ChannelPtr& channel) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    std::string health = before;
    while (health == before && std::chrono::steady_clock::now() < give_up) {
      health = GrpcHealth(channel, "");
    }
    return health;
  }

  host::TempDir directory_;
  PluginsDir plugins_{directory_.Path("plugins")};
  const std::string one_ = ReadFile(ReloadPlugin("version_one"));
  const std::string two_ = ReadFile(ReloadPlugin("version_two"));
};

TEST_F(Following, AFileDroppedIntoTheDirectoryServesUntilItIsRemoved) {
  TestHost host({"--plugins_dir=" + plugins_.path()});
  EXPECT_EQ(Version(&host), "");
  plugins_.Put("p.so", one_);
  host.AwaitLog("plugin p: generation 1 of ");
  EXPECT_EQ(Version(&host), "1");
  plugins_.Remove("p.so");
  host.AwaitLog("plugin p: " + plugins_.Path("p.so") + " is gone");
  EXPECT_EQ(Version(&host), "");
  EXPECT_EQ(host.Terminate(), 0);
}

TEST_F(Following, ThePageSaysWhatServes) {
  plugins_.Put("p.so", one_);
  TestHost host({"--plugins_dir=" + plugins_.path()});
  EXPECT_EQ(Version(&host), "1");
  const nlohmann::json plugin = GetPlugin(host.address("admin"), "p");
  EXPECT_EQ(plugin["state"], "serving");
  EXPECT_EQ(plugin["file"], plugins_.Path("p.so"));
  EXPECT_EQ(plugin["version"], "1");
  EXPECT_EQ(plugin["abi"], 1);
  EXPECT_EQ(plugin["hooks"],
            nlohmann::json({"callout_on_request_headers", "callout_on_response_headers"}));
  EXPECT_EQ(plugin["calls"], 2);
}

TEST_F(Following, AMissingDirectoryIsWaitedForIfNothingIsRequired) {
  const std::string missing = directory_.Path("not/yet");
  for (const char* command : {"--check", "--log_level=info"}) {
    const Finished refused = RunHost({"--plugins_dir=" + missing, command});
    EXPECT_EQ(refused.exit_status, 2);
    EXPECT_THAT(refused.output, HasSubstr("cannot read the plugins' directory " + missing));
  }
  TestHost host({"--plugins_dir=" + missing, "--require_plugins=none"});
  EXPECT_THAT(HttpGet(host.address("health")), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(host.Log(), HasSubstr("waiting for it"));
  PluginsDir late(missing);
  late.Put("p.so", one_);
  host.AwaitLog("plugin p: generation 1 of ");
  EXPECT_EQ(Version(&host), "1");
}

// As Kubernetes updates a mounted ConfigMap or Secret.
TEST_F(Following, ASwitchOfSymlinksReplacesPluginAndConfigurationTogether) {
  const PluginsDir first(plugins_.Path("..1")), second(plugins_.Path("..2"));
  PluginsDir(first).Put("p.so", one_);
  PluginsDir(second).Put("p.so", two_);
  fs::create_symlink("..1", plugins_.Path("..data"));
  fs::create_symlink("..data/p.so", plugins_.Path("p.so"));
  TestHost host({"--plugins_dir=" + plugins_.path()});
  EXPECT_EQ(Version(&host), "1");
  fs::create_symlink("..2", plugins_.Path("..data_tmp"));
  fs::rename(plugins_.Path("..data_tmp"), plugins_.Path("..data"));
  host.AwaitLog("plugin p: generation 2 of ");
  EXPECT_EQ(Version(&host), "2");
}

TEST_F(Following, APluginOfTheCommandLineIsFollowedIfAskedFor) {
  plugins_.Put("p.so", one_);
  TestHost host({"--plugin=" + plugins_.Path("p.so"), "--watch_plugins"});
  EXPECT_EQ(Version(&host), "1");
  plugins_.Put("p.so", two_);
  host.AwaitLog("plugin p: generation 2 of ");
  EXPECT_EQ(Version(&host), "2");
}

TEST_F(Following, APluginOfTheCommandLineMayBeOverwrittenWithoutBeingFollowed) {
  plugins_.Put("p.so", one_);
  TestHost host({"--plugin=" + plugins_.Path("p.so")});
  // The file that was loaded, were it not for the private copy.
  WriteFile(plugins_.Path("p.so"), std::string(one_.size(), '\xcc'));
  EXPECT_EQ(Version(&host), "1");
  EXPECT_EQ(host.Terminate(), 0);
}

TEST_F(Following, ASignalTriesRefusedFilesAgain) {
  plugins_.Put("p.so", ReadFile(BrokenPlugin("create_fails")));
  TestHost host({"--plugins_dir=" + plugins_.path()});
  EXPECT_THAT(host.Log(), HasSubstr("serving without plugin p: "));
  EXPECT_EQ(GetPlugin(host.address("admin"), "p")["state"], "refused");
  host.Signal(SIGHUP);
  host.AwaitLog("a stand-in answers its calls by its error policy");
}

// By HTTP, and by gRPC on both ports.
TEST_F(Following, AHostIsNotReadyWhileAStandInAnswersForAPlugin) {
  for (const char* workers : {"--workers=0", "--workers=2"}) {
    plugins_.Put("p.so", "broken");
    TestHost host({"--plugins_dir=" + plugins_.path(), workers});
    const ChannelPtr serving = PlaintextChannel(host.address("plaintext"));
    const ChannelPtr health = PlaintextChannel(host.address("health"));
    EXPECT_THAT(HttpGet(host.address("health")), StartsWith("HTTP/1.1 503 ")) << workers;
    EXPECT_EQ(GrpcHealth(serving, ""), "NOT_SERVING") << workers;
    EXPECT_EQ(GrpcHealth(health, ""), "NOT_SERVING") << workers;
    plugins_.Put("p.so", one_);
    host.AwaitLog("plugin p: generation ");
    EXPECT_EQ(Version(&host), "1");
    EXPECT_THAT(HttpGet(host.address("health")), StartsWith("HTTP/1.1 200 ")) << workers;
    for (const ChannelPtr& channel : {serving, health}) {
      EXPECT_EQ(HealthOnceItIsNot("NOT_SERVING", channel), "SERVING") << workers;
    }
  }
}

TEST_F(Following, RequiredPluginsFailTheStart) {
  plugins_.Put("p.so", "broken");
  const Finished required = RunHost({"--plugins_dir=" + plugins_.path(), "--require_plugins=all"});
  EXPECT_EQ(required.exit_status, 2);
  EXPECT_THAT(required.output, HasSubstr("cannot load plugin " + plugins_.Path("p.so") + ": "));
  TestHost optional({"--plugin=" + plugins_.Path("p.so"), "--require_plugins=none"});
  EXPECT_THAT(optional.Log(), HasSubstr("serving without plugin p: "));
  EXPECT_EQ(optional.Terminate(), 0);
}

TEST_F(Following, CopiesAreGoneWithTheHost) {
  const PluginsDir temporary(directory_.Path("tmp"));
  plugins_.Put("p.so", one_);
  {
    TestHost host({"--plugins_dir=" + plugins_.path()}, {"TMPDIR=" + temporary.path()});
    EXPECT_EQ(Version(&host), "1");
    EXPECT_FALSE(fs::is_empty(temporary.path()));
    EXPECT_EQ(host.Terminate(), 0);
  }
  EXPECT_TRUE(fs::is_empty(temporary.path()));
}

}  // namespace
}  // namespace callout::tests
