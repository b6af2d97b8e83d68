// SPDX-License-Identifier: Apache-2.0

#include "host/ops/http_server.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <sys/socket.h>

#include <atomic>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "host/base/thread.h"
#include "host/net/accept_loop.h"
#include "host/net/certificate.h"
#include "host/net/listener.h"
#include "tests/host/openssl_free.h"
#include "tests/host/sockets.h"

namespace callout::host {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A server on a free port, whose handler answers with method and target.
class HttpServerTest : public ::testing::Test {
 protected:
  void Start(const HttpLimits& limits = {}, std::function<TlsContext()> tls = nullptr) {
    auto server = HttpServer::Create(&metrics_, limits);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    auto serve = server_->AddListener(
        "test",
        [](const HttpRequestView& request) {
          HttpResponse response;
          response.body = std::string(request.method) + " " + std::string(request.target);
          return response;
        },
        std::move(tls));
    ASSERT_TRUE(serve.ok()) << serve.status();
    auto socket = ListenSocket::Open(ParsedAddress("127.0.0.1:0"));
    ASSERT_TRUE(socket.ok()) << socket.status();
    socket_.emplace(*std::move(socket));
    const absl::Status started = accept_loop_.Start(
        {{.name = "test", .fd = socket_->fd(), .on_connection = *serve, .may_accept = nullptr}});
    ASSERT_TRUE(started.ok()) << started;
  }
  void TearDown() override { accept_loop_.Stop(); }

  Descriptor Connected() { return Connect(socket_->bound()); }

  // Sends `request` and returns all that comes until the server closes.
  std::string Exchange(const std::string& request) {
    const Descriptor client = Connected();
    Write(client.get(), request);
    return ReadToEnd(client.get());
  }

  // Waits until the page of metrics says so.
  void AwaitMetric(const std::string& line) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(kGiveUpMs);
    while (metrics_.Text().find("\n" + line + "\n") == std::string::npos) {
      ASSERT_LT(std::chrono::steady_clock::now(), give_up) << line << "\n" << metrics_.Text();
      std::this_thread::yield();
    }
  }

  Metrics metrics_;
  std::unique_ptr<HttpServer> server_;
  std::optional<ListenSocket> socket_;
  AcceptLoop accept_loop_{&metrics_, [](const absl::Status& status) { ADD_FAILURE() << status; }};
};

constexpr char kClose[] = "Connection: close\r\n\r\n";

// Of a new pair of sockets, the other of which is served.
Descriptor UnixClient(const std::function<void(int)>& serve) {
  int pair[2] = {-1, -1};
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  serve(pair[0]);
  return Descriptor(pair[1]);
}

TEST_F(HttpServerTest, AnswersGet) {
  Start();
  EXPECT_EQ(Exchange(std::string("GET /a?b=c HTTP/1.1\r\nHost: x\r\n") + kClose),
            "HTTP/1.1 200 OK\r\n"
            "Content-Type: text/plain; charset=utf-8\r\n"
            "Connection: close\r\n"
            "Content-Length: 10\r\n\r\n"
            "GET /a?b=c");
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_http_requests_total{listener=\"test\"} 1\n"));
}

TEST_F(HttpServerTest, AnswersHeadAsGetWithoutTheBody) {
  Start();
  EXPECT_THAT(Exchange(std::string("HEAD / HTTP/1.1\r\nHost: x\r\n") + kClose),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("\r\nContent-Length: 5\r\n"),
                    EndsWith("\r\n\r\n")));
}

TEST_F(HttpServerTest, HandsOtherMethodsToTheHandler) {
  Start();
  for (const std::string method : {"POST", "DELETE", "OPTIONS", "PATCH", "FOO"}) {
    EXPECT_THAT(Exchange(method + " / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n" + kClose),
                EndsWith("\r\n\r\n" + method + " /"));
  }
}

TEST_F(HttpServerTest, KeepsConnectionsAlive) {
  Start();
  const Descriptor client = Connected();
  for (int i = 0; i < 100; ++i) {
    const std::string target = "/" + std::to_string(i);
    Write(client.get(), "GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n");
    const std::string answer = ReadUntil(
        client.get(), [&](const std::string& text) { return text.ends_with("GET " + target); });
    ASSERT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  }
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_http_requests_total{listener=\"test\"} 100\n"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("\ncallout_http_connections 1\n"));
}

TEST_F(HttpServerTest, ClosesAfterAnHttp10Request) {
  Start();
  EXPECT_THAT(Exchange("GET / HTTP/1.0\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.0 200 OK\r\n"), EndsWith("GET /")));
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  Start();
  std::string requests;
  for (int i = 0; i < 1000; ++i) {
    requests += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: x\r\n\r\n";
  }
  requests += std::string("GET /last HTTP/1.1\r\nHost: x\r\n") + kClose;
  const Descriptor client = Connected();
  std::thread writer([&] { Write(client.get(), requests); });
  const std::string answers = ReadToEnd(client.get());
  writer.join();
  size_t at = 0;
  for (int i = 0; i < 1000; ++i) {
    at = answers.find("GET /" + std::to_string(i) + "HTTP", at);
    ASSERT_NE(at, std::string::npos) << i;
  }
  EXPECT_THAT(answers, EndsWith("GET /last"));
}

TEST_F(HttpServerTest, ReadsRequestsByteByByte) {
  Start();
  const Descriptor client = Connected();
  for (char c : std::string("GET /slow HTTP/1.1\r\nHost: x\r\n") + kClose) {
    Write(client.get(), std::string(1, c));
  }
  EXPECT_THAT(ReadToEnd(client.get()), EndsWith("GET /slow"));
}

TEST_F(HttpServerTest, Answers400ToGarbage) {
  Start();
  for (const std::string& garbage :
       {std::string("garbage\r\n\r\n"), std::string("\0\1\2\3\r\n\r\n", 8),
        std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nno colon\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"),
        std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n", 28)}) {
    EXPECT_THAT(Exchange(garbage), AllOf(StartsWith("HTTP/1.1 400 Bad Request\r\n"),
                                         HasSubstr("\r\nConnection: close\r\n")))
        << garbage;
  }
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("callout_http_rejected_total{listener=\"test\",reason=\"request\"} 6\n"));
}

TEST_F(HttpServerTest, HeadersEndAtTheLimit) {
  HttpLimits limits;
  Start(limits);
  const std::string line = "GET / HTTP/1.1\r\n";
  const std::string fields = "Connection: close\r\nA: ";
  const std::string end = "\r\n\r\n";
  const std::string fits(limits.header_bytes_max - line.size() - fields.size() - end.size(), 'a');
  EXPECT_THAT(Exchange(line + fields + fits + end), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(Exchange(line + fields + fits + "a" + end), StartsWith("HTTP/1.1 431 "));
  // A client that sends far more still gets to read the answer.
  EXPECT_THAT(Exchange(line + fields + std::string(500000, 'a') + end),
              StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(Exchange("GET /" + std::string(100000, 'a')), StartsWith("HTTP/1.1 431 "));
}

TEST_F(HttpServerTest, ShortHeadersEndAtTheLimitTooHoweverTheyArrive) {
  HttpLimits limits;
  Start(limits);
  const std::string line = "GET / HTTP/1.1\r\n";
  std::string fields = "Connection: close\r\n";
  while (line.size() + fields.size() + 6 <= limits.header_bytes_max) fields += "a:\r\n";
  // One byte at a time, so that the parser takes each field before the next comes.
  const auto exchange = [&](const std::string& request) {
    const Descriptor client = Connected();
    for (char c : request) {
      if (!Write(client.get(), std::string(1, c))) break;
    }
    return ReadToEnd(client.get());
  };
  EXPECT_THAT(exchange(line + fields + "\r\n"), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(exchange(line + fields + "a:b\r\na:b\r\n"), StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(Exchange(line + fields + "a:b\r\na:b\r\n"), StartsWith("HTTP/1.1 431 "));
}

TEST_F(HttpServerTest, BodiesEndAtTheLimit) {
  HttpLimits limits;
  Start(limits);
  const auto post = [&](size_t size) {
    return Exchange("POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: " +
                    std::to_string(size) + "\r\n\r\n" + std::string(size, 'b'));
  };
  EXPECT_THAT(post(limits.body_bytes_max), EndsWith("POST /"));
  EXPECT_THAT(post(limits.body_bytes_max + 1), StartsWith("HTTP/1.1 413 "));
  EXPECT_THAT(post(500000), StartsWith("HTTP/1.1 413 "));
  const auto chunk = [&](size_t size) {
    return Exchange(
        fmt::format("POST / HTTP/1.1\r\nConnection: close\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
                    size, std::string(size, 'b')));
  };
  EXPECT_THAT(chunk(limits.body_bytes_max), EndsWith("POST /"));
  EXPECT_THAT(chunk(limits.body_bytes_max + 1), StartsWith("HTTP/1.1 413 "));
}

// Beast's parser ends the process where nothing keeps it from that (chunk_guard.h).
TEST_F(HttpServerTest, TheEndOfABodyInChunksMayComeByteByByte) {
  Start({});
  for (const std::string_view end : {"0\r\n\r\n", "1\r\nb\r\n0\r\n\r\n", "0\r\na: b\r\n\r\n"}) {
    const Descriptor client = Connected();
    Write(client.get(),
          "POST / HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (const char byte : end) Write(client.get(), std::string(1, byte));
    EXPECT_THAT(ReadToEnd(client.get()), EndsWith("POST /"));
  }
}

TEST_F(HttpServerTest, CutsOffASlowClient) {
  Start({.timeout_ms = 50});
  const Descriptor client = Connected();
  Write(client.get(), "GET / HTTP/1.1\r\nHost: ");
  EXPECT_EQ(ReadToEnd(client.get()), "");
  AwaitMetric("callout_http_rejected_total{listener=\"test\",reason=\"timeout\"} 1");
}

TEST_F(HttpServerTest, SingleBytesDoNotProlongTheTimeout) {
  Start({.timeout_ms = 50});
  const Descriptor client = Connected();
  // Never ends if each byte starts the time anew: the header's limit is far.
  bool open = Write(client.get(), "GET / HTTP/1.1\r\n");
  for (int i = 0; open && i < 8000; ++i) {
    pollfd polled = {client.get(), POLLIN, 0};
    if (poll(&polled, 1, 5) == 1) open = false;
    if (open) open = Write(client.get(), "a");
  }
  EXPECT_FALSE(open);
  EXPECT_EQ(ReadToEnd(client.get()), "");
}

TEST_F(HttpServerTest, ClosesIdleConnections) {
  Start({.timeout_ms = 50});
  const Descriptor silent = Connected();
  EXPECT_EQ(ReadToEnd(silent.get()), "");
  const Descriptor kept_alive = Connected();
  Write(kept_alive.get(), "GET / HTTP/1.1\r\n\r\n");
  EXPECT_THAT(ReadToEnd(kept_alive.get()), EndsWith("GET /"));
  AwaitMetric("callout_http_connections 0");
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("callout_http_rejected_total{listener=\"test\",reason=\"timeout\"} 0\n"));
}

TEST_F(HttpServerTest, ANewConnectionTakesThePlaceOfTheOneThatAskedLongestAgo) {
  HttpLimits limits;
  limits.timeout_ms = kGiveUpMs;
  limits.connections_max = 4;
  Start(limits);
  std::vector<Descriptor> others;
  for (uint32_t i = 0; i < limits.connections_max; ++i) others.push_back(Connected());
  AwaitMetric("callout_http_connections 4");
  const auto ask = [](const Descriptor& client) {
    Write(client.get(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    return ReadUntil(client.get(), [](const std::string& text) { return text.ends_with("GET /"); });
  };
  // The first has asked last, so that the second goes.
  EXPECT_THAT(ask(others[0]), EndsWith("GET /"));
  EXPECT_THAT(Exchange(std::string("GET / HTTP/1.1\r\n") + kClose), EndsWith("GET /"));
  EXPECT_EQ(ReadToEnd(others[1].get()), "");
  EXPECT_THAT(ask(others[0]), EndsWith("GET /"));
  EXPECT_THAT(ask(others[3]), EndsWith("GET /"));
  EXPECT_THAT(
      metrics_.Text(),
      HasSubstr("callout_http_rejected_total{listener=\"test\",reason=\"connections\"} 1\n"));
}

TEST_F(HttpServerTest, HoweverManyConnectionsThereAreANewOneIsAnswered) {
  HttpLimits limits;
  limits.timeout_ms = kGiveUpMs;
  Start(limits);
  std::vector<Descriptor> silent;
  for (uint32_t i = 0; i < 2 * limits.connections_max; ++i) silent.push_back(Connected());
  for (int i = 0; i < 100; ++i) {
    EXPECT_THAT(Exchange(std::string("GET / HTTP/1.1\r\n") + kClose), EndsWith("GET /"));
    // Until it has left, the next one would cost a silent one its place.
    AwaitMetric("callout_http_connections 255");
  }
}

TEST_F(HttpServerTest, ASlowPageKeepsNobodyElseWaiting) {
  Start();
  std::promise<void> go_on;
  auto slow =
      server_->AddListener("slow", [released = go_on.get_future().share()](const HttpRequestView&) {
        return HttpResponse{.later = [released] {
          released.wait();
          return HttpResponse{.body = "slow"};
        }};
      });
  ASSERT_TRUE(slow.ok()) << slow.status();
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
  (*slow)(pair[0]);
  const Descriptor client(pair[1]);
  Write(client.get(), std::string("GET / HTTP/1.1\r\n") + kClose);
  AwaitMetric("callout_http_requests_total{listener=\"slow\"} 1");
  EXPECT_THAT(Exchange(std::string("GET / HTTP/1.1\r\n") + kClose), EndsWith("GET /"));
  go_on.set_value();
  EXPECT_THAT(ReadToEnd(client.get()), EndsWith("slow"));
}

class SlowPages : public HttpServerTest {
 protected:
  void StartSlow(const HttpLimits& limits) {
    Start(limits);
    auto slow = server_->AddListener("slow", [this](const HttpRequestView&) {
      return HttpResponse{.later = [this] {
        released_.wait();
        ++made_;
        return HttpResponse{.body = "slow"};
      }};
    });
    ASSERT_TRUE(slow.ok()) << slow.status();
    slow_ = *slow;
  }
  Descriptor Ask(const std::string& method = "GET") {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    slow_(pair[0]);
    Descriptor client(pair[1]);
    Write(client.get(), method + " / HTTP/1.1\r\n" + kClose);
    AwaitMetric("callout_http_requests_total{listener=\"slow\"} " + std::to_string(++asked_));
    return client;
  }

  std::function<void(int)> slow_;
  std::promise<void> go_on_;
  std::shared_future<void> released_ = go_on_.get_future().share();
  std::atomic<int> made_{0};
  int asked_ = 0;
};

TEST_F(SlowPages, OverTheLimitAreRefused) {
  HttpLimits limits;
  limits.pages_max = 2;
  StartSlow(limits);
  const Descriptor first = Ask(), second = Ask();
  testing::internal::CaptureStderr();
  EXPECT_THAT(ReadToEnd(Ask().get()), StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("slow listener: refused the page / with 503: 2 such requests are under "
                        "way; --max_admin_pages=2 limits them"));
  go_on_.set_value();
  EXPECT_THAT(ReadToEnd(first.get()), EndsWith("slow"));
  EXPECT_THAT(ReadToEnd(second.get()), EndsWith("slow"));
  EXPECT_THAT(ReadToEnd(Ask().get()), EndsWith("slow"));
  AwaitMetric("callout_http_rejected_total{listener=\"slow\",reason=\"pages\"} 1");
}

TEST_F(SlowPages, ThatNobodyWaitsForAreNotMade) {
  HttpLimits limits;
  limits.connections_max = 2;
  StartSlow(limits);
  const Descriptor first = Ask(), second = Ask();
  const Descriptor third = Ask(), last = Ask();  // in the places of those two
  go_on_.set_value();
  EXPECT_THAT(ReadToEnd(third.get()), EndsWith("slow"));
  EXPECT_THAT(ReadToEnd(last.get()), EndsWith("slow"));
  EXPECT_LE(made_.load(), 3) << "the first may have been under way";
}

// What changes something is done, however many pages there are and whoever waits for the response.
TEST_F(SlowPages, ActionsAreNeitherRefusedNorSkippedForThem) {
  HttpLimits limits;
  limits.pages_max = 1;
  limits.connections_max = 2;
  StartSlow(limits);
  const Descriptor page = Ask(), action = Ask("POST");
  const Descriptor second = Ask("POST");
  EXPECT_THAT(ReadToEnd(second.get()), StartsWith("HTTP/1.1 503"));
  const Descriptor third = Ask(), last = Ask();  // in the places of those before them
  go_on_.set_value();
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(kGiveUpMs);
  while (made_.load() < 2) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up) << "the page, or the action, is not made";
    std::this_thread::yield();
  }
}

TEST_F(HttpServerTest, WithoutAThreadItDoesNotStart) {
  const FailThreadsForTest fail;
  EXPECT_EQ(HttpServer::Create(&metrics_, {}).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(HttpServerTest, ServesManyClientsAtOnce) {
  Start();
  std::vector<std::thread> clients;
  std::atomic<int> answered{0};
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&] {
      for (int round = 0; round < 100; ++round) {
        const std::string answer = Exchange(std::string("GET / HTTP/1.1\r\n") + kClose);
        if (answer.ends_with("GET /")) ++answered;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(answered.load(), 800);
}

TEST_F(HttpServerTest, SurvivesClientsThatGoAtAnyMoment) {
  Start();
  const std::string request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  for (size_t size = 0; size <= request.size(); ++size) {
    const Descriptor client = Connected();
    const linger reset = {1, 0};
    setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    Write(client.get(), request.substr(0, size));
  }
  EXPECT_THAT(Exchange(std::string("GET / HTTP/1.1\r\n") + kClose), EndsWith("GET /"));
  AwaitMetric("callout_http_connections 0");
}

TEST_F(HttpServerTest, StopClosesEveryConnection) {
  Start();
  const Descriptor silent = Connected();
  const Descriptor half = Connected();
  Write(half.get(), "GET / HT");
  AwaitMetric("callout_http_connections 2");
  server_->Stop();
  EXPECT_EQ(ReadToEnd(silent.get()), "");
  EXPECT_EQ(ReadToEnd(half.get()), "");
  EXPECT_EQ(ReadToEnd(Connected().get()), "") << "what comes after Stop is closed at once";
  EXPECT_THAT(metrics_.Text(), HasSubstr("\ncallout_http_connections 0\n"));
  server_->Stop();
}

// The client of a response that has begun and does not fit into the buffers of a socket.
constexpr size_t kLargeBody = 1 << 20;
Descriptor BeginLargeResponse(HttpServer* server, const std::string& listener,
                              std::string_view end) {
  auto serve = server->AddListener(listener, [](const HttpRequestView&) {
    return HttpResponse{.body = std::string(kLargeBody, 'x')};
  });
  EXPECT_TRUE(serve.ok()) << serve.status();
  Descriptor client = UnixClient(*serve);
  Write(client.get(), "GET / HTTP/1.1\r\n" + std::string(end));
  EXPECT_TRUE(WaitReadable(client.get()));
  return client;
}

TEST_F(HttpServerTest, StopWritesTheResponsesThatAreUnderWay) {
  Start({.farewell_ms = 30'000});
  const Descriptor closes = BeginLargeResponse(server_.get(), "closes", kClose);
  const Descriptor stays = BeginLargeResponse(server_.get(), "stays", "\r\n");
  std::thread stop([this] { server_->Stop(); });
  for (const int client : {closes.get(), stays.get()}) {
    EXPECT_THAT(ReadToEnd(client), EndsWith("\r\n\r\n" + std::string(kLargeBody, 'x')));
    shutdown(client, SHUT_WR);
  }
  stop.join();
}

TEST_F(HttpServerTest, StopDoesNotWaitForAClientThatDoesNotRead) {
  Start({.farewell_ms = 1});
  const Descriptor client = BeginLargeResponse(server_.get(), "unix", kClose);
  server_->Stop();
  EXPECT_LT(ReadToEnd(client.get()).size(), kLargeBody);
}

TEST_F(HttpServerTest, ServesUnixSockets) {
  Start();
  auto serve = server_->AddListener("unix", [](const HttpRequestView&) { return HttpResponse(); });
  ASSERT_TRUE(serve.ok()) << serve.status();
  const Descriptor client = UnixClient(*serve);
  Write(client.get(), std::string("GET / HTTP/1.1\r\n") + kClose);
  EXPECT_THAT(ReadToEnd(client.get()),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), Not(HasSubstr("Content-Type"))));
}

// ---- TLS ----

// A blocking TLS client that trusts nobody and takes whatever certificate.
class TlsClient {
 public:
  TlsClient(int fd, int version_max) : context_(SSL_CTX_new(TLS_client_method())), ssl_(nullptr) {
    SSL_CTX_set_max_proto_version(context_.get(), version_max);
    SSL_CTX_set_cipher_list(context_.get(), "ALL:@SECLEVEL=0");
    SSL_CTX_set_min_proto_version(context_.get(), TLS1_VERSION);
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_fd(ssl_.get(), fd);
    connected_ = SSL_connect(ssl_.get()) == 1;
  }
  bool connected() const { return connected_; }
  std::string Exchange(const std::string& request) {
    SSL_write(ssl_.get(), request.data(), static_cast<int>(request.size()));
    std::string answer;
    char buffer[4096];
    int size = 0;
    while ((size = SSL_read(ssl_.get(), buffer, sizeof(buffer))) > 0) {
      answer.append(buffer, static_cast<size_t>(size));
    }
    clean_end_ = SSL_get_error(ssl_.get(), size) == SSL_ERROR_ZERO_RETURN;
    return answer;
  }
  bool clean_end() const { return clean_end_; }
  std::string CertificateSubjectSerial() const {
    const std::unique_ptr<X509, void (*)(X509*)> peer(SSL_get1_peer_certificate(ssl_.get()),
                                                      X509_free);
    const std::unique_ptr<BIGNUM, void (*)(BIGNUM*)> number(
        ASN1_INTEGER_to_BN(X509_get0_serialNumber(peer.get()), nullptr), BN_free);
    char* text = BN_bn2hex(number.get());
    std::string serial = text;
    OPENSSL_free(text);
    return serial;
  }

 private:
  std::unique_ptr<SSL_CTX, OpensslFree> context_;
  std::unique_ptr<SSL, OpensslFree> ssl_;
  bool connected_ = false;
  bool clean_end_ = false;
};

TlsContext FreshContext() {
  const auto pair = MakeSelfSignedKeyPair();
  EXPECT_TRUE(pair.ok()) << pair.status();
  const auto context = MakeTlsContext(pair->chain_pem, pair->key_pem);
  EXPECT_TRUE(context.ok()) << context.status();
  return *context;
}

TEST_F(HttpServerTest, ServesTlsFrom12On) {
  Start({}, [context = FreshContext()] { return context; });
  for (int version : {TLS1_3_VERSION, TLS1_2_VERSION}) {
    const Descriptor fd = Connected();
    TlsClient client(fd.get(), version);
    ASSERT_TRUE(client.connected());
    EXPECT_THAT(client.Exchange(std::string("GET /tls HTTP/1.1\r\n") + kClose),
                AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), EndsWith("GET /tls")));
    EXPECT_TRUE(client.clean_end());
  }
  const Descriptor fd = Connected();
  EXPECT_FALSE(TlsClient(fd.get(), TLS1_1_VERSION).connected());
}

TEST_F(HttpServerTest, AsksForTheTlsContextAnewForEachConnection) {
  Watched<TlsContext> context;
  context.Update([](TlsContext& value) { value = FreshContext(); });
  Start({}, [&] { return context.Get(); });
  const Descriptor first_fd = Connected();
  TlsClient first(first_fd.get(), TLS1_3_VERSION);
  ASSERT_TRUE(first.connected());
  context.Update([](TlsContext& value) { value = FreshContext(); });
  const Descriptor second_fd = Connected();
  TlsClient second(second_fd.get(), TLS1_3_VERSION);
  ASSERT_TRUE(second.connected());
  EXPECT_NE(first.CertificateSubjectSerial(), second.CertificateSubjectSerial());
  EXPECT_THAT(first.Exchange(std::string("GET / HTTP/1.1\r\n") + kClose), EndsWith("GET /"));
}

TEST_F(HttpServerTest, ClosesWhatDoesNotSpeakTls) {
  Start({}, [context = FreshContext()] { return context; });
  EXPECT_THAT(Exchange("GET / HTTP/1.1\r\n\r\n"), Not(HasSubstr("GET /")));
  AwaitMetric("callout_http_rejected_total{listener=\"test\",reason=\"tls\"} 1");
}

TEST_F(HttpServerTest, CutsOffASilentTlsClient) {
  Start({.timeout_ms = 50}, [context = FreshContext()] { return context; });
  EXPECT_EQ(ReadToEnd(Connected().get()), "");
  AwaitMetric("callout_http_rejected_total{listener=\"test\",reason=\"timeout\"} 1");
}

TEST_F(HttpServerTest, ATlsClientReadsTheAnswerToAnOversizeHeader) {
  Start({}, [context = FreshContext()] { return context; });
  const Descriptor fd = Connected();
  TlsClient client(fd.get(), TLS1_3_VERSION);
  ASSERT_TRUE(client.connected());
  EXPECT_THAT(client.Exchange("GET /" + std::string(9000, 'a') + " HTTP/1.1\r\n\r\n"),
              StartsWith("HTTP/1.1 431 "));
}

TEST(HttpTlsContext, RefusesAPairThatDoesNotFit) {
  const auto one = MakeSelfSignedKeyPair();
  const auto two = MakeSelfSignedKeyPair();
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_EQ(MakeTlsContext(one->chain_pem, two->key_pem).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(MakeTlsContext("nonsense", one->key_pem).ok());
  EXPECT_FALSE(MakeTlsContext(one->chain_pem, "").ok());
}

}  // namespace
}  // namespace callout::host
