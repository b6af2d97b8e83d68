// SPDX-License-Identifier: Apache-2.0

// Network ext_proc in the layers for plugins: callout/data.h, callout/data.hpp and the fake host.
#include <callout/data.h>
#include <gtest/gtest.h>

#include <callout/answer.hpp>
#include <callout/testing.hpp>
#include <string>

namespace callout::testing {
namespace {

class DataHookTest : public ::testing::Test {
 protected:
  DataAnswer Read(const std::string& data, bool is_last = false) {
    return connection_.read_data(data, is_last);
  }

  Plugin plugin_{CALLOUT_DATA_PLUGIN};
  Stream connection_{plugin_};
};

TEST_F(DataHookTest, NothingSaidPasses) {
  const DataAnswer answer = Read("nothing");
  EXPECT_TRUE(answer.passes());
  EXPECT_FALSE(answer.is_replaced);
  EXPECT_EQ(answer.data, "nothing");
}

TEST_F(DataHookTest, TheCallTellsWhatComes) {
  StructWriter attributes;
  attributes.set("source.address", "192.0.2.1:1");
  connection_.set_attributes(attributes.message());
  EXPECT_EQ(Read("facts").data, "read 192.0.2.1:1 0");
  EXPECT_EQ(Read("facts", true).data, "read 192.0.2.1:1 5 last");
  EXPECT_EQ(connection_.write_data("facts").data, "write 192.0.2.1:1 0");
}

TEST_F(DataHookTest, AConnectionIsAnnouncedAndCanBeEnded) {
  StructWriter attributes;
  attributes.set("source.address", "192.0.2.66:1");
  connection_.set_attributes(attributes.message());
  const DataAnswer answer = Read("hello");
  EXPECT_EQ(answer.connection, DataAnswer::Connection::kResets);
  EXPECT_FALSE(answer.passes());
}

TEST_F(DataHookTest, BytesAreReplaced) {
  EXPECT_TRUE(Read("drop").is_replaced);
  EXPECT_EQ(Read("drop").data, "");
  EXPECT_EQ(Read("pass").data, "pass") << "the last one counts";
  EXPECT_EQ(connection_.write_data("drop").data, "");
  EXPECT_EQ(Struct(Read("metadata").metadata)["user"].text(), "ada");
}

TEST_F(DataHookTest, AfterAnEndNothingCounts) {
  const DataAnswer answer = Read("close");
  EXPECT_EQ(answer.connection, DataAnswer::Connection::kCloses);
  EXPECT_FALSE(answer.is_replaced);
  ASSERT_EQ(plugin_.logs().size(), 1u);
  EXPECT_EQ(plugin_.logs()[0].text,
            "reset() after close() or reset() does nothing: return from the hook after them");
}

TEST_F(DataHookTest, AnEndWinsAndIsToldBeforeAFault) {
  const DataAnswer thrown = Read("close and throw");
  EXPECT_EQ(thrown.status, CALLOUT_INTERNAL);
  EXPECT_EQ(thrown.connection, DataAnswer::Connection::kCloses);
  EXPECT_EQ(Read("replace and close").connection, DataAnswer::Connection::kCloses);
}

TEST_F(DataHookTest, WhatIsThrownEndsTheCallAsAnError) {
  EXPECT_EQ(Read("throw").status, CALLOUT_INTERNAL);
  EXPECT_EQ(Read("throw").error, "thrown");
}

TEST_F(DataHookTest, ADeferredCallIsAnsweredLater) {
  const DataAnswer answer = Read("defer");
  EXPECT_TRUE(answer.deferred);
  EXPECT_EQ(answer.data, "later");
}

}  // namespace
}  // namespace callout::testing
