// SPDX-License-Identifier: Apache-2.0

#include "host/ops/admin.h"
#include "host/base/health_asked.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <limits.h>
#include <unistd.h>

#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"

namespace callout::host {
namespace {

HttpResponse TextPage(unsigned status, std::string text) {
  HttpResponse response;
  response.status = status;
  response.body = std::move(text);
  return response;
}

// "localhost" for "LocalHost.:9902"; "::1" for "[::1]:9902".
std::string NameOf(std::string_view host) {
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    const bool good = end != host.npos && (end + 1 == host.size() || host[end + 1] == ':');
    return good ? std::string(host.substr(1, end - 1)) : std::string();
  }
  std::string name = absl::AsciiStrToLower(std::string(host.substr(0, host.rfind(':'))));
  if (name.ends_with('.')) name.pop_back();
  return name;
}

bool IsIpAddress(const std::string& text) {
  in6_addr address;
  return inet_pton(AF_INET, text.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, text.c_str(), &address) == 1;
}

}  // namespace

AdminPages::AdminPages(const Health* health, Metrics* metrics,
                       const std::vector<std::string>& hosts)
    : hosts_({"localhost"}), metrics_(metrics) {
  for (const std::string& host : hosts) hosts_.insert(NameOf(host));
  char own[HOST_NAME_MAX + 1] = {};
  if (gethostname(own, sizeof(own) - 1) == 0 && own[0] != '\0') hosts_.insert(NameOf(own));
  if (metrics_ != nullptr) {
    absl::StatusOr<Metrics::Id> refused =
        metrics_->Define(Metrics::Kind::kCounter, "callout_admin_refused_total",
                         "Requests for admin pages that were refused", {{"reason", "host"}});
    if (refused.ok()) refused_ = *refused;
  }
  Add("/", "this list", [this](const HttpRequestView&) { return List(); });
  Add("/live", "200 while the process responds",
      [](const HttpRequestView&) { return TextPage(200, "live\n"); });
  Add("/ready", "200 if the host wants traffic, else 503", [health](const HttpRequestView&) {
    NoteHealthAsked();
    const Health::State state = health->state();
    return TextPage(state == Health::State::kReady ? 200 : 503,
                    fmt::format("{}\n", HealthStateName(state)));
  });
}

void AdminPages::Add(const std::string& path, const std::string& summary, HttpHandler page) {
  pages_.emplace(path, Page{summary, std::move(page)});
}

HttpResponse AdminPages::Response(const HttpRequestView& request) const {
  if (request.method != "GET") return MethodNotAllowed();
  const std::string_view path = request.target.substr(0, request.target.find('?'));
  const auto page = pages_.find(path);
  // Probes ask under any name, and their result is no secret.
  if (path != "/live" && path != "/ready" && !IsOurHost(request.host)) {
    if (metrics_ != nullptr) metrics_->Add(refused_);
    return TextPage(421,
                    "this name is not allowed in the Host header; use an IP address, or add the "
                    "name to --admin_hosts\n");
  }
  if (page == pages_.end()) return TextPage(404, "no such page; / lists all pages\n");
  return page->second.response(request);
}

// Browsers always send a Host, so a request without one comes from no browser.
bool AdminPages::IsOurHost(std::string_view host) const {
  if (host.empty()) return true;
  const std::string name = NameOf(host);
  return IsIpAddress(name) || hosts_.count(name) > 0;
}

HttpHandler AdminPages::MakeHandler() const {
  return [this](const HttpRequestView& request) { return Response(request); };
}

HttpResponse AdminPages::List() const {
  std::string list;
  for (const auto& [path, page] : pages_) list += fmt::format("{:<12} {}\n", path, page.summary);
  return TextPage(200, std::move(list));
}

}  // namespace callout::host
