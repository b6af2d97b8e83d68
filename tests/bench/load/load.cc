#include "load.h"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <algorithm>
#include <ctime>

namespace callout::bench {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
// Calls that a server may leave lying before the run is given up.
constexpr int kLiveMax = 20000;
constexpr uint64_t kVerifyNs = 10 * kSecondNs;

uint64_t NowNs(clockid_t clock = CLOCK_MONOTONIC) {
  timespec time = {};
  clock_gettime(clock, &time);
  return static_cast<uint64_t>(time.tv_sec) * kSecondNs + static_cast<uint64_t>(time.tv_nsec);
}

uint64_t ToNs(double seconds) { return static_cast<uint64_t>(seconds * 1e9); }

}  // namespace

Load::Load(const LoadOptions& options)
    : options_(options),
      scenario_(MakeScenario(options.scenario)),
      tls_(options.tls ? std::optional<TlsContext>(std::in_place) : std::nullopt),
      epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  for (int i = 0; i < options.connections; ++i) {
    connections_.push_back(std::make_unique<Connection>(options.port, tls_ ? &*tls_ : nullptr,
                                                        scenario_, options.ending, this));
    watched_for_write_.push_back(false);
    Watch(connections_.back().get(), EPOLL_CTL_ADD, false);
  }
}

void Load::Watch(Connection* connection, int operation, bool write) {
  epoll_event event = {};
  event.events = EPOLLIN | (write ? uint32_t{EPOLLOUT} : 0);
  event.data.ptr = connection;
  epoll_ctl(epoll_, operation, connection->fd(), &event);
}

bool Load::OnAnswer(size_t index, std::string_view answer) {
  if (!verifying_) return !answer.empty() && answer.front() == scenario_.answer_tags[index];
  const std::string wrong = WrongWith(scenario_, index, answer, options_.header);
  if (!wrong.empty()) Fail(fmt::format("the answer to message {} is wrong: {}", index + 1, wrong));
  return true;
}

void Load::OnLastAnswer(uint64_t start_ns) {
  if (measuring_) result_.latencies_ns.push_back(NowNs() - start_ns);
}

void Load::OnCallEnd(bool ok) {
  --live_;
  if (measuring_) ++(ok ? result_.calls : result_.errors);
  if (verifying_ && !ok) Fail("a call did not end as it should");
  if (beginning_ && options_.rate == 0) Begin(NowNs());
}

void Load::Begin(uint64_t start_ns) {
  ++live_;
  connections_[turn_]->Begin(start_ns);
  turn_ = (turn_ + 1) % connections_.size();
}

// One call on each connection, each answer read with the generated classes.
void Load::Verify() {
  verifying_ = true;
  for (size_t i = 0; i < connections_.size(); ++i) Begin(0);
  Loop(NowNs() + kVerifyNs);
  if (live_ > 0) Fail("a call was not answered within 10 s");
  verifying_ = false;
}

Load::Result Load::Run() {
  beginning_ = true;
  next_ns_ = NowNs();
  if (options_.rate == 0) {
    for (int i = 0; i < options_.concurrency; ++i) Begin(NowNs());
  }
  Loop(NowNs() + ToNs(options_.warmup_seconds));
  measuring_ = true;
  result_.latencies_ns.reserve(1 << 20);
  if (options_.server != 0) result_.before = ReadUsage(options_.server);
  const uint64_t begin_ns = NowNs(), begin_cpu_ns = NowNs(CLOCK_PROCESS_CPUTIME_ID);
  Loop(begin_ns + ToNs(options_.seconds));
  result_.seconds = static_cast<double>(NowNs() - begin_ns) * 1e-9;
  result_.own_cpu_ns = NowNs(CLOCK_PROCESS_CPUTIME_ID) - begin_cpu_ns;
  if (options_.server != 0) result_.after = ReadUsage(options_.server);
  measuring_ = beginning_ = false;
  std::sort(result_.latencies_ns.begin(), result_.latencies_ns.end());
  return std::move(result_);
}

void Load::BeginDue() {
  if (options_.rate == 0) return;
  for (const uint64_t now_ns = NowNs(); next_ns_ <= now_ns; next_ns_ += ToNs(1 / options_.rate)) {
    if (live_ >= kLiveMax) Fail(fmt::format("the server leaves {} calls lying", live_));
    Begin(next_ns_);
  }
}

void Load::Loop(uint64_t end_ns) {
  while (NowNs() < end_ns) {
    if (beginning_) BeginDue();
    for (size_t i = 0; i < connections_.size(); ++i) {
      Connection* connection = connections_[i].get();
      connection->Flush();
      if (connection->wants_write() == watched_for_write_[i]) continue;
      watched_for_write_[i] = connection->wants_write();
      Watch(connection, EPOLL_CTL_MOD, watched_for_write_[i]);
    }
    if (!beginning_ && live_ == 0) return;  // a flush may have ended the last call
    Wait(beginning_ && options_.rate != 0 ? std::min(end_ns, next_ns_) : end_ns);
  }
}

void Load::Wait(uint64_t until_ns) {
  const uint64_t now_ns = NowNs();
  const uint64_t wait_ns = until_ns > now_ns ? until_ns - now_ns : 0;
  const timespec wait = {static_cast<time_t>(wait_ns / kSecondNs),
                         static_cast<long>(wait_ns % kSecondNs)};
  epoll_event events[64];
  const int count = epoll_pwait2(epoll_, events, 64, &wait, nullptr);
  for (int i = 0; i < count; ++i) {
    if ((events[i].events & ~uint32_t{EPOLLOUT}) == 0) continue;
    static_cast<Connection*>(events[i].data.ptr)->Receive();
  }
}

}  // namespace callout::bench
