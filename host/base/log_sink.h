// SPDX-License-Identifier: Apache-2.0

// The spdlog sink of the log: writes lines to standard error, for a logger that writes at once or
// for one with a bounded queue and a thread.
//
// spdlog's own sink for standard error does not report lines that it could not write. spdlog's
// queue limits lines but not bytes, and nobody can wait for it with a time limit. This sink counts
// both, so that the queue never overflows.
//
// Any thread may call Admit and WaitUntilWritten; the latter is safe in a signal handler.
//
// Tested by tests/host/base/log_test.cc.
#ifndef CALLOUT_HOST_BASE_LOG_SINK_H_
#define CALLOUT_HOST_BASE_LOG_SINK_H_

#include <spdlog/sinks/base_sink.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

namespace callout::host {

class LogSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  // Lines that were admitted and are not written yet.
  static constexpr size_t kQueueLinesMax = 4096;

  // Returns the text of the line that says how many lines were dropped.
  using Notice = std::string (*)(uint64_t dropped);

  explicit LogSink(Notice notice) : notice_(notice) {}

  // Counts a line of `bytes` bytes as queued. False if the queue is full: the line then counts as
  // dropped and must not be logged.
  bool Admit(size_t bytes, size_t queue_bytes_max);

  // Waits until all admitted lines are written, or for `timeout_ms`.
  bool WaitUntilWritten(uint64_t timeout_ms) const;

  // Lines that found no room, or could not be written.
  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override;
  void flush_() override {}

  void Write(const spdlog::details::log_msg& message);
  void WriteNotice();

  const Notice notice_;
  std::atomic<size_t> queued_lines_{0};
  std::atomic<size_t> queued_bytes_{0};
  std::atomic<uint64_t> dropped_{0};
  uint64_t told_ = 0;  // dropped lines that a notice has reported; under the base's mutex
  bool torn_ = false;  // only a part of the last line was written; under the base's mutex
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_LOG_SINK_H_
