// SPDX-License-Identifier: Apache-2.0

// What every fuzz target is: a function that any bytes can be given to, and that says
// what went wrong, or "". Each lives in a file NAME_fuzz.cc of its own, one in a file:
//
//   FUZZ_TARGET(settings, .rounds = 20000, .bytes = 64) {
//     const std::string text = choices.Rest();
//     if (ParseInstanceSettings(text).ok() && !IsJson(text)) return "takes what is no JSON: " +
//     text; return "";
//   }
//
// With clang and -Dfuzz=true each file becomes a program of libFuzzer's, NAME_fuzz
// (fuzz_main.cc); every build has all of them in random_test, which gives each its corpus,
// what it makes of that, and random bytes. Targets are called one at a time, any number
// of times, and keep nothing from one to the next but what is dear to make.
#ifndef CALLOUT_TESTS_FUZZ_TARGET_H_
#define CALLOUT_TESTS_FUZZ_TARGET_H_

#include <cstddef>
#include <ostream>
#include <string>
#include <vector>

#include "tests/fuzz/choices.h"

namespace callout::host {

struct FuzzTarget {
  // How often random_test runs it, and how many random bytes it is given at the least; it
  // gets up to five times as many.
  struct Length {
    int rounds = 0;
    size_t bytes = 0;
  };
  const char* name;
  Length length;
  std::string (*run)(Choices& choices);
};

inline void PrintTo(const FuzzTarget& target, std::ostream* out) { *out << target.name; }

// Those of this program.
inline std::vector<FuzzTarget>& FuzzTargets() {
  static auto* const targets = new std::vector<FuzzTarget>;
  return *targets;
}

}  // namespace callout::host

#define FUZZ_TARGET(name, ...)                                                \
  static std::string Run_##name(callout::host::Choices& choices);             \
  [[maybe_unused]] static const bool registered_##name = [] {                 \
    callout::host::FuzzTargets().push_back(                                   \
        {#name, callout::host::FuzzTarget::Length{__VA_ARGS__}, Run_##name}); \
    return true;                                                              \
  }();                                                                        \
  static std::string Run_##name([[maybe_unused]] callout::host::Choices& choices)

#endif  // CALLOUT_TESTS_FUZZ_TARGET_H_
