// SPDX-License-Identifier: Apache-2.0

#include "attacker.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>

#include "../integration/http_get.h"
#include "envoy/service/ext_proc/v3/external_processor.pb.h"

namespace callout::tests {
namespace {

constexpr char kProcess[] = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
constexpr std::chrono::seconds kGiveUp(60);
// Frames are sent in pieces of about this size.
constexpr size_t kPieceBytes = 65536;

double Milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

host::Descriptor ConnectFrom(const std::string& from, const std::string& address) {
  const host::Address own = host::ParsedAddress(from + ":0"), to = host::ParsedAddress(address);
  host::Descriptor fd = host::MakeSocket(to);
  EXPECT_EQ(bind(fd.get(), own.get(), own.size), 0);
  EXPECT_EQ(connect(fd.get(), to.get(), to.size), 0);
  return fd;
}

host::Descriptor ConnectTo(const std::string& address, const std::string& from = "") {
  host::Descriptor fd =
      from.empty() ? host::Connect(host::ParsedAddress(address)) : ConnectFrom(from, address);
  const int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return fd;
}

}  // namespace

std::string HpackInteger(uint64_t value, int bits) {
  const uint64_t most = (uint64_t{1} << bits) - 1;
  if (value < most) return {static_cast<char>(value)};
  std::string text = {static_cast<char>(most)};
  for (value -= most; value >= 128; value /= 128) text.push_back(static_cast<char>(value | 128));
  return text + static_cast<char>(value);
}

std::string Literal(std::string_view name, std::string_view value) {
  return std::string(1, '\0') + HpackInteger(name.size(), 7) + std::string(name) +
         HpackInteger(value.size(), 7) + std::string(value);
}

std::string RequestBlock() {
  std::string block;
  for (const auto& [name, value] : host::H2Client::GrpcHeaders(kProcess)) {
    block += Literal(name, value);
  }
  return block;
}

std::string RequestFrame(uint32_t stream) {
  static const std::string kBlock = RequestBlock();
  return host::Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, stream, kBlock);
}

std::string HeadersMessage() {
  envoy::service::ext_proc::v3::ProcessingRequest request;
  request.mutable_request_headers()->set_end_of_stream(true);
  return host::Framed(request.SerializeAsString());
}

// --- Attacker ---------------------------------------------------------------

Attacker::Attacker(const std::string& address, bool silent, const std::string& from)
    : fd_(ConnectTo(address, from)) {
  fcntl(fd_.get(), F_SETFL, O_NONBLOCK);
  if (silent) return;
  Send(std::string(host::kPreface) + host::Frame(NGHTTP2_SETTINGS, 0, 0, ""),
       Clock::now() + kGiveUp);
}

// Reads what there is; false once cut off.
bool Attacker::Drain() {
  char buffer[65536];
  for (;;) {
    const ssize_t size = recv(fd_.get(), buffer, sizeof(buffer), 0);
    if (size > 0) continue;
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (!cut_) cut_after_ms_ = Milliseconds(Clock::now() - start_);
    cut_ = true;
    return false;
  }
}

bool Attacker::Send(std::string_view bytes, Clock::time_point until) {
  while (!bytes.empty()) {
    if (!Drain() || Clock::now() >= until) return false;
    const ssize_t size = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (size >= 0) {
      bytes.remove_prefix(static_cast<size_t>(size));
      continue;
    }
    pollfd polled = {fd_.get(), POLLIN | POLLOUT, 0};
    poll(&polled, 1, 10);
  }
  return Drain();
}

void Attacker::Flood(const std::function<std::string(uint32_t)>& make, uint64_t count,
                     std::chrono::milliseconds limit) {
  start_ = Clock::now();
  const Clock::time_point until = start_ + limit;
  std::string piece;
  while (sent_ < count && !cut_) {
    piece.clear();
    while (piece.size() < kPieceBytes && sent_ < count) {
      piece += make(static_cast<uint32_t>(sent_++));
    }
    if (!Send(piece, until)) break;
  }
  if (!cut_) AwaitCut(std::min(until, Clock::now() + std::chrono::milliseconds(500)));
}

bool Attacker::AwaitCut(Clock::time_point until) {
  while (Drain() && Clock::now() < until) {
    pollfd polled = {fd_.get(), POLLIN, 0};
    poll(&polled, 1, 10);
  }
  return cut_;
}

// --- Client -----------------------------------------------------------------

Client::Client(const std::string& address) : fd_(ConnectTo(address)) {}

bool Client::Await(const std::function<bool()>& done) {
  char buffer[65536];
  for (;;) {
    if (!host::Write(fd_.get(), h2_.TakeBytes())) return false;
    if (done()) return true;
    if (!h2_.goaways().empty() || !host::WaitReadable(fd_.get())) return false;
    const ssize_t size = recv(fd_.get(), buffer, sizeof(buffer), 0);
    if (size <= 0 || !h2_.Give({buffer, static_cast<size_t>(size)})) return false;
  }
}

bool Client::Exchange() {
  const int32_t id = h2_.Begin(kProcess);
  h2_.Send(id, HeadersMessage(), true);
  const bool done = Await([&] { return h2_.rpc(id).closed; });
  const bool good = h2_.rpc(id).status() == "0";
  h2_.Forget(id);
  return done && good;
}

bool Client::ExchangeLikeEnvoy() {
  const int32_t id = h2_.Begin(kProcess);
  h2_.Send(id, HeadersMessage());
  if (!Await([&] { return h2_.rpc(id).data.size() > host::kMessageHeadBytes; })) return false;
  h2_.End(id);
  const bool ended = Await([] { return true; });
  h2_.Reset(id, NGHTTP2_NO_ERROR);
  const bool reset = Await([] { return true; });
  h2_.Forget(id);
  return ended && reset;
}

// --- HealthyClient ----------------------------------------------------------

HealthyClient::HealthyClient(const std::string& address) {
  thread_ = std::thread([this, address] {
    Client client(address);
    while (!stop_ && !failed_) {
      const Clock::time_point start = Clock::now();
      failed_ = !client.Exchange();
      times_ms_.push_back(Milliseconds(Clock::now() - start));
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  });
}

void HealthyClient::Stop() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
  std::sort(times_ms_.begin(), times_ms_.end());
}

double HealthyClient::Percentile(double share) const {
  if (times_ms_.empty()) return 0;
  return times_ms_[static_cast<size_t>(share * static_cast<double>(times_ms_.size() - 1))];
}

// --- HealthChecks -----------------------------------------------------------

HealthChecks::HealthChecks(const std::string& address) {
  thread_ = std::thread([this, address] {
    while (!stop_) {
      const Clock::time_point start = Clock::now();
      all_good_ = HttpGet(address).starts_with("HTTP/1.1 200 ") && all_good_;
      max_ms_ = std::max(max_ms_, Milliseconds(Clock::now() - start));
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  });
}

void HealthChecks::Stop() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

}  // namespace callout::tests
