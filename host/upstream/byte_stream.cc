// SPDX-License-Identifier: Apache-2.0

#include "host/upstream/byte_stream.h"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/socket_base.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <type_traits>
#include <utility>

namespace callout::host {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Socket = asio::generic::stream_protocol::socket;
using TlsSocket = asio::ssl::stream<Socket>;

bool IsEnd(const error_code& error) {
  return error == asio::error::eof || error == asio::ssl::error::stream_truncated;
}

template <class Layer>
class StreamOn final : public ByteStream, public std::enable_shared_from_this<StreamOn<Layer>> {
 public:
  static constexpr bool kTls = std::is_same_v<Layer, TlsSocket>;

  template <class... Args>
  StreamOn(Events events, TlsContext tls, Args&&... args)
      : events_(std::move(events)), tls_(std::move(tls)), layer_(std::forward<Args>(args)...) {}

  void Open(std::vector<StreamEndpoint> endpoints, const std::string& server_name,
            bool verify) override {
    endpoints_ = std::move(endpoints);
    if constexpr (kTls) {
      if (verify) layer_.set_verify_callback(asio::ssl::host_name_verification(server_name));
      error_code is_name;
      asio::ip::make_address(server_name, is_name);
      if (is_name) SSL_set_tlsext_host_name(layer_.native_handle(), server_name.c_str());
    }
    Connect(0);
  }

  void Write(std::string bytes) override {
    if (closed_ || bytes.empty()) return;
    waiting_ += bytes;
    if (sending_.empty()) Send();
  }

  void Close() override {
    if (std::exchange(closed_, true)) return;
    error_code ignored;
    layer_.lowest_layer().close(ignored);
    // What its functions hold may hold this; and one of them may be running.
    asio::post(layer_.get_executor(), [self = this->shared_from_this()] { self->events_ = {}; });
  }

  std::string Alpn() const override {
    if constexpr (kTls) {
      const unsigned char* name = nullptr;
      unsigned size = 0;
      SSL_get0_alpn_selected(const_cast<Layer&>(layer_).native_handle(), &name, &size);
      return std::string(reinterpret_cast<const char*>(name), size);
    }
    return "";
  }

 private:
  void Fail(std::string_view what, const error_code& error) {
    if (closed_) return;
    std::string why =
        fmt::format("{}: {}", what,
                    IsEnd(error) ? "the other side has closed the connection" : error.message());
    if constexpr (kTls) why += VerifyError();
    const auto on_closed = std::move(events_.on_closed);
    Close();
    on_closed(why, error == asio::error::eof);
  }

  // " (unable to get local issuer certificate)"
  std::string VerifyError() const {
    if constexpr (kTls) {
      const long result = SSL_get_verify_result(const_cast<Layer&>(layer_).native_handle());
      if (result != X509_V_OK) return fmt::format(" ({})", X509_verify_cert_error_string(result));
    }
    return "";
  }

  void Connect(size_t at) {
    if (at == endpoints_.size()) return Fail("connecting", asio::error::host_not_found);
    auto& socket = layer_.lowest_layer();
    error_code ignored;
    socket.close(ignored);
    socket.async_connect(endpoints_[at], [self = this->shared_from_this(), at](error_code error) {
      if (self->closed_) return;
      if (!error) return self->Connected();
      if (at + 1 < self->endpoints_.size()) return self->Connect(at + 1);
      self->Fail("connecting", error);
    });
  }

  void Connected() {
    const int on = 1;
    // Of a unix socket that is an error, and means nothing.
    setsockopt(layer_.lowest_layer().native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if constexpr (kTls) {
      layer_.async_handshake(asio::ssl::stream_base::client,
                             [self = this->shared_from_this()](error_code error) {
                               if (self->closed_) return;
                               if (error) return self->Fail("TLS handshake", error);
                               self->Opened();
                             });
    } else {
      Opened();
    }
  }

  void Opened() {
    const auto on_open = std::move(events_.on_open);
    on_open();
    Read();
  }

  void Read() {
    if (closed_) return;
    layer_.async_read_some(asio::buffer(buffer_),
                           [self = this->shared_from_this()](error_code error, size_t size) {
                             if (self->closed_) return;
                             if (error) return self->Fail("reading", error);
                             self->events_.on_bytes({self->buffer_.data(), size});
                             self->Read();
                           });
  }

  void Send() {
    sending_.swap(waiting_);
    asio::async_write(layer_, asio::buffer(sending_),
                      [self = this->shared_from_this()](error_code error, size_t) {
                        if (self->closed_) return;
                        // Reading finds out why: what the other side has sent before it closed
                        // counts.
                        if (error) return;
                        self->sending_.clear();
                        if (!self->waiting_.empty()) self->Send();
                      });
  }

  Events events_;
  const TlsContext tls_;  // outlives the layer
  Layer layer_;
  std::vector<StreamEndpoint> endpoints_;
  std::array<char, 16384> buffer_;
  std::string sending_, waiting_;
  bool closed_ = false;
};

}  // namespace

std::shared_ptr<ByteStream> ByteStream::Make(asio::io_context* io, const TlsContext& tls,
                                             Events events) {
  if (tls == nullptr) return std::make_shared<StreamOn<Socket>>(std::move(events), tls, *io);
  return std::make_shared<StreamOn<TlsSocket>>(std::move(events), tls, *io, *tls);
}

}  // namespace callout::host
