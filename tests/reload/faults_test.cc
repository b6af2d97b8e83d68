// SPDX-License-Identifier: Apache-2.0

// What plugins do to the process that they run in, short of ending it at once: with
// workers it is the worker's loss, and the host serves, is seen to and ends as ever.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "host/net/certificate.h"
#include "tests/integration/http_get.h"
#include "workers_fixture.h"

namespace callout::tests {
namespace {

using ::testing::StartsWith;

class Faults : public Workers {
 protected:
  // Both workers serve, the pages are there, and the host ends when it is told to.
  void ExpectAllIsWell() {
    Await([this] {
      return Version() == "deadly" && Version() == "deadly" &&
             GetMetric(Admin(), "callout_workers ") == 2;
    });
    EXPECT_THAT(HttpGet(host_->address("health")), StartsWith("HTTP/1.1 200 "));
    EXPECT_EQ(host_->Terminate(), 0);
  }
  // What the plugin does may or may not end the worker: the next stream decides.
  void DoInBothWorkers(const std::string& what) {
    for (int i = 0; i < 4; ++i) Do(what);
  }
};

TEST_F(Faults, AChildOfAPluginsDoesNotKeepTheHostFromEnding) {
  Start("deadly");
  EXPECT_TRUE(Do("fork").ok());
  ExpectAllIsWell();
}

TEST_F(Faults, APluginThatTakesAllSignalsDoesNotKeepTheHostFromEnding) {
  Start("deadly");
  DoInBothWorkers("take_signals");
  ExpectAllIsWell();
}

TEST_F(Faults, AWorkerWhosePluginClosesItsDescriptorsIsReplaced) {
  Start("deadly", "", {"--quarantine=0/60"});
  const std::map<int, pid_t> before = Processes();
  Do("close_descriptors");
  AwaitAnotherThan(before);
  ExpectAllIsWell();
}

// Its supervisor reads the table of hooks when the worker has ended.
TEST_F(Faults, WhatAPluginScribblesIsNotBelievedByTheSupervisor) {
  Start("deadly", "", {"--quarantine=0/60"});
  for (int i = 0; i < 3; ++i) {
    const std::map<int, pid_t> before = Processes();
    EXPECT_FALSE(Do("scribble").ok());
    AwaitAnotherThan(before);
  }
  EXPECT_EQ(GetMetric(Admin(), "callout_worker_ends_total "), 3);
  ExpectAllIsWell();
}

TEST_F(Faults, AHookThatSpinsEndsItsWorkerAsOneThatSleepsDoes) {
  Start("deadly", "", {"--watchdog_ms=300"});
  const std::map<int, pid_t> before = Processes();
  EXPECT_FALSE(Do("spin").ok());
  AwaitAnotherThan(before);
  EXPECT_THAT(Plugin()["last_crash"].get<std::string>(),
              StartsWith("plugin p has been in callout_on_request_headers for "));
  ExpectAllIsWell();
}

// The limit holds for every process, and the plugin takes all of it in one.
TEST_F(Faults, AWorkerWithoutMemoryIsReplacedOrServesOn) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need more addresses than any limit leaves";
#endif
  plugins_.Put("p.so", ReadFile(ReloadPlugin("deadly")));
  host_.emplace(std::vector<std::string>{"--workers=2", "--quarantine=0/60",
                                         "--plugins_dir=" + plugins_.path()},
                std::vector<std::string>{"prlimit", "--as=" + std::to_string(size_t{8} << 30)});
  Do("leak");
  ExpectAllIsWell();
}

TEST_F(Faults, NoProgramThatAWorkerStartsGainsPrivileges) {
  Start("deadly");
  for (const auto& [number, process] : Processes()) {
    EXPECT_EQ(ProcessStatus(process, "NoNewPrivs"), 1);
  }
  EXPECT_EQ(ProcessStatus(host_->pid(), "NoNewPrivs"), 0);
}

// What the plugin tells of its process.
std::string Dumpable(const ChannelPtr& channel) {
  LiveStream stream(channel);
  const auto response = stream.Exchange(RequestHeaders({{"x-do", "tell_dumpable"}}));
  return response.has_value() ? VersionOf(*response) : "";
}

TEST_F(Faults, AProcessWithAPrivateKeyLeavesNoCoreDump) {
  const host::KeyPair pair = *host::MakeSelfSignedKeyPair();
  WriteFile(directory_.Path("chain.pem"), pair.chain_pem);
  WriteFile(directory_.Path("key.pem"), pair.key_pem);
  const std::vector<std::string> key = {"--cert_chain_path=" + directory_.Path("chain.pem"),
                                        "--private_key_path=" + directory_.Path("key.pem")};
  const auto with = [&](const char* option) {
    std::vector<std::string> options = key;
    options.emplace_back(option);
    return options;
  };
  Start("deadly");
  EXPECT_EQ(Dumpable(Channel()), "dumpable");
  for (const char* workers : {"--workers=0", "--workers=1"}) {
    Start("deadly", "", with(workers));
    EXPECT_EQ(Dumpable(Channel()), "not dumpable") << workers;
  }
  Start("deadly", "", with("--core_dumps=on"));
  EXPECT_EQ(Dumpable(Channel()), "dumpable");
}

}  // namespace
}  // namespace callout::tests
