// SPDX-License-Identifier: Apache-2.0

use std::any::TypeId;
use std::future::Future;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::call::*;
use crate::error::{Error, Result, Status};
use crate::host::{bytes, Host, Metric};
use crate::keys;
use crate::raw;

/// A plugin: one value of it for each configured instance. Put [`macro@crate::plugin`] on the `impl`.
///
/// Hooks of different streams run at once on different threads; those of one stream never do.
pub trait Plugin: Sized + Send + Sync + 'static {
    /// The configuration, which is JSON. `()` for a plugin without one. No configuration at all is `{}`.
    ///
    /// A key that the type does not have is refused, so that a mistyped one is not passed over. serde hides
    /// the keys of what it reads twice: fields with `flatten`, and what is in enums with `tag` or `untagged`.
    /// Types there need `#[serde(deny_unknown_fields)]`, where serde allows it. A plugin that takes any key
    /// has a map for them.
    type Config: DeserializeOwned + 'static;
    /// What the plugin keeps for each stream (one HTTP request, one TCP connection): `call.stream`.
    type Stream: Default + Send + 'static;

    /// Makes an instance. An error refuses the configuration; its text goes to the operator.
    fn create(config: Self::Config, setup: &mut Setup) -> Result<Self>;

    /// Before the first message of a stream. It can refuse it by an error, but not answer.
    fn stream_open(&self, call: &mut OpenCall<'_, Self>) -> Result {
        let _ = call;
        Ok(())
    }
    /// After the last message of a stream, however it ended. The host then ends none early.
    fn stream_end(&self, end: &StreamEnd<'_>, stream: &mut Self::Stream) {
        let _ = (end, stream);
    }

    /// The client's request.
    fn request_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        let _ = call;
        Ok(())
    }
    /// The backend's response.
    fn response_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        let _ = call;
        Ok(())
    }
    /// The request's body or a piece of it.
    fn request_body(&self, call: &mut BodyCall<'_, Self>) -> Result {
        let _ = call;
        Ok(())
    }
    /// The response's body or a piece of it.
    fn response_body(&self, call: &mut BodyCall<'_, Self>) -> Result {
        let _ = call;
        Ok(())
    }
    /// The request's trailers.
    fn request_trailers(&self, call: &mut TrailersCall<'_, Self>) -> Result {
        let _ = call;
        Ok(())
    }
    /// The response's trailers.
    fn response_trailers(&self, call: &mut TrailersCall<'_, Self>) -> Result {
        let _ = call;
        Ok(())
    }
    /// ext_authz asks whether a request may go on. Nothing set refuses it.
    fn check(&self, call: &mut CheckCall<'_, Self>) -> Result {
        let _ = call;
        Ok(())
    }
    /// Envoy asks whether a request is within its limits. Nothing set lets it pass.
    fn rate_limit(&self, call: &mut RateLimitCall<'_, Self>) -> Result {
        let _ = call;
        Ok(())
    }
    /// Before the first bytes of a TCP connection.
    fn connection(&self, call: &mut ConnectionCall<'_, Self>) -> Result {
        let _ = call;
        Ok(())
    }
    /// Bytes from the client of a TCP connection.
    fn read_data(&self, call: &mut DataCall<'_, Self>) -> Result {
        let _ = call;
        Ok(())
    }
    /// Bytes to the client of a TCP connection.
    fn write_data(&self, call: &mut DataCall<'_, Self>) -> Result {
        let _ = call;
        Ok(())
    }
}

/// The same hooks as `async fn`: [`macro@crate::plugin`] puts them here, so nobody implements it by hand.
///
/// The host's thread runs the hook to its first `.await` that has to wait. From there on the call is
/// deferred, and the instance's executor, a thread of its own, goes on with it. A hook that never
/// waits costs one allocation more than one that is not async. If the client leaves, the future is
/// dropped. The host's deadline for hooks holds.
pub trait AsyncPlugin: Plugin {
    /// See [`Plugin::request_headers`].
    fn request_headers(
        &self,
        call: &mut HeadersCall<'_, Self>,
    ) -> impl Future<Output = Result> + Send {
        let _ = call;
        async { Ok(()) }
    }
    /// See [`Plugin::response_headers`].
    fn response_headers(
        &self,
        call: &mut HeadersCall<'_, Self>,
    ) -> impl Future<Output = Result> + Send {
        let _ = call;
        async { Ok(()) }
    }
    /// See [`Plugin::request_body`].
    fn request_body(&self, call: &mut BodyCall<'_, Self>) -> impl Future<Output = Result> + Send {
        let _ = call;
        async { Ok(()) }
    }
    /// See [`Plugin::response_body`].
    fn response_body(&self, call: &mut BodyCall<'_, Self>) -> impl Future<Output = Result> + Send {
        let _ = call;
        async { Ok(()) }
    }
    /// See [`Plugin::request_trailers`].
    fn request_trailers(
        &self,
        call: &mut TrailersCall<'_, Self>,
    ) -> impl Future<Output = Result> + Send {
        let _ = call;
        async { Ok(()) }
    }
    /// See [`Plugin::response_trailers`].
    fn response_trailers(
        &self,
        call: &mut TrailersCall<'_, Self>,
    ) -> impl Future<Output = Result> + Send {
        let _ = call;
        async { Ok(()) }
    }
    /// See [`Plugin::check`].
    fn check(&self, call: &mut CheckCall<'_, Self>) -> impl Future<Output = Result> + Send {
        let _ = call;
        async { Ok(()) }
    }
    /// See [`Plugin::rate_limit`].
    fn rate_limit(
        &self,
        call: &mut RateLimitCall<'_, Self>,
    ) -> impl Future<Output = Result> + Send {
        let _ = call;
        async { Ok(()) }
    }
    /// See [`Plugin::connection`].
    fn connection(
        &self,
        call: &mut ConnectionCall<'_, Self>,
    ) -> impl Future<Output = Result> + Send {
        let _ = call;
        async { Ok(()) }
    }
    /// See [`Plugin::read_data`].
    fn read_data(&self, call: &mut DataCall<'_, Self>) -> impl Future<Output = Result> + Send {
        let _ = call;
        async { Ok(()) }
    }
    /// See [`Plugin::write_data`].
    fn write_data(&self, call: &mut DataCall<'_, Self>) -> impl Future<Output = Result> + Send {
        let _ = call;
        async { Ok(()) }
    }
}

/// The messages that hooks get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Phase {
    RequestHeaders,
    ResponseHeaders,
    RequestBody,
    ResponseBody,
    RequestTrailers,
    ResponseTrailers,
    Check,
    RateLimit,
    Connection,
    ReadData,
    WriteData,
}

impl Phase {
    pub(crate) fn to_raw(self) -> raw::Phase {
        match self {
            Phase::RequestHeaders => raw::REQUEST_HEADERS,
            Phase::ResponseHeaders => raw::RESPONSE_HEADERS,
            Phase::RequestBody => raw::REQUEST_BODY,
            Phase::ResponseBody => raw::RESPONSE_BODY,
            Phase::RequestTrailers => raw::REQUEST_TRAILERS,
            Phase::ResponseTrailers => raw::RESPONSE_TRAILERS,
            Phase::Check => raw::CHECK,
            Phase::RateLimit => raw::RATE_LIMIT,
            Phase::Connection => raw::CONNECTION,
            Phase::ReadData => raw::READ_DATA,
            Phase::WriteData => raw::WRITE_DATA,
        }
    }
    fn bit(self) -> u64 {
        1 << self.to_raw()
    }
}

/// What an instance may ask for while it is made.
pub struct Setup {
    pub(crate) host: Host,
    pub(crate) name: String,
    pub(crate) unwanted_phases: u64,
    pub(crate) blocking_phases: u64,
    pub(crate) whole_body_bytes: u64,
    pub(crate) wants: u64,
}

impl Setup {
    /// The host: log and extensions. Keep a clone of it for other threads.
    pub fn host(&self) -> &Host {
        &self.host
    }
    /// The instance's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host does not call this hook: the configuration does not need it.
    pub fn skip(&mut self, phase: Phase) {
        self.unwanted_phases |= phase.bit();
    }
    /// This hook waits for something: the host runs it on its blocking pool, where it holds up no other
    /// stream. For libraries that are not async.
    pub fn run_blocking(&mut self, phase: Phase) {
        self.blocking_phases |= phase.bit();
    }
    /// Body hooks get whole bodies of up to so many bytes. Larger ones fall under the operator's policy.
    pub fn want_whole_bodies(&mut self, bytes_max: u64) {
        self.whole_body_bytes = bytes_max;
    }
    /// `call.request_headers()` in response phases.
    pub fn want_request_headers(&mut self) {
        self.wants |= u64::from(raw::WANT_REQUEST_HEADERS);
    }
    /// The host ends no stream early.
    pub fn want_real_end(&mut self) {
        self.wants |= u64::from(raw::WANT_REAL_END);
    }

    /// A file whose change makes a new instance; `path` is absolute. Call it before you read the file.
    pub fn follow_file(&mut self, path: &str) -> Result {
        // SAFETY: the table lives; the path is copied.
        let status = self
            .host
            .with(|host| unsafe { ((*host).follow_file)(host, bytes(path.as_bytes())) });
        refused(status, || {
            format!("the host does not follow the file {path}")
        })
    }

    /// A counter; by custom its name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str) -> Result<Metric> {
        self.metric(raw::METRIC_COUNTER, name, help, &[])
    }
    /// A value that is set.
    pub fn gauge(&mut self, name: &str, help: &str) -> Result<Metric> {
        self.metric(raw::METRIC_GAUGE, name, help, &[])
    }
    /// A value that goes up and down by what is added.
    pub fn up_down_counter(&mut self, name: &str, help: &str) -> Result<Metric> {
        self.metric(raw::METRIC_UP_DOWN, name, help, &[])
    }
    /// A distribution, in these buckets; none: 10 us to 10 s, in seconds.
    pub fn histogram(&mut self, name: &str, help: &str, buckets: &[f64]) -> Result<Metric> {
        self.metric(raw::METRIC_HISTOGRAM, name, help, buckets)
    }

    fn metric(
        &mut self,
        kind: raw::MetricKind,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Metric> {
        let spec = raw::MetricSpec {
            struct_size: size_of::<raw::MetricSpec>() as u32,
            kind,
            name: bytes(name.as_bytes()),
            help: bytes(help.as_bytes()),
            unit: bytes(&[]),
            labels: std::ptr::null(),
            label_count: 0,
            buckets: if buckets.is_empty() {
                std::ptr::null()
            } else {
                buckets.as_ptr()
            },
            bucket_count: buckets.len(),
        };
        let mut id = 0;
        // SAFETY: the table lives; all of it is copied.
        let status = self
            .host
            .with(|host| unsafe { ((*host).define_metric)(host, &spec, &mut id) });
        refused(status, || format!("the host refuses the metric {name}"))?;
        Ok(Metric {
            host: self.host.clone(),
            id,
        })
    }
}

fn refused(status: Option<raw::Status>, text: impl FnOnce() -> String) -> Result {
    match status.unwrap_or(raw::FAILED_PRECONDITION) {
        raw::OK => Ok(()),
        other => Err(Error::with_status(Status::from_raw(other), text())),
    }
}

/// The configuration from its text. An error names the key, and no value that a text may hold.
pub(crate) fn read_config<C: DeserializeOwned + 'static>(text: &[u8]) -> Result<C> {
    let wrong = |text: String| Error::with_status(Status::InvalidArgument, text);
    let is_unit = TypeId::of::<C>() == TypeId::of::<()>();
    let text = match (text.trim_ascii(), is_unit) {
        (b"", true) | (b"{}", true) => &b"null"[..],
        (b"", false) => &b"{}"[..],
        (_, true) => return Err(wrong("it has no configuration, and was given one".into())),
        (text, false) => text,
    };
    let mut json = serde_json::Deserializer::from_slice(text);
    let (config, unknown) = keys::read(&mut json).map_err(|error| {
        let key = error.path().to_string();
        let reason = without_value(&error.inner().to_string());
        let reason = reason.as_str();
        wrong(match key.as_str() {
            "." => format!("configuration: {reason}"),
            key => format!("configuration: {key}: {reason}"),
        })
    })?;
    json.end()
        .map_err(|error| wrong(format!("configuration: {error}")))?;
    if let Some(key) = unknown {
        return Err(wrong(format!("configuration: {key}: unknown field")));
    }
    Ok(config)
}

/// serde prints the value that has the wrong type, and the variant that does not exist; it may be a secret.
fn without_value(reason: &str) -> String {
    // What stands before the value, what is to stand in its place, and what ends the value.
    const VALUES: [(&str, &str, &str); 6] = [
        ("string \"", "a text", "\""),
        ("integer `", "integer", "`"),
        ("floating point `", "floating point", "`"),
        ("boolean `", "boolean", "`"),
        ("character `", "character", "`"),
        ("unknown variant `", "unknown variant", "`"),
    ];
    let found = VALUES
        .iter()
        .filter_map(|value| Some((reason.find(value.0)?, value)))
        .min_by_key(|(begin, _)| *begin);
    let Some((begin, (before, instead, quote))) = found else {
        return reason.to_string();
    };
    // The value may have quotes of its own: the last place at which the reason goes on as serde's do.
    let rest = &reason[begin + before.len()..];
    let end = [", expected ", ", there are no variants"]
        .iter()
        .find_map(|after| rest.rfind(&format!("{quote}{after}")))
        .or_else(|| rest.rfind(quote));
    let after = end.map_or("", |end| &rest[end + quote.len()..]);
    format!("{}{instead}{after}", &reason[..begin])
}

/// A duration as the host's functions take it.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Config {
        limit: u32,
        #[serde(default)]
        rules: Vec<Rule>,
        way: Option<Way>,
        letter: Option<char>,
        nothing: Option<Nothing>,
    }
    #[derive(Deserialize, Debug)]
    #[serde(rename_all = "lowercase")]
    enum Way {
        In,
        Out,
    }
    #[derive(Deserialize, Debug)]
    enum Nothing {}
    #[derive(Deserialize, Debug)]
    #[allow(dead_code)]
    struct Rule {
        path: String,
    }

    fn refusal<C: DeserializeOwned + std::fmt::Debug + 'static>(text: &str) -> String {
        read_config::<C>(text.as_bytes())
            .unwrap_err()
            .text()
            .to_string()
    }

    #[test]
    fn an_error_names_the_key() {
        assert_eq!(read_config::<Config>(br#"{"limit": 3}"#).unwrap().limit, 3);
        let text = refusal::<Config>(r#"{"limit": 1, "rules": [{"path": "/a"}, {"path": 7}]}"#);
        assert!(
            text.starts_with("configuration: rules[1].path: invalid type: integer"),
            "{text}"
        );
        assert!(refusal::<Config>("").contains("missing field `limit`"));
        assert!(refusal::<Config>(r#"{"limit": 1, "limt": 2}"#).contains("unknown field `limt`"));
        assert!(refusal::<Config>("{").starts_with("configuration: "));
    }

    #[test]
    fn an_error_has_no_value_of_the_configuration() {
        let text = refusal::<Config>(r#"{"limit": "hunter2"}"#);
        assert!(
            text.contains("limit: invalid type: a text, expected u32"),
            "{text}"
        );
        for (config, expected) in [
            (
                r#"{"limit": "a `hunter2`\", expected 7"}"#,
                "limit: invalid type: a text, expected u32",
            ),
            (
                r#"{"limit": "integer `7`"}"#,
                "limit: invalid type: a text, expected u32",
            ),
            (
                r#"{"limit": 4294967296}"#,
                "limit: invalid value: integer, expected u32",
            ),
            (
                r#"{"limit": -7}"#,
                "limit: invalid value: integer, expected u32",
            ),
            (
                r#"{"limit": 7.5}"#,
                "limit: invalid type: floating point, expected u32",
            ),
            (
                r#"{"limit": true}"#,
                "limit: invalid type: boolean, expected u32",
            ),
            (
                r#"{"limit": 1, "way": "hunter2"}"#,
                "way: unknown variant, expected `in` or `out`",
            ),
            (
                r#"{"limit": 1, "way": "`, expected `7"}"#,
                "way: unknown variant, expected `in` or `out`",
            ),
            (
                r#"{"limit": 1, "letter": "hunter2"}"#,
                "letter: invalid value: a text, expected a character",
            ),
            (
                r#"{"limit": 1, "nothing": "hunter2"}"#,
                "nothing: unknown variant, there are no variants",
            ),
        ] {
            let text = refusal::<Config>(config);
            assert!(text.contains(expected), "{config}: {text}");
            let text = text.split(" at line ").next().unwrap_or_default();
            assert!(!text.contains('7') && !text.contains("hunter2"), "{text}");
        }
        assert_eq!(
            without_value("invalid type: character `7`, expected a map"),
            "invalid type: character, expected a map"
        );
    }

    #[test]
    fn a_plugin_without_a_configuration_takes_none() {
        read_config::<()>(b"").unwrap();
        assert_eq!(
            refusal::<()>(r#"{"a": 1}"#),
            "it has no configuration, and was given one"
        );
    }
}
