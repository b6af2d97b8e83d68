// SPDX-License-Identifier: Apache-2.0

// The page at / of the admin listener for people: one HTML document without other resources, which
// is readable without JavaScript.
//
//   std::string html = RenderFrontPage(data);
//   response.headers = FrontPageHeaders();
//
// All rendering is here; a script in the page only fetches it again and puts the new content in the
// old one's place. Its Content-Security-Policy allows that script and the style by their hashes and
// nothing else, so markup that came through a text would still do nothing.
//
// Plain functions; any thread.
#ifndef CALLOUT_HOST_ADMIN_FRONT_PAGE_H_
#define CALLOUT_HOST_ADMIN_FRONT_PAGE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "host/admin/metric_history.h"
#include "host/config/options.h"
#include "host/plugin/recent_faults.h"
#include "host/reload/generation.h"
#include "host/reload/reloader.h"
#include "host/shadow/shadow_exchange.h"
#include "host/stream/live_rpc.h"

namespace callout::host {

// How near a limit is.
struct PageLimit {
  std::string what;
  double used = 0;
  double max = 0;      // 0: no limit
  std::string option;  // "--max_connections"
};

struct PageCertificate {
  std::string what;  // "server certificate", "client CA"
  std::string subject;
  std::string issuer;
  int64_t seconds_left = 0;  // negative: expired
  std::string not_after;     // "2027-01-31 12:00 UTC"
  std::string source;        // file, or "self-signed at the start"
};

// What somebody has changed by the page.
struct PageChange {
  uint64_t time_ns = 0;
  std::string what;
  std::string result;
};

struct FrontPageData {
  std::string version;
  std::string state;  // of health: "ready"
  std::string host;
  uint64_t pid = 0;
  uint64_t now_ns = 0;
  uint64_t start_ns = 0;
  std::string transport;
  std::string log_level;
  std::map<std::string, std::string> plugin_log_levels;  // of plugins with one of their own
  std::vector<std::string> explain_rules;
  size_t workers = 0;  // 0: this process serves
  bool writes = false;
  Reloader::Snapshot plugins;
  GenerationTarget::Usage usage;
  const MetricHistory* history = nullptr;
  std::vector<PageLimit> limits;
  LiveRpcs live;
  std::vector<RecentFault> faults;
  std::vector<ShadowReport> shadows;  // one of each
  std::vector<PageCertificate> certificates;
  std::vector<std::string> certificate_warnings;
  std::vector<OptionSet::Setting> settings;
  std::vector<PageChange> changes;  // newest first
};

std::string RenderFrontPage(const FrontPageData& data);

// Content-Security-Policy and what else keeps a browser from being led astray.
std::vector<std::pair<std::string, std::string>> FrontPageHeaders();

}  // namespace callout::host

#endif  // CALLOUT_HOST_ADMIN_FRONT_PAGE_H_
