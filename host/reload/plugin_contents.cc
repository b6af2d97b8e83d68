// SPDX-License-Identifier: Apache-2.0

#include "host/reload/plugin_contents.h"

#include <elf.h>
#include <fmt/format.h>

#include <utility>

#include "host/base/file_trust.h"
#include "host/base/sha256.h"
#include "host/base/status_text.h"
#include "host/plugin/elf_image.h"
#include "host/plugin/settings.h"

namespace callout::host {
namespace {

// Of larger files, the head is checked before the rest is read.
constexpr off_t kSmallBytes = off_t{1} << 20;

absl::Status CannotRead(const std::string& path, const absl::Status& why) {
  return absl::Status(why.code(), fmt::format("cannot read {}: {}", path, MessageOf(why)));
}

absl::Status CannotLoad(const std::string& path, absl::StatusCode code, std::string_view why) {
  return absl::Status(code, fmt::format("cannot load plugin {}: {}", path, why));
}

class Reader {
 public:
  Reader(const PluginFiles& files, const PluginStamps& stamps, const PluginFileRules& rules)
      : files_(files), stamps_(stamps), rules_(rules) {}

  absl::StatusOr<PluginContents> Read() {
    contents_.config = files_.config;
    absl::Status status = ReadSettings();
    if (!status.ok()) return status;
    InstanceSettings settings;
    if (!contents_.settings_text.empty()) {
      absl::StatusOr<InstanceSettings> parsed = ParseInstanceSettings(contents_.settings_text);
      if (!parsed.ok())
        return std::move(contents_);  // the caller parses them and reports the error
      settings = *std::move(parsed);
    }
    if (settings.disabled) return std::move(contents_);
    status = ReadText(files_.config_path, stamps_.config, &contents_.config);
    if (status.ok()) status = ReadCode();
    if (status.ok()) status = DigestWatched(std::move(settings.watch));
    if (!status.ok()) return status;
    return std::move(contents_);
  }

 private:
  // A file that was cut off must not count as absent: the plugin would serve with its defaults, a
  // shadow would decide, and one that is disabled would run.
  absl::Status ReadSettings() {
    const std::string& path = files_.settings_path;
    absl::Status status = ReadText(path, stamps_.settings, &contents_.settings_text);
    const bool exists = !path.empty() && !stamps_.settings.absent();
    if (!status.ok() || !exists || !contents_.settings_text.empty()) return status;
    return absl::InvalidArgumentError(fmt::format(
        "reading {}: the file is empty and not a JSON object; write the settings into it, or {{}} "
        "if there are none",
        path));
  }

  absl::Status CheckTrust(const std::string& path) {
    if (rules_.permissions == PluginPermissions::kOff) return absl::OkStatus();
    FileTrust trust = CheckFileTrust(path);
    if (!trust.refusal.empty() && rules_.permissions == PluginPermissions::kStrict) {
      return absl::PermissionDeniedError(
          fmt::format("{}, or give --plugin_permissions=warn", trust.refusal));
    }
    if (!trust.refusal.empty()) contents_.warnings.push_back(std::move(trust.refusal));
    for (std::string& warning : trust.warnings) {
      // Files beside each other have the same directory.
      bool known = false;
      for (const std::string& other : contents_.warnings) known = known || other == warning;
      if (!known) contents_.warnings.push_back(std::move(warning));
    }
    return absl::OkStatus();
  }

  absl::Status ReadText(const std::string& path, const FileStamp& stamp, std::string* text) {
    if (path.empty() || (files_.from_directory && stamp.absent())) return absl::OkStatus();
    if (absl::Status status = CheckRegular(stamp); !status.ok()) return CannotRead(path, status);
    if (absl::Status status = CheckTrust(path); !status.ok()) return CannotRead(path, status);
    absl::StatusOr<std::string> bytes = ReadUnchanged(path, stamp, kPluginFileBytesMax);
    if (!bytes.ok()) return CannotRead(path, bytes.status());
    *text = *std::move(bytes);
    return absl::OkStatus();
  }

  absl::Status ReadCode() {
    const std::string& path = files_.path;
    if (stamps_.code.absent()) {
      return CannotLoad(path, absl::StatusCode::kNotFound, "there is no such file; check the path");
    }
    absl::Status status = CheckRegular(stamps_.code);
    if (status.ok()) status = CheckTrust(path);
    if (status.ok()) status = CheckSize();
    if (!status.ok()) return CannotLoad(path, status.code(), MessageOf(status));
    absl::StatusOr<std::string> code = ReadUnchanged(path, stamps_.code, rules_.max_code_bytes);
    if (!code.ok()) return CannotRead(path, code.status());
    contents_.code = *std::move(code);
    contents_.sha256 = Sha256(contents_.code);
    return rules_.keys.empty() ? absl::OkStatus() : CheckSigned();
  }

  // What is verified are the bytes in memory, of which the private copy is made.
  absl::Status CheckSigned() {
    const absl::StatusOr<MinisignProof> proof = Prove();
    if (!proof.ok()) {
      // A signature that is being written is read again.
      const bool changing = absl::IsAborted(proof.status());
      return CannotLoad(files_.path,
                        changing ? proof.status().code() : absl::StatusCode::kPermissionDenied,
                        fmt::format("its signature {} {}; sign it with minisign -S -m {}, or give "
                                    "the key that has signed it (--plugin_keys)",
                                    files_.signature_path, MessageOf(proof.status()), files_.path));
    }
    contents_.signer = proof->key_id;
    return CheckSelfContained();
  }

  absl::StatusOr<MinisignProof> Prove() {
    if (stamps_.signature.absent()) return absl::NotFoundError("does not exist");
    absl::Status status = CheckRegular(stamps_.signature);
    if (!status.ok())
      return absl::PermissionDeniedError(fmt::format("cannot be read: {}", MessageOf(status)));
    const absl::StatusOr<std::string> text =
        ReadUnchanged(files_.signature_path, stamps_.signature, kMinisignSignatureBytesMax);
    if (!text.ok()) {
      return absl::Status(text.status().code(),
                          fmt::format("cannot be read: {}", MessageOf(text.status())));
    }
    return VerifyMinisign(contents_.code, *text, rules_.keys);
  }

  // The dynamic linker would load libraries from a run path or by a path, and nobody has verified
  // those. Filters replace symbols of the code that was verified, so they are refused under any
  // name. Files that are no ELF file are refused elsewhere.
  absl::Status CheckSelfContained() {
    const absl::StatusOr<ElfImage> image = ElfImage::Parse(contents_.code);
    if (!image.ok()) return absl::OkStatus();
    std::string_view found;
    for (const std::string_view path : image->run_paths()) found = path;
    for (const std::string_view name : image->needed()) {
      if (name.find('/') != name.npos) found = name;
    }
    if (!image->filters().empty()) {
      return CannotLoad(
          files_.path, absl::StatusCode::kPermissionDenied,
          fmt::format("with --plugin_keys it must not load the library '{}' as a filter "
                      "(DT_AUXILIARY or DT_FILTER), which no key has signed; link it without -f "
                      "and -F",
                      image->filters().front()));
    }
    if (found.empty()) return absl::OkStatus();
    return CannotLoad(
        files_.path, absl::StatusCode::kPermissionDenied,
        fmt::format("with --plugin_keys it must not load libraries from '{}', which no key has "
                    "signed; link them statically, or use those of the system",
                    found));
  }

  // Checks the head first, so that a large file that is no plugin is not read.
  absl::Status CheckSize() {
    const off_t size = stamps_.code.size;
    if (size > kSmallBytes) {
      absl::StatusOr<FileContents> start = ReadStart(files_.path, sizeof(Elf64_Ehdr));
      if (!start.ok()) return start.status();
      absl::Status status = ElfImage::CheckHead(start->bytes);
      if (!status.ok()) {
        return absl::Status(status.code(), fmt::format("it {}", MessageOf(status)));
      }
    }
    if (static_cast<uint64_t>(size) <= rules_.max_code_bytes) return absl::OkStatus();
    return absl::InvalidArgumentError(
        fmt::format("it has {} bytes, over the limit --max_plugin_file_bytes={}; strip it, or give "
                    "a higher limit",
                    size, rules_.max_code_bytes));
  }

  // The plugin reads these files itself. Their digest tells whether it has to read them again.
  absl::Status DigestWatched(std::vector<std::string> paths) {
    std::string digests;
    for (const std::string& path : paths) {
      const FileStamp stamp = StampOf(path);
      if (!stamp.absent()) {
        if (absl::Status status = CheckRegular(stamp); !status.ok()) {
          return CannotRead(path, status);
        }
        absl::StatusOr<std::string> bytes = ReadFile(path, kPluginFileBytesMax);
        if (!bytes.ok()) return CannotRead(path, bytes.status());
        digests += Sha256(*bytes);
      }
      digests += '\n';
    }
    if (!paths.empty()) contents_.watched_sha256 = Sha256(digests);
    contents_.watch = std::move(paths);
    return absl::OkStatus();
  }

  const PluginFiles& files_;
  const PluginStamps& stamps_;
  const PluginFileRules& rules_;
  PluginContents contents_;
};

}  // namespace

PluginStamps StampsOf(const PluginFiles& files) {
  PluginStamps stamps = {StampOf(files.path),
                         StampOf(files.config_path),
                         StampOf(files.settings_path),
                         StampOf(files.signature_path),
                         {}};
  for (const std::string& path : files.watch) stamps.watched.push_back(StampOf(path));
  return stamps;
}

absl::StatusOr<PluginContents> ReadContents(const PluginFiles& files, const PluginStamps& stamps,
                                            const PluginFileRules& rules) {
  return Reader(files, stamps, rules).Read();
}

}  // namespace callout::host
