// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/borrowed_symbol.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>

#include <string>
#include <string_view>
#include <vector>

#include "host/base/log.h"

namespace callout::host {
namespace {

// The dynamic linker's handles of the libraries that the plugin names.
class OwnLibraries {
 public:
  explicit OwnLibraries(const ElfImage& image) {
    for (const std::string_view name : image.needed()) Add(std::string(name).c_str());
    // Every program is linked with them, except with -nostdlib.
    Add("libc.so.6");
  }
  ~OwnLibraries() {
    for (void* handle : handles_) dlclose(handle);
  }
  OwnLibraries(const OwnLibraries&) = delete;
  OwnLibraries& operator=(const OwnLibraries&) = delete;

  bool all_loaded() const { return all_loaded_; }

  // dlsym also looks into the libraries that they need.
  bool Define(const char* symbol) const {
    for (void* handle : handles_) {
      if (dlsym(handle, symbol) != nullptr) return true;
    }
    return false;
  }

 private:
  void Add(const char* name) {
    void* handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    if (handle == nullptr) {
      all_loaded_ = false;
    } else {
      handles_.push_back(handle);
    }
  }

  std::vector<void*> handles_;
  bool all_loaded_ = true;
};

// The file name of the library that defines the symbol for the process; "" if there is none, or if
// it is the program itself, which may have the functions of a sanitizer.
std::string ProviderOf(const char* symbol) {
  void* address = dlsym(RTLD_DEFAULT, symbol);
  Dl_info info = {};
  link_map* map = nullptr;
  if (address == nullptr ||
      dladdr1(address, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) == 0 ||
      map == nullptr) {
    return "";
  }
  const std::string_view path = map->l_name;
  return std::string(path.substr(path.rfind('/') + 1));
}

}  // namespace

absl::Status CheckBorrowedSymbols(const ElfImage& image) {
  const OwnLibraries own(image);
  if (!own.all_loaded()) return absl::OkStatus();
  for (const ElfSymbol& symbol : image.symbols()) {
    if (symbol.defined() || symbol.binding != STB_GLOBAL || symbol.name.empty()) continue;
    const std::string name(symbol.name);
    if (own.Define(name.c_str())) continue;
    const std::string provider = ProviderOf(name.c_str());
    if (provider.empty()) continue;
    return absl::InvalidArgumentError(fmt::format(
        "it uses {} of {}, which the host has loaded for itself and the plugin is not linked with; "
        "link it with that library (-Wl,-z,defs finds this when linking)",
        EscapeControls(name), provider));
  }
  return absl::OkStatus();
}

}  // namespace callout::host
