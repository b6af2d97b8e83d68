// SPDX-License-Identifier: Apache-2.0

//! Values by key in the memory of the host, for all instances of a process and for the next version
//! of a plugin: the extension `callout.shared_data/1`.
//!
//! With `--workers` each worker has a store of its own, and so has each other host.

use std::time::Duration;

use crate::error::{Error, Result, Status};
use crate::host::{bytes, Extension, Host};
use crate::plugin::nanoseconds;
use crate::raw;

/// A space of keys.
#[derive(Clone)]
pub struct SharedData {
    data: Extension<raw::SharedData>,
    space: String,
}

/// A value with its version, which no other value of the process ever had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Vec<u8>,
    /// For [`SharedData::put_if`] and [`SharedData::remove_if`].
    pub version: u64,
}

/// The version of a value that is not there.
pub const ABSENT: u64 = raw::SHARED_ABSENT;

const FIRST_CAPACITY: usize = 256;

impl SharedData {
    /// The instance's own space, which every version of it sees. `Err`: this host is older than the
    /// extension.
    pub fn new(host: &Host) -> Result<SharedData> {
        SharedData::shared(host, "")
    }

    /// A space that is shared with all who use its name (up to 128 bytes): `"rate-limit.clients"`.
    pub fn shared(host: &Host, space: &str) -> Result<SharedData> {
        Ok(SharedData {
            // SAFETY: the id is that of the table.
            data: unsafe {
                Extension::new(host, raw::SHARED_DATA, "this host has no shared data")
            }?,
            space: space.to_string(),
        })
    }

    fn call(
        &self,
        function: impl FnOnce(*const raw::SharedData, *const raw::Host, raw::Bytes) -> raw::Status,
    ) -> raw::Status {
        let space = bytes(self.space.as_bytes());
        self.data.call(|table, host| function(table, host, space))
    }

    /// The value; `None` if there is none or its time is over.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.find(key)?.map(|entry| entry.value))
    }

    /// The value and its version.
    pub fn find(&self, key: &str) -> Result<Option<Entry>> {
        let mut value: Vec<u8> = Vec::with_capacity(FIRST_CAPACITY);
        loop {
            let mut entry = raw::SharedEntry {
                struct_size: size_of::<raw::SharedEntry>() as u32,
                reserved: 0,
                size: 0,
                version: 0,
                expires_ns: 0,
            };
            let (to, capacity) = (value.as_mut_ptr().cast(), value.capacity());
            // SAFETY: `to` has `capacity` bytes.
            let status = self.call(|table, host, space| unsafe {
                ((*table).get)(host, space, bytes(key.as_bytes()), to, capacity, &mut entry)
            });
            match status {
                raw::OK => {
                    // SAFETY: the host has written so many of them.
                    unsafe { value.set_len((entry.size as usize).min(capacity)) };
                    return Ok(Some(Entry {
                        value,
                        version: entry.version,
                    }));
                }
                raw::NOT_FOUND => return Ok(None),
                raw::OUT_OF_RANGE => value.reserve_exact(entry.size as usize),
                other => return Err(error(other, key)),
            }
        }
    }

    /// Sets the value for a time; `None`: until it is removed.
    pub fn put(&self, key: &str, value: &[u8], life: Option<Duration>) -> Result {
        self.put_as(key, value, life, raw::SHARED_ANY, false)
            .map(|_| ())
    }

    /// The same, but the host may drop the value for room: for what can be found out again.
    pub fn cache(&self, key: &str, value: &[u8], life: Option<Duration>) -> Result {
        self.put_as(key, value, life, raw::SHARED_ANY, true)
            .map(|_| ())
    }

    /// Sets the value if it has this version ([`ABSENT`]: if there is none). The new version, or
    /// `None`: it has another one, and nothing has changed.
    pub fn put_if(
        &self,
        key: &str,
        value: &[u8],
        life: Option<Duration>,
        version: u64,
    ) -> Result<Option<u64>> {
        self.put_as(key, value, life, version, false)
    }

    fn put_as(
        &self,
        key: &str,
        value: &[u8],
        life: Option<Duration>,
        expected: u64,
        may_evict: bool,
    ) -> Result<Option<u64>> {
        let how = raw::SharedPut {
            struct_size: size_of::<raw::SharedPut>() as u32,
            may_evict: may_evict.into(),
            // 0 would mean for ever.
            ttl_ns: life.map_or(0, |life| nanoseconds(life).max(1)),
            expected,
        };
        let mut version = 0;
        // SAFETY: all of it is copied.
        let status = self.call(|table, host, space| unsafe {
            ((*table).put)(
                host,
                space,
                bytes(key.as_bytes()),
                bytes(value),
                &how,
                &mut version,
            )
        });
        match status {
            raw::OK => Ok(Some(version)),
            raw::ABORTED => Ok(None),
            other => Err(error(other, key)),
        }
    }

    /// Removes the value. `false`: there was none.
    pub fn remove(&self, key: &str) -> Result<bool> {
        self.remove_if(key, raw::SHARED_ANY)
    }

    /// Removes the value if it has this version.
    pub fn remove_if(&self, key: &str, version: u64) -> Result<bool> {
        // SAFETY: the key is copied.
        let status = self.call(|table, host, space| unsafe {
            ((*table).remove)(host, space, bytes(key.as_bytes()), version)
        });
        match status {
            raw::OK => Ok(true),
            raw::NOT_FOUND | raw::ABORTED => Ok(false),
            other => Err(error(other, key)),
        }
    }

    /// Adds to a count and gives the sum. The count begins at 0 and lives for `life` from its first
    /// `add`, so that it counts what falls into a window of time.
    pub fn add(&self, key: &str, amount: i64, life: Option<Duration>) -> Result<i64> {
        let life = life.map_or(0, |life| nanoseconds(life).max(1));
        let mut sum = 0;
        // SAFETY: the key is copied.
        let status = self.call(|table, host, space| unsafe {
            ((*table).add)(host, space, bytes(key.as_bytes()), amount, life, &mut sum)
        });
        match status {
            raw::OK => Ok(sum),
            other => Err(error(other, key)),
        }
    }
}

// Without the key, which may be a secret: hooks return this error, and the host logs it and tells Envoy.
fn error(status: raw::Status, key: &str) -> Error {
    Error::with_status(
        Status::from_raw(status),
        format!(
            "the host's shared data refuses the call; its key has {} bytes",
            key.len()
        ),
    )
}
