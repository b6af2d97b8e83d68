// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/instance_extensions.h"

#include <callout/rpc_metadata.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "host/net/listener.h"
#include "host/plugin/hook_table.h"
#include "tests/host/notification.h"
#include "tests/host/sockets.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Task {
  std::function<void()> run;
  std::atomic<int> released{0};
  static void Run(void* data) { static_cast<Task*>(data)->run(); }
  static void Release(void* data) { ++static_cast<Task*>(data)->released; }
  callout_timer_t Timer(uint64_t delay_ns = 0) {
    return {sizeof(callout_timer_t), 0, Run, Release, this, delay_ns, 0};
  }
};

// A call to the upstream "service".
struct Asking {
  std::function<void()> on_done = [] {};
  std::atomic<int> released{0};
  Notification over;
  callout_outgoing_t Ask() {
    callout_outgoing_t outgoing = {};
    outgoing.struct_size = sizeof(outgoing);
    outgoing.upstream = ToBytes("service");
    outgoing.path = ToBytes("/");
    outgoing.done = [](void* data, const callout_incoming_t*) {
      static_cast<Asking*>(data)->on_done();
    };
    outgoing.release = [](void* data) {
      ++static_cast<Asking*>(data)->released;
      static_cast<Asking*>(data)->over.Notify();
    };
    outgoing.data = this;
    return outgoing;
  }
};

class InstanceExtensionsTest : public ::testing::Test {
 protected:
  explicit InstanceExtensionsTest() { Make({}); }
  void Make(const ExtensionOptions& options) {
    extensions_ = std::make_unique<Extensions>(options, &metrics_);
  }
  std::shared_ptr<Instance> Create(FakePlugin* plugin, const std::string& name,
                                   bool has_extensions = true) {
    plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
    FakePlugin::creating = plugin;
    auto instance = Instance::Create(
        plugin->Load(), name, "", {},
        {.metrics = &metrics_, .extensions = has_extensions ? extensions_.get() : nullptr});
    EXPECT_TRUE(instance.ok()) << instance.status();
    return *std::move(instance);
  }
  static const callout_timers_t* TimersOf(const callout_host_t* host) {
    return static_cast<const callout_timers_t*>(host->get_extension(host, CALLOUT_TIMERS));
  }
  void MakeWithUpstream(const std::string& url) {
    const auto upstreams =
        ParseUpstreams(R"({"service": {"timeout_ms": 60000, "url": ")" + url + "\"}}");
    ASSERT_TRUE(upstreams.ok()) << upstreams.status();
    ExtensionOptions options;
    options.upstreams = *upstreams;
    Make(options);
  }
  static const callout_calls_t* CallsOf(const callout_host_t* host) {
    return static_cast<const callout_calls_t*>(host->get_extension(host, CALLOUT_CALLS));
  }
  static const callout_shared_data_t* DataOf(const callout_host_t* host) {
    return static_cast<const callout_shared_data_t*>(
        host->get_extension(host, CALLOUT_SHARED_DATA));
  }
  static callout_status_t Put(const callout_host_t* host, const std::string& space,
                              const std::string& value, uint64_t* version = nullptr) {
    callout_shared_put_t how = {};
    how.struct_size = sizeof(how);
    how.expected = CALLOUT_SHARED_ANY;
    return DataOf(host)->put(host, ToBytes(space), ToBytes("key"), ToBytes(value), &how, version);
  }
  static std::string Get(const callout_host_t* host, const std::string& space) {
    char buffer[64];
    callout_shared_entry_t entry = {};
    entry.struct_size = sizeof(entry);
    const callout_status_t status =
        DataOf(host)->get(host, ToBytes(space), ToBytes("key"), buffer, sizeof(buffer), &entry);
    return status == CALLOUT_OK ? std::string(buffer, entry.size) : "none";
  }

  Metrics metrics_;
  std::unique_ptr<Extensions> extensions_;
};

TEST_F(InstanceExtensionsTest, ATimerOfCreateRunsAfterCreateHasReturned) {
  FakePlugin plugin;
  std::atomic<bool> created{false};
  bool was_created = false;
  Notification ran;
  Task task;
  task.run = [&] {
    was_created = created;
    ran.Notify();
  };
  plugin.create = [&](callout_create_args_t* args) {
    uint64_t id = 0;
    const callout_timer_t timer = task.Timer();
    EXPECT_EQ(TimersOf(args->host)->start(args->host, &timer, &id), CALLOUT_OK);
    for (int i = 0; i < 10; ++i) std::this_thread::yield();
    created = true;
  };
  const auto instance = Create(&plugin, "p");
  ran.WaitForNotification();
  EXPECT_TRUE(was_created);
}

TEST_F(InstanceExtensionsTest, ATimerOfACreateThatFailsNeverRuns) {
  Task task;
  task.run = [] { ADD_FAILURE(); };
  FakePlugin plugin;
  plugin.phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  plugin.create = [&](callout_create_args_t* args) {
    uint64_t id = 0;
    const callout_timer_t timer = task.Timer();
    EXPECT_EQ(TimersOf(args->host)->start(args->host, &timer, &id), CALLOUT_OK);
    throw std::runtime_error("no");
  };
  FakePlugin::creating = &plugin;
  EXPECT_FALSE(Instance::Create(plugin.Load(), "p", "", {},
                                {.metrics = &metrics_, .extensions = extensions_.get()})
                   .ok());
  EXPECT_EQ(task.released, 1);
}

TEST_F(InstanceExtensionsTest, NoTimerRunsDuringDestroyOrAfterIt) {
  FakePlugin plugin;
  const callout_host_t* host = nullptr;
  plugin.create = [&](callout_create_args_t* args) { host = args->host; };
  Notification begun;
  Task runs, waits;
  std::atomic<int> destroyed_during_run{-1};
  runs.run = [&] {
    begun.Notify();
    for (int i = 0; i < 10; ++i) std::this_thread::yield();
    destroyed_during_run = plugin.destroyed;
  };
  waits.run = [] { ADD_FAILURE(); };
  auto instance = Create(&plugin, "p");
  uint64_t id = 0;
  callout_timer_t timer = runs.Timer();
  ASSERT_EQ(TimersOf(host)->start(host, &timer, &id), CALLOUT_OK);
  begun.WaitForNotification();
  timer = waits.Timer(CALLOUT_TIMER_NS_MAX);
  ASSERT_EQ(TimersOf(host)->start(host, &timer, &id), CALLOUT_OK);
  const callout_timers_t* timers = TimersOf(host);
  instance.reset();
  EXPECT_EQ(destroyed_during_run, 0) << "destroy waits for the timer";
  EXPECT_EQ(plugin.destroyed, 1);
  EXPECT_EQ(waits.released, 1);
  // The table outlives the instance, for threads that were not joined.
  EXPECT_EQ(timers->start(host, &timer, &id), CALLOUT_FAILED_PRECONDITION);
  EXPECT_EQ(timers->cancel(host, id), CALLOUT_NOT_FOUND);
  EXPECT_EQ(host->get_extension(host, CALLOUT_TIMERS), nullptr);
}

TEST_F(InstanceExtensionsTest, ACallCannotBeStartedBeforeCreateHasReturned) {
  MakeWithUpstream("http://127.0.0.1:1");
  FakePlugin plugin;
  Asking asking;
  plugin.create = [&](callout_create_args_t* args) {
    uint64_t id = 0;
    const callout_outgoing_t outgoing = asking.Ask();
    EXPECT_EQ(CallsOf(args->host)->find(args->host, ToBytes("service"), nullptr), CALLOUT_OK);
    EXPECT_EQ(CallsOf(args->host)->find(args->host, ToBytes("other"), nullptr), CALLOUT_NOT_FOUND);
    EXPECT_EQ(CallsOf(args->host)->start(args->host, &outgoing, &id), CALLOUT_FAILED_PRECONDITION);
  };
  const auto instance = Create(&plugin, "p");
  EXPECT_EQ(asking.released, 0);
  EXPECT_THAT(instance->asked_extensions(), ElementsAre(CALLOUT_CALLS));
}

TEST_F(InstanceExtensionsTest, TheEndOfACallIsARunningHookThatMayNotWait) {
  MakeWithUpstream("http://127.0.0.1:1");
  FakePlugin plugin;
  const callout_host_t* host = nullptr;
  plugin.create = [&](callout_create_args_t* args) { host = args->host; };
  const auto instance = Create(&plugin, "calling");
  std::string found;
  Asking asking;
  asking.on_done = [&] {
    for (const HookTable::Running& running : HookTable::InUse()->ListRunning()) {
      if (running.place.hook != Hook::kCallDone) continue;
      found = HookTable::InUse()->PluginName(running.place.plugin);
      EXPECT_FALSE(running.place.may_wait);
    }
  };
  uint64_t id = 0;
  const callout_outgoing_t outgoing = asking.Ask();
  ASSERT_EQ(CallsOf(host)->start(host, &outgoing, &id), CALLOUT_OK);
  asking.over.WaitForNotification();
  EXPECT_EQ(found, "calling");
}

TEST_F(InstanceExtensionsTest, NoCallEndsDuringDestroyOrAfterIt) {
  // It accepts connections, and never answers.
  const auto listener = ListenSocket::Open(ParsedAddress("127.0.0.1:0"));
  ASSERT_TRUE(listener.ok()) << listener.status();
  MakeWithUpstream("http://" + listener->bound().ToString());
  FakePlugin plugin;
  const callout_host_t* host = nullptr;
  plugin.create = [&](callout_create_args_t* args) { host = args->host; };
  auto instance = Create(&plugin, "p");
  Asking hangs;
  hangs.on_done = [] { ADD_FAILURE(); };
  uint64_t id = 0;
  const callout_outgoing_t outgoing = hangs.Ask();
  ASSERT_EQ(CallsOf(host)->start(host, &outgoing, &id), CALLOUT_OK);
  const callout_calls_t* const calls = CallsOf(host);
  instance.reset();
  EXPECT_EQ(plugin.destroyed, 1);
  EXPECT_EQ(hangs.released, 1);
  // The table outlives the instance, for threads that were not joined.
  EXPECT_EQ(calls->start(host, &outgoing, &id), CALLOUT_FAILED_PRECONDITION);
  EXPECT_EQ(calls->cancel(host, id), CALLOUT_NOT_FOUND);
  EXPECT_EQ(calls->find(host, ToBytes("service"), nullptr), CALLOUT_NOT_FOUND);
}

// For ThreadSanitizer: what makes the timers of an instance and what closes them must not race.
TEST_F(InstanceExtensionsTest, TheFirstTimerMayBeStartedWhileTheInstanceEnds) {
  MakeWithUpstream("http://127.0.0.1:1");
  for (int round = 0; round < 100; ++round) {
    FakePlugin plugin;
    const callout_host_t* host = nullptr;
    plugin.create = [&](callout_create_args_t* args) { host = args->host; };
    auto instance = Create(&plugin, "p");
    const callout_timers_t* const timers = TimersOf(host);
    Notification begun;
    Task task;
    task.run = [] {};
    callout_status_t started = CALLOUT_UNKNOWN;
    Asking asking;
    asking.on_done = [&] {
      const callout_timer_t timer = task.Timer(CALLOUT_TIMER_NS_MAX);
      uint64_t id = 0;
      begun.Notify();
      started = timers->start(host, &timer, &id);
    };
    uint64_t id = 0;
    const callout_outgoing_t outgoing = asking.Ask();
    ASSERT_EQ(CallsOf(host)->start(host, &outgoing, &id), CALLOUT_OK);
    begun.WaitForNotification();
    instance.reset();
    EXPECT_TRUE(started == CALLOUT_OK || started == CALLOUT_FAILED_PRECONDITION) << started;
    EXPECT_EQ(task.released, started == CALLOUT_OK ? 1 : 0);
  }
}

TEST_F(InstanceExtensionsTest, ATimerIsARunningHookOfItsPlugin) {
  FakePlugin plugin;
  const callout_host_t* host = nullptr;
  plugin.create = [&](callout_create_args_t* args) { host = args->host; };
  Notification ran;
  std::string found;
  Task task;
  task.run = [&] {
    for (const HookTable::Running& running : HookTable::InUse()->ListRunning()) {
      if (running.place.hook != Hook::kTimer) continue;
      found = HookTable::InUse()->PluginName(running.place.plugin);
      EXPECT_TRUE(running.place.may_wait);
    }
    ran.Notify();
  };
  const auto instance = Create(&plugin, "timed");
  uint64_t id = 0;
  const callout_timer_t timer = task.Timer();
  ASSERT_EQ(TimersOf(host)->start(host, &timer, &id), CALLOUT_OK);
  ran.WaitForNotification();
  EXPECT_EQ(found, "timed");
}

TEST_F(InstanceExtensionsTest, SharedDataOutlivesTheInstanceAndKeepsItsOwnSpaceToItself) {
  FakePlugin plugin;
  const callout_host_t* host = nullptr;
  plugin.create = [&](callout_create_args_t* args) { host = args->host; };
  auto first = Create(&plugin, "p");
  EXPECT_EQ(Put(host, "", "own"), CALLOUT_OK);
  EXPECT_EQ(Put(host, "common", "for all"), CALLOUT_OK);
  const callout_host_t* const old = host;
  const auto next = Create(&plugin, "p");
  first.reset();
  EXPECT_EQ(Get(host, ""), "own");
  const auto other = Create(&plugin, "q");
  EXPECT_EQ(Get(host, ""), "none");
  EXPECT_EQ(Get(host, "common"), "for all");
  EXPECT_EQ(DataOf(host)->remove(old, {}, ToBytes("key"), CALLOUT_SHARED_ANY),
            CALLOUT_FAILED_PRECONDITION);
}

TEST_F(InstanceExtensionsTest, SharedDataRefusesWrongArgumentsAndCountsWhatHasNoRoom) {
  Make({.shared_data = {.keys_max = 1, .value_bytes_max = 8}});
  FakePlugin plugin;
  const callout_host_t* host = nullptr;
  plugin.create = [&](callout_create_args_t* args) { host = args->host; };
  const auto instance = Create(&plugin, "p");
  const callout_shared_data_t* data = DataOf(host);
  const std::string long_space(CALLOUT_SHARED_SPACE_BYTES_MAX + 1, 's');
  const std::string long_key(CALLOUT_SHARED_KEY_BYTES_MAX + 1, 'k');
  callout_shared_put_t how = {};
  EXPECT_EQ(data->put(host, {}, ToBytes("k"), {}, &how, nullptr), CALLOUT_INVALID_ARGUMENT);
  how.struct_size = sizeof(how);
  how.expected = CALLOUT_SHARED_ANY;
  EXPECT_EQ(data->put(host, {}, {}, {}, &how, nullptr), CALLOUT_INVALID_ARGUMENT);
  EXPECT_EQ(data->put(host, ToBytes(long_space), ToBytes("k"), {}, &how, nullptr),
            CALLOUT_INVALID_ARGUMENT);
  EXPECT_EQ(data->get(host, {}, ToBytes(long_key), nullptr, 0, nullptr), CALLOUT_INVALID_ARGUMENT);
  EXPECT_EQ(data->add(host, {}, ToBytes("k"), 1, CALLOUT_SHARED_TTL_NS_MAX + 1, nullptr),
            CALLOUT_INVALID_ARGUMENT);
  int64_t sum = 0;
  EXPECT_EQ(data->add(host, {}, ToBytes("k"), 4, 0, &sum), CALLOUT_OK);
  EXPECT_EQ(sum, 4);
  uint64_t version = 7;
  EXPECT_EQ(Put(host, "", "no room", &version), CALLOUT_RESOURCE_EXHAUSTED);
  EXPECT_EQ(version, 0u);
  EXPECT_EQ(Put(host, "", "too large"), CALLOUT_RESOURCE_EXHAUSTED);
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_shared_data_refused_total{plugin=\"p\"} 2"));
}

TEST_F(InstanceExtensionsTest, RemembersWhatWasAskedForInCreate) {
  FakePlugin plugin;
  const callout_host_t* host = nullptr;
  plugin.create = [&](callout_create_args_t* args) {
    host = args->host;
    EXPECT_EQ(TimersOf(host), TimersOf(host));
    EXPECT_EQ(host->get_extension(host, "callout.timer/1"), nullptr);
    EXPECT_NE(host->get_extension(host, CALLOUT_RPC_METADATA), nullptr);
  };
  const auto instance = Create(&plugin, "p");
  DataOf(host);
  EXPECT_THAT(instance->asked_extensions(),
              ElementsAre(CALLOUT_TIMERS, "callout.timer/1 (unknown)", CALLOUT_RPC_METADATA));
}

TEST_F(InstanceExtensionsTest, AreNotThereWhereTheHostHasNone) {
  FakePlugin plugin;
  plugin.create = [&](callout_create_args_t* args) {
    EXPECT_EQ(TimersOf(args->host), nullptr);
    EXPECT_EQ(DataOf(args->host), nullptr);
  };
  Create(&plugin, "p", false);
}

}  // namespace
}  // namespace callout::host
