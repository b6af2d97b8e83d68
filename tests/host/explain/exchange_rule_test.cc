// SPDX-License-Identifier: Apache-2.0

#include "host/explain/exchange_rule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

std::string HeadersOf(const Pairs& pairs) {
  envoy::service::ext_proc::v3::HttpHeaders headers;
  for (const auto& [key, value] : pairs) {
    auto* header = headers.mutable_headers()->add_headers();
    header->set_key(key);
    header->set_raw_value(value);
  }
  return headers.SerializeAsString();
}

TEST(ExchangeRule, IsReadFromAForm) {
  const auto rule = ParseExchangeRule(
      "path_prefix=%2Fapi%2F&header=X-Tenant:+blue+sky&header=x-debug&method=GET&host=Example.com"
      "&log_level=Debug&explain=off&count=5&seconds=60");
  ASSERT_TRUE(rule.ok()) << rule.status();
  EXPECT_THAT(rule->match.path_prefixes, ElementsAre("/api/"));
  EXPECT_THAT(rule->match.headers, ElementsAre("x-debug"));
  EXPECT_THAT(rule->match.hosts, ElementsAre("example.com"));
  EXPECT_THAT(rule->header_values, ElementsAre(Pair("x-tenant", "blue sky")));
  EXPECT_EQ(rule->log_level, LogLevel::kDebug);
  EXPECT_FALSE(rule->explain);
  EXPECT_EQ(rule->count, 5u);
  EXPECT_EQ(rule->seconds, 60u);
}

TEST(ExchangeRule, HasDefaultsAndLeavesEmptyFieldsOut) {
  const auto rule = ParseExchangeRule("path_prefix=/&host=&header=&log_level=&count=");
  ASSERT_TRUE(rule.ok()) << rule.status();
  EXPECT_TRUE(rule->explain);
  EXPECT_EQ(rule->log_level, std::nullopt);
  EXPECT_EQ(rule->count, 20u);
  EXPECT_EQ(rule->seconds, 600u);
  EXPECT_TRUE(rule->match.hosts.empty());
}

TEST(ExchangeRule, IsRefusedWithWhatIsWrong) {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"", "it says nothing of the requests"},
      {"count=5", "it says nothing of the requests"},
      {"paths=/", "paths: expected one of the keys path_prefix, host"},
      {"path_prefix=/&count=0", "count=0: expected a number from 1 to 10000"},
      {"path_prefix=/&count=10001", "a number from 1 to 10000"},
      {"path_prefix=/&count=5x", "a number from 1 to 10000"},
      {"path_prefix=/&seconds=86401", "a number from 1 to 86400"},
      {"path_prefix=/&log_level=loud", "log_level=loud: expected debug, info, warning or error"},
      {"path_prefix=/&explain=maybe", "expected on or off"},
      {"path_prefix=/&explain=off", "explain=off without log_level does nothing"},
      {"path_prefix", "expected KEY=VALUE"},
      {"path_prefix=%2", "expected KEY=VALUE"},
      {"path_prefix=%zz", "expected KEY=VALUE"},
      {"path_prefix=/" + std::string(kExchangeRuleBytesMax, 'a'), "bytes, at most 4096"},
  };
  for (const auto& [form, what] : rows) {
    const auto rule = ParseExchangeRule(form);
    EXPECT_EQ(rule.status().code(), absl::StatusCode::kInvalidArgument) << form;
    EXPECT_THAT(std::string(rule.status().message()), HasSubstr(what));
  }
}

TEST(ExchangeRule, IsShownWithoutCredentials) {
  const Redaction redaction({"authorization", "x-tenant-pass", "?query"});
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"path_prefix=/api&count=5", "path_prefix=/api&count=5"},
      {"header=x-tenant:7&host=a", "header=x-tenant:7&host=a"},
      {"header=authorization", "header=authorization"},
      {"header=authorization:s3cr3t&count=5", "header=authorization:[redacted]&count=5"},
      {"header=Authorization%3A+Bearer+s3cr3t", "header=Authorization:[redacted]"},
      {"%68eader=x-tenant-pass:s3cr3t", "header=x-tenant-pass:[redacted]"},
      {"header=x-callout-debug:s3cr3t", "header=x-callout-debug:[redacted]"},
      {"header=:path:/a?s3cr3t&method=GET", "header=:path:/a?[redacted]&method=GET"},
      {"path_prefix=/a%3Fs3cr3t", "path_prefix=/a?[redacted]"},
      {"header=authorization:s3cr3t%2", "[redacted]"},
      {"headers=authorization:s3cr3t&count=5", "headers=[redacted]&count=5"},
      {"s3cr3t", "[redacted]"},
  };
  for (const auto& [form, shown] : rows) EXPECT_EQ(ShownRule(form, redaction), shown);
}

// What is not a form may be a credential all the same.
TEST(ExchangeRule, AnErrorDoesNotQuoteIt) {
  for (const char* form :
       {"header=authorization:s3cr3t%2", "headers=authorization:s3cr3t", "s3cr3t"}) {
    EXPECT_THAT(std::string(ParseExchangeRule(form).status().message()),
                ::testing::Not(HasSubstr("s3cr3t")));
  }
}

TEST(ExchangeRule, MarksRequestsThatMatchAllOfIt) {
  const auto rule = ParseExchangeRule("path_prefix=/api&header=x-tenant:7&header=x-debug");
  ASSERT_TRUE(rule.ok());
  EXPECT_TRUE(
      Matches(*rule, HeadersOf({{":path", "/api/1"}, {"x-tenant", "7"}, {"x-debug", "1"}})));
  EXPECT_FALSE(
      Matches(*rule, HeadersOf({{":path", "/other"}, {"x-tenant", "7"}, {"x-debug", "1"}})));
  EXPECT_FALSE(
      Matches(*rule, HeadersOf({{":path", "/api/1"}, {"x-tenant", "8"}, {"x-debug", "1"}})));
  EXPECT_FALSE(Matches(*rule, HeadersOf({{":path", "/api/1"}, {"x-tenant", "7"}})));
  EXPECT_FALSE(Matches(*rule, ""));
  EXPECT_FALSE(Matches(*rule, "\xff\xff"));
}

}  // namespace
}  // namespace callout::host
