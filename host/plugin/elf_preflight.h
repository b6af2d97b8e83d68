// What can be said of a plugin's file before any of its code runs: whether loading
// it could work, and what about it is suspicious. The dynamic linker gives no second
// chance: protobuf aborts the process inside dlopen, an exported class binds to
// another plugin's of the same name, a sanitizer's runtime exits.
//
//   absl::StatusOr<ElfImage> image = ElfImage::Parse(bytes);
//   absl::StatusOr<PreflightResult> result = Preflight(*image, already_loaded);
//
// Pure functions of their arguments; any thread.
#ifndef CALLOUT_HOST_PLUGIN_ELF_PREFLIGHT_H_
#define CALLOUT_HOST_PLUGIN_ELF_PREFLIGHT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "host/plugin/elf_image.h"

namespace callout::host {

// The part of the process that decides what else can be loaded into it.
struct AlreadyLoaded {
  std::vector<std::string> libraries;  // file names without directory
  std::string go_plugin;               // the plugin that brought a Go runtime; empty: none did
};

struct PreflightResult {
  uint32_t abi_version = 0;
  bool has_go_runtime = false;
  std::vector<std::string> warnings;  // one printable line each: "it …; remedy"
};

// INVALID_ARGUMENT with reason and remedy ("it …; do …") if the plugin must not be
// loaded or could never be called.
absl::StatusOr<PreflightResult> Preflight(const ElfImage& image, const AlreadyLoaded& loaded);

// The exported symbol of this name; null if there is none.
const ElfSymbol* FindExported(const ElfImage& image, std::string_view name);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_ELF_PREFLIGHT_H_
