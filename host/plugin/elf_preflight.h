// SPDX-License-Identifier: Apache-2.0

// Checks a plugin's file before any of its code runs: whether it can be loaded, and what is
// suspicious. After dlopen it is too late: protobuf aborts the process, an exported class binds to
// that of another plugin, a sanitizer's runtime exits.
//
//   absl::StatusOr<ElfImage> image = ElfImage::Parse(bytes);
//   absl::StatusOr<PreflightResult> result = Preflight(*image, already_loaded);
//
// Pure functions of their arguments; any thread.
#ifndef CALLOUT_HOST_PLUGIN_ELF_PREFLIGHT_H_
#define CALLOUT_HOST_PLUGIN_ELF_PREFLIGHT_H_

#include <callout/plugin.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "host/plugin/elf_image.h"

namespace callout::host {

// What is loaded already, as far as it decides what else can be loaded.
struct AlreadyLoaded {
  std::vector<std::string> libraries;  // file names without directory
  std::string go_plugin;               // the plugin that brought a Go runtime; "": none
};

// A name of <callout/plugin.h> that a plugin may export.
struct AbiSymbol {
  enum class Kind : uint8_t {
    kMessageHook,  // gets messages: a plugin without one is never called
    kOtherHook,
    kData,
  };
  std::string_view name;
  Kind kind;
  uint32_t revision;  // of the ABI, which introduced it
};

// The ABI that a host knows: by default this host's. A test may make an older or newer one.
struct HostAbi {
  uint32_t revision = CALLOUT_ABI_REVISION;
  std::span<const AbiSymbol> symbols = Symbols();

  // All names of this host's <callout/plugin.h>.
  static std::span<const AbiSymbol> Symbols();
};

struct PreflightResult {
  uint32_t abi_version = 0;
  uint32_t abi_revision = 1;
  bool has_go_runtime = false;
  std::vector<std::string> warnings;  // one printable line each: "it …; remedy"
};

// INVALID_ARGUMENT with reason and remedy ("it …; do …") if the plugin must not be
// loaded, could never be called, or has a hook that this host would not call.
absl::StatusOr<PreflightResult> Preflight(const ElfImage& image, const AlreadyLoaded& loaded,
                                          const HostAbi& abi = HostAbi());

// The exported symbol of this name; null if there is none.
const ElfSymbol* FindExported(const ElfImage& image, std::string_view name);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_ELF_PREFLIGHT_H_
