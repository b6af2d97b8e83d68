// SPDX-License-Identifier: Apache-2.0

//! Calls to other services, over HTTP or gRPC, to upstreams that the operator has configured
//! (`--upstreams`): the extension `callout.calls/1`.
//!
//! ```no_run
//! # use callout::{calls::{Request, Upstream}, Host, Result};
//! # async fn example(users: &Upstream) -> Result {
//! let response = users.call(Request::get("/users/ada")).await?;
//! if response.http_status == 200 { /* … */ }
//! # Ok(())
//! # }
//! ```
//!
//! Make the [`Upstream`] in `create`, so that a wrong name refuses the configuration. Calls can be made in
//! async hooks, and in [`Timers::every_async`](crate::timers::Timers::every_async). Dropping the future cancels the call, so a call
//! ends with the client that it is made for. The host pools connections, limits, retries and breaks
//! circuits; docs/upstreams.md has the options.

use std::ffi::c_void;
use std::future::Future;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{fmt, slice};

use crate::error::{Error, Result, Status};
use crate::host::{bytes, view, Extension, Host};
use crate::plugin::nanoseconds;
use crate::raw;
use crate::task::{lock, time_to_wait};

/// A service that the operator has configured.
#[derive(Clone)]
pub struct Upstream {
    calls: Extension<raw::Calls>,
    name: String,
}

/// What is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Upper case; empty: POST if there is a body, else GET. Of gRPC: empty.
    pub method: String,
    /// With the query; of gRPC `/package.Service/Method`.
    pub path: String,
    /// Names in any case.
    pub headers: Vec<(String, String)>,
    /// Of gRPC: the serialized message.
    pub body: Vec<u8>,
    /// It may reach the service twice, and so may be sent again if the connection breaks. GET and its
    /// like may always.
    pub idempotent: bool,
    /// For all of it, retries included; `None`: the upstream's. It can only shorten that, and in an async
    /// hook what [`Upstream::call`] says.
    pub timeout: Option<Duration>,
    is_grpc: bool,
}

impl Request {
    /// A GET of a path.
    pub fn get(path: impl Into<String>) -> Request {
        Request {
            path: path.into(),
            ..Request::default()
        }
    }
    /// A POST to a path.
    pub fn post(path: impl Into<String>, body: impl Into<Vec<u8>>) -> Request {
        Request {
            method: "POST".into(),
            path: path.into(),
            body: body.into(),
            ..Request::default()
        }
    }
    /// A unary gRPC call: `/package.Service/Method`, and the serialized message.
    pub fn grpc(path: impl Into<String>, message: impl Into<Vec<u8>>) -> Request {
        Request {
            path: path.into(),
            body: message.into(),
            is_grpc: true,
            ..Request::default()
        }
    }
    /// Adds a header, or metadata of gRPC.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }
    /// Whether it is a gRPC call.
    pub fn is_grpc(&self) -> bool {
        self.is_grpc
    }
}

/// What a service said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Of any value: a 500 is a response too.
    pub http_status: u32,
    /// Names are in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// After the body.
    pub trailers: Vec<(String, Vec<u8>)>,
    /// Of gRPC: the serialized message.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_slice())
    }
}

/// Why there is no response; of gRPC also what the service said in place of one.
///
/// `?` makes a fault of it: what a service says never becomes a decision of the plugin by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `Unavailable`: no connection, a broken one, or the circuit is open. `DeadlineExceeded`.
    /// `ResourceExhausted`: over a limit. `DataLoss`: no valid HTTP or gRPC. Of gRPC any.
    pub status: Status,
    /// A gRPC service has said it.
    pub from_service: bool,
    /// For a log.
    pub message: String,
}

impl Failure {
    /// One that is not the service's own word, such as tests give.
    pub fn new(status: Status, message: impl Into<String>) -> Failure {
        Failure {
            status,
            from_service: false,
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.status, self.message)
    }
}

impl std::error::Error for Failure {}

impl Upstream {
    /// `Err`: there is no upstream of this name, or this host is older than the extension.
    pub fn new(host: &Host, name: &str) -> Result<Upstream> {
        // SAFETY: the id is that of the table.
        let calls: Extension<raw::Calls> =
            unsafe { Extension::new(host, raw::CALLS, "this host makes no calls") }?;
        // SAFETY: both tables live; the name is copied.
        let found = calls.call(|table, host| unsafe {
            ((*table).find)(host, bytes(name.as_bytes()), std::ptr::null_mut())
        });
        if found != raw::OK {
            let text = format!(
                "there is no upstream {name:?}: the operator names upstreams in the file of --upstreams"
            );
            return Err(Error::with_status(Status::InvalidArgument, text));
        }
        Ok(Upstream {
            calls,
            name: name.to_string(),
        })
    }

    /// Makes a call, once the future is awaited.
    ///
    /// In an async hook the call takes at most the time that the hook has left, less an eighth of it (at most
    /// 50 ms): so a hook whose service is slow gets a [`Failure`] with `DeadlineExceeded`, and can still
    /// refuse the request in time.
    ///
    /// What is not awaited is not made, and the compiler warns:
    ///
    /// ```compile_fail
    /// #![deny(unused_must_use)]
    /// # use callout::calls::{Request, Upstream};
    /// # async fn example(users: &Upstream) {
    /// users.call(Request::get("/users/ada"));
    /// # }
    /// ```
    pub fn call(&self, request: Request) -> Call {
        Call {
            upstream: self.clone(),
            request: Some(request),
            started: None,
        }
    }
}

/// See [`Upstream::call`].
#[must_use = "a call is not made before it is awaited: add .await"]
pub struct Call {
    upstream: Upstream,
    request: Option<Request>,
    started: Option<(u64, Arc<Mutex<Pending>>)>,
}

#[derive(Default)]
struct Pending {
    outcome: Option<std::result::Result<Response, Failure>>,
    waker: Option<Waker>,
}

impl Future for Call {
    type Output = std::result::Result<Response, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(request) = self.request.take() {
            let pending = Arc::new(Mutex::new(Pending {
                outcome: None,
                waker: Some(context.waker().clone()),
            }));
            match self.upstream.start(&request, pending.clone()) {
                Ok(id) => self.started = Some((id, pending)),
                Err(failure) => return Poll::Ready(Err(failure)),
            }
        }
        let Some((_, pending)) = &self.started else {
            return Poll::Pending; // It was ready before.
        };
        let mut pending = lock(pending);
        pending.waker = Some(context.waker().clone());
        match pending.outcome.take() {
            None => Poll::Pending,
            Some(outcome) => {
                drop(pending);
                self.started = None;
                Poll::Ready(outcome)
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some((id, _)) = self.started {
            // SAFETY: both tables live.
            self.upstream
                .calls
                .call(|table, host| unsafe { ((*table).cancel)(host, id) });
        }
    }
}

impl Upstream {
    fn start(
        &self,
        request: &Request,
        pending: Arc<Mutex<Pending>>,
    ) -> std::result::Result<u64, Failure> {
        let field = |(name, value): &(String, String)| raw::HeaderField {
            name: bytes(name.as_bytes()),
            value: bytes(value.as_bytes()),
        };
        let headers: Vec<raw::HeaderField> = request.headers.iter().map(field).collect();
        let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
        let data: *mut c_void = Box::into_raw(Box::new(pending)).cast();
        let outgoing = raw::Outgoing {
            struct_size: size_of::<raw::Outgoing>() as u32,
            flags: flag(request.is_grpc, raw::OUTGOING_GRPC)
                | flag(request.idempotent, raw::OUTGOING_IDEMPOTENT),
            upstream: bytes(self.name.as_bytes()),
            method: bytes(request.method.as_bytes()),
            path: bytes(request.path.as_bytes()),
            headers: headers.as_ptr(),
            header_count: headers.len(),
            body: bytes(&request.body),
            timeout_ns: [request.timeout, time_to_wait()]
                .into_iter()
                .flatten()
                .min()
                .map_or(0, |timeout| nanoseconds(timeout).max(1)),
            done: Some(done),
            release: Some(release),
            data,
        };
        let mut id = 0;
        // SAFETY: both tables live; all of the request is copied.
        let status = self
            .calls
            .call(|table, host| unsafe { ((*table).start)(host, &outgoing, &mut id) });
        match status {
            raw::OK => Ok(id),
            other => {
                // SAFETY: after an error the host calls neither function.
                unsafe { release(data) };
                let message = format!(
                    "the call to upstream {:?} was not started; the host's log says why",
                    self.name
                );
                Err(Failure {
                    status: Status::from_raw(other),
                    from_service: false,
                    message,
                })
            }
        }
    }
}

unsafe extern "C" fn done(data: *mut c_void, incoming: *const raw::Incoming) {
    // SAFETY: start has made it, and release comes later; the views live until this returns.
    let (pending, incoming) = unsafe { (&*data.cast::<Arc<Mutex<Pending>>>(), &*incoming) };
    let outcome = unsafe { read(incoming) };
    let mut pending = lock(pending);
    pending.outcome = Some(outcome);
    let waker = pending.waker.take();
    drop(pending);
    // What wakes may be anybody's.
    let _ = catch_unwind(AssertUnwindSafe(|| waker.map(Waker::wake)));
}

unsafe extern "C" fn release(data: *mut c_void) {
    // SAFETY: it is called exactly once.
    drop(unsafe { Box::from_raw(data.cast::<Arc<Mutex<Pending>>>()) });
}

unsafe fn read(incoming: &raw::Incoming) -> std::result::Result<Response, Failure> {
    if incoming.status != raw::OK {
        return Err(Failure {
            status: Status::from_raw(incoming.status),
            from_service: incoming.from_service != 0,
            message: String::from_utf8_lossy(unsafe { view(incoming.message) }).into_owned(),
        });
    }
    let fields = |fields: *const raw::HeaderField, count: usize| -> Vec<(String, Vec<u8>)> {
        if count == 0 {
            return Vec::new();
        }
        let fields = unsafe { slice::from_raw_parts(fields, count) };
        let field = |field: &raw::HeaderField| unsafe {
            (
                String::from_utf8_lossy(view(field.name)).into_owned(),
                view(field.value).to_vec(),
            )
        };
        fields.iter().map(field).collect()
    };
    Ok(Response {
        http_status: incoming.http_status,
        headers: fields(incoming.headers, incoming.header_count),
        trailers: fields(incoming.trailers, incoming.trailer_count),
        body: unsafe { view(incoming.body) }.to_vec(),
    })
}
