// SPDX-License-Identifier: Apache-2.0

// The file of versions that were withdrawn (--state_dir): any bytes, as a text and as a file.
//
// Readers: host/reload/withdrawn_versions.cc
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "host/base/utf8.h"
#include "host/reload/withdrawn_versions.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

using Versions = WithdrawnVersions;

bool IsPlainLine(const std::string& text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  }
  return IsUtf8(text);
}

std::string CheckText(const std::string& text) {
  const Versions::Contents contents = Versions::Parse(text);
  if (!IsPlainLine(contents.problem)) return "an error is more than a line of text";
  if (contents.entries.size() > Versions::kPluginsMax) return "more entries than allowed";
  for (const auto& [plugin, entry] : contents.entries) {
    if (plugin != entry.plugin) return "an entry of another plugin";
    if (!IsPlainLine(entry.why)) return "a reason is more than a line of text: " + entry.why;
  }
  // What is understood outlives a restart.
  const Versions::Contents again = Versions::Parse(Versions::Format(contents.entries));
  if (!again.problem.empty()) return "what was written is not understood: " + again.problem;
  if (again.entries.size() != contents.entries.size()) return "entries are lost";
  for (const auto& [plugin, entry] : contents.entries) {
    const auto found = again.entries.find(plugin);
    if (found == again.entries.end() || !(found->second.digest == entry.digest)) {
      return "an entry is another one when it is read again";
    }
  }
  return "";
}

// A directory for the files of all runs.
class Directory {
 public:
  Directory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "callout-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) abort();
    path_ = pattern;
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  // Without a text there is no file; nor is one that was put aside.
  void Put(const std::string& text) const {
    std::filesystem::create_directory(path_);
    std::filesystem::remove_all(path_ + "/withdrawn.json.unreadable");
    std::filesystem::remove_all(file());
    if (!text.empty()) std::ofstream(file(), std::ios::binary) << text;
  }
  std::string file() const { return path_ + "/withdrawn.json"; }

 private:
  std::string path_;
};

// A host that finds the file, withdraws a version, and is started again, while another host writes.
std::string UseFile(const std::string& text, bool has_other) {
  static const Directory directory;
  directory.Put(text);
  auto versions = Versions::Open(directory.path());
  if (!versions.ok()) return "a file keeps the host from starting: " + versions.status().ToString();
  if (!IsPlainLine(versions->problem())) return "a problem is more than a line of text";
  GenerationSource source;
  source.sha256 = "code";
  source.config = text;
  const VersionDigest digest = DigestOf(source);
  versions->Set({.plugin = "own", .digest = digest, .generation = 1, .why = text});
  versions->Remove("other");
  if (has_other) directory.Put(text);
  if (!versions->Save().ok()) return "a version cannot be remembered";
  const auto again = Versions::Open(directory.path());
  if (!again.ok() || !again->problem().empty()) return "what was saved cannot be read";
  // Not if there are too many.
  if (versions->FindAny("own") == nullptr) return "";
  if (again->Find("own", digest) == nullptr) return "a version that was withdrawn may serve again";
  if (again->FindAny("other") != nullptr) return "a version that was let go is withdrawn";
  return "";
}

// A directory in the place of the file, and none in the place of the directory.
std::string UseNoFile() {
  static const Directory directory;
  directory.Put("");
  std::filesystem::create_directory(directory.file());
  auto versions = Versions::Open(directory.path());
  if (!versions.ok()) return "a directory keeps the host from starting";
  if (!IsPlainLine(versions->problem()) || versions->problem().empty()) {
    return "a problem is not one line of text";
  }
  versions->Set({.plugin = "own", .digest = DigestOf({}), .generation = 1, .why = ""});
  std::filesystem::remove_all(directory.path());
  const absl::Status status = versions->Save();
  return !status.ok() && IsPlainLine(std::string(status.message())) ? "" : "no error, or lines";
}

// More than a host remembers.
std::string Many(const std::string& why) {
  std::string text = R"({"format": 1, "withdrawn": [)";
  for (size_t i = 0; i <= Versions::kPluginsMax; ++i) {
    text += (i > 0 ? ", " : "") + (R"({"plugin": ")" + std::to_string(i)) +
            R"(", "sha256": "a", "inputs_sha256": "b", "generation": 1, "since": 1, "why": ")" +
            why + "\"}";
  }
  return text + "]}";
}

FUZZ_TARGET(state_file, .rounds = 20000, .bytes = 60) {
  // Files take a hundred times as long.
  const unsigned kind = choices.Next(256);
  const std::string text = choices.Rest();
  if (kind == 255) {
    const absl::Status status = Versions::Open("/missing/directory").status();
    return IsPlainLine(std::string(status.message())) && !status.ok() ? "" : "no error, or lines";
  }
  if (kind == 252) return UseNoFile();
  if (kind == 251) return CheckText(Many(text.substr(0, 8)));
  return kind >= 253 ? UseFile(text, kind == 253) : CheckText(text);
}

}  // namespace
}  // namespace callout::host
