// SPDX-License-Identifier: Apache-2.0

// callout/timers.hpp - functions that run later, on threads of the host's: timers and tasks, as
// <callout/timers.h> describes them. Include it beside <callout/plugin.hpp>.
//
//     class Listed {
//      public:
//       explicit Listed(callout::Setup& setup) : timers_(setup) {
//         refresh_ = timers_.every(std::chrono::minutes(1), [this] { read_list(); });
//       }
//      private:
//       callout::Timers timers_;
//       callout::Timer refresh_;
//     };
//
// A function may use the plugin's object: none runs before its constructor has returned, nor once
// its destructor has begun. It runs beside hooks, so what they share is for the class to guard.
// What belongs to a stream may be gone: hold it by a std::shared_ptr. What a function throws is
// logged, and a timer with a period goes on.
//
// Thread: Timers and start are [any]; a Timer belongs to one thread at a time.
#ifndef CALLOUT_TIMERS_HPP_
#define CALLOUT_TIMERS_HPP_

#include <callout/timers.h>

#include <callout/host.hpp>
#include <callout/started.hpp>
#include <chrono>
#include <cstdint>
#include <new>
#include <utility>

namespace callout {
namespace internal {

template <class Work>
struct TimerWork {
  const callout_host_t* host;
  Work work;

  static void run(void* data) noexcept {
    TimerWork* self = static_cast<TimerWork*>(data);
    run_and_log(self->host, "a timer", self->work);
  }
  static void release(void* data) noexcept { delete static_cast<TimerWork*>(data); }
};

}  // namespace internal

// A timer that was started. It is cancelled with the object, unless detach() was called.
using Timer = internal::Started<callout_timers_t>;

// Starts timers for an instance.
class Timers {
 public:
  // There are none.
  Timers() = default;
  // The instance is not made if the host has no timers.
  explicit Timers(Setup& setup) : Timers(setup.host().raw()) {
    if (table_ == nullptr) setup.fail("this host has no extension " CALLOUT_TIMERS);
  }
  // False as a bool if the host has none.
  explicit Timers(const callout_host_t* host)
      : host_(host),
        table_(static_cast<const callout_timers_t*>(host->get_extension(host, CALLOUT_TIMERS))) {}
  explicit operator bool() const { return table_ != nullptr; }

  // Runs `work()` once, after `delay`. The result is false if the host has refused it.
  template <class Work>
  [[nodiscard]] Timer after(std::chrono::nanoseconds delay, Work work) const {
    return start(delay, std::chrono::nanoseconds(0), std::move(work));
  }
  // Runs `work()` again and again, `period` (1 ms or more) after the end of its last run; the first
  // time after `first`.
  template <class Work>
  [[nodiscard]] Timer every(std::chrono::nanoseconds period, Work work,
                            std::chrono::nanoseconds first = std::chrono::nanoseconds(0)) const {
    return start(first, period, std::move(work));
  }
  // Runs `work()` as soon as a thread is free. False: the host has refused it.
  template <class Work>
  bool run(Work work) const {
    Timer timer = after(std::chrono::nanoseconds(0), std::move(work));
    const bool is_started = static_cast<bool>(timer);
    timer.detach();
    return is_started;
  }

 private:
  template <class Work>
  Timer start(std::chrono::nanoseconds delay, std::chrono::nanoseconds period, Work work) const {
    using Held = internal::TimerWork<Work>;
    if (table_ == nullptr || delay.count() < 0 || period.count() < 0) return Timer();
    Held* const held = new (std::nothrow) Held{host_, std::move(work)};
    if (held == nullptr) return Timer();
    callout_timer_t timer = {};
    timer.struct_size = sizeof(timer);
    timer.run = Held::run;
    timer.release = Held::release;
    timer.data = held;
    timer.delay_ns = static_cast<uint64_t>(delay.count());
    timer.period_ns = static_cast<uint64_t>(period.count());
    uint64_t id = 0;
    if (table_->start(host_, &timer, &id) == CALLOUT_OK) return Timer(table_, host_, id);
    delete held;
    return Timer();
  }

  const callout_host_t* host_ = nullptr;
  const callout_timers_t* table_ = nullptr;
};

}  // namespace callout

#endif  // CALLOUT_TIMERS_HPP_
