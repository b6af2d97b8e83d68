// SPDX-License-Identifier: Apache-2.0

//! protobuf's wire form: a reader of views, and functions that append records. As callout/wire.h.

/// The value of a record.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// The records of a message: field number and value. It ends at malformed bytes, which the host
/// lets through to no hook.
#[derive(Clone)]
pub(crate) struct Records<'a>(pub &'a [u8]);

impl<'a> Records<'a> {
    /// The contents of the length-delimited records of one field.
    pub fn all(message: &'a [u8], field: u32) -> impl Iterator<Item = &'a [u8]> + Clone {
        Records(message).filter_map(move |record| match record {
            (number, Value::Bytes(bytes)) if number == field => Some(bytes),
            _ => None,
        })
    }

    /// The last of them, which counts in protobuf; empty if there is none.
    pub fn last(message: &'a [u8], field: u32) -> &'a [u8] {
        Records::all(message, field).last().unwrap_or(&[])
    }

    pub fn number(message: &'a [u8], field: u32) -> Option<u64> {
        let is_it = |record| match record {
            (number, Value::Varint(value)) if number == field => Some(value),
            _ => None,
        };
        Records(message).filter_map(is_it).last()
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        // Most are one byte.
        if let [first @ 0..0x80, rest @ ..] = self.0 {
            self.0 = rest;
            return Some((*first).into());
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (i, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                self.0 = &self.0[i + 1..];
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, size: u64) -> Option<&'a [u8]> {
        if size > self.0.len() as u64 {
            return None;
        }
        let (taken, rest) = self.0.split_at(size as usize);
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    fn value(&mut self, wire_type: u64) -> Option<Value<'a>> {
        Some(match wire_type {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let size = self.varint()?;
                Value::Bytes(self.take(size)?)
            }
            5 => Value::Fixed(u32::from_le_bytes(self.take(4)?.try_into().ok()?).into()),
            _ => return None,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (u32, Value<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let found = self
            .varint()
            .and_then(|tag| Some(((tag >> 3) as u32, self.value(tag & 7)?)));
        if found.is_none() {
            self.0 = &[];
        }
        found
    }
}

pub(crate) fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// The head of a record with `size` bytes to follow.
pub(crate) fn put_head(to: &mut Vec<u8>, field: u32, size: usize) {
    put_varint(to, u64::from(field) << 3 | 2);
    put_varint(to, size as u64);
}

pub(crate) fn put_bytes(to: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_head(to, field, bytes.len());
    to.extend_from_slice(bytes);
}

pub(crate) fn put_number(to: &mut Vec<u8>, field: u32, value: u64) {
    put_varint(to, u64::from(field) << 3);
    put_varint(to, value);
}

/// A message in `field`, written by `write`.
pub(crate) fn put_message(to: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_head(to, field, 0);
    let begin = to.len();
    write(to);
    // Most messages are under 128 bytes: one byte is kept for the length.
    let size = to.len() - begin;
    if size < 0x80 {
        to[begin - 1] = size as u8;
        return;
    }
    let mut length = Vec::with_capacity(5);
    put_varint(&mut length, size as u64);
    to.splice(begin - 1..begin, length);
}

pub(crate) fn varint_size(value: usize) -> usize {
    (1..)
        .find(|size| size * 7 >= usize::BITS as usize || value >> (size * 7) == 0)
        .unwrap_or(10)
}

pub(crate) fn record_size(field: u32, size: usize) -> usize {
    varint_size((field as usize) << 3) + varint_size(size) + size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for size in [0, 1, 127, 128, 16383, 16384, 100_000] {
            let mut bytes = Vec::new();
            put_message(&mut bytes, 3, |to| put_bytes(to, 1, &vec![7; size]));
            put_number(&mut bytes, 4, size as u64);
            assert_eq!(Records::last(Records::last(&bytes, 3), 1).len(), size);
            assert_eq!(Records::number(&bytes, 4), Some(size as u64));
            let inner = record_size(1, size);
            assert_eq!(bytes.len(), record_size(3, inner) + 1 + varint_size(size));
        }
    }

    #[test]
    fn never_reads_beyond_malformed_bytes() {
        for bytes in [
            &b"\x0a\x05abc"[..],
            b"\xff",
            b"\x0b",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(Records(bytes).count(), 0, "{bytes:?}");
        }
    }
}
