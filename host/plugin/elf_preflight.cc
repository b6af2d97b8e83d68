// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/elf_preflight.h"

#include <callout/plugin.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "host/base/log.h"
#include "host/base/nearest_name.h"

namespace callout::host {

namespace {

constexpr std::string_view kVersionSymbol = "callout_abi_version";
constexpr std::string_view kRevisionSymbol = "callout_abi_revision";
constexpr std::string_view kMinimumSymbol = "callout_abi_revision_min";
constexpr std::string_view kInfoSymbol = "callout_plugin_info";

constexpr std::array kSymbols = {
    AbiSymbol{kVersionSymbol, AbiSymbol::Kind::kData, 1},
    AbiSymbol{kRevisionSymbol, AbiSymbol::Kind::kData, 1},
    AbiSymbol{kMinimumSymbol, AbiSymbol::Kind::kData, 1},
    AbiSymbol{kInfoSymbol, AbiSymbol::Kind::kData, 1},
    AbiSymbol{"callout_plugin_config_schema", AbiSymbol::Kind::kData, 1},
    AbiSymbol{"callout_plugin_create", AbiSymbol::Kind::kOtherHook, 1},
    AbiSymbol{"callout_plugin_destroy", AbiSymbol::Kind::kOtherHook, 1},
    AbiSymbol{"callout_plugin_destroy_with", AbiSymbol::Kind::kOtherHook, 1},
    AbiSymbol{"callout_on_stream_open", AbiSymbol::Kind::kOtherHook, 1},
    AbiSymbol{"callout_on_stream_close", AbiSymbol::Kind::kOtherHook, 1},
    AbiSymbol{"callout_on_stream_cancel", AbiSymbol::Kind::kOtherHook, 1},
    AbiSymbol{"callout_on_process", AbiSymbol::Kind::kMessageHook, 1},
    AbiSymbol{"callout_on_request_headers", AbiSymbol::Kind::kMessageHook, 1},
    AbiSymbol{"callout_on_response_headers", AbiSymbol::Kind::kMessageHook, 1},
    AbiSymbol{"callout_on_request_body", AbiSymbol::Kind::kMessageHook, 1},
    AbiSymbol{"callout_on_response_body", AbiSymbol::Kind::kMessageHook, 1},
    AbiSymbol{"callout_on_request_trailers", AbiSymbol::Kind::kMessageHook, 1},
    AbiSymbol{"callout_on_response_trailers", AbiSymbol::Kind::kMessageHook, 1},
    AbiSymbol{"callout_on_check", AbiSymbol::Kind::kMessageHook, 2},
    AbiSymbol{"callout_on_rate_limit", AbiSymbol::Kind::kMessageHook, 3},
    AbiSymbol{"callout_on_read_data", AbiSymbol::Kind::kMessageHook, 3},
    AbiSymbol{"callout_on_write_data", AbiSymbol::Kind::kMessageHook, 3},
    AbiSymbol{"callout_on_connection", AbiSymbol::Kind::kMessageHook, 3},
};

// The constructor that registers a generated file's descriptors. If they are registered a second
// time, protobuf aborts the process.
constexpr std::string_view kRegistersDescriptors =
    "_ZN6google8protobuf8internal20AddDescriptorsRunnerC1EPKNS1_15DescriptorTableE";

constexpr uint32_t kGoBuildIdNote = 4;
// cgo exports it from every shared object with a Go runtime.
constexpr std::array<std::string_view, 3> kGoSymbols = {"_cgo_topofstack", "crosscall2",
                                                        "_cgo_panic"};

// Their runtimes end a process that was started without them.
constexpr std::array<std::string_view, 4> kSanitizers = {"libasan.so", "libtsan.so", "libhwasan.so",
                                                         "liblsan.so"};

template <typename... Args>
absl::Status Refuse(fmt::format_string<Args...> format, Args&&... args) {
  return absl::InvalidArgumentError(fmt::format(format, std::forward<Args>(args)...));
}

// Removes `prefix` from the front of `text`; false if it is not there.
bool TakePrefix(std::string_view* text, std::string_view prefix) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

bool IsCode(const ElfSymbol& symbol) {
  return symbol.type == STT_FUNC || symbol.type == STT_GNU_IFUNC;
}

// Null if this host does not know the name.
const AbiSymbol* FindKnown(std::string_view name, const HostAbi& abi) {
  const auto found =
      std::find_if(abi.symbols.begin(), abi.symbols.end(), [&](const AbiSymbol& symbol) {
        return symbol.name == name && symbol.revision <= abi.revision;
      });
  return found == abi.symbols.end() ? nullptr : &*found;
}

// Prefixes that only hooks have, known or not.
bool IsHookName(std::string_view name) {
  return name.starts_with("callout_on_") || name.starts_with("callout_plugin_");
}

// A symbol's name for a message.
std::string Printable(std::string_view name) {
  constexpr size_t kBytesMax = 128;
  return EscapeControls(name.substr(0, kBytesMax)) + (name.size() > kBytesMax ? "…" : "");
}

// --- Misspelt names ---

// The known name that is most like `name`; "" if none is.
std::string_view Nearest(std::string_view name, const HostAbi& abi) {
  constexpr size_t kFarthest = 6;
  std::vector<std::string_view> known;
  for (const AbiSymbol& symbol : abi.symbols) {
    if (symbol.revision <= abi.revision) known.push_back(symbol.name);
  }
  return NearestName(name, known, kFarthest);
}

// "callout_on_process" for "_Z18callout_on_processP12callout_call"; "" if `name` is
// not a mangled function of a callout_ name.
std::string_view Unmangled(std::string_view name) {
  if (!TakePrefix(&name, "_Z")) return {};
  size_t size = 0;
  const auto [digits_end, error] = std::from_chars(name.data(), name.data() + name.size(), size);
  if (error != std::errc()) return {};
  name.remove_prefix(static_cast<size_t>(digits_end - name.data()));
  if (size > name.size() || !name.starts_with("callout_")) return {};
  return name.substr(0, size);
}

// What to do about an exported name that this host does not know.
std::string UnknownRemedy(std::string_view name, const HostAbi& abi) {
  const std::string_view nearest = Nearest(name, abi);
  return nearest.empty() ? "make it static, or use a newer host"
                         : fmt::format("did you mean {}?", nearest);
}

// "" if there is nothing strange about the exported name.
std::string StrangeName(std::string_view name, const HostAbi& abi) {
  if (const std::string_view plain = Unmangled(name);
      FindKnown(plain, abi) != nullptr || IsHookName(plain)) {
    return fmt::format(
        "it exports {} as a C++ function, which the host does not find; {}", Printable(plain),
        FindKnown(plain, abi) != nullptr ? "include <callout/plugin.h> or declare it extern \"C\""
                                         : UnknownRemedy(plain, abi));
  }
  if (!name.starts_with("callout_") || FindKnown(name, abi) != nullptr) return "";
  return fmt::format("it exports {}, which this host does not know; {}", Printable(name),
                     UnknownRemedy(name, abi));
}

// --- Required symbols ---

// The 32-bit number in the exported data `name`; nullopt if it does not exist.
absl::StatusOr<std::optional<uint32_t>> ReadNumber(const ElfImage& image, std::string_view name,
                                                   std::string_view macro) {
  const ElfSymbol* symbol = FindExported(image, name);
  if (symbol == nullptr) return std::nullopt;
  if (IsCode(*symbol) || symbol->type == STT_TLS) {
    return Refuse("its {} is not plain data; define it by {} and nothing else", name, macro);
  }
  const std::optional<uint32_t> number = image.ReadUint32(symbol->value);
  if (!number.has_value()) {
    return Refuse("its {} lies outside the file's segments; build or copy it again", name);
  }
  return number;
}

absl::Status CheckVersion(const ElfImage& image, PreflightResult* result) {
  const auto version = ReadNumber(image, kVersionSymbol, "CALLOUT_PLUGIN();");
  if (!version.ok()) return version.status();
  if (!version->has_value()) {
    return Refuse(
        "it exports no {}, so it is no callout plugin or hides its symbols; add "
        "CALLOUT_PLUGIN(); (C), CALLOUT_PLUGIN_CLASS (C++) or #[callout::plugin] (Rust) to one "
        "source file, or build it with callout-build (Go)",
        kVersionSymbol);
  }
  result->abi_version = **version;
  if (result->abi_version < CALLOUT_ABI_VERSION_MIN || result->abi_version > CALLOUT_ABI_VERSION) {
    return Refuse(
        "it was built for ABI version {} and this host has version {}; build it with the "
        "<callout/plugin.h> of this host",
        result->abi_version, CALLOUT_ABI_VERSION);
  }
  return absl::OkStatus();
}

// The revision that the plugin was built for, and the oldest one that it needs.
absl::Status CheckRevision(const ElfImage& image, const HostAbi& abi, PreflightResult* result,
                           std::optional<uint32_t>* minimum) {
  const auto revision = ReadNumber(image, kRevisionSymbol, "CALLOUT_PLUGIN();");
  if (!revision.ok()) return revision.status();
  result->abi_revision = revision->value_or(1);
  auto declared = ReadNumber(image, kMinimumSymbol, "CALLOUT_PLUGIN_NEEDS(REVISION);");
  if (!declared.ok()) return declared.status();
  *minimum = *declared;
  if (minimum->value_or(0) > abi.revision) {
    return Refuse(
        "it needs revision {} of ABI version {} and this host has revision {}; use a newer host",
        **minimum, CALLOUT_ABI_VERSION, abi.revision);
  }
  return absl::OkStatus();
}

// Refuses hooks that this host would never call: they may be filters.
absl::Status CheckHookNames(const ElfImage& image, const HostAbi& abi,
                            std::optional<uint32_t> minimum, PreflightResult* result) {
  const bool may_do_without = result->abi_revision > abi.revision && minimum.has_value();
  for (const ElfSymbol& symbol : image.symbols()) {
    if (!symbol.exported()) continue;
    const AbiSymbol* known = FindKnown(symbol.name, abi);
    if (known != nullptr && known->revision > result->abi_revision) {
      return Refuse(
          "it exports {} of revision {} and says that it was built for revision {}; build all of "
          "it with one <callout/plugin.h>",
          symbol.name, known->revision, result->abi_revision);
    }
    if (known != nullptr) continue;
    const bool is_mangled_hook = IsHookName(Unmangled(symbol.name));
    if (!is_mangled_hook && !IsHookName(symbol.name)) continue;
    std::string strange = StrangeName(symbol.name, abi);
    if (may_do_without && !is_mangled_hook) {
      result->warnings.push_back(fmt::format(
          "it was built for revision {} of the ABI and this host has revision {}: {} is not called",
          result->abi_revision, abi.revision, Printable(symbol.name)));
    } else if (result->abi_revision > abi.revision && !is_mangled_hook) {
      return Refuse(
          "it exports {} and was built for revision {} of the ABI, and this host has revision {}; "
          "use a newer host or, if it can do without, add CALLOUT_PLUGIN_NEEDS({});",
          Printable(symbol.name), result->abi_revision, abi.revision, abi.revision);
    } else {
      return absl::InvalidArgumentError(strange);
    }
  }
  return absl::OkStatus();
}

// struct_size is that of the header it was compiled with; the size is that in the file.
absl::Status CheckInfo(const ElfImage& image, const ElfSymbol& symbol, PreflightResult* result) {
  if (symbol.type != STT_OBJECT && symbol.type != STT_NOTYPE) {
    return Refuse("its {} is not plain data; define it as a constant callout_plugin_info_t",
                  kInfoSymbol);
  }
  const uint32_t struct_size = image.ReadUint32(symbol.value).value_or(0);
  if (struct_size < sizeof(struct_size)) {
    result->warnings.push_back(
        "its callout_plugin_info has no struct_size, so it is not read; set it to "
        "sizeof(callout_plugin_info_t)");
  } else if (struct_size > symbol.size) {
    return Refuse(
        "its {} has {} bytes and a struct_size of {}; set it to sizeof(callout_plugin_info_t)",
        kInfoSymbol, symbol.size, struct_size);
  }
  return absl::OkStatus();
}

absl::Status CheckDestroy(const ElfImage& image, PreflightResult* result) {
  const bool plain = FindExported(image, "callout_plugin_destroy") != nullptr;
  const bool with_args = FindExported(image, "callout_plugin_destroy_with") != nullptr;
  if (plain && with_args) {
    return Refuse(
        "it exports callout_plugin_destroy and callout_plugin_destroy_with, of which one is "
        "called; export only one");
  }
  if ((plain || with_args) && FindExported(image, "callout_plugin_create") == nullptr) {
    result->warnings.push_back(
        fmt::format("it exports {} without callout_plugin_create, so destroy gets NULL; export "
                    "both or neither",
                    plain ? "callout_plugin_destroy" : "callout_plugin_destroy_with"));
  }
  return absl::OkStatus();
}

// Why none of the exported symbols is a hook; the end of a message.
std::string NoHookRemedy(const ElfImage& image, const HostAbi& abi) {
  for (const ElfSymbol& symbol : image.symbols()) {
    if (!symbol.exported()) continue;
    if (std::string strange = StrangeName(symbol.name, abi); !strange.empty()) return strange;
  }
  return "export at least one, such as callout_on_request_headers";
}

absl::Status CheckHooks(const ElfImage& image, const HostAbi& abi, PreflightResult* result) {
  bool has_message_hook = false;
  std::string_view stream_hook;
  for (const ElfSymbol& symbol : image.symbols()) {
    const AbiSymbol* known = symbol.exported() ? FindKnown(symbol.name, abi) : nullptr;
    if (known == nullptr) continue;
    if (symbol.name == kInfoSymbol) {
      if (absl::Status status = CheckInfo(image, symbol, result); !status.ok()) return status;
    }
    if (known->kind == AbiSymbol::Kind::kData) continue;
    if (symbol.type == STT_OBJECT || symbol.type == STT_TLS) {
      return Refuse("its {} is data; define it as a function", symbol.name);
    }
    has_message_hook = has_message_hook || known->kind == AbiSymbol::Kind::kMessageHook;
    if (symbol.name.starts_with("callout_on_stream_")) stream_hook = symbol.name;
  }
  if (!has_message_hook && !stream_hook.empty()) {
    return Refuse(
        "it exports {} but no hook that gets a message, so it would never be called; "
        "export one, such as callout_on_request_headers",
        stream_hook);
  }
  if (!has_message_hook) {
    return Refuse("it exports no callout_on_* hook that this host knows; {}",
                  NoHookRemedy(image, abi));
  }
  return CheckDestroy(image, result);
}

// --- Forbidden contents ---

// "32" for "libprotobuf.so.32" and "libprotobuf-lite.so.32"; nullopt for others.
std::optional<std::string_view> ProtobufVersion(std::string_view library) {
  if (!TakePrefix(&library, "libprotobuf.so") && !TakePrefix(&library, "libprotobuf-lite.so")) {
    return std::nullopt;
  }
  TakePrefix(&library, ".");
  return library;
}

// True for the mangled name (Itanium C++ ABI) of something in the namespace google::protobuf or
// envoy.
bool IsProtobufClass(std::string_view name) {
  if (!TakePrefix(&name, "_Z")) return false;
  for (const std::string_view special : {"GV", "GR", "TV", "TT", "TI", "TS", "TH", "TW"}) {
    if (TakePrefix(&name, special)) break;
  }
  while (TakePrefix(&name, "Z")) {
  }  // local to a function of …
  if (!TakePrefix(&name, "N")) return false;
  name.remove_prefix(std::min(name.find_first_not_of("rVKRO"), name.size()));
  return name.starts_with("6google8protobuf") || name.starts_with("5envoy");
}

absl::Status CheckProtobuf(const ElfImage& image, const AlreadyLoaded& loaded) {
  for (const ElfSymbol& symbol : image.symbols()) {
    if (symbol.name == kRegistersDescriptors) {
      return Refuse(
          "it contains protobuf code generated for the full runtime, which aborts the process "
          "when a second copy is loaded; generate it for the lite runtime (protoc "
          "--cpp_out=lite:DIR) or use <callout/message.h>");
    }
  }
  for (const ElfSymbol& symbol : image.symbols()) {
    if (symbol.exported() && IsProtobufClass(symbol.name)) {
      return Refuse(
          "it exports protobuf classes ({}), which would be mixed up with those of other "
          "plugins; compile it with -fvisibility=hidden -fvisibility-inlines-hidden "
          "-fno-gnu-unique, or link it with -Wl,--exclude-libs,ALL and the allowlist "
          "callout_*",
          Printable(symbol.name));
    }
  }
  for (const std::string_view needed : image.needed()) {
    const std::optional<std::string_view> version = ProtobufVersion(needed);
    if (!version.has_value()) continue;
    for (const std::string& library : loaded.libraries) {
      const std::optional<std::string_view> present = ProtobufVersion(library);
      if (present.has_value() && *present != *version) {
        return Refuse(
            "it needs {} and the process runs on {}, whose symbols have the same names; build it "
            "with that protobuf, or link its own statically and hidden",
            Printable(needed), library);
      }
    }
  }
  return absl::OkStatus();
}

bool HasGoRuntime(const ElfImage& image) {
  if (image.HasNote("Go", kGoBuildIdNote)) return true;
  return std::any_of(kGoSymbols.begin(), kGoSymbols.end(),
                     [&](std::string_view name) { return FindExported(image, name) != nullptr; });
}

absl::Status CheckRuntimes(const ElfImage& image, const AlreadyLoaded& loaded,
                           PreflightResult* result) {
  result->has_go_runtime = HasGoRuntime(image);
  if (result->has_go_runtime && !loaded.go_plugin.empty()) {
    return Refuse(
        "it brings a second Go runtime into the process, which has that of {} and can have only "
        "one; run it in a host of its own or, to replace that plugin, restart the host by draining "
        "it",
        loaded.go_plugin);
  }
  for (const std::string_view needed : image.needed()) {
    for (const std::string_view sanitizer : kSanitizers) {
      const auto is_runtime = [&](std::string_view file) { return file.starts_with(sanitizer); };
      if (is_runtime(needed) &&
          std::none_of(loaded.libraries.begin(), loaded.libraries.end(), is_runtime)) {
        return Refuse(
            "it needs {}, which ends a process that did not start with it; build it without "
            "that -fsanitize option, or the host with it",
            Printable(needed));
      }
    }
  }
  if (image.has_executable_stack()) {
    return Refuse(
        "it asks for an executable stack, which would make every stack of the host executable; "
        "link it with -Wl,-z,noexecstack and use no nested functions");
  }
  return absl::OkStatus();
}

// --- Warnings ---

void WarnOfUniqueSymbols(const ElfImage& image, PreflightResult* result) {
  std::string_view example;
  size_t count = 0;
  for (const ElfSymbol& symbol : image.symbols()) {
    if (symbol.binding != STB_GNU_UNIQUE || !symbol.exported()) continue;
    if (count++ == 0) example = symbol.name;
  }
  if (count == 0) return;
  result->warnings.push_back(fmt::format(
      "it exports {} GNU_UNIQUE symbol{} ({}), which all plugins and generations share; compile it "
      "with -fno-gnu-unique and -fvisibility=hidden",
      count, count == 1 ? "" : "s", Printable(example)));
}

void Warn(const ElfImage& image, const HostAbi& abi, PreflightResult* result) {
  for (const ElfSymbol& symbol : image.symbols()) {
    // Unknown hooks are refused, or have a warning already.
    if (!symbol.exported() || IsHookName(symbol.name)) continue;
    std::string strange = StrangeName(symbol.name, abi);
    if (!strange.empty()) result->warnings.push_back(std::move(strange));
  }
  WarnOfUniqueSymbols(image, result);
  // A process loads one Go plugin, once.
  if (const uint64_t bytes = image.static_tls_bytes(); bytes > 0 && !HasGoRuntime(image)) {
    result->warnings.push_back(fmt::format(
        "it needs {} bytes of static TLS (its thread-locals use the initial-exec model), which a "
        "process has few of and gives to each version it loads; after some reloads restart the "
        "host by draining it, or compile the plugin with -ftls-model=global-dynamic",
        bytes));
  }
  if (image.has_text_relocations()) {
    result->warnings.push_back(
        "it has text relocations, which make its code writable while it is loaded; compile every "
        "source with -fPIC");
  }
}

}  // namespace

const ElfSymbol* FindExported(const ElfImage& image, std::string_view name) {
  for (const ElfSymbol& symbol : image.symbols()) {
    if (symbol.name == name && symbol.exported()) return &symbol;
  }
  return nullptr;
}

std::span<const AbiSymbol> HostAbi::Symbols() { return kSymbols; }

absl::StatusOr<PreflightResult> Preflight(const ElfImage& image, const AlreadyLoaded& loaded,
                                          const HostAbi& abi) {
  PreflightResult result;
  std::optional<uint32_t> minimum;
  if (absl::Status status = CheckVersion(image, &result); !status.ok()) return status;
  if (absl::Status status = CheckRevision(image, abi, &result, &minimum); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckHooks(image, abi, &result); !status.ok()) return status;
  if (absl::Status status = CheckHookNames(image, abi, minimum, &result); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckProtobuf(image, loaded); !status.ok()) return status;
  if (absl::Status status = CheckRuntimes(image, loaded, &result); !status.ok()) return status;
  Warn(image, abi, &result);
  return result;
}

}  // namespace callout::host
