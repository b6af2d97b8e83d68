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
constexpr std::string_view kInfoSymbol = "callout_plugin_info";

// Hooks that are given a message: a plugin without one is never called.
constexpr std::array<std::string_view, 7> kMessageHooks = {
    "callout_on_process",          "callout_on_request_headers", "callout_on_response_headers",
    "callout_on_request_body",     "callout_on_response_body",   "callout_on_request_trailers",
    "callout_on_response_trailers"};
constexpr std::array<std::string_view, 5> kOtherHooks = {
    "callout_plugin_create", "callout_plugin_destroy", "callout_on_stream_open",
    "callout_on_stream_close", "callout_on_stream_cancel"};

// The constructor that registers a generated file's descriptors. They may be
// registered once in a process; the second time protobuf aborts it.
constexpr std::string_view kRegistersDescriptors =
    "_ZN6google8protobuf8internal20AddDescriptorsRunnerC1EPKNS1_15DescriptorTableE";

constexpr uint32_t kGoBuildIdNote = 4;
// Exported by what cgo compiles into every shared object with a Go runtime.
constexpr std::array<std::string_view, 3> kGoSymbols = {"_cgo_topofstack", "crosscall2",
                                                        "_cgo_panic"};

// Their runtimes end a process that has started without them.
constexpr std::array<std::string_view, 4> kSanitizers = {"libasan.so", "libtsan.so", "libhwasan.so",
                                                         "liblsan.so"};

template <typename... Args>
absl::Status Refuse(fmt::format_string<Args...> format, Args&&... args) {
  return absl::InvalidArgumentError(fmt::format(format, std::forward<Args>(args)...));
}

template <typename Names>
bool Contains(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
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

bool IsKnown(std::string_view name) {
  return name == kVersionSymbol || name == kInfoSymbol || Contains(kMessageHooks, name) ||
         Contains(kOtherHooks, name);
}

// A symbol's name for a message.
std::string Printable(std::string_view name) {
  constexpr size_t kBytesMax = 128;
  return EscapeControls(name.substr(0, kBytesMax)) + (name.size() > kBytesMax ? "…" : "");
}

// --- Names that are almost right ---

// The known name that `name` may have been meant to be; "" if it is far from all.
std::string_view Nearest(std::string_view name) {
  constexpr size_t kFarthest = 6;
  std::vector<std::string_view> known(kMessageHooks.begin(), kMessageHooks.end());
  known.insert(known.end(), kOtherHooks.begin(), kOtherHooks.end());
  known.insert(known.end(), {kVersionSymbol, kInfoSymbol});
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

// "" if there is nothing strange about the exported name.
std::string StrangeName(std::string_view name) {
  if (const std::string_view plain = Unmangled(name); IsKnown(plain)) {
    return fmt::format(
        "it exports {} as a C++ function, which the host does not find; include "
        "<callout/plugin.h> or declare it extern \"C\"",
        plain);
  }
  if (!name.starts_with("callout_") || IsKnown(name)) return "";
  const std::string_view nearest = Nearest(name);
  if (nearest.empty()) {
    return fmt::format(
        "it exports {}, which this host does not know; make it static, or use a newer host",
        Printable(name));
  }
  return fmt::format("it exports {}, which this host does not know; did you mean {}?",
                     Printable(name), nearest);
}

// --- What must be there ---

absl::Status CheckVersion(const ElfImage& image, PreflightResult* result) {
  const ElfSymbol* symbol = FindExported(image, kVersionSymbol);
  if (symbol == nullptr) {
    return Refuse(
        "it exports no {}, so it is no callout plugin or hides its symbols; add "
        "CALLOUT_PLUGIN(); to one source file",
        kVersionSymbol);
  }
  if (IsCode(*symbol) || symbol->type == STT_TLS) {
    return Refuse("its {} is no plain data; define it by CALLOUT_PLUGIN(); and nothing else",
                  kVersionSymbol);
  }
  const std::optional<uint32_t> version = image.ReadUint32(symbol->value);
  if (!version.has_value()) {
    return Refuse("its {} lies outside the file's segments; build or copy it again",
                  kVersionSymbol);
  }
  if (*version != CALLOUT_ABI_VERSION) {
    return Refuse(
        "it was built for ABI version {} and this host has version {}; build it with the "
        "<callout/plugin.h> of this host",
        *version, CALLOUT_ABI_VERSION);
  }
  result->abi_version = *version;
  return absl::OkStatus();
}

// Why none of the exported symbols is a hook, for the end of a message.
std::string NoHookRemedy(const ElfImage& image) {
  for (const ElfSymbol& symbol : image.symbols()) {
    if (!symbol.exported()) continue;
    if (std::string strange = StrangeName(symbol.name); !strange.empty()) return strange;
  }
  return "export at least one, such as callout_on_request_headers";
}

absl::Status CheckHooks(const ElfImage& image, PreflightResult* result) {
  bool has_message_hook = false;
  std::string_view stream_hook;
  for (const ElfSymbol& symbol : image.symbols()) {
    if (!symbol.exported() || !IsKnown(symbol.name) || symbol.name == kVersionSymbol) continue;
    const bool is_data = symbol.type == STT_OBJECT || symbol.type == STT_TLS;
    if (symbol.name == kInfoSymbol) {
      if (is_data && symbol.type != STT_TLS) continue;
      return Refuse("its {} is no plain data; define it as a constant callout_plugin_info_t",
                    kInfoSymbol);
    }
    if (is_data) return Refuse("its {} is data; define it as a function", symbol.name);
    has_message_hook = has_message_hook || Contains(kMessageHooks, symbol.name);
    if (symbol.name.starts_with("callout_on_stream_")) stream_hook = symbol.name;
  }
  if (!has_message_hook && !stream_hook.empty()) {
    return Refuse(
        "it exports {} but no hook that is given a message, so it would never be called; "
        "export one, such as callout_on_request_headers",
        stream_hook);
  }
  if (!has_message_hook) {
    return Refuse("it exports no callout_on_* hook that this host knows; {}", NoHookRemedy(image));
  }
  if (FindExported(image, "callout_plugin_destroy") != nullptr &&
      FindExported(image, "callout_plugin_create") == nullptr) {
    result->warnings.push_back(
        "it exports callout_plugin_destroy without callout_plugin_create, so destroy is given "
        "NULL; export both or neither");
  }
  return absl::OkStatus();
}

// --- What must not be there ---

// "32" for "libprotobuf.so.32" and "libprotobuf-lite.so.32"; nullopt for others.
std::optional<std::string_view> ProtobufVersion(std::string_view library) {
  if (!TakePrefix(&library, "libprotobuf.so") && !TakePrefix(&library, "libprotobuf-lite.so")) {
    return std::nullopt;
  }
  TakePrefix(&library, ".");
  return library;
}

// True for what belongs to a class, function or variable of namespace
// google::protobuf or envoy, by the Itanium C++ ABI's mangling.
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

// --- What is worth a warning ---

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

void Warn(const ElfImage& image, PreflightResult* result) {
  for (const ElfSymbol& symbol : image.symbols()) {
    if (!symbol.exported()) continue;
    std::string strange = StrangeName(symbol.name);
    if (!strange.empty()) result->warnings.push_back(std::move(strange));
  }
  WarnOfUniqueSymbols(image, result);
  if (const uint64_t bytes = image.static_tls_bytes(); bytes > 0) {
    result->warnings.push_back(fmt::format(
        "it needs {} bytes of static TLS (its thread-locals use the initial-exec model), which a "
        "process has few of and gives to each version it loads; after some reloads restart the "
        "host "
        "by draining it, or compile the plugin with -ftls-model=global-dynamic",
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

absl::StatusOr<PreflightResult> Preflight(const ElfImage& image, const AlreadyLoaded& loaded) {
  PreflightResult result;
  if (absl::Status status = CheckVersion(image, &result); !status.ok()) return status;
  if (absl::Status status = CheckHooks(image, &result); !status.ok()) return status;
  if (absl::Status status = CheckProtobuf(image, loaded); !status.ok()) return status;
  if (absl::Status status = CheckRuntimes(image, loaded, &result); !status.ok()) return status;
  Warn(image, &result);
  return result;
}

}  // namespace callout::host
