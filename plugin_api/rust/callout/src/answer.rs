// SPDX-License-Identifier: Apache-2.0

//! What a hook has set, and the messages it becomes. As callout/answer.h, check.h, rate_limit.h, data.h.

use crate::error::{Error, Result, Status};
use crate::host::bytes;
use crate::raw;
use crate::wire::{put_bytes, put_head, put_message, put_number, record_size, Records};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Append {
    IfExistsOrAdd,
    IfAbsent,
    OverwriteOrAdd,
    OverwriteIfExists,
}

#[derive(Default, PartialEq, Eq)]
pub(crate) enum Body {
    #[default]
    Unchanged,
    Replaced(Vec<u8>),
    Cleared,
}

#[derive(Default)]
pub(crate) struct Immediate {
    pub http_status: u32,
    pub grpc_status: Option<u32>,
    pub details: String,
}

/// Steps work in the order in which they are called, although Envoy removes before it sets.
///
/// A refusal stands: what comes after it does nothing, and the log says what that was.
#[derive(Default)]
pub(crate) struct Answer {
    /// The first step after a refusal.
    pub late_step: Option<&'static str>,
    /// The first step that failed.
    pub failure: Option<Error>,
    /// The records of a HeaderMutation or, for a Check or a rate limit, of the response.
    pub records: Vec<u8>,
    pub has_mutation: bool,
    pub clear_route_cache: bool,
    pub body: Body,
    pub immediate: Option<Immediate>,
    /// CHECK_OK, …
    pub check: Option<raw::Field>,
    /// There is an answer about a rate limit, and whether the request is over it.
    pub over_limit: Option<bool>,
    /// ProcessingResponse.connection_status of network ext_proc
    pub connection_status: Option<u64>,
    pub held: bool,
}

/// A message of the answer: what stands around the body, and the body itself, which is not copied.
pub(crate) struct Message {
    pub field: raw::Field,
    pub head: Vec<u8>,
    pub tail: Vec<u8>,
}

impl Answer {
    /// What the hook has said is final.
    fn is_decided(&self) -> bool {
        self.immediate.is_some()
            || self.check == Some(raw::CHECK_DENIED)
            || self.connection_status.is_some()
    }

    /// The request, or the connection, does not go on.
    pub fn refuses(&self) -> bool {
        self.is_decided() || self.over_limit == Some(true)
    }

    /// Whether `step` may still be made. If not it has to do nothing.
    pub fn may_go_on(&mut self, step: &'static str) -> bool {
        let is_decided = self.is_decided();
        if is_decided {
            self.late_step.get_or_insert(step);
        }
        !is_decided
    }

    /// What the log says of a step after a refusal.
    pub fn late_step_text(&self, phase: raw::Phase) -> Option<String> {
        let step = self.late_step?;
        let (after, remedy) = match phase {
            raw::CHECK => ("a denial", "it"),
            raw::READ_DATA | raw::WRITE_DATA | raw::CONNECTION => ("close() or reset()", "them"),
            _ => ("deny() or reply()", "them, or add to the Reply"),
        };
        Some(format!(
            "{step}() after {after} does nothing: return from the hook after {remedy}"
        ))
    }

    pub fn fail(&mut self, text: &str) {
        if self.failure.is_none() {
            self.failure = Some(Error::with_status(Status::InvalidArgument, text));
        }
    }

    /// The error of the first step that failed. It also stays here, so that nothing goes out where a
    /// plugin ignores it.
    pub fn result(&self) -> Result {
        self.failure.clone().map_or(Ok(()), Err)
    }

    // --- Headers ---

    /// HeaderMutation: set_headers 1 (HeaderValueOption: header 1), remove_headers 2.
    fn names(&self, field: u32, name: &[u8]) -> bool {
        let is_it = |record: &[u8]| {
            let found = if field == 1 {
                Records::last(Records::last(record, 1), 1)
            } else {
                record
            };
            found.eq_ignore_ascii_case(name)
        };
        Records::all(&self.records, field).any(is_it)
    }

    pub fn would_exist(&self, is_known: bool, name: &[u8]) -> bool {
        self.names(1, name) || (is_known && !self.names(2, name))
    }

    pub fn set_header(&mut self, name: &[u8], value: &[u8], append: Append) {
        self.has_mutation = true;
        put_option(&mut self.records, name, value, append);
    }

    /// Also takes back what the answer has set.
    pub fn remove_header(&mut self, name: &[u8]) {
        self.has_mutation = true;
        if self.names(1, name) {
            let mut kept = Vec::with_capacity(self.records.len());
            for record in Records(&self.records) {
                let (field, crate::wire::Value::Bytes(content)) = record else {
                    continue;
                };
                let sets_it = field == 1
                    && Records::last(Records::last(content, 1), 1).eq_ignore_ascii_case(name);
                if !sets_it {
                    put_bytes(&mut kept, field, content);
                }
            }
            self.records = kept;
        }
        put_bytes(&mut self.records, 2, name);
    }

    /// `false`: a refusal stands.
    pub fn begin_immediate(&mut self, step: &'static str, http_status: u16) -> bool {
        if !self.may_go_on(step) {
            return false;
        }
        if !(200..=599).contains(&http_status) {
            self.fail("an immediate response needs an HTTP status of 200 to 599");
        }
        let failure = self.failure.take();
        let immediate = Immediate {
            http_status: http_status.into(),
            ..Default::default()
        };
        *self = Answer {
            failure,
            immediate: Some(immediate),
            ..Default::default()
        };
        true
    }

    /// `hold` beside a step: the host would take either the message or the step, and the other would be lost.
    pub fn loses_a_step(&self) -> bool {
        self.held && !self.is_empty() && !self.refuses()
    }

    // --- What it becomes ---

    pub fn is_empty(&self) -> bool {
        !self.has_mutation
            && !self.clear_route_cache
            && self.body == Body::Unchanged
            && self.immediate.is_none()
            && self.check.is_none()
            && self.over_limit.is_none()
            && self.connection_status.is_none()
    }

    pub fn message(&mut self, phase: raw::Phase) -> Message {
        match phase {
            raw::CHECK => self.plain(self.check.unwrap_or(raw::CHECK_DENIED)),
            raw::RATE_LIMIT => {
                let code = if self.over_limit == Some(true) { 2 } else { 1 };
                put_number(&mut self.records, 1, code);
                self.plain(raw::WHOLE_RESPONSE)
            }
            raw::READ_DATA | raw::WRITE_DATA | raw::CONNECTION => self.data(phase),
            _ if self.immediate.is_some() => self.immediate(),
            raw::REQUEST_TRAILERS | raw::RESPONSE_TRAILERS => {
                // TrailersResponse: header_mutation 1
                let mut head = Vec::new();
                put_bytes(&mut head, 1, &self.records);
                Message {
                    field: phase - 1,
                    head,
                    tail: Vec::new(),
                }
            }
            _ => self.common(phase),
        }
    }

    fn plain(&mut self, field: raw::Field) -> Message {
        Message {
            field,
            head: std::mem::take(&mut self.records),
            tail: Vec::new(),
        }
    }

    /// HeadersResponse and BodyResponse: response 1, a CommonResponse of status 1, header_mutation 2,
    /// body_mutation 3 (body 1, clear_body 2), clear_route_cache 5.
    fn common(&self, phase: raw::Phase) -> Message {
        let is_headers = phase == raw::REQUEST_HEADERS || phase == raw::RESPONSE_HEADERS;
        let mut inner = Vec::with_capacity(self.records.len() + 32);
        if is_headers && self.body != Body::Unchanged {
            put_number(&mut inner, 1, 1);
        }
        if self.has_mutation || self.clear_route_cache {
            put_bytes(&mut inner, 2, &self.records);
        }
        let mut tail = Vec::new();
        let mut size = inner.len();
        match &self.body {
            Body::Unchanged => {}
            Body::Cleared => {
                put_message(&mut inner, 3, |to| put_number(to, 2, 1));
                size = inner.len();
            }
            Body::Replaced(body) => {
                put_head(&mut inner, 3, record_size(1, body.len()));
                put_head(&mut inner, 1, body.len());
                size = inner.len() + body.len();
            }
        }
        if self.clear_route_cache {
            put_number(&mut tail, 5, 1);
        }
        let mut head = Vec::with_capacity(inner.len() + 8);
        put_head(&mut head, 1, size + tail.len());
        head.extend(inner);
        Message {
            field: phase - 1,
            head,
            tail,
        }
    }

    /// ImmediateResponse: status 1 (HttpStatus: code 1), headers 2, body 3, grpc_status 4 (GrpcStatus:
    /// status 1), details 5.
    fn immediate(&self) -> Message {
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        if let Some(immediate) = &self.immediate {
            put_message(&mut head, 1, |to| {
                put_number(to, 1, immediate.http_status.into())
            });
            if self.has_mutation {
                put_bytes(&mut head, 2, &self.records);
            }
            if let Body::Replaced(body) = &self.body {
                put_head(&mut head, 3, body.len());
            }
            if let Some(status) = immediate.grpc_status {
                put_message(&mut tail, 4, |to| put_number(to, 1, status.into()));
            }
            if !immediate.details.is_empty() {
                put_bytes(&mut tail, 5, immediate.details.as_bytes());
            }
        }
        Message {
            field: raw::IMMEDIATE_RESPONSE,
            head,
            tail,
        }
    }

    /// ProcessingResponse of network ext_proc: connection_status 4; Data: data 1.
    fn data(&self, phase: raw::Phase) -> Message {
        let mut head = Vec::new();
        if let Some(status) = self.connection_status {
            put_number(&mut head, 4, status);
            return Message {
                field: raw::WHOLE_RESPONSE,
                head,
                tail: Vec::new(),
            };
        }
        if let Body::Replaced(body) = &self.body {
            put_head(&mut head, 1, body.len());
        }
        let is_read = phase == raw::READ_DATA;
        let field = if is_read {
            raw::READ_DATA_RESPONSE
        } else {
            raw::WRITE_DATA_RESPONSE
        };
        Message {
            field,
            head,
            tail: Vec::new(),
        }
    }

    /// The body as a part of its own, if it belongs to the message.
    pub fn body_part(&self) -> &[u8] {
        match &self.body {
            Body::Replaced(body) if self.connection_status.is_none() => body,
            _ => &[],
        }
    }

    /// The parts of the message for the host.
    pub fn parts(&self, message: &Message) -> [raw::Bytes; 3] {
        [
            bytes(&message.head),
            bytes(self.body_part()),
            bytes(&message.tail),
        ]
    }
}

/// HeaderValueOption: header 1 (HeaderValue: key 1, raw_value 3), append 2 (BoolValue), append_action
/// 3, keep_empty_value 4. Envoy 1.40's filter reads `append` only, whose absence means to overwrite.
fn put_option(to: &mut Vec<u8>, name: &[u8], value: &[u8], append: Append) {
    put_message(to, 1, |to| {
        put_message(to, 1, |to| {
            put_bytes(to, 1, name);
            put_bytes(to, 3, value);
        });
        put_append(to, append);
        if value.is_empty() {
            put_number(to, 4, 1);
        }
    });
}

fn put_append(to: &mut Vec<u8>, append: Append) {
    match append {
        Append::IfExistsOrAdd => put_message(to, 2, |to| put_number(to, 1, 1)),
        other => put_number(to, 3, other as u64),
    }
}

/// A header of a Check's answer, which has both forms of the value.
pub(crate) fn put_check_header(
    to: &mut Vec<u8>,
    field: u32,
    name: &str,
    value: &str,
    append: Append,
) {
    put_message(to, field, |to| {
        put_message(to, 1, |to| {
            put_bytes(to, 1, name.as_bytes());
            put_bytes(to, 2, value.as_bytes());
            put_bytes(to, 3, value.as_bytes());
        });
        put_append(to, append);
    });
}

pub(crate) fn put_pair(to: &mut Vec<u8>, field: u32, name: &str, value: &str) {
    put_message(to, field, |to| {
        put_bytes(to, 1, name.as_bytes());
        put_bytes(to, 2, value.as_bytes());
    });
}
