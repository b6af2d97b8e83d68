// SPDX-License-Identifier: Apache-2.0

//! The keys of a configuration that its type does not have. serde passes over them, and asks the format to do
//! so: a second reading, of the text as a JSON value, listens to that. The crate serde_ignored does the same, but
//! leaves the names of an enum's variants out of the path of a key.

use std::cell::RefCell;
use std::fmt::Display;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value as Json};

/// The first key of `text` that `C` does not have. `None` as well if that cannot be found out: if `C` reads
/// the text, but not its value.
pub(crate) fn unknown_key<C: DeserializeOwned>(text: &[u8]) -> Option<String> {
    let value: Json = serde_json::from_slice(text).ok()?;
    let first = RefCell::new(None);
    let watched = Watched {
        value: &value,
        path: String::new(),
        first: &first,
    };
    C::deserialize(watched).ok()?;
    first.into_inner()
}

/// A value that takes note when its reader passes over it.
struct Watched<'de> {
    value: &'de Json,
    path: String,
    first: &'de RefCell<Option<String>>,
}

impl<'de> Watched<'de> {
    fn key(&self, key: &str, value: &'de Json) -> Watched<'de> {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.inner(format_args!("{dot}{key}"), value)
    }
    fn inner(&self, step: impl Display, value: &'de Json) -> Watched<'de> {
        Watched {
            value,
            path: format!("{}{step}", self.path),
            first: self.first,
        }
    }
}

impl<'de> Deserializer<'de> for Watched<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Json::Array(list) => visitor.visit_seq(Members {
                of: self,
                list: list.iter().enumerate(),
            }),
            Json::Object(fields) => visitor.visit_map(Fields {
                of: self,
                fields: fields.iter(),
                next: None,
            }),
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Json::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Json::String(name) => visitor.visit_enum(name.as_str().into_deserializer()),
            Json::Object(fields) => {
                let mut fields = fields.iter();
                let (Some((name, value)), None) = (fields.next(), fields.next()) else {
                    return Err(Error::custom("expected one variant"));
                };
                visitor.visit_enum(Variant {
                    name,
                    content: self.key(name, value),
                })
            }
            _ => Err(Error::custom("expected a variant")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.first.borrow_mut().get_or_insert(self.path);
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier
    }
}

struct Members<'de, I> {
    of: Watched<'de>,
    list: I,
}

impl<'de, I: Iterator<Item = (usize, &'de Json)>> SeqAccess<'de> for Members<'de, I> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some((index, value)) = self.list.next() else {
            return Ok(None);
        };
        let member = self.of.inner(format_args!("[{index}]"), value);
        seed.deserialize(member).map(Some)
    }
}

struct Fields<'de, I> {
    of: Watched<'de>,
    fields: I,
    next: Option<Watched<'de>>,
}

impl<'de, I: Iterator<Item = (&'de String, &'de Json)>> MapAccess<'de> for Fields<'de, I> {
    type Error = Error;

    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some((name, value)) = self.fields.next() else {
            return Ok(None);
        };
        self.next = Some(self.of.key(name, value));
        seed.deserialize(Key(name)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let value = self.next.take();
        seed.deserialize(value.ok_or_else(|| Error::custom("a value without a key"))?)
    }
}

/// A key is a text, also where the map's keys are numbers.
struct Key<'de>(&'de str);

macro_rules! numbers {
    ($($function:ident $visit:ident;)*) => {$(
        fn $function<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.0.parse().map_err(Error::custom)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.0)
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        StrDeserializer::new(self.0).deserialize_enum(name, variants, visitor)
    }
    numbers! {
        deserialize_bool visit_bool;
        deserialize_i8 visit_i8;
        deserialize_i16 visit_i16;
        deserialize_i32 visit_i32;
        deserialize_i64 visit_i64;
        deserialize_i128 visit_i128;
        deserialize_u8 visit_u8;
        deserialize_u16 visit_u16;
        deserialize_u32 visit_u32;
        deserialize_u64 visit_u64;
        deserialize_u128 visit_u128;
        deserialize_f32 visit_f32;
        deserialize_f64 visit_f64;
    }
    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

struct Variant<'de> {
    name: &'de str,
    content: Watched<'de>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = Watched<'de>;

    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Watched<'de>), Error> {
        Ok((seed.deserialize(Key(self.name))?, self.content))
    }
}

impl<'de> VariantAccess<'de> for Watched<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Config {
        #[serde(default)]
        limit: u32,
        #[serde(default)]
        rules: Vec<Rule>,
        inner: Option<Box<Rule>>,
        #[serde(default)]
        by_port: BTreeMap<u16, Rule>,
        #[serde(default)]
        by_way: BTreeMap<Way, Rule>,
        way: Option<Way>,
        act: Option<Act>,
        new: Option<New>,
        #[serde(default)]
        any: Json,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Rule {
        path: String,
    }
    #[derive(Deserialize)]
    struct New(#[allow(dead_code)] Rule);
    #[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
    enum Way {
        In,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Act {
        Pass,
        Drop(Rule),
        Both(u8, Rule),
        Send { to: Rule },
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Any {
        limit: u32,
        #[serde(flatten)]
        rest: BTreeMap<String, Json>,
    }

    fn unknown(text: &str) -> Option<String> {
        serde_json::from_str::<Config>(text).unwrap();
        unknown_key::<Config>(text.as_bytes())
    }

    #[test]
    fn finds_the_first_key_that_the_type_does_not_have() {
        for text in [
            r#"{}"#,
            r#"{"limit": 1, "rules": [{"path": "/"}], "inner": {"path": ""}, "any": {"a": {"b": null}}}"#,
            r#"{"by_port": {"80": {"path": ""}}, "by_way": {"In": {"path": ""}}, "new": {"path": ""}}"#,
            r#"{"way": "In", "act": "Pass", "inner": null}"#,
            r#"{"act": {"Drop": {"path": ""}}}"#,
            r#"{"act": {"Both": [1, {"path": ""}]}}"#,
            r#"{"act": {"Pass": null}}"#,
        ] {
            assert_eq!(unknown(text), None, "{text}");
        }
        for (text, key) in [
            (r#"{"limt": 1}"#, "limt"),
            (
                r#"{"rules": [{"path": "/"}, {"path": "/", "pth": 7}]}"#,
                "rules[1].pth",
            ),
            (r#"{"inner": {"path": "", "a": {"b": 1}}}"#, "inner.a"),
            (
                r#"{"by_port": {"80": {"path": "", "a": 1}}}"#,
                "by_port.80.a",
            ),
            (r#"{"by_way": {"In": {"path": "", "a": 1}}}"#, "by_way.In.a"),
            (r#"{"new": {"path": "", "a": 1}}"#, "new.a"),
            (r#"{"act": {"Drop": {"path": "", "a": 1}}}"#, "act.Drop.a"),
            (
                r#"{"act": {"Both": [1, {"path": "", "a": 1}]}}"#,
                "act.Both[1].a",
            ),
            (
                r#"{"act": {"Send": {"to": {"path": "", "a": 1}}}}"#,
                "act.Send.to.a",
            ),
        ] {
            assert_eq!(unknown(text).as_deref(), Some(key));
        }
        assert_eq!(unknown_key::<Any>(br#"{"limit": 1, "a": 2}"#), None);
        assert_eq!(unknown_key::<Json>(br#"{"limit": 1, "a": 2}"#), None);
    }
}
