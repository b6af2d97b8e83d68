// SPDX-License-Identifier: Apache-2.0

// Makes small ELF64 shared objects in memory, to test their readers: the dynamic part only, without
// code.
//
//   const std::string bytes = ElfBuilder().Function("callout_on_process").Bytes();
#ifndef CALLOUT_TESTS_HOST_ELF_BUILDER_H_
#define CALLOUT_TESTS_HOST_ELF_BUILDER_H_

#include <elf.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "host/plugin/elf_image.h"

namespace callout::host {

class ElfBuilder {
 public:
  // The symbols of every plugin.
  static ElfBuilder Plugin() {
    return ElfBuilder().Data("callout_abi_version", 1).Function("callout_on_process");
  }

  ElfBuilder& Function(std::string_view name, uint8_t binding = STB_GLOBAL) {
    return Symbol(name, STT_FUNC, binding, /*section=*/1, 0);
  }
  // A number of 32 bits, in the file.
  ElfBuilder& Data(std::string_view name, uint32_t value) {
    data_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return Symbol(name, STT_OBJECT, STB_GLOBAL, 2, data_.size() - sizeof(value));
  }
  ElfBuilder& Import(std::string_view name) {
    return Symbol(name, STT_NOTYPE, STB_GLOBAL, SHN_UNDEF, 0);
  }
  ElfBuilder& Symbol(std::string_view name, uint8_t type, uint8_t binding, uint16_t section,
                     uint64_t value, uint8_t visibility = STV_DEFAULT) {
    Elf64_Sym symbol = {};
    symbol.st_name = AddString(name);
    symbol.st_info = static_cast<unsigned char>(ELF64_ST_INFO(binding, type));
    symbol.st_other = visibility;
    symbol.st_shndx = section;
    symbol.st_value = section == 2 ? kDataAddress + value : value;
    symbols_.push_back(symbol);
    return *this;
  }
  ElfBuilder& Needs(std::string_view library) { return Entry(DT_NEEDED, AddString(library)); }
  ElfBuilder& RunPath(std::string_view path) { return Entry(DT_RUNPATH, AddString(path)); }
  // What the linker's options -f (DT_AUXILIARY) and -F (DT_FILTER) write.
  ElfBuilder& Filters(int64_t tag, std::string_view library) {
    return Entry(tag, AddString(library));
  }
  ElfBuilder& Entry(int64_t tag, uint64_t value) {
    dynamic_.push_back(MakeEntry(tag, value));
    return *this;
  }
  ElfBuilder& Note(std::string_view owner, uint32_t type) {
    const Elf64_Nhdr note = {static_cast<uint32_t>(owner.size() + 1), 0, type};
    notes_.append(reinterpret_cast<const char*>(&note), sizeof(note));
    notes_ += owner;
    notes_.append(4 - owner.size() % 4, '\0');
    return *this;
  }
  ElfBuilder& ExecutableStack() {
    stack_flags_ |= PF_X;
    return *this;
  }

  std::string Bytes() const {
    std::vector<Elf64_Phdr> segments = {Segment(PT_LOAD, 0, 0),  // the whole file
                                        Segment(PT_DYNAMIC, 0, 0), Segment(PT_NOTE, 0, 0),
                                        Segment(PT_GNU_STACK, 0, 0)};
    std::string bytes(sizeof(Elf64_Ehdr) + segments.size() * sizeof(Elf64_Phdr), '\0');
    bytes.resize(kDataAddress, '\0');
    bytes += data_;
    Align(&bytes);
    const uint64_t strings = bytes.size();
    bytes += strings_;
    Align(&bytes);
    const uint64_t symbols = bytes.size();
    bytes.append(sizeof(Elf64_Sym), '\0');
    Append(symbols_, &bytes);
    const uint64_t hash = bytes.size();
    const auto count = static_cast<uint32_t>(symbols_.size() + 1);
    Append(std::vector<uint32_t>{1, count, 0}, &bytes);  // one bucket, empty
    Append(std::vector<uint32_t>(count), &bytes);
    Align(&bytes);
    segments[2] = Segment(PT_NOTE, bytes.size(), notes_.size());
    bytes += notes_;
    Align(&bytes);
    // The caller's entries come last, so that they count in place of these.
    std::vector<Elf64_Dyn> dynamic = {MakeEntry(DT_STRTAB, strings),
                                      MakeEntry(DT_STRSZ, strings_.size()),
                                      MakeEntry(DT_SYMTAB, symbols), MakeEntry(DT_HASH, hash)};
    dynamic.insert(dynamic.end(), dynamic_.begin(), dynamic_.end());
    dynamic.push_back(MakeEntry(DT_NULL, 0));
    segments[1] = Segment(PT_DYNAMIC, bytes.size(), dynamic.size() * sizeof(Elf64_Dyn));
    Append(dynamic, &bytes);
    segments[0] = Segment(PT_LOAD, 0, bytes.size());
    segments[3].p_flags = stack_flags_;
    const Elf64_Ehdr header = Header(segments.size());
    bytes.replace(0, sizeof(header), reinterpret_cast<const char*>(&header), sizeof(header));
    bytes.replace(sizeof(header), segments.size() * sizeof(Elf64_Phdr),
                  reinterpret_cast<const char*>(segments.data()),
                  segments.size() * sizeof(Elf64_Phdr));
    return bytes;
  }

 private:
  static constexpr uint64_t kDataAddress = 512;

  static Elf64_Phdr Segment(uint32_t type, uint64_t offset, uint64_t size) {
    Elf64_Phdr segment = {};
    segment.p_type = type;
    segment.p_flags = PF_R | PF_W;
    segment.p_offset = segment.p_vaddr = offset;
    segment.p_filesz = segment.p_memsz = size;
    segment.p_align = 4;
    return segment;
  }
  static Elf64_Dyn MakeEntry(int64_t tag, uint64_t value) {
    Elf64_Dyn entry = {};
    entry.d_tag = tag;
    entry.d_un.d_val = value;
    return entry;
  }
  static Elf64_Ehdr Header(size_t segment_count) {
    Elf64_Ehdr header = {};
    std::string_view(ELFMAG, SELFMAG).copy(reinterpret_cast<char*>(header.e_ident), SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_DYN;
    header.e_machine = kHostMachine;
    header.e_version = EV_CURRENT;
    header.e_phoff = sizeof(header);
    header.e_ehsize = sizeof(header);
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = static_cast<uint16_t>(segment_count);
    return header;
  }
  template <class T>
  static void Append(const std::vector<T>& items, std::string* bytes) {
    bytes->append(reinterpret_cast<const char*>(items.data()), items.size() * sizeof(T));
  }
  static void Align(std::string* bytes) { bytes->resize((bytes->size() + 7) & ~size_t{7}, '\0'); }

  uint32_t AddString(std::string_view text) {
    const auto offset = static_cast<uint32_t>(strings_.size());
    strings_ += text;
    strings_ += '\0';
    return offset;
  }

  std::string strings_ = std::string(1, '\0');
  std::string data_;
  std::string notes_;
  std::vector<Elf64_Sym> symbols_;
  std::vector<Elf64_Dyn> dynamic_;
  uint32_t stack_flags_ = PF_R | PF_W;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_ELF_BUILDER_H_
