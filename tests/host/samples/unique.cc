// SPDX-License-Identifier: Apache-2.0

// A plugin with a GNU_UNIQUE symbol, the static of an inline function, and a run path of its own
// directory's.
#include <callout/plugin.hpp>

CALLOUT_PLUGIN();

__attribute__((visibility("default"))) inline int& Count() {
  static int count = 0;
  return count;
}

CALLOUT_ON_REQUEST_HEADERS(call) {
  (void)call;
  ++Count();
}
