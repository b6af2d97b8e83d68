// SPDX-License-Identifier: Apache-2.0

// Makes the bytes of a plugin's file fit for being loaded as a private copy, many versions beside
// each other:
//
// - GNU_UNIQUE symbols become weak ones. The dynamic linker keeps one definition of a unique symbol
//   for the whole process, so that the static of an inline function or template would be shared by
//   all plugins and by all generations of one.
// - $ORIGIN becomes the directory in which the operator put the file. The copy lies elsewhere, and
//   its own directory has none of the libraries that were shipped beside the plugin.
//
// The longer paths need a longer string table. It is appended to the file together with a longer
// program header table, and mapped by a segment of its own; nothing else moves. Section headers,
// which debuggers and profilers read, stay as they are.
//
// A plain function; any thread.
#ifndef CALLOUT_HOST_PLUGIN_ELF_PATCH_H_
#define CALLOUT_HOST_PLUGIN_ELF_PATCH_H_

#include <string>

namespace callout::host {

// `bytes`, changed where that is needed. What is no complete shared object comes back as it is: the
// loader says what is wrong with it. `directory` is absolute.
std::string PatchForPrivateCopy(std::string bytes, const std::string& directory);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_ELF_PATCH_H_
