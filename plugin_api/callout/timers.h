/* SPDX-License-Identifier: Apache-2.0 */

/* callout/timers.h - the extension that runs functions of a plugin later, on threads of the
 * host's: timers, and tasks (timers without a delay). For work in the background, such as
 * reading a list anew once a minute, and for limits of time on what a deferred call waits for.
 *
 *     const callout_timers_t *timers = host->get_extension(host, CALLOUT_TIMERS);  // in create
 *     callout_timer_t every_minute = {sizeof(every_minute)};
 *     every_minute.run = refresh;
 *     every_minute.data = list;
 *     every_minute.period_ns = UINT64_C(60000000000);
 *     status = timers->start(host, &every_minute, &id);
 *
 * C++ has <callout/timers.hpp>. Tests: <callout/testing.hpp> has a clock that they set.
 *
 * Threads. `run` and `release` are called on threads that serve no stream, beside hooks of the
 * instance (tag [timer]). Those of one instance never overlap, so that a slow one delays only the
 * other timers of its instance. `run` may wait for something; the threads are shared by all
 * plugins, and --max_timer_threads limits them.
 *
 * Life. A timer that is started in callout_plugin_create runs after create has returned OK. Before
 * callout_plugin_destroy is called, the host ends the instance's timers: none runs any more, and
 * one that runs is waited for. Where a plugin is only checked (--check) none runs.
 */
#ifndef CALLOUT_TIMERS_H_
#define CALLOUT_TIMERS_H_

#include <callout/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CALLOUT_TIMERS "callout.timers/1"

/* The least period, 1 ms, and the longest delay and period, 365 days, in nanoseconds. */
#define CALLOUT_TIMER_PERIOD_MIN_NS UINT64_C(1000000)
#define CALLOUT_TIMER_NS_MAX UINT64_C(31536000000000000)

/* What start() runs, and when. Start from zero. FROZEN. */
typedef struct callout_timer {
  uint32_t struct_size;
  uint32_t reserved;       /* 0 */
  void (*run)(void* data); /* [timer] */
  /* Optional. Called exactly once for each start() that returned OK, when the host uses `data` no
   * more: after the last run, after a cancel, or before destroy. On a [timer] thread or on that of
   * the function that ends the timer: cancel(), or the host's own before destroy. */
  void (*release)(void* data);
  void* data;
  uint64_t delay_ns;  /* from now to the first run; 0: as soon as a thread is free */
  uint64_t period_ns; /* from the end of a run to the next; 0: it runs once */
} callout_timer_t;

/* FROZEN. */
typedef struct callout_timers {
  uint32_t struct_size;
  uint32_t reserved;
  /* Starts a timer. `id` is never that of another timer of the process.
   * INVALID_ARGUMENT: no `run`, or a time out of its limits. RESOURCE_EXHAUSTED: the instance has
   * --max_timers of them. UNAVAILABLE: the host could not start a thread. FAILED_PRECONDITION:
   * the instance is being destroyed. After an error neither function is called. [any] */
  callout_status_t (*start)(const callout_host_t* host, const callout_timer_t* timer, uint64_t* id);
  /* Ends a timer. It never waits, so it may be called with a lock held that `run` takes, and from
   * `run` itself.
   * OK: it runs no more; `release` has been called. ABORTED: it is running at this moment, and
   * will not run again; `release` is called after the run. NOT_FOUND: it is over. [any] */
  callout_status_t (*cancel)(const callout_host_t* host, uint64_t id);
} callout_timers_t;

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* CALLOUT_TIMERS_H_ */
