// SPDX-License-Identifier: Apache-2.0

// A pool with one upstream, and calls that are waited for.
#ifndef CALLOUT_TESTS_HOST_UPSTREAM_UPSTREAM_FIXTURE_H_
#define CALLOUT_TESTS_HOST_UPSTREAM_UPSTREAM_FIXTURE_H_

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <utility>

#include "host/upstream/upstream_config.h"
#include "host/upstream/upstream_pool.h"
#include "tests/host/upstream/test_service.h"

namespace callout::host {

class UpstreamFixture : public ::testing::Test {
 protected:
  // `more` is further keys of the upstream: R"("timeout_ms": 50)".
  void Make(const std::string& url, const std::string& more = "") {
    const auto configs = ParseUpstreams(
        fmt::format(R"({{"service": {{"url": "{}"{}{}}}}})", url, more.empty() ? "" : ", ", more));
    ASSERT_TRUE(configs.ok()) << configs.status();
    pool_ = std::make_unique<UpstreamPool>(UpstreamPool::Options{.upstreams = *configs}, &metrics_);
  }

  static UpstreamRequest Get(const std::string& path = "/") {
    UpstreamRequest request;
    request.method = "GET";
    request.path = path;
    request.idempotent = true;
    return request;
  }
  static UpstreamRequest Post(const std::string& body) {
    UpstreamRequest request;
    request.method = "POST";
    request.path = "/";
    request.body = body;
    return request;
  }

  std::future<UpstreamResult> Begin(UpstreamRequest request, uint64_t* id = nullptr) {
    const auto promise = std::make_shared<std::promise<UpstreamResult>>();
    const uint64_t number = pool_->NextId();
    if (id != nullptr) *id = number;
    const absl::Status started =
        pool_->Start(*pool_->Find("service"), number, "p", std::move(request),
                     [promise](UpstreamResult result) { promise->set_value(std::move(result)); });
    EXPECT_TRUE(started.ok()) << started;
    return promise->get_future();
  }
  UpstreamResult Call(UpstreamRequest request) { return Begin(std::move(request)).get(); }

  std::string Outcomes(const std::string& outcome) {
    const std::string text = metrics_.Text();
    const std::string key = fmt::format(
        "callout_upstream_calls_total{{outcome=\"{}\",upstream=\"service\"}} ", outcome);
    const size_t at = text.find(key);
    if (at == text.npos) return "none";
    return text.substr(at + key.size(), text.find('\n', at) - at - key.size());
  }

  Metrics metrics_;
  std::unique_ptr<UpstreamPool> pool_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_UPSTREAM_UPSTREAM_FIXTURE_H_
