// SPDX-License-Identifier: Apache-2.0

// A connection of HTTP/1.1: one request at a time, no pipelining.
//
// Tested by tests/host/upstream/upstream_test.cc.
#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <limits>
#include <optional>
#include <utility>

#include "host/base/ascii.h"
#include "host/net/chunk_guard.h"
#include "host/upstream/connection.h"

namespace callout::host {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;
using Parser = http::response_parser<http::string_body>;

std::string HeadOf(const UpstreamRequest& request, const UpstreamConfig& config) {
  std::string text = fmt::format("{} {} HTTP/1.1\r\nhost: {}\r\n", request.method, request.path,
                                 AuthorityOf(request, config));
  for (const auto& [name, value] : request.headers) {
    if (name == "host") continue;
    text.append(name).append(": ").append(value).append("\r\n");
  }
  if (!HasHeader(request, "user-agent"))
    text.append("user-agent: ").append(kUserAgent).append("\r\n");
  if (!request.body.empty() || ExpectsBody(request.method)) {
    text += fmt::format("content-length: {}\r\n", request.body.size());
  }
  return text.append("\r\n");
}

HeaderFields FieldsOf(const http::fields& message) {
  HeaderFields fields;
  for (const auto& field : message) {
    const auto name = field.name_string();
    const auto value = field.value();
    fields.emplace_back(ToLowerAscii(std::string_view(name.data(), name.size())),
                        std::string(value.data(), value.size()));
  }
  return fields;
}

class Http1Connection final : public Connection {
 public:
  Http1Connection(const UpstreamConfig* config, Write write)
      : config_(config), write_(std::move(write)) {}

  size_t Room() const override { return state_ == State::kIdle ? 1 : 0; }
  size_t Active() const override { return state_ == State::kBusy ? 1 : 0; }
  bool IsOver() const override { return state_ == State::kOver; }
  bool IsHttp2() const override { return false; }

  void Send(const UpstreamRequest& request, uint64_t /*number*/, uint64_t /*timeout_ns*/,
            Done done) override {
    state_ = State::kBusy;
    done_ = std::move(done);
    is_head_ = request.method == "HEAD";
    BeginResponse();
    write_(HeadOf(request, *config_) + request.body);
  }

  void Abandon(uint64_t /*number*/) override {
    done_ = nullptr;
    state_ = State::kOver;
  }

  void Retire() override {
    retires_ = true;
    if (state_ == State::kIdle) state_ = State::kOver;
  }

  void OnBytes(std::string_view bytes) override {
    if (state_ != State::kBusy) {
      state_ = State::kOver;  // nobody has asked
      return;
    }
    inbox_.append(bytes);
    Parse();
  }

  void OnClosed(const std::string& why, bool clean) override {
    if (state_ != State::kBusy) {
      state_ = State::kOver;
      return;
    }
    error_code error = http::error::partial_message;
    // A body without a length ends with the connection.
    const bool ends_body = clean && parser_->is_header_done() && parser_->need_eof();
    if (ends_body) parser_->put_eof(error);
    retires_ = true;
    if (!error) return Finish({UpstreamOutcome::kResponse, "", TakeResponse()});
    Finish({UpstreamOutcome::kReset, why});
  }

 private:
  enum class State : uint8_t { kIdle, kBusy, kOver };

  struct Head {
    HeaderFields fields;
    bool keep_alive = false;
  };

  void BeginResponse() {
    parser_.emplace();
    head_.reset();
    // One part at a time: otherwise Beast 1.74 goes on to a body that is in the buffer already, and
    // forgets that its length is over the limit.
    parser_->eager(false);
    parser_->skip(is_head_);
    parser_->header_limit(static_cast<uint32_t>(std::min<size_t>(
        config_->max_response_header_bytes, std::numeric_limits<uint32_t>::max())));
    parser_->body_limit(config_->max_response_bytes);
  }

  void Parse() {
    while (!inbox_.empty()) {
      error_code error;
      // Beast holds a line or a header to the limit only if it comes in pieces.
      const size_t given = parser_->is_header_done()
                               ? inbox_.size()
                               : std::min(inbox_.size(), config_->max_response_header_bytes);
      const bool was_all = given == inbox_.size();
      const size_t taken = PutHttp(&*parser_, boost::asio::buffer(inbox_.data(), given), &error);
      inbox_.erase(0, taken);
      if (parser_->is_header_done() && !head_.has_value()) TakeHead();
      if (error == http::error::need_more) {
        if (taken > 0 && !was_all) continue;
        // The parser keeps what it takes. What is left is the beginning of a header, or of the line
        // of a chunk or the trailers, for which Beast 1.74 has no limit.
        if (inbox_.size() > config_->max_response_header_bytes) Fail(http::error::header_limit);
        return;
      }
      if (error) return Fail(error);
      const unsigned status = parser_->get().result_int();
      if (parser_->is_header_done() && status < 100) {
        return FailWith({UpstreamOutcome::kInvalidResponse,
                         fmt::format("not HTTP/1.1: a status of {}, under 100", status)});
      }
      if (!parser_->is_done()) {
        if (taken == 0) return;
        continue;
      }
      if (status == 101)
        return FailWith({UpstreamOutcome::kInvalidResponse, "it has switched protocols unasked"});
      if (status >= 200) return Finish({UpstreamOutcome::kResponse, "", TakeResponse()});
      BeginResponse();  // "100 Continue" and its like go before the response
    }
  }

  void Fail(const error_code& error) {
    if (error == http::error::body_limit) {
      return FailWith(
          {UpstreamOutcome::kTooLarge, fmt::format("a body of more than \"max_response_bytes\": {}",
                                                   config_->max_response_bytes)});
    }
    if (error == http::error::header_limit) {
      return FailWith(
          {UpstreamOutcome::kTooLarge,
           fmt::format("headers or trailers of more than \"max_response_header_bytes\": {}",
                       config_->max_response_header_bytes)});
    }
    FailWith({UpstreamOutcome::kInvalidResponse, fmt::format("not HTTP/1.1: {}", error.message())});
  }

  void FailWith(AttemptResult result) {
    retires_ = true;
    Finish(std::move(result));
  }

  void Finish(AttemptResult result) {
    const Done done = std::exchange(done_, nullptr);
    // Bytes behind the response are of nobody's.
    const bool goes_on = !retires_ && inbox_.empty();
    state_ = goes_on ? State::kIdle : State::kOver;
    done(std::move(result));
  }

  // Once the header is complete. Beast puts the fields of trailers among those of the header, where
  // one could pass for a header that the service has not sent.
  void TakeHead() {
    auto& message = parser_->get();
    head_ = Head{FieldsOf(message), message.keep_alive()};
    message.clear();
  }

  UpstreamResponse TakeResponse() {
    UpstreamResponse response;
    auto& message = parser_->get();
    response.status = message.result_int();
    if (!head_->keep_alive) retires_ = true;
    response.headers = std::move(head_->fields);
    response.trailers = FieldsOf(message);
    response.body = std::move(message.body());
    return response;
  }

  const UpstreamConfig* const config_;
  const Write write_;
  State state_ = State::kIdle;
  bool retires_ = false;
  bool is_head_ = false;
  Done done_;
  std::optional<Parser> parser_;
  std::optional<Head> head_;  // of the response that is being parsed, once it is complete
  std::string inbox_;
};

}  // namespace

std::unique_ptr<Connection> MakeHttp1Connection(const UpstreamConfig* config,
                                                Connection::Write write) {
  return std::make_unique<Http1Connection>(config, std::move(write));
}

std::string_view AuthorityOf(const UpstreamRequest& request, const UpstreamConfig& config) {
  for (const auto& [name, value] : request.headers) {
    if (name == "host") return value;
  }
  return config.authority;
}

bool HasHeader(const UpstreamRequest& request, std::string_view name) {
  return std::any_of(request.headers.begin(), request.headers.end(),
                     [name](const auto& header) { return header.first == name; });
}

bool ExpectsBody(std::string_view method) {
  return method == "POST" || method == "PUT" || method == "PATCH";
}

}  // namespace callout::host
