// SPDX-License-Identifier: Apache-2.0

// BUFFERED_PARTIAL: a message with all bytes of content-length, whose end Envoy sees while
// it waits for the response. Envoy 1.40 would then wait for ever, if the host only
// responded.
//
// Envoy's HTTP/1 codec gives its filters the end of a body apart from the last bytes. So it
// comes to that if the bytes come in one read, after the headers are answered, and are more
// than the buffer's limit.
#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <vector>

#include "backend.h"
#include "client.h"
#include "envoy_config.h"
#include "envoy_fixture.h"
#include "host_process.h"
#include "plugins/scripted.h"

namespace callout::tests {
namespace {

using nlohmann::json;

constexpr uint32_t kBufferBytes = 1024;
constexpr char kTestId[] = "1";

class StalledBodyTest : public EnvoyFixture {
 protected:
  // An Envoy in front of a host with these options.
  void Start(const std::vector<std::string>& options) {
    std::vector<std::string> all = {"--plugin=" + BuiltFile("tests/envoy/plugins/scripted.so")};
    all.insert(all.end(), options.begin(), options.end());
    host_ = std::make_unique<HostProcess>(all);
    EnvoyConfig config;
    config.backend_port = backend_.port();
    config.hosts = {{"host", {host_->port("plaintext")}}};
    config.listeners.push_back(
        {.name = "partial",
         .filters = {ExtProc({{"processing_mode", {{"request_body_mode", "BUFFERED_PARTIAL"}}}})},
         .buffer_bytes_max = kBufferBytes});
    envoy_ = std::make_unique<EnvoyProcess>(MakeBootstrap(config));
  }
  uint64_t Counter(const std::string& name) {
    return envoy_->Counter("http.partial.ext_proc." + name);
  }
  HttpMessage Post(const std::string& what) {
    const uint64_t before = Counter("stream_msgs_received");
    return Exchange(envoy_->port("partial"),
                    {.method = "POST",
                     .headers = {{kTestIdHeader, kTestId}, {"x-do-request-body", what}},
                     .body = {.pieces = {body_}, .may_send = [this, before](size_t) {
                                return Counter("stream_msgs_received") > before;
                              }}});
  }

  Backend backend_;
  std::unique_ptr<HostProcess> host_;
  std::unique_ptr<EnvoyProcess> envoy_;
  const std::string body_ = std::string(5000, 'x');
};

TEST_F(StalledBodyTest, GoesOnWhereNothingElseIsWanted) {
  Start({"--plugin_config=scripted=request", "--early_end=off"});
  for (const std::string what : {"leave", "upper", "longer"}) {
    SCOPED_TRACE(what);
    const uint64_t ended_before = Counter("server_half_closed");
    const HttpMessage response = Post(what);
    ASSERT_TRUE(response.complete) << "Envoy waits for ever";
    EXPECT_EQ(response.status, 200);
    const std::optional<HttpMessage> request = backend_.TakeRequest(kTestId);
    ASSERT_TRUE(request.has_value());
    std::string expected = body_;
    if (what == "upper") expected = std::string(body_.size(), 'X');
    if (what == "longer") expected += kLonger;
    EXPECT_EQ(request->body, expected);
    EXPECT_GT(Counter("server_half_closed"), ended_before) << "it has not come to that";
  }
  EXPECT_EQ(Counter("spurious_msgs_received"), 0u);
}

TEST_F(StalledBodyTest, IsRefusedWhereTheResponseIsWanted) {
  Start({});
  EXPECT_EQ(Post("leave").status, 413);
  EXPECT_FALSE(backend_.TakeRequest(kTestId).has_value());
}

}  // namespace
}  // namespace callout::tests
