// SPDX-License-Identifier: Apache-2.0

#include "host/transport/h2/h2_guard.h"

#include <gtest/gtest.h>

#include "h2_client.h"

namespace callout::host {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

TEST(H2Budget, AllowsItsMostAndAsMuchAgainInTenSeconds) {
  H2Budget budget(100, kSecond);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(budget.Spend(kSecond));
  EXPECT_FALSE(budget.Spend(kSecond));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(budget.Spend(2 * kSecond)) << i;
  EXPECT_FALSE(budget.Spend(2 * kSecond));
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(budget.Spend(1000 * kSecond)) << i;
  EXPECT_FALSE(budget.Spend(1000 * kSecond));
  budget.Earn(1);
  EXPECT_TRUE(budget.Spend(1000 * kSecond));
}

TEST(H2Budget, ZeroIsNoLimit) {
  H2Budget budget(0, 0);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(budget.Spend(0));
}

// Feeds in pieces; how many bytes passed.
size_t ScanAll(H2Guard* guard, std::string_view bytes, size_t piece) {
  size_t passed = 0;
  while (!bytes.empty()) {
    const std::string_view part = bytes.substr(0, piece);
    const size_t size = guard->Scan(part, 0);
    passed += size;
    if (size < part.size()) break;
    bytes.remove_prefix(part.size());
  }
  return passed;
}

TEST(H2Guard, ALegalConnectionPassesInAnyPieces) {
  std::string padded = Frame(NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, std::string("\1x\0", 3));
  const std::string bytes =
      std::string(kPreface) + Frame(NGHTTP2_SETTINGS, 0, 0, "123456") +
      Frame(NGHTTP2_HEADERS, 0, 1, std::string(100, 'h')) +
      Frame(NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 1, std::string(100, 'c')) + padded +
      Frame(NGHTTP2_DATA, 0, 1, std::string(1000, 'd')) +
      Frame(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, "") + Frame(NGHTTP2_RST_STREAM, 0, 1, "1234");
  for (const size_t piece : {1, 3, 10, 100, 5000}) {
    H2Guard guard({.header_block_bytes_max = 200, .control_frames_max = 1}, 0);
    EXPECT_EQ(ScanAll(&guard, bytes, piece), bytes.size()) << piece;
    EXPECT_TRUE(guard.settled());
  }
}

TEST(H2Guard, WhoGoesOnAfterTheEndOfItsStreamIsStopped) {
  const std::string begin =
      std::string(kPreface) + Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, "h");
  const std::string ends[] = {Frame(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, "d"),
                              Frame(NGHTTP2_RST_STREAM, 0, 1, "1234")};
  const std::string more[] = {Frame(NGHTTP2_DATA, 0, 1, "d"),
                              Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, "h")};
  for (const std::string& end : ends) {
    for (const std::string& frame : more) {
      H2Guard guard({}, 0);
      ScanAll(&guard, begin + end + frame, 1000);
      EXPECT_EQ(guard.reason(), H2Reason::kClosedStream);
      // So much is remembered, and no more.
      std::string others;
      for (uint32_t i = 1; i <= H2Guard::kEndedMax; ++i) {
        others += Frame(NGHTTP2_RST_STREAM, 0, 1 + 2 * i, "1234");
      }
      H2Guard forgetful({}, 0);
      ScanAll(&forgetful, begin + end + others + frame, 1000);
      EXPECT_EQ(forgetful.reason(), H2Reason::kNone);
    }
  }
}

TEST(H2Guard, StopsAtTheFrameThatIsTooMuch) {
  const std::string settings = std::string(kPreface) + Frame(NGHTTP2_SETTINGS, 0, 0, "");
  const struct {
    H2Reason reason;
    std::string good, bad;
  } table[] = {
      {H2Reason::kPing, "", Frame(NGHTTP2_PING, 0, 0, "12345678")},
      {H2Reason::kSettings, "", Frame(NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, "")},
      {H2Reason::kEmptyData, "", Frame(NGHTTP2_DATA, 0, 1, "")},
      {H2Reason::kUnknownFrames, "", Frame(200, 0, 1, "?")},
      {H2Reason::kHeaderBlock, Frame(NGHTTP2_HEADERS, 0, 1, std::string(100, 'h')),
       Frame(NGHTTP2_CONTINUATION, 0, 1, std::string(101, 'c'))},
      {H2Reason::kHeaderBlock, "", Frame(NGHTTP2_HEADERS, 4, 1, std::string(201, 'h'))},
  };
  for (const auto& c : table) {
    for (const size_t piece : {1, 5000}) {
      SCOPED_TRACE(H2ReasonName(c.reason));
      H2Guard guard({.header_block_bytes_max = 200, .control_frames_max = 1}, 0);
      const std::string good = settings + c.good;
      const size_t passed = ScanAll(&guard, good + c.bad, piece);
      EXPECT_GE(passed, good.size());
      EXPECT_LT(passed, good.size() + 9) << "not its whole head";
      EXPECT_EQ(guard.reason(), c.reason);
      EXPECT_EQ(guard.Scan("more", 0), 0U);
    }
  }
}

TEST(H2Guard, DataOfNothingButPaddingIsEmpty) {
  H2Guard guard({.header_block_bytes_max = 200, .control_frames_max = 1}, 0);
  const std::string bytes = std::string(kPreface) + Frame(NGHTTP2_SETTINGS, 0, 0, "") +
                            Frame(NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, std::string("\2\0\0", 3));
  ScanAll(&guard, bytes, 7);
  EXPECT_EQ(guard.reason(), H2Reason::kEmptyData);
}

TEST(H2Guard, CountsContinuationsOfEachBlock) {
  const auto block = [](int continuations) {
    std::string bytes = Frame(NGHTTP2_HEADERS, 0, 1, "h");
    for (int i = 1; i < continuations; ++i) bytes += Frame(NGHTTP2_CONTINUATION, 0, 1, "");
    return bytes + Frame(NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 1, "");
  };
  H2Guard guard({}, 0);
  const std::string legal = std::string(kPreface) + block(8) + block(8);
  EXPECT_EQ(ScanAll(&guard, legal, 5000), legal.size());
  ScanAll(&guard, block(9), 5000);
  EXPECT_EQ(guard.reason(), H2Reason::kContinuations);
}

TEST(H2Guard, CountsGoawaysOfTheConnection) {
  const std::string goaway = Frame(NGHTTP2_GOAWAY, 0, 0, std::string(8, '\0'));
  H2Guard guard({.control_frames_max = 0}, 0);
  std::string legal = std::string(kPreface) + Frame(NGHTTP2_SETTINGS, 0, 0, "");
  for (int i = 0; i < H2Guard::kGoawaysMax; ++i) legal += goaway;
  EXPECT_EQ(ScanAll(&guard, legal, 5000), legal.size());
  guard.OnDataSent();
  EXPECT_EQ(ScanAll(&guard, goaway, 5000), 0U) << "no answer earns one";
  EXPECT_EQ(guard.reason(), H2Reason::kGoaways);
  EXPECT_STREQ(H2ReasonName(guard.reason()), "goaways");
}

TEST(H2Guard, WhatIsSentEarnsAcknowledgements) {
  H2Guard guard({.header_block_bytes_max = 200, .control_frames_max = 2}, 0);
  std::string bytes = std::string(kPreface) + Frame(NGHTTP2_SETTINGS, 0, 0, "");
  ASSERT_EQ(ScanAll(&guard, bytes, 5000), bytes.size());
  const std::string update = Frame(NGHTTP2_WINDOW_UPDATE, 0, 0, "1234");
  for (int i = 0; i < 100; ++i) {
    guard.OnDataSent();
    ASSERT_EQ(ScanAll(&guard, update + update, 5000), 2 * update.size());
  }
}

TEST(H2Guard, KeyUpdatesOfTlsShareTheBudget) {
  H2Guard guard({.header_block_bytes_max = 200, .control_frames_max = 3}, 0);
  guard.TakeKeyUpdates(3, 0);
  EXPECT_EQ(guard.reason(), H2Reason::kNone);
  guard.TakeKeyUpdates(1, 0);
  EXPECT_EQ(guard.reason(), H2Reason::kKeyUpdates);
  EXPECT_STREQ(H2ReasonName(guard.reason()), "key_updates");
}

}  // namespace
}  // namespace callout::host
