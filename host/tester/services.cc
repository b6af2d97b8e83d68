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
#include "host/base/status_text.h"

namespace callout::host {
namespace {

using nlohmann::json;

// A socket's path has at most 107 bytes, with a slash and a number of three digits.
constexpr size_t kDirectoryBytesMax = 103;

HttpMessage NotFound() { return {{{":status", "404"}, {"content-length", "0"}}, "", {}}; }

HttpMessage ResponseOf(const CaseUpstream& upstream, const HttpMessage& request) {
  const std::vector<std::string> paths = ValuesOf(request.headers, ":path");
  for (const auto& [path, response] : upstream.responses) {
    if (!paths.empty() && paths.front() == path) return response;
  }
  return NotFound();
}

}  // namespace

absl::Status Services::MakeDirectory() {
  std::error_code error;
  const std::filesystem::path parent = std::filesystem::temp_directory_path(error);
  if (error) {
    const char* const given = getenv("TMPDIR");
    return absl::UnavailableError(
        fmt::format("cannot create a directory for the sockets of upstreams in TMPDIR={}: {}",
                    given == nullptr ? "" : given, error.message()));
  }
  std::string path = (parent / "callout-test-XXXXXX").string();
  if (path.size() > kDirectoryBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("the sockets of upstreams would be in {}, whose path has {} bytes, the limit "
                    "is {}; set TMPDIR to a shorter path",
                    path, path.size(), kDirectoryBytesMax));
  }
  if (mkdtemp(path.data()) == nullptr) {
    return absl::UnavailableError(
        fmt::format("cannot create a directory for the sockets of upstreams, such as {}: {}; set "
                    "TMPDIR to one that can be written to",
                    path, strerror(errno)));
  }
  directory_ = path;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Services>> Services::Start(const CaseFile& file,
                                                          const std::string& given) {
  json all = given.empty() ? json::object() : json::parse(given, nullptr, false);
  std::unique_ptr<Services> services(new Services);
  if (!file.upstreams.empty()) {
    if (absl::Status status = services->MakeDirectory(); !status.ok()) return status;
  }
  // By number: a name may be longer than a socket's path.
  const auto path_of = [&services](size_t number) {
    return fmt::format("{}/{}", services->directory_, number);
  };
  for (size_t i = 0; i < file.upstreams.size(); ++i) {
    // No case depends on how many before it have failed.
    all[file.upstreams[i].name] = {{"url", "unix:" + path_of(i)}, {"circuit_failures", 0}};
  }
  services->text_ = all.dump();
  absl::StatusOr<std::vector<UpstreamConfig>> upstreams = ParseUpstreams(services->text_);
  if (!upstreams.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: upstreams: {}", file.path, MessageOf(upstreams.status())));
  }
  for (size_t i = 0; i < file.upstreams.size(); ++i) {
    const CaseUpstream& upstream = file.upstreams[i];
    if (upstream.is_down) continue;  // nobody listens
    auto server = Backend::Start(path_of(i), [upstream](const HttpMessage& request) {
      return ResponseOf(upstream, request);
    });
    if (!server.ok()) return server.status();
    services->servers_.push_back(*std::move(server));
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
