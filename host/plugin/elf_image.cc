// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/elf_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"

namespace callout::host {

namespace {

static_assert(std::endian::native == std::endian::little, "the reader takes numbers as they lie");

// False, and `value` unchanged, if the bytes at `offset` do not hold a whole T.
template <typename T>
bool ReadAt(std::string_view bytes, uint64_t offset, T* value) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return false;
  std::memcpy(value, bytes.data() + offset, sizeof(T));
  return true;
}

// Saturates, so that a sum of hostile numbers is still beyond the end of the file.
uint64_t Add(uint64_t a, uint64_t b) {
  return a > std::numeric_limits<uint64_t>::max() - b ? std::numeric_limits<uint64_t>::max()
                                                      : a + b;
}

template <typename... Args>
absl::Status RefuseImage(fmt::format_string<Args...> format, Args&&... args) {
  return absl::InvalidArgumentError(fmt::format(format, std::forward<Args>(args)...));
}

absl::Status Truncated(std::string_view part, uint64_t end, size_t bytes) {
  return RefuseImage(
      "is truncated: its {} ends at byte {} and the file has {}; copy the whole file", part, end,
      bytes);
}

absl::Status Corrupt(std::string_view part) {
  return RefuseImage("is corrupt: its {} lies outside the file's segments; build or copy it again",
                     part);
}

std::string MachineName(uint16_t machine) {
  switch (machine) {
    case EM_386:
      return "x86 (32 bits)";
    case EM_ARM:
      return "ARM (32 bits)";
    case EM_X86_64:
      return "x86-64";
    case EM_AARCH64:
      return "AArch64";
    case EM_RISCV:
      return "RISC-V";
    default:
      return fmt::format("machine {}", machine);
  }
}

// "" for a shared object.
std::string_view OtherType(uint16_t type) {
  switch (type) {
    case ET_DYN:
      return "";
    case ET_REL:
      return "an object file";
    case ET_EXEC:
      return "an executable";
    case ET_CORE:
      return "a core dump";
    default:
      return "an ELF file of an unknown type";
  }
}

absl::Status WrongType(std::string_view what) {
  return RefuseImage("is {}, not a shared object; link it with -shared -fPIC", what);
}

}  // namespace

absl::StatusOr<ElfImage> ElfImage::Parse(std::string_view bytes) {
  ElfImage image(bytes);
  if (absl::Status status = image.ParseHeader(); !status.ok()) return status;
  if (absl::Status status = image.CheckComplete(); !status.ok()) return status;
  if (absl::Status status = image.ParseDynamic(); !status.ok()) return status;
  return image;
}

absl::Status ElfImage::CheckHead(std::string_view start) { return ElfImage(start).ParseHeader(); }

absl::Status ElfImage::ParseHeader() {
  if (bytes_.empty()) return RefuseImage("is empty; build or copy it again");
  if (!bytes_.starts_with(std::string_view(ELFMAG, SELFMAG))) {
    const std::string_view start = bytes_.substr(0, std::min(bytes_.find('\n'), size_t{16}));
    return RefuseImage("is not an ELF file (it begins with \"{}\"); give a shared object",
                       absl::CHexEscape(std::string(start)));
  }
  // The first 20 bytes, up to e_machine, have the same layout in 32 and 64 bits.
  if (bytes_.size() < sizeof(header_)) {
    return Truncated("ELF header", sizeof(header_), bytes_.size());
  }
  ReadAt(bytes_, 0, &header_);
  const bool elf64 = header_.e_ident[EI_CLASS] == ELFCLASS64;
  const bool little_endian = header_.e_ident[EI_DATA] == ELFDATA2LSB;
  if (!elf64 || !little_endian || header_.e_machine != kHostMachine) {
    const uint16_t machine =
        little_endian ? header_.e_machine : __builtin_bswap16(header_.e_machine);
    return RefuseImage(
        "is a {}-bit {}-endian file for {}, and this host is 64-bit little-endian {}; "
        "build it for this machine",
        elf64 ? 64 : 32, little_endian ? "little" : "big", MachineName(machine),
        MachineName(kHostMachine));
  }
  const std::string_view other_type = OtherType(header_.e_type);
  return other_type.empty() ? absl::OkStatus() : WrongType(other_type);
}

absl::Status ElfImage::CheckComplete() const {
  if (header_.e_phnum != 0 && header_.e_phentsize != sizeof(Elf64_Phdr)) {
    return RefuseImage(
        "is corrupt: its program headers have {} bytes each, not {}; build or copy it again",
        header_.e_phentsize, sizeof(Elf64_Phdr));
  }
  const uint64_t segments_end =
      Add(header_.e_phoff, uint64_t{header_.e_phnum} * sizeof(Elf64_Phdr));
  if (segments_end > bytes_.size()) {
    return Truncated("program header table", segments_end, bytes_.size());
  }
  for (uint64_t i = 0; i < header_.e_phnum; ++i) {
    Elf64_Phdr segment{};
    ReadAt(bytes_, header_.e_phoff + i * sizeof(segment), &segment);
    const uint64_t end = Add(segment.p_offset, segment.p_filesz);
    if (end > bytes_.size()) return Truncated("segment", end, bytes_.size());
  }
  if (header_.e_shoff == 0) return absl::OkStatus();
  // With 0xff00 sections or more, their number is in the first one.
  uint64_t section_count = header_.e_shnum;
  Elf64_Shdr section{};
  if (section_count == 0 && ReadAt(bytes_, header_.e_shoff, &section)) {
    section_count = section.sh_size;
  }
  const uint64_t room =
      header_.e_shoff > bytes_.size() ? 0 : (bytes_.size() - header_.e_shoff) / sizeof(section);
  if (section_count > room || header_.e_shoff > bytes_.size()) {
    const uint64_t table_bytes =
        std::min<uint64_t>(section_count, uint64_t{1} << 32) * sizeof(section);
    return Truncated("section header table", Add(header_.e_shoff, table_bytes), bytes_.size());
  }
  for (uint64_t i = 0; i < section_count; ++i) {
    ReadAt(bytes_, header_.e_shoff + i * sizeof(section), &section);
    if (section.sh_type == SHT_NULL || section.sh_type == SHT_NOBITS) continue;
    const uint64_t end = Add(section.sh_offset, section.sh_size);
    if (end > bytes_.size()) return Truncated("section", end, bytes_.size());
  }
  return absl::OkStatus();
}

absl::Status ElfImage::ParseDynamic() {
  std::string_view entries;
  for (uint64_t i = 0; i < header_.e_phnum; ++i) {
    Elf64_Phdr segment{};
    ReadAt(bytes_, header_.e_phoff + i * sizeof(segment), &segment);
    segments_.push_back(segment);
    if (segment.p_type == PT_GNU_STACK) executable_stack_ = (segment.p_flags & PF_X) != 0;
    if (segment.p_type == PT_TLS) tls_bytes_ = segment.p_memsz;
    if (segment.p_type == PT_DYNAMIC) entries = bytes_.substr(segment.p_offset, segment.p_filesz);
  }
  if (entries.empty()) return RefuseImage("has no dynamic section; link it with -shared -fPIC");
  dynamic_table_ = entries;
  DynamicTables tables;
  Elf64_Dyn entry;
  for (uint64_t offset = 0; ReadAt(entries, offset, &entry); offset += sizeof(entry)) {
    if (entry.d_tag == DT_NULL) break;
    ParseEntry(entry, &tables);
  }
  if (position_independent_executable_) return WrongType(OtherType(ET_EXEC));
  if (absl::Status status = ReadStrings(tables); !status.ok()) return status;
  return ParseSymbols(tables);
}

void ElfImage::ParseEntry(const Elf64_Dyn& entry, DynamicTables* tables) {
  const uint64_t value = entry.d_un.d_val;
  switch (entry.d_tag) {
    case DT_SYMTAB:
      tables->symbols = value;
      return;
    case DT_STRTAB:
      tables->strings = value;
      return;
    case DT_STRSZ:
      tables->strings_bytes = value;
      return;
    case DT_HASH:
      tables->hash = value;
      return;
    case DT_GNU_HASH:
      tables->gnu_hash = value;
      return;
    case DT_NEEDED:
      tables->needed.push_back(value);
      return;
    case DT_RPATH:
    case DT_RUNPATH:
      tables->run_paths.push_back(value);
      return;
    case DT_AUXILIARY:
    case DT_FILTER:
      tables->filters.push_back(value);
      return;
    case DT_SONAME:
      tables->soname = value;
      return;
    case DT_TEXTREL:
      text_relocations_ = true;
      return;
    case DT_FLAGS:
      text_relocations_ = text_relocations_ || (value & DF_TEXTREL) != 0;
      static_tls_ = (value & DF_STATIC_TLS) != 0;
      return;
    case DT_FLAGS_1:
      position_independent_executable_ = (value & DF_1_PIE) != 0;
      return;
    default:
      return;
  }
}

absl::Status ElfImage::ReadStrings(const DynamicTables& tables) {
  strings_ = BytesAt(tables.strings);
  if (strings_.empty() || tables.strings_bytes > strings_.size()) {
    return Corrupt("dynamic string table");
  }
  strings_ = strings_.substr(0, tables.strings_bytes);
  for (const uint64_t offset : tables.needed) {
    const std::optional<std::string_view> name = StringAt(offset);
    if (!name.has_value()) return Corrupt("list of needed libraries");
    needed_.push_back(*name);
  }
  for (const uint64_t offset : tables.run_paths) {
    const std::optional<std::string_view> path = StringAt(offset);
    if (!path.has_value()) return Corrupt("run path");
    run_paths_.push_back(*path);
  }
  for (const uint64_t offset : tables.filters) {
    const std::optional<std::string_view> name = StringAt(offset);
    if (!name.has_value()) return Corrupt("list of filtered libraries");
    filters_.push_back(*name);
  }
  if (tables.soname != 0) soname_ = StringAt(tables.soname).value_or("");
  return absl::OkStatus();
}

absl::Status ElfImage::ParseSymbols(const DynamicTables& tables) {
  // ld.so finds symbols by hash only, so an object without a hash table exports nothing.
  if (tables.symbols == 0 || (tables.hash == 0 && tables.gnu_hash == 0)) {
    return RefuseImage("has no dynamic symbol table; link it with -shared -fPIC");
  }
  const std::string_view table = BytesAt(tables.symbols);
  const std::optional<uint64_t> count = CountSymbols(tables);
  if (!count.has_value()) return Corrupt("symbol hash table");
  if (*count > table.size() / sizeof(Elf64_Sym)) return Corrupt("dynamic symbol table");
  symbol_table_ = table.substr(0, *count * sizeof(Elf64_Sym));
  symbols_.reserve(*count);
  for (uint64_t i = 1; i < *count; ++i) {  // symbol 0 is reserved
    Elf64_Sym entry;
    ReadAt(table, i * sizeof(entry), &entry);
    const std::optional<std::string_view> name = StringAt(entry.st_name);
    if (!name.has_value()) return Corrupt("name of a dynamic symbol");
    symbols_.push_back({.name = *name,
                        .value = entry.st_value,
                        .size = entry.st_size,
                        .section = entry.st_shndx,
                        .type = static_cast<uint8_t>(ELF64_ST_TYPE(entry.st_info)),
                        .binding = static_cast<uint8_t>(ELF64_ST_BIND(entry.st_info)),
                        .visibility = static_cast<uint8_t>(ELF64_ST_VISIBILITY(entry.st_other))});
  }
  return absl::OkStatus();
}

std::optional<uint64_t> ElfImage::CountSymbols(const DynamicTables& tables) const {
  if (tables.gnu_hash != 0) return CountByGnuHash(tables.gnu_hash);
  // DT_HASH: nbucket, nchain, …; there is a chain entry for each symbol.
  uint32_t chain_count = 0;
  if (!ReadAt(BytesAt(tables.hash), sizeof(uint32_t), &chain_count)) return std::nullopt;
  return chain_count;
}

// DT_GNU_HASH: bucket_count, first_hashed, bloom_count, bloom_shift (32 bits each),
// bloom[bloom_count] (64 bits), buckets[bucket_count], chain[] (32 bits). Symbols from
// first_hashed on have a chain entry each; a bucket holds its first symbol, and bit 0
// of a chain entry marks its last. The last symbol is the end of the highest chain.
std::optional<uint64_t> ElfImage::CountByGnuHash(uint64_t address) const {
  struct {
    uint32_t bucket_count, first_hashed, bloom_count, bloom_shift;
  } header;
  const std::string_view table = BytesAt(address);
  if (!ReadAt(table, 0, &header)) return std::nullopt;
  const uint64_t buckets = sizeof(header) + uint64_t{header.bloom_count} * sizeof(uint64_t);
  const uint64_t chains = buckets + uint64_t{header.bucket_count} * sizeof(uint32_t);
  if (chains > table.size()) return std::nullopt;
  uint64_t last = 0;
  for (uint64_t i = 0; i < header.bucket_count; ++i) {
    uint32_t first = 0;
    ReadAt(table, buckets + i * sizeof(first), &first);
    last = std::max<uint64_t>(last, first);
  }
  if (last < header.first_hashed) return header.first_hashed;  // nothing is exported
  for (;; ++last) {
    uint32_t chain = 0;
    if (!ReadAt(table, chains + (last - header.first_hashed) * sizeof(chain), &chain)) {
      return std::nullopt;
    }
    if ((chain & 1) != 0) return last + 1;
  }
}

bool ElfImage::HasNote(std::string_view owner, uint32_t type) const {
  for (const Elf64_Phdr& segment : segments_) {
    if (segment.p_type != PT_NOTE) continue;
    const std::string_view notes = bytes_.substr(segment.p_offset, segment.p_filesz);
    const uint64_t mask = segment.p_align == 8 ? 7 : 3;
    Elf64_Nhdr note;
    uint64_t offset = 0;
    while (ReadAt(notes, offset, &note)) {
      const uint64_t name = offset + sizeof(note);
      const uint64_t content = (name + note.n_namesz + mask) & ~mask;
      if (name + note.n_namesz > notes.size()) break;
      std::string_view found = notes.substr(name, note.n_namesz);
      found = found.substr(0, found.find('\0'));
      if (note.n_type == type && found == owner) return true;
      offset = (content + note.n_descsz + mask) & ~mask;
    }
  }
  return false;
}

std::optional<uint32_t> ElfImage::ReadUint32(uint64_t address) const {
  uint32_t value = 0;
  if (ReadAt(BytesAt(address), 0, &value)) return value;
  for (const Elf64_Phdr& segment : segments_) {
    if (segment.p_type == PT_LOAD && address >= segment.p_vaddr &&
        address - segment.p_vaddr < segment.p_memsz) {
      return value;
    }
  }
  return std::nullopt;
}

std::string_view ElfImage::BytesAt(uint64_t address) const {
  for (const Elf64_Phdr& segment : segments_) {
    if (segment.p_type == PT_LOAD && address >= segment.p_vaddr &&
        address - segment.p_vaddr < segment.p_filesz) {
      return bytes_.substr(segment.p_offset, segment.p_filesz).substr(address - segment.p_vaddr);
    }
  }
  return {};
}

std::optional<std::string_view> ElfImage::StringAt(uint64_t offset) const {
  if (offset >= strings_.size()) return std::nullopt;
  const std::string_view rest = strings_.substr(offset, ElfSymbol::kNameBytesMax);
  return rest.substr(0, rest.find('\0'));
}

}  // namespace callout::host
