// SPDX-License-Identifier: Apache-2.0

#include "host/base/wake.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <thread>

namespace callout::host {
namespace {

bool IsReadable(const Wake& wake, int timeout_ms) {
  pollfd readable = {wake.fd(), POLLIN, 0};
  return poll(&readable, 1, timeout_ms) == 1;
}

TEST(Wake, IsReadableFromSetToClear) {
  Wake wake;
  EXPECT_FALSE(IsReadable(wake, 0));
  wake.Set();
  wake.Set();
  EXPECT_TRUE(IsReadable(wake, 0));
  wake.Clear();
  EXPECT_FALSE(IsReadable(wake, 0));
  wake.Clear();  // does not wait
}

TEST(Wake, WakesAThreadThatWaits) {
  Wake wake;
  std::thread other([&] { wake.Set(); });
  EXPECT_TRUE(IsReadable(wake, -1));
  other.join();
}

}  // namespace
}  // namespace callout::host
