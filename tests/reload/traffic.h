// SPDX-License-Identifier: Apache-2.0

// Steady traffic against a host, that notices everything a reload could do to it.
//
//   Traffic traffic(host.address("plaintext"), {.threads = 4});
//   … replace plugins …
//   traffic.AwaitStreams(100);            // so many more
//   const TrafficReport report = traffic.Stop();
//   EXPECT_EQ(report.failed, 0) << report.first_failure;
//
// Every stream is a request and its response; each answer has to carry the
// header x-version, and both the same one.
//
// For one thread.
#ifndef CALLOUT_TESTS_RELOAD_TRAFFIC_H_
#define CALLOUT_TESTS_RELOAD_TRAFFIC_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/integration/ext_proc_client.h"

namespace callout::tests {

// How often a test replaces a plugin: 200 times, or what CALLOUT_REPLACEMENTS says.
int Replacements();

struct TrafficReport {
  uint64_t streams = 0;
  uint64_t failed = 0;  // not both answers, or an error status
  uint64_t mixed = 0;   // the two answers are of different versions
  std::string first_failure;
  std::map<std::string, uint64_t> by_version;
  std::vector<double> ms;  // each stream's time, sorted

  double Percentile(double fraction) const;
};

// What one exchange came to: the version of its answers, or what was wrong.
struct StreamOutcome {
  std::string version;  // "": failed
  std::string failure;  // "": good
  bool mixed = false;
};

// One stream over `channel`, request headers and response headers.
StreamOutcome ExchangeOnce(const ChannelPtr& channel);
// The value of x-version in an answer to headers; "" if there is none.
std::string VersionOf(const ext_proc::ProcessingResponse& answer);

class Traffic {
 public:
  // Makes one exchange; each thread has one of its own.
  using Exchanger = std::function<StreamOutcome()>;

  Traffic(int threads, const std::function<Exchanger()>& make);
  // Over gRPC.
  Traffic(const std::string& address, int threads);
  ~Traffic();
  Traffic(const Traffic&) = delete;
  Traffic& operator=(const Traffic&) = delete;

  // Returns when so many more streams have ended; fails the test if they do not.
  void AwaitStreams(uint64_t count);
  // Returns when no stream is left that had begun before the call; fails the test
  // if one stays.
  void AwaitOlderStreams();
  uint64_t streams();
  TrafficReport Stop();
  // The report so far, and a new one from here on.
  TrafficReport Take();

 private:
  void Run(size_t thread, const Exchanger& exchange);

  std::mutex mutex_;  // guards the following
  std::condition_variable changed_;
  TrafficReport report_;
  uint64_t total_ = 0;
  std::vector<uint64_t> by_thread_;  // streams ended
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_RELOAD_TRAFFIC_H_
