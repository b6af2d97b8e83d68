#include "host/base/health_asked.h"
#include "host/ops/admin.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace callout::host {
namespace {

HttpResponse TextPage(unsigned status, std::string text) {
  HttpResponse response;
  response.status = status;
  response.body = std::move(text);
  return response;
}

}  // namespace

AdminPages::AdminPages(const Health* health) {
  Add("/", "this list", [this](const HttpRequestView&) { return List(); });
  Add("/live", "200 while the process answers",
      [](const HttpRequestView&) { return TextPage(200, "live\n"); });
  Add("/ready", "200 if it wants traffic, else 503", [health](const HttpRequestView&) {
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
  if (page == pages_.end()) return TextPage(404, "no such page; / lists those there are\n");
  return page->second.response(request);
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
