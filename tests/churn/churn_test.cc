// SPDX-License-Identifier: Apache-2.0

// What plugins have under way (calls to upstreams, timers, shared data) while a thousand streams
// wait for it, and streams leave, instances are destroyed and plugins reloaded in the middle of it.
// plugins/waiting.cc says what it ends the process for. Here every stream has an end, the counts
// add up, and shared data stays within its limits; a sanitizer says the rest.
//
//   CALLOUT_CHURN_SEED=N     the seed, which is printed; by default another each time
//   CALLOUT_CHURN_ROUNDS=N   rounds of a thousand streams; by default 2
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/churn/crowd.h"
#include "tests/host/upstream/test_service.h"
#include "tests/integration/test_host.h"
#include "tests/reload/plugins_page.h"

namespace callout::tests {
namespace {

using host::TestService;
using ::testing::HasSubstr;
using ::testing::Not;
using Act = TestService::Act;

constexpr size_t kStreams = 1000;
constexpr size_t kConnections = 8;
constexpr double kSharedKeysMax = 200, kSharedBytesMax = 100000;

uint64_t NumberFrom(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// What services wait at. The test opens it at its end at the latest.
class Gate {
 public:
  void Set(bool open) {
    const std::lock_guard lock(mutex_);
    is_open_ = open;
    changed_.notify_all();
  }
  void Pass() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_open_; });
  }

 private:
  std::mutex mutex_;  // guards the following
  std::condition_variable changed_;
  bool is_open_ = false;
};

class Churn : public ::testing::Test {
 protected:
  Churn()
      : held_({}, [this](const auto& request) { return Held(request); }),
        held2_({.http2 = true}, [this](const auto& request) { return Held(request); }),
        free_({}, [](const auto& request) { return Free(request); }) {
    std::cout << fmt::format("CALLOUT_CHURN_SEED={}\n", seed_);
  }
  ~Churn() override {
    gate_.Set(true);  // the services' threads wait there
    if (HasFailure() && host_.has_value()) std::cout << host_->Log();
  }

  void Start(std::vector<std::string> options) {
    const auto upstream = [](const TestService& service, const char* more) {
      return fmt::format(R"({{"url": "{}", "timeout_ms": 100000, "connect_timeout_ms": 100000,
                              "max_pending": 100000, "circuit_failures": 0, {}}})",
                         service.url(), more);
    };
    WriteFile(directory_.Path("upstreams"),
              fmt::format(R"({{"held": {}, "held2": {}, "free": {}}})",
                          upstream(held_, R"("max_connections": 40)"),
                          upstream(held2_, R"("max_connections": 4, "protocol": "http2")"),
                          upstream(free_, R"("max_connections": 40, "retry_wait_ms": 1)")));
    plugins_.Put("p.so", one_);
    const std::string common[] = {
        "--plugins_dir=" + plugins_.path(),
        "--upstreams=" + directory_.Path("upstreams"),
        fmt::format("--max_shared_data_keys={}", kSharedKeysMax),
        fmt::format("--max_shared_data_bytes={}", kSharedBytesMax),
        "--max_unanswered_resets=1000000",
        "--max_control_frames=1000000",
        "--reload_guard=0.5/0",
    };
    options.insert(options.end(), std::begin(common), std::end(common));
    host_.emplace(options, std::vector<std::string>{"UBSAN_OPTIONS=halt_on_error=1"});
    crowd_.emplace(host_->address("plaintext"), kConnections, &random_);
  }

  // Begins to replace the plugin by another version, or by one with another configuration.
  void BeginReload() {
    AwaitVersion();  // two changes at once might become one version
    const int number = ++generation_;
    if (number % 3 == 0) {
      plugins_.Put("p.config", fmt::format("configuration {}", number));
    } else {
      plugins_.Put("p.so", (number % 2 == 0 ? two_ : one_) + fmt::format("\n{}\n", number));
    }
  }
  // Goes on with the streams until the last version serves.
  void AwaitVersion() {
    if (generation_ == 1) return;
    const std::string line = fmt::format("plugin p: generation {} of ", generation_);
    EXPECT_TRUE(crowd_->RunUntil([&] { return host_->Log().find(line) != std::string::npos; }))
        << line;
  }
  void Reload() {
    BeginReload();
    AwaitVersion();
  }

  // Streams that all wait at the gate, with some steps before and after.
  void OpenStreams() {
    for (size_t i = 0; i < kStreams; ++i) {
      const std::string held(1, Draw(2) == 0 ? 'h' : 'H');
      crowd_->Open({.request = Steps(Draw(4)) + held + Steps(Draw(3)),
                    .response = Draw(2) == 0 ? "" : Steps(1 + Draw(3))});
    }
  }
  std::string Steps(size_t count) {
    std::string steps;
    while (steps.size() < count) steps.push_back("sftrw"[Draw(5)]);
    return steps;
  }
  size_t Draw(size_t below) { return random_() % below; }

  double Metric(const std::string& name) { return GetMetric(host_->address("admin"), name + " "); }
  double OfPlugin(const std::string& name) { return Metric(name + "{plugin=\"p\"}"); }
  void AwaitMetric(const std::string& name, double value) {
    EXPECT_TRUE(crowd_->RunUntil([&] { return Metric(name) == value; }))
        << name << " is " << Metric(name) << ", not " << value;
  }
  void ExpectSharedDataIsWithinItsLimits() {
    EXPECT_LE(Metric("callout_shared_data_keys"), kSharedKeysMax);
    EXPECT_LE(Metric("callout_shared_data_bytes"), kSharedBytesMax);
  }

  // When nothing waits any more.
  void ExpectThatTheCountsAddUp() {
    AwaitVersion();
    const double instances = generation_;
    EXPECT_TRUE(crowd_->RunUntil([&] {
      return OfPlugin("churn_destroyed_total") == instances - 1;
    })) << OfPlugin("churn_destroyed_total")
        << " of " << instances;
    EXPECT_EQ(OfPlugin("churn_made_total"), instances);
    AwaitMetric("callout_live_streams", 0);
    AwaitMetric("callout_deferred_calls", 0);
    EXPECT_EQ(OfPlugin("churn_opened_total"), OfPlugin("churn_closed_total"));
    const double begun = OfPlugin("churn_begun_total");
    EXPECT_EQ(OfPlugin("churn_finished_total") + OfPlugin("churn_left_total") +
                  OfPlugin("churn_late_total"),
              begun);
    EXPECT_GT(OfPlugin("churn_cancels_total"), 0);
    EXPECT_EQ(OfPlugin("churn_refused_total"), 0);
    EXPECT_EQ(OfPlugin("callout_shared_data_refused_total"), 0);
    EXPECT_GT(Metric("callout_shared_data_evicted_total"), 0);
    EXPECT_GT(Metric("callout_shared_data_expired_total"), 0);
    ExpectSharedDataIsWithinItsLimits();
    // What all instances have counted together, in both ways.
    EXPECT_EQ(Report(), fmt::format("{} {}", begun, begun));
  }
  // What the last version finds in shared data: the messages that began to wait, and that are over.
  std::string Report();

  // And no sanitizer has said anything.
  void ExpectACleanEnd() {
    EXPECT_EQ(host_->Terminate(), 0);
    for (const char* word : {"Sanitizer", "runtime error", "callout.timers:", "callout.calls:"}) {
      EXPECT_THAT(host_->Log(), Not(HasSubstr(word)));
    }
  }

  TestService::Reply Held(const TestService::Request& request) {
    gate_.Pass();
    return {.headers = {{"x-kind", "held"}}, .body = request.path};
  }
  static TestService::Reply Free(const TestService::Request& request) {
    constexpr Act kActs[] = {Act::kRespond, Act::kCut,     Act::kReset,  Act::kRespondAndClose,
                             Act::kRespond, Act::kGarbage, Act::kRespond};
    return {.act = kActs[static_cast<size_t>(request.number) % std::size(kActs)],
            .headers = {{"x-kind", "free"}},
            .body = request.path + "/" + std::to_string(request.number)};
  }

  const uint64_t seed_ = NumberFrom("CALLOUT_CHURN_SEED", std::random_device()());
  std::mt19937_64 random_{seed_};
  host::TempDir directory_;
  PluginsDir plugins_{directory_.Path("plugins")};
  const std::string one_ = ReadFile(BuiltFile("tests/churn/waiting_one.so"));
  const std::string two_ = ReadFile(BuiltFile("tests/churn/waiting_two.so"));
  int generation_ = 1;
  Gate gate_;
  TestService held_, held2_, free_;
  std::optional<TestHost> host_;
  std::optional<Crowd> crowd_;
};

std::string Churn::Report() {
  Crowd reporter(host_->address("plaintext"), 1, &random_);
  reporter.Open({.request = "?", .response = ""});
  EXPECT_TRUE(reporter.RunUntil([&] { return reporter.live() == 0; }));
  return reporter.last_report();
}

TEST_F(Churn, EveryStreamEndsOnceAndNothingOfAnInstanceRunsAfterItsEnd) {
  Start({"--hook_deadline_ms=100000"});
  const uint64_t rounds = NumberFrom("CALLOUT_CHURN_ROUNDS", 2);
  for (uint64_t round = 0; round < rounds; ++round) {
    OpenStreams();
    AwaitMetric("callout_deferred_calls", kStreams);
    EXPECT_EQ(Metric("callout_live_streams"), kStreams);
    // While all of them wait.
    crowd_->Leave(0.1);
    Reload();
    crowd_->Cut();
    BeginReload();
    crowd_->Leave(0.1);
    AwaitMetric("callout_live_streams", static_cast<double>(crowd_->live()));
    AwaitMetric("callout_deferred_calls", static_cast<double>(crowd_->live()));
    ExpectSharedDataIsWithinItsLimits();
    // While they go on.
    crowd_->LeaveAfterResponses(0.1);
    gate_.Set(true);
    const size_t half = crowd_->live() / 2;
    EXPECT_TRUE(crowd_->RunUntil([&] { return crowd_->live() <= half; }));
    Reload();
    EXPECT_TRUE(crowd_->RunUntil([&] { return crowd_->live() == 0; }));
    crowd_->LeaveAfterResponses(0);
    gate_.Set(false);
  }
  gate_.Set(true);
  ExpectThatTheCountsAddUp();
  const Crowd::Counts& counts = crowd_->counts();
  std::cout << fmt::format(
      "{} streams: {} completed, {} left, {} cut; {} generations; {} calls and timers cancelled\n",
      counts.opened, counts.completed, counts.left, counts.cut, generation_,
      OfPlugin("churn_cancels_total"));
  EXPECT_EQ(counts.failed, 0u) << counts.first_failure;
  EXPECT_EQ(counts.unnamed, 0u);
  EXPECT_EQ(counts.completed + counts.left + counts.cut, counts.opened);
  EXPECT_EQ(OfPlugin("churn_late_total"), 0);
  ExpectACleanEnd();
}

// The host answers in the plugin's place, and streams end, while all calls are still out.
TEST_F(Churn, CallsThatOutliveTheirStreamsAreFinishedBeforeTheInstanceEnds) {
  WriteFile(plugins_.Path("p.settings"), R"({"policy": "continue"})");
  Start({"--hook_deadline_ms=20"});
  OpenStreams();
  crowd_->LeaveAfterResponses(0.1);
  AwaitMetric("churn_opened_total{plugin=\"p\"}", kStreams);
  Reload();
  EXPECT_TRUE(crowd_->RunUntil([&] { return crowd_->live() == 0; }));
  const double waiting = Metric("callout_deferred_calls");
  EXPECT_GT(waiting, 0);
  Reload();
  // The second version, which had no stream; the first waits for its calls.
  AwaitMetric("churn_destroyed_total{plugin=\"p\"}", 1);
  EXPECT_EQ(Metric("callout_deferred_calls"), waiting);
  gate_.Set(true);
  ExpectThatTheCountsAddUp();
  const Crowd::Counts& counts = crowd_->counts();
  EXPECT_EQ(counts.failed, 0u) << counts.first_failure;
  EXPECT_GT(OfPlugin("churn_late_total"), 0);
  ExpectACleanEnd();
}

TEST_F(Churn, AHostThatIsStoppedInTheMiddleEndsInOrder) {
  Start({"--hook_deadline_ms=100000", "--drain_timeout_ms=100"});
  OpenStreams();
  AwaitMetric("callout_deferred_calls", kStreams);
  BeginReload();
  crowd_->Leave(0.2);
  EXPECT_TRUE(crowd_->RunUntil([sent = false]() mutable { return std::exchange(sent, true); }));
  ExpectACleanEnd();
}

}  // namespace
}  // namespace callout::tests
