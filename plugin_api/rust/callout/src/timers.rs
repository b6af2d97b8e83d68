// SPDX-License-Identifier: Apache-2.0

//! Functions that the host runs later, on its own threads: the extension `callout.timers/1`.
//!
//! ```
//! use std::time::Duration;
//! use callout::{timers::Timers, Result, Setup};
//!
//! fn create(setup: &mut Setup) -> Result {
//!     let host = setup.host().clone();
//!     let minute = Duration::from_secs(60);
//!     Timers::new(setup.host())?.every(minute, move || host.info("another minute"))?;
//!     Ok(())
//! }
//! ```
//!
//! The functions of an instance never overlap and run beside its hooks; share state with them by an
//! `Arc`. They may wait for something. None runs once the instance is being destroyed. A panic is
//! logged, and does not end the timer.

use std::ffi::c_void;
use std::future::Future;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::error::{Error, Result, Status};
use crate::ffi::panic_text;
use crate::host::{Extension, Host};
use crate::plugin::nanoseconds;
use crate::raw;
use crate::task::{lock, Background};

/// Starts timers of one instance.
#[derive(Clone)]
pub struct Timers {
    host: Host,
    timers: Extension<raw::Timers>,
}

/// A timer that has been started. It goes on when this is dropped.
#[derive(Clone)]
pub struct Timer {
    timers: Extension<raw::Timers>,
    id: u64,
}

struct Job {
    host: Host,
    function: Box<dyn FnMut() + Send>,
}

impl Timers {
    /// `Err`: this host is older than the extension.
    pub fn new(host: &Host) -> Result<Timers> {
        Ok(Timers {
            host: host.clone(),
            // SAFETY: the id is that of the table.
            timers: unsafe { Extension::new(host, raw::TIMERS, "this host has no timers") }?,
        })
    }

    /// Runs `function` once, as soon as a thread is free.
    pub fn soon(&self, function: impl FnOnce() + Send + 'static) -> Result<Timer> {
        self.after(Duration::ZERO, function)
    }

    /// Runs `function` once, after a delay of at most 365 days.
    pub fn after(
        &self,
        delay: Duration,
        function: impl FnOnce() + Send + 'static,
    ) -> Result<Timer> {
        let mut function = Some(function);
        let once = move || {
            if let Some(function) = function.take() {
                function()
            }
        };
        self.start(delay, None, Box::new(once))
    }

    /// Runs `function` soon and then again each time that a period of at least 1 ms has passed since
    /// its end.
    pub fn every(
        &self,
        period: Duration,
        function: impl FnMut() + Send + 'static,
    ) -> Result<Timer> {
        self.start(Duration::ZERO, Some(period), Box::new(function))
    }

    /// The same with an async function, which may wait for [calls to services](crate::calls) and [`sleep`]
    /// without a thread of the host's. It runs on the thread of the instance's async hooks. A run that has
    /// not ended when the next one is due makes the timer leave that one out; one that has not ended when the
    /// instance is destroyed is dropped.
    ///
    /// ```
    /// # use std::{sync::{Arc, RwLock}, time::Duration};
    /// # use callout::{calls::{Request, Upstream}, timers::Timers, Result, Setup};
    /// # fn create(setup: &mut Setup) -> Result {
    /// let users = Upstream::new(setup.host(), "users")?;
    /// let list = Arc::new(RwLock::new(Vec::new()));
    /// Timers::new(setup.host())?.every_async(Duration::from_secs(30), move || {
    ///     let (users, list) = (users.clone(), list.clone());
    ///     async move {
    ///         if let Ok(response) = users.call(Request::get("/list")).await {
    ///             *list.write().unwrap() = response.body;
    ///         }
    ///     }
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn every_async<W>(
        &self,
        period: Duration,
        mut function: impl FnMut() -> W + Send + 'static,
    ) -> Result<Timer>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let host = self.host.clone();
        let mut last: Option<Arc<Background>> = None;
        self.every(period, move || {
            if last.as_ref().is_some_and(|run| !run.is_over()) {
                return;
            }
            last = host.executor().spawn(host.clone(), Box::pin(function()));
            if last.is_none() {
                host.error("timer: no thread could be started for async functions");
            }
        })
    }

    fn start(
        &self,
        delay: Duration,
        period: Option<Duration>,
        function: Box<dyn FnMut() + Send>,
    ) -> Result<Timer> {
        let refused = |status, text: &str| Err(Error::with_status(Status::from_raw(status), text));
        if period.is_some_and(|period| nanoseconds(period) < raw::TIMER_PERIOD_MIN_NS) {
            return refused(raw::INVALID_ARGUMENT, "a timer's period is at least 1 ms");
        }
        let data: *mut c_void = Box::into_raw(Box::new(Job {
            host: self.host.clone(),
            function,
        }))
        .cast();
        let timer = raw::Timer {
            struct_size: size_of::<raw::Timer>() as u32,
            reserved: 0,
            run: Some(run),
            release: Some(release),
            data,
            delay_ns: nanoseconds(delay),
            period_ns: period.map_or(0, nanoseconds),
        };
        let mut id = 0;
        // SAFETY: both tables live.
        let status = self
            .timers
            .call(|table, host| unsafe { ((*table).start)(host, &timer, &mut id) });
        match status {
            raw::OK => Ok(Timer {
                timers: self.timers.clone(),
                id,
            }),
            other => {
                // SAFETY: after an error the host calls neither function.
                unsafe { release(data) };
                refused(other, "the host started no timer")
            }
        }
    }
}

impl Timer {
    /// Ends the timer, without waiting. `false`: it is over, or is in its last run at this moment.
    pub fn cancel(&self) -> bool {
        // SAFETY: both tables live.
        let status = self
            .timers
            .call(|table, host| unsafe { ((*table).cancel)(host, self.id) });
        status == raw::OK
    }
}

unsafe extern "C" fn run(data: *mut c_void) {
    // SAFETY: runs of a timer never overlap, and release comes after the last.
    let job = unsafe { &mut *data.cast::<Job>() };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (job.function)())) {
        job.host
            .error(format!("timer: {}", panic_text(panic.as_ref())));
    }
}

unsafe extern "C" fn release(data: *mut c_void) {
    // SAFETY: it is called exactly once.
    let job = unsafe { Box::from_raw(data.cast::<Job>()) };
    let host = job.host.clone();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(job))) {
        host.error(format!("dropping a timer: {}", panic_text(panic.as_ref())));
    }
}

/// Waits in an async hook, by a timer. `Err`: the host started none.
pub fn sleep(host: &Host, time: Duration) -> Sleep {
    Sleep {
        host: host.clone(),
        time,
        state: None,
    }
}

/// See [`sleep`].
#[must_use = "nothing sleeps before it is awaited: add .await"]
pub struct Sleep {
    host: Host,
    time: Duration,
    state: Option<(Timer, Arc<Mutex<SleepState>>)>,
}

#[derive(Default)]
struct SleepState {
    is_over: bool,
    waker: Option<Waker>,
}

impl Future for Sleep {
    type Output = Result;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result> {
        if let Some((_, state)) = &self.state {
            let mut state = lock(state);
            state.waker = Some(context.waker().clone());
            return if state.is_over {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        }
        let state = Arc::new(Mutex::new(SleepState {
            is_over: false,
            waker: Some(context.waker().clone()),
        }));
        let over = state.clone();
        let end = move || {
            let mut state = lock(&over);
            state.is_over = true;
            let waker = state.waker.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake()
            }
        };
        let started = Timers::new(&self.host).and_then(|timers| timers.after(self.time, end));
        match started {
            Ok(timer) => self.state = Some((timer, state)),
            Err(error) => return Poll::Ready(Err(error)),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((timer, _)) = &self.state {
            timer.cancel();
        }
    }
}
