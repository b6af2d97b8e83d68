// SPDX-License-Identifier: Apache-2.0

//! A refusal stands: what comes after it lets nothing pass. A `return` is missing in every hook here.
#![forbid(unsafe_code)]

use std::time::Duration;

use callout::testing::{Answer, Instance};
use callout::timers::sleep;
use callout::{
    BodyCall, BodyMode, CheckCall, ConnectionCall, DataCall, Error, HeadersCall, Level, Plugin,
    RateLimitCall, Result, Setup, Status,
};

struct Forgetful;

#[callout::plugin(no_export)]
impl Plugin for Forgetful {
    fn create(_: (), _: &mut Setup) -> Result<Self> {
        Ok(Forgetful)
    }

    fn request_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        let deed = call.headers().text("x-do").unwrap_or_default().into_owned();
        call.set_header("before", "1");
        if deed == "allow, and then an error" {
            return Err(Error::new("later"));
        }
        let _ = call.deny(403, "no");
        match deed.as_str() {
            "set_header" => call.set_header("x-internal-token", "s3cret"),
            "append_header" => call.append_header("x-internal-token", "s3cret"),
            "remove_header" => call.remove_header("x-role"),
            "set_header_if_absent" => call.set_header_if_absent("x-internal-token", "s3cret"),
            "set_header_if_present" => call.set_header_if_present("x-do", "s3cret"),
            "clear_route_cache" => call.clear_route_cache(),
            "replace_body" => call.replace_body("s3cret"),
            "hold" => call.hold(),
            "reply" => {
                call.reply(200).header("x-internal-token", "s3cret");
            }
            "deny" => call.deny(200, "s3cret")?,
            "error" => return Err(Error::new("later")),
            "denied" => return Err(Error::deny_callout("later")),
            "panic" => panic!("later"),
            _ => {}
        }
        Ok(())
    }

    async fn response_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        let deed = call.headers().text("x-do").unwrap_or_default().into_owned();
        let _ = call.deny(503, "no");
        sleep(call.host(), Duration::from_millis(1)).await?;
        match deed.as_str() {
            "set_header" => call.set_header("x-internal-token", "s3cret"),
            "error" => return Err(Error::new("later")),
            "panic" => panic!("later"),
            _ => {}
        }
        Ok(())
    }

    fn request_body(&self, call: &mut BodyCall<'_, Self>) -> Result {
        let deed = String::from_utf8_lossy(call.body()).into_owned();
        if deed == "hold before" {
            call.hold();
        }
        let _ = call.deny(403, "no");
        match deed.as_str() {
            "set_body" => call.set_body("s3cret"),
            "clear_body" => call.clear_body(),
            "send" => call.send(b"s3cret")?,
            "hold" => call.hold(),
            _ => {}
        }
        Ok(())
    }

    fn check(&self, call: &mut CheckCall<'_, Self>) -> Result {
        let deed = call.headers().text("x-do").unwrap_or_default().into_owned();
        if deed == "allow before" {
            call.allow().header("x-user", "ada");
        }
        let _ = call.deny(401, "no");
        match deed.as_str() {
            "allow" => {
                call.allow().header("x-internal-token", "s3cret");
            }
            "refuse" => {
                call.refuse(200)?.header("x-internal-token", "s3cret");
            }
            "error" => return Err(Error::new("later")),
            "panic" => panic!("later"),
            _ => {}
        }
        Ok(())
    }

    fn rate_limit(&self, call: &mut RateLimitCall<'_, Self>) -> Result {
        call.over_limit();
        call.add_request_header("x-tier", "gold");
        match call.domain() {
            "error" => Err(Error::new("later")),
            "panic" => panic!("later"),
            _ => Ok(()),
        }
    }

    fn connection(&self, call: &mut ConnectionCall<'_, Self>) -> Result {
        call.close();
        call.reset();
        Ok(())
    }

    fn read_data(&self, call: &mut DataCall<'_, Self>) -> Result {
        let deed = String::from_utf8_lossy(call.data()).into_owned();
        call.set_data("before");
        call.close();
        match deed.as_str() {
            "set_data" => call.set_data("s3cret"),
            "panic" => panic!("later"),
            _ => {}
        }
        Ok(())
    }
}

fn instance() -> Instance<Forgetful> {
    Instance::new("").unwrap()
}

/// The late step that the log names.
fn late(instance: &Instance<Forgetful>) -> Option<String> {
    let (level, text) = instance.logs().pop()?;
    assert_eq!(level, Level::Error);
    let (step, rest) = text.split_once("() after ")?;
    assert!(
        rest.contains(" does nothing: return from the hook after "),
        "{text}"
    );
    Some(step.to_string())
}

fn denied(answer: &Answer, status: u16) {
    assert!(answer.refuses());
    assert_eq!(
        (answer.http_status(), answer.body()),
        (Some(status), Some(b"no".to_vec()))
    );
    assert!(answer.error().is_none(), "{:?}", answer.error());
    for name in ["x-internal-token", "before"] {
        assert!(answer.header(name).is_none(), "{name}");
    }
    assert!(!answer.removes("x-role") && !answer.is_held() && answer.sent().is_empty());
}

#[test]
fn no_step_of_a_headers_hook_takes_a_denial_back() {
    for step in [
        "set_header",
        "append_header",
        "remove_header",
        "set_header_if_absent",
        "set_header_if_present",
        "clear_route_cache",
        "replace_body",
        "hold",
        "reply",
        "deny",
    ] {
        let instance = instance();
        denied(&instance.stream().request_headers(&[("x-do", step)]), 403);
        assert_eq!(late(&instance).as_deref(), Some(step));
    }
    let instance = instance();
    denied(&instance.stream().request_headers(&[]), 403);
    assert_eq!(late(&instance), None, "nothing came after it");
}

#[test]
fn a_denial_is_told_before_a_fault() {
    for deed in ["error", "panic"] {
        let instance = instance();
        let answer = instance.stream().request_headers(&[("x-do", deed)]);
        assert!(answer.refuses(), "{deed}");
        assert_eq!(answer.http_status(), None, "the policy has a status");
        assert_eq!(answer.error().unwrap().status(), Status::Internal);
        assert!(answer.error().unwrap().text().ends_with("later"));
    }
    let instance = instance();
    let allowed = [("x-do", "allow, and then an error")];
    assert!(!instance.stream().request_headers(&allowed).refuses());
    // A decision that an Envoy which fails open does not obey adds nothing to one that it does.
    denied(
        &instance.stream().request_headers(&[("x-do", "denied")]),
        403,
    );
}

#[test]
fn a_denial_of_an_async_hook_stands_across_an_await() {
    let instance = instance();
    let answer = instance
        .stream()
        .response_headers(&[("x-do", "set_header")]);
    assert!(answer.was_deferred());
    denied(&answer, 503);
    assert_eq!(late(&instance).as_deref(), Some("set_header"));
    for deed in ["error", "panic"] {
        let answer = instance.stream().response_headers(&[("x-do", deed)]);
        assert!(answer.refuses() && answer.was_deferred(), "{deed}");
        assert!(answer.error().unwrap().text().ends_with("later"));
    }
}

#[test]
fn no_step_of_a_body_hook_takes_a_denial_back() {
    for step in ["set_body", "clear_body", "send", "hold"] {
        let instance = instance();
        let mut stream = instance.stream();
        stream.set_body_mode(BodyMode::FullDuplexStreamed);
        denied(&stream.request_body(step.as_bytes(), false), 403);
        assert_eq!(late(&instance).as_deref(), Some(step));
    }
    let instance = instance();
    denied(&instance.stream().request_body(b"hold before", false), 403);
}

#[test]
fn no_allowance_takes_a_refusal_of_a_check_back() {
    for step in ["allow", "refuse"] {
        let instance = instance();
        denied(&instance.stream().check(&[("x-do", step)]), 401);
        assert_eq!(late(&instance).as_deref(), Some(step));
    }
    let instance = instance();
    denied(&instance.stream().check(&[("x-do", "allow before")]), 401);
    for deed in ["error", "panic"] {
        let answer = instance.stream().check(&[("x-do", deed)]);
        assert!(answer.refuses() && !answer.is_allowed(), "{deed}");
        assert!(answer.error().unwrap().text().ends_with("later"));
    }
}

#[test]
fn a_request_over_its_limits_stays_so() {
    let instance = instance();
    for domain in ["all", "error", "panic"] {
        let answer = instance.stream().rate_limit(domain, &[]);
        assert!(answer.refuses() && answer.is_over_limit(), "{domain}");
        assert_eq!(answer.error().is_some(), domain != "all");
    }
}

#[test]
fn the_end_of_a_connection_stands() {
    let ends = |deed: &str| {
        let instance = instance();
        let answer = instance.stream().read_data(deed.as_bytes(), false);
        assert!(answer.refuses() && answer.data().is_none(), "{deed}");
        (answer.error().is_some(), late(&instance))
    };
    assert_eq!(ends(""), (false, None));
    assert_eq!(ends("set_data"), (false, Some("set_data".to_string())));
    assert!(ends("panic").0);
    let instance = instance();
    let answer = instance.stream().connection();
    assert!(answer.ends_connection() && !answer.resets_connection());
    assert_eq!(late(&instance).as_deref(), Some("reset"));
}
