// SPDX-License-Identifier: Apache-2.0

use std::ffi::{c_int, c_long, CStr};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use crate::error::{Error, Result, Status};
use crate::raw;
use crate::task::Executor;

/// The host as an instance sees it: its log and its extensions. Any thread may have a clone; when the
/// instance has been destroyed a clone does nothing any more.
#[derive(Clone)]
pub struct Host {
    shared: Arc<Shared>,
}

struct Shared {
    /// The table of services, gone once `destroy` has returned.
    table: *const raw::Host,
    /// How many threads use the table now, and `OVER`.
    users: AtomicUsize,
    /// Of the instance's async hooks and timers.
    executor: Arc<Executor>,
}

const OVER: usize = 1 << (usize::BITS - 1);

// SAFETY: the table is never written to, its functions are [any] where Host calls them, and `users`
// ends its use before it is gone.
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

/// How bad what is logged is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

impl Level {
    fn to_raw(self) -> raw::LogLevel {
        match self {
            Level::Debug => raw::LOG_DEBUG,
            Level::Info => raw::LOG_INFO,
            Level::Warning => raw::LOG_WARNING,
            Level::Error => raw::LOG_ERROR,
        }
    }
}

impl Host {
    /// # Safety
    /// `table` lives until `end` has returned.
    pub(crate) unsafe fn new(table: *const raw::Host, instance: &str) -> Host {
        Host {
            shared: Arc::new(Shared {
                table,
                users: AtomicUsize::new(0),
                executor: Executor::new(instance),
            }),
        }
    }

    pub(crate) fn executor(&self) -> &Arc<Executor> {
        &self.shared.executor
    }

    /// Returns when nobody uses the table any more, nor will.
    pub(crate) fn end(&self) {
        self.shared.users.fetch_or(OVER, Ordering::SeqCst);
        while self.shared.users.load(Ordering::SeqCst) != OVER {
            std::thread::yield_now();
        }
    }

    /// Calls `function` with the table, unless the instance is over.
    pub(crate) fn with<T>(&self, function: impl FnOnce(*const raw::Host) -> T) -> Option<T> {
        struct User<'a>(&'a AtomicUsize);
        impl Drop for User<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let before = self.shared.users.fetch_add(1, Ordering::SeqCst);
        let _user = User(&self.shared.users);
        (before & OVER == 0).then(|| function(self.shared.table))
    }

    /// Writes one line with the instance's name to the host's log.
    pub fn log(&self, level: Level, text: impl fmt::Display) {
        // SAFETY: the table lives; the text is copied.
        self.with(|host| unsafe {
            if ((*host).log_enabled)(host, level.to_raw()) != 0 {
                ((*host).log)(host, level.to_raw(), bytes(text.to_string().as_bytes()));
            }
        });
    }
    /// See [`Host::log`].
    pub fn debug(&self, text: impl fmt::Display) {
        self.log(Level::Debug, text);
    }
    /// See [`Host::log`].
    pub fn info(&self, text: impl fmt::Display) {
        self.log(Level::Info, text);
    }
    /// See [`Host::log`].
    pub fn warning(&self, text: impl fmt::Display) {
        self.log(Level::Warning, text);
    }
    /// See [`Host::log`].
    pub fn error(&self, text: impl fmt::Display) {
        self.log(Level::Error, text);
    }
}

/// An extension of the host's for one instance: what its functions need.
#[derive(Clone)]
pub(crate) struct Extension<T> {
    host: Host,
    /// It lives as long as the table of services.
    table: *const T,
}

// SAFETY: T is a table of functions, which are [any], and `host` says whether it is still there.
unsafe impl<T> Send for Extension<T> {}
unsafe impl<T> Sync for Extension<T> {}

impl<T> Extension<T> {
    /// The host's table of this id. `Err`, with the text `missing`: this host has none.
    ///
    /// # Safety
    /// The id is that of the table T.
    pub(crate) unsafe fn new(host: &Host, id: &CStr, missing: &str) -> Result<Extension<T>> {
        // SAFETY: the table of services lives.
        let found = host.with(|host| unsafe { ((*host).get_extension)(host, id.as_ptr()) });
        match found {
            Some(table) if !table.is_null() => Ok(Extension {
                host: host.clone(),
                table: table.cast(),
            }),
            _ => Err(Error::with_status(Status::Unimplemented, missing)),
        }
    }

    /// Calls `function` with both tables, which live meanwhile. FAILED_PRECONDITION once the instance is
    /// over.
    pub(crate) fn call(
        &self,
        function: impl FnOnce(*const T, *const raw::Host) -> raw::Status,
    ) -> raw::Status {
        let status = self.host.with(|host| function(self.table, host));
        status.unwrap_or(raw::FAILED_PRECONDITION)
    }
}

/// A metric, served at /metrics with the label `plugin="INSTANCE"`. Any thread may have a clone.
#[derive(Clone)]
pub struct Metric {
    pub(crate) host: Host,
    pub(crate) id: u32,
}

impl Metric {
    /// A counter and an up-down counter add the value, a gauge is set to it, a histogram observes it.
    pub fn record(&self, value: f64) {
        // SAFETY: the table lives.
        self.host
            .with(|host| unsafe { ((*host).metric_record)(host, self.id, value) });
    }
    /// Adds one to a counter.
    pub fn increment(&self) {
        self.record(1.0);
    }
}

pub(crate) fn bytes(bytes: &[u8]) -> raw::Bytes {
    raw::Bytes {
        data: bytes.as_ptr().cast(),
        size: bytes.len(),
    }
}

/// # Safety
/// What `bytes` tells of lives for 'a.
pub(crate) unsafe fn view<'a>(bytes: raw::Bytes) -> &'a [u8] {
    // Rust wants a pointer even where there is nothing.
    if bytes.size == 0 {
        return &[];
    }
    unsafe { std::slice::from_raw_parts(bytes.data.cast(), bytes.size) }
}

/// Now, as nanoseconds of CLOCK_MONOTONIC: the clock of the host's deadlines, which `Instant` does not show.
pub(crate) fn monotonic_ns() -> u64 {
    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: c_long,
    }
    extern "C" {
        // Of the libc that std is linked with.
        fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    }
    const CLOCK_MONOTONIC: c_int = 1;
    let mut now = Timespec {
        seconds: 0,
        nanoseconds: 0,
    };
    // SAFETY: it writes to `now`, which has the layout of a 64-bit Linux, the only one that the host runs on.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut now) };
    now.seconds as u64 * 1_000_000_000 + now.nanoseconds as u64
}
