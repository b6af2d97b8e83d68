// SPDX-License-Identifier: Apache-2.0

// Whether a plugin uses a library that it is not linked with and that is in the process by
// accident: the dynamic linker resolves an undefined symbol against whatever the host has
// loaded, so the plugin runs until a host comes without that library, or with another version.
//
// Looks into libraries that are loaded already and loads none. Any thread.
//
// Tested by tests/broken/broken_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_BORROWED_SYMBOL_H_
#define CALLOUT_HOST_PLUGIN_BORROWED_SYMBOL_H_

#include "absl/status/status.h"
#include "host/plugin/elf_image.h"

namespace callout::host {

// INVALID_ARGUMENT with reason and remedy if a library that is loaded, and is not one of the
// plugin's own (DT_NEEDED, and theirs), defines one of its undefined symbols. The C library
// counts as everybody's own. Before the plugin is loaded, a plugin with a library that is not
// loaded yet gets OK: ask again when it is.
absl::Status CheckBorrowedSymbols(const ElfImage& image);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_BORROWED_SYMBOL_H_
