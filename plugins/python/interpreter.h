// SPDX-License-Identifier: Apache-2.0

// The Python of this process. There is one, whatever number of versions of this plugin and of
// instances: CPython's extension modules (protobuf's, numpy) cannot be loaded twice. It lives in
// libpython, which is never unloaded, and so outlasts the version of this plugin that began it. It
// is never ended: threads of scripts may run until the process is gone.
//
//   StartInterpreter();          // throws std::runtime_error with what is missing
//   { const Gil gil; … Python … }
//
// Python's main thread is a thread of its own that sleeps, so that no thread of the host is it: a
// script cannot set handlers of signals, which belong to the host.
#ifndef CALLOUT_PLUGINS_PYTHON_INTERPRETER_H_
#define CALLOUT_PLUGINS_PYTHON_INTERPRETER_H_

#include <string>

#include "py_ref.h"

namespace callout::plugins::python {

// Begins Python if no one has yet. Any thread; many at once take turns.
void StartInterpreter();

// The folder with callout_python, extproc and envoy: python/packages beside the plugin's file, or
// where it was built or installed.
// Throws std::runtime_error if it is not there.
std::string FindPackages();

// While it lives, its thread has the interpreter; others wait. A thread keeps its Python state from
// one to the next (threading.local of a script works), until the process ends. Not to be nested.
class Gil {
 public:
  Gil();
  ~Gil();
  Gil(const Gil&) = delete;
  Gil& operator=(const Gil&) = delete;
};

// The same for a thread that may not come again, such as the one that makes an instance: its state
// is dropped, unless the thread had one before.
class VisitorGil {
 public:
  VisitorGil() : state_(PyGILState_Ensure()) {}
  ~VisitorGil() { PyGILState_Release(state_); }
  VisitorGil(const VisitorGil&) = delete;
  VisitorGil& operator=(const VisitorGil&) = delete;

 private:
  const PyGILState_STATE state_;
};

}  // namespace callout::plugins::python

#endif  // CALLOUT_PLUGINS_PYTHON_INTERPRETER_H_
