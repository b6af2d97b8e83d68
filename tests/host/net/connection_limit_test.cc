// SPDX-License-Identifier: Apache-2.0

#include "host/net/connection_limit.h"

#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "host/net/listener.h"
#include "tests/host/sockets.h"

namespace callout::host {
namespace {

class ConnectionLimitTest : public ::testing::Test {
 protected:
  Descriptor Open() { return MakeSocket(ParsedAddress("127.0.0.1:0")); }
  // Of a client that is at `from`: its end, and the one that was accepted.
  std::pair<Descriptor, Descriptor> OpenFrom(const std::string& from) {
    const Address any = ParsedAddress("127.0.0.1:0");
    if (!listening_.ok()) listening_ = ListenSocket::Open(any);
    Descriptor socket = MakeSocket(any);
    const Address address = ParsedAddress(from + ":0");
    EXPECT_EQ(bind(socket.get(), address.get(), address.size), 0);
    const Address to = listening_->bound();
    EXPECT_EQ(connect(socket.get(), to.get(), to.size), 0);
    EXPECT_TRUE(WaitReadable(listening_->fd()));
    Descriptor accepted(accept(listening_->fd(), nullptr, nullptr));
    return {std::move(socket), std::move(accepted)};
  }

 private:
  absl::StatusOr<ListenSocket> listening_ = absl::UnavailableError("not yet");
};

TEST_F(ConnectionLimitTest, SaysNoAtTheLimitAndYesOnceOneIsClosed) {
  ConnectionLimit limit(2);
  const Descriptor first = Open();
  Descriptor second = Open();
  for (const Descriptor* open : {&first, &std::as_const(second)}) {
    ASSERT_TRUE(limit.MayAdd(-1));
    limit.Add(open->get());
  }
  EXPECT_FALSE(limit.MayAdd(-1));
  EXPECT_EQ(limit.Count(), 2U);
  second.Close();
  EXPECT_EQ(limit.Count(), 1U);
  EXPECT_TRUE(limit.MayAdd(-1));
}

TEST_F(ConnectionLimitTest, LooksAgainByItself) {
  ConnectionLimit limit(1);
  Descriptor open = Open();
  limit.Add(open.get());
  EXPECT_FALSE(limit.MayAdd(-1));
  open.Close();
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(kGiveUpMs);
  while (!limit.MayAdd(-1)) ASSERT_LT(std::chrono::steady_clock::now(), give_up);
}

TEST_F(ConnectionLimitTest, ADescriptorUsedAgainIsAnotherConnection) {
  ConnectionLimit limit(10);
  Descriptor open = Open();
  const int number = open.get();
  limit.Add(number);
  open.Close();
  const Descriptor again = Open();
  ASSERT_EQ(again.get(), number);
  EXPECT_EQ(limit.Count(), 0U);
}

TEST_F(ConnectionLimitTest, ZeroIsNoLimit) {
  ConnectionLimit limit(0);
  std::vector<Descriptor> open;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(limit.MayAdd(-1));
    open.push_back(Open());
    limit.Add(open.back().get());
  }
  EXPECT_EQ(limit.Count(), 100U);
}

TEST_F(ConnectionLimitTest, OneAddressMayHaveItsShareOnly) {
  ConnectionLimit limit(100, 2);
  const auto first = OpenFrom("127.0.0.1");
  auto second = OpenFrom("127.0.0.1");
  for (const auto* pair : {&first, &std::as_const(second)}) {
    ASSERT_TRUE(limit.MayAdd(pair->second.get()));
    limit.Add(pair->second.get());
  }
  const auto third = OpenFrom("127.0.0.1");
  const auto other = OpenFrom("127.0.0.2");
  EXPECT_FALSE(limit.MayAdd(third.second.get()));
  EXPECT_TRUE(limit.MayAdd(other.second.get()));
  second.second.Close();
  EXPECT_EQ(limit.Count(), 1U);
  EXPECT_TRUE(limit.MayAdd(third.second.get()));
}

TEST_F(ConnectionLimitTest, AboveHalfOfAllAnAddressHasItsShare) {
  ConnectionLimit limit(40);
  std::vector<std::pair<Descriptor, Descriptor>> open;
  const auto add = [&](const std::string& from) {
    open.push_back(OpenFrom(from));
    if (!limit.MayAdd(open.back().second.get())) return false;
    limit.Add(open.back().second.get());
    return true;
  };
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(add("127.0.0.1")) << "a lone client is one address";
  EXPECT_FALSE(add("127.0.0.1"));
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(add("127.0.0.2")) << "8 are the least that one has";
  EXPECT_FALSE(add("127.0.0.2"));
  EXPECT_TRUE(add("127.0.0.3"));
}

}  // namespace
}  // namespace callout::host
