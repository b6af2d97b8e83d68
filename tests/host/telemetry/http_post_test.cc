// SPDX-License-Identifier: Apache-2.0

#include "host/telemetry/http_post.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "host/net/certificate.h"
#include "tests/host/pki.h"
#include "tests/host/telemetry/collector.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kLongMs = 30000;

OtlpEndpoint Endpoint(const std::string& url) {
  const absl::StatusOr<OtlpEndpoint> endpoint = ParseOtlpEndpoint(url);
  EXPECT_TRUE(endpoint.ok()) << endpoint.status();
  return endpoint.value_or(OtlpEndpoint());
}

std::unique_ptr<HttpPost> Post(const std::string& url, TlsContext tls = nullptr) {
  auto post = HttpPost::Create(Endpoint(url), std::move(tls));
  EXPECT_TRUE(post.ok()) << post.status();
  return *std::move(post);
}

HttpResponse Plain(unsigned status, std::string body = "") {
  HttpResponse response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

// Listens, and what it does with a connection is the test's.
class RawServer {
 public:
  RawServer() : socket_(*ListenSocket::Open(ParsedAddress("127.0.0.1:0"))) {}
  std::string url() const {
    return "http://127.0.0.1:" + std::to_string(socket_.bound().port()) + "/";
  }
  Descriptor Accept() {
    EXPECT_TRUE(WaitReadable(socket_.fd()));
    return Descriptor(accept(socket_.fd(), nullptr, nullptr));
  }

 private:
  ListenSocket socket_;
};

// `reply` in place of a response.
absl::Status StatusFor(const std::string& reply) {
  RawServer server;
  std::thread thread([&] {
    const Descriptor client = server.Accept();
    ReadUntil(client.get(), [](const std::string& text) { return text.ends_with("hello"); });
    Write(client.get(), reply);
  });
  const absl::Status status = Post(server.url())->Send({}, "hello", kLongMs).status();
  thread.join();
  return status;
}

TEST(HttpPost, SendsBodyAndHeadersAndReadsTheReply) {
  Collector collector([](int) { return Plain(202, "thanks"); });
  const auto reply =
      Post(collector.url())->Send({{"Content-Type", "application/x-protobuf"}}, "hello", kLongMs);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->status, 202u);
  EXPECT_EQ(reply->body, "thanks");
  ASSERT_EQ(collector.requests().size(), 1u);
  EXPECT_EQ(collector.requests()[0].target, "/v1/traces");
  EXPECT_EQ(collector.requests()[0].content_type, "application/x-protobuf");
  EXPECT_EQ(collector.requests()[0].body, "hello");
}

TEST(HttpPost, ReadsRetryAfterInSeconds) {
  Collector collector([](int number) {
    HttpResponse response = Plain(503);
    response.headers.emplace_back("Retry-After",
                                  number == 0 ? "7" : "Wed, 21 Oct 2026 07:28:00 GMT");
    return response;
  });
  const auto post = Post(collector.url());
  EXPECT_EQ(post->Send({}, "", kLongMs)->retry_after_ms, 7000u);
  EXPECT_EQ(post->Send({}, "", kLongMs)->retry_after_ms, 0u);
}

TEST(HttpPost, NobodyThereIsUnavailable) {
  uint16_t port = 0;
  {
    RawServer server;
    port = static_cast<uint16_t>(Endpoint(server.url()).port);
  }
  const auto reply = Post("http://127.0.0.1:" + std::to_string(port) + "/")->Send({}, "", kLongMs);
  EXPECT_EQ(reply.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(reply.status().message()), HasSubstr("connecting"));
}

TEST(HttpPost, SilenceIsOverWithTheTime) {
  RawServer server;  // takes the connection and says nothing
  const auto reply = Post(server.url())->Send({}, "hello", 50);
  EXPECT_EQ(reply.status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(HttpPost, WorksAgainAfterItsTimeWasUp) {
  RawServer silent;
  const auto post = Post(silent.url());
  EXPECT_FALSE(post->Send({}, "hello", 20).ok());
  EXPECT_FALSE(post->Send({}, "hello", 20).ok());
}

TEST(HttpPost, GarbageIsNoResponse) {
  EXPECT_EQ(StatusFor("SSH-2.0-OpenSSH\r\n\r\n").code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(StatusFor("HTTP/1.1 abc\r\n\r\n").code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(StatusFor("HTTP/1.1 200 OK\r\nX: " + std::string(100000, 'x') + "\r\n\r\n").code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(StatusFor("HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n").code(),
            absl::StatusCode::kDataLoss);
}

// Beast's parser ends the process where nothing keeps it from that (chunk_guard.h).
TEST(HttpPost, TheEndOfABodyInChunksMayComeByteByByte) {
  RawServer server;
  std::thread thread([&] {
    const Descriptor client = server.Accept();
    ReadUntil(client.get(), [](const std::string& text) { return text.ends_with("hello"); });
    Write(client.get(), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (const char byte : {'0', '\r', '\n', '\r', '\n'}) Write(client.get(), std::string(1, byte));
  });
  EXPECT_EQ(Post(server.url())->Send({}, "hello", kLongMs).status(), absl::OkStatus());
  thread.join();
}

TEST(HttpPost, AnEndAmidTheResponseIsUnavailable) {
  EXPECT_EQ(StatusFor("").code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(StatusFor("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").code(),
            absl::StatusCode::kUnavailable);
}

TEST(HttpPost, CancelEndsIt) {
  RawServer server;
  const auto post = Post(server.url());
  Descriptor client;  // open until the post has ended
  std::thread thread([&] {
    client = server.Accept();
    ReadUntil(client.get(), [](const std::string& text) { return text.ends_with("hello"); });
    post->Cancel();
  });
  EXPECT_EQ(post->Send({}, "hello", kLongMs).status().code(), absl::StatusCode::kCancelled);
  thread.join();
  EXPECT_EQ(post->Send({}, "hello", kLongMs).status().code(), absl::StatusCode::kCancelled);
}

// --- TLS ---

class HttpPostTls : public ::testing::Test {
 protected:
  // A server whose certificate is for `name`, and the CA's file.
  void Start(const std::string& name) {
    const TestKey ca_key = MakeEcKey();
    const TestCertificate ca =
        MakeCertificate({.name = "ca", .is_ca = true}, ca_key.get(), nullptr, ca_key.get());
    const TestKey key = MakeEcKey();
    const TestCertificate certificate = MakeCertificate(
        {.name = "server", .alt_names = "DNS:" + name}, key.get(), ca.get(), ca_key.get());
    std::ofstream(ca_path_) << PemOf(ca.get());
    auto context = MakeTlsContext(PemOf(certificate.get()), PemOf(key.get()));
    ASSERT_TRUE(context.ok()) << context.status();
    collector_.emplace([](int) { return Plain(200); }, [context = *context] { return context; });
  }
  TlsContext Client(const std::string& ca_path) {
    auto context = MakeClientTlsContext(ca_path, "", "");
    EXPECT_TRUE(context.ok()) << context.status();
    return context.value_or(nullptr);
  }

  TempDir dir_;
  const std::string ca_path_ = dir_.Path("ca.pem");
  std::optional<Collector> collector_;
};

TEST_F(HttpPostTls, SendsToAServerThatItTrusts) {
  Start("localhost");
  const auto reply = Post(collector_->url(), Client(ca_path_))->Send({}, "hello", kLongMs);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->status, 200u);
}

TEST_F(HttpPostTls, RefusesAnUnknownCaAndAnotherName) {
  Start("localhost");
  EXPECT_THAT(
      std::string(
          Post(collector_->url(), Client(""))->Send({}, "hello", kLongMs).status().message()),
      HasSubstr("TLS handshake"));
  collector_.reset();
  Start("elsewhere.example");
  EXPECT_THAT(
      std::string(
          Post(collector_->url(), Client(ca_path_))->Send({}, "hello", kLongMs).status().message()),
      HasSubstr("TLS handshake"));
  EXPECT_TRUE(collector_->requests().empty());
}

TEST_F(HttpPostTls, AnInvalidFileIsNamed) {
  const auto context = MakeClientTlsContext(dir_.Path("none.pem"), "", "");
  EXPECT_THAT(std::string(context.status().message()), HasSubstr("none.pem"));
}

}  // namespace
}  // namespace callout::host
