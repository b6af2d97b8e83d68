// SPDX-License-Identifier: Apache-2.0

// Signals an event once. Like absl::Notification, but made of standard classes that ThreadSanitizer
// knows.
#ifndef CALLOUT_TESTS_HOST_NOTIFICATION_H_
#define CALLOUT_TESTS_HOST_NOTIFICATION_H_

#include <condition_variable>
#include <mutex>

namespace callout::host {

class Notification {
 public:
  void Notify() {
    std::lock_guard lock(mutex_);
    notified_ = true;
    // Under the lock, since the waiting thread may destroy this at once.
    changed_.notify_all();
  }
  void WaitForNotification() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return notified_; });
  }
  bool HasBeenNotified() const {
    std::lock_guard lock(mutex_);
    return notified_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool notified_ = false;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_NOTIFICATION_H_
