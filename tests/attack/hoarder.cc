// SPDX-License-Identifier: Apache-2.0

#include "hoarder.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "tests/host/transport/h2_client.h"

namespace callout::tests {
namespace {}  // namespace

Hoarder::Hoarder(const std::string& address, const Hoard& hoard)
    : hoard_(hoard), fd_(host::Connect(host::ParsedAddress(address))), to_begin_(hoard.streams) {
  fcntl(fd_.get(), F_SETFL, O_NONBLOCK);
  nghttp2_option* option = nullptr;
  nghttp2_option_new(&option);
  nghttp2_option_set_peer_max_concurrent_streams(option, 1 << 20);
  session_ = NewH2Session(nghttp2_session_client_new2,
                          {.on_header = OnHeader, .on_close = OnClosed}, this, option);
  nghttp2_option_del(option);
  const nghttp2_settings_entry window = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, hoard.window_bytes};
  nghttp2_submit_settings(session_, 0, &window, 1);
}

Hoarder::~Hoarder() { nghttp2_session_del(session_); }

void Hoarder::Begin() {
  H2Headers headers = host::H2Client::GrpcHeaders(hoard_.path);
  headers.insert(headers.end(), hoard_.more.begin(), hoard_.more.end());
  const std::vector<nghttp2_nv> list = H2HeaderList(headers);
  nghttp2_data_provider provider;
  provider.source.ptr = this;
  provider.read_callback = Read;
  const int32_t id =
      nghttp2_submit_request(session_, nullptr, list.data(), list.size(), &provider, nullptr);
  if (id > 0) sent_[id] = 0;
}

bool Hoarder::Step() {
  // A few at a time, for the others have their turn.
  for (int i = 0; i < 50 && to_begin_ > 0; ++i, --to_begin_) Begin();
  for (int i = 0; i < 16; ++i) {
    if (unsent_.empty()) {
      const uint8_t* data = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session_, &data);
      if (size <= 0) break;
      unsent_.assign(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
    }
    const ssize_t sent = send(fd_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return false;
    if (sent <= 0) break;
    unsent_.erase(0, static_cast<size_t>(sent));
  }
  uint8_t buffer[65536];
  const ssize_t size = recv(fd_.get(), buffer, sizeof(buffer), 0);
  if (size == 0 || (size < 0 && errno != EAGAIN)) return false;
  return size < 0 || nghttp2_session_mem_recv(session_, buffer, static_cast<size_t>(size)) >= 0;
}

int Hoarder::OnHeader(nghttp2_session*, const nghttp2_frame*, const uint8_t* name, size_t name_size,
                      const uint8_t* value, size_t value_size, uint8_t, void* user) {
  if (H2Text(name, name_size) == "grpc-status" && H2Text(value, value_size) == "8") {
    ++static_cast<Hoarder*>(user)->exhausted_;
  }
  return 0;
}

int Hoarder::OnClosed(nghttp2_session*, int32_t id, uint32_t error_code, void* user) {
  auto* const self = static_cast<Hoarder*>(user);
  self->sent_.erase(id);
  self->refused_ += error_code == NGHTTP2_REFUSED_STREAM;
  if (self->hoard_.insists && self->refused_ + self->exhausted_ < kRefusedMax) ++self->to_begin_;
  return 0;
}

ssize_t Hoarder::Read(nghttp2_session*, int32_t id, uint8_t* buffer, size_t size, uint32_t*,
                      nghttp2_data_source* source, void*) {
  auto* const self = static_cast<Hoarder*>(source->ptr);
  uint64_t& sent = self->sent_[id];
  const std::string& first = self->hoard_.first;
  const std::string& repeated = self->hoard_.repeated;
  size_t written = 0;
  while (written < size) {
    const bool begins = sent < first.size();
    if (!begins && repeated.empty()) break;
    const std::string& text = begins ? first : repeated;
    const uint64_t at = begins ? sent : (sent - first.size()) % repeated.size();
    const size_t count = std::min<size_t>(text.size() - at, size - written);
    std::memcpy(buffer + written, text.data() + at, count);
    written += count;
    sent += count;
  }
  if (written == 0) return NGHTTP2_ERR_DEFERRED;
  return static_cast<ssize_t>(written);
}

}  // namespace callout::tests
