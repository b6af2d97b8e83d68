// SPDX-License-Identifier: Apache-2.0

// What other threads leave for one thread, which is woken for the first of it.
//
//   Mailbox<Posted> mailbox([&] { wake.Set(); });
//   mailbox.Put(posted);                             // any thread
//   for (Posted& posted : mailbox.Take()) …          // the one, once it is woken
//
// `wake` is called with the mailbox locked: once for each Take(), so two calls never
// overlap, and whoever destroys the mailbox after the last Take() finds nobody in it.
#ifndef CALLOUT_HOST_TRANSPORT_MAILBOX_H_
#define CALLOUT_HOST_TRANSPORT_MAILBOX_H_

#include <functional>
#include <mutex>
#include <utility>
#include <vector>

namespace callout::host {

template <class T>
class Mailbox {
 public:
  // `wake` must not touch the mailbox.
  explicit Mailbox(std::function<void()> wake) : wake_(std::move(wake)) {}
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  // Any thread.
  void Put(T item) {
    std::lock_guard<std::mutex> lock(mutex_);
    items_.push_back(std::move(item));
    if (items_.size() == 1) wake_();
  }

  // All that has been put since the last time, in order. One thread.
  std::vector<T> Take() {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(items_, {});
  }

 private:
  const std::function<void()> wake_;
  std::mutex mutex_;  // guards the following
  std::vector<T> items_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_MAILBOX_H_
