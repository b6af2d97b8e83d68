// SPDX-License-Identifier: Apache-2.0

// A connection of network ext_proc with arbitrary bytes for its messages and for what a plugin says
// to them: whatever they are, what would go out has the bytes that it is to have.
//
// Run by network_fuzz.cc and by tests/host/l4/network_message_test.cc.
#ifndef CALLOUT_TESTS_FUZZ_NETWORK_DRIVER_H_
#define CALLOUT_TESTS_FUZZ_NETWORK_DRIVER_H_

#include <string>
#include <string_view>

namespace callout::host {

// What is wrong with what would go out; "": nothing.
std::string RunNetwork(std::string_view request, std::string_view said);

}  // namespace callout::host

#endif  // CALLOUT_TESTS_FUZZ_NETWORK_DRIVER_H_
