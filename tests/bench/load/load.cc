// SPDX-License-Identifier: Apache-2.0

#include "load.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

#include <algorithm>
#include <ctime>
#include <utility>

#include "recorded.h"

namespace callout::bench {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
// With a rate: calls that a server may leave lying before no more are begun. Those that were due
// nevertheless count as unanswered.
constexpr int kLiveMax = 20000;
// With a rate: how long calls may be answered after the measured time.
constexpr uint64_t kLateNs = kSecondNs;
constexpr uint64_t kVerifyNs = 10 * kSecondNs;
constexpr uint64_t kStreamsNs = 600 * kSecondNs;

uint64_t NowNs(clockid_t clock = CLOCK_MONOTONIC) {
  timespec time = {};
  clock_gettime(clock, &time);
  return static_cast<uint64_t>(time.tv_sec) * kSecondNs + static_cast<uint64_t>(time.tv_nsec);
}

uint64_t ToNs(double seconds) { return static_cast<uint64_t>(seconds * 1e9); }

std::vector<Script> ScriptsOf(const LoadOptions& options) {
  std::vector<Script> scripts;
  if (options.recordings.empty()) {
    Scenario scenario = MakeScenario(options.scenario, options.body_bytes);
    if (options.any_phase) scenario.answer_tags.clear();
    scripts.emplace_back(std::move(scenario));
    return scripts;
  }
  for (Scenario& scenario : ReadScenarios(options.recordings)) {
    scripts.emplace_back(std::move(scenario));
  }
  return scripts;
}

}  // namespace

Load::Load(const LoadOptions& options)
    : options_(options),
      scripts_(ScriptsOf(options)),
      tls_(options.tls ? std::optional<TlsContext>(std::in_place) : std::nullopt),
      epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  // Calls that are due at a time are to begin then, not with the kernel's usual slack of 50 us.
  prctl(PR_SET_TIMERSLACK, 1);
  for (int i = 0; i < options.connections; ++i) {
    connections_.push_back(std::make_unique<Connection>(
        options.address, tls_ ? &*tls_ : nullptr, scripts_.front().scenario, options.ending, this));
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

bool Load::OnAnswer(const Scenario& scenario, size_t index, std::string_view answer) {
  const char tag = scenario.answer_tags.empty() ? '\0' : scenario.answer_tags[index];
  if (!verifying_) return !answer.empty() && (tag == 0 || answer.front() == tag);
  const std::string wrong = WrongWith(scenario, index, answer, options_.header);
  if (!wrong.empty()) Fail(fmt::format("the answer to message {} is wrong: {}", index + 1, wrong));
  return true;
}

void Load::OnLastAnswer(uint64_t start_ns) {
  const bool counts = options_.rate == 0 ? measuring_ : start_ns >= begin_ns_ && start_ns < end_ns_;
  if (counts) result_.latencies_ns.push_back(NowNs() - start_ns);
}

void Load::OnCallEnd(bool ok) {
  --live_;
  if (measuring_) ++(ok ? result_.calls : result_.errors);
  if (verifying_ && !ok) Fail("a call did not end as it should");
  if (left_ > 0) {
    --left_;
    Begin(NowNs());
  } else if (beginning_ && options_.rate == 0) {
    Begin(NowNs());
  }
}

void Load::Begin(uint64_t start_ns) {
  ++live_;
  connections_[turn_]->Begin(scripts_[script_], start_ns);
  turn_ = (turn_ + 1) % connections_.size();
  script_ = (script_ + 1) % scripts_.size();
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
  begin_ns_ = NowNs();
  end_ns_ = begin_ns_ + ToNs(options_.seconds);
  const uint64_t begin_cpu_ns = NowNs(CLOCK_PROCESS_CPUTIME_ID);
  Loop(end_ns_);
  result_.seconds = static_cast<double>(NowNs() - begin_ns_) * 1e-9;
  result_.own_cpu_ns = NowNs(CLOCK_PROCESS_CPUTIME_ID) - begin_cpu_ns;
  if (options_.server != 0) result_.after = ReadUsage(options_.server);
  measuring_ = false;
  if (options_.rate != 0) AwaitDue();
  beginning_ = false;
  std::sort(result_.latencies_ns.begin(), result_.latencies_ns.end());
  return std::move(result_);
}

Load::Result Load::RunStreams() {
  measuring_ = true;
  const auto at_once =
      std::min<uint64_t>(static_cast<uint64_t>(options_.concurrency), options_.streams);
  left_ = options_.streams - at_once;
  const uint64_t begin_ns = NowNs();
  for (uint64_t i = 0; i < at_once; ++i) Begin(begin_ns);
  Loop(begin_ns + kStreamsNs);
  if (live_ > 0) Fail(fmt::format("{} calls have not ended within 10 minutes", live_));
  result_.seconds = static_cast<double>(NowNs() - begin_ns) * 1e-9;
  std::sort(result_.latencies_ns.begin(), result_.latencies_ns.end());
  return std::move(result_);
}

void Load::BeginDue() {
  if (options_.rate == 0) return;
  for (const uint64_t now_ns = NowNs(); next_ns_ <= now_ns; next_ns_ += ToNs(1 / options_.rate)) {
    if (next_ns_ >= begin_ns_ && next_ns_ < end_ns_) ++due_;
    if (live_ < kLiveMax) Begin(next_ns_);
  }
}

// Gives what was due in the measured time a while to be answered, so that the slowest calls are not
// those that nobody counts. What is unanswered then enters with the least that it can have taken.
void Load::AwaitDue() {
  BeginDue();
  beginning_ = false;
  Loop(NowNs() + kLateNs);
  result_.unanswered = due_ - result_.latencies_ns.size();
  result_.latencies_ns.insert(result_.latencies_ns.end(), result_.unanswered, NowNs() - end_ns_);
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
