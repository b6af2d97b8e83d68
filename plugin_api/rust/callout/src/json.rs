// SPDX-License-Identifier: Apache-2.0

//! google.protobuf.Struct as JSON, and the maps of it that a call brings. As callout/struct.h.

use serde_json::{Map, Number, Value as Json};

use crate::wire::{put_bytes, put_message, put_number, put_varint, Records, Value};

/// How deep values may lie in one another; protobuf's own readers stop at 100.
const DEPTH_MAX: u32 = 96;

/// The value under `key` in a map<string, message> in `field`. The last one counts.
pub(crate) fn find<'a>(message: &'a [u8], field: u32, key: &[u8]) -> Option<&'a [u8]> {
    let entries = Records::all(message, field);
    entries
        .filter(|entry| Records::last(entry, 1) == key)
        .map(|entry| Records::last(entry, 2))
        .last()
}

/// ProcessingRequest.attributes 9: by filter, a Struct whose keys are the names.
pub(crate) fn attribute(attributes: &[u8], name: &str) -> Option<Json> {
    let filters = Records::all(attributes, 9).map(|entry| Records::last(entry, 2));
    let found = filters
        .filter_map(|filter| find(filter, 1, name.as_bytes()))
        .last()?;
    read_value(found, DEPTH_MAX)
}

/// Metadata.filter_metadata 1: by namespace, a Struct.
pub(crate) fn metadata(metadata: &[u8], namespace: &str, key: &str) -> Option<Json> {
    let fields = find(metadata, 1, namespace.as_bytes())?;
    read_value(find(fields, 1, key.as_bytes())?, DEPTH_MAX)
}

/// Value: null 1, number 2, string 3, bool 4, struct 5, list 6.
fn read_value(bytes: &[u8], depth: u32) -> Option<Json> {
    let depth = depth.checked_sub(1)?;
    Some(match Records(bytes).last()? {
        (1, Value::Varint(_)) => Json::Null,
        (2, Value::Fixed(bits)) => {
            Number::from_f64(f64::from_bits(bits)).map_or(Json::Null, Json::Number)
        }
        (3, Value::Bytes(text)) => Json::String(String::from_utf8_lossy(text).into_owned()),
        (4, Value::Varint(value)) => Json::Bool(value != 0),
        (5, Value::Bytes(fields)) => Json::Object(read_struct(fields, depth)),
        (6, Value::Bytes(list)) => Json::Array(
            Records::all(list, 1)
                .filter_map(|item| read_value(item, depth))
                .collect(),
        ),
        _ => return None,
    })
}

fn read_struct(bytes: &[u8], depth: u32) -> Map<String, Json> {
    let entry = |entry| {
        let key = String::from_utf8_lossy(Records::last(entry, 1)).into_owned();
        Some((key, read_value(Records::last(entry, 2), depth)?))
    };
    Records::all(bytes, 1).filter_map(entry).collect()
}

/// The content of a Struct as an object.
pub(crate) fn from_struct(bytes: &[u8]) -> Map<String, Json> {
    read_struct(bytes, DEPTH_MAX)
}

/// The content of a Struct. `Err`: what it has that a Struct cannot hold.
pub(crate) fn write_struct(fields: &Map<String, Json>) -> Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::new();
    put_struct(&mut bytes, fields, DEPTH_MAX)?;
    Ok(bytes)
}

fn put_struct(
    to: &mut Vec<u8>,
    fields: &Map<String, Json>,
    depth: u32,
) -> Result<(), &'static str> {
    let depth = depth
        .checked_sub(1)
        .ok_or("its values lie too deep in one another")?;
    let mut outcome = Ok(());
    for (key, value) in fields {
        put_message(to, 1, |to| {
            put_bytes(to, 1, key.as_bytes());
            put_message(to, 2, |to| outcome = put_value(to, value, depth));
        });
        outcome?;
    }
    Ok(())
}

fn put_value(to: &mut Vec<u8>, value: &Json, depth: u32) -> Result<(), &'static str> {
    let mut outcome = Ok(());
    match value {
        Json::Null => put_number(to, 1, 0),
        Json::Number(number) => {
            put_varint(to, 2 << 3 | 1);
            to.extend(number.as_f64().unwrap_or(0.0).to_bits().to_le_bytes());
        }
        Json::String(text) => put_bytes(to, 3, text.as_bytes()),
        Json::Bool(value) => put_number(to, 4, (*value).into()),
        Json::Object(fields) => put_message(to, 5, |to| outcome = put_struct(to, fields, depth)),
        Json::Array(items) => put_message(to, 6, |to| {
            let Some(depth) = depth.checked_sub(1) else {
                outcome = Err("its values lie too deep in one another");
                return;
            };
            for item in items {
                put_message(to, 1, |to| {
                    outcome = outcome.and(put_value(to, item, depth))
                });
            }
        }),
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_what_it_writes() {
        let value =
            json!({"a": null, "b": 1.5, "c": "text", "d": true, "e": {"f": [1.0, "two", [], {}]}});
        let fields = value.as_object().unwrap();
        assert_eq!(&from_struct(&write_struct(fields).unwrap()), fields);
    }

    #[test]
    fn refuses_what_is_too_deep() {
        let deep = (0..200).fold(json!(1), |value, _| json!([value]));
        assert!(write_struct(json!({ "deep": deep }).as_object().unwrap()).is_err());
    }
}
