// SPDX-License-Identifier: Apache-2.0

//! The border: what [`macro@crate::plugin`] exports ends here. Not for plugins.
//!
//! Nothing unwinds across it: a panic becomes a fault with its text.

use std::any::Any;
use std::ffi::{c_char, c_void, CStr};
use std::future::Future;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use crate::call::{kind, Call, RawCall, StreamEnd};
use crate::error::{Error, Result};
use crate::host::{bytes, view, Host};
use crate::plugin::{read_config, AsyncPlugin, Plugin, Setup};
use crate::raw;
use crate::task::{lock, Executor, Task};

type MessageHook = unsafe fn(*mut raw::Call) -> raw::Status;
type StreamHook = unsafe fn(*mut raw::Call);

/// What a plugin exports.
#[allow(missing_docs)]
pub struct Hooks {
    pub stream_open: Option<MessageHook>,
    pub stream_close: Option<StreamHook>,
    pub stream_cancel: Option<StreamHook>,
    pub request_headers: Option<MessageHook>,
    pub response_headers: Option<MessageHook>,
    pub request_body: Option<MessageHook>,
    pub response_body: Option<MessageHook>,
    pub request_trailers: Option<MessageHook>,
    pub response_trailers: Option<MessageHook>,
    pub check: Option<MessageHook>,
    pub rate_limit: Option<MessageHook>,
    pub connection: Option<MessageHook>,
    pub read_data: Option<MessageHook>,
    pub write_data: Option<MessageHook>,
}

impl Hooks {
    /// A plugin without hooks.
    pub const NONE: Hooks = Hooks {
        stream_open: None,
        stream_close: None,
        stream_cancel: None,
        request_headers: None,
        response_headers: None,
        request_body: None,
        response_body: None,
        request_trailers: None,
        response_trailers: None,
        check: None,
        rate_limit: None,
        connection: None,
        read_data: None,
        write_data: None,
    };

    pub(crate) fn of(&self, phase: raw::Phase) -> Option<MessageHook> {
        match phase {
            raw::REQUEST_HEADERS => self.request_headers,
            raw::RESPONSE_HEADERS => self.response_headers,
            raw::REQUEST_BODY => self.request_body,
            raw::RESPONSE_BODY => self.response_body,
            raw::REQUEST_TRAILERS => self.request_trailers,
            raw::RESPONSE_TRAILERS => self.response_trailers,
            raw::CHECK => self.check,
            raw::RATE_LIMIT => self.rate_limit,
            raw::CONNECTION => self.connection,
            raw::READ_DATA => self.read_data,
            raw::WRITE_DATA => self.write_data,
            _ => None,
        }
    }
}

/// What [`macro@crate::plugin`] says of a plugin.
pub trait Exported: Plugin {
    /// It has async hooks.
    const HAS_ASYNC: bool;
    /// It has `stream_end`.
    const HAS_END: bool;
    /// What it exports.
    const HOOKS: Hooks;
}

/// `callout_plugin_info`
#[repr(transparent)]
pub struct Info(raw::PluginInfo);

// SAFETY: it points to constants only.
unsafe impl Sync for Info {}

impl Info {
    /// The texts end with NUL.
    pub const fn new(name: &'static str, version: &'static str, description: &'static str) -> Info {
        const fn text(text: &'static str) -> *const c_char {
            assert!(
                CStr::from_bytes_with_nul(text.as_bytes()).is_ok(),
                "a text of Cargo.toml has a NUL"
            );
            text.as_ptr().cast()
        }
        Info(raw::PluginInfo {
            struct_size: size_of::<raw::PluginInfo>() as u32,
            name: text(name),
            version: text(version),
            description: text(description),
        })
    }
}

struct Instance<P> {
    plugin: P,
    host: Host,
}

/// Behind `call->stream`.
struct StreamState<S> {
    own: S,
    /// The async call that is under way.
    task: Mutex<Option<Arc<Task>>>,
}

/// A plugin without state for its streams has nothing behind `call->stream`.
const fn has_state<P: Exported>() -> bool {
    size_of::<P::Stream>() > 0 || P::HAS_ASYNC || std::mem::needs_drop::<P::Stream>() || P::HAS_END
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("not a text"))
}

/// A panic as the error of a hook, so that what the hook has refused before stays refused.
fn caught<T>(function: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(function))
        .unwrap_or_else(|panic| Err(Error::new(panic_text(panic.as_ref()))))
}

/// The same for an async hook.
async fn caught_async(hook: impl Future<Output = Result>) -> Result {
    let mut hook = std::pin::pin!(hook);
    std::future::poll_fn(|context| match caught(|| Ok(hook.as_mut().poll(context))) {
        Ok(polled) => polled,
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// Runs `function`; a panic ends the call as a fault.
unsafe fn at_border(call: *mut raw::Call, function: impl FnOnce() -> raw::Status) -> raw::Status {
    catch_unwind(AssertUnwindSafe(function)).unwrap_or_else(|panic| {
        let text = panic_text(panic.as_ref());
        // SAFETY: the call is open, since its hook has not returned.
        unsafe { ((*(*call).host).set_error)(call, bytes(text.as_bytes())) };
        raw::INTERNAL
    })
}

// --- The instance ---

/// # Safety
/// The host calls it as plugin.h says; so for all of these.
pub unsafe fn create<P: Exported>(args: *mut raw::CreateArgs) -> raw::Status {
    // SAFETY: the table lives until destroy returns, and destroy ends it.
    let host = unsafe {
        let name = CStr::from_ptr((*args).instance).to_string_lossy();
        Host::new((*args).host, &name)
    };
    let made = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: both live during create.
        let (text, name) = unsafe { (view((*args).config), CStr::from_ptr((*args).instance)) };
        let mut setup = Setup {
            host: host.clone(),
            name: name.to_string_lossy().into_owned(),
            unwanted_phases: 0,
            blocking_phases: 0,
            whole_body_bytes: 0,
            wants: if P::HAS_END {
                raw::WANT_REAL_END.into()
            } else {
                0
            },
        };
        let plugin = P::create(read_config(text)?, &mut setup)?;
        Ok((plugin, setup))
    }));
    let (status, text) = match made {
        Ok(Ok((plugin, setup))) => {
            let instance = Box::new(Instance {
                plugin,
                host: host.clone(),
            });
            // SAFETY: args is the host's, for this call.
            unsafe {
                (*args).phases &= !setup.unwanted_phases;
                (*args).blocking_phases = setup.blocking_phases;
                (*args).whole_body_bytes_max = setup.whole_body_bytes;
                (*args).wants = setup.wants;
                (*args).plugin = Box::into_raw(instance).cast();
            }
            return raw::OK;
        }
        Ok(Err(error)) => {
            let error: crate::Error = error;
            (error.status().to_raw(), error.text().to_string())
        }
        Err(panic) => (raw::INTERNAL, panic_text(panic.as_ref())),
    };
    host.error(text);
    host.end();
    status
}

/// # Safety
/// See [`create`].
pub unsafe fn destroy<P: Exported>(plugin: *mut c_void) {
    // SAFETY: create has made it, and nobody else has it any more.
    let instance = unsafe { Box::from_raw(plugin.cast::<Instance<P>>()) };
    let host = instance.host.clone();
    host.executor().stop();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(instance))) {
        host.error(format!(
            "dropping the plugin: {}",
            panic_text(panic.as_ref())
        ));
    }
    host.end();
}

/// # Safety
/// The instance lives for 'a: until the host destroys it, which it does not while a call is open.
unsafe fn instance_of<'a, P>(call: *mut raw::Call) -> &'a Instance<P> {
    unsafe { &*(*call).plugin.cast() }
}

/// For `callout::testing`.
///
/// # Safety
/// `create` of this type has made it, and nobody destroys it before the result is dropped.
pub(crate) unsafe fn executor_of<P: Exported>(plugin: *mut c_void) -> Arc<Executor> {
    unsafe { &*plugin.cast::<Instance<P>>() }
        .host
        .executor()
        .clone()
}

// --- Streams ---

/// # Safety
/// Calls of a stream never overlap, so nobody else has what is behind `call->stream`.
unsafe fn stream_of<P: Exported>(call: *mut raw::Call) -> *mut StreamState<P::Stream> {
    unsafe {
        if (*call).stream.is_null() {
            let state = StreamState::<P::Stream> {
                own: Default::default(),
                task: Mutex::new(None),
            };
            (*call).stream = Box::into_raw(Box::new(state)).cast();
        }
        (*call).stream.cast()
    }
}

unsafe fn own_state<'a, P: Exported>(call: *mut raw::Call) -> &'a mut P::Stream {
    if has_state::<P>() {
        // SAFETY: as above. The task is beside it, and is reached without this reference.
        return unsafe { &mut (*stream_of::<P>(call)).own };
    }
    // Nothing is behind it: any aligned address will do for a type without size.
    unsafe { &mut *std::ptr::NonNull::<P::Stream>::dangling().as_ptr() }
}

/// # Safety
/// See [`create`].
pub unsafe fn stream_open<P: Exported>(call: *mut raw::Call) -> raw::Status {
    let status = unsafe {
        at_border(call, || {
            let instance = instance_of::<P>(call);
            let mut open =
                Call::<kind::Open, P>::new(RawCall(call), &instance.host, own_state::<P>(call));
            let result = instance.plugin.stream_open(&mut open);
            open.settle(result)
        })
    };
    if status < 0 {
        // The host calls no close.
        unsafe { drop_stream::<P>(call) };
    }
    status
}

/// # Safety
/// See [`create`].
pub unsafe fn stream_close<P: Exported>(call: *mut raw::Call) {
    let instance = unsafe { instance_of::<P>(call) };
    if P::HAS_END {
        let ended = catch_unwind(AssertUnwindSafe(|| unsafe {
            let Some(end) = (*call).end.as_ref() else {
                return;
            };
            let end = StreamEnd {
                end: *end,
                host: &instance.host,
            };
            instance.plugin.stream_end(&end, own_state::<P>(call));
        }));
        if let Err(panic) = ended {
            instance
                .host
                .error(format!("stream_end: {}", panic_text(panic.as_ref())));
        }
    }
    unsafe { drop_stream::<P>(call) };
}

unsafe fn drop_stream<P: Exported>(call: *mut raw::Call) {
    let state = unsafe { std::mem::replace(&mut (*call).stream, std::ptr::null_mut()) };
    if state.is_null() {
        return;
    }
    // SAFETY: stream_of has made it.
    let state = unsafe { Box::from_raw(state.cast::<StreamState<P::Stream>>()) };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(state))) {
        let host = unsafe { &instance_of::<P>(call).host };
        host.error(format!("dropping a stream: {}", panic_text(panic.as_ref())));
    }
}

/// Beside a call that runs or is deferred.
///
/// # Safety
/// See [`create`].
pub unsafe fn stream_cancel<P: Exported>(call: *mut raw::Call) {
    let state = unsafe { (*call).stream.cast::<StreamState<P::Stream>>() };
    if state.is_null() {
        return;
    }
    // SAFETY: the state lives while a call is open; only `task` is touched, which is guarded.
    let task = lock(unsafe { &(*state).task }).clone();
    if let Some(task) = task {
        task.cancel();
    }
}

// --- Messages ---

unsafe fn run<'a, K, P: Exported>(
    call: *mut raw::Call,
    hook: impl FnOnce(&'a P, &mut Call<'a, K, P>) -> Result,
) -> raw::Status {
    unsafe {
        at_border(call, || {
            let instance = instance_of::<P>(call);
            let mut typed = Call::new(RawCall(call), &instance.host, own_state::<P>(call));
            let result = caught(|| hook(&instance.plugin, &mut typed));
            typed.settle(result)
        })
    }
}

/// Polls once here. What is not done then goes on elsewhere, and the call is deferred.
unsafe fn run_async<P, F>(
    call: *mut raw::Call,
    start: impl FnOnce(&'static P, RawCall, &'static Host) -> F,
) -> raw::Status
where
    P: Exported,
    F: Future<Output = raw::Status> + Send + 'static,
{
    unsafe {
        at_border(call, || {
            // SAFETY: the instance outlives its calls, and so the futures: 'static is as good.
            let instance = instance_of::<'static, P>(call);
            let state = stream_of::<P>(call);
            let future = Box::pin(start(&instance.plugin, RawCall(call), &instance.host));
            let task = Task::new(instance.host.executor().clone(), RawCall(call), future);
            // For a cancel, which may come from now on.
            *lock(&(*state).task) = Some(task.clone());
            // One that came before, on the blocking pool.
            if ((*(*call).host).is_cancelled)(call) != 0 {
                task.clone().cancel();
            }
            task.first_poll()
        })
    }
}

macro_rules! message_hooks {
    ($($hook:ident $async_hook:ident $kind:ident),* $(,)?) => {$(
        /// # Safety
        /// See [`create`].
        pub unsafe fn $hook<P: Exported>(call: *mut raw::Call) -> raw::Status {
            unsafe { run::<kind::$kind, P>(call, |plugin, call| plugin.$hook(call)) }
        }
        /// # Safety
        /// See [`create`].
        pub unsafe fn $async_hook<P: Exported + AsyncPlugin>(call: *mut raw::Call) -> raw::Status {
            unsafe {
                run_async::<P, _>(call, |plugin, raw_call, host| async move {
                    let mut call = Call::<kind::$kind, P>::new(raw_call, host, own_state::<P>(raw_call.0));
                    let result = caught_async(AsyncPlugin::$hook(plugin, &mut call)).await;
                    call.settle(result)
                })
            }
        }
    )*};
}

message_hooks! {
    request_headers async_request_headers Headers,
    response_headers async_response_headers Headers,
    request_body async_request_body Body,
    response_body async_response_body Body,
    request_trailers async_request_trailers Trailers,
    response_trailers async_response_trailers Trailers,
    check async_check Check,
    rate_limit async_rate_limit RateLimit,
    connection async_connection Connection,
    read_data async_read_data Data,
    write_data async_write_data Data,
}
