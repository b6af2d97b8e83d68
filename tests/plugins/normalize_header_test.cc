// SPDX-License-Identifier: Apache-2.0

// plugins/normalize_header.
#include "sample_envoy.h"
#include "sample_host.h"

namespace callout::tests {
namespace {

using nlohmann::json;

TEST(NormalizeHeaderTest, NamesTheDeviceByTheAuthority) {
  SampleHost host("normalize_header");
  const auto request = [](const std::string& authority) {
    return RequestHeaders({{":authority", authority}, {"client-device-type", "forged"}});
  };
  const auto is = [](const std::string& device) {
    return Lines{"request_headers", "set client-device-type: " + device, "clear route cache"};
  };
  host.Expect({
      {"a phone", request("m.example.com"), is("mobile")},
      {"with a port", request("m.example.com:8080"), is("mobile")},
      {"within a longer name", request("www.m.example.com.test"), is("mobile")},
      {"a tablet", request("t.example.com"), is("tablet")},
      {"both", request("t.example.com.m.example.com"), is("mobile")},
      {"neither", request("www.example.com"), is("desktop")},
      {"the bare name", request("example.com"), is("desktop")},
      {"capital letters", request("M.EXAMPLE.COM"), is("desktop")},
      {"an empty authority", request(""), {"request_headers"}},
      {"no authority", RequestHeaders({{"host", "m.example.com"}}), {"request_headers"}},
      {"a response", ResponseHeaders({{":authority", "m.example.com"}}), {"response_headers"}},
  });
}

class NormalizeHeaderEnvoyTest : public SampleEnvoy {};

TEST_F(NormalizeHeaderEnvoyTest, LetsRoutesGoByTheDevice) {
  json mobile = DirectResponse("/", 203, "for phones");
  mobile["match"]["headers"] =
      json::array({{{"name", "client-device-type"}, {"string_match", {{"exact", "mobile"}}}}});
  Start("normalize_header", json::object(), "", json::array({mobile}));
  const HttpMessage phone = Send({.headers = {{"host", "m.example.com"}}});
  EXPECT_EQ(phone.status, 203);
  EXPECT_EQ(phone.body, "for phones");
  EXPECT_FALSE(BackendGotOne());

  // Also the other way: the route that the client's own header would choose is left.
  EXPECT_EQ(Send({.headers = {{"host", "t.example.com"}, {"client-device-type", "mobile"}}}).status,
            200);
  EXPECT_EQ(Received().Header("client-device-type"), "tablet");
}

}  // namespace
}  // namespace callout::tests
