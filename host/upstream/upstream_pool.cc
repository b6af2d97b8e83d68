// SPDX-License-Identifier: Apache-2.0

#include "host/upstream/upstream_pool.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <future>
#include <map>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/base/thread.h"
#include "host/upstream/upstream.h"

namespace callout::host {
namespace {

namespace asio = boost::asio;
constexpr uint64_t kThreadRetryNs = 1'000'000'000;

}  // namespace

struct UpstreamPool::Core {
  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  std::map<std::string, std::unique_ptr<Upstream>, std::less<>> upstreams;

  size_t lookups() const {
    size_t count = 0;
    for (const auto& [name, upstream] : upstreams) count += upstream->lookups();
    return count;
  }
};

UpstreamPool::UpstreamPool(const Options& options, Metrics* metrics)
    : runs_(options.runs), core_(std::make_unique<Core>()) {
  for (const UpstreamConfig& config : options.upstreams) {
    core_->upstreams.emplace(config.name, std::make_unique<Upstream>(&core_->io, config, metrics));
  }
}

UpstreamPool::~UpstreamPool() {
  core_->io.stop();
  if (thread_.joinable()) thread_.join();
  // A lookup of a name runs on a thread of the io_context's, whose destructor waits for it.
  if (core_->lookups() > 0) static_cast<void>(core_.release());
}

const UpstreamConfig* UpstreamPool::Find(std::string_view name) const {
  const auto found = core_->upstreams.find(name);
  return found == core_->upstreams.end() ? nullptr : &found->second->config();
}

std::vector<std::string_view> UpstreamPool::names() const {
  std::vector<std::string_view> names;
  for (const auto& [name, upstream] : core_->upstreams) names.push_back(name);
  return names;
}

absl::Status UpstreamPool::EnsureThread() {
  if (has_thread_.load(std::memory_order_acquire)) return absl::OkStatus();
  const std::lock_guard lock(mutex_);
  if (has_thread_.load(std::memory_order_relaxed)) return absl::OkStatus();
  if (!runs_) return absl::UnavailableError("plugins are only checked here");
  if (stopping_) return absl::UnavailableError("the host stops");
  const uint64_t now_ns = MonotonicNs();
  if (now_ns < try_thread_at_ns_)
    return absl::UnavailableError("the host could not start a thread");
  absl::StatusOr<std::thread> thread =
      StartThread("calls of plugins", [core = core_.get()] { core->io.run(); });
  if (!thread.ok()) {
    try_thread_at_ns_ = now_ns + kThreadRetryNs;
    return absl::UnavailableError(std::string(MessageOf(thread.status())));
  }
  thread_ = *std::move(thread);
  has_thread_.store(true, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status UpstreamPool::Start(const UpstreamConfig& upstream, uint64_t id, std::string owner,
                                 UpstreamRequest request, Done done) {
  if (absl::Status status = EnsureThread(); !status.ok()) return status;
  Upstream* const to = core_->upstreams.find(upstream.name)->second.get();
  asio::post(core_->io, [to, call = Upstream::NewCall{.id = id,
                                                      .owner = std::move(owner),
                                                      .request = std::move(request),
                                                      .started_ns = MonotonicNs(),
                                                      .done = std::move(done)}]() mutable {
    to->Start(std::move(call));
  });
  return absl::OkStatus();
}

void UpstreamPool::Cancel(const UpstreamConfig& upstream, uint64_t id) {
  if (!has_thread_.load(std::memory_order_acquire)) return;
  Upstream* const at = core_->upstreams.find(upstream.name)->second.get();
  asio::post(core_->io, [at, id] { at->Cancel(id); });
}

bool UpstreamPool::Stop(uint64_t timeout_ms) {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    if (!thread_.joinable()) return true;
  }
  const auto closed = std::make_shared<std::promise<void>>();
  std::future<void> is_closed = closed->get_future();
  asio::post(core_->io, [core = core_.get(), closed] {
    for (const auto& [name, upstream] : core->upstreams) upstream->Close();
    closed->set_value();
  });
  return is_closed.wait_for(std::chrono::milliseconds(timeout_ms)) == std::future_status::ready;
}

}  // namespace callout::host
