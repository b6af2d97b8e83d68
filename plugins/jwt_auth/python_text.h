// SPDX-License-Identifier: Apache-2.0

// JSON values as Python prints them once they are loaded: str(json.loads(text)).
//
//   true → True · null → None · 1.5 → 1.5 · 1e16 → 1e+16 · "a" → a · ["a", {"b": null}] →
//   ['a', {'b': None}]
//
// Any thread.
#ifndef CALLOUT_PLUGINS_JWT_AUTH_PYTHON_TEXT_H_
#define CALLOUT_PLUGINS_JWT_AUTH_PYTHON_TEXT_H_

#include <string>

#include "json.h"

namespace jwt_auth {

// A text stays as it is, also with its control characters; one within a list or an object is
// quoted and escaped.
std::string PythonText(const Json& value);

}  // namespace jwt_auth

#endif  // CALLOUT_PLUGINS_JWT_AUTH_PYTHON_TEXT_H_
