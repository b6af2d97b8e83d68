// SPDX-License-Identifier: Apache-2.0

// Tells when a file that a plugin has read holds something else, so that it is read again: keys
// that are rotated, a mounted Secret.
//
//   FollowedFile file(path);             // before the file is read
//   …  if (file.has_changed()) …         // for each request: costs a look at the clock
//   …  file.retry();                     // it could not be read then: true again later
//
// Looks at most once a second, and asks the file system, never the file. Any thread.
#ifndef CALLOUT_PLUGINS_SUPPORT_FOLLOWED_FILE_HPP_
#define CALLOUT_PLUGINS_SUPPORT_FOLLOWED_FILE_HPP_

#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>

namespace callout::plugins {

class FollowedFile {
 public:
  explicit FollowedFile(std::string path)
      : path_(std::move(path)), seen_(Look()), next_ns_(NowNs() + kPauseNs) {}

  // True for one caller each time the file has become another.
  bool has_changed() {
    const int64_t now_ns = NowNs();
    int64_t next_ns = next_ns_.load(std::memory_order_relaxed);
    if (now_ns < next_ns || !next_ns_.compare_exchange_strong(next_ns, now_ns + kPauseNs)) {
      return false;
    }
    const Version version = Look();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (version == Version()) return false;  // it is missing, and may return
    if (version == seen_ && !retries_) return false;
    seen_ = version;
    retries_ = false;
    return true;
  }

  // What has changed could not be read, and perhaps not for a reason of the file's own: so
  // has_changed() is true again in a second. Returns whether it is the first time for what the file
  // is now, so that a log does not say the same each second.
  bool retry() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const bool is_first = unread_ != seen_;
    unread_ = seen_;
    retries_ = true;
    return is_first;
  }

 private:
  // Device, inode, size, and when it was written and changed.
  using Version = std::tuple<uint64_t, uint64_t, int64_t, int64_t, int64_t>;

  static constexpr int64_t kPauseNs = 1'000'000'000;

  static int64_t NowNs() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  static int64_t ToNs(const timespec& time) {
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  }
  Version Look() const {
    struct stat status;
    if (stat(path_.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
    return {status.st_dev, status.st_ino, status.st_size, ToNs(status.st_mtim),
            ToNs(status.st_ctim)};
  }

  const std::string path_;
  std::mutex mutex_;  // guards the following
  Version seen_;
  Version unread_;
  bool retries_ = false;
  std::atomic<int64_t> next_ns_;
};

}  // namespace callout::plugins

#endif  // CALLOUT_PLUGINS_SUPPORT_FOLLOWED_FILE_HPP_
