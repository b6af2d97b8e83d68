// SPDX-License-Identifier: Apache-2.0

#include "host/tester/chain_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host/base/clock.h"
#include "host/base/status_text.h"
#include "host/plugin/settings.h"
#include "host/stream/stream.h"
#include "host/tester/envoy_model.h"

namespace callout::host {
namespace {

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
    Outcome outcome = model_.TakeOutcome();
    Normalize(&outcome);
    return outcome;
  }

  // After Run. False: a plugin still has a call, so that this must not be destroyed.
  bool Close(uint64_t for_ms) {
    const uint64_t until_ns = MonotonicNs() + for_ms * kNsPerMs;
    if (!stream_.end().has_value()) stream_.OnCancel();
    while (!stream_.closed() && rpc_.Deliver(&stream_, until_ns)) {
    }
    return stream_.closed();
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

  InProcessRpc rpc_;
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
  std::unique_ptr<ChainRunner> runner(new ChainRunner(options.upstreams));
  for (const ChainPlugin& from : file.chain) {
    absl::StatusOr<InstanceSettings> settings = InstanceSettings();
    if (!from.settings.empty()) settings = ParseInstanceSettings(from.settings);
    if (!settings.ok()) return At(file, from, settings.status());
    const absl::Status added =
        runner->chain_.Add({from.path, from.name, from.config, *std::move(settings)});
    if (!added.ok()) return At(file, from, added);
  }
  StreamLimits limits;
  limits.hook_deadline_ms = options.hook_deadline_ms;
  limits.early_end = true;  // the host's default
  limits.mode_override = EnvoyModeOverride::kIgnored;
  if (absl::Status status = runner->chain_.Begin(limits); !status.ok()) return status;
  constexpr uint64_t kUnfinishedLeastMs = 1000;
  runner->unfinished_ms_ = std::max(kUnfinishedLeastMs, options.hook_deadline_ms);
  return runner;
}

Outcome ChainRunner::Run(const Case& tested) {
  auto run = std::make_unique<CaseRun>(chain_.environment());
  Outcome outcome = run->Run(tested.messages);
  if (run->Close(unfinished_ms_)) return outcome;
  outcome.unfinished = fmt::format(
      "a plugin has deferred a call, and not finished it {} ms after the end; finish it on every "
      "path",
      unfinished_ms_);
  has_unfinished_calls_ = true;
  KeepForEver(std::move(run));
  return outcome;
}

}  // namespace callout::host
