// SPDX-License-Identifier: Apache-2.0

// The thread that follows the operator's plugin files: waits for something to
// happen, and lets the reloader look.
//
//   ReloadLoop loop(wake);
//   loop.Start(&reloader, [&set] { set.Bury(); });
//   loop.Stop();                                       // before reloader and set go
//
// All but RescanAll belong to one thread.
//
// Tested by tests/reload/following_test.cc.
#ifndef CALLOUT_HOST_RELOAD_RELOAD_LOOP_H_
#define CALLOUT_HOST_RELOAD_RELOAD_LOOP_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "host/base/directory_watch.h"
#include "host/base/wake.h"
#include "host/reload/reloader.h"

namespace callout::host {

class ReloadLoop {
 public:
  // Whoever sets `wake` wakes the loop.
  explicit ReloadLoop(std::shared_ptr<const Wake> wake);
  ~ReloadLoop() { Stop(); }
  ReloadLoop(const ReloadLoop&) = delete;
  ReloadLoop& operator=(const ReloadLoop&) = delete;

  // `chores` is run on the loop's thread whenever it wakes. Both arguments live
  // until Stop.
  void Start(Reloader* reloader, std::function<void()> chores);

  // Looks even if nothing seems to have happened, and tries refused files again.
  // Any thread.
  void RescanAll();

  // Ends the thread, after the look under way. Harmless twice.
  void Stop();
  // The same in two steps. False if the look under way is not done within
  // `timeout_ms`; the thread is then still there.
  void BeginStop();
  bool AwaitStop(uint64_t timeout_ms);

 private:
  void Run();
  void Sleep(uint64_t due_ns) const;

  const std::shared_ptr<const Wake> wake_;
  const std::unique_ptr<DirectoryWatch> watch_;
  Reloader* reloader_ = nullptr;
  std::function<void()> chores_;
  std::atomic<bool> again_{false};
  std::atomic<bool> stop_{false};
  std::mutex ended_mutex_;  // guards the following
  std::condition_variable ended_changed_;
  bool ended_ = true;
  std::thread thread_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_RELOAD_LOOP_H_
