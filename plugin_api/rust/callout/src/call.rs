// SPDX-License-Identifier: Apache-2.0

use std::marker::PhantomData;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value as Json;

use crate::answer::{put_check_header, put_pair, Answer, Append, Body, Immediate};
use crate::error::{Error, Result, Status};
use crate::headers::Headers;
use crate::host::{bytes, monotonic_ns, view, Extension, Host};
use crate::plugin::Plugin;
use crate::task::lock;
use crate::wire::{put_bytes, put_head, put_message, put_number, record_size, Records};
use crate::{json, raw};

/// What a call is about; the types in it stand for the kinds of messages.
pub mod kind {
    /// Request or response headers.
    pub struct Headers;
    /// A request's or response's body, or a piece of it.
    pub struct Body;
    /// Trailers.
    pub struct Trailers;
    /// A Check of ext_authz.
    pub struct Check;
    /// A question about rate limits.
    pub struct RateLimit;
    /// Bytes of a TCP connection.
    pub struct Data;
    /// The beginning of a TCP connection.
    pub struct Connection;
    /// The opening of a stream.
    pub struct Open;

    /// A message, which is answered: all but the opening of a stream.
    pub trait Message {}
    impl Message for Headers {}
    impl Message for Body {}
    impl Message for Trailers {}
    impl Message for Check {}
    impl Message for RateLimit {}
    impl Message for Data {}
    impl Message for Connection {}

    /// A message of ext_proc.
    pub trait ExtProc {}
    impl ExtProc for Headers {}
    impl ExtProc for Body {}
    impl ExtProc for Trailers {}

    /// A message of headers or trailers.
    pub trait Fields {}
    impl Fields for Headers {}
    impl Fields for Trailers {}

    /// A message of TCP.
    pub trait Tcp {}
    impl Tcp for Data {}
    impl Tcp for Connection {}
}

/// In `request_headers` and `response_headers`.
pub type HeadersCall<'a, P> = Call<'a, kind::Headers, P>;
/// In `request_body` and `response_body`.
pub type BodyCall<'a, P> = Call<'a, kind::Body, P>;
/// In `request_trailers` and `response_trailers`.
pub type TrailersCall<'a, P> = Call<'a, kind::Trailers, P>;
/// In `check`.
pub type CheckCall<'a, P> = Call<'a, kind::Check, P>;
/// In `rate_limit`.
pub type RateLimitCall<'a, P> = Call<'a, kind::RateLimit, P>;
/// In `read_data` and `write_data`.
pub type DataCall<'a, P> = Call<'a, kind::Data, P>;
/// In `connection`.
pub type ConnectionCall<'a, P> = Call<'a, kind::Connection, P>;
/// In `stream_open`.
pub type OpenCall<'a, P> = Call<'a, kind::Open, P>;

/// A message on its way through a hook: what it says, and what is to become of it.
///
/// What it lends (`'a`) lives as long as the hook runs, in an async hook also across `.await`.
/// Nothing set: the message passes unchanged; but a Check is refused.
///
/// A refusal stands: after `deny`, `reply`, `refuse`, `close` or `reset` every other step does nothing,
/// and the host's log says which one it was, so that a missing `return` lets nothing pass. If the hook
/// then ends with an error or panics, that is a fault which no policy lets pass.
pub struct Call<'a, K, P: Plugin> {
    /// The plugin's own state of this stream: the same one in every call of it.
    pub stream: &'a mut P::Stream,
    call: RawCall,
    /// Held while a service of the call is used: several threads may have `&Call`, and the host takes one.
    turn: Mutex<()>,
    texts: Texts,
    host: &'a Host,
    answer: Answer,
    kind: PhantomData<K>,
}

/// The host's call, for as long as it is not finished.
#[derive(Clone, Copy)]
pub(crate) struct RawCall(pub *mut raw::Call);

// SAFETY: what it points to may be read from any thread, and is written to by nobody while the call is
// open. Its services are called by one thread at a time: in `Call` by `Call::turn`, in a task by the lock of
// its future.
unsafe impl Send for RawCall {}
unsafe impl Sync for RawCall {}

/// Texts that were made of bytes which are not UTF-8, each once. What is lent of them does not move: so it is
/// a list.
#[derive(Default)]
struct Texts(OnceLock<Box<(String, Texts)>>);

impl Texts {
    fn keep(&self, text: &str) -> &str {
        let mut place = self;
        loop {
            let known = place
                .0
                .get_or_init(|| Box::new((text.to_string(), Texts::default())));
            if known.0 == text {
                return &known.0;
            }
            place = &known.1;
        }
    }
}

impl<'a, K, P: Plugin> Call<'a, K, P> {
    /// # Safety
    /// `call` is a call of the host's that is not over before 'a is.
    pub(crate) unsafe fn new(call: RawCall, host: &'a Host, stream: &'a mut P::Stream) -> Self {
        Call {
            stream,
            call,
            turn: Mutex::new(()),
            texts: Texts::default(),
            host,
            answer: Answer::default(),
            kind: PhantomData,
        }
    }

    /// Gives the host what was set. Returns what the hook has to return.
    pub(crate) fn settle(mut self, result: Result) -> raw::Status {
        if let Some(text) = self.answer.late_step_text(self.raw().phase) {
            self.host.error(text);
        }
        if self.answer.loses_a_step() {
            self.answer
                .fail("hold() beside another step of the same call, which would be lost: only hold, or only set");
        }
        let failure = self.answer.failure.take();
        let Err(error) = result.and(failure.map_or(Ok(()), Err)) else {
            return match (self.answer.is_empty(), self.answer.held) {
                (true, true) => raw::NO_RESPONSE,
                (true, false) => raw::OK,
                _ => self.respond(),
            };
        };
        // A refusal is told before the fault, which then passes under no policy.
        if self.answer.refuses() {
            let told = self.respond();
            if matches!(
                error.status(),
                Status::PermissionDenied | Status::Unauthenticated
            ) {
                return told;
            }
        }
        self.set_error(error.text());
        error.status().to_raw()
    }

    fn respond(&mut self) -> raw::Status {
        let message = self.answer.message(self.raw().phase);
        let parts = self.answer.parts(&message);
        // SAFETY: the call is open; the host copies.
        self.service(|call, host| unsafe {
            (host.respond)(call, message.field, parts.as_ptr(), parts.len())
        })
    }

    /// Makes a step of the answer, unless a refusal stands.
    fn set(&mut self, step: &'static str, change: impl FnOnce(&mut Answer)) {
        if self.answer.may_go_on(step) {
            change(&mut self.answer);
        }
    }

    fn set_error(&self, text: &str) {
        // SAFETY: the call is open; the text is copied.
        self.service(|call, host| unsafe { (host.set_error)(call, bytes(text.as_bytes())) });
    }

    pub(crate) fn raw_call(&self) -> (RawCall, &Mutex<()>) {
        (self.call, &self.turn)
    }

    fn raw(&self) -> &'a raw::Call {
        // SAFETY: the call is open for 'a. The host writes to none of its fields meanwhile.
        unsafe { &*self.call.0 }
    }

    fn view(&self, bytes: raw::Bytes) -> &'a [u8] {
        // SAFETY: the views of a call live as long as it is open.
        unsafe { view(bytes) }
    }

    /// As `Headers::text`: what is not UTF-8 becomes U+FFFD, so that the rest still compares.
    fn text(&self, bytes: &'a [u8]) -> &'a str {
        std::str::from_utf8(bytes).unwrap_or_else(|_| {
            let text = self.texts.keep(&String::from_utf8_lossy(bytes));
            // SAFETY: the text lives as long as the call, whose hook is over before it is dropped; a hook is
            // for every 'a, so what it is lent for 'a does not outlive it.
            unsafe { &*std::ptr::from_ref(text) }
        })
    }

    /// Calls a service of the host for this call.
    fn service<T>(&self, service: impl FnOnce(*mut raw::Call, &raw::Host) -> T) -> T {
        let _turn = lock(&self.turn);
        // SAFETY: the call is open, and so the table lives.
        service(self.call.0, unsafe { &*self.raw().host })
    }

    fn message(&self) -> &'a [u8] {
        self.view(self.raw().message)
    }

    fn has(&self, flag: u32) -> bool {
        self.raw().flags & flag != 0
    }

    /// The host: log and extensions.
    pub fn host(&self) -> &'a Host {
        self.host
    }

    /// The first call of its kind in the stream.
    pub fn is_first(&self) -> bool {
        self.has(raw::CALL_FIRST)
    }

    /// Nothing more follows in this direction. Trailers that follow cannot be known in advance.
    pub fn is_last(&self) -> bool {
        self.has(raw::CALL_LAST)
    }

    /// The client or Envoy has left, so that work can stop early.
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: the call is open.
        self.service(|call, host| unsafe { (host.is_cancelled)(call) != 0 })
    }

    /// When the host answers in the plugin's place, as nanoseconds of CLOCK_MONOTONIC. What
    /// `extend_timeout` adds is not in it.
    pub fn deadline_ns(&self) -> Option<u64> {
        Some(self.raw().deadline_ns).filter(|deadline| *deadline != 0)
    }

    /// How long the hook may still take, until the host answers in its place; `None`: it has no deadline.
    /// Zero: the time is over. `Upstream::call` keeps to it by itself. What `extend_timeout` adds is not
    /// in it.
    pub fn time_left(&self) -> Option<Duration> {
        let deadline = self.deadline_ns()?;
        Some(Duration::from_nanos(
            deadline.saturating_sub(monotonic_ns()),
        ))
    }

    /// An attribute that Envoy was told to send: `request.path`, `source.address`, …
    pub fn attribute(&self, name: &str) -> Option<Json> {
        json::attribute(self.view(self.raw().attributes), name)
    }

    /// What another filter has left under `key` in a namespace of the metadata.
    pub fn metadata(&self, namespace: &str, key: &str) -> Option<Json> {
        json::metadata(self.view(self.raw().metadata_context), namespace, key)
    }

    /// The first value of `key` (in lower case) in the metadata of the gRPC request.
    pub fn grpc_metadata(&self, key: &str) -> Option<&'a [u8]> {
        let mut value = bytes(&[]);
        // SAFETY: the call is open, and the view lives as long as the stream.
        let status = self.service(|call, host| unsafe {
            (host.get_metadata)(call, bytes(key.as_bytes()), 0, &mut value)
        });
        (status == raw::OK).then(|| self.view(value))
    }

    /// All of the metadata of the gRPC request, in its order; keys are in lower case. It is the extension
    /// `callout.rpc_metadata/1`: empty on a host that is older.
    pub fn grpc_metadata_entries(&self) -> Vec<(&'a str, &'a [u8])> {
        // SAFETY: the id is that of the table.
        let found = unsafe { Extension::<raw::RpcMetadata>::new(self.host, raw::RPC_METADATA, "") };
        let Ok(metadata) = found else {
            return Vec::new();
        };
        let mut entries = Vec::new();
        for index in 0.. {
            let (mut key, mut value) = (bytes(&[]), bytes(&[]));
            // SAFETY: the call is open, and the views live as long as the stream.
            let status = self.service(|call, _| {
                metadata
                    .call(|table, _| unsafe { ((*table).at)(call, index, &mut key, &mut value) })
            });
            if status != raw::OK {
                break;
            }
            entries.push((self.text(self.view(key)), self.view(value)));
        }
        entries
    }

    fn property(&self, property: raw::Property) -> Option<&'a str> {
        let mut value = bytes(&[]);
        // SAFETY: as above.
        let status =
            self.service(|call, host| unsafe { (host.get_property)(call, property, &mut value) });
        (status == raw::OK).then(|| self.text(self.view(value)))
    }
    /// Envoy's address: `ipv4:10.0.0.7:41312`.
    pub fn peer(&self) -> Option<&'a str> {
        self.property(raw::PEER)
    }
    /// `secure` or `plaintext`.
    pub fn listener(&self) -> Option<&'a str> {
        self.property(raw::LISTENER)
    }
    /// By Envoy's client certificate: its first URI SAN, else DNS SAN, else common name.
    pub fn peer_identity(&self) -> Option<&'a str> {
        self.property(raw::PEER_IDENTITY)
    }
    /// Unique in this process.
    pub fn stream_id(&self) -> Option<&'a str> {
        self.property(raw::STREAM_ID)
    }

    fn annotate(&mut self, field: raw::Field, message: &[u8]) -> Result {
        // SAFETY: the call is open; the message is copied.
        let status =
            self.service(|call, host| unsafe { (host.annotate)(call, field, bytes(message)) });
        accepted(
            status,
            "the host refused what was to go beside the response",
        )
    }
}

impl<K: kind::Message, P: Plugin> Call<'_, K, P> {
    /// Dynamic metadata for later filters: `namespace` gets the fields of `value`, which has to
    /// become a JSON object. Envoy drops namespaces that its `receiving_namespaces` does not list.
    ///
    /// ```
    /// fn request_headers<P: callout::Plugin>(call: &mut callout::HeadersCall<'_, P>) -> callout::Result {
    ///     call.set_metadata("my.plugin", callout::json!({"user": "ada"}))
    /// }
    /// ```
    ///
    /// The opening of a stream has no response that it could go beside:
    ///
    /// ```compile_fail
    /// fn stream_open<P: callout::Plugin>(call: &mut callout::OpenCall<'_, P>) -> callout::Result {
    ///     call.set_metadata("my.plugin", callout::json!({"user": "ada"}))
    /// }
    /// ```
    pub fn set_metadata(&mut self, namespace: &str, value: impl Serialize) -> Result {
        let wrong = |text: String| Error::with_status(Status::InvalidArgument, text);
        let fields = match serde_json::to_value(value)? {
            Json::Object(fields) => fields,
            _ => {
                return Err(wrong(format!(
                    "metadata for {namespace}: expected an object"
                )))
            }
        };
        let outer = [(namespace.to_string(), Json::Object(fields))]
            .into_iter()
            .collect();
        let message = json::write_struct(&outer)
            .map_err(|text| wrong(format!("metadata for {namespace}: {text}")))?;
        let field = match self.raw().phase {
            raw::CHECK => raw::CHECK_DYNAMIC_METADATA,
            raw::RATE_LIMIT => raw::RATE_LIMIT_DYNAMIC_METADATA,
            raw::READ_DATA | raw::WRITE_DATA | raw::CONNECTION => raw::DATA_DYNAMIC_METADATA,
            _ => raw::DYNAMIC_METADATA,
        };
        self.annotate(field, &message)
    }
}

fn accepted(status: raw::Status, text: &str) -> Result {
    match status {
        raw::OK => Ok(()),
        other => Err(Error::with_status(Status::from_raw(other), text)),
    }
}

// --- ext_proc ---

/// How Envoy sends a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum BodyMode {
    None,
    Streamed,
    Buffered,
    BufferedPartial,
    FullDuplexStreamed,
    Grpc,
}

/// Processing modes for the rest of the stream; what is not set stays. Envoy follows only if it is
/// told to (`allow_mode_override`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Modes {
    /// How the request's body is sent from now on.
    pub request_body: Option<BodyMode>,
    /// How the response's body will be sent.
    pub response_body: Option<BodyMode>,
    /// Whether the response's headers will be sent.
    pub response_headers: Option<bool>,
    /// Whether the request's trailers will be sent.
    pub request_trailers: Option<bool>,
    /// Whether the response's trailers will be sent.
    pub response_trailers: Option<bool>,
}

impl<'a, K: kind::ExtProc, P: Plugin> Call<'a, K, P> {
    /// Sets a header, in the place of all that have this name.
    pub fn set_header(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        if self.answer.may_go_on("set_header") {
            self.answer
                .set_header(name.as_ref(), value.as_ref(), Append::OverwriteOrAdd);
        }
    }
    /// Adds a header; values that are there stay.
    pub fn append_header(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        if self.answer.may_go_on("append_header") {
            self.answer
                .set_header(name.as_ref(), value.as_ref(), Append::IfExistsOrAdd);
        }
    }
    /// Removes all values of a header, also what this call has set.
    pub fn remove_header(&mut self, name: impl AsRef<[u8]>) {
        if self.answer.may_go_on("remove_header") {
            self.answer.remove_header(name.as_ref());
        }
    }

    /// Refuses the request: Envoy answers the client with this status (200 to 599) and body. The first
    /// refusal of a call stands.
    pub fn deny(&mut self, http_status: u16, body: impl Into<Vec<u8>>) -> Result {
        self.begin_reply("deny", http_status).body(body);
        self.answer.result()
    }

    /// The same with headers and more. What the call has set before is dropped; after another refusal it
    /// does nothing.
    pub fn reply(&mut self, http_status: u16) -> Reply<'_> {
        self.begin_reply("reply", http_status)
    }

    fn begin_reply(&mut self, step: &'static str, http_status: u16) -> Reply<'_> {
        let begins = self.answer.begin_immediate(step, http_status);
        Reply {
            answer: begins.then_some(&mut self.answer),
        }
    }

    /// Asks Envoy for more time for this message, which needs `max_message_timeout`. For async hooks,
    /// before the first `.await`. `time_left` and `Upstream::call` keep to the time without it; other
    /// futures may use it.
    pub fn extend_timeout(&mut self, time: Duration) -> Result {
        let mut message = Vec::new();
        put_number(&mut message, 1, time.as_secs());
        put_number(&mut message, 2, time.subsec_nanos().into());
        self.annotate(raw::OVERRIDE_MESSAGE_TIMEOUT, &message)
    }

    /// ProcessingMode: response_header_mode 2, request_body_mode 3, response_body_mode 4,
    /// request_trailer_mode 5, response_trailer_mode 6.
    pub fn override_modes(&mut self, modes: Modes) -> Result {
        let mut message = Vec::new();
        let send = |send: Option<bool>| send.map(|send| if send { 1 } else { 2 });
        let fields = [
            (2, send(modes.response_headers)),
            (3, modes.request_body.map(|mode| mode as u64)),
            (4, modes.response_body.map(|mode| mode as u64)),
            (5, send(modes.request_trailers)),
            (6, send(modes.response_trailers)),
        ];
        for (field, value) in fields {
            if let Some(value) = value {
                put_number(&mut message, field, value);
            }
        }
        self.annotate(raw::MODE_OVERRIDE, &message)
    }

    /// How Envoy sends the body of this direction.
    pub fn body_mode(&self) -> BodyMode {
        match self.raw().body_mode {
            raw::BODY_STREAMED => BodyMode::Streamed,
            raw::BODY_BUFFERED => BodyMode::Buffered,
            raw::BODY_BUFFERED_PARTIAL => BodyMode::BufferedPartial,
            raw::BODY_FULL_DUPLEX_STREAMED => BodyMode::FullDuplexStreamed,
            raw::BODY_GRPC => BodyMode::Grpc,
            _ => BodyMode::None,
        }
    }

    /// A message of the request's direction.
    pub fn is_request(&self) -> bool {
        self.raw().phase % 2 == 0
    }

    /// In response phases, after [`Setup::want_request_headers`](crate::Setup::want_request_headers):
    /// the request's headers as Envoy sent them.
    pub fn request_headers(&self) -> Headers<'a> {
        Headers::of_message(self.view(self.raw().request_headers))
    }

    /// Envoy does not see the answers (observability mode).
    pub fn is_observed(&self) -> bool {
        self.has(raw::CALL_OBSERVABILITY)
    }
}

/// What a client gets in the place of the backend's response.
pub struct Reply<'c> {
    /// `None`: another refusal stands.
    answer: Option<&'c mut Answer>,
}

impl Reply<'_> {
    fn with(mut self, step: impl FnOnce(&mut Answer)) -> Self {
        if let Some(answer) = &mut self.answer {
            step(answer);
        }
        self
    }
    fn with_immediate(self, step: impl FnOnce(&mut Immediate)) -> Self {
        self.with(|answer| {
            if let Some(immediate) = &mut answer.immediate {
                step(immediate);
            }
        })
    }
    /// Sets a header of the response.
    pub fn header(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.with(|answer| answer.set_header(name.as_ref(), value.as_ref(), Append::OverwriteOrAdd))
    }
    /// Its body. Envoy's default content-type is text/plain.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        self.with(|answer| answer.body = Body::Replaced(body.into()))
    }
    /// For Envoy's access log (`%RESPONSE_CODE_DETAILS%`); the client does not see it.
    pub fn details(self, text: impl Into<String>) -> Self {
        self.with_immediate(|immediate| immediate.details = text.into())
    }
    /// For gRPC clients; without it Envoy derives one from the HTTP status.
    pub fn grpc_status(self, status: u32) -> Self {
        self.with_immediate(|immediate| immediate.grpc_status = Some(status))
    }
}

impl<'a, K: kind::Fields, P: Plugin> Call<'a, K, P> {
    fn would_exist(&self, name: &[u8]) -> bool {
        let is_it = |header: crate::Header| header.name.eq_ignore_ascii_case(name);
        self.answer
            .would_exist(Headers::of_message(self.message()).iter().any(is_it), name)
    }
    /// Sets a header that would not be there otherwise.
    pub fn set_header_if_absent(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        if self.answer.may_go_on("set_header_if_absent") && !self.would_exist(name.as_ref()) {
            self.answer
                .set_header(name.as_ref(), value.as_ref(), Append::IfAbsent);
        }
    }
    /// Sets a header that is there already.
    pub fn set_header_if_present(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        if self.answer.may_go_on("set_header_if_present") && self.would_exist(name.as_ref()) {
            self.answer
                .set_header(name.as_ref(), value.as_ref(), Append::OverwriteIfExists);
        }
    }
}

impl<'a, P: Plugin> Call<'a, kind::Headers, P> {
    /// The headers as the plugins before left them.
    pub fn headers(&self) -> Headers<'a> {
        Headers::of_message(self.message())
    }
    /// Neither body nor trailers follow.
    pub fn end_of_stream(&self) -> bool {
        self.is_last()
    }
    /// Lets Envoy choose the route again, by the headers as this call leaves them. For requests.
    pub fn clear_route_cache(&mut self) {
        self.set("clear_route_cache", |answer| {
            answer.clear_route_cache = true;
        });
    }
    /// Puts `body` in the place of the one that would follow.
    pub fn replace_body(&mut self, body: impl Into<Vec<u8>>) {
        self.set("replace_body", |answer| {
            answer.body = Body::Replaced(body.into());
        });
    }
    /// FULL_DUPLEX_STREAMED only: holds the headers until a later call of the direction settles them. Beside
    /// another step, which would be lost, it is a fault; a refusal stands.
    pub fn hold(&mut self) {
        self.set("hold", |answer| answer.held = true);
    }
}

impl<'a, P: Plugin> Call<'a, kind::Body, P> {
    /// The body, or the piece of it that has come.
    pub fn body(&self) -> &'a [u8] {
        Records::last(self.message(), 1)
    }
    /// The last piece, unless trailers follow.
    pub fn end_of_stream(&self) -> bool {
        self.is_last()
    }
    /// The message holds the entire body.
    pub fn is_whole(&self) -> bool {
        self.has(raw::CALL_WHOLE_BODY)
    }
    /// Bytes of this direction's body in the messages before.
    pub fn offset(&self) -> u64 {
        self.raw().body_offset
    }
    /// Replaces the body or this piece of it, in whatever mode Envoy sends it.
    pub fn set_body(&mut self, body: impl Into<Vec<u8>>) {
        self.set("set_body", |answer| {
            answer.body = Body::Replaced(body.into());
        });
    }
    /// Removes the body or this piece.
    pub fn clear_body(&mut self) {
        self.set("clear_body", |answer| answer.body = Body::Cleared);
    }
    /// Lets Envoy choose the route again. For requests, in BUFFERED.
    pub fn clear_route_cache(&mut self) {
        self.set("clear_route_cache", |answer| {
            answer.clear_route_cache = true;
        });
    }
    /// FULL_DUPLEX_STREAMED only: sends a piece ahead of the answer.
    pub fn send(&mut self, piece: &[u8]) -> Result {
        if !self.answer.may_go_on("send") {
            return Ok(());
        }
        // BodyResponse.response 1 .body_mutation 3 .streamed_response 3 .body 1
        let streamed = record_size(1, piece.len());
        let mutation = record_size(3, streamed);
        let mut head = Vec::with_capacity(24);
        put_head(&mut head, 1, record_size(3, mutation));
        put_head(&mut head, 3, mutation);
        put_head(&mut head, 3, streamed);
        put_head(&mut head, 1, piece.len());
        let parts = [bytes(&head), bytes(piece)];
        let field = self.raw().phase - 1;
        // SAFETY: the call is open; the parts are copied.
        let status = self
            .service(|call, host| unsafe { (host.send)(call, field, parts.as_ptr(), parts.len()) });
        accepted(status, "a piece of the body could not be sent")
    }
    /// How many bytes `send` takes now.
    pub fn send_room(&self) -> u64 {
        // SAFETY: the call is open.
        self.service(|call, host| unsafe { (host.send_room)(call) })
    }
    /// FULL_DUPLEX_STREAMED only: keeps this piece back, or drops it. What is not `send` or a refusal beside it
    /// is a fault, since it would be lost.
    pub fn hold(&mut self) {
        self.set("hold", |answer| answer.held = true);
    }
}

impl<'a, P: Plugin> Call<'a, kind::Trailers, P> {
    /// The trailers as the plugins before left them.
    pub fn trailers(&self) -> Headers<'a> {
        Headers::of_message(self.message())
    }
}

// --- ext_authz ---

/// Where a text has bytes that are not UTF-8, each becomes U+FFFD: a path still begins as it does.
impl<'a, P: Plugin> Call<'a, kind::Check, P> {
    /// AttributeContext.request 4 .http 2
    fn http(&self) -> &'a [u8] {
        Records::last(Records::last(self.message(), 4), 2)
    }
    fn http_text(&self, field: u32) -> &'a str {
        self.text(Records::last(self.http(), field))
    }
    /// The request's headers.
    pub fn headers(&self) -> Headers<'a> {
        Headers::of_check(self.http())
    }
    /// The method, empty where the network filter asks about a connection.
    pub fn method(&self) -> &'a str {
        self.http_text(2)
    }
    /// The path with its query.
    pub fn path(&self) -> &'a str {
        self.http_text(4)
    }
    /// The host (authority).
    pub fn host_name(&self) -> &'a str {
        self.http_text(5)
    }
    /// The body, where Envoy is told to send it.
    pub fn body(&self) -> &'a [u8] {
        let packed = Records::last(self.http(), 12);
        if packed.is_empty() {
            Records::last(self.http(), 11)
        } else {
            packed
        }
    }
    /// What the route's configuration says under `key` (`context_extensions`).
    pub fn extension(&self, key: &str) -> Option<&'a str> {
        json::find(self.message(), 10, key.as_bytes()).map(|value| self.text(value))
    }
    /// By the peer's certificate: a URI SAN, else a DNS SAN, else the subject; else empty.
    pub fn principal(&self) -> &'a str {
        self.text(Records::last(Records::last(self.message(), 1), 4))
    }
    /// The client's IP address and port.
    pub fn source(&self) -> Option<(&'a str, u16)> {
        let socket = Records::last(Records::last(Records::last(self.message(), 1), 1), 1);
        let address = Some(self.text(Records::last(socket, 2))).filter(|text| !text.is_empty())?;
        let port = Records::number(socket, 3)
            .and_then(|port| port.try_into().ok())
            .unwrap_or(0);
        Some((address, port))
    }

    /// `false`: a refusal stands.
    fn begin(&mut self, step: &'static str, field: raw::Field) -> bool {
        if !self.answer.may_go_on(step) {
            return false;
        }
        let failure = self.answer.failure.take();
        self.answer = Answer {
            failure,
            check: Some(field),
            ..Default::default()
        };
        true
    }
    /// Lets the request pass, with what is then set on it. An `allow` before it is dropped; after a
    /// refusal it does nothing.
    pub fn allow(&mut self) -> Allow<'_> {
        let begins = self.begin("allow", raw::CHECK_OK);
        Allow {
            answer: begins.then_some(&mut self.answer),
        }
    }
    /// Refuses it with an HTTP status of 200 to 599 and a body of UTF-8. The first refusal of a call
    /// stands.
    pub fn deny(&mut self, http_status: u16, body: &str) -> Result {
        self.begin_refusal("deny", http_status)?.body(body);
        Ok(())
    }
    /// The same, with headers.
    pub fn refuse(&mut self, http_status: u16) -> Result<Refuse<'_>> {
        self.begin_refusal("refuse", http_status)
    }

    fn begin_refusal(&mut self, step: &'static str, http_status: u16) -> Result<Refuse<'_>> {
        if !self.begin(step, raw::CHECK_DENIED) {
            return Ok(Refuse { answer: None });
        }
        if !(200..=599).contains(&http_status) {
            self.answer
                .fail("a denial needs an HTTP status of 200 to 599");
        }
        self.answer.result()?;
        put_message(&mut self.answer.records, 1, |to| {
            put_number(to, 1, http_status.into())
        });
        Ok(Refuse {
            answer: Some(&mut self.answer),
        })
    }
}

/// What happens to a request that may pass.
pub struct Allow<'c> {
    /// `None`: the request is refused already.
    answer: Option<&'c mut Answer>,
}

impl Allow<'_> {
    fn with(mut self, step: impl FnOnce(&mut Vec<u8>)) -> Self {
        if let Some(answer) = &mut self.answer {
            step(&mut answer.records);
        }
        self
    }
    /// Sets a header of the request.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.with(|to| put_check_header(to, 2, name, value, Append::OverwriteOrAdd))
    }
    /// Removes a header of the request.
    pub fn remove_header(self, name: &str) -> Self {
        self.with(|to| put_bytes(to, 5, name.as_bytes()))
    }
    /// Sets a header of the response that the request will get.
    pub fn response_header(self, name: &str, value: &str) -> Self {
        self.with(|to| put_check_header(to, 6, name, value, Append::OverwriteOrAdd))
    }
    /// Sets a parameter of the query, in plain text: the host encodes it.
    pub fn query(self, name: &str, value: &str) -> Self {
        self.with(|to| put_pair(to, 7, name, value))
    }
    /// Removes a parameter of the query.
    pub fn remove_query(self, name: &str) -> Self {
        self.with(|to| put_bytes(to, 8, name.as_bytes()))
    }
}

/// What a client gets whose request is refused.
pub struct Refuse<'c> {
    /// `None`: an earlier refusal stands.
    answer: Option<&'c mut Answer>,
}

impl Refuse<'_> {
    fn with(mut self, step: impl FnOnce(&mut Vec<u8>)) -> Self {
        if let Some(answer) = &mut self.answer {
            step(&mut answer.records);
        }
        self
    }
    /// Adds a header to the response.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.with(|to| put_check_header(to, 2, name, value, Append::IfExistsOrAdd))
    }
    /// The response's body.
    pub fn body(self, body: &str) -> Self {
        self.with(|to| put_bytes(to, 3, body.as_bytes()))
    }
}

// --- Rate limits ---

/// Entries that together name a counter.
#[derive(Clone, Copy)]
pub struct Descriptor<'a> {
    message: &'a [u8],
    /// Its own hits, else the request's; 0 asks without taking any.
    pub hits: u64,
    /// The hits are returned, not taken.
    pub gives_back: bool,
}

impl<'a> Descriptor<'a> {
    /// Key and value of each entry.
    pub fn entries(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        Records::all(self.message, 1)
            .map(|entry| (Records::last(entry, 1), Records::last(entry, 2)))
    }
    /// The first value of an entry.
    pub fn get(&self, key: &str) -> Option<&'a [u8]> {
        self.entries()
            .find(|(name, _)| *name == key.as_bytes())
            .map(|(_, value)| value)
    }
}

impl<'a, P: Plugin> Call<'a, kind::RateLimit, P> {
    /// Which set of limits: the `domain` of the filter's configuration.
    pub fn domain(&self) -> &'a str {
        self.text(Records::last(self.message(), 1))
    }
    /// How many hits the request counts for, at least 1.
    pub fn hits(&self) -> u32 {
        Records::number(self.message(), 3)
            .map_or(1, |hits| hits as u32)
            .max(1)
    }
    /// What the request is counted by.
    pub fn descriptors(&self) -> impl Iterator<Item = Descriptor<'a>> + use<'a, P> {
        let hits = self.hits();
        Records::all(self.message(), 2).map(move |message| {
            // hits_addend 3 is a UInt64Value: value 1
            let own = Records::all(message, 3)
                .last()
                .map(|own| Records::number(own, 1).unwrap_or(0));
            let gives_back = Records::number(message, 4).unwrap_or(0) != 0;
            Descriptor {
                message,
                hits: own.unwrap_or(hits.into()),
                gives_back,
            }
        })
    }
    /// The request is over its limits: Envoy answers 429. It stays so, whatever comes after it.
    pub fn over_limit(&mut self) {
        self.answer.over_limit = Some(true);
    }
    fn answered(&mut self) -> &mut Vec<u8> {
        self.answer.over_limit.get_or_insert(false);
        &mut self.answer.records
    }
    /// Adds a header to the response, whether the request passes or not.
    pub fn add_response_header(&mut self, name: &str, value: &str) {
        put_pair(self.answered(), 3, name, value);
    }
    /// Adds a header to a request that passes.
    pub fn add_request_header(&mut self, name: &str, value: &str) {
        put_pair(self.answered(), 4, name, value);
    }
    /// The body of the response to a request over the limit.
    pub fn set_body(&mut self, body: &[u8]) {
        put_bytes(self.answered(), 5, body);
    }
}

// --- Network ext_proc ---

impl<'a, K: kind::Tcp, P: Plugin> Call<'a, K, P> {
    /// Closes the connection as one that is over, without the bytes of this call. After `close` and
    /// `reset` nothing else counts.
    pub fn close(&mut self) {
        self.set("close", |answer| answer.connection_status = Some(1));
    }
    /// Resets the connection.
    pub fn reset(&mut self) {
        self.set("reset", |answer| answer.connection_status = Some(2));
    }
}

impl<'a, P: Plugin> Call<'a, kind::Data, P> {
    /// The bytes, as they come. There may be none: an end of a direction comes alone.
    pub fn data(&self) -> &'a [u8] {
        Records::last(self.message(), 1)
    }
    /// Nothing more follows in this direction.
    pub fn end_of_stream(&self) -> bool {
        self.is_last()
    }
    /// Bytes of the direction before these.
    pub fn offset(&self) -> u64 {
        self.raw().body_offset
    }
    /// These bytes go on in the place of those that came; none, if it is empty.
    pub fn set_data(&mut self, data: impl Into<Vec<u8>>) {
        self.set("set_data", |answer| {
            answer.body = Body::Replaced(data.into());
        });
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Outcome {
    Unknown,
    /// Envoy ended it and nothing was outstanding.
    Completed,
    /// The host ended it, since no instance wanted more of it.
    Early,
    /// A plugin or a policy had Envoy answer the client.
    Immediate,
    /// The host ended it with an error.
    Error,
    /// Envoy left while a response was outstanding.
    Cancelled,
    /// The host shut down.
    Drained,
}

/// The end of a stream, for `stream_end`.
#[derive(Clone, Copy)]
pub struct StreamEnd<'a> {
    pub(crate) end: raw::StreamEnd,
    pub(crate) host: &'a Host,
}

impl<'a> StreamEnd<'a> {
    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        match self.end.outcome {
            raw::END_COMPLETED => Outcome::Completed,
            raw::END_EARLY => Outcome::Early,
            raw::END_IMMEDIATE => Outcome::Immediate,
            raw::END_ERROR => Outcome::Error,
            raw::END_CANCELLED => Outcome::Cancelled,
            raw::END_DRAINED => Outcome::Drained,
            _ => Outcome::Unknown,
        }
    }
    /// The response's `:status` as it came last; `None`: none was seen.
    pub fn http_status(&self) -> Option<u32> {
        Some(self.end.http_status).filter(|status| *status != 0)
    }
    /// Bytes of the request's body that Envoy sent to the host.
    pub fn request_body_bytes(&self) -> u64 {
        self.end.request_body_bytes
    }
    /// The same of the response.
    pub fn response_body_bytes(&self) -> u64 {
        self.end.response_body_bytes
    }
    /// From the first message to the end.
    pub fn stream_time(&self) -> Duration {
        Duration::from_nanos(self.end.stream_ns)
    }
    /// Of it, time in this instance.
    pub fn instance_time(&self) -> Duration {
        Duration::from_nanos(self.end.instance_ns)
    }
    /// The host: log and extensions.
    pub fn host(&self) -> &'a Host {
        self.host
    }
}
