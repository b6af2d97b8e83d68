// SPDX-License-Identifier: Apache-2.0

#include "host/tester/chain_runner.h"

#include <fmt/format.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "host/base/clock.h"
#include "host/base/status_text.h"
#include "host/plugin/instance.h"
#include "host/plugin/loader.h"
#include "host/plugin/rpc_context.h"
#include "host/plugin/settings.h"
#include "host/stream/stream.h"
#include "host/tester/envoy_model.h"

namespace callout::host {
namespace {

// The RPC of a case. The thread that runs the case waits for what other threads post.
class CaseRpc final : public RpcContext {
 public:
  void Post(CallState* call, Event event) override {
    // The stream may be gone once the lock is released.
    const std::lock_guard lock(mutex_);
    posted_.emplace_back(call, event);
    changed_.notify_all();
  }
  // The messages of a case stay where they are.
  std::shared_ptr<const void> KeepMessage() override { return nullptr; }
  std::string_view peer() const override { return "ipv4:127.0.0.1:1"; }
  std::string_view listener() const override { return "plaintext"; }
  std::string_view peer_identity() const override { return ""; }
  bool GetMetadata(std::string_view, uint32_t, std::string_view*) const override { return false; }

  // Hands what was posted to the stream. Waits for it until `deadline_ns` (MonotonicNs; 0: without
  // limit); false if nothing came.
  bool Deliver(Stream* stream, uint64_t deadline_ns) {
    std::vector<std::pair<CallState*, Event>> posted;
    {
      std::unique_lock lock(mutex_);
      const auto has_posted = [this] { return !posted_.empty(); };
      if (deadline_ns == 0) {
        changed_.wait(lock, has_posted);
      } else {
        const uint64_t now_ns = MonotonicNs();
        const uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
        changed_.wait_for(lock, std::chrono::nanoseconds(left_ns), has_posted);
      }
      posted.swap(posted_);
    }
    for (const auto& [call, event] : posted) stream->OnPosted(call, event);
    return !posted.empty();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::pair<CallState*, Event>> posted_;
};

class CaseRun {
 public:
  explicit CaseRun(StreamEnvironment* environment) : stream_(environment, &rpc_) {}

  Outcome Run(const std::vector<ProcessingRequest>& messages) {
    for (const ProcessingRequest& message : messages) {
      if (model_.is_over()) break;
      const EnvoyModel::Way way = model_.WayOf(message);
      if (way == EnvoyModel::Way::kDropped) continue;
      // Ended early, with OK, the rest of the exchange passes.
      if (way == EnvoyModel::Way::kPasses || stream_.end().has_value()) {
        model_.Pass(message);
        continue;
      }
      Feed(message);
    }
    if (!stream_.end().has_value()) stream_.OnHalfClose();
    Collect();
    while (!model_.is_over() && !stream_.end().has_value() && model_.owes()) {
      if (!Wait()) break;
    }
    if (!model_.is_over() && model_.owes()) {
      model_.Fail(absl::DeadlineExceededError("the last message got no response"));
    }
    Close();
    Outcome outcome = model_.TakeOutcome();
    Normalize(&outcome);
    return outcome;
  }

 private:
  void Feed(const ProcessingRequest& message) {
    model_.Show(message);
    bytes_.push_back(message.SerializeAsString());
    stream_.OnMessage(bytes_.back());
    Collect();
    while (!model_.is_over() && !stream_.end().has_value() &&
           (model_.owes() || !stream_.wants_message())) {
      if (!Wait()) break;
    }
  }

  // For a call that is at work. False if there is none.
  bool Wait() {
    if (!stream_.may_speak_unasked()) return false;
    const uint64_t deadline_ns = stream_.deadline_ns();
    if (!rpc_.Deliver(&stream_, deadline_ns)) stream_.OnDeadline(MonotonicNs());
    Collect();
    return true;
  }

  void Collect() {
    for (const std::string& bytes : stream_.TakeOutput()) {
      ProcessingResponse response;
      if (!response.ParseFromString(bytes)) {
        return model_.Fail(absl::InternalError("a response cannot be parsed"));
      }
      if (!model_.is_over()) model_.Take(response);
    }
    if (stream_.end().has_value() && !stream_.end()->ok() && !model_.is_over()) {
      model_.Fail(*stream_.end());
    }
  }

  void Close() {
    if (!stream_.end().has_value()) stream_.OnCancel();
    while (!stream_.closed()) rpc_.Deliver(&stream_, 0);
  }

  CaseRpc rpc_;
  std::deque<std::string> bytes_;  // of messages
  Stream stream_;
  EnvoyModel model_;
};

absl::Status At(const CaseFile& file, const ChainPlugin& plugin, const absl::Status& why) {
  return absl::Status(why.code(), fmt::format("{}:{}: {}", file.path, plugin.line, MessageOf(why)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChainRunner>> ChainRunner::Create(const CaseFile& file,
                                                                 const Options& options) {
  std::unique_ptr<ChainRunner> runner(new ChainRunner);
  std::vector<std::shared_ptr<Instance>> instances;
  for (const ChainPlugin& from : file.chain) {
    absl::StatusOr<InstanceSettings> settings = InstanceSettings();
    if (!from.settings.empty()) settings = ParseInstanceSettings(from.settings);
    if (!settings.ok()) return At(file, from, settings.status());
    absl::StatusOr<std::shared_ptr<const Plugin>> plugin = LoadPlugin(from.path);
    if (!plugin.ok()) return At(file, from, plugin.status());
    absl::StatusOr<std::shared_ptr<Instance>> instance =
        Instance::Create(*plugin, from.name, from.config, *settings,
                         {.metrics = &runner->metrics_, .extensions = &runner->extensions_});
    if (!instance.ok()) return At(file, from, instance.status());
    instances.push_back(*std::move(instance));
  }
  runner->chains_ =
      std::make_unique<ChainSource>(std::make_shared<const Chain>(std::move(instances)));
  StreamLimits limits;
  limits.hook_deadline_ms = options.hook_deadline_ms;
  limits.early_end = true;  // the host's default
  limits.mode_override = EnvoyModeOverride::kIgnored;
  absl::StatusOr<std::unique_ptr<StreamEnvironment>> environment =
      StreamEnvironment::Create(limits, runner->chains_.get(), &runner->metrics_);
  if (!environment.ok()) return environment.status();
  runner->environment_ = *std::move(environment);
  return runner;
}

Outcome ChainRunner::Run(const Case& tested) {
  return CaseRun(environment_.get()).Run(tested.messages);
}

}  // namespace callout::host
