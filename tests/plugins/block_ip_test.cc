// SPDX-License-Identifier: Apache-2.0

// plugins/block_ip, in the fake host; behind a real Envoy see tests/envoy/check_test.cc.
#include "block_ip/cidr.h"

#include <gtest/gtest.h>

#include <callout/testing.hpp>
#include <string>

#include "host_process.h"

namespace callout::tests {
namespace {

using callout::plugins::Cidr;
using callout::plugins::ParseIp;
using callout::testing::CheckAnswer;
using callout::testing::CheckQuestion;

CheckAnswer Ask(callout::testing::Plugin& plugin, const std::string& forwarded, bool raw = false) {
  callout::testing::Stream stream(plugin);
  CheckQuestion question;
  question.raw_headers = raw;
  if (forwarded != "-") question.headers.emplace_back("x-forwarded-for", forwarded);
  return stream.check(question);
}

TEST(BlockIpTest, TheFirstEntryDecides) {
  callout::testing::Plugin plugin(BuiltPlugin("block_ip"));
  for (const bool raw : {false, true}) {
    for (const char* allowed :
         {"192.0.2.1", "10.0.1.1", "192.0.2.1, 10.0.0.7", " 2001:db8::1 ,x"}) {
      const CheckAnswer answer = Ask(plugin, allowed, raw);
      EXPECT_TRUE(answer.allowed()) << allowed;
      EXPECT_EQ(answer.header("x-client-ip-allowed"), "true");
    }
    for (const char* refused : {"10.0.0.7", "10.0.0.255, 192.0.2.1", "::ffff:10.0.0.7", "", "-",
                                "unknown", "10.0.0.7:80"}) {
      const CheckAnswer answer = Ask(plugin, refused, raw);
      EXPECT_FALSE(answer.allowed()) << refused;
      EXPECT_EQ(answer.http_status, 403u);
      EXPECT_EQ(answer.header("x-client-ip-allowed"), "false");
    }
  }
  EXPECT_EQ(plugin.metric("block_ip_refused_total"), 14);
}

TEST(BlockIpTest, TheBlocksAreConfigured) {
  callout::testing::Plugin plugin(BuiltPlugin("block_ip"),
                                  R"({"blocked": ["2001:db8::/33", "192.0.2.1"]})");
  EXPECT_FALSE(Ask(plugin, "2001:db8:7fff::1").allowed());
  EXPECT_TRUE(Ask(plugin, "2001:db8:8000::1").allowed());
  EXPECT_FALSE(Ask(plugin, "192.0.2.1").allowed());
  EXPECT_TRUE(Ask(plugin, "10.0.0.7").allowed());
}

TEST(BlockIpTest, WhatIsNoBlockIsRefused) {
  for (const char* block : {"10.0.0.0/33", "10.0.0/24", "10.0.0.0/", "10.0.0.0/x", "", "::/129"}) {
    callout::testing::Plugin plugin(BuiltPlugin("block_ip"),
                                    std::string(R"({"blocked": [")") + block + R"("]})");
    EXPECT_EQ(plugin.status(), CALLOUT_INVALID_ARGUMENT) << block;
  }
}

TEST(CidrTest, AnAddressIsInItsBlock) {
  EXPECT_TRUE(Cidr::Parse("0.0.0.0/0")->Contains(*ParseIp("255.255.255.255")));
  EXPECT_FALSE(Cidr::Parse("0.0.0.0/0")->Contains(*ParseIp("::1")));
  EXPECT_TRUE(Cidr::Parse("::/0")->Contains(*ParseIp("10.0.0.1")));
  EXPECT_TRUE(Cidr::Parse("10.0.0.128/25")->Contains(*ParseIp("10.0.0.129")));
  EXPECT_FALSE(Cidr::Parse("10.0.0.128/25")->Contains(*ParseIp("10.0.0.127")));
}

}  // namespace
}  // namespace callout::tests
