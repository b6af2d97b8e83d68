// SPDX-License-Identifier: Apache-2.0

// What a host says at /plugins, and a directory of plugins that a test changes.
#ifndef CALLOUT_TESTS_RELOAD_PLUGINS_PAGE_H_
#define CALLOUT_TESTS_RELOAD_PLUGINS_PAGE_H_

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/host/sockets.h"
#include "tests/integration/test_host.h"

namespace callout::tests {

// The page /plugins.
nlohmann::json GetPlugins(const std::string& admin_address);
// The plugin of that name on the page; null if there is none.
nlohmann::json GetPlugin(const std::string& admin_address, const std::string& name);
// The value of a line of /metrics that begins so; 0 if there is none.
double GetMetric(const std::string& admin_address, const std::string& prefix);

// The process of each worker, by number, as of its last line in the host's log that says
// that it serves.
std::map<int, pid_t> WorkerProcesses(const std::string& log);

// A plugin of tests/reload by its name.
std::string ReloadPlugin(const std::string& name);
// One of tests/broken.
std::string BrokenPlugin(const std::string& name);

std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& bytes);

class PluginsDir {
 public:
  explicit PluginsDir(std::string path) : path_(std::move(path)) {
    std::filesystem::create_directories(path_);
  }

  // Writes beside, then renames into place.
  void Put(const std::string& name, const std::string& bytes) {
    WriteFile(Path("." + name), bytes);
    std::filesystem::rename(Path("." + name), Path(name));
  }
  void Remove(const std::string& name) { std::filesystem::remove(Path(name)); }
  std::string Path(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

// Of a process, in KiB: VmRSS and the like.
long ProcessStatus(pid_t pid, const std::string& field);
size_t CountLines(const std::string& path);
size_t CountDescriptors(pid_t pid);

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_RELOAD_PLUGINS_PAGE_H_
