#include "host/connection_limit.h"

#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "host/listener.h"
#include "tests/host/sockets.h"

namespace callout::host {
namespace {

class ConnectionLimitTest : public ::testing::Test {
 protected:
  Descriptor Open() { return MakeSocket(ParsedAddress("127.0.0.1:0")); }
};

TEST_F(ConnectionLimitTest, SaysNoAtTheLimitAndYesOnceOneIsClosed) {
  ConnectionLimit limit(2);
  const Descriptor first = Open();
  Descriptor second = Open();
  for (const Descriptor* open : {&first, &std::as_const(second)}) {
    ASSERT_TRUE(limit.MayAdd());
    limit.Add(open->get());
  }
  EXPECT_FALSE(limit.MayAdd());
  EXPECT_EQ(limit.Count(), 2U);
  second.Close();
  EXPECT_EQ(limit.Count(), 1U);
  EXPECT_TRUE(limit.MayAdd());
}

TEST_F(ConnectionLimitTest, LooksAgainByItself) {
  ConnectionLimit limit(1);
  Descriptor open = Open();
  limit.Add(open.get());
  EXPECT_FALSE(limit.MayAdd());
  open.Close();
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(kGiveUpMs);
  while (!limit.MayAdd()) ASSERT_LT(std::chrono::steady_clock::now(), give_up);
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
    ASSERT_TRUE(limit.MayAdd());
    open.push_back(Open());
    limit.Add(open.back().get());
  }
  EXPECT_EQ(limit.Count(), 100U);
}

}  // namespace
}  // namespace callout::host
