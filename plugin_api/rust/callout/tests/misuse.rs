// SPDX-License-Identifier: Apache-2.0

//! What a plugin gets wrong lets nothing pass.
#![forbid(unsafe_code)]

use callout::testing::Instance;
use callout::{BodyCall, BodyMode, HeadersCall, Plugin, Result, Setup, Status};
use serde::Deserialize;

#[derive(Deserialize)]
#[allow(dead_code)]
struct Config {
    #[serde(default)]
    deny: Vec<Rule>,
}
#[derive(Deserialize)]
#[allow(dead_code)]
struct Rule {
    path: String,
}

struct Careless;

#[callout::plugin]
impl Plugin for Careless {
    type Config = Config;

    fn create(_: Config, _: &mut Setup) -> Result<Self> {
        Ok(Careless)
    }

    fn request_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        // References to a call may be on several threads at once.
        let seen = &*call;
        std::thread::scope(|scope| {
            for number in 0..8i64 {
                scope.spawn(move || {
                    for _ in 0..20 {
                        assert!(seen.span().set("number", number));
                        assert_eq!(seen.grpc_metadata("x-token"), Some(&b"a"[..]));
                    }
                });
            }
        });
        call.hold();
        call.set_header("lost", "1");
        Ok(())
    }

    fn request_body(&self, call: &mut BodyCall<'_, Self>) -> Result {
        match call.body() {
            b"set_body" => call.set_body("lost"),
            b"clear_body" => call.clear_body(),
            b"set_header" => call.set_header("a", "b"),
            b"deny" => call.deny(403, "no")?,
            b"send" => call.send(b"a piece")?,
            _ => {}
        }
        call.hold();
        Ok(())
    }
}

fn instance() -> Instance<Careless> {
    Instance::new(r#"{"deny": [{"path": "/admin"}]}"#).unwrap()
}

#[test]
fn hold_beside_another_step_is_a_fault() {
    let instance = instance();
    let fault = "hold() beside another step of the same call";
    for body in ["set_body", "clear_body", "set_header"] {
        let mut stream = instance.stream();
        stream.set_body_mode(BodyMode::FullDuplexStreamed);
        let answer = stream.request_body(body.as_bytes(), false);
        let error = answer.error().expect(body);
        assert_eq!(error.status(), Status::InvalidArgument);
        assert!(
            error.text().starts_with(fault) && !answer.is_held(),
            "{error}"
        );
    }
    let held = |body: &str| {
        let mut stream = instance.stream();
        stream.set_body_mode(BodyMode::FullDuplexStreamed);
        stream.request_body(body.as_bytes(), false)
    };
    assert!(held("").is_held() && held("send").is_held());
    assert_eq!(held("deny").http_status(), Some(403));
}

#[test]
fn threads_that_share_a_call_take_turns() {
    let instance = instance();
    let mut stream = instance.stream();
    stream.add_grpc_metadata("x-token", "a");
    let answer = stream.request_headers(&[(":path", "/")]);
    assert!(answer.error().unwrap().text().starts_with("hold() beside"));
    assert!(answer.span_attributes()["number"].is_i64());
}

#[test]
fn a_key_that_the_configuration_does_not_have_is_refused_without_deny_unknown_fields() {
    let refusal = |text| {
        let refused = Instance::<Careless>::new(text).err();
        refused.map_or(String::new(), |error| error.text().to_string())
    };
    assert_eq!(
        refusal(r#"{"denny": []}"#),
        "configuration: denny: unknown field"
    );
    assert_eq!(
        refusal(r#"{"deny": [{"path": "/", "methd": "hunter2"}]}"#),
        "configuration: deny[0].methd: unknown field"
    );
    assert_eq!(refusal(""), "");
}
