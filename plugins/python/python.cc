// SPDX-License-Identifier: Apache-2.0

// Runs callout servers in Python: the scripts of Google's service-extensions samples, as they are.
// See README.md.
#include "script.h"
// Python.h comes first.
#include <callout/plugin.hpp>
#include <string>

#include "support/json_config.hpp"

namespace callout::plugins::python {
namespace {

class PythonPlugin {
 public:
  class Stream : public Script::Stream {
   public:
    explicit Stream(PythonPlugin& plugin) : Script::Stream(&plugin.script_) {}
  };

  explicit PythonPlugin(Setup& setup) : PythonPlugin(setup, JsonConfig(setup.config())) {}

  void on_process(ProcessCall& call, Stream& stream) {
    script_.Run(call, Script::kProcess, &stream);
  }
  void on_request_headers(HeadersCall& call, Stream& stream) { Run(call, stream); }
  void on_response_headers(HeadersCall& call, Stream& stream) { Run(call, stream); }
  void on_request_body(BodyCall& call, Stream& stream) { Run(call, stream); }
  void on_response_body(BodyCall& call, Stream& stream) { Run(call, stream); }
  void on_request_trailers(TrailersCall& call, Stream& stream) { Run(call, stream); }
  void on_response_trailers(TrailersCall& call, Stream& stream) { Run(call, stream); }

 private:
  PythonPlugin(Setup& setup, JsonConfig config)
      : blocking_(config.boolean("blocking", true)), script_(setup, Read(&config)) {
    if (!script_.Has(Script::kProcess)) setup.skip(Script::kProcess);
    bool has_hook = script_.Has(Script::kProcess);
    for (callout_phase_t phase = CALLOUT_REQUEST_HEADERS; phase <= CALLOUT_RESPONSE_TRAILERS;
         ++phase) {
      // Phase 0 is not among them: the end of a stream waits for nothing.
      if (blocking_) setup.set_blocking(phase);
      has_hook = has_hook || script_.Has(phase);
      if (!script_.Has(Script::kProcess) && !script_.Has(phase)) setup.skip(phase);
    }
    if (!has_hook) setup.host().warning("the script's class overrides no hook, so it does nothing");
  }

  static ScriptConfig Read(JsonConfig* config) {
    ScriptConfig read;
    read.script = config->text("script");
    read.class_name = config->text("class", "");
    read.venv = config->text("venv", "");
    read.path = config->texts("path", std::vector<std::string>());
    config->done();
    return read;
  }

  void Run(const Call& call, Stream& stream) { script_.Run(call, call.phase(), &stream); }

  const bool blocking_;
  Script script_;
};

}  // namespace
}  // namespace callout::plugins::python

CALLOUT_PLUGIN_CLASS(callout::plugins::python::PythonPlugin,
                     ("python", "1.0.0", "Runs callout servers in Python"), process,
                     request_headers, response_headers, request_body, response_body,
                     request_trailers, response_trailers);

CALLOUT_CONFIG_SCHEMA(R"({"type": "object", "required": ["script"], "additionalProperties": )"
                      R"(false, "properties": {"script": {"type": "string", "description": )"
                      R"("the file with a subclass of CalloutServer"}, "class": {"type": )"
                      R"("string", "description": "its name, if there are several"}, "venv": )"
                      R"({"type": "string", "description": "a virtual environment with )"
                      R"(packages"}, "path": {"type": "array", "items": {"type": "string"}, )"
                      R"("description": "more folders of modules"}, "blocking": {"type": )"
                      R"("boolean", "default": true, "description": "false: hooks run on the )"
                      R"(threads that serve"}}})");
