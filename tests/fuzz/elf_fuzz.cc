// SPDX-License-Identifier: Apache-2.0

// A plugin's file, before any of its code runs: its dynamic part, the preflight, and the
// private copy that is made of it.
//
// Readers: host/plugin/elf_image.cc host/plugin/elf_preflight.cc host/plugin/elf_patch.cc
#include <elf.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
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

constexpr std::string_view kNames[] = {
    "callout_on_check",
    "callout_on_request_headers",
    "callout_on_requst_headers",
    "callout_on_stream_open",
    "callout_plugin_create",
    "callout_plugin_destroy",
    "callout_plugin_destroy_with",
    "callout_plugin_info",
    "callout_abi_revision",
    "callout_abi_revision_min",
    "callout_strange",
    "_Z18callout_on_processP12callout_call",
    "_Z17callout_on_procesP12callout_call",
    "_Z9",
    "_Zx",
    "_ZN6google8protobuf8internal20AddDescriptorsRunnerC1EPKNS1_15DescriptorTableE",
    "_ZTVN6google8protobuf7MessageE",
    "_ZGVZNK5envoy4type2v3E",
    "_ZN3foo3barE",
    "_cgo_topofstack",
};
constexpr std::string_view kLibraries[] = {"libc.so.6", "libprotobuf.so.23", "libprotobuf-lite.so",
                                           "libasan.so.8", "$ORIGIN/libx.so"};

// What goes wrong with plugins, one thing and another.
std::string AnyPlugin(Choices& choices) {
  ElfBuilder builder;
  const auto name = [&] { return kNames[choices.Next(std::size(kNames))]; };
  if (choices.OneIn(4)) {
    // Its head has four numbers, and lies where the data begin.
    constexpr uint64_t kDataAddress = 512;
    for (unsigned i = 4 + choices.Next(8); i > 0; --i) builder.Data("", choices.Next(4));
    builder.Entry(DT_GNU_HASH, kDataAddress);
  }
  if (!choices.OneIn(16)) builder.Data("callout_abi_version", choices.OneIn(16) ? 99 : 1);
  if (!choices.OneIn(4)) builder.Function("callout_on_process");
  for (unsigned steps = choices.Next(8); steps > 0; --steps) {
    switch (choices.Next(10)) {
      case 0:
      case 1:
        builder.Function(name());
        break;
      case 2:
        builder.Data(name(), choices.Next(64));
        break;
      case 3:
        builder.Needs(kLibraries[choices.Next(std::size(kLibraries))]);
        break;
      case 4:
        builder.RunPath("${ORIGIN}/lib");
        break;
      case 5:
        builder.Note("Go", 4);
        break;
      case 6: {
        const std::string_view symbol = name();
        const auto type = static_cast<uint8_t>(choices.Next(11));
        const auto binding = static_cast<uint8_t>(choices.Next(11));
        const auto section = static_cast<uint16_t>(choices.Next(3));
        builder.Symbol(symbol, type, binding, section, choices.Next(256));
        break;
      }
      case 7:
        builder.ExecutableStack();
        break;
      default: {
        constexpr int64_t kTags[] = {DT_TEXTREL, DT_FLAGS, DT_FLAGS_1,   DT_SONAME,
                                     DT_RPATH,   DT_STRSZ, DT_AUXILIARY, DT_FILTER};
        constexpr uint64_t kValues[] = {0, 1, DF_TEXTREL, DF_STATIC_TLS, DF_1_PIE, 1 << 20};
        const int64_t tag = kTags[choices.Next(std::size(kTags))];
        builder.Entry(tag, kValues[choices.Next(std::size(kValues))]);
      }
    }
  }
  std::string bytes = builder.Bytes();
  // Another type of file, another machine, and other segments than notes and a stack.
  if (choices.OneIn(8)) bytes[offsetof(Elf64_Ehdr, e_type)] = static_cast<char>(choices.Next(6));
  if (choices.OneIn(8)) {
    bytes[offsetof(Elf64_Ehdr, e_machine)] = static_cast<char>(choices.Next(256));
  }
  for (const uint64_t segment : {2, 3}) {
    if (!choices.OneIn(4)) continue;
    const uint64_t at = sizeof(Elf64_Ehdr) + segment * sizeof(Elf64_Phdr);
    bytes[at] = static_cast<char>(choices.Next(8));
    bytes[at + offsetof(Elf64_Phdr, p_memsz)] = static_cast<char>(choices.Next(256));
  }
  return bytes;
}

// Bytes of it changed, or any bytes.
std::string AnyObject(Choices& choices) {
  const unsigned kind = choices.Next(3);
  if (kind == 0) return choices.Rest();
  static const std::string* const small = new std::string(SmallObject());
  std::string bytes = kind == 1 ? *small : AnyPlugin(choices);
  for (unsigned changes = choices.Next(8); changes > 0; --changes) {
    const size_t at = (choices.Next(256) * 256 + choices.Next(256)) % bytes.size();
    bytes[at] = static_cast<char>(choices.Next(256));
  }
  if (choices.OneIn(8)) bytes.resize((choices.Next(256) * 8) % bytes.size());
  return bytes;
}

bool IsLine(const std::string& text) {
  return std::none_of(text.begin(), text.end(),
                      [](unsigned char c) { return c < 0x20 || c == 0x7f; });
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
  if (again->filters().size() != image.filters().size()) return "a filter got lost";
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
  // Hosts of several revisions, which have loaded this and that.
  for (uint32_t revision = 1; revision <= CALLOUT_ABI_REVISION; ++revision) {
    const AlreadyLoaded loaded = {{"libx.so", "libprotobuf.so.32"}, revision % 2 == 0 ? "go" : ""};
    HostAbi abi;
    abi.revision = revision;
    const absl::StatusOr<PreflightResult> result = Preflight(*image, loaded, abi);
    if (!result.ok()) {
      if (!IsLine(std::string(result.status().message()))) return "an error is not one line";
      continue;
    }
    if (result->abi_version != CALLOUT_ABI_VERSION) return "another ABI is accepted";
    for (const std::string& warning : result->warnings) {
      if (!IsLine(warning)) return "a warning is not one line: " + warning;
    }
  }
  return ComparePatched(*image, patched, bytes != SmallObject());
}

}  // namespace
}  // namespace callout::host
