// SPDX-License-Identifier: Apache-2.0

// BUFFERED_PARTIAL: a message with all bytes of content-length, whose end Envoy sees while
// it waits for the response. Envoy 1.40 would then wait for ever (the tests do, if the host
// only responds). The client speaks HTTP/2, where the end is a frame of its own.
#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend.h"
#include "envoy_config.h"
#include "envoy_fixture.h"
#include "host_process.h"
#include "tests/host/transport/h2_client.h"

namespace callout::tests {
namespace {

using nlohmann::json;

constexpr uint32_t kBufferBytes = 65536;
constexpr char kTestId[] = "1";

struct Response {
  bool complete = false;
  std::string status;
};

// Sends `body`, and its end in a write of its own.
Response Post(uint16_t port, const std::string& body, const host::H2Client::Headers& more) {
  const host::Descriptor connection =
      host::Connect(host::ParsedAddress(absl::StrCat("127.0.0.1:", port)));
  const int fd = connection.get();
  host::H2Client client;
  host::H2Client::Headers headers = {
      {":method", "POST"},      {":scheme", "http"},
      {":path", "/"},           {":authority", "client.example"},
      {kTestIdHeader, kTestId}, {"content-length", std::to_string(body.size())}};
  headers.insert(headers.end(), more.begin(), more.end());
  const int32_t id = client.BeginWith(headers);
  client.Send(id, body);
  host::Write(fd, client.TakeBytes());
  client.End(id);
  host::Write(fd, client.TakeBytes());
  while (!client.rpc(id).closed) {
    char bytes[65536];
    if (!host::WaitReadable(fd)) break;
    const ssize_t size = recv(fd, bytes, sizeof(bytes), 0);
    if (size <= 0 || !client.Give({bytes, static_cast<size_t>(size)})) break;
    host::Write(fd, client.TakeBytes());
  }
  const host::H2Client::Rpc& rpc = client.rpc(id);
  const auto status = rpc.headers.find(":status");
  return {rpc.closed && rpc.error_code == 0, status == rpc.headers.end() ? "" : status->second};
}

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
  uint64_t EndedByHost() { return envoy_->Counter("http.partial.ext_proc.server_half_closed"); }

  Backend backend_;
  std::unique_ptr<HostProcess> host_;
  std::unique_ptr<EnvoyProcess> envoy_;
  const std::string body_ = std::string(100000, 'x');
};

TEST_F(StalledBodyTest, GoesOnWhereNothingElseIsWanted) {
  Start({"--plugin_config=scripted=request", "--early_end=off"});
  constexpr int kTimes = 20;
  for (int i = 0; i < kTimes; ++i) {
    const bool changes = i % 2 == 0;
    const Response response =
        Post(envoy_->port("partial"), body_, {{"x-do-request-body", changes ? "upper" : "leave"}});
    ASSERT_TRUE(response.complete) << "the end of time " << i;
    EXPECT_EQ(response.status, "200");
    const std::optional<HttpMessage> request = backend_.TakeRequest(kTestId);
    ASSERT_TRUE(request.has_value());
    EXPECT_EQ(request->body, std::string(body_.size(), changes ? 'X' : 'x'));
  }
  EXPECT_GT(EndedByHost(), 0u) << "it never came to it";
  EXPECT_EQ(envoy_->Counter("http.partial.ext_proc.spurious_msgs_received"), 0u);
}

TEST_F(StalledBodyTest, IsRefusedWhereTheResponseIsWanted) {
  Start({});
  Response response;
  // Envoy may see bytes and end together, and then nothing is amiss.
  for (int i = 0; i < 20 && response.status != "413"; ++i) {
    response = Post(envoy_->port("partial"), body_, {});
    ASSERT_FALSE(response.status.empty()) << "time " << i;
  }
  EXPECT_EQ(response.status, "413");
}

}  // namespace
}  // namespace callout::tests
