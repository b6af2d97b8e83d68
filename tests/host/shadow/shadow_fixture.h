// SPDX-License-Identifier: Apache-2.0

// A stream whose chain has plugins in shadow, with the threads that run them.
//
// Each test runs on one thread, and waits for the shadows' by conditions.
#ifndef CALLOUT_TESTS_HOST_SHADOW_SHADOW_FIXTURE_H_
#define CALLOUT_TESTS_HOST_SHADOW_SHADOW_FIXTURE_H_

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "host/shadow/shadow_runner.h"
#include "host/shadow/shadow_watcher.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {

class ShadowTest : public StreamTest {
 protected:
  static constexpr uint64_t kGiveUpMs = 60000;

  // In the chain's order, as AddPlugin.
  FakePlugin* AddShadow(const std::string& instead_of = "", InstanceSettings settings = {}) {
    settings.mode = InstanceMode::kShadow;
    settings.instead_of = instead_of;
    return AddPlugin(settings);
  }

  ~ShadowTest() override {
    EndStream();
    if (watcher_ != nullptr) watcher_->Detach();
    if (runner_ != nullptr) {
      EXPECT_TRUE(runner_->Stop(kGiveUpMs));
    }
    Reset();
    runner_.reset();
    watcher_.reset();
  }

  void BeginShadowed() {
    std::vector<ChainPlace> places;
    for (size_t i = 0; i < plugins_.size(); ++i) {
      FakePlugin::creating = plugins_[i].get();
      absl::StatusOr<std::shared_ptr<Instance>> instance =
          Instance::Create(plugins_[i]->Load(), name_prefix_ + std::to_string(i), "", settings_[i],
                           {.metrics = &metrics_, .generation = 1});
      ASSERT_TRUE(instance.ok()) << instance.status();
      places.push_back({*std::move(instance)});
    }
    chains_ = std::make_unique<ChainSource>(ArrangeChain(std::move(places)));
    auto environment = StreamEnvironment::Create(limits_, chains_.get(), &metrics_);
    ASSERT_TRUE(environment.ok()) << environment.status();
    environment_ = *std::move(environment);
    auto runner = ShadowRunner::Create(shadow_limits_, limits_, &metrics_);
    ASSERT_TRUE(runner.ok()) << runner.status();
    runner_ = *std::move(runner);
    watcher_ = std::make_unique<ShadowWatcher>(runner_.get());
    watcher_->Attach(&environment_->watchers(), chains_.get());
    NextStream();
  }

  void NextStream() { stream_ = std::make_unique<Stream>(environment_.get(), &rpc_); }
  // As Envoy ends one that it needs no more.
  void EndStream() {
    if (stream_ == nullptr) return;
    if (!stream_->closed()) stream_->OnCancel();
    while (!stream_->closed() && !HasFatalFailure()) WaitAndDeliver();
    stream_.reset();
  }
  // A stream with these request headers, from its beginning to its end; what Envoy got.
  std::vector<ProcessingResponse> RunStream(const Pairs& headers = {{":path", "/"}}) {
    NextStream();
    Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS, true, headers), kNone, kNone));
    std::vector<ProcessingResponse> responses = Take();
    EndStream();
    return responses;
  }

  double Metric(const std::string& line) const {
    const std::string text = metrics_.Text();
    const size_t at = text.find("\n" + line + " ");
    return at == std::string::npos ? 0 : std::stod(text.substr(at + line.size() + 2));
  }
  // Waits until all exchanges have run.
  void AwaitShadows() {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(kGiveUpMs);
    while (Metric("callout_shadow_exchanges") > 0) {
      ASSERT_LT(std::chrono::steady_clock::now(), give_up) << metrics_.Text();
      std::this_thread::yield();
    }
  }
  DifferenceSummary Summary(const std::string& plugin) {
    AwaitShadows();
    for (const ShadowReport& report : runner_->Collect()) {
      if (report.plugin == plugin) return report.summary;
    }
    return {};
  }
  // "header request x-a: absent -> 1", by its entry.
  std::vector<std::string> Differences(const std::string& plugin) {
    std::vector<std::string> all;
    for (const auto& [what, entry] : Summary(plugin).entries) {
      all.push_back(what + ": " + entry.before + " -> " + entry.after);
    }
    return all;
  }

  ShadowLimits shadow_limits_;
  std::unique_ptr<ShadowRunner> runner_;
  std::unique_ptr<ShadowWatcher> watcher_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_SHADOW_SHADOW_FIXTURE_H_
