// SPDX-License-Identifier: Apache-2.0

#include "host/tester/http1.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "host/net/address.h"

namespace callout::host {
namespace {

namespace http = boost::beast::http;

constexpr uint32_t kHeaderBytesMax = 1 << 20;

std::string FirstValue(const HeaderList& headers, std::string_view name) {
  const std::vector<std::string> values = ValuesOf(headers, name);
  return values.empty() ? "" : values[0];
}

std::string FieldLines(const HeaderList& headers) {
  std::string lines;
  for (const auto& [name, value] : headers) {
    if (!name.starts_with(':')) lines += fmt::format("{}: {}\r\n", name, value);
  }
  return lines;
}

std::string ToText(const HttpMessage& message) {
  const std::string status = FirstValue(message.headers, ":status");
  std::string text = status.empty() ? fmt::format("{} {} HTTP/1.1\r\nhost: {}\r\n",
                                                  FirstValue(message.headers, ":method"),
                                                  FirstValue(message.headers, ":path"),
                                                  FirstValue(message.headers, ":authority"))
                                    : fmt::format("HTTP/1.1 {} Case\r\n", status);
  text += FieldLines(message.headers) + "\r\n";
  const std::string body = message.body.value_or("");
  if (message.trailers.empty()) return text + body;
  if (!body.empty()) text += fmt::format("{:x}\r\n{}\r\n", body.size(), body);
  return text + "0\r\n" + FieldLines(message.trailers) + "\r\n";
}

template <class Fields>
HeaderList ToList(const Fields& fields) {
  HeaderList list;
  for (const auto& field : fields) {
    list.emplace_back(
        absl::AsciiStrToLower({field.name_string().data(), field.name_string().size()}),
        std::string(field.value()));
  }
  return list;
}

absl::Status Unavailable(std::string_view what, const boost::system::error_code& error) {
  return absl::UnavailableError(fmt::format("{}: {}", what, error.message()));
}

template <class Function>
absl::StatusOr<OwnedFd> OpenUnix(const std::string& path, const char* what, Function use) {
  const absl::StatusOr<Address> address = ParseAddress("unix:" + path);
  if (!address.ok()) return address.status();
  OwnedFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (fd.get() >= 0 && use(fd.get(), *address)) return fd;
  return absl::UnavailableError(fmt::format("cannot {} {}: {}", what, path, strerror(errno)));
}

}  // namespace

absl::StatusOr<OwnedFd> ConnectUnix(const std::string& path) {
  return OpenUnix(path, "connect to", [](int fd, const Address& address) {
    return connect(fd, address.get(), address.size) == 0;
  });
}

absl::StatusOr<OwnedFd> ListenUnix(const std::string& path) {
  return OpenUnix(path, "listen at", [](int fd, const Address& address) {
    return bind(fd, address.get(), address.size) == 0 && listen(fd, SOMAXCONN) == 0;
  });
}

Http1Connection::Http1Connection(OwnedFd socket) : stream_(context_) {
  boost::system::error_code ignored;
  stream_.socket().assign(Protocol(), socket.Release(), ignored);
}

absl::Status Http1Connection::Write(const HttpMessage& message) {
  const std::string text = ToText(message);
  boost::system::error_code result;
  stream_.expires_after(kTimeout);
  boost::asio::async_write(stream_, boost::asio::buffer(text),
                           [&](const boost::system::error_code& error, size_t) { result = error; });
  context_.restart();
  context_.run();
  return result ? Unavailable("writing HTTP", result) : absl::OkStatus();
}

// Headers first: Beast puts trailers among them.
template <class Parser>
absl::Status Http1Connection::Read(Parser* parser, HttpMessage* message) {
  parser->body_limit(std::numeric_limits<uint64_t>::max());
  parser->header_limit(kHeaderBytesMax);
  boost::system::error_code result;
  const auto run = [&] {
    context_.restart();
    context_.run();
  };
  stream_.expires_after(kTimeout);
  http::async_read_header(stream_, buffer_, *parser,
                          [&](const boost::system::error_code& error, size_t) { result = error; });
  run();
  if (result) return Unavailable("reading HTTP", result);
  const HeaderList headers = ToList(parser->get());
  if (!parser->is_done()) {
    http::async_read(stream_, buffer_, *parser,
                     [&](const boost::system::error_code& error, size_t) { result = error; });
    run();
    if (result) return Unavailable("reading HTTP", result);
  }
  message->trailers = ToList(parser->get());
  for (const auto& header : headers) {
    const auto found = std::find(message->trailers.begin(), message->trailers.end(), header);
    if (found != message->trailers.end()) message->trailers.erase(found);
  }
  message->headers.insert(message->headers.end(), headers.begin(), headers.end());
  message->body = parser->get().body();
  return absl::OkStatus();
}

absl::StatusOr<HttpMessage> Http1Connection::ReadRequest() {
  http::request_parser<http::string_body> parser;
  HttpMessage message;
  if (absl::Status status = Read(&parser, &message); !status.ok()) return status;
  const auto& request = parser.get();
  const std::string host = FirstValue(message.headers, "host");
  std::erase_if(message.headers, [](const auto& header) { return header.first == "host"; });
  message.headers.insert(message.headers.begin(),
                         {{":method", std::string(request.method_string())},
                          {":path", std::string(request.target())},
                          {":authority", host}});
  return message;
}

absl::StatusOr<HttpMessage> Http1Connection::ReadResponse(const std::string& method) {
  http::response_parser<http::string_body> parser;
  parser.skip(method == "HEAD");
  HttpMessage message;
  if (absl::Status status = Read(&parser, &message); !status.ok()) return status;
  message.headers.emplace(message.headers.begin(), ":status",
                          std::to_string(parser.get().result_int()));
  return message;
}

}  // namespace callout::host
