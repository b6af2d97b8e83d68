#include <callout/plugin.hpp>
#include <string>

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("@name@", "0.1.0", "Adds x-seen-by to every request");

namespace {

class Plugin {
 public:
  // Throw, or call setup.fail, if the configuration is invalid.
  explicit Plugin(callout::Setup& setup)
      : stamp_(setup.config().empty() ? "@name@" : setup.config()),
        requests_(setup.counter("@name@_requests_total", "Requests stamped")) {}

  // Called on several threads at once: synchronize access to state of the class.
  void on_request_headers(callout::HeadersCall& call) {
    call.set_header("x-seen-by", stamp_);
    requests_.add();
  }

 private:
  const std::string stamp_;
  const callout::Counter requests_;
};

}  // namespace

// Lists every hook that the host should call.
CALLOUT_PLUGIN_CLASS(Plugin, request_headers);
