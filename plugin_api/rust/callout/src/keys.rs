// SPDX-License-Identifier: Apache-2.0

//! The keys of a configuration that its type does not have. serde passes over them.

use serde::de::{DeserializeOwned, Deserializer};
use serde_ignored::Path;

/// A value from `json`, and the first key that `C` does not have.
pub(crate) fn read<'de, C: DeserializeOwned, D: Deserializer<'de>>(
    json: D,
) -> Result<(C, Option<String>), serde_path_to_error::Error<D::Error>> {
    let mut first = None;
    let mut note = |path: Path<'_>| {
        first.get_or_insert_with(|| text_of(&path));
    };
    let value =
        serde_path_to_error::deserialize(serde_ignored::Deserializer::new(json, &mut note))?;
    Ok((value, first))
}

/// As serde_path_to_error writes it: `rules[1].path`. The variant of an enum is not in `path`.
fn text_of(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", text_of(parent)),
        Path::Map { parent, key } => match text_of(parent).as_str() {
            "" => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => text_of(parent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::Value as Json;
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

    fn unknown<C: DeserializeOwned>(text: &str) -> Option<String> {
        let mut json = serde_json::Deserializer::from_str(text);
        let (_, key) = read::<C, _>(&mut json).unwrap();
        key
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
            assert_eq!(unknown::<Config>(text), None, "{text}");
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
            (r#"{"act": {"Drop": {"path": "", "a": 1}}}"#, "act.a"),
            (
                r#"{"act": {"Both": [1, {"path": "", "a": 1}]}}"#,
                "act[1].a",
            ),
            (
                r#"{"act": {"Send": {"to": {"path": "", "a": 1}}}}"#,
                "act.to.a",
            ),
        ] {
            assert_eq!(unknown::<Config>(text).as_deref(), Some(key));
        }
        assert_eq!(unknown::<Any>(r#"{"limit": 1, "a": 2}"#), None);
        assert_eq!(unknown::<Json>(r#"{"limit": 1, "a": 2}"#), None);
    }
}
