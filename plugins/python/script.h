// SPDX-License-Identifier: Apache-2.0

// A script that is loaded: an object of its subclass of CalloutServer, and how a call of the host
// becomes a call of one of its methods.
//
//   Script script(setup, {.script = "server.py"});  // throws std::runtime_error with the reason
//   if (script.Has(CALLOUT_REQUEST_HEADERS)) …
//   script.Run(call, phase, &stream);
//
// A hook that runs on after its deadline is interrupted: HookDeadline is raised in it, so that an
// endless loop holds a thread of the host for a moment and not for good. What never comes back to
// Python (a C function that waits) cannot be interrupted.
//
// Thread: made and destroyed as an instance is; Run as hooks are. Each takes the interpreter
// itself.
//
// Tested by tests/plugins/python_test.cc.
#ifndef CALLOUT_PLUGINS_PYTHON_SCRIPT_H_
#define CALLOUT_PLUGINS_PYTHON_SCRIPT_H_

#include "py_ref.h"
// Python.h comes first.
#include <atomic>
#include <callout/plugin.hpp>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace callout::plugins::python {

struct ScriptConfig {
  std::string script;             // path of the file
  std::string class_name;         // empty: the only one
  std::string venv;               // empty: none
  std::vector<std::string> path;  // more folders of the script's own modules
};

class Script {
 public:
  // CalloutServer.process, in the place of a phase.
  static constexpr callout_phase_t kProcess = 0;

  // Of one stream: the object that its hooks get as `context`.
  class Stream {
   public:
    explicit Stream(Script* script) : script_(script) {}
    ~Stream();
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

   private:
    friend class Script;
    Script* const script_;
    PyObject* context_ = nullptr;  // owned; null until the first hook
  };

  Script(callout::Setup& setup, const ScriptConfig& config);
  // Calls the object's shutdown(). No hook runs and no stream is open.
  ~Script();
  Script(const Script&) = delete;
  Script& operator=(const Script&) = delete;

  // Whether the class overrides the method of `phase`, or process().
  bool Has(callout_phase_t phase) const { return (overridden_ & CALLOUT_PHASE_BIT(phase)) != 0; }

  // Calls the method of `phase` (kProcess: process()) and responds as it does.
  void Run(const callout::Call& call, callout_phase_t phase, Stream* stream);

 private:
  struct Parts;         // what Python owns
  struct Running;       // a hook that runs now
  class Interruptible;  // is a Running while it lives

  PyObject* ContextOf(Stream* stream);
  void CallHook(const callout::Call& call, callout_phase_t phase, PyObject* context) const;
  void Respond(const callout::Call& call, callout_phase_t phase, PyObject* message,
               PyObject* result) const;

  void EndContext(PyObject* context);
  void DropEndedContexts();

  void Watch();
  void InterruptOverdue();

  const callout_host_t* const host_;
  uint64_t overridden_ = 0;
  std::unique_ptr<Parts> parts_;  // guarded by the interpreter, as running_ is
  std::vector<Running*> running_;
  std::atomic<int> running_count_{0};

  // Contexts of streams that have ended. The thread that ends a stream does not wait for the
  // interpreter; the next that has it lets them go.
  std::mutex ended_mutex_;
  std::vector<PyObject*> ended_;  // guarded by ended_mutex_
  std::atomic<bool> has_ended_{false};

  std::mutex watch_mutex_;
  std::condition_variable watch_changed_;
  bool stopping_ = false;  // guarded by watch_mutex_
  std::thread watch_;
};

}  // namespace callout::plugins::python

#endif  // CALLOUT_PLUGINS_PYTHON_SCRIPT_H_
