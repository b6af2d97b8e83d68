// SPDX-License-Identifier: Apache-2.0

// Limits the requests of each client, by counts that outlive a version of the plugin. The list of
// clients without a limit is read anew in the background. See README.md.
#include <chrono>
#include <fstream>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <callout/plugin.hpp>
#include <callout/shared_data.hpp>
#include <callout/timers.hpp>

#include "support/header_name.hpp"
#include "support/json_config.hpp"

namespace {

using Names = std::set<std::string, std::less<>>;

// One name on each line; empty lines and those that begin with # do not count. Throws what is
// wrong.
Names ReadNames(const std::string& path) {
  constexpr size_t kNamesMax = 100000;
  std::ifstream file(path);
  Names names;
  for (std::string line; std::getline(file, line);) {
    line.erase(line.find_last_not_of(" \t\r") + 1);  // npos + 1 is 0
    if (line.empty() || line[0] == '#') continue;
    if (names.size() == kNamesMax) throw std::invalid_argument("it has more than 100000 names");
    names.insert(std::move(line));
  }
  if (!file.eof()) throw std::invalid_argument("it cannot be read");
  return names;
}

class ClientLimit {
 public:
  explicit ClientLimit(callout::Setup& setup)
      : host_(setup.host()),
        counts_(setup),
        timers_(setup),
        refused_(setup.counter("client_limit_refused_total", "Requests over the limit")),
        read_failures_(setup.counter("client_limit_read_failures_total",
                                     "Times that the file of exempt clients could not be read")) {
    callout::plugins::JsonConfig config(setup.config());
    header_ = config.text("header");
    if (!callout::plugins::IsHeaderName(header_)) {
      config.refuse("header", "must be the name of a header");
    }
    limit_ = config.integer("limit", {.min = 0});
    window_ = std::chrono::seconds(
        config.integer("window_seconds", {.fallback = 60, .min = 1, .max = 86400}));
    exempt_file_ = config.text("exempt_file", "");
    const std::chrono::seconds refresh(
        config.integer("refresh_seconds", {.fallback = 60, .min = 1, .max = 86400}));
    config.done();
    if (exempt_file_.empty()) return;
    try {
      exempt_ = std::make_shared<const Names>(ReadNames(exempt_file_));
    } catch (const std::exception& error) {
      throw std::invalid_argument("\"exempt_file\": " + exempt_file_ + ": " + error.what());
    }
    refresh_ = timers_.every(
        refresh, [this] { Refresh(); }, refresh);
    if (!refresh_) throw std::runtime_error("the host has not started the timer of exempt_file");
  }

  void on_request_headers(const callout::HeadersCall& call) const {
    constexpr size_t kNameBytesMax = 256;
    const std::string_view client = call.headers().get(header_, "");
    if (client.size() > kNameBytesMax) return call.deny(400);
    if (IsExempt(client)) return;
    // The key is never empty, since clients without a name share a count.
    const std::optional<int64_t> count =
        counts_.add(std::string("client ").append(client), 1, window_);
    if (!count.has_value()) return call.fail("there is no room for the count of a client");
    if (*count <= limit_) return;
    refused_.add();
    call.reply(429).set_header("retry-after", std::to_string(window_.count()));
  }

 private:
  bool IsExempt(std::string_view client) const {
    std::shared_ptr<const Names> exempt;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      exempt = exempt_;
    }
    return exempt != nullptr && exempt->count(client) > 0;
  }

  // On a thread for timers, which may wait for the disk. A file that cannot be read changes
  // nothing.
  void Refresh() {
    try {
      auto names = std::make_shared<const Names>(ReadNames(exempt_file_));
      const std::lock_guard<std::mutex> lock(mutex_);
      exempt_ = std::move(names);
    } catch (const std::exception& error) {
      read_failures_.add();
      host_.warning("keeping the list of exempt clients: ", exempt_file_, ": ", error.what());
    }
  }

  const callout::Host host_;
  const callout::SharedData counts_;
  const callout::Timers timers_;
  const callout::Counter refused_, read_failures_;
  std::string header_, exempt_file_;
  int64_t limit_ = 0;
  std::chrono::seconds window_{0};
  mutable std::mutex mutex_;  // guards the following
  std::shared_ptr<const Names> exempt_;
  callout::Timer refresh_;
};

}  // namespace

CALLOUT_PLUGIN_CLASS(ClientLimit, ("client_limit", "1.0.0", "Limits the requests of each client"),
                     request_headers);
