// SPDX-License-Identifier: Apache-2.0

#include "host/base/owned_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <fstream>

#include "sockets.h"

namespace callout::host {
namespace {

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

TEST(OwnedFdTest, IsClosedWithItsLastOwner) {
  int fd = -1;
  {
    OwnedFd first(open("/dev/null", O_RDONLY | O_CLOEXEC));
    fd = first.get();
    OwnedFd second(std::move(first));
    EXPECT_LT(first.get(), 0);  // NOLINT(bugprone-use-after-move): what it promises
    EXPECT_TRUE(IsOpen(fd));
    OwnedFd third;
    third = std::move(second);
    EXPECT_EQ(third.get(), fd);
    EXPECT_TRUE(IsOpen(fd));
  }
  EXPECT_FALSE(IsOpen(fd));
}

TEST(OwnedFdTest, StaysOpenOnceReleased) {
  OwnedFd owned(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const OwnedFd other(owned.Release());
  EXPECT_LT(owned.get(), 0);
  EXPECT_TRUE(IsOpen(other.get()));
}

}  // namespace
}  // namespace callout::host
