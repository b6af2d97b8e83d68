// SPDX-License-Identifier: Apache-2.0

// Counts threads that the constructors of a file start while it is loaded.
//
//   ThreadWatch watch;
//   … dlopen …
//   const size_t started = watch.CountStarted();
//
// A new thread inherits the name of the thread that starts it, so the calling thread has a special
// name while the watch lives. Threads that have ended or renamed themselves are not counted. One
// thread, and one watch at a time.
//
// Tested by tests/broken/broken_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_THREAD_WATCH_H_
#define CALLOUT_HOST_PLUGIN_THREAD_WATCH_H_

#include <array>
#include <cstddef>
#include <string>
#include <vector>

namespace callout::host {

class ThreadWatch {
 public:
  ThreadWatch();
  ~ThreadWatch();
  ThreadWatch(const ThreadWatch&) = delete;
  ThreadWatch& operator=(const ThreadWatch&) = delete;

  size_t CountStarted() const;

 private:
  std::array<char, 16> previous_name_{};
  std::vector<std::string> known_;  // started while other files were loaded
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_THREAD_WATCH_H_
