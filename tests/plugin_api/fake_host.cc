// SPDX-License-Identifier: Apache-2.0

#include <callout/plugin.hpp>
#include <callout/testing.hpp>

#include "tests/plugin_api/hosts.h"

namespace callout::plugin_api_test {
namespace {

class FakeHost final : public Host {
 public:
  FakeHost(const std::string& config, Modes modes)
      : plugin_(testing::kLinked, config), stream_(plugin_) {
    StructWriter attributes;
    attributes.set("k", "v");
    stream_.set_attributes(attributes.message()).set_body_modes(modes.request, modes.response);
    stream_.set_grpc_metadata("x-tenant", "blue")
        .set_grpc_metadata("traceparent", kTraceparent)
        .set_grpc_metadata("tracestate", "a=1");
    stream_.set_property(CALLOUT_PEER, "ipv4:192.0.2.1:4711");
    stream_.set_property(CALLOUT_LISTENER, "plaintext");
  }
  void Headers(callout_phase_t phase, const Pairs& headers, bool end_of_stream) override {
    if (phase == CALLOUT_REQUEST_HEADERS) {
      const testing::Answer answer = stream_.request_headers(headers, end_of_stream);
      // How the real host ends it is for the test to say.
      if (answer.is_immediate()) {
        stream_.end.outcome = CALLOUT_END_IMMEDIATE;
        stream_.end.http_status = answer.http_status;
      }
    }
    if (phase == CALLOUT_RESPONSE_HEADERS) stream_.response_headers(headers, end_of_stream);
  }
  void Body(callout_phase_t phase, const std::string& body, bool end_of_stream) override {
    if (phase == CALLOUT_REQUEST_BODY) stream_.request_body(body, end_of_stream);
    if (phase == CALLOUT_RESPONSE_BODY) stream_.response_body(body, end_of_stream);
  }
  void Trailers(callout_phase_t phase) override {
    if (phase == CALLOUT_REQUEST_TRAILERS) stream_.request_trailers({{"t", "1"}});
    if (phase == CALLOUT_RESPONSE_TRAILERS) stream_.response_trailers({{"t", "1"}});
  }

 private:
  testing::Plugin plugin_;
  testing::Stream stream_;
};

}  // namespace

std::unique_ptr<Host> MakeFakeHost(const std::string& config, Modes modes) {
  return std::make_unique<FakeHost>(config, modes);
}

}  // namespace callout::plugin_api_test
