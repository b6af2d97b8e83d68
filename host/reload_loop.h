// The thread that follows the operator's plugin files: waits for something to
// happen, and lets the reloader look.
//
//   ReloadLoop loop;                                   // wake() can be handed out
//   PluginSet set({…}, loop.waker());
//   Reloader reloader({.target = &set, …});
//   … reloader.LoadFirst(…) …
//   loop.Start(&reloader, [&set] { set.Bury(); });
//   loop.Stop();                                       // before reloader and set go
//
// All but the waker and LookAgain belong to one thread.
#ifndef CALLOUT_HOST_RELOAD_LOOP_H_
#define CALLOUT_HOST_RELOAD_LOOP_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

#include "host/directory_watch.h"
#include "host/reloader.h"

namespace callout::host {

class ReloadLoop {
 public:
  ReloadLoop();
  ~ReloadLoop() { Stop(); }
  ReloadLoop(const ReloadLoop&) = delete;
  ReloadLoop& operator=(const ReloadLoop&) = delete;

  // Wakes the loop, from any thread and also before Start and after Stop.
  std::function<void()> waker() const;

  // `chores` is run on the loop's thread whenever it wakes. Both arguments live
  // until Stop.
  void Start(Reloader* reloader, std::function<void()> chores);

  // Looks even if nothing seems to have happened, and tries refused files again.
  // Any thread.
  void LookAgain();

  // Ends the thread, after the look under way. Harmless twice.
  void Stop();

 private:
  // A descriptor to wake the thread by; shared with wakers that outlive the loop.
  struct Wake;

  void Run();
  void Sleep(uint64_t due_ns) const;

  const std::shared_ptr<const Wake> wake_;
  const std::unique_ptr<DirectoryWatch> watch_;
  Reloader* reloader_ = nullptr;
  std::function<void()> chores_;
  std::atomic<bool> again_{false};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_LOOP_H_
