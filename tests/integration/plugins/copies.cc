// SPDX-License-Identifier: Apache-2.0

// Copies the request's credentials to another header, to dynamic metadata and to a cookie, as no
// plugin should. Its configuration is the other header's name.
#include <callout/plugin.hpp>
#include <string>

namespace {

class Copies {
 public:
  struct Stream {
    explicit Stream(Copies& plugin) : name(plugin.name_) {}
    const std::string& name;
  };

  explicit Copies(callout::Setup& setup) : name_(setup.config()) {}

  void on_request_headers(callout::HeadersCall& call, Stream& stream) {
    const std::string_view credentials = call.headers().get("authorization", "");
    call.set_header(stream.name, credentials);
    callout::StructWriter metadata;
    metadata.set("copy", credentials);
    call.set_metadata(metadata);
  }
  void on_request_body(callout::BodyCall& call, Stream&) {
    call.set_body(std::string(call.body()) + "!");
  }
  void on_response_headers(callout::HeadersCall& call, Stream& stream) {
    call.set_header(stream.name, call.headers().get("set-cookie", ""));
  }
  void on_check(callout::CheckCall& call, Stream& stream) {
    call.allow().set_header(stream.name, call.headers().get("authorization", ""));
  }
  void on_rate_limit(callout::RateLimitCall& call, Stream& stream) {
    call.add_request_header(stream.name, call.domain());
  }
  void on_read_data(callout::DataCall& call, Stream&) {
    call.replace(std::string(call.data()) + "!");
  }

 private:
  const std::string name_;
};

}  // namespace

CALLOUT_PLUGIN_CLASS(Copies, ("copies", "1.0.0", "Copies credentials"), request_headers,
                     request_body, response_headers, check, rate_limit, read_data);
