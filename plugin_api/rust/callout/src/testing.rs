// SPDX-License-Identifier: Apache-2.0

//! A fake host for unit tests: pass messages in, look at what the plugin does.
//!
//! ```
//! # #[derive(Default)] struct Guard;
//! # #[callout::plugin(no_export)]
//! # impl callout::Plugin for Guard {
//! #     fn create(_: (), _: &mut callout::Setup) -> callout::Result<Self> { Ok(Guard) }
//! #     fn request_headers(&self, call: &mut callout::HeadersCall<'_, Self>) -> callout::Result {
//! #         call.deny(403, "no")
//! #     }
//! # }
//! use callout::testing::Instance;
//!
//! let guard = Instance::<Guard>::new("").unwrap();
//! let answer = guard.stream().request_headers(&[(":path", "/"), ("x-role", "guest")]);
//! assert_eq!(answer.http_status(), Some(403));
//! ```
//!
//! It calls the plugin through the C ABI, as the host does. Async hooks are awaited. Time for timers and
//! shared data is the test's: [`Instance::advance`]. While a test waits for an async hook, the time
//! jumps from one timer to the next. What the real host would refuse, such as an invalid header, this
//! one does not find: `callout-test` runs the real one.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_void, CStr, CString};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json};

use crate::calls::{Failure, Request, Response};
use crate::error::{Error, Status};
use crate::ffi::{self, Exported};
use crate::host::{bytes, monotonic_ns, view};
use crate::plugin::Phase;
use crate::task::lock;
use crate::wire::{put_bytes, put_message, put_number, Records};
use crate::{json, raw, Level};

/// How long a test waits for an async hook.
const WAIT_MAX: Duration = Duration::from_secs(10);
const VALUE_BYTES_MAX: usize = 1 << 20;

// --- The host ---

#[repr(C)]
struct FakeHost {
    /// First, so that the plugin's pointer is one to all of it.
    table: raw::Host,
    state: Mutex<HostState>,
}

struct HostState {
    logs: Vec<(Level, String)>,
    last_error: Option<String>,
    metrics: Vec<(String, raw::MetricKind, f64)>,
    followed_files: Vec<String>,
    created: bool,
    closed: bool,
    now_ns: u64,
    timers: Vec<FakeTimer>,
    last_id: u64,
    store: Store,
    upstreams: Vec<(String, Service)>,
    /// Calls that have not been answered, by id.
    outgoing: Vec<(u64, raw::Outgoing)>,
    answering: Vec<JoinHandle<()>>,
}

/// What a fake upstream says to a request.
pub type Service = Arc<dyn Fn(&Request) -> Result<Response, Failure> + Send + Sync>;

// SAFETY: what an outgoing call points to is the plugin's `data` alone, once start has returned.
unsafe impl Send for HostState {}

#[derive(Clone, Copy)]
struct FakeTimer {
    id: u64,
    due_ns: u64,
    is_running: bool,
    timer: raw::Timer,
}

// SAFETY: `data` belongs to the plugin, whose functions may be called from any thread.
unsafe impl Send for FakeTimer {}

#[derive(Clone)]
struct FakeValue {
    value: Vec<u8>,
    version: u64,
    expires_ns: u64,
}

/// The shared data of a fake host, for tests in which an instance finds what another has left: the next
/// version of a plugin, or one that uses the same space. A clone is the same store.
///
/// ```
/// # struct Counts;
/// # #[callout::plugin(no_export)]
/// # impl callout::Plugin for Counts {
/// #     fn create(_: (), setup: &mut callout::Setup) -> callout::Result<Self> {
/// #         callout::shared_data::SharedData::new(setup.host())?.add("starts", 1, None)?;
/// #         Ok(Counts)
/// #     }
/// #     fn request_headers(&self, _: &mut callout::HeadersCall<'_, Self>) -> callout::Result { Ok(()) }
/// # }
/// use callout::testing::{Instance, Store};
///
/// let store = Store::default();
/// drop(Instance::<Counts>::with_store("", [], &store).unwrap());
/// drop(Instance::<Counts>::with_store("", [], &store).unwrap());
/// assert_eq!(store.value("", "starts"), Some(2i64.to_ne_bytes().to_vec()));
/// ```
#[derive(Clone, Default)]
pub struct Store(Arc<Mutex<StoreState>>);

struct StoreState {
    values: BTreeMap<(Vec<u8>, Vec<u8>), FakeValue>,
    last_version: u64,
    /// That of the instance whose time is the latest: the next one begins there.
    now_ns: u64,
}

impl Default for StoreState {
    fn default() -> StoreState {
        StoreState {
            values: BTreeMap::new(),
            last_version: 0,
            now_ns: 1,
        }
    }
}

impl StoreState {
    fn value(&mut self, space: &[u8], key: &[u8], now_ns: u64) -> Option<FakeValue> {
        self.values
            .retain(|_, value| value.expires_ns == 0 || value.expires_ns > now_ns);
        self.values.get(&(space.to_vec(), key.to_vec())).cloned()
    }
    fn put(&mut self, space: &[u8], key: &[u8], value: Vec<u8>, expires_ns: u64) -> u64 {
        self.last_version += 1;
        let version = self.last_version;
        let value = FakeValue {
            value,
            version,
            expires_ns,
        };
        self.values.insert((space.to_vec(), key.to_vec()), value);
        version
    }
}

impl Store {
    /// A value; `space` is empty for the instance's own.
    pub fn value(&self, space: &str, key: &str) -> Option<Vec<u8>> {
        let mut state = lock(&self.0);
        let now_ns = state.now_ns;
        state
            .value(space.as_bytes(), key.as_bytes(), now_ns)
            .map(|value| value.value)
    }
    /// Sets a value for ever, as an instance before this test may have done.
    pub fn put(&self, space: &str, key: &str, value: &[u8]) {
        lock(&self.0).put(space.as_bytes(), key.as_bytes(), value.to_vec(), 0);
    }
}

/// A service that takes `time` to respond. A call that may not take so long ends at once with
/// `DeadlineExceeded`; no test waits.
pub fn slow(time: Duration, service: Service) -> Service {
    Arc::new(move |request| match request.timeout {
        Some(timeout) if timeout < time => Err(Failure::new(
            Status::DeadlineExceeded,
            format!("no response in {timeout:?}"),
        )),
        _ => service(request),
    })
}

/// An instance of a plugin on a fake host.
pub struct Instance<P: Exported> {
    host: Box<FakeHost>,
    plugin: *mut c_void,
    setup: raw::CreateArgs,
    _name: CString,
    kind: PhantomData<P>,
}

impl<P: Exported> Instance<P> {
    /// Makes the instance. `config` is its configuration, JSON or nothing. `Err`: what `create` refused.
    pub fn new(config: &str) -> Result<Self, Error> {
        Self::with_upstreams(config, [])
    }

    /// The same on a host with upstreams: what each says to a request.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use callout::{calls::{Failure, Request, Response, Upstream}, testing::{Instance, Service}, Status};
    /// # struct Lookup(#[allow(dead_code)] Upstream);
    /// # #[callout::plugin(no_export)]
    /// # impl callout::Plugin for Lookup {
    /// #     fn create(_: (), setup: &mut callout::Setup) -> callout::Result<Self> {
    /// #         Ok(Lookup(Upstream::new(setup.host(), "users")?))
    /// #     }
    /// #     fn request_headers(&self, _: &mut callout::HeadersCall<'_, Self>) -> callout::Result { Ok(()) }
    /// # }
    /// let users: Service = Arc::new(|request: &Request| match request.path.as_str() {
    ///     "/down" => Err(Failure::new(Status::Unavailable, "no connection")),
    ///     _ => Ok(Response { http_status: 200, ..Response::default() }),
    /// });
    /// let lookup = Instance::<Lookup>::with_upstreams("", [("users", users)]).unwrap();
    /// ```
    pub fn with_upstreams<'n>(
        config: &str,
        upstreams: impl IntoIterator<Item = (&'n str, Service)>,
    ) -> Result<Self, Error> {
        Self::with_store(config, upstreams, &Store::default())
    }

    /// The same on a host whose shared data is in `store`.
    pub fn with_store<'n>(
        config: &str,
        upstreams: impl IntoIterator<Item = (&'n str, Service)>,
        store: &Store,
    ) -> Result<Self, Error> {
        let name = CString::new("test").unwrap_or_default();
        let host = Box::new(FakeHost {
            table: table(),
            state: Mutex::new(HostState::new(store.clone())),
        });
        lock(&host.state).upstreams = upstreams
            .into_iter()
            .map(|(name, service)| (name.to_string(), service))
            .collect();
        let mut setup = raw::CreateArgs {
            struct_size: size_of::<raw::CreateArgs>() as u32,
            blocking: 0,
            host: &raw const *host as *const raw::Host,
            instance: name.as_ptr(),
            config: bytes(config.as_bytes()),
            phases: u64::MAX,
            whole_body_bytes_max: 0,
            plugin: std::ptr::null_mut(),
            blocking_phases: 0,
            grants: u64::from(raw::WANT_REAL_END | raw::WANT_REQUEST_HEADERS),
            wants: 0,
        };
        // SAFETY: as the real host calls it.
        let status = unsafe { ffi::create::<P>(&mut setup) };
        lock(&host.state).created = true;
        setup.config = bytes(&[]);
        if status != raw::OK {
            let text = lock(&host.state).last_error.take().unwrap_or_default();
            host.end_timers();
            return Err(Error::with_status(Status::from_raw(status), text));
        }
        Ok(Instance {
            host,
            plugin: setup.plugin,
            setup,
            _name: name,
            kind: PhantomData,
        })
    }

    /// A new HTTP request, Check, question about rate limits or TCP connection.
    pub fn stream(&self) -> Stream<'_, P> {
        Stream {
            instance: self,
            state: std::ptr::null_mut(),
            is_open: false,
            attributes: Vec::new(),
            metadata: Vec::new(),
            grpc_metadata: Vec::new(),
            request_headers: Vec::new(),
            body_mode: raw::BODY_BUFFERED,
            seen: [0; 64],
            offsets: [0; 2],
            is_recorded: true,
            span_bytes: Default::default(),
            opened: Added::default(),
            end: Default::default(),
            deadline: WAIT_MAX,
        }
    }

    /// Lines of the log so far.
    pub fn logs(&self) -> Vec<(Level, String)> {
        lock(&self.host.state).logs.clone()
    }
    /// A metric's value: of a counter the sum, of a gauge and a histogram the latest.
    pub fn metric(&self, name: &str) -> Option<f64> {
        lock(&self.host.state)
            .metrics
            .iter()
            .find(|(known, _, _)| known == name)
            .map(|(_, _, value)| *value)
    }
    /// The files that the instance follows.
    pub fn followed_files(&self) -> Vec<String> {
        lock(&self.host.state).followed_files.clone()
    }
    /// A value of shared data; `space` is empty for the instance's own.
    pub fn shared_value(&self, space: &str, key: &str) -> Option<Vec<u8>> {
        lock(&self.host.state)
            .value(space.as_bytes(), key.as_bytes())
            .map(|value| value.value)
    }
    /// Moves the time of timers and shared data on, and runs the timers that are then due: with
    /// `Duration::ZERO` the first run of each. It waits for async ones, until they end or wait for time.
    pub fn advance(&self, time: Duration) {
        let to_ns = lock(&self.host.state).now_ns + time.as_nanos() as u64;
        while self.host.run_timer(to_ns) {
            self.settle();
        }
        let mut state = lock(&self.host.state);
        state.now_ns = to_ns;
        let mut store = lock(&state.store.0);
        store.now_ns = store.now_ns.max(to_ns);
    }

    /// Waits until the services have responded, and the executor has nothing to do.
    fn settle(&self) {
        // SAFETY: the instance is destroyed later, by drop.
        let executor = unsafe { ffi::executor_of::<P>(self.plugin) };
        let begin = Instant::now();
        loop {
            let is_idle = executor.is_idle();
            let mut state = lock(&self.host.state);
            state.answering.retain(|thread| !thread.is_finished());
            if is_idle && state.answering.is_empty() && executor.is_idle() {
                return;
            }
            drop(state);
            assert!(
                begin.elapsed() < WAIT_MAX,
                "an async timer waits for a service that has not responded in {WAIT_MAX:?}"
            );
            std::thread::yield_now();
        }
    }
    /// Whether the host would run the hook on its blocking pool.
    pub fn runs_blocking(&self, phase: Phase) -> bool {
        self.setup.blocking_phases >> phase.to_raw() & 1 == 1
    }
    /// Whether the host would call the hook at all.
    pub fn wants(&self, phase: Phase) -> bool {
        P::HOOKS.of(phase.to_raw()).is_some() && self.setup.phases >> phase.to_raw() & 1 == 1
    }
    /// Up to how many bytes body hooks get whole bodies.
    pub fn whole_body_bytes(&self) -> u64 {
        self.setup.whole_body_bytes_max
    }
}

impl<P: Exported> Drop for Instance<P> {
    fn drop(&mut self) {
        self.host.end_timers();
        // SAFETY: create has made it, and all streams are closed: they borrow the instance.
        unsafe { ffi::destroy::<P>(self.plugin) };
    }
}

impl HostState {
    fn new(store: Store) -> HostState {
        let now_ns = lock(&store.0).now_ns;
        HostState {
            logs: Vec::new(),
            last_error: None,
            metrics: Vec::new(),
            followed_files: Vec::new(),
            created: false,
            closed: false,
            now_ns,
            timers: Vec::new(),
            last_id: 0,
            store,
            upstreams: Vec::new(),
            outgoing: Vec::new(),
            answering: Vec::new(),
        }
    }
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
    fn value(&mut self, space: &[u8], key: &[u8]) -> Option<FakeValue> {
        lock(&self.store.0).value(space, key, self.now_ns)
    }
    fn put(&mut self, space: &[u8], key: &[u8], value: Vec<u8>, expires_ns: u64) -> u64 {
        lock(&self.store.0).put(space, key, value, expires_ns)
    }
}

impl FakeHost {
    /// Runs the timer that is due first, if it is due by then.
    fn run_timer(&self, to_ns: u64) -> bool {
        let mut state = lock(&self.state);
        let due = |timer: &&mut FakeTimer| !timer.is_running && timer.due_ns <= to_ns;
        let Some(timer) = state
            .timers
            .iter_mut()
            .filter(due)
            .min_by_key(|timer| (timer.due_ns, timer.id))
        else {
            return false;
        };
        timer.is_running = true;
        let FakeTimer {
            id, due_ns, timer, ..
        } = *timer;
        state.now_ns = state.now_ns.max(due_ns);
        drop(state);
        if let Some(run) = timer.run {
            // SAFETY: as the host calls it.
            unsafe { run(timer.data) };
        }
        let mut state = lock(&self.state);
        let now_ns = state.now_ns;
        let known = state.timers.iter_mut().find(|timer| timer.id == id);
        match known {
            Some(known) if timer.period_ns > 0 => {
                known.due_ns = now_ns + timer.period_ns;
                known.is_running = false;
                return true;
            }
            _ => state.timers.retain(|timer| timer.id != id),
        }
        drop(state);
        release(&timer);
        true
    }

    fn end_timers(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        let timers = std::mem::take(&mut state.timers);
        let answering = std::mem::take(&mut state.answering);
        drop(state);
        answering.into_iter().for_each(|thread| drop(thread.join()));
        timers.iter().for_each(|timer| release(&timer.timer));
    }
}

fn release(timer: &raw::Timer) {
    if let Some(release) = timer.release {
        // SAFETY: once, after the last run.
        unsafe { release(timer.data) };
    }
}

// --- The streams ---

/// One HTTP request, Check, question about rate limits or TCP connection.
pub struct Stream<'i, P: Exported> {
    instance: &'i Instance<P>,
    state: *mut c_void,
    is_open: bool,
    attributes: Vec<u8>,
    metadata: Vec<u8>,
    grpc_metadata: Vec<(String, Vec<u8>)>,
    request_headers: Vec<u8>,
    body_mode: raw::BodyMode,
    seen: [u32; 64],
    offsets: [u64; 2],
    is_recorded: bool,
    /// Of what plugins add to the exchange's spans.
    span_bytes: Arc<AtomicUsize>,
    /// What stream_open has added to that of the call that follows.
    opened: Added,
    end: End,
    deadline: Duration,
}

#[derive(Default)]
struct End {
    http_status: u32,
    bytes: [u64; 2],
}

/// What the plugin did with a message.
#[derive(Default)]
pub struct Answer {
    /// Field numbers mean those of the phase's service.
    phase: raw::Phase,
    status: raw::Status,
    error: String,
    field: Option<raw::Field>,
    message: Vec<u8>,
    sent: Vec<Vec<u8>>,
    annotations: Vec<(raw::Field, Vec<u8>)>,
    span: Added,
    was_deferred: bool,
}

/// What was added to the span of a call.
#[derive(Default)]
struct Added {
    attributes: Map<String, Json>,
    events: Vec<(String, Map<String, Json>)>,
}

#[repr(C)]
struct FakeCall {
    /// First, so that the plugin's pointer is one to all of it.
    call: raw::Call,
    grpc_metadata: Vec<(String, Vec<u8>)>,
    /// The span's number in the exchange; 0: there is none.
    span: u64,
    span_bytes: Arc<AtomicUsize>,
    outcome: Mutex<CallOutcome>,
    finished: Condvar,
}

#[derive(Default)]
struct CallOutcome {
    answer: Answer,
    is_finished: bool,
}

impl<P: Exported> Stream<'_, P> {
    /// How much time each hook has (`--hook_deadline_ms`); 10 s if it is not set. It is what
    /// `call.time_left()` and calls to services go by.
    pub fn set_deadline(&mut self, time: Duration) -> &mut Self {
        self.deadline = time;
        self
    }
    /// Attributes that Envoy sends: an object of names.
    pub fn set_attributes(&mut self, attributes: Json) -> &mut Self {
        let fields = json::write_struct(&object(attributes)).unwrap_or_default();
        self.attributes.clear();
        put_message(&mut self.attributes, 9, |to| {
            put_bytes(to, 1, b"envoy.filters.http.ext_proc");
            put_bytes(to, 2, &fields);
        });
        self
    }
    /// Metadata of other filters: an object of namespaces, each an object.
    pub fn set_metadata(&mut self, metadata: Json) -> &mut Self {
        self.metadata.clear();
        for (namespace, fields) in object(metadata) {
            let fields = json::write_struct(&object(fields)).unwrap_or_default();
            put_message(&mut self.metadata, 1, |to| {
                put_bytes(to, 1, namespace.as_bytes());
                put_bytes(to, 2, &fields);
            });
        }
        self
    }
    /// A value in the metadata of the gRPC request.
    pub fn add_grpc_metadata(&mut self, key: &str, value: &str) -> &mut Self {
        self.grpc_metadata
            .push((key.to_string(), value.as_bytes().to_vec()));
        self
    }
    /// Whether the exchange is sampled, so that what is added to its spans is kept; it is, if this is not
    /// set.
    pub fn set_recorded(&mut self, is_recorded: bool) -> &mut Self {
        self.is_recorded = is_recorded;
        self
    }
    /// How Envoy sends bodies; BUFFERED if it is not set.
    pub fn set_body_mode(&mut self, mode: crate::BodyMode) -> &mut Self {
        self.body_mode = mode as u32;
        self
    }

    /// A request without body and trailers.
    pub fn request_headers(&mut self, headers: &[(&str, &str)]) -> Answer {
        self.request_headers = headers_message(headers, true);
        self.message(raw::REQUEST_HEADERS, self.request_headers.clone(), true)
    }
    /// The headers of a request with a body or trailers.
    pub fn request_headers_with_body(&mut self, headers: &[(&str, &str)]) -> Answer {
        self.request_headers = headers_message(headers, false);
        self.message(raw::REQUEST_HEADERS, self.request_headers.clone(), false)
    }
    /// A response's headers, with `:status`; a body may follow.
    pub fn response_headers(&mut self, headers: &[(&str, &str)]) -> Answer {
        let status = headers.iter().find(|(name, _)| *name == ":status");
        self.end.http_status = status
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or(0);
        self.message(
            raw::RESPONSE_HEADERS,
            headers_message(headers, false),
            false,
        )
    }
    /// A piece of a body, or all of it if it is the first and the last.
    pub fn request_body(&mut self, body: &[u8], end_of_stream: bool) -> Answer {
        self.body(raw::REQUEST_BODY, body, end_of_stream)
    }
    /// The same of the response.
    pub fn response_body(&mut self, body: &[u8], end_of_stream: bool) -> Answer {
        self.body(raw::RESPONSE_BODY, body, end_of_stream)
    }
    /// The request's trailers.
    pub fn request_trailers(&mut self, trailers: &[(&str, &str)]) -> Answer {
        self.message(
            raw::REQUEST_TRAILERS,
            headers_message(trailers, false),
            true,
        )
    }
    /// The response's trailers.
    pub fn response_trailers(&mut self, trailers: &[(&str, &str)]) -> Answer {
        self.message(
            raw::RESPONSE_TRAILERS,
            headers_message(trailers, false),
            true,
        )
    }
    /// A Check of ext_authz: `headers` may have `:method`, `:path` and `:authority`.
    pub fn check(&mut self, headers: &[(&str, &str)]) -> Answer {
        let mut http = Vec::new();
        for (name, value) in headers {
            let field = [(":method", 2), (":path", 4), (":authority", 5)]
                .into_iter()
                .find(|(known, _)| known == name);
            if let Some((_, field)) = field {
                put_bytes(&mut http, field, value.as_bytes());
            }
            put_message(&mut http, 3, |to| {
                put_bytes(to, 1, name.as_bytes());
                put_bytes(to, 2, value.as_bytes());
            });
        }
        let mut message = Vec::new();
        put_message(&mut message, 4, |to| put_bytes(to, 2, &http));
        self.message(raw::CHECK, message, true)
    }
    /// A question about rate limits: each descriptor is a list of entries.
    pub fn rate_limit(&mut self, domain: &str, descriptors: &[&[(&str, &str)]]) -> Answer {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, domain.as_bytes());
        for descriptor in descriptors {
            put_message(&mut message, 2, |to| {
                for (key, value) in *descriptor {
                    put_message(to, 1, |to| {
                        put_bytes(to, 1, key.as_bytes());
                        put_bytes(to, 2, value.as_bytes());
                    });
                }
            });
        }
        self.message(raw::RATE_LIMIT, message, true)
    }
    /// The beginning of a TCP connection.
    pub fn connection(&mut self) -> Answer {
        self.message(raw::CONNECTION, Vec::new(), false)
    }
    /// Bytes from the client of a TCP connection.
    pub fn read_data(&mut self, data: &[u8], end_of_stream: bool) -> Answer {
        self.body(raw::READ_DATA, data, end_of_stream)
    }
    /// Bytes to the client of a TCP connection.
    pub fn write_data(&mut self, data: &[u8], end_of_stream: bool) -> Answer {
        self.body(raw::WRITE_DATA, data, end_of_stream)
    }

    fn body(&mut self, phase: raw::Phase, body: &[u8], end_of_stream: bool) -> Answer {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, body);
        if end_of_stream {
            put_number(&mut message, 2, 1);
        }
        let answer = self.message(phase, message, end_of_stream);
        self.offsets[(phase % 2) as usize] += body.len() as u64;
        self.end.bytes[(phase % 2) as usize] += body.len() as u64;
        answer
    }

    fn fake(&self, phase: raw::Phase, message: &[u8]) -> Box<FakeCall> {
        let host: *const FakeHost = &raw const *self.instance.host;
        let deadline = monotonic_ns() + self.deadline.as_nanos() as u64;
        Box::new(FakeCall {
            call: raw::Call {
                struct_size: size_of::<raw::Call>() as u32,
                phase,
                host: host.cast(),
                plugin: self.instance.plugin,
                stream: self.state,
                message: bytes(message),
                request: bytes(&[]),
                attributes: bytes(&self.attributes),
                metadata_context: bytes(&self.metadata),
                body_offset: self.offsets[(phase % 2) as usize],
                deadline_ns: deadline,
                body_mode: self.body_mode,
                flags: 0,
                request_headers: bytes(&[]),
                end: std::ptr::null(),
                self_: std::ptr::null(),
            },
            grpc_metadata: self.grpc_metadata.clone(),
            span: if self.is_recorded {
                u64::from(self.seen.iter().sum::<u32>().max(1))
            } else {
                0
            },
            span_bytes: self.span_bytes.clone(),
            outcome: Mutex::default(),
            finished: Condvar::new(),
        })
    }

    fn open(&mut self) -> Option<Answer> {
        let mut fake = self.fake(0, &[]);
        let call: *mut raw::Call = (&raw mut *fake).cast();
        // SAFETY: as the real host calls it.
        let status = P::HOOKS
            .stream_open
            .map_or(raw::OK, |open| unsafe { open(call) });
        self.state = unsafe { (*call).stream };
        let mut answer = std::mem::take(&mut lock(&fake.outcome).answer);
        if status == raw::OK {
            self.is_open = true;
            self.opened = answer.span;
            return None;
        }
        answer.status = status;
        Some(answer)
    }

    fn message(&mut self, phase: raw::Phase, message: Vec<u8>, is_last: bool) -> Answer {
        if self.instance.setup.phases >> phase & 1 == 0 {
            return Answer::default();
        }
        let Some(hook) = P::HOOKS.of(phase) else {
            return Answer::default();
        };
        if !self.is_open {
            if let Some(refused) = self.open() {
                return refused;
            }
        }
        let is_first = self.seen[phase as usize] == 0;
        self.seen[phase as usize] += 1;
        let mut fake = self.fake(phase, &message);
        lock(&fake.outcome).answer.span = std::mem::take(&mut self.opened);
        let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
        let is_body = phase == raw::REQUEST_BODY || phase == raw::RESPONSE_BODY;
        fake.call.flags = flag(is_first, raw::CALL_FIRST)
            | flag(is_last, raw::CALL_LAST)
            | flag(is_body && is_first && is_last, raw::CALL_WHOLE_BODY);
        if phase % 2 == 1 && self.instance.setup.wants & u64::from(raw::WANT_REQUEST_HEADERS) != 0 {
            fake.call.request_headers = bytes(&self.request_headers);
        }
        let pointer = &raw mut *fake;
        // SAFETY: as the real host calls it.
        let status = unsafe { hook(pointer.cast()) };
        let answer = self.wait(unsafe { &*pointer }, status);
        self.state = unsafe { (*pointer).call.stream };
        if answer.field == Some(raw::IMMEDIATE_RESPONSE) {
            self.end.http_status = answer.http_status().unwrap_or(0).into();
        }
        answer
    }

    fn wait(&self, fake: &FakeCall, status: raw::Status) -> Answer {
        let mut outcome = lock(&fake.outcome);
        if status != raw::DEFERRED {
            assert!(
                !outcome.is_finished,
                "the plugin has finished a call that it did not defer"
            );
            outcome.answer.status = status;
            return std::mem::take(&mut outcome.answer);
        }
        let begin = Instant::now();
        while !outcome.is_finished {
            assert!(
                begin.elapsed() < WAIT_MAX,
                "a deferred call was not finished in {WAIT_MAX:?}"
            );
            let step = Duration::from_millis(1);
            outcome = fake
                .finished
                .wait_timeout(outcome, step)
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .0;
            if !outcome.is_finished {
                drop(outcome);
                self.instance.host.run_timer(u64::MAX);
                outcome = lock(&fake.outcome);
            }
        }
        outcome.answer.was_deferred = true;
        std::mem::take(&mut outcome.answer)
    }

    /// Ends the stream, as `drop` does.
    pub fn close(self) {}
}

impl<P: Exported> Drop for Stream<'_, P> {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let end = raw::StreamEnd {
            struct_size: size_of::<raw::StreamEnd>() as u32,
            outcome: raw::END_COMPLETED,
            status: raw::OK,
            http_status: self.end.http_status,
            request_body_bytes: self.end.bytes[0],
            response_body_bytes: self.end.bytes[1],
            stream_ns: 1,
            instance_ns: 1,
        };
        let mut fake = self.fake(0, &[]);
        fake.call.end = &end;
        fake.span = 0;
        if let Some(close) = P::HOOKS.stream_close {
            // SAFETY: as the real host calls it, once.
            unsafe { close((&raw mut *fake).cast()) };
        }
    }
}

impl Answer {
    /// The plugin changes nothing.
    pub fn is_empty(&self) -> bool {
        self.status == raw::OK && self.field.is_none() && self.annotations.is_empty()
    }
    /// The error that the hook ended with.
    pub fn error(&self) -> Option<Error> {
        (self.status < 0).then(|| Error::with_status(Status::from_raw(self.status), &self.error))
    }
    /// The hook waited for something.
    pub fn was_deferred(&self) -> bool {
        self.was_deferred
    }
    /// The plugin holds the message back (`hold`).
    pub fn is_held(&self) -> bool {
        self.status == raw::NO_RESPONSE
    }
    /// The HTTP status of an immediate response, or of a Check that the plugin refuses. `None` as well if
    /// the call is a fault: the operator's policy has another one, which refuses too.
    pub fn http_status(&self) -> Option<u16> {
        if self.status < 0 {
            return None;
        }
        if !self.is_check_denied() && self.field != Some(raw::IMMEDIATE_RESPONSE) {
            return None;
        }
        Records::number(Records::last(&self.message, 1), 1)
            .and_then(|status| status.try_into().ok())
    }
    fn is_check_denied(&self) -> bool {
        self.phase == raw::CHECK && self.field == Some(raw::CHECK_DENIED)
    }
    /// The request or the connection does not go on: the plugin refuses it, whatever error it then ended
    /// with.
    pub fn refuses(&self) -> bool {
        let is_immediate = self.phase < raw::CHECK && self.field == Some(raw::IMMEDIATE_RESPONSE);
        let is_over = self.phase == raw::RATE_LIMIT && self.is_over_limit();
        let ends = self.phase > raw::CHECK && self.phase != raw::RATE_LIMIT;
        is_immediate || self.is_check_denied() || is_over || (ends && self.ends_connection())
    }
    fn is_check_ok(&self) -> bool {
        self.phase == raw::CHECK && self.field == Some(raw::CHECK_OK)
    }
    /// A Check is allowed.
    pub fn is_allowed(&self) -> bool {
        self.status == raw::OK && self.is_check_ok()
    }
    /// The request is over its limits: RateLimitResponse.overall_code 1 is OVER_LIMIT 2.
    pub fn is_over_limit(&self) -> bool {
        Records::number(&self.message, 1) == Some(2)
    }

    /// HeadersResponse and BodyResponse: response 1 .header_mutation 2; TrailersResponse: 1; immediate
    /// response: 2.
    fn mutation(&self) -> &[u8] {
        match self.field {
            Some(raw::IMMEDIATE_RESPONSE) => Records::last(&self.message, 2),
            Some(raw::REQUEST_TRAILERS_RESPONSE | raw::RESPONSE_TRAILERS_RESPONSE) => {
                Records::last(&self.message, 1)
            }
            Some(_) => Records::last(Records::last(&self.message, 1), 2),
            None => &[],
        }
    }
    /// The values that the plugin sets a header to, of an immediate response too.
    pub fn headers(&self, name: &str) -> Vec<String> {
        let mutation = self.mutation();
        let options = Records::all(mutation, 1)
            .chain(Records::all(&self.message, 2).filter(|_| self.is_check_ok()));
        let headers = options.map(|option| Records::last(option, 1));
        let named =
            headers.filter(|header| Records::last(header, 1).eq_ignore_ascii_case(name.as_bytes()));
        named
            .map(|header| String::from_utf8_lossy(Records::last(header, 3)).into_owned())
            .collect()
    }
    /// The last of them.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers(name).pop()
    }
    /// The plugin removes a header.
    pub fn removes(&self, name: &str) -> bool {
        let removed = if self.is_check_ok() {
            Records::all(&self.message, 5)
        } else {
            Records::all(self.mutation(), 2)
        };
        removed
            .clone()
            .any(|removed| removed.eq_ignore_ascii_case(name.as_bytes()))
    }
    /// The body that the plugin sets, of an immediate response or a refusal too; empty if it is cleared.
    pub fn body(&self) -> Option<Vec<u8>> {
        let body = match self.field? {
            raw::IMMEDIATE_RESPONSE => Records::all(&self.message, 3).last()?,
            _ if self.is_check_denied() => Records::all(&self.message, 3).last()?,
            _ => {
                let mutation = Records::all(Records::last(&self.message, 1), 3).last()?;
                Records::last(mutation, 1)
            }
        };
        Some(body.to_vec())
    }
    /// The bytes that a plugin puts in the place of those of a TCP connection.
    pub fn data(&self) -> Option<Vec<u8>> {
        (self.field? != raw::WHOLE_RESPONSE).then(|| Records::last(&self.message, 1).to_vec())
    }
    /// The plugin ends the TCP connection.
    pub fn ends_connection(&self) -> bool {
        self.field == Some(raw::WHOLE_RESPONSE) && Records::number(&self.message, 4).is_some()
    }
    /// By `reset`, not by `close`.
    pub fn resets_connection(&self) -> bool {
        self.ends_connection() && Records::number(&self.message, 4) == Some(2)
    }
    /// Envoy chooses the route again.
    pub fn clears_route_cache(&self) -> bool {
        Records::number(Records::last(&self.message, 1), 5) == Some(1)
    }
    /// Pieces of a body that were sent ahead of the answer.
    pub fn sent(&self) -> Vec<Vec<u8>> {
        let piece = |message: &Vec<u8>| {
            let streamed = Records::last(Records::last(Records::last(message, 1), 3), 3);
            Records::last(streamed, 1).to_vec()
        };
        self.sent.iter().map(piece).collect()
    }
    /// The attributes that the plugin has added to the span of the call.
    pub fn span_attributes(&self) -> &Map<String, Json> {
        &self.span.attributes
    }
    /// The events that it has added, with their attributes.
    pub fn span_events(&self) -> &[(String, Map<String, Json>)] {
        &self.span.events
    }
    /// Dynamic metadata: an object of namespaces.
    pub fn metadata(&self) -> Json {
        let fields = [
            raw::DYNAMIC_METADATA,
            raw::CHECK_DYNAMIC_METADATA,
            raw::RATE_LIMIT_DYNAMIC_METADATA,
            raw::DATA_DYNAMIC_METADATA,
        ];
        let mut all = Map::new();
        for (field, message) in &self.annotations {
            if fields.contains(field) {
                all.extend(json::from_struct(message));
            }
        }
        Json::Object(all)
    }
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(fields) => fields,
        other => panic!("expected an object, found {other}"),
    }
}

fn headers_message(headers: &[(&str, &str)], end_of_stream: bool) -> Vec<u8> {
    let mut message = Vec::new();
    put_message(&mut message, 1, |to| {
        for (name, value) in headers {
            put_message(to, 1, |to| {
                put_bytes(to, 1, name.as_bytes());
                put_bytes(to, 3, value.as_bytes());
            });
        }
    });
    if end_of_stream {
        put_number(&mut message, 3, 1);
    }
    message
}

// --- The services ---

fn table() -> raw::Host {
    raw::Host {
        struct_size: size_of::<raw::Host>() as u32,
        abi_version: raw::ABI_VERSION,
        name: c"callout-testing/1".as_ptr(),
        respond,
        send,
        annotate,
        set_error,
        finish,
        is_cancelled,
        get_metadata,
        get_property,
        log_enabled,
        log,
        metric_define,
        metric_record,
        get_extension,
        define_metric,
        follow_file,
        send_room,
    }
}

unsafe fn fake_call<'a>(call: *const raw::Call) -> &'a FakeCall {
    // SAFETY: the call is the first field of a FakeCall.
    unsafe { &*call.cast() }
}
unsafe fn host_state<'a>(host: *const raw::Host) -> MutexGuard<'a, HostState> {
    // SAFETY: the table is the first field of a FakeHost.
    lock(unsafe { &(*host.cast::<FakeHost>()).state })
}
unsafe fn joined(parts: *const raw::Bytes, count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|i| unsafe { view(*parts.add(i)) })
        .copied()
        .collect()
}

unsafe extern "C" fn respond(
    call: *mut raw::Call,
    field: raw::Field,
    parts: *const raw::Bytes,
    count: usize,
) -> raw::Status {
    let (fake, message) = unsafe { (fake_call(call), joined(parts, count)) };
    if fake.call.phase == 0 {
        return raw::FAILED_PRECONDITION;
    }
    let mut outcome = lock(&fake.outcome);
    outcome.answer.phase = fake.call.phase;
    outcome.answer.field = Some(field);
    outcome.answer.message = message;
    raw::OK
}
unsafe extern "C" fn send(
    call: *mut raw::Call,
    _: raw::Field,
    parts: *const raw::Bytes,
    count: usize,
) -> raw::Status {
    let (fake, message) = unsafe { (fake_call(call), joined(parts, count)) };
    if fake.call.body_mode != raw::BODY_FULL_DUPLEX_STREAMED {
        return raw::FAILED_PRECONDITION;
    }
    lock(&fake.outcome).answer.sent.push(message);
    raw::OK
}
unsafe extern "C" fn annotate(
    call: *mut raw::Call,
    field: raw::Field,
    message: raw::Bytes,
) -> raw::Status {
    let (fake, message) = unsafe { (fake_call(call), view(message).to_vec()) };
    if fake.call.phase == 0 {
        return raw::FAILED_PRECONDITION; // as the host: an opening has no response
    }
    lock(&fake.outcome)
        .answer
        .annotations
        .push((field, message));
    raw::OK
}
unsafe extern "C" fn set_error(call: *mut raw::Call, text: raw::Bytes) {
    let (fake, text) = unsafe { (fake_call(call), view(text)) };
    lock(&fake.outcome).answer.error = String::from_utf8_lossy(text).into_owned();
}
unsafe extern "C" fn finish(call: *mut raw::Call, status: raw::Status) -> raw::Status {
    let fake = unsafe { fake_call(call) };
    let mut outcome = lock(&fake.outcome);
    if std::mem::replace(&mut outcome.is_finished, true) {
        return raw::FAILED_PRECONDITION;
    }
    outcome.answer.status = status;
    fake.finished.notify_all();
    raw::OK
}
unsafe extern "C" fn is_cancelled(_: *const raw::Call) -> i32 {
    0
}
unsafe extern "C" fn get_metadata(
    call: *const raw::Call,
    key: raw::Bytes,
    index: u32,
    value: *mut raw::Bytes,
) -> raw::Status {
    let (fake, key) = unsafe { (fake_call(call), view(key)) };
    let mut found = fake
        .grpc_metadata
        .iter()
        .filter(|(name, _)| name.as_bytes() == key);
    match found.nth(index as usize) {
        Some((_, found)) => unsafe { *value = bytes(found) },
        None => return raw::NOT_FOUND,
    }
    raw::OK
}
unsafe extern "C" fn get_property(
    _: *const raw::Call,
    property: raw::Property,
    value: *mut raw::Bytes,
) -> raw::Status {
    let text = match property {
        raw::PEER => "ipv4:127.0.0.1:1",
        raw::LISTENER => "plaintext",
        raw::STREAM_ID => "1",
        _ => return raw::NOT_FOUND,
    };
    unsafe { *value = bytes(text.as_bytes()) };
    raw::OK
}
unsafe extern "C" fn log_enabled(_: *const raw::Host, _: raw::LogLevel) -> i32 {
    1
}
unsafe extern "C" fn log(host: *const raw::Host, level: raw::LogLevel, text: raw::Bytes) {
    let text = String::from_utf8_lossy(unsafe { view(text) }).into_owned();
    let level = match level {
        raw::LOG_ERROR.. => Level::Error,
        raw::LOG_WARNING.. => Level::Warning,
        raw::LOG_INFO.. => Level::Info,
        _ => Level::Debug,
    };
    let mut state = unsafe { host_state(host) };
    if level == Level::Error {
        state.last_error = Some(text.clone());
    }
    state.logs.push((level, text));
}
unsafe extern "C" fn metric_define(
    host: *const raw::Host,
    kind: raw::MetricKind,
    name: raw::Bytes,
    _: raw::Bytes,
    id: *mut u32,
) -> raw::Status {
    let (mut state, name) = unsafe {
        (
            host_state(host),
            String::from_utf8_lossy(view(name)).into_owned(),
        )
    };
    if state.created {
        return raw::FAILED_PRECONDITION;
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.is_empty()
        || !name.chars().all(is_name)
        || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return raw::INVALID_ARGUMENT;
    }
    let known = state
        .metrics
        .iter()
        .position(|(known, _, _)| *known == name);
    if known.is_some_and(|known| state.metrics[known].1 != kind) {
        return raw::INVALID_ARGUMENT;
    }
    let index = known.unwrap_or(state.metrics.len());
    if known.is_none() {
        state.metrics.push((name, kind, 0.0));
    }
    unsafe { *id = index as u32 };
    raw::OK
}
unsafe extern "C" fn define_metric(
    host: *const raw::Host,
    spec: *const raw::MetricSpec,
    id: *mut u32,
) -> raw::Status {
    unsafe { metric_define(host, (*spec).kind, (*spec).name, (*spec).help, id) }
}
unsafe extern "C" fn metric_record(host: *const raw::Host, id: u32, value: f64) {
    let mut state = unsafe { host_state(host) };
    if let Some((_, kind, known)) = state.metrics.get_mut(id as usize) {
        let adds = *kind == raw::METRIC_COUNTER || *kind == raw::METRIC_UP_DOWN;
        *known = if adds { *known + value } else { value };
    }
}
unsafe extern "C" fn follow_file(host: *const raw::Host, path: raw::Bytes) -> raw::Status {
    let (mut state, path) = unsafe {
        (
            host_state(host),
            String::from_utf8_lossy(view(path)).into_owned(),
        )
    };
    if state.created {
        return raw::FAILED_PRECONDITION;
    }
    if !path.starts_with('/') {
        return raw::INVALID_ARGUMENT;
    }
    state.followed_files.push(path);
    raw::OK
}
unsafe extern "C" fn send_room(_: *const raw::Call) -> u64 {
    1 << 20
}

unsafe extern "C" fn get_extension(_: *const raw::Host, id: *const c_char) -> *const c_void {
    static TIMERS: raw::Timers = raw::Timers {
        struct_size: size_of::<raw::Timers>() as u32,
        reserved: 0,
        start: start_timer,
        cancel: cancel_timer,
    };
    static SHARED_DATA: raw::SharedData = raw::SharedData {
        struct_size: size_of::<raw::SharedData>() as u32,
        reserved: 0,
        get: get_value,
        put: put_value,
        remove: remove_value,
        add: add_value,
    };
    static CALLS: raw::Calls = raw::Calls {
        struct_size: size_of::<raw::Calls>() as u32,
        reserved: 0,
        find: find_upstream,
        start: start_call,
        cancel: cancel_call,
    };
    static RPC_METADATA: raw::RpcMetadata = raw::RpcMetadata {
        struct_size: size_of::<raw::RpcMetadata>() as u32,
        reserved: 0,
        at: metadata_at,
    };
    static TRACE: raw::Trace = raw::Trace {
        struct_size: size_of::<raw::Trace>() as u32,
        reserved: 0,
        is_recording,
        set_attribute,
        add_event,
        get_context,
    };
    let id = unsafe { CStr::from_ptr(id) };
    if id == raw::RPC_METADATA {
        return (&raw const RPC_METADATA).cast();
    }
    if id == raw::TRACE {
        return (&raw const TRACE).cast();
    }
    if id == raw::CALLS {
        return (&raw const CALLS).cast();
    }
    if id == raw::TIMERS {
        return (&raw const TIMERS).cast();
    }
    if id == raw::SHARED_DATA {
        return (&raw const SHARED_DATA).cast();
    }
    std::ptr::null()
}

unsafe extern "C" fn start_timer(
    host: *const raw::Host,
    timer: *const raw::Timer,
    id: *mut u64,
) -> raw::Status {
    let (mut state, timer) = unsafe { (host_state(host), *timer) };
    if timer.run.is_none()
        || timer.delay_ns > raw::TIMER_NS_MAX
        || timer.period_ns > raw::TIMER_NS_MAX
    {
        return raw::INVALID_ARGUMENT;
    }
    if state.closed {
        return raw::FAILED_PRECONDITION;
    }
    let new = state.next_id();
    let due_ns = state.now_ns + timer.delay_ns;
    state.timers.push(FakeTimer {
        id: new,
        due_ns,
        is_running: false,
        timer,
    });
    unsafe { *id = new };
    raw::OK
}
unsafe extern "C" fn cancel_timer(host: *const raw::Host, id: u64) -> raw::Status {
    let mut state = unsafe { host_state(host) };
    let Some(index) = state.timers.iter().position(|timer| timer.id == id) else {
        return raw::NOT_FOUND;
    };
    if state.timers[index].is_running {
        state.timers[index].timer.period_ns = 0;
        return raw::ABORTED;
    }
    let timer = state.timers.remove(index);
    drop(state);
    release(&timer.timer);
    raw::OK
}

unsafe extern "C" fn metadata_at(
    call: *const raw::Call,
    index: u32,
    key: *mut raw::Bytes,
    value: *mut raw::Bytes,
) -> raw::Status {
    let fake = unsafe { fake_call(call) };
    let Some((name, found)) = fake.grpc_metadata.get(index as usize) else {
        return raw::NOT_FOUND;
    };
    unsafe {
        *key = bytes(name.as_bytes());
        *value = bytes(found);
    }
    raw::OK
}

// --- Traces, within the host's default limits ---

const SPAN_COUNT_MAX: usize = 128;
const SPAN_TEXT_BYTES_MAX: usize = 1024;
const SPANS_BYTES_MAX: usize = 65536;
/// What an attribute and an event take beside their texts, as the host counts.
const SPAN_ENTRY_BYTES: usize = 96;

/// As many bytes of the text as the host keeps.
fn cut(text: &str) -> &str {
    let mut size = text.len().min(SPAN_TEXT_BYTES_MAX);
    while !text.is_char_boundary(size) {
        size -= 1;
    }
    &text[..size]
}

unsafe fn span_name<'a>(name: raw::Bytes) -> Option<&'a str> {
    let sizes = 1..=raw::TRACE_KEY_BYTES_MAX as usize;
    std::str::from_utf8(unsafe { view(name) })
        .ok()
        .filter(|name| sizes.contains(&name.len()))
}

/// `None`: the host refuses it. Else key, value, and how many bytes it takes.
unsafe fn span_attribute(attribute: &raw::TraceAttribute) -> Option<(String, Json, usize)> {
    let key = unsafe { span_name(attribute.key) }?;
    if key == "http.response.status_code" || key.starts_with("callout.") {
        return None;
    }
    let mut size = SPAN_ENTRY_BYTES + key.len();
    let value = match attribute.type_ {
        raw::TRACE_TEXT => {
            let text = cut(std::str::from_utf8(unsafe { view(attribute.text) }).ok()?);
            size += text.len();
            text.into()
        }
        raw::TRACE_INTEGER => attribute.integer.into(),
        raw::TRACE_REAL => attribute.real.into(),
        raw::TRACE_FLAG => (attribute.integer != 0).into(),
        _ => return None,
    };
    Some((key.to_string(), value, size))
}

/// Whether so many bytes more fit into the exchange.
fn takes(fake: &FakeCall, size: usize) -> bool {
    let add = |taken: usize| Some(taken + size).filter(|sum| *sum <= SPANS_BYTES_MAX);
    let order = Ordering::SeqCst;
    fake.span_bytes.fetch_update(order, order, add).is_ok()
}

unsafe extern "C" fn is_recording(call: *const raw::Call) -> i32 {
    i32::from(unsafe { fake_call(call) }.span != 0)
}
unsafe extern "C" fn set_attribute(
    call: *mut raw::Call,
    attribute: *const raw::TraceAttribute,
) -> raw::Status {
    let fake = unsafe { fake_call(call) };
    if fake.span == 0 {
        return raw::OK;
    }
    let Some((key, value, size)) = (unsafe { span_attribute(&*attribute) }) else {
        return raw::INVALID_ARGUMENT;
    };
    let mut outcome = lock(&fake.outcome);
    let attributes = &mut outcome.answer.span.attributes;
    let is_full = attributes.len() >= SPAN_COUNT_MAX && !attributes.contains_key(&key);
    if is_full || !takes(fake, size) {
        return raw::RESOURCE_EXHAUSTED;
    }
    attributes.insert(key, value);
    raw::OK
}
unsafe extern "C" fn add_event(
    call: *mut raw::Call,
    name: raw::Bytes,
    attributes: *const raw::TraceAttribute,
    count: usize,
) -> raw::Status {
    let fake = unsafe { fake_call(call) };
    if fake.span == 0 {
        return raw::OK;
    }
    let Some(name) = (unsafe { span_name(name) }) else {
        return raw::INVALID_ARGUMENT;
    };
    let mut size = SPAN_ENTRY_BYTES + name.len();
    let mut fields = Map::new();
    for i in 0..count {
        let Some((key, value, bytes)) = (unsafe { span_attribute(&*attributes.add(i)) }) else {
            return raw::INVALID_ARGUMENT;
        };
        if i < SPAN_COUNT_MAX {
            size += bytes;
            fields.insert(key, value);
        }
    }
    let mut outcome = lock(&fake.outcome);
    let events = &mut outcome.answer.span.events;
    if events.len() >= SPAN_COUNT_MAX || !takes(fake, size) {
        return raw::RESOURCE_EXHAUSTED;
    }
    events.push((name.to_string(), fields));
    raw::OK
}
/// The trace is that of the gRPC metadata, if the test has set one; the span has the number of the call.
unsafe extern "C" fn get_context(
    call: *const raw::Call,
    traceparent: *mut c_char,
    tracestate: *mut raw::Bytes,
) -> raw::Status {
    let fake = unsafe { fake_call(call) };
    let named = |name: &str| {
        let found = fake.grpc_metadata.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_slice())
    };
    let size = raw::TRACEPARENT_BYTES as usize;
    let came = named("traceparent").filter(|parent| parent.len() == size);
    let mut parent = match (came, fake.span) {
        (Some(parent), _) => parent.to_vec(),
        (None, 0) => return raw::NOT_FOUND,
        (None, _) => b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01".to_vec(),
    };
    if fake.span != 0 {
        parent[36..52].copy_from_slice(format!("{:016x}", fake.span).as_bytes());
        parent[53..].copy_from_slice(b"01");
    }
    let state = came.and(named("tracestate")).unwrap_or_default();
    unsafe {
        std::ptr::copy_nonoverlapping(parent.as_ptr(), traceparent.cast(), size);
        if !tracestate.is_null() {
            *tracestate = bytes(state);
        }
    }
    raw::OK
}

// --- Calls ---

unsafe extern "C" fn find_upstream(
    host: *const raw::Host,
    name: raw::Bytes,
    _: *mut raw::UpstreamInfo,
) -> raw::Status {
    let (state, name) = unsafe { (host_state(host), view(name)) };
    let found = state
        .upstreams
        .iter()
        .any(|(known, _)| known.as_bytes() == name);
    if found {
        raw::OK
    } else {
        raw::NOT_FOUND
    }
}

unsafe fn text(bytes: raw::Bytes) -> String {
    String::from_utf8_lossy(unsafe { view(bytes) }).into_owned()
}

unsafe fn read_request(outgoing: &raw::Outgoing) -> Request {
    unsafe {
        let has = |flag: u32| outgoing.flags & flag != 0;
        let mut request = match has(raw::OUTGOING_GRPC) {
            true => Request::grpc(text(outgoing.path), view(outgoing.body)),
            false => Request::get(text(outgoing.path)),
        };
        request.method = text(outgoing.method);
        request.body = view(outgoing.body).to_vec();
        request.idempotent = has(raw::OUTGOING_IDEMPOTENT);
        request.timeout =
            Some(Duration::from_nanos(outgoing.timeout_ns)).filter(|time| !time.is_zero());
        for i in 0..outgoing.header_count {
            let field = *outgoing.headers.add(i);
            request = request.header(text(field.name), text(field.value));
        }
        request
    }
}

/// The pointers of a plugin may be passed on to the thread that answers.
struct Sent<T>(T);
// SAFETY: `data` and the host may be used from any thread.
unsafe impl<T> Send for Sent<T> {}

unsafe extern "C" fn start_call(
    host: *const raw::Host,
    outgoing: *const raw::Outgoing,
    id: *mut u64,
) -> raw::Status {
    let (mut state, outgoing) = unsafe { (host_state(host), *outgoing) };
    let (name, request) = unsafe { (text(outgoing.upstream), read_request(&outgoing)) };
    if state.closed || !state.created {
        return raw::FAILED_PRECONDITION;
    }
    if outgoing.done.is_none() || !request.path.starts_with('/') {
        return raw::INVALID_ARGUMENT;
    }
    let Some((_, service)) = state
        .upstreams
        .iter()
        .find(|(known, _)| *known == name)
        .cloned()
    else {
        return raw::NOT_FOUND;
    };
    let new = state.next_id();
    state.outgoing.push((new, outgoing));
    unsafe { *id = new };
    let host = Sent(host);
    state.answering.push(std::thread::spawn(move || {
        let host = host;
        // SAFETY: the host joins this thread before it ends.
        unsafe { answer_call(host.0, new, service(&request)) }
    }));
    raw::OK
}

unsafe fn answer_call(host: *const raw::Host, id: u64, outcome: Result<Response, Failure>) {
    let Some(outgoing) = (unsafe { take_call(host, id) }) else {
        return;
    };
    let failure = outcome.as_ref().err();
    let response = outcome.as_ref().cloned().unwrap_or_default();
    let field = |(name, value): &(String, Vec<u8>)| raw::HeaderField {
        name: bytes(name.as_bytes()),
        value: bytes(value),
    };
    let headers: Vec<_> = response.headers.iter().map(field).collect();
    let trailers: Vec<_> = response.trailers.iter().map(field).collect();
    let incoming = raw::Incoming {
        struct_size: size_of::<raw::Incoming>() as u32,
        status: failure.map_or(raw::OK, |failure| failure.status.to_raw()),
        from_service: failure.is_some_and(|failure| failure.from_service).into(),
        http_status: response.http_status,
        body: bytes(&response.body),
        headers: headers.as_ptr(),
        header_count: headers.len(),
        trailers: trailers.as_ptr(),
        trailer_count: trailers.len(),
        message: bytes(failure.map_or(&[], |failure| failure.message.as_bytes())),
        elapsed_ns: 1,
        attempts: 1,
    };
    if let Some(done) = outgoing.done {
        // SAFETY: once, as the host calls it.
        unsafe { done(outgoing.data, &incoming) };
    }
    release_call(&outgoing);
}

/// The call, unless it is over.
unsafe fn take_call(host: *const raw::Host, id: u64) -> Option<raw::Outgoing> {
    let mut state = unsafe { host_state(host) };
    let index = state.outgoing.iter().position(|(known, _)| *known == id)?;
    Some(state.outgoing.remove(index).1)
}

fn release_call(outgoing: &raw::Outgoing) {
    if let Some(release) = outgoing.release {
        // SAFETY: once, after the call.
        unsafe { release(outgoing.data) };
    }
}

unsafe extern "C" fn cancel_call(host: *const raw::Host, id: u64) -> raw::Status {
    match unsafe { take_call(host, id) } {
        None => raw::NOT_FOUND,
        Some(outgoing) => {
            release_call(&outgoing);
            raw::OK
        }
    }
}

fn is_key(space: &[u8], key: &[u8]) -> bool {
    let key_bytes = 1..=raw::SHARED_KEY_BYTES_MAX as usize;
    space.len() <= raw::SHARED_SPACE_BYTES_MAX as usize && key_bytes.contains(&key.len())
}

unsafe extern "C" fn get_value(
    host: *const raw::Host,
    space: raw::Bytes,
    key: raw::Bytes,
    to: *mut c_char,
    capacity: usize,
    entry: *mut raw::SharedEntry,
) -> raw::Status {
    let (mut state, space, key) = unsafe { (host_state(host), view(space), view(key)) };
    if !is_key(space, key) {
        return raw::INVALID_ARGUMENT;
    }
    let Some(found) = state.value(space, key) else {
        return raw::NOT_FOUND;
    };
    unsafe {
        (*entry).size = found.value.len() as u64;
        (*entry).version = found.version;
        (*entry).expires_ns = found.expires_ns;
        if found.value.len() > capacity {
            return raw::OUT_OF_RANGE;
        }
        std::ptr::copy_nonoverlapping(found.value.as_ptr(), to.cast(), found.value.len());
    }
    raw::OK
}
unsafe extern "C" fn put_value(
    host: *const raw::Host,
    space: raw::Bytes,
    key: raw::Bytes,
    value: raw::Bytes,
    how: *const raw::SharedPut,
    version: *mut u64,
) -> raw::Status {
    let (mut state, space, key, value) = unsafe {
        (
            host_state(host),
            view(space),
            view(key),
            view(value).to_vec(),
        )
    };
    let (expected, ttl_ns) = unsafe { ((*how).expected, (*how).ttl_ns) };
    if !is_key(space, key) || ttl_ns > raw::SHARED_TTL_NS_MAX {
        return raw::INVALID_ARGUMENT;
    }
    let known = state
        .value(space, key)
        .map_or(raw::SHARED_ABSENT, |known| known.version);
    let may = expected == raw::SHARED_ANY || expected == known;
    let fits = value.len() <= VALUE_BYTES_MAX;
    let expires_ns = if ttl_ns == 0 {
        0
    } else {
        state.now_ns + ttl_ns
    };
    let now = if may && fits {
        state.put(space, key, value, expires_ns)
    } else {
        known
    };
    if !version.is_null() {
        unsafe { *version = now };
    }
    match (may, fits) {
        (false, _) => raw::ABORTED,
        (_, false) => raw::RESOURCE_EXHAUSTED,
        _ => raw::OK,
    }
}
unsafe extern "C" fn remove_value(
    host: *const raw::Host,
    space: raw::Bytes,
    key: raw::Bytes,
    expected: u64,
) -> raw::Status {
    let (mut state, space, key) = unsafe { (host_state(host), view(space), view(key)) };
    let Some(known) = state.value(space, key) else {
        return raw::NOT_FOUND;
    };
    if expected != raw::SHARED_ANY && expected != known.version {
        return raw::ABORTED;
    }
    lock(&state.store.0)
        .values
        .remove(&(space.to_vec(), key.to_vec()));
    raw::OK
}
unsafe extern "C" fn add_value(
    host: *const raw::Host,
    space: raw::Bytes,
    key: raw::Bytes,
    amount: i64,
    ttl_ns: u64,
    sum: *mut i64,
) -> raw::Status {
    let (mut state, space, key) = unsafe { (host_state(host), view(space), view(key)) };
    if !is_key(space, key) || ttl_ns > raw::SHARED_TTL_NS_MAX {
        return raw::INVALID_ARGUMENT;
    }
    let known = state.value(space, key);
    let expires_ns = match (&known, ttl_ns) {
        (Some(known), _) => known.expires_ns,
        (None, 0) => 0,
        (None, ttl_ns) => state.now_ns + ttl_ns,
    };
    let before = match known {
        None => 0,
        Some(known) => match known.value.try_into() {
            Ok(count) => i64::from_ne_bytes(count),
            Err(_) => return raw::INVALID_ARGUMENT,
        },
    };
    let now = before.saturating_add(amount);
    state.put(space, key, now.to_ne_bytes().to_vec(), expires_ns);
    unsafe { *sum = now };
    raw::OK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CheckCall, Plugin, RateLimitCall, Result, Setup};

    struct Guard;

    #[crate::plugin(no_export)]
    impl Plugin for Guard {
        fn create(_: (), _: &mut Setup) -> Result<Self> {
            Ok(Guard)
        }
        fn check(&self, call: &mut CheckCall<'_, Self>) -> Result {
            let (path, again) = (call.path(), call.path());
            assert!(std::ptr::eq(path, again), "made once");
            assert_eq!(
                (call.method(), call.host_name()),
                ("GET", "a.example\u{FFFD}")
            );
            assert_eq!(call.extension("realm"), Some("in\u{FFFD}side"));
            assert_eq!(call.principal(), "spiffe://a/\u{FFFD}");
            if path.starts_with("/admin") {
                return call.deny(403, path);
            }
            call.allow();
            Ok(())
        }
        fn rate_limit(&self, call: &mut RateLimitCall<'_, Self>) -> Result {
            if call.domain().starts_with("all") {
                call.over_limit();
            }
            Ok(())
        }
    }

    /// Bytes that are not UTF-8, as a client may send them.
    fn check(guard: &Instance<Guard>, path: &[u8]) -> Answer {
        let mut message = Vec::new();
        put_message(&mut message, 1, |to| put_bytes(to, 4, b"spiffe://a/\xff"));
        put_message(&mut message, 4, |to| {
            put_message(to, 2, |to| {
                put_bytes(to, 2, b"GET");
                put_bytes(to, 4, path);
                put_bytes(to, 5, b"a.example\xff");
            })
        });
        put_message(&mut message, 10, |to| {
            put_bytes(to, 1, b"realm");
            put_bytes(to, 2, b"in\xffside");
        });
        guard.stream().message(raw::CHECK, message, true)
    }

    #[test]
    fn bytes_that_are_no_text_do_not_hide_the_rest_of_it() {
        let guard = Instance::<Guard>::new("").unwrap();
        let denied = check(&guard, b"/admin\xff");
        assert_eq!(denied.http_status(), Some(403));
        assert_eq!(denied.body(), Some("/admin\u{FFFD}".into()));
        assert!(check(&guard, b"/\xff").is_allowed());
        let mut message = Vec::new();
        put_bytes(&mut message, 1, b"all\xff");
        let limited = guard.stream().message(raw::RATE_LIMIT, message, true);
        assert!(limited.is_over_limit());
    }

    #[test]
    fn an_opening_takes_nothing_beside_a_response() {
        let guard = Instance::<Guard>::new("").unwrap();
        let stream = guard.stream();
        let mut fake = stream.fake(0, &[]);
        let call: *mut raw::Call = (&raw mut *fake).cast();
        // SAFETY: as a plugin calls it.
        let status = unsafe { annotate(call, raw::DYNAMIC_METADATA, bytes(&[])) };
        assert_eq!(status, raw::FAILED_PRECONDITION);
    }
}
