// SPDX-License-Identifier: Apache-2.0

//! Async hooks, timers and shared data, on the fake host.
#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use callout::shared_data::{SharedData, ABSENT};
use callout::testing::Instance;
use callout::timers::{sleep, Timer, Timers};
use callout::{BodyCall, Error, HeadersCall, Level, Plugin, Result, Setup, Status};

struct Waiting {
    data: SharedData,
    ticker: Timer,
}

/// Ready when another thread has run.
struct FromThread(
    Option<std::thread::JoinHandle<()>>,
    Arc<Mutex<Option<String>>>,
);

impl Future for FromThread {
    type Output = String;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<String> {
        if let Some(text) = self.1.lock().unwrap().take() {
            return Poll::Ready(text);
        }
        if self.0.is_none() {
            let (waker, slot) = (context.waker().clone(), self.1.clone());
            self.0 = Some(std::thread::spawn(move || {
                *slot.lock().unwrap() = Some("from a thread".to_string());
                waker.wake();
            }));
        }
        Poll::Pending
    }
}

#[callout::plugin]
impl Plugin for Waiting {
    type Stream = u32;

    fn create(_: (), setup: &mut Setup) -> Result<Self> {
        let ticks = AtomicU32::new(0);
        let host = setup.host().clone();
        let ticker = Timers::new(setup.host())?.every(Duration::from_secs(60), move || {
            if ticks.fetch_add(1, Ordering::SeqCst) == 2 {
                host.info("third");
                panic!("tick");
            }
        })?;
        let too_short = Timers::new(setup.host())?.every(Duration::ZERO, || {});
        assert_eq!(too_short.err().unwrap().status(), Status::InvalidArgument);
        Ok(Waiting {
            data: SharedData::new(setup.host())?,
            ticker,
        })
    }

    async fn request_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        *call.stream += 1;
        let path = call.headers().get(":path").unwrap_or(b"");
        match path {
            b"/at-once" => {}
            b"/sleep" => sleep(call.host(), Duration::from_secs(3600)).await?,
            b"/panic" => {
                sleep(call.host(), Duration::from_millis(1)).await?;
                panic!("after waiting");
            }
            b"/error" => {
                sleep(call.host(), Duration::from_millis(1)).await?;
                Err(Error::with_status(Status::Unavailable, "gone"))?
            }
            _ => call.set_header("x-text", FromThread(None, Arc::default()).await),
        }
        call.set_header("x-path", path);
        call.set_header("x-calls", call.stream.to_string());
        Ok(())
    }

    fn request_body(&self, call: &mut BodyCall<'_, Self>) -> Result {
        let key = String::from_utf8_lossy(call.body()).into_owned();
        let minute = Some(Duration::from_secs(60));
        let count = self.data.add(&key, 1, minute)?;
        call.set_body(count.to_string());
        if count == 3 {
            self.ticker.cancel();
        }
        Ok(())
    }
}

#[test]
fn a_hook_that_does_not_wait_is_not_deferred() {
    let waiting = Instance::<Waiting>::new("").unwrap();
    let answer = waiting.stream().request_headers(&[(":path", "/at-once")]);
    assert!(!answer.was_deferred());
    assert_eq!(answer.header("x-path").as_deref(), Some("/at-once"));
}

#[test]
fn a_hook_that_waits_is_deferred_and_keeps_its_views() {
    let waiting = Instance::<Waiting>::new("").unwrap();
    let mut stream = waiting.stream();
    for (calls, path) in ["/thread", "/sleep", "/thread"].into_iter().enumerate() {
        let answer = stream.request_headers(&[(":path", path)]);
        assert!(answer.was_deferred() && answer.error().is_none(), "{path}");
        assert_eq!(answer.header("x-path").as_deref(), Some(path));
        assert_eq!(answer.header("x-calls"), Some((calls + 1).to_string()));
        assert_eq!(answer.header("x-text").is_some(), path == "/thread");
    }
}

#[test]
fn errors_and_panics_after_waiting_are_faults() {
    let waiting = Instance::<Waiting>::new("").unwrap();
    let error = waiting
        .stream()
        .request_headers(&[(":path", "/panic")])
        .error()
        .unwrap();
    assert_eq!(
        (error.status(), error.text()),
        (Status::Internal, "panic: after waiting")
    );
    let error = waiting
        .stream()
        .request_headers(&[(":path", "/error")])
        .error()
        .unwrap();
    assert_eq!(
        (error.status(), error.text()),
        (Status::Unavailable, "gone")
    );
}

#[test]
fn many_streams_wait_at_once() {
    let waiting = Instance::<Waiting>::new("").unwrap();
    let mut streams: Vec<_> = (0..100).map(|_| waiting.stream()).collect();
    for stream in &mut streams {
        assert!(stream
            .request_headers(&[(":path", "/thread")])
            .error()
            .is_none());
    }
}

#[test]
fn timers_run_when_they_are_due_and_survive_a_panic() {
    let waiting = Instance::<Waiting>::new("").unwrap();
    waiting.advance(Duration::from_secs(1));
    waiting.advance(Duration::from_secs(240));
    let logs = waiting.logs();
    assert_eq!(logs[0], (Level::Info, "third".to_string()));
    assert_eq!(logs[1], (Level::Error, "timer: panic: tick".to_string()));
    let mut stream = waiting.stream();
    (0..3).for_each(|_| drop(stream.request_body(b"key", true)));
    waiting.advance(Duration::from_secs(600));
    assert_eq!(waiting.logs().len(), 2, "cancelled");
}

#[test]
fn shared_data_expires_and_compares() {
    let waiting = Instance::<Waiting>::new("").unwrap();
    let mut stream = waiting.stream();
    assert_eq!(
        stream.request_body(b"key", true).body(),
        Some(b"1".to_vec())
    );
    assert_eq!(
        stream.request_body(b"key", true).body(),
        Some(b"2".to_vec())
    );
    assert_eq!(
        waiting.shared_value("", "key"),
        Some(2i64.to_ne_bytes().to_vec())
    );
    waiting.advance(Duration::from_secs(61));
    assert_eq!(
        stream.request_body(b"key", true).body(),
        Some(b"1".to_vec())
    );
    assert_eq!(
        stream.request_body(b"", true).error().unwrap().status(),
        Status::InvalidArgument
    );
}

struct Store;

#[callout::plugin(no_export)]
impl Plugin for Store {
    fn create(_: (), setup: &mut Setup) -> Result<Self> {
        let data = SharedData::shared(setup.host(), "store.space")?;
        assert_eq!(data.get("key")?, None);
        data.put("key", &[7; 1000], None)?;
        let entry = data.find("key")?.expect("it was put");
        assert_eq!(entry.value, [7; 1000]);
        assert_eq!(data.put_if("key", b"new", None, ABSENT)?, None);
        assert!(data.put_if("key", b"new", None, entry.version)?.is_some());
        assert!(!data.remove_if("key", entry.version)?);
        assert!(data.remove("key")? && !data.remove("key")?);
        data.cache("key", b"cached", Some(Duration::from_secs(1)))?;
        assert!(data.add("key", 1, None).is_err(), "it is no count");
        let long = "hunter2".repeat(147);
        let refusals = [
            data.put("hunter2", &vec![0; (1 << 20) + 1], None).err(),
            data.put(&long, b"", None).err(),
            data.get(&long).err(),
            data.add(&long, 1, None).err(),
        ];
        for refusal in refusals {
            let text = refusal.expect("it has no room").to_string();
            assert!(!text.contains("hunter2"), "{text}");
        }
        Ok(Store)
    }
    fn request_headers(&self, _: &mut HeadersCall<'_, Self>) -> Result {
        Ok(())
    }
}

#[test]
fn shared_data_has_all_that_the_extension_has() {
    let store = Instance::<Store>::new("").unwrap();
    assert_eq!(
        store.shared_value("store.space", "key"),
        Some(b"cached".to_vec())
    );
    assert!(store.stream().request_headers(&[]).is_empty());
}
