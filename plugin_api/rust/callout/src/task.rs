// SPDX-License-Identifier: Apache-2.0

//! Async hooks and timers: a future of a call that could not end in its hook, or of a timer's run, and the
//! thread that goes on with it. One thread for each instance, started by the first future that waits,
//! joined by destroy.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::call::RawCall;
use crate::ffi::panic_text;
use crate::host::{bytes, monotonic_ns, Host};
use crate::raw;

thread_local! {
    /// The deadline of the call whose future this thread polls now, in CLOCK_MONOTONIC; 0: there is none.
    static DEADLINE_NS: Cell<u64> = const { Cell::new(0) };
}

/// How long what an async hook waits for may take, so that the hook can still answer: the time to the
/// deadline of the hook that is polled now, less an eighth, at most 50 ms. `None`: there is no deadline.
pub(crate) fn time_to_wait() -> Option<Duration> {
    const RESERVE_MAX: Duration = Duration::from_millis(50);
    let deadline = Some(DEADLINE_NS.get()).filter(|deadline| *deadline != 0)?;
    let left = Duration::from_nanos(deadline.saturating_sub(monotonic_ns()));
    let time = left - (left / 8).min(RESERVE_MAX);
    Some(time.max(Duration::from_nanos(1)))
}

type CallFuture = Pin<Box<dyn Future<Output = raw::Status> + Send>>;

pub(crate) struct Executor {
    name: String,
    work: Mutex<Work>,
    woken: Condvar,
}

#[derive(Default)]
struct Work {
    queue: VecDeque<Job>,
    /// Those that are not over: `stop` drops their futures.
    background: Vec<Arc<Background>>,
    thread: Option<JoinHandle<()>>,
    is_polling: bool,
    stopped: bool,
}

enum Job {
    Call(Arc<Task>),
    Background(Arc<Background>),
}

/// What a panic interrupts is whole: nothing panics under these locks.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Executor {
    pub fn new(instance: &str) -> Arc<Executor> {
        // Linux keeps 15 bytes of it.
        let name = format!("async {instance}").replace('\0', "");
        Arc::new(Executor {
            name,
            work: Mutex::default(),
            woken: Condvar::new(),
        })
    }

    /// Whether there is a thread.
    fn start(self: &Arc<Self>) -> bool {
        let mut work = lock(&self.work);
        if work.thread.is_none() {
            let executor = self.clone();
            let thread = std::thread::Builder::new()
                .name(self.name.clone())
                .spawn(move || executor.run());
            work.thread = thread.ok();
        }
        work.thread.is_some()
    }

    fn push(&self, job: Job) {
        let mut work = lock(&self.work);
        if work.stopped {
            return;
        }
        work.queue.push_back(job);
        drop(work);
        self.woken.notify_one();
    }

    /// Starts a future of no call. `None`: no thread could be started, or the instance is being destroyed.
    pub fn spawn(self: &Arc<Self>, host: Host, future: Forgotten) -> Option<Arc<Background>> {
        if !self.start() {
            return None;
        }
        let background = Arc::new(Background {
            executor: Arc::downgrade(self),
            host,
            future: Mutex::new(Some(future)),
            queued: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let mut work = lock(&self.work);
        if work.stopped {
            return None;
        }
        work.background.push(background.clone());
        drop(work);
        background.clone().wake();
        Some(background)
    }

    /// Whether the thread has nothing to do.
    pub fn is_idle(&self) -> bool {
        let work = lock(&self.work);
        work.queue.is_empty() && !work.is_polling
    }

    fn run(&self) {
        let mut work = lock(&self.work);
        loop {
            if let Some(job) = work.queue.pop_front() {
                work.is_polling = true;
                drop(work);
                match &job {
                    Job::Call(task) => task.later_poll(),
                    Job::Background(background) => background.poll(),
                }
                drop(job);
                work = lock(&self.work);
                work.is_polling = false;
            } else if work.stopped {
                return;
            } else {
                work = self
                    .woken
                    .wait(work)
                    .unwrap_or_else(|poisoned| poisoned.into_inner());
            }
        }
    }

    /// All calls are finished, and no timer runs: nothing is polled any more.
    pub fn stop(&self) {
        let mut work = lock(&self.work);
        work.stopped = true;
        work.queue.retain(|job| matches!(job, Job::Call(_)));
        let thread = work.thread.take();
        let background = std::mem::take(&mut work.background);
        drop(work);
        self.woken.notify_one();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        background.iter().for_each(|background| background.end());
    }
}

pub(crate) type Forgotten = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A future that nobody waits for.
pub(crate) struct Background {
    /// Weak: what the future holds may hold the executor.
    executor: Weak<Executor>,
    host: Host,
    /// Until it is over.
    future: Mutex<Option<Forgotten>>,
    queued: AtomicBool,
    is_over: AtomicBool,
}

impl Wake for Background {
    fn wake(self: Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(executor) = self.executor.upgrade() {
            executor.push(Job::Background(self));
        }
    }
}

impl Background {
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn poll(self: &Arc<Self>) {
        self.queued.store(false, Ordering::Release);
        let mut slot = lock(&self.future);
        let Some(future) = slot.as_mut() else {
            return; // A wake that came after the end.
        };
        let waker = Waker::from(self.clone());
        let polled = catch_unwind(AssertUnwindSafe(|| {
            future.as_mut().poll(&mut Context::from_waker(&waker))
        }));
        match polled {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(())) => {}
            Err(panic) => self
                .host
                .error(format!("timer: {}", panic_text(panic.as_ref()))),
        }
        drop(slot);
        self.end();
        if let Some(executor) = self.executor.upgrade() {
            lock(&executor.work)
                .background
                .retain(|known| !std::ptr::eq(&**known, &**self));
        }
    }

    fn end(&self) {
        let future = lock(&self.future).take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
            let text = panic_text(panic.as_ref());
            self.host.error(format!("dropping a timer: {text}"));
        }
        self.is_over.store(true, Ordering::Release);
    }
}

pub(crate) struct Task {
    executor: Arc<Executor>,
    call: RawCall,
    /// Until it is over.
    future: Mutex<Option<CallFuture>>,
    queued: AtomicBool,
    cancelled: AtomicBool,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.executor.clone().push(Job::Call(self));
        }
    }
}

impl Task {
    pub fn new(executor: Arc<Executor>, call: RawCall, future: CallFuture) -> Arc<Task> {
        Arc::new(Task {
            executor,
            call,
            future: Mutex::new(Some(future)),
            queued: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
        })
    }

    /// The client has left: the future is dropped, if it is not over before.
    pub fn cancel(self: Arc<Self>) {
        self.cancelled.store(true, Ordering::Release);
        self.wake();
    }

    /// In the hook, on the host's thread. A wake from elsewhere waits for the future's lock.
    pub fn first_poll(self: Arc<Self>) -> raw::Status {
        let mut future = lock(&self.future);
        match self.poll(&mut future) {
            Poll::Ready(status) => status,
            Poll::Pending if self.executor.start() => raw::DEFERRED,
            Poll::Pending => {
                self.drop_future(&mut future);
                self.set_error("no thread could be started for async hooks");
                raw::UNAVAILABLE
            }
        }
    }

    fn later_poll(self: &Arc<Self>) {
        self.queued.store(false, Ordering::Release);
        let mut future = lock(&self.future);
        if future.is_none() {
            return; // A wake that came after the end.
        }
        let status = if self.cancelled.load(Ordering::Acquire) {
            self.drop_future(&mut future);
            raw::CANCELLED
        } else {
            match self.poll(&mut future) {
                Poll::Pending => return,
                Poll::Ready(status) => status,
            }
        };
        drop(future);
        let call = self.call.0;
        // SAFETY: the call is deferred, and nobody else finishes it.
        unsafe { ((*(*call).host).finish)(call, status) };
    }

    /// A panic ends the call as a fault. The future is gone once it is ready.
    fn poll(self: &Arc<Self>, slot: &mut Option<CallFuture>) -> Poll<raw::Status> {
        let Some(future) = slot else {
            return Poll::Ready(raw::INTERNAL);
        };
        let waker = Waker::from(self.clone());
        // SAFETY: the call is open until the future is over.
        let outer = DEADLINE_NS.replace(unsafe { (*self.call.0).deadline_ns });
        let polled = catch_unwind(AssertUnwindSafe(|| {
            future.as_mut().poll(&mut Context::from_waker(&waker))
        }));
        DEADLINE_NS.set(outer);
        let status = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(status)) => status,
            Err(panic) => {
                self.set_error(&panic_text(panic.as_ref()));
                raw::INTERNAL
            }
        };
        self.drop_future(slot);
        Poll::Ready(status)
    }

    fn drop_future(&self, slot: &mut Option<CallFuture>) {
        let future = slot.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
            self.set_error(&panic_text(panic.as_ref()));
        }
    }

    fn set_error(&self, text: &str) {
        let call = self.call.0;
        // SAFETY: the call is open until the future is over.
        unsafe { ((*(*call).host).set_error)(call, bytes(text.as_bytes())) }
    }
}
