// SPDX-License-Identifier: Apache-2.0

//! Calls to other services, on the fake host.
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use callout::calls::{Failure, Request, Response, Upstream};
use callout::testing::{slow, Instance, Service, Store};
use callout::timers::{sleep, Timers};
use callout::{shared_data::SharedData, HeadersCall, Level, Plugin, Result, Setup, Status};

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

struct Gate {
    users: Upstream,
}

#[callout::plugin(no_export)]
impl Plugin for Gate {
    fn create(_: (), setup: &mut Setup) -> Result<Self> {
        Ok(Gate {
            users: Upstream::new(setup.host(), "users")?,
        })
    }

    async fn request_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        assert!(call.time_left().unwrap() <= Duration::from_secs(100));
        match self.users.call(Request::get("/")).await {
            Ok(_) => Ok(()),
            Err(failure) => call.deny(503, failure.to_string()),
        }
    }
}

fn gate(service: Service) -> Instance<Gate> {
    Instance::with_upstreams("", [("users", service)]).unwrap()
}

#[test]
fn a_call_ends_before_the_hook_that_waits_for_it() {
    for deadline in [Duration::from_secs(10), Duration::from_secs(100)] {
        let seen = Arc::new(Mutex::new(None));
        let saw = seen.clone();
        let users: Service = Arc::new(move |request| {
            *saw.lock().unwrap() = request.timeout;
            Ok(Response::default())
        });
        let gate = gate(users);
        let answer = gate.stream().set_deadline(deadline).request_headers(&[]);
        assert!(answer.is_empty());
        let timeout = seen.lock().unwrap().expect("the hook has a deadline");
        assert!(!timeout.is_zero() && timeout <= deadline - Duration::from_millis(50));
    }
}

#[test]
fn a_hook_refuses_in_time_when_its_service_is_slow() {
    let users: Service = Arc::new(|_| Ok(Response::default()));
    let hour = slow(Duration::from_secs(3600), users.clone());
    let answer = gate(hour).stream().request_headers(&[]);
    assert_eq!(answer.http_status(), Some(503));
    let quick = slow(Duration::from_millis(1), users);
    assert!(gate(quick).stream().request_headers(&[]).is_empty());
}

/// Counts its runs in shared data, and reads a list.
struct Listing {
    list: Arc<Mutex<Vec<u8>>>,
}

#[callout::plugin(no_export)]
impl Plugin for Listing {
    fn create(_: (), setup: &mut Setup) -> Result<Self> {
        let users = Upstream::new(setup.host(), "users")?;
        let list = Arc::new(Mutex::new(Vec::new()));
        let (to, runs, host) = (
            list.clone(),
            SharedData::new(setup.host())?,
            setup.host().clone(),
        );
        Timers::new(setup.host())?.every_async(Duration::from_secs(30), move || {
            let (users, to, runs, host) = (users.clone(), to.clone(), runs.clone(), host.clone());
            async move {
                let run = runs.add("runs", 1, None).unwrap();
                match users.call(Request::get(format!("/{run}"))).await {
                    Ok(response) => *to.lock().unwrap() = response.body,
                    Err(failure) => host.warning(failure),
                }
                assert!(run != 3, "third");
                if run == 4 {
                    sleep(&host, Duration::from_secs(100)).await.unwrap();
                }
            }
        })?;
        Ok(Listing { list })
    }

    fn request_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        call.set_header("x-list", self.list.lock().unwrap().as_slice());
        Ok(())
    }
}

#[test]
fn a_timer_calls_a_service() {
    let users: Service = Arc::new(|request| match request.path.as_str() {
        "/2" => Err(Failure::new(Status::Unavailable, "no connection")),
        path => Ok(Response {
            body: path.as_bytes().to_vec(),
            ..Response::default()
        }),
    });
    let store = Store::default();
    let listing = || Instance::<Listing>::with_store("", [("users", users.clone())], &store);
    let first = listing().unwrap();
    let list = |from: &Instance<Listing>| from.stream().request_headers(&[]).header("x-list");
    assert_eq!(list(&first).as_deref(), Some(""));
    first.advance(Duration::ZERO);
    assert_eq!(list(&first).as_deref(), Some("/1"));
    first.advance(Duration::from_secs(30));
    assert_eq!(list(&first).as_deref(), Some("/1"), "it failed");
    first.advance(Duration::from_secs(30));
    assert_eq!(list(&first).as_deref(), Some("/3"));
    let logs = first.logs();
    assert_eq!(
        logs[0],
        (Level::Warning, "Unavailable: no connection".into())
    );
    assert_eq!(logs[1], (Level::Error, "timer: panic: third".into()));
    // The fourth run sleeps for 100 s, so the ones that are due meanwhile are left out.
    first.advance(Duration::from_secs(30));
    first.advance(Duration::from_secs(60));
    assert_eq!(list(&first).as_deref(), Some("/4"));
    first.advance(Duration::from_secs(90));
    assert_ne!(list(&first).as_deref(), Some("/4"));
    // The next version finds the count. A run that sleeps does not hold up the end of an instance.
    let runs = first.shared_value("", "runs");
    drop(first);
    assert_eq!(store.value("", "runs"), runs);
    store.put("", "runs", &3i64.to_ne_bytes());
    let next = listing().unwrap();
    next.advance(Duration::ZERO);
    assert_eq!(list(&next).as_deref(), Some("/4"));
}
