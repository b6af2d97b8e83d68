// SPDX-License-Identifier: Apache-2.0

#include "host/extensions/call_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "host/base/thread.h"
#include "tests/host/notification.h"
#include "tests/host/plugin_bytes.h"
#include "tests/host/upstream/upstream_fixture.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;
using Act = TestService::Act;
using Reply = TestService::Reply;
using Request = TestService::Request;

std::string_view View(callout_bytes_t bytes) { return {bytes.data, bytes.size}; }

// What a plugin knows of a call.
struct Pending {
  std::function<void(const callout_incoming_t&)> on_done;
  std::atomic<int> done{0}, released{0};
  Notification over;

  static void Done(void* data, const callout_incoming_t* incoming) {
    auto* const self = static_cast<Pending*>(data);
    if (self->on_done != nullptr) self->on_done(*incoming);
    ++self->done;
  }
  static void Release(void* data) {
    auto* const self = static_cast<Pending*>(data);
    ++self->released;
    self->over.Notify();
  }
  callout_outgoing_t Ask(std::string_view path = "/", std::string_view upstream = "service") {
    callout_outgoing_t outgoing = {};
    outgoing.struct_size = sizeof(outgoing);
    outgoing.upstream = Bytes(upstream);
    outgoing.path = Bytes(path);
    outgoing.done = Done;
    outgoing.release = Release;
    outgoing.data = this;
    return outgoing;
  }
};

class CallSetTest : public UpstreamFixture {
 protected:
  CallSetTest()
      : service_({}, [](const Request& request) {
          if (request.path == "/hang") return Reply{.act = Act::kHang};
          return Reply{.headers = {{"X-Kind", "test"}}, .body = request.path};
        }) {
    Make(service_.url(), R"("timeout_ms": 60000, "max_retries": 0, "circuit_failures": 0)");
    MakeSet(100);
    set_->Open();
  }
  void MakeSet(size_t calls_max, bool strict = false) {
    set_ = std::make_unique<CallSet>(
        pool_.get(), &metrics_,
        CallSet::Options{.name = "p",
                         .calls_max = calls_max,
                         .strict = strict,
                         .call = [](const std::function<void()>& function) { function(); }});
  }
  callout_status_t Start(const callout_outgoing_t& outgoing, uint64_t* id = nullptr) {
    return set_->Start(outgoing, id);
  }

  TestService service_;
  std::unique_ptr<CallSet> set_;
};

TEST_F(CallSetTest, TellsThePluginOnceHowACallCameOut) {
  Pending call;
  call.on_done = [](const callout_incoming_t& incoming) {
    EXPECT_EQ(incoming.struct_size, sizeof(incoming));
    EXPECT_EQ(incoming.status, CALLOUT_OK);
    EXPECT_EQ(incoming.http_status, 200u);
    EXPECT_EQ(View(incoming.body), "/users");
    EXPECT_EQ(incoming.attempts, 1u);
    ASSERT_GT(incoming.header_count, 0u);
    EXPECT_EQ(View(incoming.headers[0].name), "x-kind");
    EXPECT_EQ(View(incoming.headers[0].value), "test");
  };
  uint64_t id = 0;
  ASSERT_EQ(Start(call.Ask("/users"), &id), CALLOUT_OK);
  EXPECT_GT(id, 0u);
  call.over.WaitForNotification();
  EXPECT_EQ(call.done, 1);
  EXPECT_EQ(call.released, 1);
  EXPECT_EQ(set_->Cancel(id), CALLOUT_NOT_FOUND);
}

TEST_F(CallSetTest, ACallIsOverBeforeItIsReleased) {
  Notification released;
  uint64_t id = 0;
  callout_status_t within = CALLOUT_OK;
  std::function<void()> on_release = [&] {
    within = set_->Cancel(id);
    released.Notify();
  };
  callout_outgoing_t ask = Pending().Ask();
  ask.done = [](void*, const callout_incoming_t*) {};
  ask.release = [](void* data) { (*static_cast<std::function<void()>*>(data))(); };
  ask.data = &on_release;
  ASSERT_EQ(Start(ask, &id), CALLOUT_OK);
  released.WaitForNotification();
  EXPECT_EQ(within, CALLOUT_NOT_FOUND);
}

TEST_F(CallSetTest, ACancelledCallIsReleasedAndTellsNothing) {
  Pending call;
  uint64_t id = 0;
  ASSERT_EQ(Start(call.Ask("/hang"), &id), CALLOUT_OK);
  ASSERT_TRUE(service_.AwaitRequests(1));
  EXPECT_EQ(set_->Cancel(id), CALLOUT_OK);
  EXPECT_EQ(call.released, 1);
  EXPECT_EQ(set_->Cancel(id), CALLOUT_NOT_FOUND);
  EXPECT_TRUE(service_.AwaitOpen(0));
  EXPECT_EQ(call.done, 0);
}

TEST_F(CallSetTest, ACallThatEndsAtThisMomentCannotBeCancelled) {
  Pending call;
  uint64_t id = 0;
  callout_status_t within = CALLOUT_OK;
  call.on_done = [&](const callout_incoming_t&) { within = set_->Cancel(id); };
  const callout_outgoing_t ask = call.Ask();
  ASSERT_EQ(set_->Start(ask, &id), CALLOUT_OK);
  call.over.WaitForNotification();
  EXPECT_EQ(within, CALLOUT_ABORTED);
}

TEST_F(CallSetTest, ACallCanBeStartedWhereOneEnds) {
  Pending first, second;
  first.on_done = [&](const callout_incoming_t&) {
    EXPECT_EQ(Start(second.Ask("/second")), CALLOUT_OK);
  };
  ASSERT_EQ(Start(first.Ask()), CALLOUT_OK);
  second.over.WaitForNotification();
  EXPECT_EQ(second.done, 1);
}

TEST_F(CallSetTest, ClosingReleasesWhatIsUnderWayAndTellsWhenTheOneThatRunsHasReturned) {
  Pending runs, hangs;
  Notification begun, may_end, idle;
  runs.on_done = [&](const callout_incoming_t&) {
    begun.Notify();
    may_end.WaitForNotification();
  };
  ASSERT_EQ(Start(hangs.Ask("/hang")), CALLOUT_OK);
  ASSERT_EQ(Start(runs.Ask()), CALLOUT_OK);
  begun.WaitForNotification();
  EXPECT_FALSE(set_->Close([&] {
    EXPECT_EQ(runs.released, 1);
    idle.Notify();
  }));
  EXPECT_EQ(hangs.released, 1);
  EXPECT_FALSE(idle.HasBeenNotified());
  Pending late;
  EXPECT_EQ(Start(late.Ask()), CALLOUT_FAILED_PRECONDITION);
  may_end.Notify();
  idle.WaitForNotification();
  EXPECT_TRUE(set_->Close(nullptr));
  EXPECT_EQ(hangs.done, 0);
  EXPECT_EQ(late.released, 0);
}

TEST_F(CallSetTest, TheDestructorWaitsForAFunctionThatRuns) {
  Pending runs;
  Notification begun;
  std::atomic<bool> ended{false};
  runs.on_done = [&](const callout_incoming_t&) {
    begun.Notify();
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    ended = true;
  };
  ASSERT_EQ(Start(runs.Ask()), CALLOUT_OK);
  begun.WaitForNotification();
  set_.reset();
  EXPECT_TRUE(ended);
  EXPECT_EQ(runs.released, 1);
}

// How often `text` is in the log of `function`.
size_t CountInLog(std::string_view text, const std::function<void()>& function) {
  testing::internal::CaptureStderr();
  function();
  const std::string log = testing::internal::GetCapturedStderr();
  size_t count = 0;
  for (size_t at = log.find(text); at != log.npos; at = log.find(text, at + 1)) ++count;
  return count;
}

TEST_F(CallSetTest, LogsEachCauseOfARefusalOnceAMinuteAndWhenStrictEveryRefusal) {
  Pending call;
  const std::string large((1 << 20) + 9, 'x');
  const auto refuse_twice = [&] {
    for (int i = 0; i < 2; ++i) {
      callout_outgoing_t ask = call.Ask();
      ask.method = Bytes("get");
      EXPECT_EQ(Start(ask), CALLOUT_INVALID_ARGUMENT);
      EXPECT_EQ(Start(call.Ask("no path")), CALLOUT_INVALID_ARGUMENT);
      // What a client chooses is no new cause: the name of a header, and sizes.
      const std::string name = i == 0 ? "not a name" : "a) b (c";
      const callout_header_field_t field = {Bytes(name), Bytes("value")};
      ask = call.Ask();
      ask.headers = &field;
      ask.header_count = 1;
      EXPECT_EQ(Start(ask), CALLOUT_INVALID_ARGUMENT);
      ask = call.Ask();
      ask.body = Bytes(std::string_view(large).substr(static_cast<size_t>(i)));
      EXPECT_EQ(Start(ask), CALLOUT_RESOURCE_EXHAUSTED);
    }
  };
  set_->Open();
  EXPECT_EQ(CountInLog("was not started", refuse_twice), 4u);
  MakeSet(100, true);
  set_->Open();
  EXPECT_EQ(CountInLog("was not started", refuse_twice), 8u);
}

TEST_F(CallSetTest, RefusesWhatIsWrongOrOverItsLimits) {
  Pending call;
  callout_outgoing_t ask = call.Ask();
  ask.done = nullptr;
  EXPECT_EQ(Start(ask), CALLOUT_INVALID_ARGUMENT);
  ask = call.Ask();
  ask.struct_size = 24;
  EXPECT_EQ(Start(ask), CALLOUT_INVALID_ARGUMENT);
  ask = call.Ask();
  ask.flags = 1 << 5;
  EXPECT_EQ(Start(ask), CALLOUT_INVALID_ARGUMENT);
  EXPECT_EQ(Start(call.Ask("no path")), CALLOUT_INVALID_ARGUMENT);
  EXPECT_EQ(Start(call.Ask("/", "servise")), CALLOUT_NOT_FOUND);
  ask = call.Ask("/a.B/C");
  ask.flags = CALLOUT_OUTGOING_GRPC;
  EXPECT_EQ(Start(ask), CALLOUT_FAILED_PRECONDITION) << "it is asked by HTTP/1.1";
  const std::string large((1 << 20) + 1, 'x');
  ask = call.Ask();
  ask.body = Bytes(large);
  EXPECT_EQ(Start(ask), CALLOUT_RESOURCE_EXHAUSTED);
  EXPECT_EQ(call.released, 0);
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_calls_refused_total{plugin=\"p\"} 7\n"));

  MakeSet(1);
  EXPECT_EQ(Start(call.Ask()), CALLOUT_FAILED_PRECONDITION) << "create has not returned";
  set_->Open();
  uint64_t id = 0;
  ASSERT_EQ(Start(call.Ask("/hang"), &id), CALLOUT_OK);
  Pending second;
  EXPECT_EQ(Start(second.Ask()), CALLOUT_RESOURCE_EXHAUSTED);
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_calls{plugin=\"p\"} 1\n"));
  EXPECT_EQ(set_->Cancel(id), CALLOUT_OK);
  EXPECT_EQ(Start(second.Ask()), CALLOUT_OK);
  second.over.WaitForNotification();
}

TEST_F(CallSetTest, SaysSoIfNoThreadCanBeStarted) {
  Pending call;
  {
    const FailThreadsForTest fail;
    EXPECT_EQ(Start(call.Ask()), CALLOUT_UNAVAILABLE);
  }
  EXPECT_EQ(call.released, 0);
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_calls{plugin=\"p\"} 0\n"));
}

TEST_F(CallSetTest, DescribesAnUpstream) {
  callout_upstream_info_t info = {};
  info.struct_size = sizeof(info);
  EXPECT_EQ(set_->Find("service", &info), CALLOUT_OK);
  EXPECT_EQ(info.flags, 0u);
  EXPECT_EQ(info.timeout_ns, 60'000'000'000u);
  EXPECT_EQ(info.request_bytes_max, uint64_t{1} << 20);
  EXPECT_EQ(info.response_bytes_max, uint64_t{1} << 20);
  EXPECT_EQ(set_->Find("service", nullptr), CALLOUT_OK);
  EXPECT_EQ(set_->Find("other", nullptr), CALLOUT_NOT_FOUND);
}

// 1,000 calls from several threads, some cancelled, while sets come and go.
TEST_F(CallSetTest, EveryCallIsReleasedOnceWhateverEndsIt) {
  constexpr int kThreads = 4, kRounds = 10, kCalls = 25;
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::atomic<int> started{0}, done{0}, released{0}, cancelled{0};
  std::vector<std::thread> threads;
  for (unsigned number = 0; number < kThreads; ++number) {
    threads.emplace_back([&, number] {
      std::mt19937 random(seed + number);
      for (int round = 0; round < kRounds; ++round) {
        std::vector<std::unique_ptr<Pending>> calls;
        CallSet set(pool_.get(), &metrics_,
                    {.name = "q" + std::to_string(number),
                     .call = [](const std::function<void()>& function) { function(); }});
        set.Open();
        for (int i = 0; i < kCalls; ++i) {
          calls.push_back(std::make_unique<Pending>());
          uint64_t id = 0;
          const bool hangs = random() % 8 == 0;
          const callout_outgoing_t ask = calls.back()->Ask(hangs ? "/hang" : "/x");
          if (set.Start(ask, &id) == CALLOUT_OK) ++started;
          if (random() % 4 == 0 && set.Cancel(id) == CALLOUT_OK) ++cancelled;
        }
        // Now and then the calls may end first.
        if (random() % 2 == 0) {
          for (int i = 0; i < 200; ++i) std::this_thread::yield();
        }
        set.CloseAndWait();
        for (const auto& call : calls) {
          EXPECT_EQ(call->released, 1);
          done += call->done;
          released += call->released;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(started, kThreads * kRounds * kCalls);
  EXPECT_EQ(released, started);
  EXPECT_LE(done + cancelled, started);
}

}  // namespace
}  // namespace callout::host
