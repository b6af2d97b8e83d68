// SPDX-License-Identifier: Apache-2.0

// What a service that plugins call sends back: any bytes as HTTP/1.1, in two ways of cutting them,
// which come to the same; any frames as HTTP/2; and what both say in the terms of gRPC. Each
// request has one result, and none is over its limits.
//
// Readers: host/upstream/http1_connection.cc host/upstream/http2_connection.cc
// host/upstream/grpc_message.cc
#include <algorithm>
#include <cctype>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host/upstream/connection.h"
#include "host/upstream/grpc_message.h"
#include "tests/fuzz/header_text.h"
#include "tests/fuzz/target.h"
#include "tests/host/transport/h2_client.h"

namespace callout::host {
namespace {

constexpr size_t kBodyMax = 300;
constexpr size_t kHeaderMax = 400;

const UpstreamConfig& TheConfig() {
  static const UpstreamConfig* const config = [] {
    auto* made = new UpstreamConfig;
    made->name = "fuzz";
    made->authority = "service";
    made->max_streams = 4;
    made->max_response_bytes = kBodyMax;
    made->max_response_header_bytes = kHeaderMax;
    return made;
  }();
  return *config;
}

UpstreamRequest RequestOf(Choices& choices, bool grpc) {
  UpstreamRequest request;
  request.grpc = grpc;
  const char* const methods[] = {"GET", "POST", "HEAD", "PUT"};
  request.method = grpc ? "POST" : methods[choices.Next(4)];
  request.path = "/p.S/M";
  if (choices.Next(2) == 0) request.headers.emplace_back("host", "other");
  if (choices.OneIn(4)) request.headers.emplace_back("x-a", "b");
  request.body = grpc ? FrameGrpcMessage("ask") : std::string(choices.Next(4), 'b');
  return request;
}

// "" unless a result is none that the host may believe.
std::string LookAt(const AttemptResult& result, bool grpc) {
  const UpstreamResponse& response = result.response;
  if (result.outcome != UpstreamOutcome::kResponse) {
    return result.why.empty() ? "a call fails and does not say why" : "";
  }
  if (response.status < 200 || response.status > 999) return "a response with another status";
  if (response.body.size() > kBodyMax + (grpc ? kGrpcFrameBytes : 0)) return "too large a body";
  size_t header_bytes = 0;
  for (const HeaderFields* fields : {&response.headers, &response.trailers}) {
    for (const auto& [name, value] : *fields) {
      header_bytes += name.size() + value.size();
      if (HasForbiddenByte(name) || HasForbiddenByte(value)) {
        return "CR, LF or NUL in a header";
      }
      for (const char c : name) {
        if (std::isupper(static_cast<unsigned char>(c)) != 0) return "a name in upper case";
      }
    }
  }
  if (header_bytes > 2 * kHeaderMax) return "too many bytes of headers";
  const GrpcReply reply = ReadGrpcReply(response);
  if (!reply.valid) return reply.why.empty() ? "what is no gRPC does not say why" : "";
  if (reply.status > CALLOUT_OK || reply.status < CALLOUT_UNAUTHENTICATED) return "no gRPC status";
  return reply.status == CALLOUT_OK || reply.body.empty() ? "" : "an error with a message";
}

// --- HTTP/1.1 ---

std::optional<AttemptResult> AskHttp1(const UpstreamRequest& request, std::string_view bytes,
                                      size_t piece, bool clean, size_t* results) {
  std::optional<AttemptResult> result;
  auto connection = MakeHttp1Connection(&TheConfig(), [](const std::string&) {});
  connection->Send(request, 1, 1'000'000, [&](AttemptResult found) {
    ++*results;
    result = std::move(found);
  });
  for (size_t at = 0; at < bytes.size() && connection->Active() > 0; at += piece) {
    connection->OnBytes(bytes.substr(at, piece));
  }
  connection->OnClosed("the service has left", clean);
  return connection->IsOver() ? std::move(result) : std::nullopt;
}

// A connection whose request is given up, or that nobody has asked anything.
std::string LeaveHttp1(Choices& choices) {
  const UpstreamRequest request = RequestOf(choices, false);
  auto connection = MakeHttp1Connection(&TheConfig(), [](const std::string&) {});
  if (connection->Room() != 1 || connection->IsHttp2()) return "a new connection has no room";
  size_t results = 0;
  const bool asks = choices.Next(2) == 0, retires = choices.Next(2) == 0;
  const bool abandons = asks && choices.Next(2) == 0;
  if (asks) {
    connection->Send(request, 1, 1'000'000, [&](const AttemptResult&) { ++results; });
    if (connection->Room() != 0) return "a connection that is busy has room";
  }
  if (retires) connection->Retire();
  if (abandons) connection->Abandon(1);
  if ((abandons || (retires && !asks)) && !connection->IsOver()) return "it is not over";
  connection->OnBytes(choices.Rest());
  if (!asks && !connection->IsOver()) return "bytes that nobody asked for are taken";
  connection->OnClosed("the service has left", true);
  if (!connection->IsOver()) return "a connection that is over goes on";
  return results == (asks && !abandons ? 1 : 0) ? "" : "a request has not one result";
}

std::string Http1(Choices& choices) {
  const UpstreamRequest request = RequestOf(choices, false);
  const size_t piece = 1 + choices.Next(64);
  const bool clean = choices.Next(2) == 0;
  const std::string bytes = choices.Rest();
  size_t results = 0;
  const auto at_once = AskHttp1(request, bytes, bytes.size() + 1, clean, &results);
  const auto in_pieces = AskHttp1(request, bytes, piece, clean, &results);
  if (results != 2) return "a request has not one result";
  if (!at_once.has_value() || !in_pieces.has_value()) return "a connection that is over goes on";
  if (std::string error = LookAt(*at_once, false); !error.empty()) return error;
  const bool is_response = at_once->outcome == UpstreamOutcome::kResponse;
  // Beast holds the status line and the fields to the limit together only if they come in pieces.
  if (in_pieces->outcome == UpstreamOutcome::kTooLarge) return "";
  if (is_response != (in_pieces->outcome == UpstreamOutcome::kResponse)) {
    return "bytes are a response, or not, by how they were cut";
  }
  const UpstreamResponse &one = at_once->response, &other = in_pieces->response;
  const bool same = one.status == other.status && one.headers == other.headers &&
                    one.trailers == other.trailers && one.body == other.body;
  return !is_response || same ? "" : "a response differs by how it was cut";
}

// --- HTTP/2 ---

class Http2Driver {
 public:
  explicit Http2Driver(Choices& choices) : choices_(choices) {
    connection_ = MakeHttp2Connection(&TheConfig(),
                                      [this](const std::string& bytes) { out_ += bytes.size(); });
  }

  std::string Drive() {
    if (!choices_.OneIn(16)) Give(Frame(NGHTTP2_SETTINGS, 0, 0, ""));
    while (!choices_.empty() && !connection_->IsOver() && error_.empty()) Step();
    connection_->OnClosed("the service has left", choices_.Next(2) == 0);
    if (!connection_->IsOver()) return "a connection that is over goes on";
    for (size_t i = 0; i < requests_.size() && error_.empty(); ++i) {
      const Asked& asked = requests_[i];
      if (asked.results != (asked.abandoned ? 0 : 1)) error_ = "a request has not one result";
    }
    if (out_ > size_t{1} << 20) return "output without end";
    return error_;
  }

 private:
  struct Asked {
    size_t results = 0;
    bool abandoned = false;
  };

  void Step() {
    switch (choices_.Next(12)) {
      case 0:
      case 1:
        Ask();
        break;
      case 2:
        if (choices_.OneIn(16)) Give(choices_.Bytes(64));
        break;
      case 3:
        if (choices_.OneIn(4)) Abandon();
        break;
      case 4:
        if (choices_.OneIn(8)) connection_->Retire();
        if (choices_.OneIn(32)) Flood();
        break;
      default:
        Give(AnyFrame());
    }
  }

  void Flood() {
    std::string pings;
    for (unsigned i = choices_.Next(256) * 100; i > 0; --i) {
      pings += Frame(NGHTTP2_PING, 0, 0, "12345678");
    }
    connection_->OnBytes(pings);
  }

  void Ask() {
    if (!connection_->IsHttp2() || connection_->Active() > TheConfig().max_streams) {
      error_ = "more requests than allowed";
    }
    if (connection_->Room() == 0) return;
    const size_t index = requests_.size();
    const bool grpc = choices_.Next(2) == 0;
    const UpstreamRequest request = RequestOf(choices_, grpc);
    requests_.emplace_back();
    connection_->Send(request, index, 1'000'000, [this, index, grpc](const AttemptResult& result) {
      ++requests_[index].results;
      if (std::string error = LookAt(result, grpc); !error.empty()) error_ = error;
    });
  }

  void Abandon() {
    if (requests_.empty()) return;
    const size_t index =
        choices_.Next(static_cast<unsigned>(std::min<size_t>(requests_.size(), 255)));
    if (requests_[index].results > 0) return;
    requests_[index].abandoned = true;
    connection_->Abandon(index);
  }

  void Give(const std::string& bytes) {
    const size_t piece = 1 + choices_.Next(255);
    for (size_t at = 0; at < bytes.size(); at += piece) {
      connection_->OnBytes(std::string_view(bytes).substr(at, piece));
    }
  }

  std::string AnyFrame() {
    const uint32_t count = static_cast<uint32_t>(std::min<size_t>(requests_.size(), 100));
    const uint32_t stream = 1 + 2 * choices_.Next(count + 1);
    const auto end = static_cast<uint8_t>(choices_.Next(2));
    switch (choices_.Next(12)) {
      case 0:
        return Frame(NGHTTP2_PING, 0, 0, "12345678");
      case 1:
        return Frame(NGHTTP2_RST_STREAM, 0, stream,
                     std::string_view(choices_.Next(2) == 0 ? "\0\0\0\7" : "\0\0\0\2", 4));
      case 2:
        if (!choices_.OneIn(8)) return "";
        return Frame(NGHTTP2_GOAWAY, 0, 0, std::string_view("\0\0\0\1\0\0\0\0", 8));
      case 3:
        if (!choices_.OneIn(4)) return "";
        return Frame(static_cast<uint8_t>(choices_.Next(12)),
                     static_cast<uint8_t>(choices_.Next(256)), stream, choices_.Bytes(32));
      case 4:
      case 5:
        return Frame(NGHTTP2_DATA, end, stream, choices_.Bytes(255));
      case 6:
        return Frame(NGHTTP2_DATA, end, stream, FrameGrpcMessage(choices_.Bytes(20)));
      default:
        return Frame(NGHTTP2_HEADERS, end | NGHTTP2_FLAG_END_HEADERS, stream, Block());
    }
  }

  // In HPACK's literals, at times with something wrong.
  std::string Block() {
    std::string block;
    const auto add = [&block](std::string_view name, std::string_view value) {
      block += '\0';
      block += static_cast<char>(name.size() % 127);
      block += name.substr(0, name.size() % 127);
      block += static_cast<char>(value.size() % 127);
      block += value.substr(0, value.size() % 127);
    };
    const char* const statuses[] = {"200", "200", "200", "100", "503", "999", "2x"};
    if (choices_.Next(4) != 0) add(":status", statuses[choices_.Next(7)]);
    const char* const fields[][2] = {{"content-type", "application/grpc"},
                                     {"grpc-status", "0"},
                                     {"grpc-status", "7"},
                                     {"grpc-status", "99999999999"},
                                     {"grpc-message", "a%20b%"},
                                     {"content-length", "3"},
                                     {"X-Upper", "v"}};
    for (unsigned i = choices_.Next(4); i > 0; --i) {
      const unsigned which = choices_.Next(9);
      if (which < 7) {
        add(fields[which][0], fields[which][1]);
      } else {
        add("x" + choices_.Bytes(3), choices_.Bytes(126));
      }
    }
    return block;
  }

  Choices& choices_;
  std::vector<Asked> requests_;
  std::string error_;
  size_t out_ = 0;
  std::unique_ptr<Connection> connection_;
};

FUZZ_TARGET(upstream, .rounds = 10000, .bytes = 80) {
  switch (choices.Next(4)) {
    case 0:
      return Http1(choices);
    case 2:
      return LeaveHttp1(choices);
    default:
      return Http2Driver(choices).Drive();
  }
}

}  // namespace
}  // namespace callout::host
