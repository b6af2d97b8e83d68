// SPDX-License-Identifier: Apache-2.0

// Refuses requests from blocks of IP addresses, as an ext_authz service. See README.md.
#include <callout/plugin.hpp>
#include <string_view>
#include <vector>

#include "block_ip/cidr.h"
#include "support/json_config.hpp"

namespace {

using callout::plugins::Cidr;
using callout::plugins::IpAddress;

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

class BlockIp {
 public:
  explicit BlockIp(callout::Setup& setup)
      : refused_(setup.counter("block_ip_refused_total", "Requests refused")) {
    callout::plugins::JsonConfig config(setup.config());
    for (const std::string& text : config.texts("blocked", {{"10.0.0.0/24"}})) {
      const std::optional<Cidr> block = Cidr::Parse(text);
      if (!block.has_value()) {
        throw std::invalid_argument("\"" + text +
                                    "\" in \"blocked\" is no block of IP addresses; write it as "
                                    "10.0.0.0/24 or 2001:db8::/32");
      }
      blocked_.push_back(*block);
    }
    config.done();
  }

  void on_check(const callout::CheckCall& call) const {
    const std::string_view forwarded = call.headers().get("x-forwarded-for", "");
    const std::string_view client = Trimmed(forwarded.substr(0, forwarded.find(',')));
    const std::optional<IpAddress> address = callout::plugins::ParseIp(client);
    if (!address.has_value() || IsBlocked(*address)) {
      refused_.add();
      return callout::deny_request(call, 403, "", {{"x-client-ip-allowed", "false"}});
    }
    callout::allow_request(call, {{"x-client-ip-allowed", "true"}});
  }

 private:
  bool IsBlocked(const IpAddress& address) const {
    for (const Cidr& block : blocked_) {
      if (block.Contains(address)) return true;
    }
    return false;
  }

  callout::Counter refused_;
  std::vector<Cidr> blocked_;
};

}  // namespace

CALLOUT_PLUGIN_CLASS(BlockIp, ("block_ip", "1.0.0", "Refuses requests from blocks of IP addresses"),
                     check);
