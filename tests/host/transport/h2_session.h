// SPDX-License-Identifier: Apache-2.0

// What programs share that speak HTTP/2 through nghttp2 by themselves: its headers
// made from text, and its sessions made with their callbacks.
#ifndef CALLOUT_TESTS_HOST_TRANSPORT_H2_SESSION_H_
#define CALLOUT_TESTS_HOST_TRANSPORT_H2_SESSION_H_

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace callout::tests {

// nghttp2 copies both texts when it is given the header.
inline nghttp2_nv H2Header(std::string_view name, std::string_view value) {
  const auto bytes = [](std::string_view text) {
    return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data()));
  };
  return {bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

// Of texts that stay, such as literals, which nghttp2 need not copy.
inline nghttp2_nv H2ConstantHeader(std::string_view name, std::string_view value) {
  nghttp2_nv header = H2Header(name, value);
  header.flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE;
  return header;
}

using H2Headers = std::vector<std::pair<std::string, std::string>>;

// `headers` stays as long as the result is used.
inline std::vector<nghttp2_nv> H2HeaderList(const H2Headers& headers) {
  std::vector<nghttp2_nv> list;
  for (const auto& [name, value] : headers) list.push_back(H2Header(name, value));
  return list;
}

inline std::string_view H2Text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// What a session tells of; nothing of what is null.
struct H2Callbacks {
  nghttp2_on_begin_headers_callback on_begin_headers = nullptr;
  nghttp2_on_header_callback on_header = nullptr;
  nghttp2_on_data_chunk_recv_callback on_data = nullptr;
  nghttp2_on_frame_recv_callback on_frame = nullptr;
  nghttp2_on_frame_send_callback on_frame_sent = nullptr;
  nghttp2_on_stream_close_callback on_close = nullptr;
};

// A session of the caller's, to be deleted with nghttp2_session_del. `make` is
// nghttp2_session_client_new2 or nghttp2_session_server_new2.
inline nghttp2_session* NewH2Session(decltype(&nghttp2_session_client_new2) make,
                                     const H2Callbacks& callbacks, void* user,
                                     const nghttp2_option* option = nullptr) {
  nghttp2_session_callbacks* all = nullptr;
  nghttp2_session_callbacks_new(&all);
  nghttp2_session_callbacks_set_on_begin_headers_callback(all, callbacks.on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(all, callbacks.on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(all, callbacks.on_data);
  nghttp2_session_callbacks_set_on_frame_recv_callback(all, callbacks.on_frame);
  nghttp2_session_callbacks_set_on_frame_send_callback(all, callbacks.on_frame_sent);
  nghttp2_session_callbacks_set_on_stream_close_callback(all, callbacks.on_close);
  nghttp2_session* session = nullptr;
  make(&session, all, user, option);
  nghttp2_session_callbacks_del(all);
  return session;
}

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_HOST_TRANSPORT_H2_SESSION_H_
