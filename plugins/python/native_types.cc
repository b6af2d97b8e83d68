// SPDX-License-Identifier: Apache-2.0

#include "native_types.h"

#include <structmember.h>

#include <callout/rpc_metadata.h>
#include <cstddef>
#include <ctime>

namespace callout::plugins::python {
namespace {

// --- Host ---

HostObject* ToHost(PyObject* self) { return reinterpret_cast<HostObject*>(self); }

callout_bytes_t TextOf(const Py_buffer& buffer) {
  return {static_cast<const char*>(buffer.buf), static_cast<size_t>(buffer.len)};
}

PyObject* HostLog(PyObject* self, PyObject* arguments) {
  unsigned level = 0;
  Py_buffer text;
  if (PyArg_ParseTuple(arguments, "Iy*:log", &level, &text) == 0) return nullptr;
  const callout_host_t* host = ToHost(self)->host;
  if (host != nullptr) host->log(host, level, TextOf(text));
  PyBuffer_Release(&text);
  Py_RETURN_NONE;
}

PyObject* HostEnabled(PyObject* self, PyObject* level) {
  const unsigned long number = PyLong_AsUnsignedLong(level);
  if (PyErr_Occurred() != nullptr) return nullptr;
  const callout_host_t* host = ToHost(self)->host;
  return PyBool_FromLong(host != nullptr &&
                         host->log_enabled(host, static_cast<callout_log_level_t>(number)) != 0);
}

// What cannot be followed (too many files, too late) does not stop the script.
PyObject* HostFollow(PyObject* self, PyObject* arguments) {
  Py_buffer path;
  if (PyArg_ParseTuple(arguments, "y*:follow", &path) == 0) return nullptr;
  const HostObject* object = ToHost(self);
  const callout_host_t* host = object->host;
  if (host != nullptr && object->creating) host->follow_file(host, TextOf(path));
  PyBuffer_Release(&path);
  Py_RETURN_NONE;
}

PyMethodDef kHostMethods[] = {
    {"log", HostLog, METH_VARARGS, "log(level, utf8)"},
    {"enabled", HostEnabled, METH_O, "enabled(level) -> bool"},
    {"follow", HostFollow, METH_VARARGS, "follow(path): a change of it loads the script anew"},
    {nullptr, nullptr, 0, nullptr},
};

PyObject* NewZeroed(PyTypeObject* type, PyObject*, PyObject*) { return type->tp_alloc(type, 0); }

void FreeHost(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

// --- Context ---

callout_call_t* CallOf(PyObject* self) {
  callout_call_t* call = AsContext(self)->call;
  if (call == nullptr) PyErr_SetString(PyExc_RuntimeError, "no hook of this context runs");
  return call;
}

PyObject* ContextIsActive(PyObject* self, PyObject*) {
  const callout_call_t* call = AsContext(self)->call;
  return PyBool_FromLong(call != nullptr && call->host->is_cancelled(call) == 0);
}

PyObject* ContextProperty(PyObject* self, PyObject* number) {
  const unsigned long property = PyLong_AsUnsignedLong(number);
  if (PyErr_Occurred() != nullptr) return nullptr;
  const callout_call_t* call = CallOf(self);
  if (call == nullptr) return nullptr;
  callout_bytes_t value = {nullptr, 0};
  const auto which = static_cast<callout_property_t>(property);
  if (call->host->get_property(call, which, &value) != CALLOUT_OK) value = {nullptr, 0};
  return PyUnicode_DecodeUTF8(value.data, static_cast<Py_ssize_t>(value.size), "replace");
}

PyObject* ContextSecondsLeft(PyObject* self, PyObject*) {
  const callout_call_t* call = CallOf(self);
  if (call == nullptr) return nullptr;
  if (call->deadline_ns == 0) Py_RETURN_NONE;
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const double seconds = static_cast<double>(call->deadline_ns) / 1e9 -
                         (static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9);
  return PyFloat_FromDouble(seconds > 0 ? seconds : 0);
}

PyObject* ContextEnd(PyObject* self, PyObject* arguments) {
  PyObject* code = nullptr;
  PyObject* details = nullptr;
  int aborted = 0;
  if (PyArg_ParseTuple(arguments, "OOp:_end", &code, &details, &aborted) == 0) return nullptr;
  ContextObject* context = AsContext(self);
  if (code != Py_None) {
    const long number = PyLong_AsLong(code);
    if (PyErr_Occurred() != nullptr) return nullptr;
    context->code = static_cast<int32_t>(number);
  }
  if (details != Py_None) {
    Py_INCREF(details);
    Py_XSETREF(context->details, details);
  }
  context->aborted = context->aborted || aborted != 0;
  Py_RETURN_NONE;
}

PyObject* ContextCode(PyObject* self, PyObject*) { return PyLong_FromLong(AsContext(self)->code); }

PyObject* ContextDetails(PyObject* self, PyObject*) {
  PyObject* details = AsContext(self)->details;
  return details == nullptr ? PyBytes_FromStringAndSize(nullptr, 0) : Py_NewRef(details);
}

// [(key, value)], as bytes.
PyObject* ContextMetadata(PyObject* self, PyObject*) {
  callout_call_t* call = CallOf(self);
  if (call == nullptr) return nullptr;
  const auto* metadata = static_cast<const callout_rpc_metadata_t*>(
      call->host->get_extension(call->host, CALLOUT_RPC_METADATA));
  if (metadata == nullptr) {
    PyErr_SetString(PyExc_RuntimeError, "this host cannot list metadata; use a newer one");
    return nullptr;
  }
  Ref list(PyList_New(0));
  callout_bytes_t key, value;
  for (uint32_t i = 0; list && metadata->at(call, i, &key, &value) == CALLOUT_OK; ++i) {
    const Ref pair(Py_BuildValue("s#y#", key.data, static_cast<Py_ssize_t>(key.size), value.data,
                                 static_cast<Py_ssize_t>(value.size)));
    if (!pair || PyList_Append(list.get(), pair.get()) != 0) return nullptr;
  }
  return list.Release();
}

PyMethodDef kContextMethods[] = {
    {"_metadata", ContextMetadata, METH_NOARGS, "[(str, bytes)] of the gRPC request"},
    {"_is_active", ContextIsActive, METH_NOARGS, "whether the client still waits"},
    {"_property", ContextProperty, METH_O, "a callout_property_t as a str; empty: unknown"},
    {"_seconds_left", ContextSecondsLeft, METH_NOARGS, "until the deadline; None: there is none"},
    {"_end", ContextEnd, METH_VARARGS, "_end(code, details, aborted); None: as before"},
    {"_code", ContextCode, METH_NOARGS, "what _end has set"},
    {"_details", ContextDetails, METH_NOARGS, "what _end has set"},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef kContextMembers[] = {
    {"_has_callbacks", T_BOOL, offsetof(ContextObject, has_callbacks), 0, "run_callbacks has work"},
    {nullptr, 0, 0, 0, nullptr},
};

void FreeContext(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  Py_CLEAR(AsContext(self)->details);
  type->tp_free(self);
  Py_DECREF(type);
}

Ref MakeType(const char* name, size_t size, destructor free, PyMethodDef* methods,
             PyMemberDef* members) {
  PyType_Slot slots[] = {
      {Py_tp_new, reinterpret_cast<void*>(NewZeroed)},
      {Py_tp_dealloc, reinterpret_cast<void*>(free)},
      {Py_tp_methods, methods},
      {Py_tp_members, members},
      {0, nullptr},
  };
  PyType_Spec spec = {name, static_cast<int>(size), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                      slots};
  return Ref(PyType_FromSpec(&spec));
}

PyMemberDef kNoMembers[] = {{nullptr, 0, 0, 0, nullptr}};

}  // namespace

Ref MakeHostType() {
  return MakeType("callout_native.Host", sizeof(HostObject), FreeHost, kHostMethods, kNoMembers);
}

Ref MakeContextType() {
  return MakeType("callout_native.Context", sizeof(ContextObject), FreeContext, kContextMethods,
                  kContextMembers);
}

}  // namespace callout::plugins::python
