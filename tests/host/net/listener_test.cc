// SPDX-License-Identifier: Apache-2.0

#include "host/net/listener.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <string>
#include <utility>

#include "tests/host/sockets.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;

ListenSocket Opened(const std::string& address) {
  auto socket = ListenSocket::Open(ParsedAddress(address));
  if (!socket.ok()) {
    ADD_FAILURE() << socket.status();
    abort();
  }
  return *std::move(socket);
}

std::string RefusalOf(const std::string& address, absl::StatusCode code) {
  const auto socket = ListenSocket::Open(ParsedAddress(address));
  EXPECT_FALSE(socket.ok()) << address;
  EXPECT_EQ(socket.status().code(), code) << socket.status();
  return std::string(socket.status().message());
}

bool CanConnect(const std::string& text) {
  const Address address = ParsedAddress(text);
  const Descriptor fd = MakeSocket(address);
  return connect(fd.get(), address.get(), address.size) == 0;
}

bool HasIpv6() { return ListenSocket::Open(ParsedAddress("[::1]:0")).ok(); }

bool Exists(const std::string& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0;
}

// A socket file as a host that was killed leaves it.
void LeaveDeadSocket(const std::string& path) {
  const Address address = ParsedAddress("unix:" + path);
  const Descriptor fd = MakeSocket(address);
  ASSERT_EQ(bind(fd.get(), address.get(), address.size), 0) << strerror(errno);
}

TEST(ListenSocket, PortZeroBindsAFreePortAndSaysWhich) {
  const ListenSocket socket = Opened("127.0.0.1:0");
  EXPECT_NE(socket.bound().port(), 0);
  EXPECT_EQ(socket.bound().ToString(), "127.0.0.1:" + std::to_string(socket.bound().port()));
  EXPECT_TRUE(CanConnect(socket.bound().ToString()));
}

TEST(ListenSocket, IsNonBlockingAndClosedOnExec) {
  const ListenSocket socket = Opened("127.0.0.1:0");
  EXPECT_NE(fcntl(socket.fd(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(fcntl(socket.fd(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(ListenSocket, ATakenPortIsRefused) {
  const ListenSocket first = Opened("127.0.0.1:0");
  const std::string address = first.bound().ToString();
  EXPECT_EQ(
      RefusalOf(address, absl::StatusCode::kAlreadyExists),
      "cannot listen on " + address + ": address already in use; is another callout-host running?");
  EXPECT_EQ(RefusalOf("0.0.0.0:" + std::to_string(first.bound().port()),
                      absl::StatusCode::kAlreadyExists),
            "cannot listen on 0.0.0.0:" + std::to_string(first.bound().port()) +
                ": address already in use; is another callout-host running?");
}

TEST(ListenSocket, APortCanBeTakenAgainAtOnce) {
  ListenSocket first = Opened("127.0.0.1:0");
  const std::string address = first.bound().ToString();
  const Descriptor client = Connect(first.bound());
  const Descriptor served(accept(first.fd(), nullptr, nullptr));
  ASSERT_GE(served.get(), 0);
  first.Close();
  EXPECT_EQ(Opened(address).bound().ToString(), address);
}

TEST(ListenSocket, AnAddressOfAnotherMachineIsRefused) {
  // 192.0.2.0/24 is for documentation, RFC 5737.
  EXPECT_THAT(RefusalOf("192.0.2.1:0", absl::StatusCode::kUnavailable),
              HasSubstr("cannot listen on 192.0.2.1:0: this machine has no such address"));
}

TEST(ListenSocket, FourZerosMeanIpv4Only) {
  if (!HasIpv6()) GTEST_SKIP() << "no IPv6 here";
  const ListenSocket socket = Opened("0.0.0.0:0");
  const std::string port = std::to_string(socket.bound().port());
  EXPECT_TRUE(CanConnect("127.0.0.1:" + port));
  EXPECT_FALSE(CanConnect("[::1]:" + port));
}

TEST(ListenSocket, TwoColonsMeanIpv6AndIpv4) {
  if (!HasIpv6()) GTEST_SKIP() << "no IPv6 here";
  const ListenSocket socket = Opened("[::]:0");
  const std::string port = std::to_string(socket.bound().port());
  EXPECT_EQ(socket.bound().ToString(), "[::]:" + port);
  EXPECT_TRUE(CanConnect("127.0.0.1:" + port));
  EXPECT_TRUE(CanConnect("[::1]:" + port));
}

TEST(ListenSocket, AUnixPathIsRemovedOnClose) {
  const TempDir dir;
  const std::string path = dir.Path("s");
  {
    const ListenSocket socket = Opened("unix:" + path);
    EXPECT_EQ(socket.bound().ToString(), "unix:" + path);
    EXPECT_TRUE(CanConnect("unix:" + path));
  }
  EXPECT_FALSE(Exists(path));
}

TEST(ListenSocket, AUnixPathInUseIsRefusedAndKeepsServing) {
  const TempDir dir;
  const ListenSocket first = Opened("unix:" + dir.Path("s"));
  EXPECT_EQ(RefusalOf("unix:" + dir.Path("s"), absl::StatusCode::kAlreadyExists),
            "cannot listen on unix:" + dir.Path("s") +
                ": address already in use; is another callout-host running?");
  EXPECT_TRUE(CanConnect("unix:" + dir.Path("s")));
}

TEST(ListenSocket, ADeadUnixPathIsTakenOver) {
  const TempDir dir;
  LeaveDeadSocket(dir.Path("s"));
  ASSERT_TRUE(Exists(dir.Path("s")));
  const ListenSocket socket = Opened("unix:" + dir.Path("s"));
  EXPECT_TRUE(CanConnect("unix:" + dir.Path("s")));
}

TEST(ListenSocket, AFileThatIsNoSocketIsLeftAlone) {
  const TempDir dir;
  std::ofstream(dir.Path("s")) << "precious";
  EXPECT_THAT(
      RefusalOf("unix:" + dir.Path("s"), absl::StatusCode::kAlreadyExists),
      HasSubstr("a file that is not a socket exists there; remove it or choose another path"));
  EXPECT_TRUE(Exists(dir.Path("s")));
}

TEST(ListenSocket, AUnixPathThatSomebodyElseHasTakenSinceIsLeftAlone) {
  const TempDir dir;
  ListenSocket first = Opened("unix:" + dir.Path("s"));
  ASSERT_EQ(rename(dir.Path("s").c_str(), dir.Path("old").c_str()), 0);
  const ListenSocket second = Opened("unix:" + dir.Path("s"));
  first.Close();
  EXPECT_TRUE(CanConnect("unix:" + dir.Path("s")));
}

TEST(ListenSocket, AMissingDirectoryIsNamed) {
  const TempDir dir;
  EXPECT_EQ(RefusalOf("unix:" + dir.Path("no/s"), absl::StatusCode::kUnavailable),
            "cannot listen on unix:" + dir.Path("no/s") + ": No such file or directory");
}

TEST(ListenSocket, MovingLeavesOneOwner) {
  const TempDir dir;
  ListenSocket a = Opened("unix:" + dir.Path("a"));
  ListenSocket b = std::move(a);
  a.Close();
  EXPECT_TRUE(CanConnect("unix:" + dir.Path("a")));
  b = Opened("unix:" + dir.Path("b"));
  EXPECT_FALSE(Exists(dir.Path("a")));
  EXPECT_TRUE(CanConnect("unix:" + dir.Path("b")));
}

TEST(ListenSocket, PeersAreNamedAsGrpcNamesThem) {
  const auto peer_at = [](const ListenSocket& socket, const Descriptor&) {
    const Descriptor served(accept(socket.fd(), nullptr, nullptr));
    return PeerText(served.get());
  };
  const auto port_of = [](const Descriptor& client) {
    Address address;
    address.size = sizeof(address.storage);
    EXPECT_EQ(getsockname(client.get(), address.get(), &address.size), 0);
    return std::to_string(address.port());
  };
  {
    const ListenSocket socket = Opened("127.0.0.1:0");
    const Descriptor client = Connect(socket.bound());
    EXPECT_EQ(peer_at(socket, client), "ipv4:127.0.0.1:" + port_of(client));
  }
  {
    const TempDir dir;
    const ListenSocket socket = Opened("unix:" + dir.Path("s"));
    EXPECT_EQ(peer_at(socket, Connect(socket.bound())), "unix:");
  }
  if (!HasIpv6()) return;
  const ListenSocket socket = Opened("[::]:0");
  const std::string port = std::to_string(socket.bound().port());
  const Descriptor six = Connect(ParsedAddress("[::1]:" + port));
  EXPECT_EQ(peer_at(socket, six), "ipv6:[::1]:" + port_of(six));
  const Descriptor four = Connect(ParsedAddress("127.0.0.1:" + port));
  EXPECT_EQ(peer_at(socket, four), "ipv4:127.0.0.1:" + port_of(four));
}

TEST(Listener, RefusesClientsUntilItListens) {
  auto socket = ListenSocket::Bind(ParsedAddress("127.0.0.1:0"));
  ASSERT_TRUE(socket.ok()) << socket.status();
  ASSERT_NE(socket->bound().port(), 0);
  {
    const Descriptor client = MakeSocket(socket->bound());
    EXPECT_NE(connect(client.get(), socket->bound().get(), socket->bound().size), 0);
    EXPECT_EQ(errno, ECONNREFUSED);
  }
  ASSERT_TRUE(socket->Listen().ok());
  Connect(socket->bound());
}

TEST(Listener, OfTwoThatBoundOnePortOnlyTheFirstListens) {
  auto first = ListenSocket::Bind(ParsedAddress("127.0.0.1:0"));
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = ListenSocket::Bind(first->bound());
  ASSERT_TRUE(first->Listen().ok());
  const absl::Status status = second.ok() ? second->Listen() : second.status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << status;
}

TEST(ListenSocket, GivesAUnixSocketTheModeAskedForWhateverTheUmask) {
  const TempDir directory;
  const std::string path = directory.Path("socket");
  const mode_t umask_before = umask(0022);
  for (const unsigned mode : {0600u, 0660u, 0666u, 0777u}) {
    const auto socket = ListenSocket::Bind(*ParseAddress("unix:" + path), mode);
    ASSERT_TRUE(socket.ok()) << socket.status();
    struct stat status;
    ASSERT_EQ(lstat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, mode);
  }
  umask(umask_before);
}

}  // namespace
}  // namespace callout::host
