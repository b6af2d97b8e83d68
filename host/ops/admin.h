// SPDX-License-Identifier: Apache-2.0

// The pages of the admin listener: /live, /ready, pages that other modules add, and /, which lists
// them, or is a page for people if the client accepts HTML.
//
//   AdminPages pages(&health);
//   pages.Add("/plugins", "loaded plugins as JSON", [&](const HttpRequestView&) { … });
//   pages.AddAction("/drain", "drain and stop", [&](const HttpRequestView&) { … });
//   server->AddListener("admin", pages.MakeHandler());
//
// Except for /live and /ready, the Host header of a request must be an IP address, localhost, this
// machine's name or one of --admin_hosts. Otherwise it gets 421: a foreign name may have led a
// browser here (DNS rebinding).
//
// An action changes something: it answers POST alone, only if the operator allows it
// (--admin_writes=on), and not if a browser says that another site's page has sent it: by
// Sec-Fetch-Site, or by an Origin that is not the Host. Clients that are no browsers send neither.
//
// Metric: callout_admin_refused_total{reason}; reason is host, writes_off or cross_site.
//
// Add pages before the handler gets its first request. Pages run on the HTTP server's thread.
#ifndef CALLOUT_HOST_OPS_ADMIN_H_
#define CALLOUT_HOST_OPS_ADMIN_H_

#include <array>
#include <cstddef>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host/metrics/metrics.h"
#include "host/ops/health.h"
#include "host/ops/http_server.h"

namespace callout::host {

class AdminPages {
 public:
  // `health` and `metrics` outlive this object; `metrics` may be null.
  explicit AdminPages(const Health* health, Metrics* metrics = nullptr,
                      const std::vector<std::string>& hosts = {}, bool writes = false);
  AdminPages(const AdminPages&) = delete;
  AdminPages& operator=(const AdminPages&) = delete;

  // `page` answers GET for exactly `path` ("/plugins"), whatever its query.
  // `summary` stands beside it in the list.
  void Add(const std::string& path, const std::string& summary, HttpHandler page);

  // `action` answers POST for exactly `path`. Its text says what was done.
  void AddAction(const std::string& path, const std::string& summary, HttpHandler action);
  // The page at / for clients whose Accept header has text/html.
  void SetFrontPage(HttpHandler page) { front_page_ = std::move(page); }
  bool writes() const { return writes_; }

  // Routes a request: 404 for an unknown path, 405 for another method, 421 for a foreign Host, 403
  // for an action that is not allowed.
  HttpResponse Response(const HttpRequestView& request) const;

  // This object outlives the handler.
  HttpHandler MakeHandler() const;

 private:
  struct Page {
    std::string summary;
    HttpHandler response;
    bool is_action = false;
  };
  enum Refusal : size_t { kHost, kWritesOff, kCrossSite, kRefusals };

  HttpResponse Front(const HttpRequestView& request) const;
  HttpResponse List() const;
  HttpResponse Act(const Page& action, const HttpRequestView& request) const;
  // Counts and logs it.
  HttpResponse Refuse(const HttpRequestView& request, Refusal why, unsigned status,
                      std::string_view text) const;
  bool IsOurHost(std::string_view host) const;

  std::map<std::string, Page, std::less<>> pages_;
  std::set<std::string, std::less<>> hosts_;  // lower case, without a port
  HttpHandler front_page_ = nullptr;
  Metrics* const metrics_;
  const bool writes_;
  std::array<Metrics::Id, kRefusals> refused_{};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_OPS_ADMIN_H_
