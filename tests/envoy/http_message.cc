// SPDX-License-Identifier: Apache-2.0

#include "http_message.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/beast/http/basic_parser.hpp>
#include <chrono>
#include <limits>

#include "../host/sockets.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace callout::tests {
namespace {

namespace http = boost::beast::http;

constexpr uint32_t kHeaderBytesMax = 1 << 20;
constexpr size_t kPrintedBodyBytesMax = 200;
constexpr int kAskAgainMs = 2;

std::string ToString(boost::beast::string_view text) { return {text.data(), text.size()}; }

std::string FieldLines(const HttpFields& fields) {
  std::string lines;
  for (const auto& [name, value] : fields) absl::StrAppend(&lines, name, ": ", value, "\r\n");
  return lines;
}

// False if the connection is closed first.
bool AwaitLeave(int fd, const HttpBody& body, size_t bytes_sent) {
  const auto give_up =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(host::kGiveUpMs);
  while (body.may_send && !body.may_send(bytes_sent)) {
    pollfd closed = {fd, POLLRDHUP, 0};
    if (poll(&closed, 1, kAskAgainMs) != 0) return false;
    if (std::chrono::steady_clock::now() > give_up) {
      ADD_FAILURE() << "the next piece may not leave after " << bytes_sent << " bytes";
      return false;
    }
  }
  return true;
}

}  // namespace

std::vector<std::string> ValuesOf(const HttpFields& fields, std::string_view name) {
  std::vector<std::string> values;
  for (const auto& [key, value] : fields) {
    if (absl::EqualsIgnoreCase(key, {name.data(), name.size()})) values.push_back(value);
  }
  return values;
}

std::optional<std::string> HttpMessage::Header(std::string_view name) const {
  const std::vector<std::string> values = ValuesOf(headers, name);
  if (values.empty()) return std::nullopt;
  return absl::StrJoin(values, ",");
}

void PrintTo(const HttpMessage& message, std::ostream* out) {
  *out << message.method << ' ' << message.target << ' ' << message.status << '\n'
       << FieldLines(message.headers) << "(" << message.body.size() << " bytes) "
       << message.body.substr(0, kPrintedBodyBytesMax) << '\n'
       << FieldLines(message.trailers) << (message.complete ? "" : "(cut off)\n");
}

size_t HttpBody::size() const {
  size_t size = 0;
  for (const std::string& piece : pieces) size += piece.size();
  return size;
}

bool SendMessage(int fd, const std::string& start_line, const HttpFields& headers,
                 const HttpBody& body, bool omit_empty) {
  std::string head = absl::StrCat(start_line, "\r\n", FieldLines(headers));
  if (body.chunked) {
    absl::StrAppend(&head, "transfer-encoding: chunked\r\n");
  } else if (body.size() > 0 || !omit_empty) {
    absl::StrAppend(&head, "content-length: ", body.size(), "\r\n");
  }
  head += "\r\n";
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (!host::Write(fd, head)) return false;
  size_t sent = head.size();
  for (const std::string& piece : body.pieces) {
    if (!AwaitLeave(fd, body, sent)) return false;
    const std::string framed =
        body.chunked ? absl::StrCat(absl::Hex(piece.size()), "\r\n", piece, "\r\n") : piece;
    if (!host::Write(fd, framed)) return false;
    sent += framed.size();
  }
  return !body.chunked || host::Write(fd, absl::StrCat("0\r\n", FieldLines(body.trailers), "\r\n"));
}

// Boost.Beast's own message type sorts fields and mixes trailers into headers.
template <bool is_request>
class HttpReader<is_request>::Parser final : public http::basic_parser<is_request> {
 public:
  using error_code = boost::beast::error_code;
  using string_view = boost::beast::string_view;

  Parser(HttpMessage* message, const std::function<void(const HttpMessage&)>& on_headers)
      : message_(message), on_headers_(on_headers) {
    this->header_limit(kHeaderBytesMax);
    this->body_limit(std::numeric_limits<uint64_t>::max());
    this->eager(true);
  }

 private:
  void on_request_impl(http::verb, string_view method, string_view target, int,
                       error_code&) override {
    message_->method = ToString(method);
    message_->target = ToString(target);
  }
  void on_response_impl(int status, string_view, int, error_code&) override {
    message_->status = status;
  }
  void on_field_impl(http::field, string_view name, string_view value, error_code&) override {
    fields_->emplace_back(ToString(name), ToString(value));
  }
  void on_header_impl(error_code&) override {
    fields_ = &message_->trailers;
    if (on_headers_) on_headers_(*message_);
  }
  void on_body_init_impl(const boost::optional<uint64_t>&, error_code&) override {}
  size_t on_body_impl(string_view bytes, error_code&) override {
    message_->body.append(bytes.data(), bytes.size());
    return bytes.size();
  }
  void on_chunk_header_impl(uint64_t size, string_view, error_code&) override {
    if (size > 0) message_->chunk_sizes.push_back(size);
  }
  size_t on_chunk_body_impl(uint64_t, string_view bytes, error_code&) override {
    message_->body.append(bytes.data(), bytes.size());
    return bytes.size();
  }
  void on_finish_impl(error_code&) override { message_->complete = true; }

  HttpMessage* const message_;
  HttpFields* fields_ = &message_->headers;
  const std::function<void(const HttpMessage&)>& on_headers_;
};

template <bool is_request>
HttpMessage HttpReader<is_request>::Read(
    const std::function<void(const HttpMessage&)>& on_headers) {
  HttpMessage message;
  Parser parser(&message, on_headers);
  std::vector<char> piece(1 << 16);
  for (;;) {
    boost::beast::error_code error;
    while (!buffered_.empty() && !parser.is_done() && !error) {
      buffered_.erase(0, parser.put(boost::asio::buffer(buffered_), error));
    }
    if (parser.is_done() || (error && error != http::error::need_more)) return message;
    pollfd readable = {fd_, POLLIN, 0};
    if (poll(&readable, 1, patience_ms_) != 1) return message;
    const ssize_t size = recv(fd_, piece.data(), piece.size(), 0);
    if (size > 0) {
      buffered_.append(piece.data(), static_cast<size_t>(size));
      continue;
    }
    // A response without a length ends with its connection.
    if (size == 0 && parser.got_some()) parser.put_eof(error);
    return message;
  }
}

template class HttpReader<true>;
template class HttpReader<false>;

}  // namespace callout::tests
