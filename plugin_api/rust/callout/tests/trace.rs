// SPDX-License-Identifier: Apache-2.0

//! Attributes and events of spans, the context to pass on, and the metadata of the gRPC request.
#![forbid(unsafe_code)]

use callout::testing::Instance;
use callout::trace::Context;
use callout::{json, HeadersCall, OpenCall, Plugin, Result, Setup};

struct Traced;

#[callout::plugin(no_export)]
impl Plugin for Traced {
    type Stream = Option<Context>;

    fn create(_: (), _: &mut Setup) -> Result<Self> {
        Ok(Traced)
    }

    fn stream_open(&self, call: &mut OpenCall<'_, Self>) -> Result {
        assert!(call.span().set("opened", true));
        Ok(())
    }

    fn request_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        let context = call.trace_context();
        let entries = call.grpc_metadata_entries().len();
        let span = call.span();
        assert!(span.set("rule", 942100) && span.set("rule", 942101));
        assert!(span.set("score", 0.5) && span.set("large", u64::MAX));
        assert!(span.set("tenant", "blue") && span.set("entries", entries));
        assert!(span.event("cache", &[("hit", false.into()), ("key", "a".into())]));
        call.set_header("x-recorded", span.is_recorded().to_string());
        *call.stream = context;
        Ok(())
    }

    fn response_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        let seen = call.stream.clone().unwrap_or_default();
        call.set_header("x-parent", seen.traceparent);
        call.set_header("x-state", seen.tracestate);
        let span = call.span();
        let is_recorded = span.is_recorded();
        // What the host refuses is told, and ends no call.
        for key in ["", "callout.plugin", "http.response.status_code"] {
            assert_eq!(span.set(key, 1), !is_recorded, "{key}");
            assert_eq!(span.event("e", &[(key, 1.into())]), !is_recorded, "{key}");
        }
        assert_eq!(span.event(&"n".repeat(257), &[]), !is_recorded);
        for i in 0..128 {
            assert!(span.set(&format!("key{i}"), "é".repeat(600).as_str()) || i > 50);
        }
        let long = "x".repeat(1000);
        assert_eq!(span.set("one more", &long), !is_recorded);
        Ok(())
    }
}

const PARENT: &str = "00-11111111111111111111111111111111-2222222222222222-00";

#[test]
fn a_span_has_what_is_added_to_it() {
    let instance = Instance::<Traced>::new("").unwrap();
    let mut stream = instance.stream();
    stream.add_grpc_metadata("x-tenant", "blue");
    stream.add_grpc_metadata("x-tenant", "green");
    let answer = stream.request_headers(&[]);
    assert_eq!(answer.header("x-recorded").as_deref(), Some("true"));
    assert_eq!(
        json!(answer.span_attributes()),
        json!({"opened": true, "rule": 942101, "score": 0.5, "large": i64::MAX, "tenant": "blue", "entries": 2})
    );
    let event = json!({"hit": false, "key": "a"});
    assert_eq!(json!(answer.span_events()), json!([["cache", event]]));
}

#[test]
fn what_is_over_a_limit_is_left_out() {
    let instance = Instance::<Traced>::new("").unwrap();
    let answer = instance.stream().response_headers(&[]);
    assert!(answer.error().is_none(), "{:?}", answer.error());
    let attributes = answer.span_attributes();
    assert!(attributes.len() < 128 && answer.span_events().is_empty());
    assert_eq!(
        attributes["key0"].as_str().map(str::len),
        Some(1024),
        "cut after a whole character"
    );
}

#[test]
fn an_exchange_that_is_not_sampled_records_nothing() {
    let instance = Instance::<Traced>::new("").unwrap();
    let mut stream = instance.stream();
    stream.set_recorded(false);
    let answer = stream.request_headers(&[]);
    assert_eq!(answer.header("x-recorded").as_deref(), Some("false"));
    assert!(answer.span_attributes().is_empty() && answer.span_events().is_empty());
    assert_eq!(
        stream.response_headers(&[]).header("x-parent").as_deref(),
        Some(""),
        "there is no context"
    );
}

#[test]
fn the_context_is_the_calls_span_or_what_came() {
    let instance = Instance::<Traced>::new("").unwrap();
    let seen = |is_recorded: bool| {
        let mut stream = instance.stream();
        stream
            .add_grpc_metadata("traceparent", PARENT)
            .add_grpc_metadata("tracestate", "a=1")
            .set_recorded(is_recorded);
        stream.request_headers(&[]);
        let answer = stream.response_headers(&[]);
        (
            answer.header("x-parent").unwrap(),
            answer.header("x-state").unwrap(),
        )
    };
    let own = "00-11111111111111111111111111111111-0000000000000001-01";
    assert_eq!(seen(true), (own.to_string(), "a=1".to_string()));
    assert_eq!(seen(false), (PARENT.to_string(), "a=1".to_string()));
}
