// SPDX-License-Identifier: Apache-2.0

#include "host/replay/replayer.h"

#include <fmt/format.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/base/thread.h"
#include "host/replay/comparison.h"
#include "host/replay/player.h"
#include "host/wire/envelope.h"
#include "host/wire/response.h"

namespace callout::host {
namespace {

// Records that one thread takes at a time.
constexpr size_t kBatchRecords = 64;
constexpr size_t kBatchBytes = size_t{1} << 20;

struct Batch {
  uint64_t first = 0;  // number of its first exchange
  std::vector<std::string> records;
  size_t bytes = 0;
};

// From the thread that reads to those that play.
class BatchQueue {
 public:
  explicit BatchQueue(size_t batches_max) : batches_max_(batches_max) {}

  void Put(Batch batch) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return batches_.size() < batches_max_; });
    batches_.push_back(std::move(batch));
    changed_.notify_all();
  }
  void Close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  // False: there is none, and none will come.
  bool Take(Batch* batch) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return closed_ || !batches_.empty(); });
    if (batches_.empty()) return false;
    *batch = std::move(batches_.front());
    batches_.pop_front();
    changed_.notify_all();
    return true;
  }

 private:
  const size_t batches_max_;
  std::mutex mutex_;  // guards the following
  std::condition_variable changed_;
  std::deque<Batch> batches_;
  bool closed_ = false;
};

// With a view into the requests.
DifferenceExample ExampleOf(uint64_t number, const Requests& requests) {
  DifferenceExample example{"", fmt::format("exchange {}", number)};
  if (requests.size() == 0) return example;
  const absl::StatusOr<RequestView> view = ParseRequest(requests[0]);
  if (!view.ok() || view->phase != CALLOUT_REQUEST_HEADERS) return example;
  example.request_id = FindHeader(view->message, "x-request-id");
  const std::string request = DescribeRequest(view->message);
  if (!request.empty()) example.text += ": " + request;
  return example;
}

// What one thread does.
class Worker {
 public:
  Worker(const Replayer::Options& options, const RecordingHeader& header)
      : options_(options),
        comparison_(header),
        player_(options.chain->environment()),
        against_(options.against == nullptr ? nullptr : options.against->environment()) {}

  void Play(uint64_t number, const RecordedExchange& exchange) {
    const Requests requests(exchange);
    ++result_.exchanges;
    result_.messages += requests.size();
    const Played played = player_.Play(exchange, requests);
    Played before;
    if (options_.against != nullptr) before = against_.Play(exchange, requests);
    result_.abandoned += (played.abandoned ? 1 : 0) + (before.abandoned ? 1 : 0);
    for (const RecordedMessage& message : exchange.messages) {
      if (!message.body_left_out) continue;
      ++result_.without_bytes;
      break;
    }
    std::vector<Difference> found;
    const Comparison::Result compared = comparison_.Compare(
        exchange, requests, options_.against == nullptr ? nullptr : &before, played, &found);
    if (compared == Comparison::Result::kUnknown) ++result_.unknown;
    if (compared == Comparison::Result::kIncomplete) ++result_.incomplete;
    if (compared != Comparison::Result::kCompared) return;
    const size_t all = found.size();
    std::erase_if(found, [this](const Difference& one) { return options_.expected->Allow(one); });
    if (all > 0 && found.empty()) ++result_.allowed;
    AddExchange(found, found.empty() ? DifferenceExample() : ExampleOf(number, requests),
                &result_.summary);
  }

  const ReplayResult& result() const { return result_; }

 private:
  const Replayer::Options& options_;
  const Comparison comparison_;
  Player player_;
  Player against_;
  ReplayResult result_;
};

}  // namespace

void ReplayResult::Add(const ReplayResult& other) {
  exchanges += other.exchanges;
  messages += other.messages;
  allowed += other.allowed;
  unknown += other.unknown;
  incomplete += other.incomplete;
  without_bytes += other.without_bytes;
  abandoned += other.abandoned;
  summary.Add(other.summary);
}

absl::Status Replayer::Run(RecordingReader* reader, ReplayResult* result) {
  const uint64_t first = result->exchanges + 1;
  if (options_.jobs <= 1) {
    Worker worker(options_, reader->header());
    while (reader->Next()) worker.Play(first + reader->exchanges() - 1, reader->exchange());
    result->Add(worker.result());
    return reader->status();
  }
  BatchQueue queue(2 * options_.jobs);
  std::vector<std::unique_ptr<Worker>> workers;
  std::vector<std::thread> threads;
  for (size_t i = 0; i < options_.jobs; ++i) {
    workers.push_back(std::make_unique<Worker>(options_, reader->header()));
    auto thread = StartThread("a replay", [&queue, worker = workers.back().get()] {
      Batch batch;
      RecordedExchange exchange;
      while (queue.Take(&batch)) {
        for (size_t j = 0; j < batch.records.size(); ++j) {
          if (ReadExchange(batch.records[j], &exchange)) worker->Play(batch.first + j, exchange);
        }
      }
    });
    if (!thread.ok()) {
      if (!threads.empty()) break;  // fewer at a time
      return thread.status();
    }
    threads.push_back(*std::move(thread));
  }
  Batch batch;
  while (reader->Next()) {
    if (batch.records.empty()) batch.first = first + reader->exchanges() - 1;
    batch.records.emplace_back(reader->record());
    batch.bytes += reader->record().size();
    if (batch.records.size() < kBatchRecords && batch.bytes < kBatchBytes) continue;
    queue.Put(std::exchange(batch, {}));
  }
  if (!batch.records.empty()) queue.Put(std::move(batch));
  queue.Close();
  for (std::thread& thread : threads) thread.join();
  for (const auto& worker : workers) result->Add(worker->result());
  return reader->status();
}

}  // namespace callout::host
