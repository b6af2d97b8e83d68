// SPDX-License-Identifier: Apache-2.0

//! Async hooks: a future of a call that could not end in its hook, and the thread that goes on with
//! it. One thread for each instance, started by the first future that waits, joined by destroy.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;

use crate::call::RawCall;
use crate::ffi::panic_text;
use crate::host::bytes;
use crate::raw;

type CallFuture = Pin<Box<dyn Future<Output = raw::Status> + Send>>;

pub(crate) struct Executor {
    name: String,
    work: Mutex<Work>,
    woken: Condvar,
}

#[derive(Default)]
struct Work {
    queue: VecDeque<Arc<Task>>,
    thread: Option<JoinHandle<()>>,
    stopped: bool,
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

    fn push(&self, task: Arc<Task>) {
        let mut work = lock(&self.work);
        if work.stopped {
            return;
        }
        work.queue.push_back(task);
        drop(work);
        self.woken.notify_one();
    }

    fn run(&self) {
        let mut work = lock(&self.work);
        loop {
            if let Some(task) = work.queue.pop_front() {
                drop(work);
                task.later_poll();
                drop(task);
                work = lock(&self.work);
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

    /// All calls are finished: nothing is polled any more.
    pub fn stop(&self) {
        let mut work = lock(&self.work);
        work.stopped = true;
        let thread = work.thread.take();
        drop(work);
        self.woken.notify_one();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
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
            self.executor.clone().push(self);
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
        let polled = catch_unwind(AssertUnwindSafe(|| {
            future.as_mut().poll(&mut Context::from_waker(&waker))
        }));
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
