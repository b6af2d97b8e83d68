// SPDX-License-Identifier: Apache-2.0

#include "host/base/log_sink.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "host/base/clock.h"

namespace callout::host {
namespace {

// Writes `bytes` to standard error, however long that takes. Returns how many are left.
size_t WriteAll(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(STDERR_FILENO, bytes.data(), bytes.size());
    if (written > 0) {
      bytes.remove_prefix(static_cast<size_t>(written));
    } else if (written < 0 && errno == EAGAIN) {
      // Another process that shares the descriptor has made it non-blocking.
      pollfd writable = {STDERR_FILENO, POLLOUT, 0};
      poll(&writable, 1, -1);
    } else if (written < 0 && errno != EINTR) {
      break;
    }
  }
  return bytes.size();
}

}  // namespace

bool LogSink::Admit(size_t bytes, size_t queue_bytes_max) {
  const size_t lines = queued_lines_.fetch_add(1, std::memory_order_acq_rel);
  const size_t before = queued_bytes_.fetch_add(bytes, std::memory_order_acq_rel);
  if (lines < kQueueLinesMax && before + bytes <= queue_bytes_max) return true;
  queued_bytes_.fetch_sub(bytes, std::memory_order_acq_rel);
  queued_lines_.fetch_sub(1, std::memory_order_acq_rel);
  dropped_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

bool LogSink::WaitUntilWritten(uint64_t timeout_ms) const {
  const uint64_t give_up_ns = MonotonicNs() + timeout_ms * 1'000'000;
  while (queued_lines_.load(std::memory_order_acquire) != 0) {
    if (MonotonicNs() >= give_up_ns) return false;
    const timespec pause = {0, 1'000'000};
    nanosleep(&pause, nullptr);
  }
  return true;
}

void LogSink::sink_it_(const spdlog::details::log_msg& message) {
  Write(message);
  if (!torn_) WriteNotice();
  // Only lines that passed Admit are counted; the synchronous log does not call it.
  if (queued_lines_.load(std::memory_order_acquire) == 0) return;
  queued_bytes_.fetch_sub(message.payload.size(), std::memory_order_acq_rel);
  queued_lines_.fetch_sub(1, std::memory_order_acq_rel);
}

void LogSink::Write(const spdlog::details::log_msg& message) {
  spdlog::memory_buf_t line;
  if (torn_) line.push_back('\n');
  formatter_->format(message, line);
  const size_t left = WriteAll({line.data(), line.size()});
  if (left > 0) dropped_.fetch_add(1, std::memory_order_relaxed);
  torn_ = left > 0 && (torn_ || left < line.size());
}

// Says how many lines are missing here, once lines can be written again.
void LogSink::WriteNotice() {
  const uint64_t dropped = dropped_.load(std::memory_order_relaxed);
  if (dropped == told_) return;
  const uint64_t count = dropped - told_;
  const std::string text = notice_(count);
  told_ = dropped;
  Write(spdlog::details::log_msg("callout", spdlog::level::warn, text));
}

}  // namespace callout::host
