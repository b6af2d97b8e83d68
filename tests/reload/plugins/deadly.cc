// SPDX-License-Identifier: Apache-2.0

// Does to the process what the request header x-do says.
#include <callout/plugin.hpp>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("deadly", "1", "Ends, blocks or spoils the process it runs in");

namespace {

int Recurse(int depth) {
  volatile char frame[1024];
  frame[depth % 1024] = 1;
  return depth < 0 ? 0 : Recurse(depth + 1) + frame[depth / 2 % 1024];
}

// A child that goes on with all that the process has open.
void Fork() {
  if (fork() != 0) return;
  alarm(10);
  for (;;) pause();
}

void TakeSignals() {
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_IGN);
}

void CloseDescriptors() {
  for (int fd = 0; fd < 1024; ++fd) close(fd);
}

// Writes all over the memory that the process shares with its supervisor.
void Scribble() {
  std::FILE* maps = std::fopen("/proc/self/maps", "r");
  std::array<char, 512> line;
  while (maps != nullptr && std::fgets(line.data(), line.size(), maps) != nullptr) {
    uintptr_t begin = 0;
    uintptr_t end = 0;
    if (std::strstr(line.data(), "callout-hooks") == nullptr) continue;
    if (std::sscanf(line.data(), "%lx-%lx", &begin, &end) != 2) continue;
    std::memset(reinterpret_cast<void*>(begin), 0xff, end - begin);
  }
  std::abort();
}

// Takes all memory that the process may have, and keeps it.
void Leak() {
  for (size_t bytes = size_t{1} << 26; bytes >= 64;) {
    static void* volatile leaked;
    leaked = std::malloc(bytes);
    if (leaked == nullptr) bytes /= 2;
  }
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
  if (what == "spin") {
    static volatile bool spins = true;
    while (spins) {
    }
  }
  if (what == "fork") Fork();
  if (what == "take_signals") TakeSignals();
  if (what == "close_descriptors") CloseDescriptors();
  if (what == "scribble") Scribble();
  if (what == "leak") Leak();
}

}  // namespace

CALLOUT_ON_REQUEST_HEADERS(call) {
  const std::string what(call.headers().get("x-do").value_or(""));
  Do(what);
  const bool tells = what == "tell_dumpable";
  const char* const dumpable = prctl(PR_GET_DUMPABLE) == 1 ? "dumpable" : "not dumpable";
  call.set_header("x-version", tells ? dumpable : "deadly");
}

CALLOUT_ON_RESPONSE_HEADERS(call) { call.set_header("x-version", "deadly"); }
