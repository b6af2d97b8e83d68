// SPDX-License-Identifier: Apache-2.0

// Owns one reference to a Python object. Whoever makes, copies or drops one holds the interpreter
// (Gil in interpreter.h). CPython's own API with this is enough here, and pybind11 would put its
// dispatch between a hook and its function, for each of the five objects that a call makes.
#ifndef CALLOUT_PLUGINS_PYTHON_PY_REF_H_
#define CALLOUT_PLUGINS_PYTHON_PY_REF_H_

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <utility>

namespace callout::plugins::python {

class Ref {
 public:
  Ref() = default;
  // Takes over what a function of CPython's has returned; null with an exception set.
  explicit Ref(PyObject* owned) : object_(owned) {}
  static Ref Share(PyObject* borrowed) {
    Py_XINCREF(borrowed);
    return Ref(borrowed);
  }
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() { Py_XDECREF(object_); }

  PyObject* get() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }
  bool IsNone() const { return object_ == Py_None; }
  PyObject* Release() { return std::exchange(object_, nullptr); }

 private:
  PyObject* object_ = nullptr;
};

}  // namespace callout::plugins::python

#endif  // CALLOUT_PLUGINS_PYTHON_PY_REF_H_
