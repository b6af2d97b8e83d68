// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/loader.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>

#include <algorithm>
#include <boost/dll/shared_library.hpp>
#include <cstring>
#include <exception>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "host/base/file.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/plugin/borrowed_symbol.h"
#include "host/plugin/elf_image.h"
#include "host/plugin/elf_preflight.h"
#include "host/plugin/thread_watch.h"

namespace callout::host {

namespace {

using boost::dll::shared_library;

// The identity of a file for the dynamic linker, which knows libraries by inode.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileIdentity&) const = default;
};

struct PluginFile {
  std::string bytes;
  FileIdentity identity;
};

// What this process has loaded; guarded by `mutex`. Never deleted, since it must outlive every
// plugin.
struct Loads {
  std::mutex mutex;
  std::vector<std::unique_ptr<shared_library>> libraries;  // never closed
  std::string go_plugin;
  FileIdentity go_identity;
};

Loads& GetLoads() {
  static auto* const loads = new Loads;
  return *loads;
}

absl::Status Failed(std::string_view path, const absl::Status& reason) {
  return absl::Status(reason.code(), fmt::format("cannot load plugin {}: {}", EscapeControls(path),
                                                 std::string(reason.message())));
}

// --- Reading the file ---

absl::Status CannotRead(const absl::Status& why) {
  if (absl::IsInvalidArgument(why)) {
    return absl::InvalidArgumentError(
        fmt::format("{}; give the path of a shared object", MessageOf(why)));
  }
  const char* remedy =
      absl::IsNotFound(why) ? "check the path" : "see that the host's user may read it";
  return absl::Status(why.code(),
                      fmt::format("it cannot be read ({}); {}", MessageOf(why), remedy));
}

// An error of ElfImage as a sentence.
absl::Status OfImage(const absl::Status& why) {
  return absl::Status(why.code(), fmt::format("it {}", MessageOf(why)));
}

absl::StatusOr<PluginFile> ReadPluginFile(const std::string& path) {
  if (path.find('\0') != path.npos) {
    return absl::InvalidArgumentError("the path contains a NUL; check the path");
  }
  // Checks the head first, so that a large file that is no shared object is not read.
  absl::StatusOr<FileContents> head = ReadStart(path, sizeof(Elf64_Ehdr));
  if (!head.ok()) return CannotRead(head.status());
  if (absl::Status status = ElfImage::CheckHead(head->bytes); !status.ok()) return OfImage(status);
  if (static_cast<uint64_t>(head->stamp.size) > kPluginBytesMax) {
    return absl::InvalidArgumentError(fmt::format("it has {} bytes, over the limit of {}; strip it",
                                                  head->stamp.size, kPluginBytesMax));
  }
  PluginFile read;
  read.identity = {head->stamp.device, head->stamp.inode};
  absl::StatusOr<std::string> bytes = ReadUnchanged(path, head->stamp, kPluginBytesMax);
  if (!bytes.ok()) return CannotRead(bytes.status());
  read.bytes = *std::move(bytes);
  return read;
}

AlreadyLoaded ListLoaded(const Loads& loads, const FileIdentity& candidate) {
  AlreadyLoaded loaded;
  const auto add = [](dl_phdr_info* info, size_t, void* libraries) {
    const std::string_view path = info->dlpi_name;
    if (!path.empty()) {
      static_cast<std::vector<std::string>*>(libraries)->emplace_back(
          path.substr(path.rfind('/') + 1));
    }
    return 0;
  };
  dl_iterate_phdr(add, &loaded.libraries);
  // The same file again is the same runtime.
  if (candidate != loads.go_identity) loaded.go_plugin = loads.go_plugin;
  return loaded;
}

// --- Loading ---

std::string CurrentException() {
  try {
    std::rethrow_exception(std::current_exception());
  } catch (const std::exception& exception) {
    return EscapeControls(exception.what());
  } catch (...) {
    return "no std::exception";
  }
}

// While it lives, std::terminate on its thread logs which plugin was being loaded. An exception in
// a constructor leads there: dlopen is declared not to throw, and catching the exception would
// leave the dynamic linker locked.
class TerminationNote {
 public:
  explicit TerminationNote(const std::string& path)
      : previous_handler_(std::set_terminate(&OnTerminate)) {
    loading_ = &path;
    g_handler = previous_handler_;
  }
  ~TerminationNote() {
    loading_ = nullptr;
    std::set_terminate(previous_handler_);
  }
  TerminationNote(const TerminationNote&) = delete;
  TerminationNote& operator=(const TerminationNote&) = delete;

 private:
  [[noreturn]] static void OnTerminate() {
    if (loading_ != nullptr) {
      LogText(LogLevel::kError,
              fmt::format("cannot load plugin {}: one of its constructors threw an exception ({}), "
                          "which ends the process; catch it there",
                          *loading_, CurrentException()));
    }
    if (g_handler != nullptr) g_handler();
    std::abort();
  }

  static inline thread_local const std::string* loading_ = nullptr;
  static inline std::terminate_handler g_handler = nullptr;
  const std::terminate_handler previous_handler_;
};

// Boost.DLL puts dlerror's text into a text of its own.
std::string_view DlerrorText(std::string_view what, const std::string& path) {
  constexpr std::string_view kBefore = "(dlerror system message: ";
  if (const size_t start = what.find(kBefore); start != what.npos) {
    what.remove_prefix(start + kBefore.size());
    what = what.substr(0, what.rfind("): "));
  }
  if (what.starts_with(path + ": ")) what.remove_prefix(path.size() + 2);
  return what;
}

std::string_view LoadRemedy(std::string_view error) {
  const auto says = [error](std::string_view text) { return error.find(text) != error.npos; };
  if (says("undefined symbol")) {
    return "link what defines it into the plugin (-Wl,-z,defs finds this when linking)";
  }
  if (says("cannot open shared object file")) {
    return "install that library, or link it statically";
  }
  if (says("version `")) return "build it on this system or an older one";
  if (says("static TLS")) {
    return "the process has no static TLS left for a plugin with initial-exec thread-locals; "
           "restart "
           "the host by draining it, or build the plugin with -ftls-model=global-dynamic";
  }
  return "run the host with LD_DEBUG=all for details";
}

// What Boost.DLL says of a failure. Not to throw is what ends the process at a constructor's
// exception, wherever the compiler would let it pass.
std::optional<std::string> LoadOrFail(shared_library* library, const std::string& path,
                                      boost::dll::load_mode::type mode) noexcept {
  try {
    library->load(path, mode);
  } catch (const boost::system::system_error& failure) {
    return failure.what();
  } catch (...) {  // so that there is a current exception to be named
    std::terminate();
  }
  return std::nullopt;
}

absl::StatusOr<shared_library*> Load(const std::string& path, const std::string& original,
                                     Loads* loads) {
  // dlopen searches the library path for a name without a slash.
  std::error_code error;
  const std::string absolute = std::filesystem::absolute(path, error).string();
  if (error) return absl::InvalidArgumentError(error.message());
  // Boost.DLL knows no RTLD_NODELETE, but passes bits on. Without it, closing a
  // dependency's last user would unmap code that exit handlers still call.
  const auto mode = static_cast<boost::dll::load_mode::type>(RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  auto library = std::make_unique<shared_library>();
  const TerminationNote note(original);
  if (const auto failure = LoadOrFail(library.get(), absolute, mode)) {
    const std::string_view text = DlerrorText(*failure, absolute);
    return absl::InvalidArgumentError(
        fmt::format("the dynamic linker says: {}; {}", EscapeControls(text), LoadRemedy(text)));
  }
  loads->libraries.push_back(std::move(library));
  return loads->libraries.back().get();
}

// --- What the plugin exports ---

// Finds symbols of the plugin itself: dlsym would search its dependencies too.
class Exports {
 public:
  Exports(const ElfImage& image, const shared_library& library)
      : image_(image), library_(library) {}

  void* Find(const char* name) const {
    if (FindExported(image_, name) == nullptr) return nullptr;
    return dlsym(library_.native(), name);
  }

 private:
  const ElfImage& image_;
  const shared_library& library_;
};

// The functions of Hooks, in the order of <callout/plugin.h>.
class HookBinder {
 public:
  HookBinder(const Exports& exports, Plugin::Fields* fields) : exports_(exports), fields_(fields) {}

  void BindAll() {
    Hooks* hooks = &fields_->hooks;
    Bind("callout_plugin_create", &hooks->plugin_create);
    Bind("callout_plugin_destroy", &hooks->plugin_destroy);
    Bind("callout_plugin_destroy_with", &hooks->plugin_destroy_with);
    Bind("callout_on_stream_open", &hooks->stream_open);
    Bind("callout_on_stream_close", &hooks->stream_close);
    Bind("callout_on_stream_cancel", &hooks->stream_cancel);
    Bind("callout_on_process", &hooks->on_process);
    Bind("callout_on_request_headers", &hooks->phases[CALLOUT_REQUEST_HEADERS]);
    Bind("callout_on_response_headers", &hooks->phases[CALLOUT_RESPONSE_HEADERS]);
    Bind("callout_on_request_body", &hooks->phases[CALLOUT_REQUEST_BODY]);
    Bind("callout_on_response_body", &hooks->phases[CALLOUT_RESPONSE_BODY]);
    Bind("callout_on_request_trailers", &hooks->phases[CALLOUT_REQUEST_TRAILERS]);
    Bind("callout_on_response_trailers", &hooks->phases[CALLOUT_RESPONSE_TRAILERS]);
    Bind("callout_on_check", &hooks->phases[PhaseSlot(CALLOUT_CHECK)]);
    Bind("callout_on_rate_limit", &hooks->phases[PhaseSlot(CALLOUT_RATE_LIMIT)]);
    Bind("callout_on_read_data", &hooks->phases[PhaseSlot(CALLOUT_READ_DATA)]);
    Bind("callout_on_write_data", &hooks->phases[PhaseSlot(CALLOUT_WRITE_DATA)]);
    Bind("callout_on_connection", &hooks->phases[PhaseSlot(CALLOUT_CONNECTION)]);
  }

 private:
  template <typename Hook>
  void Bind(const char* name, Hook* hook) {
    static_assert(std::is_pointer_v<Hook>);
    *hook = reinterpret_cast<Hook>(exports_.Find(name));
    if (*hook != nullptr) fields_->hook_names.emplace_back(name);
  }

  const Exports& exports_;
  Plugin::Fields* const fields_;
};

std::string InfoText(const char* text) {
  constexpr size_t kBytesMax = 256;
  return text == nullptr ? "" : EscapeControls({text, strnlen(text, kBytesMax)});
}

void TakeInfo(const Exports& exports, Plugin::Fields* fields) {
  const auto* info = static_cast<const callout_plugin_info_t*>(exports.Find("callout_plugin_info"));
  if (info == nullptr) return;
  if (CALLOUT_HAS(info, callout_plugin_info_t, name)) fields->info.name = InfoText(info->name);
  if (CALLOUT_HAS(info, callout_plugin_info_t, version)) {
    fields->info.version = InfoText(info->version);
  }
  if (CALLOUT_HAS(info, callout_plugin_info_t, description)) {
    fields->info.description = InfoText(info->description);
  }
}

// Cut at the symbol's size, and at the limit for pages.
void TakeConfigSchema(const ElfImage& image, const Exports& exports, Plugin::Fields* fields) {
  constexpr size_t kBytesMax = 65536;
  constexpr char kName[] = "callout_plugin_config_schema";
  const auto* schema = static_cast<const char*>(exports.Find(kName));
  if (schema == nullptr) return;
  const size_t bytes = std::min<size_t>(FindExported(image, kName)->size, kBytesMax);
  const size_t length = strnlen(schema, bytes);
  if (length == bytes) {
    fields->warnings.push_back(
        fmt::format("its {} has no NUL within its {} bytes, so it is not shown; define it as a "
                    "string of up to {} bytes",
                    kName, bytes, kBytesMax));
    return;
  }
  fields->config_schema = EscapeControls({schema, length});
}

std::string PluginName(const std::string& path) {
  std::string name = std::filesystem::path(path).filename().string();
  if (name.ends_with(".so")) name.resize(name.size() - 3);
  return EscapeControls(name);
}

absl::StatusOr<std::shared_ptr<const Plugin>> ReadCheckAndLoad(const std::string& path,
                                                               const std::string& original,
                                                               Loads* loads) {
  absl::StatusOr<PluginFile> file = ReadPluginFile(path);
  if (!file.ok()) return file.status();
  absl::StatusOr<ElfImage> image = ElfImage::Parse(file->bytes);
  if (!image.ok()) return OfImage(image.status());
  absl::StatusOr<PreflightResult> result = Preflight(*image, ListLoaded(*loads, file->identity));
  if (!result.ok()) return result.status();
  if (absl::Status status = CheckBorrowedSymbols(*image); !status.ok()) return status;
  const ThreadWatch threads;
  absl::StatusOr<shared_library*> library = Load(path, original, loads);
  if (!library.ok()) return library.status();
  // A Go runtime has threads of its own.
  if (const size_t started = threads.CountStarted(); started > 0 && !result->has_go_runtime) {
    result->warnings.push_back(fmt::format(
        "its constructors have started {} thread{}, also where the file is only checked, and "
        "nothing stops them; start threads in callout_plugin_create and join them in "
        "callout_plugin_destroy",
        started, started == 1 ? "" : "s"));
  }
  // Check again now that its libraries are loaded, too. None of its hooks has run.
  if (absl::Status status = CheckBorrowedSymbols(*image); !status.ok()) return status;
  if (result->has_go_runtime) {
    loads->go_plugin = EscapeControls(original);
    loads->go_identity = file->identity;
  }
  Plugin::Fields fields;
  fields.path = path;
  fields.name = PluginName(path);
  fields.abi_version = result->abi_version;
  fields.abi_revision = result->abi_revision;
  fields.warnings = std::move(result->warnings);
  const Exports exports(*image, **library);
  HookBinder(exports, &fields).BindAll();
  TakeInfo(exports, &fields);
  TakeConfigSchema(*image, exports, &fields);
  return std::make_shared<const Plugin>(std::move(fields));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Plugin>> LoadPlugin(const std::string& path,
                                                         const std::string& original) {
  Loads& loads = GetLoads();
  const std::lock_guard lock(loads.mutex);
  absl::StatusOr<std::shared_ptr<const Plugin>> plugin = ReadCheckAndLoad(path, original, &loads);
  return plugin.ok() ? std::move(plugin) : Failed(original, plugin.status());
}

}  // namespace callout::host
