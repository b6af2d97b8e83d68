// SPDX-License-Identifier: Apache-2.0

// Changes the bytes of a plugin's file so that it can be loaded as a private copy, beside other
// versions:
//
// - GNU_UNIQUE symbols become weak ones. The dynamic linker keeps one definition of a unique symbol
//   for the whole process, so all plugins and all generations would share the statics of an inline
//   function or template.
// - $ORIGIN becomes the directory in which the operator put the file, since the copy's directory
//   has none of the libraries that were installed beside the plugin.
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

// Returns `bytes`, changed where needed. Bytes that are not a complete shared object, or would be
// none after the change, are returned unchanged: the loader reports what is wrong with them.
// `directory` is absolute.
std::string PatchForPrivateCopy(std::string bytes, const std::string& directory);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_ELF_PATCH_H_
