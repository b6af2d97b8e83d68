// SPDX-License-Identifier: Apache-2.0

//! Acts by the path, for tests/sdk: every way in which the SDK meets the real host.
#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use callout::calls::{Request, Upstream};
use callout::shared_data::SharedData;
use callout::timers::{sleep, Timers};
use callout::{
    json, BodyCall, Error, HeadersCall, Host, Plugin, Result, Setup, Status, TrailersCall,
};

struct Acts {
    data: SharedData,
    ticks: Arc<AtomicU64>,
    service: Option<Upstream>,
}

/// Says in the log that it was dropped before its time.
struct Guard<'a>(&'a Host, bool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.warning("the client has left");
        }
    }
}

/// Wakes at once, from the thread that polls, and so goes on in the executor.
struct Yield(bool);

impl Future for Yield {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[callout::plugin]
impl Plugin for Acts {
    type Stream = Vec<String>;

    fn create(_: (), setup: &mut Setup) -> Result<Self> {
        let ticks = Arc::new(AtomicU64::new(0));
        let count = ticks.clone();
        Timers::new(setup.host())?.every(Duration::from_millis(1), move || {
            count.fetch_add(1, Ordering::SeqCst);
        })?;
        let service = Upstream::new(setup.host(), "service").ok();
        Ok(Acts {
            data: SharedData::new(setup.host())?,
            ticks,
            service,
        })
    }

    async fn request_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        let path = call
            .headers()
            .text(":path")
            .unwrap_or_default()
            .into_owned();
        call.stream.push(path.clone());
        match path.as_str() {
            "/panic" => panic!("a text"),
            "/error" => return Err(Error::new("no luck")),
            "/yield" => Yield(false).await,
            "/sleep" => sleep(call.host(), Duration::from_millis(5)).await?,
            "/sleep-panic" => {
                sleep(call.host(), Duration::from_millis(5)).await?;
                panic!("after waiting");
            }
            "/sleep-deny" => {
                sleep(call.host(), Duration::from_millis(5)).await?;
                return call.deny(403, "after waiting");
            }
            "/wait" => {
                let mut guard = Guard(call.host(), false);
                call.host().info("waiting");
                sleep(call.host(), Duration::from_secs(600)).await?;
                guard.1 = true;
            }
            "/ticks" => {
                while self.ticks.load(Ordering::SeqCst) < 3 {
                    sleep(call.host(), Duration::from_millis(1)).await?;
                }
            }
            "/ask" | "/ask-down" => {
                let service = self
                    .service
                    .as_ref()
                    .ok_or(Error::new("there is no upstream"))?;
                let ask = Request::post(path.as_str(), "a question").header("x-asks", "sdk");
                let response = service.call(ask).await?;
                call.set_header(
                    "x-answer",
                    format!("{} {}", response.http_status, response.body.escape_ascii()),
                );
                call.set_header("x-service", response.header("x-service").unwrap_or(b"none"));
            }
            // A `return` is missing.
            "/forgets" | "/forgets-panic" => {
                let _ = call.deny(403, "no");
                sleep(call.host(), Duration::from_millis(1)).await?;
                call.set_header("x-internal-token", "s3cret");
                if path == "/forgets-panic" {
                    panic!("after a denial");
                }
            }
            "/traced" => {
                let span = call.span();
                assert!(span.is_recorded() && span.set("sdk.attribute", "of the span"));
                assert!(span.event("sdk.event", &[("sdk.number", 7.into())]));
                let context = call.trace_context().unwrap_or_default();
                call.set_header("x-context", context.traceparent);
                let keys = call.grpc_metadata_entries();
                let keys = keys.iter().filter(|(key, _)| *key == "traceparent");
                call.set_header("x-keys", keys.count().to_string());
            }
            "/unavailable" => Err(Error::with_status(Status::Unavailable, "later"))?,
            _ => {}
        }
        let count = self.data.add(&path, 1, None)?;
        call.set_metadata("sdk", json!({ "path": path }))?;
        call.set_header("x-count", count.to_string());
        Ok(())
    }

    fn request_body(&self, call: &mut BodyCall<'_, Self>) -> Result {
        let body = [call.stream.join(",").as_bytes(), b": ", call.body()].concat();
        call.set_body(body);
        Ok(())
    }

    async fn response_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        Yield(false).await;
        call.set_header("x-paths", call.stream.join(","));
        Ok(())
    }

    fn response_trailers(&self, call: &mut TrailersCall<'_, Self>) -> Result {
        call.set_header("x-trailers", call.trailers().len().to_string());
        Ok(())
    }
}
