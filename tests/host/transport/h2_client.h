// SPDX-License-Identifier: Apache-2.0

// An HTTP/2 client without a socket, and single frames for those who break rules.
//
//   H2Client client;
//   const int32_t id = client.Begin(kProcessPath);
//   client.Send(id, Framed(message), /*end=*/true);
//   … client.TakeBytes() to the server, client.Give(its bytes) …
//   EXPECT_EQ(client.rpc(id).trailers.at("grpc-status"), "0");
//
// For one thread.
#ifndef CALLOUT_TESTS_HOST_TRANSPORT_H2_CLIENT_H_
#define CALLOUT_TESTS_HOST_TRANSPORT_H2_CLIENT_H_

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host/transport/builtin_rpcs.h"
#include "host/transport/h2/grpc_wire.h"
#include "tests/host/transport/h2_session.h"

namespace callout::host {

inline constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// A message with its gRPC head.
inline std::string Framed(std::string_view message) {
  char head[kMessageHeadBytes];
  WriteMessageHead(static_cast<uint32_t>(message.size()), head);
  return std::string(head, sizeof(head)) + std::string(message);
}

// An HTTP/2 frame whose head says `size`, by default that of the payload.
inline std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload,
                         size_t size = SIZE_MAX) {
  if (size == SIZE_MAX) size = payload.size();
  std::string frame;
  for (int shift = 16; shift >= 0; shift -= 8) frame.push_back(static_cast<char>(size >> shift));
  frame.push_back(static_cast<char>(type));
  frame.push_back(static_cast<char>(flags));
  for (int shift = 24; shift >= 0; shift -= 8) frame.push_back(static_cast<char>(stream >> shift));
  return frame + std::string(payload);
}

class H2Client {
 public:
  using Headers = tests::H2Headers;

  struct Rpc {
    std::map<std::string, std::string> headers;   // the first block
    std::map<std::string, std::string> trailers;  // the last, if there are two
    std::string data;
    size_t data_frames = 0;
    bool closed = false;
    uint32_t error_code = 0;
    // Its messages without their heads.
    std::vector<std::string> Messages() const {
      std::vector<std::string> messages;
      MessageReader reader(SIZE_MAX);
      std::string_view rest = data;
      for (;;) {
        const MessageReader::Result result = reader.Read(&rest);
        if (result == MessageReader::Result::kMessage) messages.emplace_back(reader.message());
        if (result == MessageReader::Result::kNeedsBytes) return messages;
      }
    }
    // grpc-status, wherever it is; "" if it is nowhere.
    std::string status() const {
      for (const auto* block : {&trailers, &headers}) {
        if (const auto found = block->find("grpc-status"); found != block->end()) {
          return found->second;
        }
      }
      return "";
    }
  };

  // With `window_bytes` as the window of each stream and of the connection.
  explicit H2Client(uint32_t window_bytes = 1 << 24) {
    nghttp2_option* option = nullptr;
    nghttp2_option_new(&option);
    nghttp2_option_set_peer_max_concurrent_streams(option, 1 << 20);
    session_ = tests::NewH2Session(
        nghttp2_session_client_new2,
        {.on_header = OnHeader, .on_data = OnData, .on_frame = OnFrame, .on_close = OnClosed}, this,
        option);
    nghttp2_option_del(option);
    const nghttp2_settings_entry window = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window_bytes};
    nghttp2_submit_settings(session_, 0, &window, 1);
    if (window_bytes > 65535) {
      nghttp2_session_set_local_window_size(session_, 0, 0, static_cast<int32_t>(window_bytes));
    }
  }
  ~H2Client() { nghttp2_session_del(session_); }
  H2Client(const H2Client&) = delete;
  H2Client& operator=(const H2Client&) = delete;

  static Headers GrpcHeaders(const std::string& path) {
    return {{":method", "POST"},    {":scheme", "http"}, {":path", path},
            {":authority", "test"}, {"te", "trailers"},  {"content-type", "application/grpc"}};
  }

  int32_t Begin(const std::string& path, const Headers& more = {}) {
    Headers headers = GrpcHeaders(path);
    headers.insert(headers.end(), more.begin(), more.end());
    return BeginWith(headers);
  }

  int32_t BeginWith(const Headers& headers) {
    const std::vector<nghttp2_nv> list = tests::H2HeaderList(headers);
    nghttp2_data_provider provider;
    provider.source.ptr = this;
    provider.read_callback = Read;
    const int32_t id =
        nghttp2_submit_request(session_, nullptr, list.data(), list.size(), &provider, nullptr);
    rpcs_[id];
    return id;
  }

  void Send(int32_t id, std::string_view bytes, bool end = false) {
    Outgoing& outgoing = outgoing_[id];
    outgoing.bytes.append(bytes);
    outgoing.end = outgoing.end || end;
    nghttp2_session_resume_data(session_, id);
  }
  // Makes the windows of the streams and of the connection larger, by one SETTINGS frame
  // and one WINDOW_UPDATE.
  void OpenWindows(uint32_t window_bytes) {
    const nghttp2_settings_entry window = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window_bytes};
    nghttp2_submit_settings(session_, 0, &window, 1);
    nghttp2_session_set_local_window_size(session_, 0, 0, static_cast<int32_t>(window_bytes));
  }
  void End(int32_t id) { Send(id, "", true); }
  void Reset(int32_t id, uint32_t error_code = NGHTTP2_CANCEL) {
    nghttp2_submit_rst_stream(session_, 0, id, error_code);
  }

  std::string TakeBytes() {
    std::string bytes;
    const uint8_t* data = nullptr;
    for (ssize_t size; (size = nghttp2_session_mem_send(session_, &data)) > 0;) {
      bytes.append(tests::H2Text(data, static_cast<size_t>(size)));
    }
    return bytes;
  }
  // False if the server broke the protocol.
  bool Give(std::string_view bytes) {
    return nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(bytes.data()),
                                    bytes.size()) == static_cast<ssize_t>(bytes.size());
  }

  Rpc& rpc(int32_t id) { return rpcs_[id]; }
  // It is not looked at any more.
  void Forget(int32_t id) {
    rpcs_.erase(id);
    outgoing_.erase(id);
  }
  // Of the GOAWAY frames that have come.
  const std::vector<std::pair<int32_t, uint32_t>>& goaways() const { return goaways_; }

 private:
  struct Outgoing {
    std::string bytes;
    bool end = false;
  };

  static H2Client* Self(void* user) { return static_cast<H2Client*>(user); }
  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                      size_t name_size, const uint8_t* value, size_t value_size, uint8_t,
                      void* user) {
    Rpc& rpc = Self(user)->rpcs_[frame->hd.stream_id];
    auto& block = frame->headers.cat == NGHTTP2_HCAT_RESPONSE ? rpc.headers : rpc.trailers;
    block[std::string(tests::H2Text(name, name_size))] = tests::H2Text(value, value_size);
    return 0;
  }
  static int OnData(nghttp2_session*, uint8_t, int32_t id, const uint8_t* data, size_t size,
                    void* user) {
    Self(user)->rpcs_[id].data += tests::H2Text(data, size);
    return 0;
  }
  static int OnFrame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    if (frame->hd.type == NGHTTP2_DATA) ++Self(user)->rpcs_[frame->hd.stream_id].data_frames;
    if (frame->hd.type == NGHTTP2_GOAWAY) {
      Self(user)->goaways_.emplace_back(frame->goaway.last_stream_id, frame->goaway.error_code);
    }
    return 0;
  }
  static int OnClosed(nghttp2_session*, int32_t id, uint32_t error_code, void* user) {
    Self(user)->rpcs_[id].closed = true;
    Self(user)->rpcs_[id].error_code = error_code;
    return 0;
  }
  static ssize_t Read(nghttp2_session*, int32_t id, uint8_t* buffer, size_t size, uint32_t* flags,
                      nghttp2_data_source* source, void*) {
    Outgoing& outgoing = Self(source->ptr)->outgoing_[id];
    const size_t count = outgoing.bytes.copy(reinterpret_cast<char*>(buffer), size);
    outgoing.bytes.erase(0, count);
    if (outgoing.bytes.empty() && outgoing.end) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else if (count == 0) {
      return NGHTTP2_ERR_DEFERRED;
    }
    return static_cast<ssize_t>(count);
  }

  nghttp2_session* session_ = nullptr;
  std::map<int32_t, Rpc> rpcs_;
  std::map<int32_t, Outgoing> outgoing_;
  std::vector<std::pair<int32_t, uint32_t>> goaways_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_TRANSPORT_H2_CLIENT_H_
