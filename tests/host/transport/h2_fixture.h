// SPDX-License-Identifier: Apache-2.0

// What tests of the connection share: an environment with fake plugins, a
// connection without a socket, and a client of it.
#ifndef CALLOUT_TESTS_HOST_TRANSPORT_H2_FIXTURE_H_
#define CALLOUT_TESTS_HOST_TRANSPORT_H2_FIXTURE_H_

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "h2_client.h"
#include "host/transport/h2/h2_connection.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {

class H2Test : public StreamTest, public H2Connection::Owner {
 protected:
  // `options_` and the plugins first.
  void Connect() {
    Begin();
    auto metrics = H2Metrics::Define(&metrics_);
    ASSERT_TRUE(metrics.ok()) << metrics.status();
    h2_metrics_ = *metrics;
    memory_.emplace(memory_bytes_);
    shared_.emplace(&*memory_);
    context_.emplace(options_, environment_.get(), h2_metrics_, &*shared_, &serving_,
                     [this] { ++wakes_; });
    auto peer = std::make_shared<H2Peer>();
    peer->address = "ipv4:192.0.2.1:4711";
    connection_.emplace(&*context_, std::move(peer), this);
  }
  ~H2Test() override {
    connection_.reset();
    context_.reset();
    if (!memory_.has_value()) return;
    EXPECT_EQ(memory_->used(), 0U) << "what was drawn is given back";
  }

  void OnOutput() override { ++outputs_; }

  // Carries bytes to and fro until both ends are silent. Returns how many flushes
  // the connection has needed.
  int Run(size_t piece = SIZE_MAX) {
    int flushes = 0;
    for (bool more = true; more;) {
      connection_->BeginTurn();
      const std::string in = client_->TakeBytes();
      for (size_t at = 0; at < in.size(); at += std::min(piece, in.size() - at)) {
        connection_->OnBytes(std::string_view(in).substr(at, piece));
      }
      std::string out;
      more = connection_->Fill(&out, SIZE_MAX) || !in.empty();
      flushes += !out.empty();
      EXPECT_TRUE(client_->Give(out));
    }
    return flushes;
  }

  // Raw bytes after preface and SETTINGS; what the connection sends is dropped.
  void SendRaw(std::string_view bytes) {
    connection_->BeginTurn();
    connection_->OnBytes(bytes);
    std::string out;
    connection_->Fill(&out, SIZE_MAX);
  }
  void SendPreface() { SendRaw(std::string(kPreface) + Frame(NGHTTP2_SETTINGS, 0, 0, "")); }

  std::string Metric(const std::string& series) const {
    const std::string page = metrics_.Text();
    const size_t at = page.find("\n" + series + " ");
    if (at == std::string::npos) return "";
    const size_t begin = at + series.size() + 2;
    return page.substr(begin, page.find('\n', begin) - begin);
  }
  std::string ClosedFor(const std::string& reason) const {
    return Metric("callout_h2_connections_closed_total{reason=\"" + reason + "\"}");
  }

  H2Options options_;
  size_t memory_bytes_ = SIZE_MAX;
  std::optional<MemoryBudget> memory_;
  std::optional<H2Shared> shared_;
  std::atomic<bool> serving_{true};
  H2Metrics h2_metrics_;
  std::atomic<int> wakes_{0};
  int outputs_ = 0;
  std::optional<H2Context> context_;
  std::optional<H2Connection> connection_;
  std::optional<H2Client> client_{std::in_place};
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_TRANSPORT_H2_FIXTURE_H_
