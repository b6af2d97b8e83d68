// SPDX-License-Identifier: Apache-2.0

// plugins/l4_rewrite, in the fake host; behind a real Envoy see tests/envoy/l4_test.cc.
#include <gtest/gtest.h>

#include <callout/testing.hpp>
#include <random>
#include <string>
#include <vector>

#include "host_process.h"
#include "l4_rewrite/rewriter.h"

namespace callout::tests {
namespace {

using callout::plugins::Rewriter;
using callout::plugins::Rules;
using callout::testing::DataAnswer;

constexpr char kConfig[] = R"({"replace_read": [{"from": "hello", "to": "goodbye"}],
    "replace_write": [{"from": "a", "to": ""}], "close_write": ["secret"]})";

TEST(L4RewriteTest, EachDirectionHasItsTexts) {
  callout::testing::Plugin plugin(BuiltPlugin("l4_rewrite"), kConfig);
  callout::testing::Stream connection(plugin);
  EXPECT_EQ(connection.read_data("say hello a").data, "say goodbye a");
  EXPECT_EQ(connection.write_data("hello a").data, "hello ");
  EXPECT_FALSE(connection.read_data("plain").is_replaced) << "it says nothing";
  EXPECT_TRUE(connection.read_data("secret").passes());
  EXPECT_EQ(connection.write_data("a secret").connection, DataAnswer::Connection::kCloses);
  EXPECT_EQ(plugin.metric("l4_rewrite_replaced_total"), 2);
  EXPECT_EQ(plugin.metric("l4_rewrite_closed_total"), 1);
}

TEST(L4RewriteTest, ATextInPiecesIsFound) {
  callout::testing::Plugin plugin(BuiltPlugin("l4_rewrite"), kConfig);
  callout::testing::Stream connection(plugin);
  EXPECT_EQ(connection.read_data("x hel").data, "x ");
  EXPECT_EQ(connection.read_data("l").data, "");
  EXPECT_EQ(connection.read_data("o y he").data, "goodbye y ");
  EXPECT_EQ(connection.read_data("", true).data, "he") << "nothing more comes";
  EXPECT_EQ(connection.write_data("sec").data, "");
  EXPECT_FALSE(connection.write_data("ret").passes());
}

TEST(L4RewriteTest, ATextThatAReplacementMakesClosesTheConnection) {
  callout::testing::Plugin plugin(BuiltPlugin("l4_rewrite"), kConfig);
  callout::testing::Stream whole(plugin);
  EXPECT_FALSE(whole.write_data("a secaret").passes());
  callout::testing::Stream in_pieces(plugin);
  EXPECT_EQ(in_pieces.write_data("saeca").data, "sec");
  EXPECT_EQ(in_pieces.write_data("are").data, "re");
  EXPECT_FALSE(in_pieces.write_data("t").passes());
}

TEST(L4RewriteTest, ConfigurationsThatCannotBeMeantAreRefused) {
  for (const char* config :
       {R"({"replace_read": [{"from": "", "to": "x"}]})", R"({"replace_read": [{"from": "x"}]})",
        R"({"close": []})", R"({"close_read": [""]})"}) {
    callout::testing::Plugin plugin(BuiltPlugin("l4_rewrite"), config);
    EXPECT_EQ(plugin.status(), CALLOUT_INVALID_ARGUMENT) << config;
  }
}

TEST(RewriterTest, TheFirstRuleCounts) {
  const Rules rules = {{"ab", "1", false}, {"abc", "2", false}, {"c", "3", false}};
  EXPECT_EQ(Rewriter(&rules).Take("abcc", true).bytes, "133");
  const Rules longer_first = {{"abc", "2", false}, {"ab", "1", false}};
  Rewriter rewriter(&longer_first);
  EXPECT_EQ(rewriter.Take("ab", false).bytes, "") << "the first may still come";
  EXPECT_EQ(rewriter.Take("d", false).bytes, "1d");
}

// However the bytes are cut, the same comes out of them.
TEST(RewriterTest, PiecesMakeNoDifference) {
  constexpr unsigned kSeed = 11;
  SCOPED_TRACE(kSeed);
  std::mt19937 random(kSeed);
  const Rules rules = {{"aab", "X", false}, {"ab", "", false}, {"bbb", "YY", false}};
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (unsigned i = random() % 30; i > 0; --i) bytes.push_back("abc"[random() % 3]);
    const std::string whole = Rewriter(&rules).Take(bytes, true).bytes;
    Rewriter rewriter(&rules);
    std::string pieces;
    for (size_t at = 0; at < bytes.size();) {
      const size_t size = random() % 5;
      pieces += rewriter.Take(std::string_view(bytes).substr(at, size), false).bytes;
      at += size;
    }
    pieces += rewriter.Take("", true).bytes;
    EXPECT_EQ(pieces, whole) << bytes;
  }
}

}  // namespace
}  // namespace callout::tests
