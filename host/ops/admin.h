// The pages of the admin address: /live, /ready, those that others add, and /
// which lists them all.
//
//   AdminPages pages(&health);
//   pages.Add("/plugins", "loaded plugins as JSON", [&](const HttpRequestView&) { … });
//   server->AddListener("admin", pages.MakeHandler());
//
// Add pages before the handler gets its first request; they are not guarded
// after that. Pages run on the HTTP server's thread.
#ifndef CALLOUT_HOST_OPS_ADMIN_H_
#define CALLOUT_HOST_OPS_ADMIN_H_

#include <functional>
#include <map>
#include <string>

#include "host/ops/health.h"
#include "host/ops/http_server.h"

namespace callout::host {

class AdminPages {
 public:
  // `health` outlives this object.
  explicit AdminPages(const Health* health);
  AdminPages(const AdminPages&) = delete;
  AdminPages& operator=(const AdminPages&) = delete;

  // `page` answers GET for exactly `path` ("/plugins"), whatever its query.
  // `summary` stands beside it in the list.
  void Add(const std::string& path, const std::string& summary, HttpHandler page);

  // Routes a request: 405 unless GET, 404 for a path nobody added.
  HttpResponse Response(const HttpRequestView& request) const;

  // This object outlives the handler.
  HttpHandler MakeHandler() const;

 private:
  struct Page {
    std::string summary;
    HttpHandler response;
  };
  HttpResponse List() const;

  std::map<std::string, Page, std::less<>> pages_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_OPS_ADMIN_H_
