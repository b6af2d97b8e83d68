// SPDX-License-Identifier: Apache-2.0

// Blocks of IP addresses: "10.0.0.0/24", "2001:db8::/32", or one address.
//
// Tested by tests/plugins/block_ip_test.cc.
#ifndef CALLOUT_PLUGINS_BLOCK_IP_CIDR_H_
#define CALLOUT_PLUGINS_BLOCK_IP_CIDR_H_

#include <arpa/inet.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace callout::plugins {

// 16 bytes; an IPv4 address, also one written as ::ffff:10.0.0.1, is IPv4-mapped.
using IpAddress = std::array<uint8_t, 16>;

inline std::optional<IpAddress> ParseIp(std::string_view text) {
  const std::string terminated(text);
  if (terminated.size() != std::strlen(terminated.c_str())) return std::nullopt;
  IpAddress address{};
  if (inet_pton(AF_INET6, terminated.c_str(), address.data()) == 1) return address;
  address[10] = address[11] = 0xff;
  if (inet_pton(AF_INET, terminated.c_str(), address.data() + 12) == 1) return address;
  return std::nullopt;
}

class Cidr {
 public:
  // Nullopt if `text` is no block. Bits behind the prefix are ignored.
  static std::optional<Cidr> Parse(std::string_view text) {
    const size_t slash = text.find('/');
    const std::string_view ip = text.substr(0, slash);
    const std::optional<IpAddress> address = ParseIp(ip);
    if (!address.has_value()) return std::nullopt;
    const unsigned width = ip.find(':') == ip.npos ? 32 : 128;
    unsigned prefix = width;
    if (slash != text.npos) {
      const std::string_view digits = text.substr(slash + 1);
      const auto [end, error] =
          std::from_chars(digits.data(), digits.data() + digits.size(), prefix);
      if (error != std::errc() || end != digits.data() + digits.size() || prefix > width) {
        return std::nullopt;
      }
    }
    return Cidr(*address, prefix + 128 - width);
  }

  bool Contains(const IpAddress& address) const {
    for (unsigned bit = 0; bit < prefix_; ++bit) {
      const unsigned mask = 0x80u >> bit % 8;
      if (((address[bit / 8] ^ address_[bit / 8]) & mask) != 0) return false;
    }
    return true;
  }

 private:
  Cidr(const IpAddress& address, unsigned prefix) : address_(address), prefix_(prefix) {}

  IpAddress address_;
  unsigned prefix_;  // of 128 bits
};

}  // namespace callout::plugins

#endif  // CALLOUT_PLUGINS_BLOCK_IP_CIDR_H_
