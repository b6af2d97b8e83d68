// SPDX-License-Identifier: Apache-2.0

// What clients send is in no recording, report or page: markers in every field of every message of
// every service, of which nothing may be left but names, since every value is to be left out. A
// plugin copies credentials elsewhere, and another one does so in shadow.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "envoy/service/auth/v3/external_auth.pb.h"
#include "envoy/service/network_ext_proc/v3/network_external_processor.pb.h"
#include "envoy/service/ratelimit/v3/rls.pb.h"
#include "ext_proc_client.h"
#include "http_get.h"
#include "test_host.h"
#include "tests/host/marker_planter.h"
#include "tests/host/sockets.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;

constexpr char kKey[] = "a-key-of-this-test-0123456789";
constexpr char kCheckMethod[] = "/envoy.service.auth.v3.Authorization/Check";
constexpr char kRateLimitMethod[] = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
constexpr char kNetworkMethod[] =
    "/envoy.service.network_ext_proc.v3.NetworkExternalProcessor/Process";
// Members of each oneof, at most: as many rounds see all of them.
constexpr int kChoices = 12;

class Redaction : public testing::TestWithParam<const char*> {
 protected:
  Redaction() {
    Write("key", kKey);
    Write("shadow", R"({"mode": "shadow"})");
    const std::string copies = BuiltFile("tests/integration/copies.so");
    host_.emplace(std::vector<std::string>{
        "--plugin=copies=" + copies, "--plugin_config=copies=x-copy", "--plugin=watches=" + copies,
        "--plugin_config=watches=x-other-copy", "--plugin_settings=watches=@" + Path("shadow"),
        "--services=ext_proc,ext_authz,ratelimit,network_ext_proc", GetParam(),
        "--record=" + Path("a.rec"), "--record_redact=*", "--log_redacted_headers=*",
        "--log_level=debug", "--explain_key=@" + Path("key")});
    channel_ = PlaintextChannel(host_->address("plaintext"));
  }

  std::string Path(const std::string& name) const { return directory_.Path(name); }
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name)) << text;
  }
  std::string Admin() { return host_->address("admin"); }

  // What a client adds, so that it is explained, and so that there are credentials.
  void AddKnown(host::MarkerPlanter* planter, ext_proc::HttpHeaders* message) {
    const auto add = [message](const std::string& key, const std::string& value) {
      auto* header = message->mutable_headers()->add_headers();
      header->set_key(key);
      header->set_raw_value(value);
    };
    add(":method", "GET");
    add(":path", "/" + planter->Plant("path") + "?" + planter->Plant("query"));
    add("authorization", "Bearer " + planter->Plant("authorization"));
    add("set-cookie", "id=" + planter->Plant("set-cookie"));
    add("x-callout-debug", kKey);
  }

  // Request headers, and a message whose oneof is of this choice.
  void SendExtProc(host::MarkerPlanter* planter, int choice) {
    ext_proc::ProcessingRequest first, second;
    planter->Fill(&second, "ProcessingRequest");
    planter->Fill(&first, "ProcessingRequest");
    first.clear_request();
    planter->Fill(first.mutable_request_headers(), "ProcessingRequest.request_headers");
    AddKnown(planter, first.mutable_request_headers());
    if (second.has_response_headers()) AddKnown(planter, second.mutable_response_headers());
    LiveStream stream(channel_);
    const auto answer = stream.Exchange(first);
    ASSERT_TRUE(answer.has_value()) << "choice " << choice;
    // The plugin has really copied it.
    EXPECT_THAT(answer->ShortDebugString(), HasSubstr("x-copy"));
    if (!second.has_request_headers()) stream.Exchange(second);
    stream.Finish();
  }
  void SendCheck(host::MarkerPlanter* planter) {
    envoy::service::auth::v3::CheckRequest request;
    planter->Fill(&request, "CheckRequest");
    auto* http = request.mutable_attributes()->mutable_request()->mutable_http();
    http->clear_header_map();  // Envoy sends one of the two forms
    auto& headers = *http->mutable_headers();
    headers[":path"] = "/" + planter->Plant("check path");
    headers["authorization"] = planter->Plant("check authorization");
    headers["x-callout-debug"] = kKey;
    CallRaw(channel_, kCheckMethod, request.SerializeAsString());
  }
  void SendRateLimit(host::MarkerPlanter* planter) {
    envoy::service::ratelimit::v3::RateLimitRequest request;
    planter->Fill(&request, "RateLimitRequest");
    CallRaw(channel_, kRateLimitMethod, request.SerializeAsString());
  }
  void SendNetwork(host::MarkerPlanter* planter) {
    envoy::service::network_ext_proc::v3::ProcessingRequest request;
    planter->Fill(&request, "network ProcessingRequest");
    CallRaw(channel_, kNetworkMethod, request.SerializeAsString());
  }

  // Every page that the index names, by its path.
  std::vector<std::string> Pages() {
    const std::string index = HttpGet(Admin(), "GET", "/");
    const std::regex path(R"(/[a-z_/]+)");
    std::set<std::string> paths = {"/"};
    for (std::sregex_iterator it(index.begin(), index.end(), path), end; it != end; ++it) {
      paths.insert(it->str());
    }
    EXPECT_EQ(paths.count("/shadow"), 1u) << index;
    EXPECT_EQ(paths.count("/explain"), 1u) << index;
    return {paths.begin(), paths.end()};
  }
  std::string FrontPage() {
    const host::Descriptor client = host::Connect(host::ParsedAddress(Admin()));
    host::Write(client.get(),
                "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\nConnection: "
                "close\r\n\r\n");
    return host::ReadToEnd(client.get());
  }

  // Names may stay.
  static void ExpectNone(const host::MarkerPlanter& planter, const std::string& where,
                         const std::string& text) {
    for (const std::string& path : planter.FoundIn(text)) {
      if (!path.ends_with(".key")) ADD_FAILURE() << path << " is in " << where;
    }
  }

  host::TempDir directory_;
  std::optional<TestHost> host_;
  ChannelPtr channel_;
};

TEST_P(Redaction, NothingThatClientsSendIsShownButNames) {
  host::MarkerPlanter planter(0);
  for (int choice = 0; choice < kChoices; ++choice) {
    planter.set_choice(choice);
    ASSERT_NO_FATAL_FAILURE(SendExtProc(&planter, choice));
    SendCheck(&planter);
    SendRateLimit(&planter);
    SendNetwork(&planter);
  }
  EXPECT_GT(planter.markers().size(), 200u);
  while (MetricOf(Admin(), "callout_shadow_exchanges") > 0) {
  }
  for (const std::string& page : Pages()) ExpectNone(planter, page, HttpGet(Admin(), "GET", page));
  ExpectNone(planter, "the page for people", FrontPage());
  // There is something to be looked at: documents, differences and exchanges.
  const std::string explained = HttpGet(Admin(), "GET", "/explain");
  EXPECT_THAT(explained, HasSubstr("x-copy"));
  EXPECT_THAT(explained, HasSubstr("ext_authz"));
  EXPECT_THAT(HttpGet(Admin(), "GET", "/shadow"), HasSubstr("request x-other-copy"));
  EXPECT_EQ(host_->Terminate(), 0);
  size_t recorded = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory_.Path(""))) {
    const std::string path = entry.path().string();
    if (path.find(".rec") == path.npos) continue;
    std::ifstream file(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)),
                            std::istreambuf_iterator<char>());
    recorded += bytes.size();
    ExpectNone(planter, path, bytes);
    if (bytes.find("x-copy") == bytes.npos) continue;
    // Nor is it in what callout-replay says of it.
    for (const char* form : {"--jobs=1", "--json"}) {
      ChildProcess replay({BuiltFile("host/callout-replay"), path, form});
      EXPECT_EQ(replay.AwaitEnd(), 1);
      EXPECT_THAT(replay.Output(), HasSubstr("x-copy"));
      ExpectNone(planter, "the replay of " + path, replay.Output());
    }
  }
  EXPECT_GT(recorded, 1000u);
  ExpectNone(planter, "the log", host_->Log());
}

INSTANTIATE_TEST_SUITE_P(, Redaction, testing::Values("--workers=0", "--workers=2"),
                         [](const auto& tested) {
                           return std::string(tested.param).ends_with("0") ? "OneProcess"
                                                                           : "Workers";
                         });

}  // namespace
}  // namespace callout::tests
