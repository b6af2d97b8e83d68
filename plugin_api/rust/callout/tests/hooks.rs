// SPDX-License-Identifier: Apache-2.0

//! Every hook, through the C ABI, on the fake host.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use callout::testing::Instance;
use callout::{
    json, BodyCall, BodyMode, CheckCall, ConnectionCall, DataCall, Error, HeadersCall, Level,
    Metric, Modes, Outcome, Phase, Plugin, RateLimitCall, Result, Setup, Status, StreamEnd,
    TrailersCall,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    limit: u64,
}

struct Everything {
    limit: u64,
    seen: Metric,
}

/// Counts those that live.
#[derive(Default)]
struct State {
    messages: u32,
    live: Option<Arc<()>>,
}

static ENDED: AtomicU32 = AtomicU32::new(0);

#[callout::plugin]
impl Plugin for Everything {
    type Config = Config;
    type Stream = State;

    fn create(config: Config, setup: &mut Setup) -> Result<Self> {
        if config.limit == 13 {
            panic!("not {}", config.limit);
        }
        setup.want_whole_bodies(1 << 20);
        setup.run_blocking(Phase::ResponseBody);
        setup.want_request_headers();
        if config.limit == 1 {
            setup.skip(Phase::RequestBody);
        }
        setup.follow_file("/etc/everything")?;
        setup.host().info(format!("{} begins", setup.name()));
        Ok(Everything {
            limit: config.limit,
            seen: setup.counter("seen_total", "Messages")?,
        })
    }

    fn stream_open(&self, call: &mut callout::OpenCall<'_, Self>) -> Result {
        match call.grpc_metadata("x-token") {
            Some(b"wrong") => Err(Error::deny_callout("wrong token")),
            _ => Ok(()),
        }
    }

    fn stream_end(&self, end: &StreamEnd<'_>, stream: &mut State) {
        assert_eq!(end.outcome(), Outcome::Completed);
        ENDED.fetch_add(stream.messages, Ordering::SeqCst);
    }

    fn request_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        call.stream.messages += 1;
        call.stream.live.get_or_insert_with(Default::default);
        self.seen.increment();
        let headers = call.headers();
        match headers.text(":path").as_deref() {
            Some("/panic") => panic!("a text"),
            Some("/index") => {
                let empty: Vec<u8> = Vec::new();
                call.set_header("x", [empty[headers.len()]]);
            }
            Some("/error") => Err(Error::with_status(Status::Unavailable, "not now"))?,
            Some("/std") => {
                "x".parse::<u32>()?;
            }
            Some("/deny") => return call.deny(403, "no"),
            Some("/status") => return call.deny(99, "no"),
            Some("/ignored") => {
                let _ = call.deny(99, "no");
            }
            Some("/reply") => {
                call.set_header("dropped", "1");
                call.reply(302)
                    .header("location", "/")
                    .body("moved")
                    .details("moved_by_plugin")
                    .grpc_status(7);
            }
            Some("/metadata") => {
                call.set_metadata(
                    "my.plugin",
                    json!({"user": "ada", "level": 3, "tags": ["a", null]}),
                )?;
                assert!(call.set_metadata("my.plugin", 3).is_err());
                call.override_modes(Modes {
                    response_body: Some(BodyMode::Buffered),
                    ..Modes::default()
                })?;
            }
            Some("/known") => {
                assert_eq!(call.attribute("source.port"), Some(json!(80.0)));
                assert_eq!(call.metadata("my.filter", "score"), Some(json!(0.5)));
                assert_eq!(call.metadata("other", "score"), None);
                assert_eq!(call.listener(), Some("plaintext"));
                assert!(call.peer_identity().is_none() && call.is_first() && call.end_of_stream());
                call.set_header_if_absent(":path", "/new");
                call.set_header_if_present("x-new", "1");
                call.set_header_if_absent("x-new", "2");
            }
            _ => {
                call.set_header("x-seen", headers.len().to_string());
                call.append_header("x-step", "one");
                call.set_header("x-internal", "set, and then removed");
                call.remove_header("X-Internal");
                call.clear_route_cache();
            }
        }
        Ok(())
    }

    fn response_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        call.set_header(
            "x-path",
            call.request_headers().get(":path").unwrap_or(b"none"),
        );
        call.replace_body("instead");
        Ok(())
    }

    fn request_body(&self, call: &mut BodyCall<'_, Self>) -> Result {
        if call.body_mode() == BodyMode::FullDuplexStreamed {
            call.send(b"ahead")?;
            assert!(call.send_room() > 0);
            call.hold();
            return Ok(());
        }
        if call.offset() + call.body().len() as u64 > self.limit {
            return call.deny(413, "");
        }
        let upper = call.body().to_ascii_uppercase();
        call.set_body(upper);
        Ok(())
    }

    fn response_body(&self, call: &mut BodyCall<'_, Self>) -> Result {
        assert!(call.is_whole() && call.end_of_stream());
        call.clear_body();
        Ok(())
    }

    fn request_trailers(&self, call: &mut TrailersCall<'_, Self>) -> Result {
        assert!(call.trailers().contains("x-sum"));
        call.set_header("x-trailer", "");
        Ok(())
    }

    fn response_trailers(&self, call: &mut TrailersCall<'_, Self>) -> Result {
        call.remove_header("grpc-message");
        Ok(())
    }

    fn check(&self, call: &mut CheckCall<'_, Self>) -> Result {
        if call.path() == "/ignored" {
            call.allow();
            let _ = call.deny(99, "no");
        } else if call.path() == "/secret" {
            call.refuse(401)?
                .header("www-authenticate", "Basic")
                .body("who are you?");
        } else if call.headers().is("x-user", "ada") {
            assert_eq!((call.method(), call.host_name()), ("GET", "a.example"));
            call.allow()
                .header("x-ok", "1")
                .remove_header("x-user")
                .response_header("x-r", "2")
                .query("a", "b");
        }
        Ok(())
    }

    fn rate_limit(&self, call: &mut RateLimitCall<'_, Self>) -> Result {
        let over = call
            .descriptors()
            .any(|one| one.get("user") == Some(b"greedy") && one.hits == 1);
        assert_eq!(call.domain(), "all");
        if over {
            call.over_limit();
        }
        call.add_response_header("x-limit", "7");
        Ok(())
    }

    fn connection(&self, _: &mut ConnectionCall<'_, Self>) -> Result {
        Ok(())
    }

    fn read_data(&self, call: &mut DataCall<'_, Self>) -> Result {
        match call.data() {
            b"DROP TABLE" => call.close(),
            data => {
                let replaced = [data, b"!"].concat();
                call.set_data(replaced);
            }
        }
        Ok(())
    }

    fn write_data(&self, call: &mut DataCall<'_, Self>) -> Result {
        call.reset();
        Ok(())
    }
}

fn instance() -> Instance<Everything> {
    Instance::new(r#"{"limit": 5}"#).unwrap()
}

#[test]
fn changes_headers_in_the_order_of_the_calls() {
    let instance = instance();
    let answer = instance
        .stream()
        .request_headers(&[(":path", "/"), ("x-internal", "1")]);
    assert_eq!(answer.header("x-seen").as_deref(), Some("2"));
    assert_eq!(answer.headers("x-step"), ["one"]);
    assert!(answer.removes("x-internal") && answer.header("x-internal").is_none());
    assert!(answer.clears_route_cache() && answer.error().is_none() && !answer.was_deferred());
    assert_eq!(instance.metric("seen_total"), Some(1.0));
}

#[test]
fn answers_in_the_place_of_the_backend() {
    let instance = instance();
    let denied = instance.stream().request_headers(&[(":path", "/deny")]);
    assert_eq!(
        (denied.http_status(), denied.body()),
        (Some(403), Some(b"no".to_vec()))
    );
    let moved = instance.stream().request_headers(&[(":path", "/reply")]);
    assert_eq!(
        (moved.http_status(), moved.header("location").as_deref()),
        (Some(302), Some("/"))
    );
    assert_eq!(moved.body(), Some(b"moved".to_vec()));
    assert!(moved.header("dropped").is_none());
}

#[test]
fn a_denial_that_is_no_denial_is_a_fault_though_the_plugin_ignores_its_error() {
    let instance = instance();
    let headers = [(":method", "GET"), (":path", "/ignored")];
    let passed = instance.stream().request_headers(&headers).error();
    assert_eq!(passed.unwrap().status(), Status::InvalidArgument);
    let checked = instance.stream().check(&headers);
    assert!(!checked.is_allowed());
    assert_eq!(checked.error().unwrap().status(), Status::InvalidArgument);
}

#[test]
fn makes_faults_of_errors_and_panics() {
    let instance = instance();
    let fault = |path| {
        let error = instance
            .stream()
            .request_headers(&[(":path", path)])
            .error()
            .expect(path);
        (error.status(), error.text().to_string())
    };
    assert_eq!(
        fault("/panic"),
        (Status::Internal, "panic: a text".to_string())
    );
    assert!(fault("/index").1.starts_with("panic: index out of bounds"));
    assert_eq!(
        fault("/error"),
        (Status::Unavailable, "not now".to_string())
    );
    assert_eq!(
        fault("/std"),
        (
            Status::Internal,
            "invalid digit found in string".to_string()
        )
    );
    assert_eq!(fault("/status").0, Status::InvalidArgument);
    assert!(
        !instance
            .stream()
            .request_headers(&[(":path", "/")])
            .is_empty(),
        "and lives on"
    );
}

#[test]
fn reads_and_writes_metadata() {
    let instance = instance();
    let answer = instance.stream().request_headers(&[(":path", "/metadata")]);
    assert_eq!(
        answer.metadata(),
        json!({"my.plugin": {"user": "ada", "level": 3.0, "tags": ["a", null]}})
    );
    let mut stream = instance.stream();
    stream
        .set_attributes(json!({"source.port": 80}))
        .set_metadata(json!({"my.filter": {"score": 0.5}}));
    let answer = stream.request_headers(&[(":path", "/known")]);
    assert!(answer.error().is_none(), "{:?}", answer.error());
    assert!(answer.header(":path").is_none());
    assert_eq!(answer.headers("x-new"), ["2"]);
}

#[test]
fn changes_bodies_and_trailers() {
    let instance = instance();
    let mut stream = instance.stream();
    stream.request_headers_with_body(&[(":path", "/")]);
    assert_eq!(
        stream.request_body(b"abc", false).body(),
        Some(b"ABC".to_vec())
    );
    assert_eq!(stream.request_body(b"defg", true).http_status(), Some(413));
    assert_eq!(
        stream
            .request_trailers(&[("x-sum", "1")])
            .headers("x-trailer"),
        [""]
    );
    let answer = stream.response_headers(&[(":status", "200")]);
    assert_eq!(
        (answer.header("x-path").as_deref(), answer.body()),
        (Some("/"), Some(b"instead".to_vec()))
    );
    assert_eq!(
        stream.response_body(b"all of it", true).body(),
        Some(Vec::new())
    );
    assert!(stream.response_trailers(&[]).removes("grpc-message"));
}

#[test]
fn sends_pieces_in_full_duplex() {
    let instance = instance();
    let mut stream = instance.stream();
    stream.set_body_mode(BodyMode::FullDuplexStreamed);
    let answer = stream.request_body(b"abc", false);
    assert_eq!(answer.sent(), [b"ahead"]);
    assert!(answer.is_held());
}

#[test]
fn answers_checks() {
    let instance = instance();
    let check = |path, user| {
        let headers = [
            (":method", "GET"),
            (":path", path),
            (":authority", "a.example"),
            ("x-user", user),
        ];
        instance.stream().check(&headers)
    };
    let refused = check("/secret", "ada");
    assert_eq!(
        (refused.http_status(), refused.body()),
        (Some(401), Some(b"who are you?".to_vec()))
    );
    let allowed = check("/", "ada");
    assert!(allowed.is_allowed() && allowed.removes("x-user"));
    assert_eq!(allowed.headers("x-ok"), ["1"]);
    assert!(!check("/", "eve").is_allowed(), "nothing set refuses");
}

#[test]
fn answers_questions_about_rate_limits() {
    let instance = instance();
    assert!(instance
        .stream()
        .rate_limit("all", &[&[("user", "greedy")]])
        .is_over_limit());
    assert!(!instance
        .stream()
        .rate_limit("all", &[&[("user", "ada")]])
        .is_over_limit());
}

#[test]
fn changes_and_ends_connections() {
    let instance = instance();
    let mut stream = instance.stream();
    assert!(stream.connection().is_empty());
    assert_eq!(
        stream.read_data(b"abc", false).data(),
        Some(b"abc!".to_vec())
    );
    assert!(stream.read_data(b"DROP TABLE", false).ends_connection());
    assert!(stream.write_data(b"", true).resets_connection());
}

#[test]
fn keeps_a_state_for_each_stream() {
    let instance = instance();
    let before = ENDED.load(Ordering::SeqCst);
    let mut stream = instance.stream();
    stream.request_headers(&[(":path", "/deny")]);
    stream.request_headers(&[(":path", "/")]);
    stream.close();
    assert!(ENDED.load(Ordering::SeqCst) >= before + 2);
}

#[test]
fn refuses_a_stream_as_it_is_opened() {
    let instance = instance();
    let mut stream = instance.stream();
    stream.add_grpc_metadata("x-token", "wrong");
    let error = stream.request_headers(&[(":path", "/")]).error().unwrap();
    assert_eq!(
        (error.status(), error.text()),
        (Status::PermissionDenied, "wrong token")
    );
}

#[test]
fn asks_the_host_for_what_it_needs() {
    let instance = instance();
    assert!(
        instance.runs_blocking(Phase::ResponseBody) && !instance.runs_blocking(Phase::RequestBody)
    );
    assert_eq!(instance.whole_body_bytes(), 1 << 20);
    assert_eq!(instance.followed_files(), ["/etc/everything"]);
    assert_eq!(instance.logs(), [(Level::Info, "test begins".to_string())]);
    assert!(instance.wants(Phase::RequestBody));
    let other = Instance::<Everything>::new(r#"{"limit": 1}"#).unwrap();
    assert!(!other.wants(Phase::RequestBody));
}

#[test]
fn refuses_a_configuration_with_the_key() {
    let refusal = |text| {
        Instance::<Everything>::new(text)
            .err()
            .unwrap()
            .text()
            .to_string()
    };
    assert!(refusal(r#"{"limit": "x"}"#).starts_with("configuration: limit: invalid type"));
    assert!(refusal(r#"{"limt": 1}"#).contains("unknown field `limt`"));
    assert_eq!(refusal(r#"{"limit": 13}"#), "panic: not 13");
}
