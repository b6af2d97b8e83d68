// SPDX-License-Identifier: Apache-2.0

// A machine on a bad day, which bad_machine.c makes of it for the host: the clock is set, and the
// file system of the plugins hangs or fails. Descriptors run out by a limit.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "ext_proc_client.h"
#include "host/base/owned_fd.h"
#include "http_get.h"
#include "test_host.h"
#include "tests/host/sockets.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int64_t kYearS = 365 * 86400;

class BadMachine : public ::testing::Test {
 protected:
  enum class Files : int64_t { kWell = 0, kHang = 1, kFail = 2 };

  void SetUp() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "sanitizers have to be the first library";
#endif
    std::filesystem::create_directories(plugins_);
    Put("p.so");
    ASSERT_EQ(ftruncate(state_.get(), sizeof(int64_t) * 3), 0);
  }

  std::vector<std::string> Environment() const {
    return {"LD_PRELOAD=" + BuiltFile("tests/integration/libbad_machine.so"),
            "BAD_MACHINE_STATE=" + directory_.Path("state"), "BAD_MACHINE_PATHS=" + plugins_};
  }
  void SetClock(int64_t offset_s) { Write(0, offset_s); }
  void SetFiles(Files files) { Write(1, static_cast<int64_t>(files)); }
  // Until the host has met a file that is not well, since Forget().
  void AwaitMeeting() {
    int64_t met = 0;
    Await([&] {
      EXPECT_EQ(pread(state_.get(), &met, sizeof(met), 2 * sizeof(met)), ssize_t{sizeof(met)});
      return met > 0;
    });
  }
  template <class Condition>
  void Await(Condition condition) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!condition()) ASSERT_LT(std::chrono::steady_clock::now(), give_up);
  }

  // Another version of the plugin each time.
  void Put(const std::string& name) {
    const std::string beside = plugins_ + "/." + name;
    std::filesystem::copy_file(BuiltPlugin("basic"), beside,
                               std::filesystem::copy_options::overwrite_existing);
    std::ofstream(beside, std::ios::app | std::ios::binary) << std::string(++versions_, '\n');
    std::filesystem::rename(beside, plugins_ + "/" + name);
  }

  // The plugin changes a stream of its own, and all pages are there.
  static void ExpectServed(TestHost* host) {
    const auto response =
        LiveStream(PlaintextChannel(host->address("plaintext"))).Exchange(RequestHeaders({}));
    ASSERT_TRUE(response.has_value());
    EXPECT_THAT(response->ShortDebugString(), HasSubstr("header_mutation"));
    EXPECT_THAT(HttpGet(host->address("health")), StartsWith("HTTP/1.1 200 "));
    for (const char* page : {"/plugins", "/metrics"}) {
      EXPECT_THAT(HttpGet(host->address("admin"), "GET", page), StartsWith("HTTP/1.1 200 "));
    }
  }

  const host::TempDir directory_;
  const std::string plugins_ = directory_.Path("plugins");

 private:
  void Write(int index, int64_t value) {
    ASSERT_EQ(pwrite(state_.get(), &value, sizeof(value), index * sizeof(value)),
              ssize_t{sizeof(value)});
  }

  const host::OwnedFd state_{
      open(directory_.Path("state").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  size_t versions_ = 0;
};

// gRPC C++ waits until a time of day, and so may wait for as long as a clock is set back.
TEST_F(BadMachine, AClockThatIsSetEndsNoCallAndKeepsNoneAlive) {
  if (TransportOption() == "--transport=grpc") GTEST_SKIP() << "gRPC waits by the time of day";
  const std::string hold = "--plugin=" + BuiltFile("tests/integration/hold.so");
  {
    TestHost host({hold, "--hook_deadline_ms=600000"}, Environment());
    LiveStream held(PlaintextChannel(host.address("plaintext")));
    held.Send(RequestHeaders({}));
    Await([&] { return MetricOf(host.address("admin"), "callout_deferred_calls") == 1; });
    for (const int64_t offset_s : {kYearS, -kYearS}) {
      SetClock(offset_s);
      EXPECT_THAT(HttpGet(host.address("health")), StartsWith("HTTP/1.1 200 "));
      EXPECT_EQ(MetricOf(host.address("admin"), "callout_deferred_calls"), 1);
    }
    LiveStream next(PlaintextChannel(host.address("plaintext")));
    EXPECT_TRUE(next.Exchange(RequestHeaders({})).has_value());
    EXPECT_TRUE(held.Receive().has_value()) << "the next call finishes it";
    EXPECT_TRUE(held.Finish().ok());
    EXPECT_TRUE(next.Finish().ok());
    EXPECT_EQ(host.Terminate(), 0);
  }
  SetClock(0);
  TestHost host({hold, "--hook_deadline_ms=200", "--drain_timeout_ms=200"}, Environment());
  LiveStream held(PlaintextChannel(host.address("plaintext")));
  held.Send(RequestHeaders({}));
  SetClock(-kYearS);
  EXPECT_FALSE(held.Finish().ok()) << "its deadline has come";
  LiveStream second(PlaintextChannel(host.address("plaintext")));
  ASSERT_TRUE(second.Exchange(RequestHeaders({})).has_value()) << "it finishes the one held";
  host.Signal(SIGTERM);
  SetClock(-2 * kYearS);
  EXPECT_EQ(host.AwaitEnd(), 0) << "the drain's end has come";
}

TEST_F(BadMachine, ADirectoryThatHangsDelaysNothingButItsPlugins) {
  TestHost host({"--plugins_dir=" + plugins_}, Environment());
  ExpectServed(&host);
  SetFiles(Files::kHang);
  Put("p.so");
  AwaitMeeting();
  ExpectServed(&host);
  SetFiles(Files::kWell);
  host.AwaitLog("plugin p: generation 2 of ");
  ExpectServed(&host);
  EXPECT_EQ(host.Terminate(), 0);
}

TEST_F(BadMachine, ADirectoryThatHangsDoesNotKeepTheHostFromDraining) {
  TestHost host({"--plugins_dir=" + plugins_}, Environment());
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  ASSERT_TRUE(stream.Exchange(RequestHeaders({})).has_value());
  SetFiles(Files::kHang);
  Put("p.so");
  AwaitMeeting();
  host.Signal(SIGTERM);
  host.AwaitLog("draining: ");
  EXPECT_TRUE(stream.Exchange(ResponseHeaders({})).has_value());
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_EQ(host.AwaitEnd(), 0);
}

TEST_F(BadMachine, ADirectoryThatFailsTakesNothingOutOfService) {
  TestHost host({"--plugins_dir=" + plugins_}, Environment());
  ExpectServed(&host);
  SetFiles(Files::kFail);
  Put("p.so");
  AwaitMeeting();
  Await([&] { return host.Log().find("Input/output error") != std::string::npos; });
  ExpectServed(&host);
  SetFiles(Files::kWell);
  host.AwaitLog("plugin p: generation 2 of ");
  ExpectServed(&host);
  EXPECT_EQ(host.Terminate(), 0);
}

// Of a process that runs: nothing that is open is closed by it. What was the limit before.
rlim_t LimitDescriptors(pid_t process, rlim_t descriptors) {
  rlimit limit = {};
  EXPECT_EQ(prlimit(process, RLIMIT_NOFILE, nullptr, &limit), 0);
  const rlim_t before = std::exchange(limit.rlim_cur, descriptors);
  EXPECT_EQ(prlimit(process, RLIMIT_NOFILE, &limit, nullptr), 0);
  return before;
}

TEST_F(BadMachine, WithoutDescriptorsAReloadChangesNothing) {
  TestHost host({"--plugins_dir=" + plugins_});
  LiveStream stream(PlaintextChannel(host.address("plaintext")));
  ASSERT_TRUE(stream.Exchange(RequestHeaders({})).has_value());
  const rlim_t before = LimitDescriptors(host.pid(), 3);
  Put("p.so");
  Await([&] { return host.Log().find("Too many open files") != std::string::npos; });
  const auto response = stream.Exchange(ResponseHeaders({}));
  ASSERT_TRUE(response.has_value());
  EXPECT_THAT(response->ShortDebugString(), HasSubstr("header_mutation"));
  LimitDescriptors(host.pid(), before);
  host.AwaitLog("plugin p: generation 2 of ");
  ExpectServed(&host);
  EXPECT_EQ(host.Terminate(), 0);
}

}  // namespace
}  // namespace callout::tests
