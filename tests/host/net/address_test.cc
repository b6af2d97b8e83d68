// SPDX-License-Identifier: Apache-2.0

#include "host/net/address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cstring>
#include <string>

namespace callout::host {
namespace {

using ::testing::HasSubstr;

TEST(Address, ReadsEveryFormAndWritesItBack) {
  const struct {
    const char* text;
    const char* written;
    int family;
    uint16_t port;
  } kCases[] = {
      {"1.2.3.4:80", "1.2.3.4:80", AF_INET, 80},
      {"0.0.0.0:0", "0.0.0.0:0", AF_INET, 0},
      {"127.0.0.1:65535", "127.0.0.1:65535", AF_INET, 65535},
      {"[::1]:80", "[::1]:80", AF_INET6, 80},
      {"[::]:8080", "[::]:8080", AF_INET6, 8080},
      {"[2001:DB8:0:0::5]:1", "[2001:db8::5]:1", AF_INET6, 1},
      {"localhost:9902", "127.0.0.1:9902", AF_INET, 9902},
      {"unix:/run/callout.sock", "unix:/run/callout.sock", AF_UNIX, 0},
      {"unix:///run/callout.sock", "unix:/run/callout.sock", AF_UNIX, 0},
      {"unix://///run/callout.sock", "unix:/run/callout.sock", AF_UNIX, 0},
      {"unix:callout:1.sock", "unix:callout:1.sock", AF_UNIX, 0},
  };
  for (const auto& c : kCases) {
    const auto address = ParseAddress(c.text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->ToString(), c.written);
    EXPECT_EQ(address->family(), c.family) << c.text;
    EXPECT_EQ(address->port(), c.port) << c.text;
  }
}

TEST(Address, MalformedTextIsRefusedWithWhatWasFoundAndWhatIsExpected) {
  const struct {
    const char* text;
    const char* found;
  } kCases[] = {
      {"", "no port"},
      {"8080", "no port"},
      {"1.2.3.4", "no port"},
      {"1.2.3.4:", "the port '' is not a number from 0 to 65535"},
      {"1.2.3.4:65536", "the port '65536' is not a number from 0 to 65535"},
      {"1.2.3.4:-1", "the port '-1' is not"},
      {"1.2.3.4:+1", "the port '+1' is not"},
      {"1.2.3.4: 80", "the port ' 80' is not"},
      {"1.2.3.4:80 ", "the port '80 ' is not"},
      {"1.2.3.4:http", "the port 'http' is not"},
      {":8080", "no IP address; 0.0.0.0:8080 is every IPv4 address, [::]:8080 every address"},
      {"::1:80", "an IPv6 address without brackets"},
      {"[::1]", "an IPv6 address without brackets, or an IPv6 address without a port"},
      {"[]:80", "'' is not an IPv6 address"},
      {"[1.2.3.4]:80", "'1.2.3.4' is not an IPv6 address"},
      {"[fe80::1%lo]:80", "'fe80::1%lo' is not an IPv6 address"},
      {"1.2.3:80", "'1.2.3' is not an IPv4 address"},
      {"example.com:80", "'example.com' is not an IPv4 address, and names other than localhost"},
      {"http://1.2.3.4:80", "without brackets"},
      {"unix:", "no path after unix:"},
  };
  for (const auto& c : kCases) {
    const auto address = ParseAddress(c.text);
    ASSERT_FALSE(address.ok()) << c.text;
    EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument);
    const std::string message(address.status().message());
    EXPECT_THAT(message, HasSubstr("address '" + std::string(c.text) + "': "));
    EXPECT_THAT(message, HasSubstr(c.found));
    EXPECT_THAT(message,
                HasSubstr("; expected IPV4:PORT, [IPV6]:PORT, localhost:PORT or unix:PATH"));
  }
  EXPECT_FALSE(ParseAddress(std::string_view("unix:/a\0b", 9)).ok());
}

TEST(Address, UnixPathsHaveALongestLength) {
  const std::string longest = "/" + std::string(kUnixPathBytesMax - 1, 'a');
  const auto address = ParseAddress("unix:" + longest);
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->unix_path(), longest);
  const auto longer = ParseAddress("unix:" + longest + "a");
  EXPECT_THAT(std::string(longer.status().message()),
              HasSubstr("the path has 108 bytes, and that of a unix socket at most 107"));
}

TEST(Address, PeerOfNoConnectionIsUnknown) { EXPECT_EQ(PeerText(-1), "unknown"); }

}  // namespace
}  // namespace callout::host
