// SPDX-License-Identifier: Apache-2.0

// The two Python types through which a script reaches the host.
//
//   Host      log, enabled and follow, for callout_python
//   Context   the native part of a hook's `context`: the call that is under way
//
// Whoever uses them holds the interpreter. Both may outlive what they point to: a script can keep
// them. Then they do nothing, or raise RuntimeError.
#ifndef CALLOUT_PLUGINS_PYTHON_NATIVE_TYPES_H_
#define CALLOUT_PLUGINS_PYTHON_NATIVE_TYPES_H_

#include <callout/plugin.h>

#include "py_ref.h"

namespace callout::plugins::python {

struct HostObject {
  PyObject base;
  const callout_host_t* host;  // null: the instance is gone
  bool creating;               // files can be followed
};

struct ContextObject {
  PyObject base;
  callout_call_t* call;  // null: no hook runs
  PyObject* details;     // bytes; null: none
  int32_t code;          // a gRPC status: set_code or abort
  bool aborted;
  bool has_callbacks;
};

// Null with an exception set.
Ref MakeHostType();
Ref MakeContextType();

inline HostObject* AsHost(const Ref& object) { return reinterpret_cast<HostObject*>(object.get()); }
// Of an object of Context or of a class that extends it.
inline ContextObject* AsContext(PyObject* object) {
  return reinterpret_cast<ContextObject*>(object);
}

}  // namespace callout::plugins::python

#endif  // CALLOUT_PLUGINS_PYTHON_NATIVE_TYPES_H_
