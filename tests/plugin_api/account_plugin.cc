// SPDX-License-Identifier: Apache-2.0

// What newer parts of the class layer do: info in CALLOUT_PLUGIN_CLASS, the end of a stream,
// the call of a cancellation, shared deferred calls, files and metrics in full.
#include <callout/plugin.hpp>
#include <functional>
#include <string>

namespace {

class Account {
 public:
  explicit Account(callout::Setup& setup) {
    setup.follow_file("/etc/account.json");
    setup.want_request_headers();
    setup.set_blocking(CALLOUT_REQUEST_BODY);
    callout_metric_spec_t spec = callout::metric_spec("account_open", "Open streams");
    spec.unit = callout_text("streams");
    open_ = setup.up_down(spec);
  }
  struct Stream {
    explicit Stream(Account& account) : open(account.open_) { open.add(); }
    ~Stream() { open.subtract(); }
    callout::UpDown open;
  };

  void on_stream_open(callout::OpenCall& call, Stream&) {
    if (call.grpc_metadata("refuse").has_value()) call.deny_callout("refused");
  }
  void on_stream_end(const callout::StreamEnd& end, Stream&) {
    end.host().info("end ", end.outcome(), " ", end.http_status(), " ", end.request_body_bytes());
  }
  void on_stream_cancel(callout::CancelCall& call, Stream&) { call.host().info("cancelled"); }
  void on_request_headers(callout::HeadersCall& call, Stream&) {
    if (call.headers().contains("defer")) {
      const std::function<void()> later = [deferred = call.defer().share()] {
        deferred->finish_with([](callout::HeadersCall& held) { held.set_header("x-later", "1"); });
      };
      return later();
    }
    if (!call.headers().contains("authorization")) call.deny(401, "no");
    call.set_header("x-internal-token", "s3cret");
    call.reply(200).set_header("x-second", "1").body("second");
  }
  void on_response_headers(callout::HeadersCall& call, Stream&) {
    call.set_header("x-path", call.request_headers().get(":path", ""));
  }

 private:
  callout::UpDown open_;
};

}  // namespace

CALLOUT_CONFIG_SCHEMA(R"({"type": "object"})");
CALLOUT_PLUGIN_CLASS(Account, ("account", "1.0", "Keeps accounts"), stream_open, stream_end,
                     stream_cancel, request_headers, response_headers);
