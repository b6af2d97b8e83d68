// SPDX-License-Identifier: Apache-2.0

// Bad days of the machine and of the operator: a full disk, a host that is the first process
// of its container, an end in the middle of something else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "ext_proc_client.h"
#include "http_get.h"
#include "test_host.h"
#include "tests/host/sockets.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;

// The host run by another program, which comes before it on the command line.
class WrappedHost {
 public:
  WrappedHost(std::vector<std::string> wrapper, const std::vector<std::string>& options)
      : process_(Command(std::move(wrapper), options)) {}

  std::string AwaitLog(const std::string& prefix) {
    return process_.AwaitLine(prefix).value_or("");
  }
  ChannelPtr Channel() { return PlaintextChannel(AwaitLog("listening plaintext ")); }
  std::string Output() { return process_.Output(); }
  // The host's own process, which is the wrapper's only child.
  pid_t host() const {
    const std::string pid = std::to_string(process_.pid());
    std::ifstream children("/proc/" + pid + "/task/" + pid + "/children");
    pid_t child = 0;
    children >> child;
    return child;
  }
  pid_t pid() const { return process_.pid(); }
  int AwaitEnd() { return process_.AwaitEnd(); }

 private:
  static std::vector<std::string> Command(std::vector<std::string> wrapper,
                                          const std::vector<std::string>& options) {
    const std::vector<std::string> host = HostCommand(options);
    wrapper.insert(wrapper.end(), host.begin(), host.end());
    for (const char* listener : {"secure", "plaintext", "health_check", "admin"}) {
      wrapper.push_back("--" + std::string(listener) + "_address=127.0.0.1:0");
    }
    return wrapper;
  }

  ChildProcess process_;
};

// With a user namespace where that is needed, and where it may be made.
std::vector<std::string> Unshare(std::vector<std::string> what) {
  std::vector<std::string> command = {"/usr/bin/unshare"};
  if (geteuid() != 0) command.push_back("--map-root-user");
  command.insert(command.end(), what.begin(), what.end());
  return command;
}
bool MayUnshare(const std::vector<std::string>& what) {
  std::vector<std::string> command = Unshare(what);
  command.push_back("/bin/true");
  return ChildProcess(command).AwaitEnd() == 0;
}

// Before this there was no one to give signals a default action, and `exit 143` of a
// container was a kill after the grace period.
TEST(Faults, TheFirstProcessOfAContainerDrainsOnSigterm) {
  const std::vector<std::string> alone = {"--pid", "--fork", "--kill-child"};
  if (!MayUnshare(alone)) GTEST_SKIP() << "no new namespace for processes may be made";
  WrappedHost host(Unshare(alone), {"--drain_timeout_ms=600000"});
  LiveStream stream(host.Channel());
  ASSERT_TRUE(stream.Exchange(RequestHeaders({})).has_value());
  kill(host.host(), SIGTERM);
  host.AwaitLog("draining: ");
  EXPECT_TRUE(stream.Exchange(RequestBody("during the drain")).has_value());
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_EQ(host.AwaitEnd(), 0);
}

TEST(Faults, TheFirstProcessOfAContainerEndsOnASecondSigterm) {
  const std::vector<std::string> alone = {"--pid", "--fork", "--kill-child"};
  if (!MayUnshare(alone)) GTEST_SKIP() << "no new namespace for processes may be made";
  WrappedHost host(Unshare(alone), {"--drain_timeout_ms=600000"});
  LiveStream stream(host.Channel());
  ASSERT_TRUE(stream.Exchange(RequestHeaders({})).has_value());
  const pid_t process = host.host();
  kill(process, SIGTERM);
  host.AwaitLog("draining: ");
  kill(process, SIGTERM);
  EXPECT_EQ(host.AwaitEnd(), 128 + SIGTERM);
}

// The copies' place is a file system of 256 KiB: the first version fits, the next does not.
TEST(Faults, AFullDiskForPrivateCopiesKeepsTheVersionThatServes) {
  if (!MayUnshare({"--mount"})) GTEST_SKIP() << "no new namespace for mounts may be made";
  const host::TempDir directory;
  const std::string plugins = directory.Path("plugins");
  const std::string copies = directory.Path("copies");
  std::filesystem::create_directories(plugins);
  std::filesystem::create_directories(copies);
  const auto put = [&](size_t padding) {
    const std::string beside = plugins + "/.p.so";
    std::filesystem::copy_file(BuiltPlugin("basic"), beside);
    std::ofstream(beside, std::ios::app | std::ios::binary) << std::string(padding, '\n');
    std::filesystem::rename(beside, plugins + "/p.so");
  };
  put(1);
  const size_t blocks = std::filesystem::file_size(plugins + "/p.so") / 1024 + 64;
  WrappedHost host(Unshare({"--mount", "/bin/sh", "-c",
                            "mount -t tmpfs -o size=" + std::to_string(blocks) + "k none " +
                                copies + " && TMPDIR=" + copies + " exec \"$@\"",
                            "sh"}),
                   {"--plugins_dir=" + plugins});
  const ChannelPtr channel = host.Channel();
  put(128 << 10);
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (host.Output().find("No space left on device; free some space there") ==
         std::string::npos) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up) << host.Output();
  }
  const auto response = LiveStream(channel).Exchange(RequestHeaders({}));
  ASSERT_TRUE(response.has_value());
  EXPECT_THAT(response->ShortDebugString(), HasSubstr("header_mutation"));
  kill(host.pid(), SIGTERM);
  EXPECT_EQ(host.AwaitEnd(), 0);
}

// A new version's create never returns; what serves drains as ever.
TEST(Faults, SigtermDuringAReloadDrains) {
  const host::TempDir directory;
  std::filesystem::create_directories(directory.Path("plugins"));
  const std::string plugin = directory.Path("plugins") + "/p.so";
  std::filesystem::copy_file(BuiltPlugin("basic"), plugin);
  TestHost host({"--plugins_dir=" + directory.Path("plugins")});
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  ASSERT_TRUE(stream.Exchange(RequestHeaders({})).has_value());
  std::ofstream(directory.Path("plugins") + "/p.config") << "/there/is/no/such/file";
  std::filesystem::copy_file(BuiltFile("tests/integration/slow_create.so"), plugin + ".new");
  std::filesystem::rename(plugin + ".new", plugin);
  host.AwaitLog("plugin p: creating");
  host.Signal(SIGTERM);
  host.AwaitLog("draining: ");
  EXPECT_TRUE(stream.Exchange(ResponseHeaders({})).has_value());
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_EQ(host.AwaitEnd(), 0);
}

// A call that its plugin never finishes.
TEST(Faults, SigtermInADeferredCallEndsTheStreamAtTheDrainsEnd) {
  TestHost host({"--plugin=" + BuiltFile("tests/integration/hold.so"), "--drain_timeout_ms=100"});
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  stream.Send(RequestHeaders({}));
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (MetricOf(host.address("admin"), "callout_deferred_calls") != 1) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up);
  }
  host.Signal(SIGTERM);
  EXPECT_EQ(host.AwaitEnd(), 0);
  EXPECT_FALSE(stream.Finish().ok());
}

TEST(Faults, ACrashInATimerNamesThePluginBeforeTheProcessDies) {
  TestHost host({"--plugin=" + BuiltFile("tests/integration/timer_faults.so"),
                 "--plugin_config=timer_faults=crash"});
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  stream.Send(RequestHeaders({}));
  EXPECT_NE(host.AwaitEnd(), 0);
  EXPECT_THAT(host.Log(),
              HasSubstr("SIGSEGV while plugin timer_faults ran a timer that it has started\n"));
}

}  // namespace
}  // namespace callout::tests
