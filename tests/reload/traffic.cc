// SPDX-License-Identifier: Apache-2.0

#include "traffic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "absl/strings/numbers.h"

namespace callout::tests {

int Replacements() {
  const char* text = std::getenv("CALLOUT_REPLACEMENTS");
  int count = 200;
  const bool good = text == nullptr || absl::SimpleAtoi(text, &count);
  EXPECT_TRUE(good) << text;
  return count;
}

double TrafficReport::Percentile(double fraction) const {
  if (ms.empty()) return 0;
  const auto at = static_cast<size_t>(fraction * static_cast<double>(ms.size()));
  return ms[std::min(at, ms.size() - 1)];
}

std::string VersionOf(const ext_proc::ProcessingResponse& answer) {
  const auto& headers =
      answer.has_request_headers() ? answer.request_headers() : answer.response_headers();
  for (const auto& option : headers.response().header_mutation().set_headers()) {
    if (option.header().key() != "x-version") continue;
    return option.header().raw_value().empty() ? option.header().value()
                                               : option.header().raw_value();
  }
  return "";
}

StreamOutcome ExchangeOnce(const ChannelPtr& channel) {
  LiveStream stream(channel);
  StreamOutcome outcome;
  const auto request = stream.Exchange(RequestHeaders({{":path", "/"}}, true));
  // After which nothing more is answered.
  if (request.has_value() && request->has_immediate_response()) {
    outcome.failure =
        "refused with " + std::to_string(request->immediate_response().status().code());
    return outcome;
  }
  const auto response = request.has_value()
                            ? stream.Exchange(ResponseHeaders({{":status", "200"}}, true))
                            : std::nullopt;
  const grpc::Status status = stream.Finish();
  if (!request.has_value() || !response.has_value() || !status.ok()) {
    outcome.failure =
        "status " + std::to_string(status.error_code()) + " " + status.error_message();
    return outcome;
  }
  outcome.version = VersionOf(*request);
  const std::string later = VersionOf(*response);
  if (outcome.version.empty() || later.empty()) outcome.failure = "an answer without a version";
  if (outcome.version != later) {
    outcome.mixed = true;
    outcome.failure = "version " + outcome.version + ", then " + later;
  }
  return outcome;
}

Traffic::Traffic(int threads, const std::function<Exchanger()>& make)
    : by_thread_(static_cast<size_t>(threads)) {
  for (size_t i = 0; i < by_thread_.size(); ++i) {
    threads_.emplace_back([this, i, exchange = make()] { Run(i, exchange); });
  }
}

Traffic::Traffic(const std::string& address, int threads)
    : Traffic(threads, [&address]() -> Exchanger {
        return [channel = PlaintextChannel(address)] { return ExchangeOnce(channel); };
      }) {}

Traffic::~Traffic() { Stop(); }

void Traffic::Run(size_t thread, const Exchanger& exchange) {
  for (;;) {
    const auto start = std::chrono::steady_clock::now();
    StreamOutcome outcome = exchange();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    std::lock_guard<std::mutex> lock(mutex_);
    if (stop_) return;
    ++report_.streams;
    ++total_;
    ++by_thread_[thread];
    report_.ms.push_back(took.count());
    if (outcome.mixed) ++report_.mixed;
    if (outcome.failure.empty()) {
      ++report_.by_version[outcome.version];
    } else if (++report_.failed == 1) {
      report_.first_failure = std::move(outcome.failure);
    }
    changed_.notify_all();
  }
}

void Traffic::AwaitStreams(uint64_t count) {
  std::unique_lock<std::mutex> lock(mutex_);
  const uint64_t wanted = total_ + count;
  EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return total_ >= wanted; }))
      << "the traffic has come to a halt";
}

void Traffic::AwaitOlderStreams() {
  std::unique_lock<std::mutex> lock(mutex_);
  const std::vector<uint64_t> before = by_thread_;
  const auto are_gone = [&] {
    return std::equal(before.begin(), before.end(), by_thread_.begin(), std::less<>());
  };
  EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), are_gone))
      << "a stream has come to a halt";
}

uint64_t Traffic::streams() {
  std::lock_guard<std::mutex> lock(mutex_);
  return total_;
}

TrafficReport Traffic::Take() {
  TrafficReport report;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    std::swap(report, report_);
  }
  std::sort(report.ms.begin(), report.ms.end());
  return report;
}

TrafficReport Traffic::Stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  return Take();
}

}  // namespace callout::tests
