// SPDX-License-Identifier: Apache-2.0

// A host with workers: what a crash, a kill, a hang and a reload do to whom.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <filesystem>
#include <iostream>
#include <map>
#include <regex>
#include <set>
#include <thread>

#include "tests/integration/http_get.h"
#include "workers_fixture.h"

namespace callout::tests {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST_F(Workers, AKilledWorkerTakesOnlyItsOwnStreamsWithIt) {
  Start("counting", "a");
  std::deque<Open> open = OpenInEveryWorker(3);
  const std::map<int, pid_t> before = Processes();
  ASSERT_EQ(before.size(), 2u);
  const std::string lost = fmt::format("a@{}", before.at(1));
  ASSERT_EQ(kill(before.at(1), SIGKILL), 0);
  AwaitAnotherThan(before);
  for (Open& one : open) {
    const auto answer = one.stream->Exchange(ResponseHeaders({}));
    EXPECT_EQ(answer.has_value(), one.version != lost) << one.version;
    if (answer.has_value()) {
      EXPECT_EQ(VersionOf(*answer), one.version);
    }
    one.stream.reset();
  }
  EXPECT_THAT(Version(), StartsWith("a@"));
  host_->AwaitLog("SIGKILL (9) from outside");
  EXPECT_EQ(Plugin()["crashes"], 0) << "a kill is no crash of the plugin's";
  EXPECT_EQ(GetMetric(Admin(), "callout_worker_ends_total "), 1);
  EXPECT_EQ(host_->Terminate(), 0);
}

TEST_F(Workers, ConnectionsAreSharedOut) {
  Start("counting", "a");
  std::deque<std::unique_ptr<LiveStream>> streams;
  std::map<std::string, int> of_worker;
  for (int i = 0; i < 16; ++i) {
    streams.push_back(std::make_unique<LiveStream>(Channel()));
    const auto answer = streams.back()->Exchange(RequestHeaders({}));
    ASSERT_TRUE(answer.has_value());
    ++of_worker[VersionOf(*answer)];
  }
  ASSERT_EQ(of_worker.size(), 2u);
  // Eight each on an idle machine.
  for (const auto& [worker, connections] : of_worker) EXPECT_GE(connections, 3) << worker;
  streams.clear();
  EXPECT_EQ(host_->Terminate(), 0);
}

TEST_F(Workers, OthersAreServedWhileWorkersAreKilledOneAfterTheOther) {
  Start("counting", "a");
  constexpr int kKills = 5;
  Traffic traffic(host_->address("plaintext"), 4);
  traffic.AwaitStreams(200);
  for (int i = 0; i < kKills; ++i) {
    const std::map<int, pid_t> before = Processes();
    ASSERT_EQ(kill(before.at(i % 2 + 1), SIGKILL), 0);
    AwaitAnotherThan(before);
    traffic.AwaitStreams(200);
  }
  const TrafficReport report = traffic.Stop();
  // Each of the four connections has at most one stream under way, and then connects anew.
  EXPECT_LE(report.failed, 4u * kKills * 2) << report.first_failure;
  EXPECT_EQ(report.mixed, 0u);
  std::cout << fmt::format("{} streams, {} of them lost to {} kills, p99 {:.1f} ms\n",
                           report.streams, report.failed, kKills, report.Percentile(0.99));
  const std::string log = host_->Log();
  const std::regex line("serves again, [0-9]+ ms after the one before ended");
  for (std::sregex_iterator match(log.begin(), log.end(), line), end; match != end; ++match) {
    std::cout << match->str() << "\n";
  }
}

class WorkerCrash : public Workers,
                    public ::testing::WithParamInterface<std::pair<const char*, const char*>> {};

TEST_P(WorkerCrash, IsThePluginsThatRanAndAnotherWorkerTakesThePlace) {
  const auto& [what, words] = GetParam();
  Start("deadly");
  const std::map<int, pid_t> before = Processes();
  EXPECT_FALSE(Do(what).ok());
  AwaitAnotherThan(before);
  const nlohmann::json plugin = Plugin();
  EXPECT_EQ(plugin["state"], "serving");
  EXPECT_EQ(plugin["crashes"], 1);
  EXPECT_EQ(plugin["last_crash"],
            fmt::format("{} while plugin p ran callout_on_request_headers", words));
  EXPECT_EQ(GetMetric(Admin(), "callout_plugin_crashes_total{plugin=\"p\"}"), 1);
  EXPECT_EQ(Version(), "deadly");
}

INSTANTIATE_TEST_SUITE_P(By, WorkerCrash,
                         ::testing::Values(std::pair("segfault", "SIGSEGV (11)"),
                                           std::pair("abort", "SIGABRT (6)"),
                                           std::pair("overflow", "SIGSEGV (11)"),
                                           std::pair("exit", "exit status 3"),
                                           std::pair("_exit", "exit status 3")),
                         [](const auto& info) {
                           const std::string name = info.param.first;
                           return name == "_exit" ? "underscore_exit" : name;
                         });

TEST_F(Workers, APluginThatCrashesTooOftenIsLeftOutUntilItsFileChanges) {
  Start("deadly", "", {"--quarantine=3/600"}, R"({"policy": "continue"})");
  for (int crashes = 1; crashes <= 3; ++crashes) {
    EXPECT_EQ(Version(), "deadly");
    const std::map<int, pid_t> before = Processes();
    Do("segfault");
    AwaitAnotherThan(before);
    EXPECT_EQ(Plugin()["crashes"], crashes);
  }
  nlohmann::json plugin = Plugin();
  EXPECT_EQ(plugin["state"], "quarantined");
  EXPECT_THAT(plugin["quarantined"].get<std::string>(), HasSubstr("after 3 crashes"));
  EXPECT_EQ(GetMetric(Admin(), "callout_plugin_quarantined{plugin=\"p\"}"), 1);
  host_->AwaitLog("plugin p is in quarantine after 3 crashes, the last one: SIGSEGV (11) while ");
  // In both workers, and policy `continue` goes on without it.
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(Do("segfault").ok());
  EXPECT_EQ(GetMetric(Admin(), "callout_worker_ends_total "), 3);
  EXPECT_EQ(Version(), "an answer without a version");

  plugins_.Put("p.so", ReadFile(ReloadPlugin("deadly")) + "\nanother\n");
  host_->AwaitLog("plugin p: generation 2 of ");
  plugin = Plugin();
  EXPECT_EQ(plugin["state"], "serving");
  EXPECT_TRUE(plugin["quarantined"].is_null());
  EXPECT_EQ(GetMetric(Admin(), "callout_plugin_quarantined{plugin=\"p\"}"), 0);
  EXPECT_EQ(Version(), "deadly");
  // And begins to count anew.
  const std::map<int, pid_t> before = Processes();
  Do("segfault");
  AwaitAnotherThan(before);
  EXPECT_EQ(Plugin()["state"], "serving");
  EXPECT_EQ(Plugin()["crashes"], 4);
}

TEST_F(Workers, AQuarantinedPluginFailsItsStreamsUnlessItsPolicySaysOtherwise) {
  Start("deadly", "", {"--quarantine=1/600"});
  const std::map<int, pid_t> before = Processes();
  Do("abort");
  AwaitAnotherThan(before);
  // By an immediate response: an Envoy that fails open would let an error pass.
  LiveStream stream(Channel());
  const auto response = stream.Exchange(RequestHeaders({}));
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->immediate_response().status().code(), 503);
  host_->AwaitLog("plugin p: request_headers: error_status: plugin p is in quarantine");
}

// As nobody does without the quarantine: the plugin has no hook for it.
TEST_F(Workers, AQuarantinedPluginAnswersNoServiceThatItWasNotAskedOn) {
  Start("deadly", "", {"--quarantine=1/600", "--services=ext_proc,ratelimit"},
        R"({"policy": "continue"})");
  const auto limit = [this] {
    return CallRaw(Channel(), "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit", "");
  };
  const std::string kOverLimit = "\x08\x02";
  ASSERT_THAT(limit().answers, ElementsAre(StartsWith(kOverLimit)));
  const std::map<int, pid_t> before = Processes();
  Do("segfault");
  AwaitAnotherThan(before);
  host_->AwaitLog("plugin p is in quarantine after 1 crashes");
  EXPECT_THAT(limit().answers, ElementsAre(StartsWith(kOverLimit)));
}

TEST_F(Workers, AQuarantineEndsByTheFileByAReloadAndByTheOperator) {
  Start("deadly", "", {"--quarantine=1/600", "--admin_writes=on"});
  const auto into_quarantine = [this] {
    const std::map<int, pid_t> before = Processes();
    Do("segfault");
    AwaitAnotherThan(before);
    EXPECT_EQ(Plugin()["state"], "quarantined");
    const std::string problems = GetPlugins(Admin())["problems"].dump();
    EXPECT_THAT(problems, HasSubstr("plugin p is in quarantine after "));
    EXPECT_THAT(problems, HasSubstr("it is disabled until its file changes"));
    EXPECT_THAT(HttpGet(host_->address("health")), StartsWith("HTTP/1.1 200 "));
  };
  const auto until_it_serves = [this] {
    Await([this] { return Plugin()["state"] == "serving"; });
    // In all workers, as soon as they have made it.
    Await([this] { return Version() == "deadly" && Version() == "deadly"; });
    EXPECT_EQ(GetMetric(Admin(), "callout_plugin_quarantined{plugin=\"p\"}"), 0);
  };
  into_quarantine();
  host_->Signal(SIGHUP);
  until_it_serves();
  into_quarantine();
  plugins_.Put("p.so", ReadFile(ReloadPlugin("deadly")));  // the same bytes
  until_it_serves();
  into_quarantine();
  EXPECT_THAT(HttpPost(Admin(), "/actions/release", "plugin=p"), StartsWith("HTTP/1.1 200 "));
  until_it_serves();
  EXPECT_THAT(HttpPost(Admin(), "/actions/release", "plugin=p"), StartsWith("HTTP/1.1 409 "));
  EXPECT_EQ(Plugin()["generation"], 1);
}

TEST_F(Workers, AllGoBackOneGenerationWhenTheOperatorAsks) {
  Start("counting", "a", {"--admin_writes=on"});
  plugins_.Put("p.config", "b");
  host_->AwaitLog("plugin p: generation 2 of ");
  EXPECT_THAT(HttpPost(Admin(), "/actions/go_back", "plugin=p"), StartsWith("HTTP/1.1 200 "));
  EXPECT_EQ(Plugin()["generation"], 1);
  EXPECT_THAT(Plugin()["last_error"].get<std::string>(), HasSubstr("by the operator"));
  for (const Open& one : OpenInEveryWorker(1)) EXPECT_THAT(one.version, StartsWith("a@"));
}

TEST_F(Workers, APluginInQuarantineComesBackAfterATrial) {
  Start("deadly", "", {"--quarantine=1/600", "--quarantine_retry_ms=1"});
  const std::map<int, pid_t> before = Processes();
  Do("segfault");
  AwaitAnotherThan(before);
  host_->AwaitLog("plugin p is in quarantine; its trial in one worker ");
  host_->AwaitLog("plugin p is out of quarantine: its trial has ended without a crash");
  Await([this] { return Version() == "deadly"; });
}

// A plugin in quarantine, since it has crashed in worker 1 while that created it.
class QuarantinedWorkers : public Workers {
 protected:
  // Creations from the fourth on do `then`.
  void StartQuarantined(const std::string& then, std::vector<std::string> options = {}) {
    options.insert(options.end(), {"--quarantine=1/600", "--admin_writes=on"});
    Start("counting", "a " + count_ + " abort 3 3 " + then, options);
    first_ = Processes();
    ASSERT_EQ(kill(first_.at(1), SIGKILL), 0);
    host_->AwaitLog("plugin p is in quarantine after 1 crashes");
    Await([this] {
      return Processes().at(1) != first_.at(1) && GetMetric(Admin(), "callout_workers ") == 2;
    });
    second_ = Processes();
  }
  void ExpectAStandInEverywhere() {
    EXPECT_EQ(Plugin()["state"], "quarantined");
    for (int i = 0; i < 4; ++i) {
      LiveStream stream(Channel());
      const auto response = stream.Exchange(RequestHeaders({}));
      ASSERT_TRUE(response.has_value());
      EXPECT_EQ(response->immediate_response().status().code(), 503);
    }
  }

  const std::string count_ = directory_.Path("count");
  std::map<int, pid_t> first_, second_;
};

TEST_F(QuarantinedWorkers, OneThatCrashesAgainWhenItsQuarantineEndsTakesOneWorkerWithIt) {
  StartQuarantined("abort 4 1000000");
  host_->Signal(SIGHUP);
  EXPECT_THAT(host_->AwaitLog("plugin p stays in quarantine: "),
              HasSubstr("ended the worker that tried it: SIGABRT (6) while plugin p ran "
                        "callout_plugin_create"));
  AwaitAnotherThan(second_);
  EXPECT_EQ(Processes().at(2), first_.at(2)) << "only one was to try it";
  EXPECT_EQ(ReadFile(count_), "....");
  ExpectAStandInEverywhere();
}

TEST_F(QuarantinedWorkers, OneThatCannotBeCreatedStaysThereAndEndsNoWorker) {
  StartQuarantined("fail 4 1000000");
  const std::string answer = HttpPost(Admin(), "/actions/release", "plugin=p");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 409 "));
  EXPECT_THAT(answer, HasSubstr("this is the one that fails"));
  host_->AwaitLog("plugin p stays in quarantine: ");
  EXPECT_EQ(Processes(), second_);
  ExpectAStandInEverywhere();
  std::filesystem::remove(count_);  // the next one is the first
  EXPECT_THAT(HttpPost(Admin(), "/actions/release", "plugin=p"), StartsWith("HTTP/1.1 200 "));
  EXPECT_EQ(ReadFile(count_), "..") << "once in each worker";
  for (const Open& one : OpenInEveryWorker(1)) EXPECT_THAT(one.version, StartsWith("a@"));
  EXPECT_EQ(Processes(), second_);
}

TEST_F(QuarantinedWorkers, OneThatOnlyOneWorkerCanCreateStaysThere) {
  StartQuarantined("fail 5 1000000");
  EXPECT_THAT(HttpPost(Admin(), "/actions/release", "plugin=p"), StartsWith("HTTP/1.1 409 "));
  EXPECT_EQ(ReadFile(count_), ".....");
  EXPECT_EQ(Processes(), second_);
  ExpectAStandInEverywhere();
}

TEST_F(QuarantinedWorkers, ATrialThatCannotCreateItEndsNoWorker) {
  StartQuarantined("fail 4 1000000", {"--quarantine_retry_ms=1"});
  EXPECT_THAT(host_->AwaitLog("plugin p stays in quarantine: its trial ended with "),
              HasSubstr("this is the one that fails"));
  EXPECT_EQ(Processes(), second_);
  ExpectAStandInEverywhere();
}

TEST_F(QuarantinedWorkers, AfterATrialAnotherWorkerThatCannotCreateItKeepsItThere) {
  StartQuarantined("fail 5 1000000", {"--quarantine_retry_ms=1"});
  EXPECT_THAT(host_->AwaitLog("plugin p stays in quarantine: its trial ended with "),
              HasSubstr("this is the one that fails"));
  EXPECT_EQ(Processes(), second_);
  ExpectAStandInEverywhere();
}

TEST_F(Workers, NoGenerationIsSaidToHaveEndedWhileAWorkerDoesNotTell) {
  Start("counting", "a");
  std::deque<Open> open = OpenInEveryWorker(1);
  plugins_.Put("p.config", "b");
  host_->AwaitLog("plugin p: generation 2 of ");
  const pid_t stopped = Processes().begin()->second;
  kill(stopped, SIGSTOP);
  for (int i = 0; i < 2; ++i) {
    host_->Signal(SIGHUP);  // which wakes the thread that says so
    const nlohmann::json plugin = Plugin();
    ASSERT_EQ(plugin["generations"].size(), 2u) << plugin.dump(2);
  }
  // A page after the one for which the worker was asked: what follows is said.
  plugins_.Put("p.config", "c");
  kill(stopped, SIGCONT);
  host_->AwaitLog("plugin p: generation 3 of ");
  EXPECT_THAT(host_->Log(), Not(HasSubstr("generation 1 has ended")));
  for (Open& one : open) EXPECT_TRUE(one.stream->Finish().ok());
  host_->AwaitLog("plugin p: generation 1 has ended");
}

TEST_F(Workers, AStoppedWorkerKeepsNeitherHealthNorOtherPagesWaiting) {
  Start("counting", "a");
  const pid_t stopped = Processes().begin()->second;
  kill(stopped, SIGSTOP);
  // Many more questions than would fit into its channel, if each were asked.
  std::vector<std::thread> readers;
  std::atomic<bool> stop{false};
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      while (!stop) GetMetric(Admin(), "callout_workers ");
    });
  }
  for (int i = 0; i < 1000; ++i) {
    EXPECT_THAT(HttpGet(host_->address("health")), StartsWith("HTTP/1.1 200 "));
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  kill(stopped, SIGCONT);
  EXPECT_EQ(GetMetric(Admin(), "callout_workers "), 2);
}

TEST_F(Workers, AHookThatHangsEndsItsWorkerAndOthersAreServed) {
  Start("deadly", "", {"--watchdog_ms=300"});
  const std::map<int, pid_t> before = Processes();
  LiveStream hung(Channel());
  hung.Send(RequestHeaders({{"x-do", "hang"}}));
  // The other worker, and whatever threads this one has left.
  Traffic traffic(host_->address("plaintext"), 4);
  EXPECT_FALSE(hung.Finish().ok());
  AwaitAnotherThan(before);
  // Those whose connections were cut fail at once, and often, before they connect again.
  uint64_t served = 0;
  while (served <= 100 && !HasFailure()) {
    traffic.AwaitStreams(10);
    served += traffic.Take().by_version["deadly"];
  }
  const nlohmann::json plugin = Plugin();
  EXPECT_EQ(plugin["crashes"], 1);
  EXPECT_THAT(plugin["last_crash"].get<std::string>(),
              StartsWith("plugin p has been in callout_on_request_headers for "));
}

TEST_F(Workers, AReloadReachesAllWorkers) {
  Start("counting", "a");
  plugins_.Put("p.config", "b");
  host_->AwaitLog("plugin p: generation 2 of ");
  std::set<std::string> versions;
  for (const Open& one : OpenInEveryWorker(1)) versions.insert(one.version);
  for (const auto& [number, process] : Processes()) {
    EXPECT_EQ(versions.count(fmt::format("b@{}", process)), 1u);
  }
}

TEST_F(Workers, AReloadThatFailsInOneWorkerReachesNone) {
  const std::string count = directory_.Path("count");
  Start("counting", "a");
  // The first worker can make it, the second cannot.
  plugins_.Put("p.config", "b " + count + " fail 2");
  host_->AwaitLog("plugin p: creating plugin p from ");
  for (const Open& one : OpenInEveryWorker(1)) EXPECT_THAT(one.version, StartsWith("a@"));
  EXPECT_EQ(Plugin()["generation"], 1);
  EXPECT_THAT(Plugin()["last_error"].get<std::string>(), HasSubstr("callout_plugin_create"));
  EXPECT_EQ(ReadFile(count), "..");
  // What the first has made is not used for the next.
  plugins_.Put("p.config", "c " + count);
  host_->AwaitLog("plugin p: generation 2 of ");
  for (const Open& one : OpenInEveryWorker(1)) EXPECT_THAT(one.version, StartsWith("c@"));
  EXPECT_EQ(ReadFile(count), "....");
}

TEST_F(Workers, AVersionThatCrashesWhileItIsMadeEndsOneWorkerAndServesInNone) {
  const std::string count = directory_.Path("count");
  Start("counting", "a", {"--quarantine=1/600"});
  const std::map<int, pid_t> before = Processes();
  plugins_.Put("p.config", "b " + count + " abort 1");
  host_->AwaitLog("plugin p: loading ");
  AwaitAnotherThan(before);
  const nlohmann::json plugin = Plugin();
  EXPECT_EQ(plugin["state"], "serving") << "the version in service has not crashed";
  EXPECT_EQ(plugin["generation"], 1);
  EXPECT_THAT(plugin["last_error"].get<std::string>(),
              HasSubstr("ended the worker that tried it: SIGABRT (6) while plugin p ran "
                        "callout_plugin_create"));
  EXPECT_EQ(plugin["crashes"], 1);
  for (const Open& one : OpenInEveryWorker(1)) EXPECT_THAT(one.version, StartsWith("a@"));
  EXPECT_EQ(GetMetric(Admin(), "callout_worker_ends_total "), 1);
}

TEST_F(Workers, OneThatCannotMakeWhatTheOthersServeWaitsUntilItCan) {
  const std::string count = directory_.Path("count");
  Start("counting", "a " + count + " fail 3 1000000");
  const std::map<int, pid_t> before = Processes();
  ASSERT_EQ(kill(before.at(1), SIGKILL), 0);
  host_->AwaitLog(
      "plugin p: a worker cannot create the version that the others serve, and waits until it "
      "can: ");
  EXPECT_EQ(GetMetric(Admin(), "callout_workers "), 1);
  EXPECT_EQ(Version(), fmt::format("a@{}", before.at(2)));
  std::filesystem::remove(count);  // the next one is the first
  host_->Signal(SIGHUP);
  AwaitAnotherThan(before);
  for (const Open& one : OpenInEveryWorker(1)) EXPECT_THAT(one.version, StartsWith("a@"));
}

// Two plugins: what a worker has created already when the other fails must neither be created again
// nor get lost.
TEST_F(Workers, OneThatHadToTryAgainServesWithAllItsPlugins) {
  const std::string made = directory_.Path("made"), tried = directory_.Path("tried");
  plugins_.Put("o.config", "o " + tried + " fail 3 1000000");
  plugins_.Put("o.so", ReadFile(ReloadPlugin("counting")));
  Start("counting", "a " + made);
  const std::map<int, pid_t> before = Processes();
  const auto killed_at = std::chrono::steady_clock::now();
  ASSERT_EQ(kill(before.at(1), SIGKILL), 0);
  // One for each worker before, and five tries with pauses of 0.1, 0.2, 0.4 and 0.8 s.
  Await([&] { return ReadFile(tried).size() >= 7; });
  EXPECT_GE(std::chrono::steady_clock::now() - killed_at, std::chrono::milliseconds(1500))
      << "the tries come with pauses";
  const std::string log = host_->Log();
  const std::string line = "plugin o: a worker cannot create the version that the others serve";
  const size_t first = log.find(line);
  EXPECT_NE(first, std::string::npos) << log;
  EXPECT_EQ(log.find(line, first + 1), std::string::npos) << "not a line for each try: " << log;
  std::filesystem::remove(tried);  // the next one is the first
  AwaitAnotherThan(before);        // nobody has to ask for it
  EXPECT_EQ(ReadFile(made), "...") << "once in each process";
  for (const Open& one : OpenInEveryWorker(1)) EXPECT_THAT(one.version, StartsWith("a@"));
  // A later change of the other plugin leaves it in every worker's chain, too.
  plugins_.Put("o.config", "n");
  host_->AwaitLog("plugin o: generation 2 of ");
  for (const Open& one : OpenInEveryWorker(1)) EXPECT_THAT(one.version, StartsWith("a@"));
  EXPECT_EQ(ReadFile(made), "...");
}

TEST_F(Workers, AVersionWhoseCreateHangsIsRefusedAndTheNextOneServes) {
  const std::string count = directory_.Path("count");
  Start("counting", "a",
        {"--plugin_create_timeout_ms=2000", "--watchdog_ms=0", "--quarantine=1/600"});
  const std::map<int, pid_t> before = Processes();
  plugins_.Put("p.config", "b " + count + " hang 1");
  EXPECT_THAT(host_->AwaitLog("plugin p: creating "),
              AllOf(HasSubstr("has not returned for 2000 ms (--plugin_create_timeout_ms)"),
                    HasSubstr("the worker that tried it was killed: plugin p has been in "
                              "callout_plugin_create for "),
                    HasSubstr("generation 1 goes on serving")));
  AwaitAnotherThan(before);
  const nlohmann::json plugin = Plugin();
  EXPECT_EQ(plugin["state"], "serving") << "the version in service does not hang";
  EXPECT_EQ(plugin["generation"], 1);
  EXPECT_THAT(plugin["last_error"].get<std::string>(), HasSubstr("--plugin_create_timeout_ms"));
  EXPECT_EQ(GetMetric(Admin(), "callout_reloads_total{outcome=\"failed\",plugin=\"p\"}"), 1);
  EXPECT_EQ(GetMetric(Admin(), "callout_worker_ends_total "), 1) << "only in one was it tried";
  for (const Open& one : OpenInEveryWorker(1)) EXPECT_THAT(one.version, StartsWith("a@"));
  plugins_.Put("p.config", "c");
  host_->AwaitLog("plugin p: generation 2 of ");
  for (const Open& one : OpenInEveryWorker(1)) EXPECT_THAT(one.version, StartsWith("c@"));
}

TEST_F(Workers, OneWhoseCreateHangsWhileItIsBroughtUpIsReplaced) {
  Start("counting", "a " + directory_.Path("count") + " hang 3",
        {"--plugin_create_timeout_ms=2000", "--watchdog_ms=0"});
  const std::map<int, pid_t> before = Processes();
  ASSERT_EQ(kill(before.at(1), SIGKILL), 0);
  AwaitAnotherThan(before);
  EXPECT_EQ(ReadFile(directory_.Path("count")), "....");
  EXPECT_EQ(Plugin()["crashes"], 1);
  EXPECT_THAT(Plugin()["last_crash"].get<std::string>(),
              StartsWith("plugin p has been in callout_plugin_create for "));
  for (const Open& one : OpenInEveryWorker(1)) EXPECT_THAT(one.version, StartsWith("a@"));
}

TEST_F(Workers, ADestroyThatHangsEndsItsWorkerAndKeepsNoVersionOut) {
  plugins_.Put("o.config", "o");
  plugins_.Put("o.so", ReadFile(ReloadPlugin("counting")));
  Start("counting", "a " + directory_.Path("count") + " linger 1 2",
        {"--plugin_create_timeout_ms=2000", "--watchdog_ms=0", "--quarantine=1/600"});
  const std::map<int, pid_t> before = Processes();
  plugins_.Put("p.config", "b");
  host_->AwaitLog("plugin p: generation 2 of ");
  plugins_.Put("o.config", "n");  // whose create has to wait for that destroy
  EXPECT_THAT(host_->AwaitLog("plugin p has been in callout_plugin_destroy for "),
              HasSubstr("(--plugin_create_timeout_ms); it is killed"));
  host_->AwaitLog("plugin o: generation 2 of ");
  Await([&] {
    const std::map<int, pid_t> now = Processes();
    return now.at(1) != before.at(1) && now.at(2) != before.at(2) &&
           GetMetric(Admin(), "callout_workers ") == 2;
  });
  EXPECT_EQ(GetPlugin(Admin(), "o")["last_error"], nullptr);
  EXPECT_EQ(Plugin()["state"], "serving") << "the version that serves does not hang";
  // They are no crashes of a version that serves, or of a canary.
  EXPECT_EQ(GetMetric(Admin(), "callout_plugin_crashes_total{plugin=\"p\"} "), 2);
  EXPECT_EQ(Plugin()["crashes"], 0);
  for (const Open& one : OpenInEveryWorker(1)) EXPECT_THAT(one.version, StartsWith("b@"));
  EXPECT_EQ(host_->Terminate(), 0);
}

TEST_F(Workers, WithoutWorkersTheLogNamesADestroyThatHangs) {
  Start("counting", "a " + directory_.Path("count") + " linger 1",
        {"--workers=0", "--plugin_create_timeout_ms=500", "--watchdog_ms=0"});
  plugins_.Put("p.config", "b");
  EXPECT_THAT(host_->AwaitLog("plugin p has been in callout_plugin_destroy for "),
              HasSubstr("until it returns, no plugin is loaded or rolled back "
                        "(--plugin_create_timeout_ms)"));
  EXPECT_THAT(Version(), StartsWith("b@"));
}

TEST_F(Workers, AStoppedWorkerStopsReloadsForATimeOnly) {
  Start("counting", "a", {"--plugin_create_timeout_ms=2000"});
  const std::map<int, pid_t> before = Processes();
  ASSERT_EQ(kill(before.at(1), SIGSTOP), 0);
  plugins_.Put("p.config", "b");
  EXPECT_THAT(host_->AwaitLog("plugin p: creating "),
              HasSubstr("the worker that tried it was killed: it did not answer"));
  AwaitAnotherThan(before);
  EXPECT_EQ(Plugin()["crashes"], 0) << "it is no fault of the plugin's";
  host_->Signal(SIGHUP);  // which tries the file again
  host_->AwaitLog("plugin p: generation 2 of ");
  for (const Open& one : OpenInEveryWorker(1)) EXPECT_THAT(one.version, StartsWith("b@"));
}

TEST_F(Workers, TheHostIsNotReadyWhileNoneServes) {
  const auto health = [&] { return HttpGet(host_->address("health")).substr(0, 13); };
  Start("counting", "a " + directory_.Path("count") + " fail 3 1000000");
  EXPECT_EQ(health(), "HTTP/1.1 200 ");
  const std::map<int, pid_t> before = Processes();
  for (const auto& [number, process] : before) ASSERT_EQ(kill(process, SIGKILL), 0);
  host_->AwaitLog(
      "plugin p: a worker cannot create the version that the others serve, and waits until it "
      "can: ");
  Await([&] { return GetMetric(Admin(), "callout_workers ") == 0; });
  EXPECT_EQ(health(), "HTTP/1.1 503 ");
  plugins_.Put("p.config", "b");
  AwaitAnotherThan(before);
  EXPECT_EQ(health(), "HTTP/1.1 200 ");
}

TEST_F(Workers, MetricsAreSummedAndOutliveTheirWorkers) {
  Start("counting", "a");
  uint64_t streams = 0;
  for (Open& one : OpenInEveryWorker(2)) {
    one.stream->Exchange(ResponseHeaders({}));
    EXPECT_TRUE(one.stream->Finish().ok());
    ++streams;
  }
  EXPECT_EQ(Plugin()["calls"], 2 * streams);
  EXPECT_EQ(GetMetric(Admin(), "callout_streams_started_total "), streams);
  EXPECT_EQ(GetMetric(Admin(), "counting_made_total{plugin=\"p\"}"), 2);
  EXPECT_EQ(GetMetric(Admin(), "callout_generations_mapped "), 2);
  const std::map<int, pid_t> before = Processes();
  for (const auto& [number, process] : before) ASSERT_EQ(kill(process, SIGKILL), 0);
  Await([&] {
    EXPECT_GE(GetMetric(Admin(), "callout_streams_started_total "), streams);
    const std::map<int, pid_t> now = Processes();
    return now.at(1) != before.at(1) && now.at(2) != before.at(2);
  });
  EXPECT_EQ(Plugin()["calls"], 2 * streams);
  EXPECT_EQ(GetMetric(Admin(), "counting_made_total{plugin=\"p\"}"), 4);
  EXPECT_EQ(GetMetric(Admin(), "callout_generations_mapped "), 2);
}

TEST_F(Workers, ACrashLosesNoCounts) {
  Start("deadly");
  const std::map<int, pid_t> before = Processes();
  constexpr int kStreams = 70;
  for (int i = 0; i < kStreams; ++i) EXPECT_EQ(Version(), "deadly");
  // Nobody has asked for metrics until now.
  EXPECT_FALSE(Do("segfault").ok());
  AwaitAnotherThan(before);
  EXPECT_EQ(GetMetric(Admin(), "callout_streams_started_total "), kStreams + 1);
  EXPECT_EQ(GetMetric(Admin(),
                      "callout_calls_total{outcome=\"changed\",phase=\"request_headers\",plugin="
                      "\"p\"}"),
            kStreams);
  EXPECT_EQ(
      GetMetric(Admin(), "callout_call_seconds_count{phase=\"request_headers\",plugin=\"p\"}"),
      kStreams);
}

TEST_F(Workers, ADrainLetsTheStreamsOfAllWorkersFinish) {
  Start("counting", "a", {"--drain_timeout_ms=600000"});
  std::deque<Open> open = OpenInEveryWorker(2);
  host_->Signal(SIGTERM);
  host_->AwaitLog("draining:");
  for (Open& one : open) {
    EXPECT_TRUE(one.stream->Exchange(ResponseHeaders({})).has_value());
    EXPECT_TRUE(one.stream->Finish().ok());
  }
  EXPECT_EQ(host_->AwaitEnd(), 0);
  EXPECT_THAT(host_->Log(), HasSubstr("drain ends"));
  EXPECT_THAT(host_->Log(), Not(HasSubstr("has ended")));
}

TEST_F(Workers, NoWorkerOutlivesItsSupervisor) {
  Start("counting", "a");
  std::vector<host::Descriptor> processes;
  for (const auto& [number, process] : Processes()) {
    processes.emplace_back(static_cast<int>(syscall(SYS_pidfd_open, process, 0)));
  }
  ASSERT_EQ(processes.size(), 2u);
  host_->Signal(SIGKILL);
  for (const host::Descriptor& process : processes) {
    EXPECT_TRUE(host::WaitReadable(process.get()));
  }
}

TEST_F(Workers, SignalsThatStopTheHostAreNotForWorkers) {
  Start("counting", "a");
  const std::map<int, pid_t> before = Processes();
  for (const auto& [number, process] : before) {
    for (int signal : {SIGTERM, SIGINT, SIGHUP}) kill(process, signal);
  }
  for (const Open& one : OpenInEveryWorker(1)) EXPECT_THAT(one.version, StartsWith("a@"));
  EXPECT_EQ(Processes(), before);
  EXPECT_EQ(host_->Terminate(), 0);
}

}  // namespace
}  // namespace callout::tests
