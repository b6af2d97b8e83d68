// SPDX-License-Identifier: Apache-2.0

#include "host/net/accept_loop.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/net/listener.h"
#include "tests/host/sockets.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;

// A loop whose listener writes its name to each client and closes.
class AcceptLoopTest : public ::testing::Test {
 protected:
  AcceptLoopTest()
      : loop_(&metrics_, [this](const absl::Status& status) {
          reports_.Update([&](auto& reports) { reports.push_back(std::string(status.message())); });
        }) {}

  const Address& Listen(const std::string& address) {
    auto socket = ListenSocket::Open(ParsedAddress(address));
    EXPECT_TRUE(socket.ok()) << socket.status();
    sockets_.push_back(*std::move(socket));
    return sockets_.back().bound();
  }

  AcceptLoop::Listener Greeter(const std::string& name, const ListenSocket& socket) {
    return {.name = name,
            .fd = socket.fd(),
            .on_connection =
                [name](int fd) {
                  const Descriptor served(fd);
                  Write(served.get(), name);
                },
            .may_accept = nullptr};
  }

  void Start(std::vector<AcceptLoop::Listener> listeners) {
    const absl::Status status = loop_.Start(std::move(listeners));
    ASSERT_TRUE(status.ok()) << status;
  }

  Metrics metrics_;
  Watched<std::vector<std::string>> reports_;
  std::vector<ListenSocket> sockets_;
  AcceptLoop loop_;
};

TEST_F(AcceptLoopTest, HandsEachConnectionToItsListener) {
  const TempDir dir;
  Listen("127.0.0.1:0");
  Listen("unix:" + dir.Path("s"));
  Start({Greeter("one", sockets_[0]), Greeter("two", sockets_[1])});
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(ReadToEnd(Connect(sockets_[0].bound()).get()), "one");
    EXPECT_EQ(ReadToEnd(Connect(sockets_[1].bound()).get()), "two");
  }
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("callout_connections_accepted_total{listener=\"one\"} 200"));
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("callout_connections_accepted_total{listener=\"two\"} 200"));
}

TEST(AcceptLoopShare, WhoHasMoreConnectionsWaitsLongerAndTakesSeveralAtOnce) {
  using std::chrono::microseconds;
  EXPECT_EQ(AcceptLoop::ShareOf(0).wait, microseconds(0));
  EXPECT_EQ(AcceptLoop::ShareOf(0).connections_max, 1);
  for (size_t connections = 1; connections <= 1024; connections *= 2) {
    const AcceptLoop::Share share = AcceptLoop::ShareOf(connections);
    EXPECT_GE(share.wait, AcceptLoop::ShareOf(connections / 2).wait + microseconds(250));
    EXPECT_GE(share.connections_max, AcceptLoop::ShareOf(connections / 2).connections_max);
  }
  EXPECT_EQ(AcceptLoop::ShareOf(SIZE_MAX).wait, microseconds(3000));
  EXPECT_EQ(AcceptLoop::ShareOf(SIZE_MAX).connections_max, 64);
}

TEST_F(AcceptLoopTest, OneThatSharesItsSocketsAcceptsAllIfNobodyElseDoes) {
  Listen("127.0.0.1:0");
  std::atomic<size_t> accepted{0};
  AcceptLoop sharing(
      &metrics_, [](const absl::Status&) {}, [&] { return accepted.load(); });
  AcceptLoop::Listener listener = Greeter("one", sockets_[0]);
  listener.on_connection = [&, greet = listener.on_connection](int fd) {
    ++accepted;
    greet(fd);
  };
  ASSERT_TRUE(sharing.Start({listener}).ok());
  std::vector<Descriptor> clients;
  for (int i = 0; i < 100; ++i) clients.push_back(Connect(sockets_[0].bound()));
  for (const Descriptor& client : clients) EXPECT_EQ(ReadToEnd(client.get()), "one");
  sharing.Stop();
  EXPECT_EQ(accepted, 100u);
}

TEST_F(AcceptLoopTest, DescriptorsAreNonBlockingClosedOnExecAndSendAtOnce) {
  Listen("127.0.0.1:0");
  Watched<std::optional<std::string>> seen;
  AcceptLoop::Listener listener = Greeter("x", sockets_[0]);
  listener.on_connection = [&](int fd) {
    const Descriptor served(fd);
    int no_delay = 0;
    socklen_t size = sizeof(no_delay);
    getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &size);
    std::string flags;
    if ((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0) flags += "nonblock ";
    if ((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0) flags += "cloexec ";
    if (no_delay != 0) flags += "nodelay";
    seen.Update([&](auto& value) { value = flags; });
  };
  Start({listener});
  const Descriptor client = Connect(sockets_[0].bound());
  ASSERT_TRUE(seen.Await([](const auto& value) { return value.has_value(); }));
  EXPECT_EQ(seen.Get(), "nonblock cloexec nodelay");
}

TEST_F(AcceptLoopTest, ClosesAtOnceWhatMayNotBeAccepted) {
  Listen("127.0.0.1:0");
  std::atomic<bool> room{false};
  AcceptLoop::Listener listener = Greeter("x", sockets_[0]);
  listener.may_accept = [&](int) { return room.load(); };
  Start({listener});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(ReadToEnd(Connect(sockets_[0].bound()).get()), "");
  room = true;
  EXPECT_EQ(ReadToEnd(Connect(sockets_[0].bound()).get()), "x");
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_connections_refused_total{listener=\"x\"} 3"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_connections_accepted_total{listener=\"x\"} 1"));
}

// Lowers the limit on descriptors to what is open now and some more, and raises it again.
class NoMoreDescriptors {
 public:
  explicit NoMoreDescriptors(int but = 0) {
    getrlimit(RLIMIT_NOFILE, &before_);
    const Descriptor lowest_free(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0));
    rlimit none = before_;
    none.rlim_cur = static_cast<rlim_t>(lowest_free.get() + but);
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  }
  ~NoMoreDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_;
};

TEST_F(AcceptLoopTest, ServesAgainByItselfAfterDescriptorsRanOut) {
  constexpr size_t kClients = 20;
  Listen("127.0.0.1:0");
  Start({Greeter("served", sockets_[0])});
  std::vector<Descriptor> clients;
  clients.reserve(kClients);
  for (size_t i = 0; i < kClients; ++i) clients.push_back(MakeSocket(sockets_[0].bound()));
  for (size_t round = 0; round < 2; ++round) {
    {
      const NoMoreDescriptors none;
      for (size_t i = 0; i < kClients / 2; ++i) {
        const Descriptor& client = clients[round * kClients / 2 + i];
        const Address& address = sockets_[0].bound();
        ASSERT_EQ(connect(client.get(), address.get(), address.size), 0) << strerror(errno);
      }
      // In the second round the first pause may go on, if the loop has not seen an
      // empty queue in between; then there is nothing new to report.
      ASSERT_TRUE(reports_.Await([](const auto& reports) { return !reports.empty(); }));
    }
    // No new client, no call: those who waited are served.
    for (size_t i = 0; i < kClients / 2; ++i) {
      EXPECT_EQ(ReadToEnd(clients[round * kClients / 2 + i].get()), "served");
    }
  }
  const std::string report =
      "accept paused; connections stay in the backlog: Too many open files; raise ulimit -n or "
      "lower "
      "--max_connections";
  const std::vector<std::string> reports = reports_.Get();
  EXPECT_LE(reports.size(), 2u);
  EXPECT_EQ(reports, std::vector<std::string>(reports.size(), report));
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("callout_accept_pauses_total " + std::to_string(reports.size())))
      << "one report for each pause";
}

// Health checks have a loop of their own, which needs a descriptor for each.
TEST_F(AcceptLoopTest, LeavesDescriptorsToOthers) {
  constexpr int kLeft = 8;
  Listen("127.0.0.1:0");
  Watched<std::vector<int>> open;
  AcceptLoop::Listener keeper = Greeter("kept", sockets_[0]);
  keeper.on_connection = [&](int fd) { open.Update([fd](auto& all) { all.push_back(fd); }); };
  keeper.descriptors_left = kLeft;
  Start({keeper});
  std::vector<Descriptor> clients;
  for (int i = 0; i < 10; ++i) clients.push_back(MakeSocket(sockets_[0].bound()));
  {
    const NoMoreDescriptors few(kLeft + 3);
    for (const Descriptor& client : clients) {
      const Address& address = sockets_[0].bound();
      ASSERT_EQ(connect(client.get(), address.get(), address.size), 0) << strerror(errno);
    }
    ASSERT_TRUE(reports_.Await([](const auto& reports) { return !reports.empty(); }));
    EXPECT_EQ(open.Get().size(), 3u);
    std::vector<Descriptor> of_others;
    for (int i = 0; i < kLeft; ++i) {
      of_others.emplace_back(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0));
      EXPECT_GE(of_others.back().get(), 0) << i;
    }
  }
  // Those who waited are served once there are more.
  EXPECT_TRUE(open.Await([](const auto& all) { return all.size() == 10; }));
  for (const int fd : open.Get()) close(fd);
}

TEST_F(AcceptLoopTest, StopsInAPause) {
  Listen("127.0.0.1:0");
  Start({Greeter("served", sockets_[0])});
  const Descriptor client = MakeSocket(sockets_[0].bound());
  const NoMoreDescriptors none;
  const Address& address = sockets_[0].bound();
  ASSERT_EQ(connect(client.get(), address.get(), address.size), 0);
  ASSERT_TRUE(reports_.Await([](const auto& reports) { return !reports.empty(); }));
  loop_.Stop();
}

TEST_F(AcceptLoopTest, StopHandsOverWhatWasQueued) {
  Listen("127.0.0.1:0");
  // The first connection keeps the loop busy until Stop has been called.
  Watched<bool> busy;
  Watched<bool> go_on;
  std::atomic<int> handed{0};
  AcceptLoop::Listener listener = Greeter("served", sockets_[0]);
  listener.on_connection = [&](int fd) {
    const Descriptor served(fd);
    if (handed++ == 0) {
      busy.Update([](bool& value) { value = true; });
      EXPECT_TRUE(go_on.Await([](bool value) { return value; }));
    }
    Write(served.get(), "served");
  };
  Start({listener});
  const Descriptor first = Connect(sockets_[0].bound());
  ASSERT_TRUE(busy.Await([](bool value) { return value; }));
  std::vector<Descriptor> queued;
  queued.reserve(100);
  for (int i = 0; i < 100; ++i) queued.push_back(Connect(sockets_[0].bound()));
  Watched<bool> stopping;
  std::thread stopper([&] {
    stopping.Update([](bool& value) { value = true; });
    loop_.Stop();
  });
  EXPECT_TRUE(stopping.Await([](bool value) { return value; }));
  go_on.Update([](bool& value) { value = true; });
  stopper.join();
  sockets_[0].Close();
  for (const Descriptor& client : queued) EXPECT_EQ(ReadToEnd(client.get()), "served");
}

TEST_F(AcceptLoopTest, AfterStopNothingIsAccepted) {
  Listen("127.0.0.1:0");
  Start({Greeter("served", sockets_[0])});
  loop_.Stop();
  loop_.Stop();
  const Descriptor late = Connect(sockets_[0].bound());
  sockets_[0].Close();
  EXPECT_EQ(ReadToEnd(late.get()), "");
}

}  // namespace
}  // namespace callout::host
