// SPDX-License-Identifier: Apache-2.0

// Finds a library that a plugin uses without being linked with it. The dynamic linker resolves an
// undefined symbol against whatever the host has loaded, so such a plugin works only until a host
// comes without that library, or with another version of it.
//
// Looks only into libraries that are loaded. Any thread.
//
// Tested by tests/broken/broken_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_BORROWED_SYMBOL_H_
#define CALLOUT_HOST_PLUGIN_BORROWED_SYMBOL_H_

#include "absl/status/status.h"
#include "host/plugin/elf_image.h"

namespace callout::host {

// INVALID_ARGUMENT with reason and remedy if an undefined symbol of the plugin is defined by a
// loaded library that is neither the C library nor one that the plugin needs (DT_NEEDED, directly
// or not). OK if a library that it needs is not loaded yet: ask again after loading.
absl::Status CheckBorrowedSymbols(const ElfImage& image);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_BORROWED_SYMBOL_H_
