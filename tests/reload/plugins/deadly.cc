// SPDX-License-Identifier: Apache-2.0

// Does to the process what the request header x-do says.
#include <callout/plugin.hpp>

#include <cstdlib>
#include <thread>

#include <unistd.h>

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("deadly", "1", "Ends or blocks the process it runs in");

namespace {

int Recurse(int depth) {
  volatile char frame[1024];
  frame[depth % 1024] = 1;
  return depth < 0 ? 0 : Recurse(depth + 1) + frame[depth / 2 % 1024];
}

void Do(std::string_view what) {
  if (what == "segfault") *static_cast<volatile int*>(nullptr) = 1;
  if (what == "abort") std::abort();
  if (what == "exit") std::exit(3);
  if (what == "_exit") _exit(3);
  if (what == "overflow") Recurse(0);
  if (what == "throw") {
    std::thread([] { throw 1; }).join();
  }
  if (what == "hang") {
    for (;;) pause();
  }
}

}  // namespace

CALLOUT_ON_REQUEST_HEADERS(call) {
  Do(call.headers().get("x-do").value_or(""));
  call.set_header("x-version", "deadly");
}

CALLOUT_ON_RESPONSE_HEADERS(call) { call.set_header("x-version", "deadly"); }
