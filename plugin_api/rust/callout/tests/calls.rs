// SPDX-License-Identifier: Apache-2.0

//! Calls to other services, on the fake host.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use callout::calls::{Failure, Request, Response, Upstream};
use callout::testing::{Instance, Service};
use callout::{HeadersCall, Plugin, Result, Setup, Status};

struct Lookup {
    users: Upstream,
}

#[callout::plugin]
impl Plugin for Lookup {
    fn create(_: (), setup: &mut Setup) -> Result<Self> {
        Ok(Lookup {
            users: Upstream::new(setup.host(), "users")?,
        })
    }

    async fn request_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        let user = call
            .headers()
            .text("x-user")
            .unwrap_or_default()
            .into_owned();
        let mut ask = Request::post(format!("/users/{user}"), "who?").header("x-a", "b");
        ask.timeout = Some(Duration::from_millis(5));
        let response = self.users.call(ask).await?;
        call.set_header("x-status", response.http_status.to_string());
        call.set_header("x-team", response.header("team").unwrap_or(b"none"));
        call.set_header("x-body", &response.body);
        // One that nobody waits for is not made, and one that is dropped is cancelled.
        drop(self.users.call(Request::get("/never")));
        Ok(())
    }

    async fn response_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        let ask = Request::grpc("/a.Service/Method", "message");
        match self.users.call(ask).await {
            Ok(response) => call.set_header("x-message", response.body),
            Err(failure) => call.set_header("x-failure", failure.to_string()),
        }
        Ok(())
    }
}

fn service(request: &Request) -> std::result::Result<Response, Failure> {
    if request.is_grpc() {
        let message = "not for you".to_string();
        return Err(Failure {
            status: Status::PermissionDenied,
            from_service: true,
            message,
        });
    }
    assert_eq!(
        (request.method.as_str(), request.body.as_slice()),
        ("POST", &b"who?"[..])
    );
    assert_eq!(request.headers, [("x-a".to_string(), "b".to_string())]);
    assert_eq!(request.timeout, Some(Duration::from_millis(5)));
    match request.path.as_str() {
        "/users/down" => {
            let message = "no connection".to_string();
            Err(Failure {
                status: Status::Unavailable,
                from_service: false,
                message,
            })
        }
        path => Ok(Response {
            http_status: 200,
            headers: vec![("team".into(), b"one".to_vec())],
            body: path.as_bytes().to_vec(),
            ..Response::default()
        }),
    }
}

fn lookup() -> Instance<Lookup> {
    Instance::with_upstreams("", [("users", Arc::new(service) as Service)]).unwrap()
}

#[test]
fn a_response_is_awaited() {
    let lookup = lookup();
    let answer = lookup.stream().request_headers(&[("x-user", "ada")]);
    assert_eq!(answer.error(), None);
    assert_eq!(answer.header("x-status").as_deref(), Some("200"));
    assert_eq!(answer.header("x-team").as_deref(), Some("one"));
    assert_eq!(answer.header("x-body").as_deref(), Some("/users/ada"));
}

#[test]
fn a_service_that_is_down_is_a_fault() {
    let error = lookup()
        .stream()
        .request_headers(&[("x-user", "down")])
        .error()
        .unwrap();
    assert_eq!(
        (error.status(), error.text()),
        (Status::Internal, "Unavailable: no connection")
    );
}

#[test]
fn what_a_service_says_is_no_decision_of_the_plugin() {
    let answer = lookup().stream().response_headers(&[(":status", "200")]);
    assert_eq!(
        answer.header("x-failure").as_deref(),
        Some("PermissionDenied: not for you")
    );
}

#[test]
fn a_wrong_name_refuses_the_configuration() {
    let error = Instance::<Lookup>::new("").err().unwrap();
    assert!(
        error.text().contains("there is no upstream \"users\""),
        "{error}"
    );
}
