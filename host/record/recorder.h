// SPDX-License-Identifier: Apache-2.0

// Records a sample of exchanges, with all messages of both ways.
//
//   Recorder recorder(&metrics, "option");
//   recorder.Attach(&environment.watchers());
//   absl::Status status = recorder.Start(options);    // any time
//   recorder.Stop();
//
// While nothing is recorded, nobody is asked (RpcWatchers::SetActive) and it costs nothing. An
// exchange that is recorded goes on to its real end: no early end.
//
// Only streams of ext_proc are recorded. A message that the host refuses before it looks into it
// (malformed, over a limit on fields) is not in the recording; how the stream ends is.
//
// Metrics: callout_record_exchanges_total, callout_record_bytes_total,
// callout_record_dropped_total{reason}, callout_record_active, callout_record_queue_bytes, each
// with the label `by`: option (--record) or tap (POST /tap).
//
// Any thread. `metrics` and the watchers outlive it; it outlives every RPC.
//
// Tested by tests/host/record/recorder_test.cc.
#ifndef CALLOUT_HOST_RECORD_RECORDER_H_
#define CALLOUT_HOST_RECORD_RECORDER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "host/metrics/metrics.h"
#include "host/plugin/call_observer.h"
#include "host/record/record_session.h"

namespace callout::host {

// What the operator's options say of all recordings.
struct RecordConfig {
  std::string path;                              // --record; "": none
  double percent = 100;                          // --record_percent
  std::string match;                             // --record_match, a form
  bool bodies = false;                           // --record_bodies
  size_t files = 8;                              // --record_files
  uint64_t file_bytes_max = uint64_t{64} << 20;  // --max_record_bytes
  size_t queue_bytes_max = size_t{16} << 20;     // --max_record_queue_bytes
  size_t exchange_bytes_max = size_t{1} << 20;   // --max_record_exchange_bytes
  std::string tap_directory;                     // --record_dir; "": no taps
  bool redacts_by_default = true;                // without --record_redact
  std::vector<std::string> redacted;             // patterns of Redaction
};

// The file of a tap that begins now: DIR/tap-20261129T134501.123Z.rec.
std::string TapPath(const std::string& directory);
// The file of one worker of several: PATH.w2.
std::string WorkerPath(const std::string& path, int worker);

class Recorder final : public RpcWatcher {
 public:
  // `by`: value of the label.
  Recorder(Metrics* metrics, const std::string& by);
  // Ends what is recorded, and waits for it: at most RecordSession::kEndMs for each.
  ~Recorder() override;

  // Once: is added to `watchers`, which outlive it, or the Detach.
  void Attach(RpcWatchers* watchers);
  // Ends what is recorded. What is started after that records nothing.
  void Detach();

  // Errors of RecordSession::Start. One recording at a time: another one is stopped.
  absl::Status Start(RecordSession::Options options);
  // Exchanges that are not over are dropped; what is queued is written.
  void Stop();
  // Waits until what was stopped is written, at most `timeout_ms`.
  bool Join(uint64_t timeout_ms);
  // The file that is recorded to; "": none.
  std::string path() const;

  std::unique_ptr<RpcObserver> Watch(const RpcStart& start) override;

 private:
  void StopLocked();

  Metrics* const metrics_;
  RecordMetricIds ids_{};
  RpcWatchers* watchers_ = nullptr;

  mutable std::mutex mutex_;                            // guards the following
  std::shared_ptr<RecordSession> session_;              // null: nothing is recorded
  std::vector<std::shared_ptr<RecordSession>> ending_;  // stopped, and perhaps still writing
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RECORD_RECORDER_H_
