// SPDX-License-Identifier: Apache-2.0

// A connection of HTTP/2, by nghttp2.
//
// Tested by tests/host/upstream/upstream_test.cc.
#include <callout/calls.h>
#include <fmt/format.h>
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "host/upstream/connection.h"
#include "host/upstream/grpc_message.h"

namespace callout::host {
namespace {

constexpr size_t kWindowBytes = size_t{4} << 20;
// Frames that nghttp2 acknowledges. After so many the connection takes no further call, after twice
// as many it ends: a service that sends them and does not read would let the acknowledgements pile
// up.
constexpr uint64_t kAcknowledgedMax = 10'000;
// Of the headers of a request. nghttp2 would refuse 64 KiB of them, with 12 bytes for each: less
// than a plugin may send.
constexpr size_t kSentHeaderBytesMax =
    2 * (CALLOUT_OUTGOING_HEADER_BYTES_MAX + CALLOUT_OUTGOING_PATH_BYTES_MAX);
// Bytes that are handed to the socket at once.
constexpr size_t kWriteBytes = size_t{64} << 10;

nghttp2_nv Field(std::string_view name, std::string_view value) {
  return {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NONE};
}

std::string_view View(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

class Http2Connection final : public Connection {
 public:
  Http2Connection(const UpstreamConfig* config, Write write);
  ~Http2Connection() override { nghttp2_session_del(session_); }
  Http2Connection(const Http2Connection&) = delete;
  Http2Connection& operator=(const Http2Connection&) = delete;

  size_t Room() const override;
  size_t Active() const override { return streams_.size(); }
  bool IsOver() const override { return retires_ && streams_.empty(); }
  bool IsHttp2() const override { return true; }

  void Send(const UpstreamRequest& request, uint64_t number, uint64_t timeout_ns,
            Done done) override;
  void Abandon(uint64_t number) override;
  void Retire() override { retires_ = true; }

  void OnBytes(std::string_view bytes) override;
  void OnClosed(const std::string& why, bool clean) override;

 private:
  struct Stream {
    uint64_t number = 0;
    Done done;  // null: abandoned
    std::string body;
    size_t sent = 0;  // of `body`
    size_t response_bytes_max = 0;
    UpstreamResponse response;
    size_t header_bytes = 0;
    bool has_headers = false;  // the final ones
    bool ended = false;
    AttemptResult failure;  // why it was reset here, unless its `why` is ""
  };

  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                      size_t name_size, const uint8_t* value, size_t value_size, uint8_t flags,
                      void* self);
  static int OnFrame(nghttp2_session*, const nghttp2_frame* frame, void* self);
  static int OnInvalidFrame(nghttp2_session*, const nghttp2_frame* frame, int error, void* self);
  static int OnData(nghttp2_session*, uint8_t flags, int32_t id, const uint8_t* data, size_t size,
                    void* self);
  static int OnStreamClose(nghttp2_session*, int32_t id, uint32_t error, void* self);
  static ssize_t ReadBody(nghttp2_session*, int32_t id, uint8_t* to, size_t size, uint32_t* flags,
                          nghttp2_data_source* source, void* self);
  static nghttp2_session_callbacks* Callbacks();

  Stream* Find(int32_t id) {
    const auto found = streams_.find(id);
    return found == streams_.end() ? nullptr : &found->second;
  }
  void TakeHeader(Stream* stream, int32_t id, std::string_view name, std::string_view value);
  void ResetStream(Stream* stream, int32_t id, UpstreamOutcome outcome, std::string why);
  AttemptResult ResultOf(Stream* stream, uint32_t error) const;
  void FailAll(UpstreamOutcome outcome, const std::string& why);
  void Flush();
  void Report();

  const UpstreamConfig* const config_;
  const Write write_;
  nghttp2_session* session_ = nullptr;
  bool retires_ = false;
  uint64_t acknowledged_ = 0;
  std::string violation_;  // of the other side
  std::map<int32_t, Stream> streams_;
  // Of streams that are over; reported when nghttp2 has returned.
  std::vector<std::pair<Done, AttemptResult>> results_;
};

nghttp2_session_callbacks* Http2Connection::Callbacks() {
  static nghttp2_session_callbacks* const callbacks = [] {
    nghttp2_session_callbacks* made = nullptr;
    nghttp2_session_callbacks_new(&made);
    nghttp2_session_callbacks_set_on_header_callback(made, OnHeader);
    nghttp2_session_callbacks_set_on_frame_recv_callback(made, OnFrame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(made, OnInvalidFrame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, OnData);
    nghttp2_session_callbacks_set_on_stream_close_callback(made, OnStreamClose);
    return made;
  }();
  return callbacks;
}

Http2Connection::Http2Connection(const UpstreamConfig* config, Write write)
    : config_(config), write_(std::move(write)) {
  nghttp2_option* option = nullptr;
  nghttp2_option_new(&option);
  nghttp2_option_set_max_send_header_block_length(option, kSentHeaderBytesMax);
  nghttp2_session_client_new2(&session_, Callbacks(), this, option);
  nghttp2_option_del(option);
  const std::array<nghttp2_settings_entry, 3> settings = {
      nghttp2_settings_entry{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
      nghttp2_settings_entry{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindowBytes},
      nghttp2_settings_entry{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
                             static_cast<uint32_t>(config->max_response_header_bytes)}};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), settings.size());
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0,
                                        static_cast<int32_t>(4 * kWindowBytes));
  Flush();
}

size_t Http2Connection::Room() const {
  if (retires_ || nghttp2_session_check_request_allowed(session_) == 0) return 0;
  const size_t allowed = std::min<size_t>(
      config_->max_streams,
      nghttp2_session_get_remote_settings(session_, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS));
  return allowed > streams_.size() ? allowed - streams_.size() : 0;
}

void Http2Connection::Send(const UpstreamRequest& request, uint64_t number, uint64_t timeout_ns,
                           Done done) {
  const std::string length = fmt::format("{}", request.body.size());
  const std::string timeout = GrpcTimeout(timeout_ns);
  std::vector<nghttp2_nv> fields = {
      Field(":method", request.method), Field(":scheme", config_->tls ? "https" : "http"),
      Field(":authority", AuthorityOf(request, *config_)), Field(":path", request.path)};
  if (request.grpc) {
    fields.push_back(Field("te", "trailers"));
    fields.push_back(Field("content-type", "application/grpc"));
    fields.push_back(Field("grpc-timeout", timeout));
  }
  for (const auto& [name, value] : request.headers) {
    if (name != "host") fields.push_back(Field(name, value));
  }
  if (!HasHeader(request, "user-agent")) fields.push_back(Field("user-agent", kUserAgent));
  const bool has_body = !request.body.empty();
  if (!request.grpc && (has_body || ExpectsBody(request.method))) {
    fields.push_back(Field("content-length", length));
  }
  nghttp2_data_provider body = {};
  body.read_callback = ReadBody;
  const int32_t id = nghttp2_submit_request(session_, nullptr, fields.data(), fields.size(),
                                            has_body ? &body : nullptr, nullptr);
  if (id < 0) {
    retires_ = true;
    return done({UpstreamOutcome::kRefused, nghttp2_strerror(id)});
  }
  Stream& stream = streams_[id];
  stream.number = number;
  stream.done = std::move(done);
  stream.body = request.body;
  // The frame of a gRPC message does not count.
  stream.response_bytes_max = config_->max_response_bytes + (request.grpc ? kGrpcFrameBytes : 0);
  Flush();
}

void Http2Connection::Abandon(uint64_t number) {
  for (auto& [id, stream] : streams_) {
    if (stream.number != number) continue;
    stream.done = nullptr;
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
    Flush();
    return;
  }
}

void Http2Connection::OnBytes(std::string_view bytes) {
  const ssize_t taken = nghttp2_session_mem_recv(
      session_, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  if (taken < 0 && violation_.empty()) violation_ = nghttp2_strerror(static_cast<int>(taken));
  Flush();
  if (taken < 0 || nghttp2_session_want_read(session_) == 0) {
    FailAll(UpstreamOutcome::kInvalidResponse,
            fmt::format("not HTTP/2: {}", violation_.empty() ? "protocol error" : violation_));
  }
  Report();
}

void Http2Connection::OnClosed(const std::string& why, bool /*clean*/) {
  FailAll(UpstreamOutcome::kReset, why);
  Report();
}

void Http2Connection::FailAll(UpstreamOutcome outcome, const std::string& why) {
  retires_ = true;
  for (auto& [id, stream] : streams_) {
    if (stream.done == nullptr) continue;
    results_.emplace_back(std::move(stream.done), AttemptResult{outcome, why});
  }
  streams_.clear();
}

void Http2Connection::Report() {
  const auto results = std::exchange(results_, {});
  for (const auto& [done, result] : results) done(result);
}

void Http2Connection::Flush() {
  std::string out;
  for (;;) {
    const uint8_t* data = nullptr;
    const ssize_t size = nghttp2_session_mem_send(session_, &data);
    if (size <= 0) break;
    out.append(View(data, static_cast<size_t>(size)));
    if (out.size() >= kWriteBytes) write_(std::exchange(out, {}));
  }
  if (!out.empty()) write_(std::move(out));
}

// --- What nghttp2 calls ---

int Http2Connection::OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                              size_t name_size, const uint8_t* value, size_t value_size,
                              uint8_t /*flags*/, void* self) {
  auto* const connection = static_cast<Http2Connection*>(self);
  Stream* const stream = connection->Find(frame->hd.stream_id);
  if (stream != nullptr) {
    connection->TakeHeader(stream, frame->hd.stream_id, View(name, name_size),
                           View(value, value_size));
  }
  return 0;
}

void Http2Connection::TakeHeader(Stream* stream, int32_t id, std::string_view name,
                                 std::string_view value) {
  stream->header_bytes += name.size() + value.size() + 32;
  if (stream->header_bytes > config_->max_response_header_bytes) {
    return ResetStream(stream, id, UpstreamOutcome::kTooLarge,
                       fmt::format("headers of more than \"max_response_header_bytes\": {}",
                                   config_->max_response_header_bytes));
  }
  if (name == ":status") {
    // nghttp2 has made sure that it is three digits.
    if (!absl::SimpleAtoi(std::string(value), &stream->response.status))
      stream->response.status = 0;
    return;
  }
  HeaderFields& fields = stream->has_headers ? stream->response.trailers : stream->response.headers;
  fields.emplace_back(name, value);
}

int Http2Connection::OnFrame(nghttp2_session*, const nghttp2_frame* frame, void* self) {
  auto* const connection = static_cast<Http2Connection*>(self);
  if (frame->hd.type == NGHTTP2_GOAWAY) connection->retires_ = true;
  if (frame->hd.type == NGHTTP2_PING || frame->hd.type == NGHTTP2_SETTINGS) {
    if (++connection->acknowledged_ >= kAcknowledgedMax) connection->retires_ = true;
    if (connection->acknowledged_ >= 2 * kAcknowledgedMax) {
      connection->violation_ = "a flood of PING or SETTINGS frames";
      return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return 0;
  }
  if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
  Stream* const stream = connection->Find(frame->hd.stream_id);
  if (stream == nullptr) return 0;
  if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) stream->ended = true;
  if (frame->hd.type == NGHTTP2_DATA || stream->has_headers) return 0;
  const uint32_t status = stream->response.status;
  if (status < 100) {
    connection->ResetStream(stream, frame->hd.stream_id, UpstreamOutcome::kInvalidResponse,
                            fmt::format("not HTTP/2: a status of {}, under 100", status));
    return 0;
  }
  // Those with a status of 1xx go before the response.
  stream->has_headers = status >= 200;
  if (!stream->has_headers) stream->response.headers.clear();
  return 0;
}

int Http2Connection::OnInvalidFrame(nghttp2_session*, const nghttp2_frame* frame, int error,
                                    void* self) {
  auto* const connection = static_cast<Http2Connection*>(self);
  connection->violation_ = nghttp2_strerror(error);
  Stream* const stream = connection->Find(frame->hd.stream_id);
  if (stream != nullptr && stream->failure.why.empty()) {
    stream->failure = {UpstreamOutcome::kInvalidResponse,
                       fmt::format("not HTTP/2: {}", nghttp2_strerror(error))};
  }
  return 0;
}

int Http2Connection::OnData(nghttp2_session*, uint8_t /*flags*/, int32_t id, const uint8_t* data,
                            size_t size, void* self) {
  auto* const connection = static_cast<Http2Connection*>(self);
  Stream* const stream = connection->Find(id);
  if (stream == nullptr) return 0;
  if (stream->response.body.size() + size > stream->response_bytes_max) {
    connection->ResetStream(stream, id, UpstreamOutcome::kTooLarge,
                            fmt::format("a body of more than \"max_response_bytes\": {}",
                                        connection->config_->max_response_bytes));
    return 0;
  }
  stream->response.body.append(View(data, size));
  return 0;
}

void Http2Connection::ResetStream(Stream* stream, int32_t id, UpstreamOutcome outcome,
                                  std::string why) {
  if (!stream->failure.why.empty()) return;
  stream->failure = {outcome, std::move(why)};
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
}

AttemptResult Http2Connection::ResultOf(Stream* stream, uint32_t error) const {
  if (!stream->failure.why.empty()) return std::move(stream->failure);
  if (error == NGHTTP2_REFUSED_STREAM) {
    return {UpstreamOutcome::kRefused, "the service has refused the stream"};
  }
  if (stream->has_headers && stream->ended) {
    return {UpstreamOutcome::kResponse, "", std::move(stream->response)};
  }
  return {UpstreamOutcome::kReset,
          fmt::format("the stream was reset: {}", nghttp2_http2_strerror(error))};
}

int Http2Connection::OnStreamClose(nghttp2_session*, int32_t id, uint32_t error, void* self) {
  auto* const connection = static_cast<Http2Connection*>(self);
  const auto found = connection->streams_.find(id);
  if (found == connection->streams_.end()) return 0;
  Stream& stream = found->second;
  if (stream.done != nullptr) {
    connection->results_.emplace_back(std::move(stream.done), connection->ResultOf(&stream, error));
  }
  connection->streams_.erase(found);
  return 0;
}

ssize_t Http2Connection::ReadBody(nghttp2_session*, int32_t id, uint8_t* to, size_t size,
                                  uint32_t* flags, nghttp2_data_source* /*source*/, void* self) {
  Stream* const stream = static_cast<Http2Connection*>(self)->Find(id);
  if (stream == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  const size_t count = std::min(size, stream->body.size() - stream->sent);
  std::memcpy(to, stream->body.data() + stream->sent, count);
  stream->sent += count;
  if (stream->sent == stream->body.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(count);
}

}  // namespace

std::unique_ptr<Connection> MakeHttp2Connection(const UpstreamConfig* config,
                                                Connection::Write write) {
  return std::make_unique<Http2Connection>(config, std::move(write));
}

}  // namespace callout::host
