// SPDX-License-Identifier: Apache-2.0

// The dynamic part of an ELF64 shared object, read from the bytes of its file:
// what the dynamic linker would see, without mapping the file or running any of
// its code. Section headers are used only to notice a truncated file, so stripped
// objects can be read.
//
//   segments -> PT_DYNAMIC -> DT_SYMTAB, DT_STRTAB, DT_HASH or DT_GNU_HASH
//
// The bytes are taken as hostile: every offset, size and index is checked against
// the file before use, and nothing is allocated that the file's size does not bound.
// Why not libelf: it would do the header and the entries of the tables, and leave what is most of
// the work here. It finds symbols by section headers, which stripped objects lack and the dynamic
// linker does not read; where the dynamic tables are, how many symbols a hash table has, and
// whether a name or a segment lies in the file would still have to be found here, and the messages
// say which part is damaged. elfutils 0.188 read 13,500 damaged files without an error of
// memcheck's, so safety is not the reason.
//
// Formats: elf(5), System V ABI chapters 4 and 5; DT_GNU_HASH as ld and ld.so do it.
//
// An ElfImage holds views into the bytes it was parsed from, which must outlive it.
// Thread-compatible.
#ifndef CALLOUT_HOST_PLUGIN_ELF_IMAGE_H_
#define CALLOUT_HOST_PLUGIN_ELF_IMAGE_H_

#include <elf.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace callout::host {

// The e_machine this host was built for.
#if defined(__x86_64__)
inline constexpr uint16_t kHostMachine = EM_X86_64;
#elif defined(__aarch64__)
inline constexpr uint16_t kHostMachine = EM_AARCH64;
#else
#error "name this machine's e_machine value here"
#endif

struct ElfSymbol {
  // The most bytes of a name that are kept; longer ones (deep C++ templates) are cut.
  static constexpr size_t kNameBytesMax = 1024;

  std::string_view name;
  uint64_t value = 0;
  uint64_t size = 0;
  uint16_t section = SHN_UNDEF;
  uint8_t type = STT_NOTYPE;
  uint8_t binding = STB_LOCAL;
  uint8_t visibility = STV_DEFAULT;

  bool defined() const { return section != SHN_UNDEF; }
  // True if other objects can bind to it.
  bool exported() const {
    return defined() && binding != STB_LOCAL &&
           (visibility == STV_DEFAULT || visibility == STV_PROTECTED);
  }
};

class ElfImage {
 public:
  // INVALID_ARGUMENT if `bytes` are not a complete ELF64 shared object for this
  // machine. The message says reason and remedy ("is …; do …") but not which file.
  static absl::StatusOr<ElfImage> Parse(std::string_view bytes);

  // The same for what the first sizeof(Elf64_Ehdr) bytes of a file tell: whether it may be a shared
  // object for this machine. A file that is shorter is truncated.
  static absl::Status CheckHead(std::string_view start);

  const std::vector<ElfSymbol>& symbols() const { return symbols_; }       // DT_SYMTAB but index 0
  const std::vector<std::string_view>& needed() const { return needed_; }  // DT_NEEDED
  const std::vector<std::string_view>& run_paths() const { return run_paths_; }  // RPATH, RUNPATH

  std::string_view soname() const { return soname_; }  // DT_SONAME; "": none

  // The size of its thread-local variables if they must lie in the process's static TLS block
  // (DF_STATIC_TLS, the initial-exec model); 0 if they need not.
  uint64_t static_tls_bytes() const { return static_tls_ ? tls_bytes_ : 0; }
  // The tables as they lie in the file, for whoever changes them. Each symbol of symbols() has an
  // entry of symbol_table(), which begins with the reserved symbol 0.
  std::string_view symbol_table() const { return symbol_table_; }
  std::string_view dynamic_table() const { return dynamic_table_; }
  std::string_view strings() const { return strings_; }

  bool has_executable_stack() const { return executable_stack_; }
  bool has_text_relocations() const { return text_relocations_; }
  // True if a PT_NOTE segment has a note of this owner and type.
  bool HasNote(std::string_view owner, uint32_t type) const;

  // The 32-bit number at `address` once loaded: 0 where the loader fills with
  // zeros, nullopt where the file maps nothing.
  std::optional<uint32_t> ReadUint32(uint64_t address) const;

 private:
  struct DynamicTables {
    uint64_t symbols = 0;
    uint64_t strings = 0;
    uint64_t strings_bytes = 0;
    uint64_t hash = 0;
    uint64_t gnu_hash = 0;
    std::vector<uint64_t> needed;
    std::vector<uint64_t> run_paths;
    uint64_t soname = 0;
  };

  explicit ElfImage(std::string_view bytes) : bytes_(bytes) {}

  absl::Status ParseHeader();
  absl::Status CheckComplete() const;
  absl::Status ParseDynamic();
  void ParseEntry(const Elf64_Dyn& entry, DynamicTables* tables);
  absl::Status ReadStrings(const DynamicTables& tables);
  absl::Status ParseSymbols(const DynamicTables& tables);
  std::optional<uint64_t> CountSymbols(const DynamicTables& tables) const;
  std::optional<uint64_t> CountByGnuHash(uint64_t address) const;

  // The file's bytes from `address` to the end of its segment; empty if unmapped.
  std::string_view BytesAt(uint64_t address) const;
  std::optional<std::string_view> StringAt(uint64_t offset) const;

  std::string_view bytes_;
  Elf64_Ehdr header_ = {};
  std::vector<Elf64_Phdr> segments_;
  std::string_view strings_;
  std::vector<ElfSymbol> symbols_;
  std::vector<std::string_view> needed_;
  std::vector<std::string_view> run_paths_;
  std::string_view symbol_table_, dynamic_table_;
  std::string_view soname_;
  uint64_t tls_bytes_ = 0;  // PT_TLS
  bool static_tls_ = false;
  bool executable_stack_ = true;  // the kernel's default without PT_GNU_STACK
  bool text_relocations_ = false;
  bool position_independent_executable_ = false;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_ELF_IMAGE_H_
