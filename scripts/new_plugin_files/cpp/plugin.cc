#include <callout/plugin.hpp>
#include <string>

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("@name@", "0.1.0", "Stamps every request with x-seen-by");

namespace {

class Plugin {
 public:
  // Throw, or call setup.fail, if the configuration does not do.
  explicit Plugin(callout::Setup& setup)
      : stamp_(setup.config().empty() ? "@name@" : setup.config()),
        requests_(setup.counter("@name@_requests_total", "Requests stamped")) {}

  // Requests come on several threads at once: guard what you change here.
  void on_request_headers(callout::HeadersCall& call) {
    call.set_header("x-seen-by", stamp_);
    requests_.add();
  }

 private:
  const std::string stamp_;
  const callout::Counter requests_;
};

}  // namespace

// Every hook that is to be called is listed here.
CALLOUT_PLUGIN_CLASS(Plugin, request_headers);
