// SPDX-License-Identifier: Apache-2.0

#include "plugins_page.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>

#include "tests/integration/http_get.h"

namespace callout::tests {
namespace {

std::string GetAdminPage(const std::string& address, const std::string& path) {
  const std::string answer = HttpGet(address, "GET", path);
  const size_t end = answer.find("\r\n\r\n");
  EXPECT_NE(end, answer.npos) << answer;
  return end == answer.npos ? "" : answer.substr(end + 4);
}

}  // namespace

nlohmann::json GetPlugins(const std::string& admin_address) {
  const std::string page = GetAdminPage(admin_address, "/plugins");
  nlohmann::json json = nlohmann::json::parse(page, nullptr, /*allow_exceptions=*/false);
  EXPECT_FALSE(json.is_discarded()) << page;
  return json;
}

nlohmann::json GetPlugin(const std::string& admin_address, const std::string& name) {
  const nlohmann::json page = GetPlugins(admin_address);
  for (const auto& plugin : page["plugins"]) {
    if (plugin["name"] == name) return plugin;
  }
  return nullptr;
}

double GetMetric(const std::string& admin_address, const std::string& prefix) {
  std::istringstream page(GetAdminPage(admin_address, "/metrics"));
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with(prefix)) return std::stod(line.substr(line.rfind(' ') + 1));
  }
  return 0;
}

std::map<int, pid_t> WorkerProcesses(const std::string& log) {
  static const std::regex line(R"(worker (\d+) \(process (\d+)\) serves)");
  std::map<int, pid_t> processes;
  for (std::sregex_iterator match(log.begin(), log.end(), line), end; match != end; ++match) {
    processes[std::stoi((*match)[1])] = std::stoi((*match)[2]);
  }
  return processes;
}

std::string ReloadPlugin(const std::string& name) {
  return BuiltFile("tests/reload/" + name + ".so");
}

std::string BrokenPlugin(const std::string& name) {
  return BuiltFile("tests/broken/" + name + ".so");
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  EXPECT_TRUE(file.flush().good()) << path;
}

long ProcessStatus(pid_t pid, const std::string& field) {
  std::ifstream file(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(field + ":")) return std::stol(line.substr(field.size() + 1));
  }
  return -1;
}

size_t CountLines(const std::string& path) {
  std::ifstream file(path);
  return static_cast<size_t>(
      std::count(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>(), '\n'));
}

size_t CountDescriptors(pid_t pid) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry :
       std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid))) {
    ++count;
  }
  return count;
}

}  // namespace callout::tests
