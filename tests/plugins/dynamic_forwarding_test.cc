// SPDX-License-Identifier: Apache-2.0

// plugins/dynamic_forwarding.
#include "sample_host.h"

namespace callout::tests {
namespace {

Lines ForwardTo(const std::string& endpoint) {
  return {"request_headers",
          R"(metadata {"com.google.envoy.dynamic_forwarding.selected_endpoints":{"primary":")" +
              endpoint + "\"}}"};
}

TEST(DynamicForwardingTest, SendsKnownAddressesAndOtherwiseTheDefault) {
  SampleHost host("dynamic_forwarding");
  host.Expect({
      {"the first", RequestHeaders({{"ip-to-return", "10.1.10.2"}}), ForwardTo("10.1.10.2:80")},
      {"the second", RequestHeaders({{"ip-to-return", "10.1.10.3"}}), ForwardTo("10.1.10.3:80")},
      {"another", RequestHeaders({{"ip-to-return", "10.1.10.9"}}), ForwardTo("10.1.10.4:80")},
      {"an empty one", RequestHeaders({{"ip-to-return", ""}}), ForwardTo("10.1.10.4:80")},
      {"no header", RequestHeaders({{"other", "10.1.10.2"}}), ForwardTo("10.1.10.4:80")},
      {"a response", ResponseHeaders({{"ip-to-return", "10.1.10.2"}}), {"response_headers"}},
  });
}

TEST(DynamicForwardingTest, TakesAddressesPortAndHeaderFromItsConfiguration) {
  SampleHost host("dynamic_forwarding",
                  R"({"header": "to", "addresses": ["2001:db8::7"], "otherwise": "::1",
                      "port": 8443})");
  host.Expect({
      {"known", RequestHeaders({{"to", "2001:db8::7"}}), ForwardTo("[2001:db8::7]:8443")},
      {"unknown", RequestHeaders({{"to", "10.1.10.2"}}), ForwardTo("[::1]:8443")},
  });
}

TEST(DynamicForwardingTest, RefusesAConfigurationThatCannotWork) {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {R"({"prot": 80})", R"("prot" is not known; there is: header, addresses, otherwise, port)"},
      {R"({"header": "a b"})", R"("header" must be the name of a header)"},
      {R"({"port": 0})", R"("port" must be an integer from 1 to 65535, not a number)"},
      {R"({"port": 65536})", R"("port" must be an integer from 1 to 65535, not a number)"},
      {R"({"addresses": "10.1.10.2"})", R"("addresses" must be a list of texts, not a text)"},
      {R"({"addresses": ["10.1.10"]})",
       R"("addresses" must hold IPv4 or IPv6 addresses, not "10.1.10")"},
      {R"({"otherwise": "localhost"})",
       R"("otherwise" must hold IPv4 or IPv6 addresses, not "localhost")"},
  };
  for (const auto& [config, reason] : rows) {
    EXPECT_THAT(RefusalOf("dynamic_forwarding", config), ::testing::HasSubstr(reason));
  }
}

}  // namespace
}  // namespace callout::tests
