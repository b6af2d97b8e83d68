// SPDX-License-Identifier: Apache-2.0

// A host behind a real Envoy under mixed traffic for as long as one likes: all body modes,
// aborted clients, deferred calls, denials, and a plugin that is replaced again and again.
// No request may fail that was not meant to, and memory, descriptors and threads stay flat:
// what counts is their slope after a warm-up, not their end.
//
//   CALLOUT_SOAK_SECONDS=N    for how long; by default 30
//   CALLOUT_SOAK_RATE=N       so many requests a second of all clients; by default as many as they
//   can
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "backend.h"
#include "client.h"
#include "envoy_config.h"
#include "envoy_fixture.h"
#include "tests/integration/test_host.h"
#include "tests/reload/plugins_page.h"

namespace callout::tests {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::array<const char*, 5> kModes = {"NONE", "STREAMED", "BUFFERED", "BUFFERED_PARTIAL",
                                               "FULL_DUPLEX_STREAMED"};
constexpr int kClients = 4;
constexpr auto kReplaceEvery = std::chrono::milliseconds(2000);
constexpr auto kSampleEvery = std::chrono::milliseconds(500);
// A line of what was measured, so that a long run that is ended early has said something.
constexpr auto kReportEvery = std::chrono::minutes(1);
// How much may be gained over the whole of a run by the slope: less is what allocators and
// the moment of a sample make of it.
#ifdef __SANITIZE_ADDRESS__
constexpr double kMemoryKibMax = 1 << 20;  // it keeps what was freed, for a while
#else
constexpr double kMemoryKibMax = 4096;
#endif
constexpr double kDescriptorsMax = 8;
constexpr double kThreadsMax = 3;

int SoakSeconds() {
  const char* given = getenv("CALLOUT_SOAK_SECONDS");
  return given != nullptr ? atoi(given) : 30;
}

// Keeps one of the clients at its part of CALLOUT_SOAK_RATE. Time that was lost is not made up for,
// since that would be a burst.
class Pace {
 public:
  Pace() {
    const char* const given = getenv("CALLOUT_SOAK_RATE");
    const int rate = given != nullptr ? atoi(given) : 0;
    if (rate > 0) every_ = std::chrono::microseconds(1'000'000LL * kClients / rate);
  }
  void Wait() {
    if (every_.count() == 0) return;
    next_ = std::max(next_ + every_, Clock::now());
    std::this_thread::sleep_until(next_);
  }

 private:
  std::chrono::microseconds every_{0};
  Clock::time_point next_ = Clock::now();
};

// --- What is measured ---

struct Sample {
  double seconds, memory_kib, descriptors, threads;
};

Sample Measure(pid_t pid, double seconds) {
  return {seconds, static_cast<double>(ProcessStatus(pid, "VmRSS")),
          static_cast<double>(CountDescriptors(pid)),
          static_cast<double>(ProcessStatus(pid, "Threads"))};
}

// By least squares, for each second.
double Slope(const std::vector<Sample>& samples, double Sample::*value) {
  double n = 0, x = 0, y = 0, xx = 0, xy = 0;
  for (const Sample& sample : samples) {
    n += 1;
    x += sample.seconds;
    y += sample.*value;
    xx += sample.seconds * sample.seconds;
    xy += sample.seconds * sample.*value;
  }
  return (n * xy - x * y) / (n * xx - x * x);
}

// --- Traffic ---

struct Counts {
  uint64_t requests = 0, aborted = 0, denied = 0, deferred = 0, replaced = 0, unexpected = 0;
  std::string first_unexpected;  // of each client
};

class Client {
 public:
  Client(const std::map<std::string, uint16_t>& ports, uint64_t seed)
      : ports_(ports), random_(seed) {}

  void Exchange(Counts* counts) {
    const char* const mode = kModes[Below(kModes.size())];
    const uint16_t port = ports_.at(mode);
    ++counts->requests;
    if (Below(20) == 0) return Abort(port, counts);
    const char* const mixes[] = {"", "", "", "replace", "replace", "defer", "deny"};
    const std::string mix = mixes[Below(std::size(mixes))];
    ClientRequest request{.method = "POST", .headers = {{"x-mix", mix}}};
    request.body.pieces.emplace_back(Below(4) == 0 ? Below(60000) : Below(500), 'a');
    request.body.chunked = Below(2) == 0;
    const Clock::time_point begin = Clock::now();
    const HttpMessage response = tests::Exchange(port, request);
    const std::chrono::duration<double> took = Clock::now() - begin;
    const int wanted = mix == "deny" ? 403 : 200;
    counts->denied += mix == "deny";
    counts->deferred += mix == "defer";
    counts->replaced += mix == "replace";
    if (response.status == wanted && response.complete && BodyFits(mode, mix, request, response)) {
      return;
    }
    if (counts->unexpected++ == 0) {
      counts->first_unexpected =
          fmt::format("{} '{}': status {}, {} bytes, {}complete, after {:.3f} s, at {}", mode, mix,
                      response.status, response.body.size(), response.complete ? "" : "in",
                      took.count(), absl::FormatTime(absl::Now(), absl::UTCTimeZone()));
    }
  }

 private:
  size_t Below(size_t count) { return random_() % count; }

  // The backend sends back what it got.
  static bool BodyFits(std::string_view mode, std::string_view mix, const ClientRequest& request,
                       const HttpMessage& response) {
    if (mix == "deny") return true;
    std::string expected = request.body.pieces[0];
    if (mix == "replace" && mode != "NONE") expected.assign(expected.size(), 'A');
    return response.body == expected;
  }

  // Leaves in the middle of its own body.
  void Abort(uint16_t port, Counts* counts) {
    ++counts->aborted;
    const host::Descriptor fd =
        host::Connect(host::ParsedAddress(fmt::format("127.0.0.1:{}", port)));
    host::Write(fd.get(), "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n" +
                              std::string(Below(999), 'a'));
    if (Below(2) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(Below(5)));
  }

  const std::map<std::string, uint16_t>& ports_;
  std::mt19937_64 random_;
};

class Soak : public EnvoyFixture {
 protected:
  void SetUp() override {
    EnvoyFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    plugins_.Put("p.so", one_);
    host_.emplace(
        std::vector<std::string>{"--plugins_dir=" + plugins_.path(), "--hook_deadline_ms=20000"});
    backend_.AnswerBy([](const HttpMessage& request) {
      return BackendAnswer{.body = {.pieces = {request.body}}};
    });
    EnvoyConfig config;
    config.backend_port = backend_.port();
    const std::string address = host_->address("plaintext");
    config.hosts["host"] = {
        static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)))};
    for (const char* mode : kModes) {
      nlohmann::json modes = {{"request_body_mode", mode}, {"response_body_mode", mode}};
      if (std::string_view(mode) == "FULL_DUPLEX_STREAMED") {
        modes["request_trailer_mode"] = modes["response_trailer_mode"] = "SEND";
      }
      config.listeners.push_back(
          {.name = mode, .filters = {ExtProc({{"processing_mode", modes}})}});
    }
    envoy_.emplace(MakeBootstrap(config));
    for (const char* mode : kModes) ports_[mode] = envoy_->port(mode);
  }

  void StartClients() {
    const uint64_t seed = std::random_device()();
    std::cout << "seed " << seed << "\n";
    for (int i = 0; i < kClients; ++i) {
      clients_.emplace_back([this, i, seed] {
        Client client(ports_, seed + static_cast<uint64_t>(i));
        Counts counts;
        for (Pace pace; !stop_; pace.Wait()) client.Exchange(&counts);
        std::lock_guard<std::mutex> lock(mutex_);
        Add(counts);
      });
    }
  }
  Counts StopClients() {
    stop_ = true;
    for (std::thread& client : clients_) client.join();
    clients_.clear();
    return total_;
  }

  // Samples while traffic runs and the plugin is replaced.
  std::vector<Sample> Run(std::chrono::seconds duration) {
    std::vector<Sample> samples;
    const Clock::time_point begin = Clock::now();
    Clock::time_point replace = begin + kReplaceEvery, report = begin + kReportEvery;
    for (auto now = begin; now < begin + duration; now = Clock::now()) {
      const std::chrono::duration<double> seconds = now - begin;
      samples.push_back(Measure(host_->pid(), seconds.count()));
      if (now >= report) {
        Report(samples.back());
        report = now + kReportEvery;
      }
      if (now >= replace) {
        plugins_.Put("p.so", replacements_++ % 2 == 0 ? two_ : one_);
        replace = now + kReplaceEvery;
      }
      std::this_thread::sleep_for(kSampleEvery);
    }
    return samples;
  }

  static void Report(const Sample& sample) {
    std::cout << fmt::format("{:.0f} s: memory {:.0f} KiB, {:.0f} descriptors, {:.0f} threads\n",
                             sample.seconds, sample.memory_kib, sample.descriptors, sample.threads)
              << std::flush;
  }

  void Add(const Counts& counts) {
    total_.requests += counts.requests;
    total_.aborted += counts.aborted;
    total_.denied += counts.denied;
    total_.deferred += counts.deferred;
    total_.replaced += counts.replaced;
    total_.unexpected += counts.unexpected;
    if (!counts.first_unexpected.empty())
      total_.first_unexpected += "\n  " + counts.first_unexpected;
  }

  host::TempDir directory_;
  PluginsDir plugins_{directory_.Path("plugins")};
  const std::string one_ = ReadFile(BuiltFile("tests/soak/mixed_one.so"));
  const std::string two_ = ReadFile(BuiltFile("tests/soak/mixed_two.so"));
  Backend backend_;
  std::optional<TestHost> host_;
  std::optional<EnvoyProcess> envoy_;
  std::map<std::string, uint16_t> ports_;

  std::atomic<bool> stop_{false};
  std::vector<std::thread> clients_;
  std::mutex mutex_;  // guards the following
  Counts total_;
  int replacements_ = 0;
};

TEST_F(Soak, NothingFailsAndNothingGrows) {
  const std::chrono::seconds duration(SoakSeconds());
  StartClients();
  Run(duration / 4);  // caches, pools and both versions of the plugin are there
  const std::vector<Sample> samples = Run(duration - duration / 4);
  const Counts counts = StopClients();
  ASSERT_GE(samples.size(), 4u);

  const double seconds = samples.back().seconds;
  const auto gain = [&](double Sample::*value) { return Slope(samples, value) * seconds; };
  std::cout << fmt::format(
      "{:.0f} s: {} requests ({} aborted, {} denied, {} deferred, {} with another body), {} "
      "replacements\n{} unexpected{}\n"
      "memory {:.0f} -> {:.0f} KiB, by slope {:+.0f} KiB; descriptors {:.0f} -> {:.0f}, {:+.1f}; "
      "threads {:.0f} -> {:.0f}, {:+.1f}\n",
      seconds, counts.requests, counts.aborted, counts.denied, counts.deferred, counts.replaced,
      replacements_, counts.unexpected,
      counts.unexpected > 0 ? ", the first of each client:" + counts.first_unexpected : "",
      samples.front().memory_kib, samples.back().memory_kib, gain(&Sample::memory_kib),
      samples.front().descriptors, samples.back().descriptors, gain(&Sample::descriptors),
      samples.front().threads, samples.back().threads, gain(&Sample::threads));
  EXPECT_EQ(counts.unexpected, 0u) << counts.first_unexpected;
  EXPECT_LT(gain(&Sample::memory_kib), kMemoryKibMax);
  EXPECT_LT(gain(&Sample::descriptors), kDescriptorsMax);
  EXPECT_LT(gain(&Sample::threads), kThreadsMax);
  for (const char* counter : {".spurious_msgs_received", ".rejected_header_mutations"}) {
    for (const auto& [name, value] : envoy_->CountersEndingWith(counter)) {
      EXPECT_EQ(value, 0u) << name;
    }
  }
  EXPECT_EQ(host_->Terminate(), 0);
}

}  // namespace
}  // namespace callout::tests
