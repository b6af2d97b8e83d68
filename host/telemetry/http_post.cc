// SPDX-License-Identifier: Apache-2.0

#include "host/telemetry/http_post.h"

#include <fmt/format.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <chrono>
#include <exception>
#include <optional>
#include <string_view>
#include <type_traits>

#include "absl/strings/numbers.h"
#include "host/net/chunk_guard.h"

namespace callout::host {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

using PlainStream = beast::tcp_stream;
using TlsStream = beast::ssl_stream<beast::tcp_stream>;

absl::Status OfFile(const std::string& path, const error_code& error) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", path, error.message()));
}

// "[::1]:4318"; without the port if it is the scheme's.
std::string HostField(const OtlpEndpoint& endpoint) {
  std::string host = endpoint.host;
  if (host.find(':') != host.npos) host = fmt::format("[{}]", host);
  const bool usual = endpoint.port == (endpoint.tls ? 443 : 80);
  return usual ? host : fmt::format("{}:{}", host, endpoint.port);
}

// The form with a date is rare, and left to the caller's own backoff.
uint64_t RetryAfterMs(std::string_view text) {
  constexpr uint32_t kSecondsMax = 86400;
  uint32_t seconds = 0;
  if (!absl::SimpleAtoi(std::string(text), &seconds)) return 0;
  return uint64_t{1000} * std::min(seconds, kSecondsMax);
}

constexpr size_t kReplyPieceBytes = 4096;

using Outcome = absl::StatusOr<HttpPost::Reply>;

// One request. Each step keeps it alive until its completion has run, which may be after the caller
// has given up.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void Start(const std::string& host, uint16_t port, size_t* lookups) = 0;
  virtual void Abandon() = 0;
  const std::optional<Outcome>& outcome() const { return outcome_; }

 protected:
  std::optional<Outcome> outcome_;
};

template <class Stream>
class ExchangeOn final : public Exchange, public std::enable_shared_from_this<ExchangeOn<Stream>> {
 public:
  template <class... Args>
  ExchangeOn(asio::io_context* io, http::request<http::string_body> request, Args&&... tls)
      : resolver_(*io), stream_(*io, std::forward<Args>(tls)...), request_(std::move(request)) {
    parser_.header_limit(HttpPost::kReplyHeaderBytesMax);
    parser_.body_limit(HttpPost::kReplyBodyBytesMax);
  }

  void Start(const std::string& host, uint16_t port, size_t* lookups) override {
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      // The name is checked as well as the chain. An address is no name to ask a server for.
      stream_.set_verify_callback(asio::ssl::host_name_verification(host));
      error_code is_name;
      asio::ip::make_address(host, is_name);
      if (is_name) SSL_set_tlsext_host_name(stream_.native_handle(), host.c_str());
    }
    ++*lookups;
    resolver_.async_resolve(host, std::to_string(port),
                            [self = this->shared_from_this(), lookups](
                                error_code error, tcp::resolver::results_type found) {
                              --*lookups;
                              if (self->Failed("looking the name up", error)) return;
                              self->Connect(found);
                            });
  }

  void Abandon() override {
    abandoned_ = true;
    resolver_.cancel();
    beast::get_lowest_layer(stream_).close();
  }

 private:
  // True: there is no next step. What has come to pass before Abandon may still be told after it.
  bool Failed(std::string_view what, const error_code& error) {
    if (abandoned_) return true;
    if (!error) return false;
    outcome_ = absl::UnavailableError(fmt::format("{}: {}", what, error.message()));
    return true;
  }

  void Connect(const tcp::resolver::results_type& found) {
    beast::get_lowest_layer(stream_).async_connect(
        found, [self = this->shared_from_this()](error_code error, const tcp::endpoint&) {
          if (self->Failed("connecting", error)) return;
          self->Handshake();
        });
  }

  void Handshake() {
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      stream_.async_handshake(asio::ssl::stream_base::client,
                              [self = this->shared_from_this()](error_code error) {
                                if (self->Failed("TLS handshake", error)) return;
                                self->Write();
                              });
    } else {
      Write();
    }
  }

  void Write() {
    http::async_write(stream_, request_,
                      [self = this->shared_from_this()](error_code error, size_t) {
                        if (self->Failed("sending", error)) return;
                        self->Read();
                      });
  }

  // Not http::async_read, which would give the parser what it cannot take (chunk_guard.h).
  void Read() {
    const size_t room = buffer_.max_size() - buffer_.size();
    if (room == 0) return Take(http::error::buffer_overflow);
    stream_.async_read_some(buffer_.prepare(std::min(room, kReplyPieceBytes)),
                            [self = this->shared_from_this()](error_code error, size_t size) {
                              if (self->abandoned_) return;
                              self->buffer_.commit(size);
                              self->Parse(error);
                            });
  }

  // `read`: how reading has ended.
  void Parse(const error_code& read) {
    error_code error;
    while (!error && buffer_.size() > 0 && !parser_.is_done()) {
      buffer_.consume(PutHttp(&parser_, buffer_.data(), &error));
    }
    if (error == http::error::need_more) error = {};
    if (error || parser_.is_done()) return Take(error);
    if (!read) return Read();
    if (read != asio::error::eof) return Take(read);
    if (!parser_.got_some()) return Take(http::error::end_of_stream);
    parser_.put_eof(error);  // which may be how a body ends
    Take(error);
  }

  void Take(const error_code& error) {
    const bool not_http =
        error.category() == http::make_error_code(http::error::bad_method).category();
    if (error && not_http && error != http::error::end_of_stream &&
        error != http::error::partial_message) {
      outcome_ = absl::DataLossError(fmt::format("invalid response: {}", error.message()));
    } else if (!Failed("waiting for the response", error)) {
      const auto& message = parser_.get();
      HttpPost::Reply reply;
      reply.status = message.result_int();
      reply.body = message.body();
      const auto retry_after = message[http::field::retry_after];
      reply.retry_after_ms = RetryAfterMs({retry_after.data(), retry_after.size()});
      outcome_ = std::move(reply);
    }
    // Without waiting for the other side's end of TLS.
    beast::get_lowest_layer(stream_).close();
  }

  tcp::resolver resolver_;
  Stream stream_;
  http::request<http::string_body> request_;
  beast::flat_buffer buffer_{HttpPost::kReplyHeaderBytesMax + HttpPost::kReplyBodyBytesMax};
  http::response_parser<http::string_body> parser_;
  bool abandoned_ = false;
};

}  // namespace

absl::StatusOr<TlsContext> MakeClientTlsContext(const std::string& ca_path,
                                                const std::string& cert_path,
                                                const std::string& key_path) {
  absl::StatusOr<TlsContext> made = MakePolicyContext(TlsSide::kClient);
  if (!made.ok()) return made;
  asio::ssl::context* const context = made->get();
  error_code error;
  context->set_verify_mode(asio::ssl::verify_peer, error);
  if (ca_path.empty()) {
    context->set_default_verify_paths(error);
  } else if (context->load_verify_file(ca_path, error)) {
    return OfFile(ca_path, error);
  }
  if (cert_path.empty()) return made;
  if (context->use_certificate_chain_file(cert_path, error)) return OfFile(cert_path, error);
  const std::string& key = key_path.empty() ? cert_path : key_path;
  if (context->use_private_key_file(key, asio::ssl::context::pem, error)) return OfFile(key, error);
  return made;
}

class HttpPost::Core {
 public:
  Core(OtlpEndpoint endpoint, TlsContext tls)
      : endpoint_(std::move(endpoint)), tls_(std::move(tls)) {}

  absl::StatusOr<Reply> Send(const Headers& headers, const std::string& body, uint64_t timeout_ms) {
    if (cancelled_) return absl::CancelledError("the host stops");
    io_.restart();
    const std::shared_ptr<Exchange> exchange = Make(headers, body);
    try {  // a name lookup takes a thread
      exchange->Start(endpoint_.host, endpoint_.port, &lookups_);
      Run(*exchange, timeout_ms);
    } catch (const std::exception& error) {
      exchange->Abandon();
      return absl::UnavailableError(error.what());
    }
    if (exchange->outcome().has_value()) return *exchange->outcome();
    exchange->Abandon();
    if (cancelled_) return absl::CancelledError("the host stops");
    return absl::DeadlineExceededError(fmt::format("no response within {} ms", timeout_ms));
  }

  void UseTls(TlsContext tls) { tls_ = std::move(tls); }

  void Cancel() {
    cancelled_ = true;
    io_.stop();
  }

  // A lookup runs on a thread that ends with it, and the io_context waits for that thread.
  bool is_looking_up() {
    io_.restart();
    io_.poll();
    return lookups_ > 0;
  }

 private:
  // Not until there is no more work: what earlier requests have abandoned may still wait.
  void Run(const Exchange& exchange, uint64_t timeout_ms) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    while (!exchange.outcome().has_value() && !cancelled_ && io_.run_one_until(end) > 0) {
    }
  }

  std::shared_ptr<Exchange> Make(const Headers& headers, const std::string& body) {
    http::request<http::string_body> request(http::verb::post, endpoint_.target, 11);
    for (const auto& [name, value] : headers) request.set(name, value);
    request.set(http::field::host, HostField(endpoint_));
    request.set(http::field::connection, "close");
    request.body() = body;
    request.prepare_payload();
    if (tls_ == nullptr) return std::make_shared<ExchangeOn<PlainStream>>(&io_, std::move(request));
    return std::make_shared<ExchangeOn<TlsStream>>(&io_, std::move(request), *tls_);
  }

  const OtlpEndpoint endpoint_;
  TlsContext tls_;
  std::atomic<bool> cancelled_{false};
  size_t lookups_ = 0;  // that have not returned, abandoned ones included
  asio::io_context io_;
};

absl::StatusOr<std::unique_ptr<HttpPost>> HttpPost::Create(OtlpEndpoint endpoint, TlsContext tls) {
  try {
    return std::unique_ptr<HttpPost>(
        new HttpPost(std::make_unique<Core>(std::move(endpoint), std::move(tls))));
  } catch (const std::exception& error) {
    return absl::UnavailableError(error.what());
  }
}

HttpPost::HttpPost(std::unique_ptr<Core> core) : core_(std::move(core)) {}

HttpPost::~HttpPost() {
  if (core_->is_looking_up()) static_cast<void>(core_.release());
}

absl::StatusOr<HttpPost::Reply> HttpPost::Send(const Headers& headers, const std::string& body,
                                               uint64_t timeout_ms) {
  return core_->Send(headers, body, timeout_ms);
}

void HttpPost::UseTls(TlsContext tls) { core_->UseTls(std::move(tls)); }

void HttpPost::Cancel() { core_->Cancel(); }

}  // namespace callout::host
