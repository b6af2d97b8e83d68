// SPDX-License-Identifier: Apache-2.0

#include "envoy_process.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "client.h"

namespace callout::tests {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string ReadFile(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

uint16_t PortOf(const std::string& address) {
  uint32_t port = 0;
  return absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port)
             ? static_cast<uint16_t>(port)
             : uint16_t{0};
}

std::string FindBinary() {
  if (const char* named = getenv("CALLOUT_ENVOY"); named != nullptr && *named != '\0') {
    return named;
  }
  std::error_code error;
  for (const auto& python : fs::directory_iterator(CALLOUT_SOURCE_ROOT "/.venv/lib", error)) {
    const fs::path binary = python.path() / "site-packages/envoy/_bin/envoy";
    if (fs::exists(binary, error)) return binary;
  }
  return "";
}

}  // namespace

bool EnvoyProcess::Available() { return fs::exists(FindBinary()); }

std::string EnvoyProcess::WhyNot() {
  const std::string binary = FindBinary();
  return binary.empty() ? "there is no Envoy: scripts/setup installs it into .venv"
                        : "CALLOUT_ENVOY is " + binary + ", which is not there";
}

std::string EnvoyProcess::Binary() { return FindBinary(); }

EnvoyProcess::EnvoyProcess(const json& bootstrap) { Start(bootstrap.dump(2)); }

EnvoyProcess::EnvoyProcess(const std::string& bootstrap_yaml) { Start(bootstrap_yaml); }

// JSON is YAML, too.
void EnvoyProcess::Start(const std::string& bootstrap_yaml) {
  const std::string config = directory_.Path("bootstrap.yaml");
  const std::string admin = directory_.Path("admin.txt");
  std::ofstream(config) << bootstrap_yaml;
  process_ = std::make_unique<ChildProcess>(std::vector<std::string>{
      FindBinary(), "--config-path", config, "--admin-address-path", admin, "--concurrency", "1",
      "--disable-hot-restart", "--log-level", "warning", "--file-flush-interval-msec", "100"});
  const bool listening = Poll([&] {
    admin_port_ = PortOf(ReadFile(admin));
    return admin_port_ != 0 || !process_->running();
  });
  if (!listening || admin_port_ == 0 || !AwaitReady()) {
    ADD_FAILURE() << "Envoy does not start:\n" << process_->Output() << '\n' << bootstrap_yaml;
    return;
  }
  FindPorts();
}

std::string EnvoyProcess::Get(const std::string& target) const {
  return Exchange(admin_port_, {.target = target}).body;
}

bool EnvoyProcess::AwaitReady() {
  return Poll([&] { return Get("/ready") == "LIVE\n" || !process_->running(); }) &&
         process_->running();
}

void EnvoyProcess::FindPorts() {
  const json listeners = json::parse(Get("/listeners?format=json"));
  for (const json& status : listeners["listener_statuses"]) {
    ports_[status["name"]] = status["local_address"]["socket_address"]["port_value"];
  }
}

uint16_t EnvoyProcess::port(const std::string& listener) const {
  const auto found = ports_.find(listener);
  EXPECT_NE(found, ports_.end()) << "Envoy has no listener " << listener;
  return found == ports_.end() ? uint16_t{0} : found->second;
}

uint64_t EnvoyProcess::Counter(const std::string& name) const {
  const auto counters = CountersEndingWith(name);
  const auto found = counters.find(name);
  return found == counters.end() ? 0 : found->second;
}

std::map<std::string, uint64_t> EnvoyProcess::CountersEndingWith(const std::string& suffix) const {
  std::map<std::string, uint64_t> counters;
  const json stats = json::parse(Get("/stats?format=json&type=Counters&filter=" + suffix + "$"));
  for (const json& stat : stats["stats"]) {
    if (!stat.contains("name") || !absl::EndsWith(std::string(stat["name"]), suffix)) continue;
    counters[stat["name"]] = stat["value"];
  }
  return counters;
}

}  // namespace callout::tests
