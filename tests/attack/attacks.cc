// SPDX-License-Identifier: Apache-2.0

#include "attacks.h"

#include <fmt/format.h>
#include <openssl/ssl.h>
#include <sys/resource.h>

#include <algorithm>
#include <deque>
#include <fstream>
#include <memory>
#include <optional>

#include "../integration/http_get.h"
#include "attacker.h"
#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "tests/host/transport/h2_session.h"

namespace callout::tests {
namespace {

using host::Frame;

Clock::time_point In(std::chrono::milliseconds time) { return Clock::now() + time; }

double LiveStreams(TestHost& host) {
  const double started = MetricOf(host.address("admin"), "callout_streams_started_total");
  double ended = 0;
  for (const char* outcome : {"ok", "error"}) {
    ended += MetricOf(host.address("admin"),
                      fmt::format("callout_streams_ended_total{{outcome=\"{}\"}}", outcome));
  }
  return started - ended -
         MetricOf(host.address("admin"), "callout_streams_ended_total{outcome=\"cancelled\"}");
}

Outcome ToBeCut(const Attacker& attacker) {
  if (!attacker.cut()) return {false, fmt::format("not cut off; {} sent", attacker.sent())};
  return {true, fmt::format("cut off after {:.0f} ms, at most {} sent", attacker.cut_after_ms(),
                            attacker.sent())};
}

// An attack that is one kind of frame, after some others.
auto FloodOf(const std::string& before, const std::function<std::string(uint32_t)>& make,
             uint64_t count = 50'000'000) {
  return [=](TestHost& host, const Effort& effort) {
    Attacker attacker(host.address("plaintext"));
    attacker.Send(before, In(effort.flood));
    attacker.Flood(make, count, effort.flood);
    return ToBeCut(attacker);
  };
}

auto FloodOfOne(const std::string& before, const std::string& frame, uint64_t count = 50'000'000) {
  return FloodOf(
      before, [frame](uint32_t) { return frame; }, count);
}

std::string Reset(uint32_t stream, uint8_t error_code = NGHTTP2_CANCEL) {
  return Frame(NGHTTP2_RST_STREAM, 0, stream, std::string(3, '\0') + static_cast<char>(error_code));
}

// RPCs that have sent their first message, and stay.
std::string BeginningOf(uint32_t streams) {
  const std::string message = HeadersMessage();
  std::string frames;
  for (uint32_t i = 0; i < streams; ++i) {
    frames += RequestFrame(2 * i + 1) + Frame(NGHTTP2_DATA, 0, 2 * i + 1, message);
  }
  return frames;
}

// The whole request with 1 MB of metadata, in CONTINUATIONs.
Outcome MuchMetadata(TestHost& host, const Effort& effort) {
  std::string block = RequestBlock();
  for (int i = 0; i < 64; ++i) {
    block += Literal(fmt::format("x-{}", i), std::string(16384, 'x'));
  }
  std::string frames = Frame(NGHTTP2_HEADERS, 0, 1, block.substr(0, 16384));
  for (size_t at = 16384; at < block.size(); at += 16384) {
    const bool last = at + 16384 >= block.size();
    frames += Frame(NGHTTP2_CONTINUATION, last ? NGHTTP2_FLAG_END_HEADERS : 0, 1,
                    std::string_view(block).substr(at, 16384));
  }
  Attacker attacker(host.address("plaintext"));
  attacker.Flood([&](uint32_t) { return frames; }, 1, effort.flood);
  return ToBeCut(attacker);
}

Outcome ManyStreams(TestHost& host, const Effort& effort) {
  Attacker attacker(host.address("plaintext"));
  double live = 0;
  std::string frames;
  for (uint32_t i = 0; i < 20000; ++i) frames += RequestFrame(2 * i + 1);
  attacker.Send(frames, In(effort.flood));
  const Clock::time_point until = In(effort.flood);
  // Until the host has come round to all of them.
  for (double before = -1; before != live && Clock::now() < until;) {
    before = live;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    live = LiveStreams(host);
  }
  return {live <= 1001, fmt::format("{:.0f} streams live of 20000, {}", live,
                                    attacker.cut() ? "cut off" : "not cut off")};
}

// Connections that say nothing, or nothing after the preface.
auto Idle(bool silent) {
  return [silent](TestHost& host, const Effort&) -> Outcome {
    std::vector<std::unique_ptr<Attacker>> idle;
    for (int i = 0; i < 500; ++i) {
      idle.push_back(std::make_unique<Attacker>(host.address("plaintext"), silent));
    }
    const Clock::time_point until = In(std::chrono::milliseconds(2000));
    int alive = 0;
    for (const auto& attacker : idle) alive += !attacker->AwaitCut(until);
    return {alive == 0, fmt::format("{} of 500 alive 1 s after the time of 1 s", alive)};
  };
}

Outcome NoDescriptors(TestHost& host, const Effort&) {
  const rlimit few = {128, 128};
  prlimit(host.pid(), RLIMIT_NOFILE, &few, nullptr);
  std::optional<std::vector<host::Descriptor>> all(std::in_place);
  for (int i = 0; i < 300; ++i) {
    all->push_back(host::Connect(host::ParsedAddress(host.address("plaintext"))));
  }
  host.AwaitLog("accept paused");
  all.reset();
  const Clock::time_point freed = Clock::now();
  const bool serves = Client(host.address("plaintext")).Exchange();
  const std::chrono::duration<double, std::milli> after = Clock::now() - freed;
  return {serves, serves ? fmt::format("serves {:.0f} ms after they are free", after.count())
                         : "serves nobody"};
}

// Sends what it is allowed to of a message of 256 MB.
class LargeMessage {
 public:
  static constexpr uint64_t kBytes = 256 << 20;

  explicit LargeMessage(const std::string& address) : address_(address) {}

  Outcome Run(const Effort& effort) {
    nghttp2_session* session =
        NewH2Session(nghttp2_session_client_new2, {.on_header = OnHeader}, this);
    nghttp2_submit_settings(session, 0, nullptr, 0);
    const H2Headers headers =
        host::H2Client::GrpcHeaders("/envoy.service.ext_proc.v3.ExternalProcessor/Process");
    const std::vector<nghttp2_nv> list = H2HeaderList(headers);
    nghttp2_data_provider provider;
    provider.source.ptr = this;
    provider.read_callback = Read;
    nghttp2_submit_request(session, nullptr, list.data(), list.size(), &provider, nullptr);
    const host::Descriptor fd = host::Connect(host::ParsedAddress(address_));
    const Clock::time_point until = In(4 * effort.flood);
    while (status_.empty() && Clock::now() < until) {
      const uint8_t* data = nullptr;
      for (ssize_t size; (size = nghttp2_session_mem_send(session, &data)) > 0;) {
        host::Write(fd.get(), H2Text(data, static_cast<size_t>(size)));
      }
      uint8_t buffer[65536];
      const ssize_t size = recv(fd.get(), buffer, sizeof(buffer), 0);
      if (size <= 0 || nghttp2_session_mem_recv(session, buffer, static_cast<size_t>(size)) < 0) {
        break;
      }
    }
    nghttp2_session_del(session);
    return {status_ == "8", fmt::format("status {} after {} KiB", status_, sent_ >> 10)};
  }

 private:
  static int OnHeader(nghttp2_session*, const nghttp2_frame*, const uint8_t* name, size_t name_size,
                      const uint8_t* value, size_t value_size, uint8_t, void* user) {
    if (H2Text(name, name_size) == "grpc-status") {
      static_cast<LargeMessage*>(user)->status_ = H2Text(value, value_size);
    }
    return 0;
  }
  static ssize_t Read(nghttp2_session*, int32_t, uint8_t* buffer, size_t size, uint32_t* flags,
                      nghttp2_data_source* source, void*) {
    auto* self = static_cast<LargeMessage*>(source->ptr);
    std::fill(buffer, buffer + size, 0);
    if (self->sent_ == 0) host::WriteMessageHead(kBytes, reinterpret_cast<char*>(buffer));
    self->sent_ += size;
    if (self->sent_ >= kBytes + host::kMessageHeadBytes) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(size);
  }

  const std::string address_;
  std::string status_;
  uint64_t sent_ = 0;
};

// A header of 3000 commas, 3000 values to be, in the table of HPACK: each stream refers to
// it four times, by a byte each.
Outcome BinaryMetadata(TestHost& host, const Effort& effort) {
  const std::string large = "\x40" + Literal("a-bin", std::string(3000, ',')).substr(1);
  std::string frames = Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, RequestBlock() + large);
  for (uint32_t i = 1; i < 990; ++i) {
    frames += Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 2 * i + 1,
                    RequestBlock() + "\xbe\xbe\xbe\xbe");
  }
  Attacker attacker(host.address("plaintext"));
  const bool sent = attacker.Send(frames, In(effort.flood));
  attacker.AwaitCut(In(std::chrono::milliseconds(500)));
  return {sent, fmt::format("{} streams of {} bytes", 990, frames.size() / 990)};
}

// Five bytes each announce a message of 16 MB, and one of it comes.
Outcome SizesAnnounced(TestHost& host, const Effort& effort) {
  std::string frames;
  for (uint32_t i = 0; i < 990; ++i) {
    frames += RequestFrame(2 * i + 1) +
              Frame(NGHTTP2_DATA, 0, 2 * i + 1, std::string_view("\0\0\xf0\0\0x", 6));
  }
  Attacker attacker(host.address("plaintext"));
  const bool sent = attacker.Send(frames, In(effort.flood));
  attacker.AwaitCut(In(std::chrono::milliseconds(500)));
  return {sent, "15 GB announced by 990 streams"};
}

// Messages wait behind closed windows; one SETTINGS frame opens them all.
Outcome WindowsOpened(TestHost& host, const Effort& effort) {
  envoy::service::ext_proc::v3::ProcessingRequest request;
  request.mutable_request_body()->set_body("x");
  request.mutable_protocol_config()->set_request_body_mode(
      envoy::extensions::filters::http::ext_proc::v3::ProcessingMode::FULL_DUPLEX_STREAMED);
  std::string messages;
  while (messages.size() < 60000) messages += host::Framed(request.SerializeAsString());
  const auto window = [](std::string_view bytes) {
    return Frame(NGHTTP2_SETTINGS, 0, 0, std::string("\0\4", 2) + std::string(bytes));
  };
  std::string frames = window(std::string_view("\0\0\0\0", 4));
  for (uint32_t i = 0; i < 800; ++i) {
    frames += RequestFrame(2 * i + 1);
    for (size_t at = 0; at < messages.size(); at += 16384) {
      frames += Frame(NGHTTP2_DATA, 0, 2 * i + 1, std::string_view(messages).substr(at, 16384));
    }
  }
  Attacker attacker(host.address("plaintext"));
  attacker.Send(frames, In(4 * effort.flood));
  const bool sent =
      attacker.Send(Frame(NGHTTP2_WINDOW_UPDATE, 0, 0, std::string_view("\x7f\0\0\0", 4)) +
                        window(std::string_view("\x7f\0\0\0", 4)),
                    In(effort.flood));
  attacker.AwaitCut(In(std::chrono::milliseconds(2000)));
  return {sent, fmt::format("{} MiB of messages let loose at once", frames.size() >> 20)};
}

// All places of the process, for another client of the same host.
Outcome AllPlaces(TestHost& host, const Effort& effort) {
  std::string frames;
  for (uint32_t i = 0; i < 1000; ++i) frames += RequestFrame(2 * i + 1);
  std::vector<std::unique_ptr<Attacker>> attackers;
  for (int i = 0; i < 20; ++i) {
    attackers.push_back(std::make_unique<Attacker>(host.address("plaintext"), false, "127.0.0.2"));
    attackers.back()->Send(frames, In(effort.flood));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const bool serves = Client(host.address("plaintext")).Exchange();
  return {serves, fmt::format("{:.0f} streams live of 10000 places, others {}", LiveStreams(host),
                              serves ? "are served" : "are refused")};
}

// The same ClientHello again and again: the client computes nothing.
Outcome ClientHellos(TestHost& host, const Effort& effort) {
  SSL_CTX* const context = SSL_CTX_new(TLS_client_method());
  SSL* const ssl = SSL_new(context);
  SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  SSL_connect(ssl);
  char hello[4096];
  const int size = BIO_read(SSL_get_wbio(ssl), hello, sizeof(hello));
  SSL_free(ssl);
  SSL_CTX_free(context);
  uint64_t sent = 0;
  std::deque<host::Descriptor> open;  // the last of them wait for what the host says
  const auto time = std::min(effort.flood, std::chrono::milliseconds(3000));
  for (const Clock::time_point until = In(time); Clock::now() < until; ++sent) {
    open.push_back(host::Connect(host::ParsedAddress(host.address("secure"))));
    host::Write(open.back().get(), {hello, static_cast<size_t>(std::max(size, 0))});
    if (open.size() > 200) open.pop_front();
  }
  return {size > 0, fmt::format("{} ClientHellos", sent)};
}

// No attack: reads each answer, half-closes and resets, 2,000 times a second.
Outcome LikeEnvoy(TestHost& host, const Effort& effort) {
  Client client(host.address("plaintext"));
  constexpr std::chrono::microseconds kPeriod(500);
  const Clock::time_point until = In(effort.envoy);
  uint64_t streams = 0;
  for (Clock::time_point next = Clock::now(); next < until; next += kPeriod) {
    std::this_thread::sleep_until(next);
    if (!client.ExchangeLikeEnvoy()) {
      return {false, fmt::format("cut off after {} streams", streams)};
    }
    ++streams;
  }
  return {true, fmt::format("{} streams, never cut off", streams)};
}

std::vector<Attack> MakeAttacks() {
  const auto message = HeadersMessage();
  const std::string open_headers = Frame(NGHTTP2_HEADERS, 0, 1, RequestBlock());
  const std::string half_literal =
      Frame(NGHTTP2_HEADERS, 0, 1,
            RequestBlock() + std::string("\0\1x\x7f", 4) + HpackInteger(0x7fffffff, 7).substr(1));
  const std::vector<std::string> idle = {"--handshake_timeout_ms=1000",
                                         "--max_connection_idle_ms=1000"};
  return {
      {"rapid reset: HEADERS, RST",
       {},
       FloodOf("", [](uint32_t i) { return RequestFrame(2 * i + 1) + Reset(2 * i + 1); })},
      {"rapid reset: HEADERS, RST without an error",
       {},
       FloodOf("",
               [](uint32_t i) {
                 return RequestFrame(2 * i + 1) + Reset(2 * i + 1, NGHTTP2_NO_ERROR);
               })},
      {"rapid reset: HEADERS, DATA, RST",
       {},
       FloodOf("",
               [message](uint32_t i) {
                 return RequestFrame(2 * i + 1) + Frame(NGHTTP2_DATA, 0, 2 * i + 1, message) +
                        Reset(2 * i + 1);
               })},
      {"resets of a stream that is over",
       {},
       FloodOfOne(RequestFrame(1), Reset(1, NGHTTP2_NO_ERROR))},
      {"CONTINUATION flood",
       {},
       FloodOfOne(open_headers,
                  Frame(NGHTTP2_CONTINUATION, 0, 1, Literal("x", std::string(16000, 'x'))), 60000)},
      {"empty CONTINUATIONs", {}, FloodOfOne(open_headers, Frame(NGHTTP2_CONTINUATION, 0, 1, ""))},
      {"one literal of 2 GiB, 10 MB sent",
       {},
       FloodOfOne(half_literal, Frame(NGHTTP2_CONTINUATION, 0, 1, std::string(16384, 'x')), 640)},
      {"1 MB of metadata", {}, MuchMetadata},
      {"20000 streams, SETTINGS not acknowledged", {}, ManyStreams, 32},
      {"PING flood", {}, FloodOfOne("", Frame(NGHTTP2_PING, 0, 0, "12345678"))},
      {"SETTINGS flood", {}, FloodOfOne("", Frame(NGHTTP2_SETTINGS, 0, 0, ""))},
      {"GOAWAY flood beside 1000 streams",
       {},
       FloodOfOne(BeginningOf(1000), Frame(NGHTTP2_GOAWAY, 0, 0, std::string(8, '\0'))),
       24},
      {"WINDOW_UPDATE flood",
       {},
       FloodOfOne(RequestFrame(1),
                  Frame(NGHTTP2_WINDOW_UPDATE, 0, 1, std::string_view("\0\0\0\1", 4)))},
      {"empty DATA flood", {}, FloodOfOne(RequestFrame(1), Frame(NGHTTP2_DATA, 0, 1, ""))},
      {"500 silent connections", idle, Idle(true), 32, true},
      {"500 connections silent after the preface", idle, Idle(false), 64, true},
      {"300 connections, 128 descriptors", {}, NoDescriptors, 16, true},
      {"a message of 256 MB, limit 4 MB",
       {"--max_message_bytes=4194304"},
       [](TestHost& host, const Effort& effort) {
         return LargeMessage(host.address("plaintext")).Run(effort);
       },
       6},
      {"binary metadata of commas, by reference", {}, BinaryMetadata},
      {"16 MB announced in five bytes", {}, SizesAnnounced},
      {"messages behind closed windows, opened at once", {}, WindowsOpened, 128},
      {"all places of streams, from another address", {"--max_live_streams=10000"}, AllPlaces, 48},
      {"ClientHellos again and again", {}, ClientHellos, 48},
      {"no attack: 2000 streams/s, each ended as Envoy ends it", {}, LikeEnvoy},
  };
}

// VmHWM or VmRSS of a process, in MiB.
double MemoryMib(pid_t pid, const std::string& field) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) return std::stod(line.substr(field.size() + 1)) / 1024;
  }
  return 0;
}

std::unique_ptr<TestHost> StartHost(const Attack& attack, const std::string& transport) {
  std::vector<std::string> options = attack.options;
  options.push_back("--transport=" + transport);
  return std::make_unique<TestHost>(options);
}

}  // namespace

const std::vector<Attack>& Attacks() {
  static const std::vector<Attack> kAttacks = MakeAttacks();
  return kAttacks;
}

Row RunAttack(const Attack& attack, const std::string& transport, const Effort& effort) {
  const std::unique_ptr<TestHost> host = StartHost(attack, transport);
  Client(host->address("plaintext")).Exchange();  // what is made once is made
  Row row;
  std::optional<HealthyClient> healthy;
  if (!attack.ends_by_itself) healthy.emplace(host->address("plaintext"));
  const double before = MemoryMib(host->pid(), "VmRSS");
  std::ofstream(fmt::format("/proc/{}/clear_refs", host->pid())) << "5";  // VmHWM begins anew
  HealthChecks health(host->address("health"));
  row.outcome = attack.run(*host, effort);
  health.Stop();
  row.health_good = health.all_good();
  row.health_max_ms = health.max_ms();
  row.memory_mib = MemoryMib(host->pid(), "VmHWM") - before;
  if (healthy.has_value()) {
    healthy->Stop();
    row.healthy = !healthy->failed();
    row.healthy_p99_ms = healthy->Percentile(0.99);
    row.healthy_max_ms = healthy->Percentile(1);
  }
  return row;
}

}  // namespace callout::tests
