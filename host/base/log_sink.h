// SPDX-License-Identifier: Apache-2.0

// Where the log's lines go: standard error, written by spdlog's logger, either at
// once or through a bounded queue and a thread of spdlog's.
//
// spdlog's own stderr sink does not do here: it says nothing of lines that could not
// be written, and spdlog's queue bounds lines but not bytes and cannot be waited for
// with a time limit. This sink counts both, so that the queue never runs over.
//
// Admit is for any thread; WaitUntilWritten too, also in a signal's handler.
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
  // Of lines that are admitted and not written yet.
  static constexpr size_t kQueueLinesMax = 4096;

  // Makes the notice that so many lines were dropped, as a line's text.
  using Notice = std::string (*)(uint64_t dropped);

  explicit LogSink(Notice notice) : notice_(notice) {}

  // Counts a line of so many bytes as queued. False if the queue has no room: the
  // line is counted as dropped and must not be logged.
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
  uint64_t told_ = 0;  // of the dropped ones; under the base's mutex
  bool torn_ = false;  // the last line went out in part only; under the base's mutex
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_LOG_SINK_H_
