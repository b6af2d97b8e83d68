// SPDX-License-Identifier: Apache-2.0

#include "host/record/record_rule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kBytesMax = 1 << 20;

std::string HeadersOf(const std::string& path) {
  std::string header, map, headers;
  AppendBytes(field::HeaderValue::kKey, ":path", &header);
  AppendBytes(field::HeaderValue::kRawValue, path, &header);
  AppendBytes(field::HeaderMap::kHeaders, header, &map);
  AppendBytes(field::HttpHeaders::kHeaders, map, &headers);
  return headers;
}

TEST(RecordRule, MatchesAllWithoutAForm) {
  const auto rule = MakeRecordRule(100, "");
  ASSERT_TRUE(rule.ok()) << rule.status();
  EXPECT_TRUE(rule->Matches(HeadersOf("/x")));
  EXPECT_TRUE(rule->Matches(""));
  EXPECT_EQ(rule->text, "percent=100");
}

TEST(RecordRule, MatchesTheRequestsOfItsForm) {
  const auto rule = MakeRecordRule(0.5, "path_prefix=/api");
  ASSERT_TRUE(rule.ok()) << rule.status();
  EXPECT_TRUE(rule->Matches(HeadersOf("/api/1")));
  EXPECT_FALSE(rule->Matches(HeadersOf("/other")));
  EXPECT_FALSE(rule->Matches(""));  // the stream began with another message
  EXPECT_EQ(rule->text, "percent=0.5&path_prefix=/api");
  // The text goes into the recording and into the log.
  for (const char* form :
       {"header=x-api-key:hunter22&method=GET", "header=X-Api-Key%3Ahunter22&method=GET"}) {
    const auto secret = MakeRecordRule(100, form);
    ASSERT_TRUE(secret.ok()) << secret.status();
    EXPECT_EQ(secret->text.find("hunter22"), std::string::npos) << secret->text;
    EXPECT_NE(secret->text.find("&method=GET"), std::string::npos) << secret->text;
  }
}

TEST(RecordRule, SamplesItsShare) {
  constexpr int kStreams = 100000;
  for (const double percent : {0.1, 5.0, 50.0, 100.0}) {
    const auto rule = MakeRecordRule(percent, "");
    int sampled = 0;
    for (uint64_t id = 1; id <= kStreams; ++id) {
      sampled += rule->Samples(id) ? 1 : 0;
      EXPECT_EQ(rule->Samples(id), rule->Samples(id));
    }
    const double expected = kStreams * percent / 100;
    EXPECT_NEAR(sampled, expected, 0.1 * expected + 20) << percent;
  }
}

TEST(RecordRule, TakesNoKeysOfExplanations) {
  for (const char* form : {"count=5&path_prefix=/", "log_level=debug&path_prefix=/", "percent=5"}) {
    const auto rule = MakeRecordRule(100, form);
    EXPECT_EQ(rule.status().code(), absl::StatusCode::kInvalidArgument) << form;
  }
}

TEST(RecordRule, TakesPercentsOnlyAboveZeroAndUpToAHundred) {
  for (const char* text : {"100", "0.01", "5", "99.9"})
    EXPECT_TRUE(ParsePercent(text).ok()) << text;
  for (const char* text : {"", "0", "-1", "100.1", "nan", "inf", "1e1", "5%"}) {
    EXPECT_FALSE(ParsePercent(text).ok()) << text;
  }
}

TEST(TapForm, HasLimitsWhateverItSays) {
  const auto tap = ParseTapForm("percent=5&path_prefix=/api&header=x-a:b%20c", kBytesMax);
  ASSERT_TRUE(tap.ok()) << tap.status();
  EXPECT_FALSE(tap->stop);
  EXPECT_EQ(tap->rule.percent, 5);
  EXPECT_EQ(tap->seconds, 60u);
  EXPECT_EQ(tap->count, 10000u);
  EXPECT_EQ(tap->bytes, kBytesMax);
  EXPECT_EQ(tap->rule.text, "percent=5&path_prefix=/api&header=x-a:b%20c");
  const auto given = ParseTapForm("percent=100&seconds=3600&count=1&bytes=4096", kBytesMax);
  ASSERT_TRUE(given.ok()) << given.status();
  EXPECT_EQ(given->seconds, 3600u);
  EXPECT_EQ(given->count, 1u);
  EXPECT_EQ(given->bytes, 4096u);
  EXPECT_TRUE(ParseTapForm("stop=1", kBytesMax)->stop);
}

TEST(TapForm, NamesWhatIsWrong) {
  const std::pair<const char*, const char*> forms[] = {
      {"", "says nothing of the exchanges"},
      {"seconds=5", "says nothing of the exchanges"},
      {"percent=0", "percent=0: expected"},
      {"percent=5&seconds=3601", "seconds=3601: expected a number from 1 to 3600"},
      {"percent=5&count=0", "count=0: expected"},
      {"percent=5&bytes=4095", "bytes=4095: expected"},
      {"percent=5&bytes=1048577", "bytes=1048577: expected"},
      {"percent=5&path=/tmp/x", "path: expected one of the keys percent, path_prefix"},
      {"stop=1&percent=5", "stop=1 takes no other key"},
      {"stop=yes", "stop=yes: expected 1"},
      {"percent=%zz", "encoded as a form"},
  };
  for (const auto& [form, why] : forms) {
    const auto tap = ParseTapForm(form, kBytesMax);
    EXPECT_EQ(tap.status().code(), absl::StatusCode::kInvalidArgument) << form;
    EXPECT_THAT(std::string(tap.status().message()), HasSubstr(why)) << form;
  }
}

}  // namespace
}  // namespace callout::host
