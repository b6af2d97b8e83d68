// SPDX-License-Identifier: Apache-2.0

//! Request headers in a hook that returns, response headers in an async one that does not wait.
#![forbid(unsafe_code)]

use callout::{HeadersCall, Plugin, Result, Setup};

struct Guard;

impl Guard {
    fn guard(call: &mut HeadersCall<'_, Self>) -> Result {
        if call.headers().is("x-role", "guest") {
            return call.deny(403, "");
        }
        call.set_header("x-seen-by", "guard");
        call.remove_header("x-internal");
        Ok(())
    }
}

#[callout::plugin]
impl Plugin for Guard {
    fn create(_: (), _: &mut Setup) -> Result<Self> {
        Ok(Guard)
    }
    fn request_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        Guard::guard(call)
    }
    async fn response_headers(&self, call: &mut HeadersCall<'_, Self>) -> Result {
        Guard::guard(call)
    }
}
