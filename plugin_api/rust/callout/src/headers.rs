// SPDX-License-Identifier: Apache-2.0

use std::borrow::Cow;

use crate::wire::{Records, Value};

/// One header field. Names and values are bytes, of which nobody has checked that they are text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// In lower case, as HTTP/2 has it; pseudo headers begin with `:`.
    pub name: &'a [u8],
    /// Without what surrounds it.
    pub value: &'a [u8],
}

/// The fields of a message, in its order, as views into the message. Names compare without case.
#[derive(Clone, Copy)]
pub struct Headers<'a> {
    message: &'a [u8],
    form: Form,
}

#[derive(Clone, Copy)]
enum Form {
    /// HttpHeaders and HttpTrailers: a HeaderMap 1 of HeaderValue 1
    Map,
    /// AttributeContext.HttpRequest: a map 3, or a HeaderMap 13
    Check,
}

impl<'a> Headers<'a> {
    pub(crate) fn of_message(message: &'a [u8]) -> Self {
        Headers {
            message,
            form: Form::Map,
        }
    }
    pub(crate) fn of_check(message: &'a [u8]) -> Self {
        Headers {
            message,
            form: Form::Check,
        }
    }

    /// The fields in their order. A name may come several times.
    pub fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let form = self.form;
        Records(self.message).flat_map(move |record| {
            let (single, map) = match (form, record) {
                (Form::Map, (1, Value::Bytes(map))) | (Form::Check, (13, Value::Bytes(map))) => {
                    (None, map)
                }
                (Form::Check, (3, Value::Bytes(entry))) => (Some(entry), &[][..]),
                _ => (None, &[][..]),
            };
            single
                .into_iter()
                .chain(Records::all(map, 1))
                .map(read_header)
        })
    }

    /// The first value of a header.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The first value as a text; what is not UTF-8 in it becomes U+FFFD.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).map(String::from_utf8_lossy)
    }

    /// All values of a header.
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let is_it = move |header: &Header| header.name.eq_ignore_ascii_case(name.as_bytes());
        self.iter().filter(is_it).map(|header| header.value)
    }

    /// Whether there is such a header.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether one of the header's values is exactly this.
    pub fn is(&self, name: &str, value: impl AsRef<[u8]>) -> bool {
        self.all(name).any(|found| found == value.as_ref())
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// HeaderValue, or an entry of a map: name 1, value 2, raw_value 3. Envoy fills the last.
fn read_header(bytes: &[u8]) -> Header<'_> {
    let (mut name, mut value, mut raw_value) = (&[][..], &[][..], &[][..]);
    for record in Records(bytes) {
        match record {
            (1, Value::Bytes(bytes)) => name = bytes,
            (2, Value::Bytes(bytes)) => value = bytes,
            (3, Value::Bytes(bytes)) => raw_value = bytes,
            _ => {}
        }
    }
    let value = if raw_value.is_empty() {
        value
    } else {
        raw_value
    };
    Header { name, value }
}
