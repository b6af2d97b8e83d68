// SPDX-License-Identifier: Apache-2.0

#include "host/tester/services.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "host/base/file.h"
#include "host/base/json_text.h"
#include "host/base/status_text.h"

namespace callout::host {
namespace {

using nlohmann::json;

// The file is the operator's; the host's own limit.
constexpr size_t kFileBytesMax = size_t{1} << 20;

HttpMessage NotFound() { return {{{":status", "404"}, {"content-length", "0"}}, "", {}}; }

HttpMessage ResponseOf(const CaseUpstream& upstream, const HttpMessage& request) {
  const std::vector<std::string> paths = ValuesOf(request.headers, ":path");
  for (const auto& [path, response] : upstream.responses) {
    if (!paths.empty() && paths.front() == path) return response;
  }
  return NotFound();
}

// `{}` without a file.
absl::StatusOr<json> ReadGiven(const std::string& path) {
  if (path.empty()) return json::object();
  absl::StatusOr<std::string> text = ReadFile(path, kFileBytesMax);
  if (!text.ok()) return text.status();
  // Says what is wrong with it better than a parser would.
  if (auto checked = ReadUpstreams(path); !checked.ok()) return checked.status();
  return json::parse(*text, nullptr, false);
}

}  // namespace

absl::Status Services::MakeDirectory() {
  std::error_code error;
  std::string path = (std::filesystem::temp_directory_path(error) / "callout-test-XXXXXX").string();
  if (error || mkdtemp(path.data()) == nullptr) {
    return absl::UnavailableError(
        fmt::format("cannot create a directory for the sockets of upstreams, such as {}: {}", path,
                    error ? error.message() : strerror(errno)));
  }
  directory_ = path;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Services>> Services::Start(const CaseFile& file,
                                                          const std::string& upstreams_path) {
  absl::StatusOr<json> all = ReadGiven(upstreams_path);
  if (!all.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("--upstreams={}: {}", upstreams_path, MessageOf(all.status())));
  }
  std::unique_ptr<Services> services(new Services);
  if (!file.upstreams.empty()) {
    if (absl::Status status = services->MakeDirectory(); !status.ok()) return status;
  }
  size_t number = 0;
  for (const CaseUpstream& upstream : file.upstreams) {
    // By number: a name may be longer than a socket's path. Nobody listens for one that is down.
    const std::string path = fmt::format("{}/{}", services->directory_, number++);
    // No case depends on how many before it have failed.
    (*all)[upstream.name] = {{"url", "unix:" + path}, {"circuit_failures", 0}};
    if (upstream.is_down) continue;
    auto server = Backend::Start(
        path, [upstream](const HttpMessage& request) { return ResponseOf(upstream, request); });
    if (!server.ok()) return server.status();
    services->servers_.push_back(*std::move(server));
  }
  services->text_ = all->dump();
  absl::StatusOr<std::vector<UpstreamConfig>> upstreams = ParseUpstreams(services->text_);
  if (!upstreams.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: upstreams: {}", file.path, MessageOf(upstreams.status())));
  }
  services->upstreams_ = *std::move(upstreams);
  return services;
}

Services::~Services() {
  servers_.clear();
  std::error_code error;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, error);
}

}  // namespace callout::host
