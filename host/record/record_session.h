// SPDX-License-Identifier: Apache-2.0

// One recording in progress: takes exchanges from the threads of streams, and writes them on a
// thread of its own.
//
//   auto session = RecordSession::Start(options, metrics, ids);
//   if (session->Charge(bytes)) …                  // memory for an exchange in progress
//   session->Push(std::move(exchange));            // charged
//   session->Finish();                             // no more; writes what waits
//   session->Join(1000);
//   session.reset();                               // the last one waits kEndMs
//
// Nothing of it reaches streams: exchanges in progress and those that wait share
// `queue_bytes_max`, each with what it takes by itself, and one that finds it full is dropped and
// counted. So is one that cannot be written; the log says so once a minute. It ends by itself at
// `until_ns`, after `count_max` exchanges, and, without rotation, when the file is full.
//
// A file system that hangs holds up nobody but the thread: whoever lets go of the session last
// waits at most kEndMs, logs how many exchanges are lost, counts them (write_failed), and leaves
// the thread to itself. It then touches nothing but the file.
//
// Charge, Release, Push, Drop, Finish and open: any thread. Start and Join: one.
//
// Tested by tests/host/record/recorder_test.cc.
#ifndef CALLOUT_HOST_RECORD_RECORD_SESSION_H_
#define CALLOUT_HOST_RECORD_RECORD_SESSION_H_

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/base/redaction.h"
#include "host/metrics/metrics.h"
#include "host/record/record_file.h"
#include "host/record/record_rule.h"
#include "host/record/recording.h"

namespace callout::host {

// Why an exchange is not in the recording. The names are values of the label `reason`.
enum class RecordDrop : uint8_t {
  kQueueFull,    // queue_full: --max_record_queue_bytes
  kWriteFailed,  // write_failed: the disk is full, for example
  kTooLarge,     // too_large: does not fit into a file
  kMalformed,    // malformed: a message that cannot be redacted
  kStopped,      // stopped: it was not over when the recording ended
};
inline constexpr size_t kRecordDrops = 5;
std::string_view RecordDropName(RecordDrop reason);

struct RecordMetricIds {
  Metrics::Id exchanges, bytes, active, queue_bytes;
  std::array<Metrics::Id, kRecordDrops> dropped;  // by RecordDrop
};

// An exchange as its observer has collected it.
struct CapturedExchange {
  struct Message {
    RecordedMessage recorded;  // without `bytes`
    size_t begin = 0;          // of its bytes in `bytes`
    size_t size = 0;
  };
  RecordedExchange recorded;  // without views
  std::string end_message;
  std::string bytes;
  std::vector<Message> messages;
  size_t charged = 0;  // bytes of the queue that it takes
};

class RecordSession {
 public:
  struct Options {
    std::string path;
    RecordRule rule;
    Redaction redaction;
    bool bodies = false;
    uint64_t file_bytes_max = 0;
    size_t files = 1;
    bool rotates = true;  // else it ends when the file is full
    size_t queue_bytes_max = 0;
    size_t exchange_bytes_max = 0;
    uint64_t until_ns = 0;   // MonotonicNs; 0: no limit
    uint64_t count_max = 0;  // 0: no limit
    std::string host_version;
  };

  // For what is not written when the last pointer to a session goes.
  static constexpr uint64_t kEndMs = 1000;

  // Creates the file and starts the thread. `metrics` outlives the pointers.
  static absl::StatusOr<std::shared_ptr<RecordSession>> Start(Options options, Metrics* metrics,
                                                              const RecordMetricIds& ids);
  RecordSession(const RecordSession&) = delete;
  RecordSession& operator=(const RecordSession&) = delete;

  const Options& options() const { return options_; }
  // It takes exchanges.
  bool open() const { return open_.load(std::memory_order_relaxed); }

  // False: there is no room, and nothing is charged.
  bool Charge(size_t bytes);
  void Release(size_t bytes);
  void Push(std::unique_ptr<CapturedExchange> exchange);
  void Drop(RecordDrop reason, uint64_t exchanges = 1);

  void Finish();
  // Waits until everything is written, at most `timeout_ms`. False if the time was too short.
  bool Join(uint64_t timeout_ms);

 private:
  using Queue = std::vector<std::unique_ptr<CapturedExchange>>;

  RecordSession(Options options, Metrics* metrics, const RecordMetricIds& ids);

  void End();
  bool Count(Metrics::Id counter, double count);
  bool Tell(Metrics::Id gauge, double value);
  bool left_alone() const;

  std::string FileBegin() const;
  void Run();
  bool AwaitWork(Queue* work);
  void WriteAll(const Queue& work);
  void Encode(CapturedExchange* exchange);
  void Flush();
  void Complain(std::string_view why) const;
  void TellQueue();

  const Options options_;
  const RecordMetricIds ids_;
  std::atomic<bool> open_{true};
  std::atomic<size_t> charged_{0};
  std::atomic<uint64_t> dropped_{0};
  std::atomic<uint64_t> waiting_{0};  // exchanges that were pushed, and are not done with

  mutable std::mutex metrics_mutex_;
  Metrics* metrics_;  // null: the thread was left to itself

  // Of the thread.
  RecordFile file_;
  std::string frames_;             // to be written
  uint64_t frames_exchanges_ = 0;  // in frames_
  uint64_t taken_ = 0;             // exchanges, for count_max
  uint64_t written_ = 0, written_bytes_ = 0;

  std::mutex mutex_;  // guards the following
  std::condition_variable changed_;
  Queue queue_;
  bool finishing_ = false;
  bool ended_ = false;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RECORD_RECORD_SESSION_H_
