//! Stamps requests, denies paths and hides words in responses.
#![forbid(unsafe_code)]

use callout::{BodyCall, HeadersCall, Metric, Phase, Plugin, Result, Setup};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The value of x-seen-by.
    #[serde(default = "default_stamp")]
    stamp: String,
    /// Paths that begin so are denied.
    #[serde(default)]
    deny: Vec<String>,
    /// Words that clients do not see.
    #[serde(default)]
    hide: Vec<String>,
}

fn default_stamp() -> String {
    "@name@".to_string()
}

pub struct Stamp {
    config: Config,
    denied: Metric,
}

#[callout::plugin]
impl Plugin for Stamp {
    type Config = Config;

    fn create(config: Config, setup: &mut Setup) -> Result<Self> {
        setup.want_whole_bodies(1 << 20);
        if config.hide.is_empty() {
            setup.skip(Phase::ResponseBody);
        }
        let denied = setup.counter("@name@_denied_total", "Requests denied")?;
        Ok(Stamp { config, denied })
    }

    // Hooks run on several threads at once.
    fn request_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        let path = call.headers().get(":path").unwrap_or_default();
        if self
            .config
            .deny
            .iter()
            .any(|begin| path.starts_with(begin.as_bytes()))
        {
            self.denied.increment();
            return call.deny(403, "this is private");
        }
        call.set_header("x-seen-by", &self.config.stamp);
        call.remove_header("x-internal");
        if !self.config.hide.is_empty() {
            // Compressed, or cut into ranges, a body would not show its words.
            call.remove_header("accept-encoding");
            call.remove_header("range");
        }
        Ok(())
    }

    fn response_body(&self, call: &mut BodyCall<'_, Self>) -> Result {
        let hide = |body: Vec<u8>, word: &String| replace(&body, word.as_bytes(), b"[hidden]");
        let hidden = self.config.hide.iter().fold(call.body().to_vec(), hide);
        if hidden != call.body() {
            call.set_body(hidden);
        }
        Ok(())
    }
}

// Of bytes: a body need not be UTF-8.
fn replace(body: &[u8], word: &[u8], by: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = find(rest, word) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(by);
        rest = &rest[at + word.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

fn find(body: &[u8], word: &[u8]) -> Option<usize> {
    if word.is_empty() {
        return None;
    }
    body.windows(word.len()).position(|bytes| bytes == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use callout::testing::Instance;

    #[test]
    fn stamps_every_request() {
        let stamp = Instance::<Stamp>::new("").unwrap();
        let answer = stamp.stream().request_headers(&[(":path", "/")]);
        assert_eq!(answer.header("x-seen-by").as_deref(), Some("@name@"));
        assert!(answer.removes("x-internal"));
        assert!(!stamp.wants(Phase::ResponseBody));
    }

    #[test]
    fn denies_paths() {
        let stamp = Instance::<Stamp>::new(r#"{"deny": ["/private"]}"#).unwrap();
        assert_eq!(
            stamp
                .stream()
                .request_headers(&[(":path", "/private/a")])
                .http_status(),
            Some(403)
        );
        assert_eq!(stamp.metric("@name@_denied_total"), Some(1.0));
    }

    #[test]
    fn hides_words() {
        let stamp = Instance::<Stamp>::new(r#"{"hide": ["secret"]}"#).unwrap();
        let body = |body: &[u8]| stamp.stream().response_body(body, true).body();
        assert_eq!(body(b"a secret word"), Some(b"a [hidden] word".to_vec()));
        assert_eq!(body(b"nothing"), None);
        assert_eq!(body(b"\xff secret"), Some(b"\xff [hidden]".to_vec()));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let error = Instance::<Stamp>::new(r#"{"denny": []}"#).err().unwrap();
        assert!(error.text().contains("unknown field `denny`"), "{error}");
    }
}
