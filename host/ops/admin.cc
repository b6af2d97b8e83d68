// SPDX-License-Identifier: Apache-2.0

#include "host/ops/admin.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <limits.h>
#include <unistd.h>

#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "host/base/ascii.h"
#include "host/base/health_asked.h"
#include "host/base/log.h"

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

// Only browsers send these two headers, and no page can forge them. A proxy that ends TLS may stand
// before this listener, so the scheme does not matter.
bool IsSameOrigin(const HttpRequestView& request) {
  if (!request.sec_fetch_site.empty() && request.sec_fetch_site != "same-origin") return false;
  std::string_view origin = request.origin;
  if (origin.empty()) return true;
  const size_t scheme = origin.find("://");
  if (scheme == origin.npos) return false;  // "null"
  origin.remove_prefix(scheme + 3);
  return !request.host.empty() && EqualsIgnoreCase(origin, request.host);
}

}  // namespace

AdminPages::AdminPages(const Health* health, Metrics* metrics,
                       const std::vector<std::string>& hosts, bool writes)
    : hosts_({"localhost"}), metrics_(metrics), writes_(writes) {
  for (const std::string& host : hosts) hosts_.insert(NameOf(host));
  char own[HOST_NAME_MAX + 1] = {};
  if (gethostname(own, sizeof(own) - 1) == 0 && own[0] != '\0') hosts_.insert(NameOf(own));
  constexpr std::array<const char*, kRefusals> kReasons = {"host", "writes_off", "cross_site"};
  for (size_t i = 0; metrics_ != nullptr && i < kRefusals; ++i) {
    absl::StatusOr<Metrics::Id> refused =
        metrics_->Define(Metrics::Kind::kCounter, "callout_admin_refused_total",
                         "Requests for admin pages that were refused", {{"reason", kReasons[i]}});
    if (refused.ok()) refused_[i] = *refused;
  }
  Add("/", "this list", [this](const HttpRequestView& request) { return Front(request); });
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

void AdminPages::AddAction(const std::string& path, const std::string& summary,
                           HttpHandler action) {
  pages_.emplace(path, Page{summary, std::move(action), true});
}

HttpResponse AdminPages::Response(const HttpRequestView& request) const {
  const std::string_view path = request.target.substr(0, request.target.find('?'));
  const auto page = pages_.find(path);
  const bool is_action = page != pages_.end() && page->second.is_action;
  if (request.method != (is_action ? "POST" : "GET")) {
    HttpResponse response = MethodNotAllowed();
    if (is_action) response.allow = "POST";
    return response;
  }
  // Probes ask under any name, and their result is no secret.
  if (path != "/live" && path != "/ready" && !IsOurHost(request.host)) {
    return Refuse(request, kHost, 421,
                  "this name is not allowed in the Host header; use an IP address, or add the "
                  "name to --admin_hosts");
  }
  if (page == pages_.end()) return TextPage(404, "no such page; / lists all pages\n");
  return is_action ? Act(page->second, request) : page->second.response(request);
}

HttpResponse AdminPages::Refuse(const HttpRequestView& request, Refusal why, unsigned status,
                                std::string_view text) const {
  constexpr size_t kShownBytesMax = 128;
  const auto shown = [](std::string_view value) { return value.substr(0, kShownBytesMax); };
  if (metrics_ != nullptr) metrics_->Add(refused_[why]);
  LogLimited(LogLevel::kWarning, fmt::format("admin/refused/{}", static_cast<int>(why)),
             "admin: {} {} is refused with {}: {} (Host '{}', Origin '{}', Sec-Fetch-Site '{}')",
             request.method, shown(request.target), status, text, shown(request.host),
             shown(request.origin), shown(request.sec_fetch_site));
  return TextPage(status, fmt::format("{}\n", text));
}

HttpResponse AdminPages::Act(const Page& action, const HttpRequestView& request) const {
  if (!IsSameOrigin(request)) {
    return Refuse(request, kCrossSite, 403, "another site's page has sent this request");
  }
  if (!writes_) {
    return Refuse(request, kWritesOff, 403,
                  "this host lets nobody change it here; set --admin_writes=on");
  }
  constexpr std::string_view kForm = "application/x-www-form-urlencoded";
  if (!request.body.empty() && !request.content_type.starts_with(kForm)) {
    return TextPage(415, fmt::format("expected a body of the type {}\n", kForm));
  }
  return action.response(request);
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

HttpResponse AdminPages::Front(const HttpRequestView& request) const {
  const bool wants_html = request.accept.find("text/html") != request.accept.npos;
  return front_page_ != nullptr && wants_html ? front_page_(request) : List();
}

HttpResponse AdminPages::List() const {
  std::string list;
  for (const auto& [path, page] : pages_) {
    list += fmt::format("{:<12} {}{}\n", path, page.is_action ? "POST: " : "", page.summary);
  }
  HttpResponse response = TextPage(200, std::move(list));
  response.headers.emplace_back("Vary", "Accept");
  return response;
}

}  // namespace callout::host
