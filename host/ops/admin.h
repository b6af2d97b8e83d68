// SPDX-License-Identifier: Apache-2.0

// The pages of the admin listener: /live, /ready, pages that other modules add, and /, which lists
// them.
//
//   AdminPages pages(&health);
//   pages.Add("/plugins", "loaded plugins as JSON", [&](const HttpRequestView&) { … });
//   server->AddListener("admin", pages.MakeHandler());
//
// Except for /live and /ready, the Host header of a request must be an IP address, localhost, this
// machine's name or one of --admin_hosts. Otherwise it gets 421: a foreign name may have led a
// browser here (DNS rebinding). Metric: callout_admin_refused_total{reason="host"}.
//
// Add pages before the handler gets its first request. Pages run on the HTTP server's thread.
#ifndef CALLOUT_HOST_OPS_ADMIN_H_
#define CALLOUT_HOST_OPS_ADMIN_H_

#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "host/metrics/metrics.h"
#include "host/ops/health.h"
#include "host/ops/http_server.h"

namespace callout::host {

class AdminPages {
 public:
  // `health` and `metrics` outlive this object; `metrics` may be null.
  explicit AdminPages(const Health* health, Metrics* metrics = nullptr,
                      const std::vector<std::string>& hosts = {});
  AdminPages(const AdminPages&) = delete;
  AdminPages& operator=(const AdminPages&) = delete;

  // `page` answers GET for exactly `path` ("/plugins"), whatever its query.
  // `summary` stands beside it in the list.
  void Add(const std::string& path, const std::string& summary, HttpHandler page);

  // Routes a request: 405 unless GET, 404 for an unknown path, 421 for a foreign Host.
  HttpResponse Response(const HttpRequestView& request) const;

  // This object outlives the handler.
  HttpHandler MakeHandler() const;

 private:
  struct Page {
    std::string summary;
    HttpHandler response;
  };
  HttpResponse List() const;
  bool IsOurHost(std::string_view host) const;

  std::map<std::string, Page, std::less<>> pages_;
  std::set<std::string, std::less<>> hosts_;  // lower case, without a port
  Metrics* const metrics_;
  Metrics::Id refused_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_OPS_ADMIN_H_
