// The source of golden_v1_class*.so: a plugin of ABI version 1, revision 1, by the C++ layer
// of that day (in headers/ beside it).
#include <callout/plugin.hpp>

class Golden {
 public:
  explicit Golden(callout::Setup& setup)
      : headers_(setup.counter("golden_headers_total", "Header messages")) {
    if (setup.config() != "golden") setup.fail("the configuration is not \"golden\"");
  }
  struct Stream {
    uint64_t bytes = 0;
  };

  void on_stream_open(callout::OpenCall& call, Stream&) {
    if (call.peer().empty()) call.fail("no peer");
  }
  void on_stream_end(const callout::StreamEnd& end, Stream& stream) {
    end.host().info("end ", end.outcome(), " after ", stream.bytes, " bytes");
  }
  void on_request_headers(callout::HeadersCall& call, Stream&) {
    headers_.add();
    call.set_header("x-golden", call.headers().get(":path", "none"));
    call.clear_route_cache();
  }
  void on_response_headers(callout::HeadersCall& call, Stream&) {
    auto deferred = call.defer().share();
    deferred->finish_with([](callout::HeadersCall& later) { later.remove_header("server"); });
  }
  void on_request_body(callout::BodyCall& call, Stream& stream) {
    stream.bytes += call.body().size();
    if (call.body() == "bad") return call.deny(403, "golden");
    call.set_body(std::string(call.body()) + "!");
  }
  void on_response_trailers(callout::TrailersCall& call, Stream&) {
    call.set_header("x-golden", "trailer");
  }

 private:
  callout::Counter headers_;
};

CALLOUT_CONFIG_SCHEMA(R"({"type": "string"})");
CALLOUT_PLUGIN_CLASS(Golden, ("golden-class", "1", "The C++ layer of revision 1"), stream_open,
                     stream_end, request_headers, response_headers, request_body,
                     response_trailers);
