// SPDX-License-Identifier: Apache-2.0

#include "host/workers/worker_channel.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>

#include "sockets.h"

namespace callout::host {
namespace {

class WorkerChannelTest : public ::testing::Test {
 protected:
  WorkerChannelTest() {
    int fds[2] = {-1, -1};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    ours_.emplace(fds[0]);
    theirs_ = Descriptor(fds[1]);
  }

  // The next message, however long it takes to arrive; nothing at the end.
  std::optional<WorkerMessage> Receive(WorkerChannel* channel) {
    for (;;) {
      if (std::optional<WorkerMessage> message = channel->Take()) return message;
      if (!WaitReadable(channel->fd()) || !channel->Read()) return std::nullopt;
    }
  }

  std::optional<WorkerChannel> ours_;
  Descriptor theirs_;
};

TEST_F(WorkerChannelTest, MessagesArriveInOrderAndWhole) {
  WorkerChannel other(dup(theirs_.get()));
  const std::string large(1 << 20, 'x');
  std::thread sender([&] {
    EXPECT_TRUE(other.Send({WorkerMessageKind::kPrepare, 1, large}));
    EXPECT_TRUE(other.Send({WorkerMessageKind::kServe, 2, ""}));
  });
  const auto first = Receive(&*ours_);
  const auto second = Receive(&*ours_);
  sender.join();
  ASSERT_TRUE(first.has_value() && second.has_value());
  EXPECT_EQ(first->kind, WorkerMessageKind::kPrepare);
  EXPECT_EQ(first->number, 1u);
  EXPECT_EQ(first->body, large);
  EXPECT_EQ(second->kind, WorkerMessageKind::kServe);
  EXPECT_EQ(second->body, "");
}

TEST_F(WorkerChannelTest, AnEndIsSeenAfterWhatCameBeforeIt) {
  {
    WorkerChannel other(dup(theirs_.get()));
    EXPECT_TRUE(other.Send({WorkerMessageKind::kServe, 2, "x"}));
    theirs_.Close();
  }
  EXPECT_TRUE(Receive(&*ours_).has_value());
  EXPECT_FALSE(Receive(&*ours_).has_value());
  EXPECT_FALSE(ours_->Send({WorkerMessageKind::kServe, 3, ""}));
}

TEST_F(WorkerChannelTest, AMessageOverTheLimitIsTheEnd) {
  const uint64_t size = WorkerChannel::kMessageBytesMax + 1;
  std::string head(17, '\0');
  std::memcpy(head.data(), &size, sizeof(size));
  ASSERT_TRUE(Write(theirs_.get(), head + "more"));
  EXPECT_FALSE(Receive(&*ours_).has_value());
}

TEST_F(WorkerChannelTest, WhatComesInPiecesIsPutTogether) {
  std::string bytes(17, '\0');
  bytes[0] = 3;
  bytes += "abc";
  for (char c : bytes) {
    EXPECT_FALSE(ours_->Take().has_value());
    ASSERT_TRUE(Write(theirs_.get(), std::string_view(&c, 1)));
    ASSERT_TRUE(WaitReadable(ours_->fd()));
    ASSERT_TRUE(ours_->Read());
  }
  EXPECT_EQ(ours_->Take().value_or(WorkerMessage()).body, "abc");
}

}  // namespace
}  // namespace callout::host
