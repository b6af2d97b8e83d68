// SPDX-License-Identifier: Apache-2.0

// A plugin's file, before any of its code runs: its dynamic part, the preflight, and the
// private copy that is made of it.
//
// Readers: host/plugin/elf_image.cc host/plugin/elf_preflight.cc host/plugin/elf_patch.cc
#include <string>
#include <string_view>

#include "host/plugin/elf_image.h"
#include "host/plugin/elf_patch.h"
#include "host/plugin/elf_preflight.h"
#include "tests/fuzz/target.h"
#include "tests/host/elf_builder.h"

namespace callout::host {
namespace {

// A small object with some of all.
std::string SmallObject() {
  return ElfBuilder::Plugin()
      .Function("callout_on_request_headers")
      .Import("malloc")
      .Needs("libc.so.6")
      .RunPath("$ORIGIN/lib")
      .Note("GNU", 3)
      .Symbol("unique", STT_OBJECT, STB_GNU_UNIQUE, 2, 0)
      .Bytes();
}

// Bytes of it changed, or any bytes.
std::string AnyObject(Choices& choices) {
  if (choices.Next(2) == 0) return choices.Rest();
  static const std::string* const small = new std::string(SmallObject());
  std::string bytes = *small;
  for (unsigned changes = choices.Next(8); changes > 0; --changes) {
    const size_t at = (choices.Next(256) * 256 + choices.Next(256)) % bytes.size();
    bytes[at] = static_cast<char>(choices.Next(256));
  }
  if (choices.OneIn(8)) bytes.resize((choices.Next(256) * 8) % bytes.size());
  return bytes;
}

std::string ComparePatched(const ElfImage& image, const std::string& patched, bool damaged) {
  const absl::StatusOr<ElfImage> again = ElfImage::Parse(patched);
  if (!again.ok()) return "the private copy is no shared object: " + again.status().ToString();
  if (again->symbols().size() != image.symbols().size()) return "the copy has other symbols";
  // In a damaged file names may have no end, or lie in what the patch changes.
  if (damaged) return "";
  for (size_t i = 0; i < image.symbols().size(); ++i) {
    if (again->symbols()[i].name != image.symbols()[i].name) return "a symbol's name differs";
  }
  if (again->needed().size() != image.needed().size()) return "a needed library got lost";
  for (size_t i = 0; i < image.needed().size(); ++i) {
    const std::string_view name = image.needed()[i];
    const bool rewritten = name.find("ORIGIN") != std::string_view::npos;
    if (!rewritten && again->needed()[i] != name) return "the copy needs another library";
  }
  return again->run_paths().size() == image.run_paths().size() ? "" : "a run path got lost";
}

FUZZ_TARGET(elf, .rounds = 20000, .bytes = 40) {
  const std::string bytes = AnyObject(choices);
  (void)ElfImage::CheckHead(bytes);
  const absl::StatusOr<ElfImage> image = ElfImage::Parse(bytes);
  const std::string patched = PatchForPrivateCopy(bytes, "/a/directory");
  if (!image.ok()) return patched == bytes ? "" : "what is no shared object is changed";
  (void)image->HasNote("GNU", 3);
  for (const ElfSymbol& symbol : image->symbols()) {
    if (symbol.name.size() > ElfSymbol::kNameBytesMax) return "a name is longer than its limit";
    (void)image->ReadUint32(symbol.value);
  }
  const absl::StatusOr<PreflightResult> result = Preflight(*image, {{"libx.so"}, ""});
  if (result.ok() && result->abi_version != CALLOUT_ABI_VERSION) return "another ABI is accepted";
  return ComparePatched(*image, patched, bytes != SmallObject());
}

}  // namespace
}  // namespace callout::host
