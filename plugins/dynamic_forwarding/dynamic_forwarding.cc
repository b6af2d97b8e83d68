// SPDX-License-Identifier: Apache-2.0

// Chooses the endpoint of each request by a header. See README.md.
#include <algorithm>
#include <callout/plugin.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "support/header_name.hpp"
#include "support/json_config.hpp"

namespace {

class Forwarder {
 public:
  explicit Forwarder(const callout::Setup& setup) {
    callout::plugins::JsonConfig config(setup.config());
    header_ = config.text("header", "ip-to-return");
    addresses_ = config.texts("addresses", {{"10.1.10.2", "10.1.10.3"}});
    otherwise_ = config.text("otherwise", "10.1.10.4");
    port_ = static_cast<uint32_t>(config.integer("port", {.fallback = 80, .min = 1, .max = 65535}));
    config.done();
    if (!callout::plugins::IsHeaderName(header_)) {
      config.refuse("header", "must be the name of a header");
    }
    for (const std::string& address : addresses_) Check(config, "addresses", address);
    Check(config, "otherwise", otherwise_);
  }

  void on_request_headers(const callout::HeadersCall& call) const {
    const std::string_view wanted = call.headers().get(header_, "");
    const bool known = std::find(addresses_.begin(), addresses_.end(), wanted) != addresses_.end();
    call.forward_to(known ? wanted : otherwise_, port_);
  }

 private:
  void Check(const callout::plugins::JsonConfig& config, const std::string& key,
             const std::string& address) const {
    if (callout::build_dynamic_forwarding_metadata(address, port_).has_value()) return;
    config.refuse(key, "must hold IPv4 or IPv6 addresses, not \"" + address + "\"");
  }

  std::string header_;
  std::vector<std::string> addresses_;
  std::string otherwise_;
  uint32_t port_ = 0;
};

}  // namespace

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("dynamic_forwarding", "1.0.0", "Chooses the endpoint of each request");
CALLOUT_PLUGIN_CLASS(Forwarder, request_headers);
