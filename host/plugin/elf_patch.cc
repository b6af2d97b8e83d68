// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/elf_patch.h"

#include <elf.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_replace.h"
#include "host/plugin/elf_image.h"

namespace callout::host {
namespace {

// A limit for hostile files; beyond it nothing is changed.
constexpr size_t kTextBytesMax = 4096;
constexpr size_t kRewritesMax = 256;
// Of a segment: the smallest page and the largest that Linux has. The file grows up to it, so that
// one which asks for more would take the memory.
constexpr uint64_t kAlignmentMin = 4096;
constexpr uint64_t kAlignmentMax = 65536;

template <class T>
T Get(std::string_view bytes, uint64_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

template <class T>
void Put(std::string* bytes, uint64_t offset, const T& value) {
  std::memcpy(bytes->data() + offset, &value, sizeof(value));
}

template <class T>
void Append(std::string* bytes, const T& value) {
  bytes->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// The offset of the image's view `part` in the file.
uint64_t OffsetOf(std::string_view part, const std::string& bytes) {
  return static_cast<uint64_t>(part.data() - bytes.data());
}

// The offsets in the file of the st_info of all unique symbols.
std::vector<uint64_t> FindUniqueSymbols(const ElfImage& image, const std::string& bytes) {
  std::vector<uint64_t> found;
  uint64_t entry = OffsetOf(image.symbol_table(), bytes);
  for (const ElfSymbol& symbol : image.symbols()) {
    entry += sizeof(Elf64_Sym);  // symbol 0 is not in the list
    if (symbol.binding == STB_GNU_UNIQUE) found.push_back(entry + offsetof(Elf64_Sym, st_info));
  }
  return found;
}

bool HasText(int64_t tag) {
  return tag == DT_RPATH || tag == DT_RUNPATH || tag == DT_NEEDED || tag == DT_AUXILIARY ||
         tag == DT_FILTER;
}

// A dynamic entry at `offset` of the file, and its new text.
struct Rewrite {
  uint64_t offset = 0;
  std::string text;
};

std::vector<Rewrite> FindOrigins(const ElfImage& image, const std::string& bytes,
                                 const std::string& directory) {
  std::vector<Rewrite> found;
  const std::string_view table = image.dynamic_table();
  for (uint64_t at = 0; at + sizeof(Elf64_Dyn) <= table.size(); at += sizeof(Elf64_Dyn)) {
    const auto entry = Get<Elf64_Dyn>(table, at);
    if (entry.d_tag == DT_NULL) break;
    if (!HasText(entry.d_tag) || entry.d_un.d_val >= image.strings().size()) continue;
    std::string_view text = image.strings().substr(entry.d_un.d_val);
    text = text.substr(0, text.find('\0'));
    if (text.size() > kTextBytesMax || found.size() == kRewritesMax) continue;
    std::string with = absl::StrReplaceAll(absl::string_view(text.data(), text.size()),
                                           {{"${ORIGIN}", directory}, {"$ORIGIN", directory}});
    if (with != text) found.push_back({OffsetOf(table, bytes) + at, std::move(with)});
  }
  return found;
}

// A part of the file, by its offsets.
struct Table {
  uint64_t begin = 0, end = 0;
};

// Replaces the string table by `strings`, in a segment after all others. False, with nothing
// changed, if there is no room for one more program header.
bool AppendStrings(std::string_view strings, const Table& dynamic, std::string* bytes) {
  auto header = Get<Elf64_Ehdr>(*bytes, 0);
  if (header.e_phnum >= PN_XNUM - 1) return false;
  std::vector<Elf64_Phdr> segments;
  uint64_t alignment = kAlignmentMin;
  uint64_t end = 0;
  size_t after_loads = 0;
  for (uint64_t i = 0; i < header.e_phnum; ++i) {
    segments.push_back(Get<Elf64_Phdr>(*bytes, header.e_phoff + i * sizeof(Elf64_Phdr)));
    const Elf64_Phdr& segment = segments.back();
    if (segment.p_type != PT_LOAD) continue;
    alignment = std::max<uint64_t>(alignment, segment.p_align);
    end = std::max(end, segment.p_vaddr + segment.p_memsz);
    after_loads = segments.size();
  }
  alignment = std::min(alignment, kAlignmentMax);
  // The dynamic linker would refuse this, too.
  if (end > (uint64_t{1} << 46)) return false;
  const uint64_t offset = AlignUp(bytes->size(), alignment);
  const uint64_t address = AlignUp(end, alignment);
  const uint64_t headers_bytes = (segments.size() + 1) * sizeof(Elf64_Phdr);
  Elf64_Phdr added = {};
  added.p_type = PT_LOAD;
  added.p_flags = PF_R;
  added.p_offset = offset;
  added.p_vaddr = added.p_paddr = address;
  added.p_filesz = added.p_memsz = headers_bytes + strings.size();
  added.p_align = alignment;
  for (Elf64_Phdr& segment : segments) {
    if (segment.p_type != PT_PHDR) continue;
    segment.p_offset = offset;
    segment.p_vaddr = segment.p_paddr = address;
    segment.p_filesz = segment.p_memsz = headers_bytes;
  }
  segments.insert(segments.begin() + static_cast<std::ptrdiff_t>(after_loads), added);
  header.e_phoff = offset;
  header.e_phnum = static_cast<uint16_t>(segments.size());
  Put(bytes, 0, header);
  for (uint64_t at = dynamic.begin; at + sizeof(Elf64_Dyn) <= dynamic.end;
       at += sizeof(Elf64_Dyn)) {
    auto entry = Get<Elf64_Dyn>(*bytes, at);
    if (entry.d_tag == DT_NULL) break;
    if (entry.d_tag == DT_STRTAB) entry.d_un.d_ptr = address + headers_bytes;
    if (entry.d_tag == DT_STRSZ) entry.d_un.d_val = strings.size();
    Put(bytes, at, entry);
  }
  bytes->resize(offset, '\0');
  for (const Elf64_Phdr& segment : segments) Append(bytes, segment);
  bytes->append(strings);
  return true;
}

// The bytes at `begin`, before they are changed.
struct Kept {
  uint64_t begin = 0;
  std::string bytes;
};

// What undoes the change: the parts that it writes to, without a copy of the whole file.
std::vector<Kept> KeepParts(const std::string& bytes, const Table& dynamic,
                            const std::vector<uint64_t>& unique) {
  std::vector<Kept> kept = {
      {0, bytes.substr(0, sizeof(Elf64_Ehdr))},
      {dynamic.begin, bytes.substr(dynamic.begin, dynamic.end - dynamic.begin)}};
  for (uint64_t offset : unique) kept.push_back({offset, bytes.substr(offset, 1)});
  return kept;
}

}  // namespace

std::string PatchForPrivateCopy(std::string bytes, const std::string& directory) {
  absl::StatusOr<ElfImage> image = ElfImage::Parse(bytes);
  if (!image.ok()) return bytes;
  const std::vector<uint64_t> unique = FindUniqueSymbols(*image, bytes);
  const std::vector<Rewrite> origins = FindOrigins(*image, bytes, directory);
  if (unique.empty() && origins.empty()) return bytes;
  const uint64_t dynamic_begin = OffsetOf(image->dynamic_table(), bytes);
  const Table dynamic = {dynamic_begin, dynamic_begin + image->dynamic_table().size()};
  const size_t symbol_count = image->symbols().size();
  const size_t size = bytes.size();
  const std::vector<Kept> kept = KeepParts(bytes, dynamic, unique);
  std::string strings(image->strings());
  // From here on the bytes behind the image's views change.
  for (uint64_t offset : unique) {
    const auto info = static_cast<unsigned char>(bytes[offset]);
    bytes[offset] = static_cast<char>(ELF64_ST_INFO(STB_WEAK, ELF64_ST_TYPE(info)));
  }
  std::vector<uint64_t> places;
  for (const Rewrite& origin : origins) {
    places.push_back(strings.size());
    strings += origin.text + '\0';
  }
  if (!origins.empty() && AppendStrings(strings, dynamic, &bytes)) {
    for (size_t i = 0; i < origins.size(); ++i) {
      auto entry = Get<Elf64_Dyn>(bytes, origins[i].offset);
      entry.d_un.d_val = places[i];
      Put(&bytes, origins[i].offset, entry);
    }
  }
  // In a damaged file tables overlap, and a change of one spoils another.
  const absl::StatusOr<ElfImage> patched = ElfImage::Parse(bytes);
  if (patched.ok() && patched->symbols().size() == symbol_count) return bytes;
  bytes.resize(size);
  for (const Kept& part : kept) bytes.replace(part.begin, part.bytes.size(), part.bytes);
  return bytes;
}

}  // namespace callout::host
