// SPDX-License-Identifier: Apache-2.0

#include "host/trace/span_notes.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "host/base/utf8.h"

namespace callout::host {
namespace {

SpanAttribute Text(std::string key, std::string text) { return {std::move(key), std::move(text)}; }
SpanAttribute Number(std::string key, int64_t number) { return {std::move(key), number}; }

class SpanNotesTest : public ::testing::Test {
 protected:
  bool Set(SpanAttribute attribute) { return notes_.Set(std::move(attribute), limits_, &budget_); }
  bool Add(SpanEvent event) { return notes_.Add(std::move(event), limits_, &budget_); }

  SpanLimits limits_;
  SpanBudget budget_{SpanLimits().bytes_max};
  SpanNotes notes_;
};

TEST_F(SpanNotesTest, TheLastValueOfAKeyStays) {
  EXPECT_TRUE(Set(Text("a", "one")));
  EXPECT_TRUE(Set(Number("b", 2)));
  EXPECT_TRUE(Set(Number("a", 3)));
  ASSERT_EQ(notes_.attributes().size(), 2u);
  EXPECT_EQ(notes_.attributes()[0].key, "a");
  EXPECT_EQ(std::get<int64_t>(notes_.attributes()[0].value), 3);
}

TEST_F(SpanNotesTest, CountsAttributesOverTheLimit) {
  limits_.attributes_max = 2;
  EXPECT_TRUE(Set(Number("a", 1)));
  EXPECT_TRUE(Set(Number("b", 1)));
  EXPECT_FALSE(Set(Number("c", 1)));
  EXPECT_TRUE(Set(Number("b", 2))) << "takes no further place";
  EXPECT_EQ(notes_.attributes().size(), 2u);
  EXPECT_EQ(notes_.dropped_attributes(), 1u);
}

TEST_F(SpanNotesTest, CountsEventsOverTheLimit) {
  limits_.events_max = 2;
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Add({.name = "e", .attributes = {}}), i < 2);
  EXPECT_EQ(notes_.events().size(), 2u);
  EXPECT_EQ(notes_.dropped_events(), 3u);
}

TEST_F(SpanNotesTest, CountsAttributesOfAnEventOverTheLimit) {
  limits_.event_attributes_max = 2;
  EXPECT_TRUE(Add({.name = "e", .attributes = {Number("a", 1), Number("b", 1), Number("c", 1)}}));
  EXPECT_EQ(notes_.events()[0].attributes.size(), 2u);
  EXPECT_EQ(notes_.events()[0].dropped_attributes, 1u);
}

TEST_F(SpanNotesTest, CutsATextAfterAWholeCharacter) {
  limits_.text_bytes_max = 4;
  EXPECT_TRUE(Set(Text("a", "abcd")));
  EXPECT_TRUE(Set(Text("b", "abc\xc3\xa4")));
  EXPECT_EQ(std::get<std::string>(notes_.attributes()[0].value), "abcd");
  EXPECT_EQ(std::get<std::string>(notes_.attributes()[1].value), "abc");
  EXPECT_EQ(CutText("\xf0\x9f\x98\x80", 3), "");
  EXPECT_TRUE(
      IsUtf8(CutText("a\xe2\x82\xac"
                     "b",
                     3)));
}

// The exchange's bytes are those of all its calls, and setting one key again and again takes them
// as well.
TEST_F(SpanNotesTest, TheBudgetOfTheExchangeIsALimit) {
  budget_.left = 2 * (SpanNotes::kAttributeBytes + 1 + 10);
  EXPECT_TRUE(Set(Text("a", "0123456789")));
  EXPECT_FALSE(Set(Text("b", "0123456789x")));
  EXPECT_TRUE(Set(Text("a", "0123456789")));
  EXPECT_EQ(budget_.left, 0u);
  EXPECT_FALSE(Set(Number("a", 1)));
  EXPECT_FALSE(Add({.name = "e", .attributes = {}}));
  SpanNotes other;
  EXPECT_FALSE(other.Set(Number("a", 1), limits_, &budget_));
  EXPECT_EQ(notes_.dropped_attributes(), 2u);
  EXPECT_EQ(notes_.dropped_events(), 1u);
}

TEST_F(SpanNotesTest, HasOneIdFromWhenItIsAskedFor) {
  EXPECT_FALSE(notes_.known_id().has_value());
  const SpanId id = notes_.id();
  EXPECT_EQ(notes_.id(), id);
  EXPECT_EQ(notes_.known_id(), id);
}

}  // namespace
}  // namespace callout::host
