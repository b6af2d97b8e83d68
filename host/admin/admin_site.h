// SPDX-License-Identifier: Apache-2.0

// The page for people and its actions, put together from the parts of a host.
//
//   AdminSite site({.config = &config, .collect_metrics = …, …});
//   site.AddTo(&admin_pages);
//
// Actions (POST, see AdminPages::AddAction), with their form fields:
//   /actions/log_level  level=debug|info|warning|error, and plugin=NAME for lines about a plugin,
//                       for which level=default takes its own level away
//   /actions/explain    an ExchangeRule (host/explain/exchange_rule.h): marks exchanges
//   /actions/explain_off  ends all rules
//   /actions/drain
//   /actions/release    plugin=NAME: ends its quarantine, or loads its version that was withdrawn
//   /actions/go_back    plugin=NAME: the generation before serves again; of a canary, the one
//   beside /actions/promote    plugin=NAME: its canary serves all new streams
//   /tap                a TapForm (host/record/record_rule.h): begins or ends a recording in
//                       --record_dir; the response names the file
// A browser is sent back to the page, which lists what was changed. Each change is logged.
//
// Pages and actions run on one thread, the HTTP server's for slow pages. AddTo comes first.
//
// Tested by tests/integration/admin_page_test.cc.
#ifndef CALLOUT_HOST_ADMIN_ADMIN_SITE_H_
#define CALLOUT_HOST_ADMIN_ADMIN_SITE_H_

#include <prometheus/metric_family.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/admin/front_page.h"
#include "host/admin/metric_history.h"
#include "host/config/config.h"
#include "host/explain/watch_control.h"
#include "host/net/certificate_store.h"
#include "host/ops/admin.h"
#include "host/ops/health.h"
#include "host/reload/plugin_manager.h"
#include "host/transport/traffic.h"

namespace callout::host {

// The fields of a form, application/x-www-form-urlencoded; of several with one name, the last.
// INVALID_ARGUMENT if it is none.
absl::StatusOr<std::map<std::string, std::string, std::less<>>> ParseForm(std::string_view body);

class AdminSite {
 public:
  // All outlive the site.
  struct Parts {
    const Config* config = nullptr;
    const Health* health = nullptr;
    std::function<std::vector<prometheus::MetricFamily>()> collect_metrics;
    // These four return null until there is one.
    std::function<PluginManager*()> plugins;
    std::function<Traffic*()> traffic;
    std::function<WatchControl*()> watch;
    std::function<const CertificateStore*()> certificates;
    // Begins the end of the process, as SIGTERM does. Any thread.
    std::function<void()> drain;
  };

  explicit AdminSite(Parts parts);
  AdminSite(const AdminSite&) = delete;
  AdminSite& operator=(const AdminSite&) = delete;

  // The site outlives the pages.
  void AddTo(AdminPages* pages);

 private:
  static constexpr size_t kChangesMax = 20;

  struct Form {
    std::string text;  // as it came
    std::map<std::string, std::string, std::less<>> fields;
  };
  using Action = absl::Status (AdminSite::*)(const Form& form, std::string* what);

  void AddAction(AdminPages* pages, const std::string& path, const std::string& summary,
                 Action action);
  HttpResponse Act(Action action, const std::string& body, bool wants_html);
  absl::Status SetLevel(const Form& form, std::string* what);
  absl::Status Explain(const Form& form, std::string* what);
  absl::Status EndExplaining(const Form& form, std::string* what);
  absl::Status Drain(const Form& form, std::string* what);
  absl::Status Release(const Form& form, std::string* what);
  absl::Status GoBack(const Form& form, std::string* what);
  absl::Status Tap(const Form& form, std::string* what);
  absl::Status Promote(const Form& form, std::string* what);

  HttpResponse FrontPage();
  std::vector<PageLimit> Limits(const GenerationTarget::Usage& usage, size_t generations_max) const;
  void AddCertificates(FrontPageData* data) const;

  const Parts parts_;
  const uint64_t start_ns_;
  MetricHistory history_;
  std::deque<PageChange> changes_;  // newest first
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_ADMIN_ADMIN_SITE_H_
