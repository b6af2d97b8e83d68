// SPDX-License-Identifier: Apache-2.0

#include "host/shadow/shadow_watcher.h"

#include <string>
#include <utility>
#include <vector>

#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/plugin/call.h"
#include "host/plugin/instance.h"
#include "host/plugin/rpc_context.h"
#include "host/wire/header_facts.h"
#include "host/wire/phase.h"

namespace callout::host {
namespace {

constexpr uint32_t kMetadataMax = 256;  // entries that are copied

// The phases that are to be copied for an instance: those that it wants, and the headers before
// them, which say how their bodies come.
uint64_t CopiedPhases(uint64_t phases) {
  constexpr uint64_t kAfterResponseHeaders =
      CALLOUT_PHASE_BIT(CALLOUT_RESPONSE_BODY) | CALLOUT_PHASE_BIT(CALLOUT_RESPONSE_TRAILERS);
  phases |= CALLOUT_PHASE_BIT(CALLOUT_REQUEST_HEADERS);
  if ((phases & kAfterResponseHeaders) != 0) phases |= CALLOUT_PHASE_BIT(CALLOUT_RESPONSE_HEADERS);
  return phases;
}

// The copies of one exchange for one shadow.
class Copy {
 public:
  Copy(ShadowRunner* runner, const ShadowPlace& place, size_t chain_size)
      : runner_(runner),
        place_(place),
        chain_size_(chain_size),
        exchange_(std::make_unique<ShadowExchange>()) {
    exchange_->chain = place.alone;
  }
  ~Copy() { GiveUp(); }
  Copy(const Copy&) = delete;
  Copy& operator=(const Copy&) = delete;

  void TakeRpc(const RpcStart& start) {
    exchange_->peer = start.rpc->peer();
    exchange_->listener = start.rpc->listener();
    exchange_->peer_identity = start.rpc->peer_identity();
    std::string_view key, value;
    for (uint32_t i = 0; i < kMetadataMax && start.rpc->GetMetadataAt(i, &key, &value); ++i) {
      exchange_->metadata.emplace_back(key, value);
      metadata_bytes_ += key.size() + value.size();
    }
    exchange_->request_id = SearchHeader(start.headers, "x-request-id");
  }

  void OnPlace(const PlaceView& place) {
    if (exchange_ == nullptr) return;
    // Response phases count from the end of the chain.
    const bool request = IsRequestPhase(place.phase);
    const size_t begin =
        request ? place_.position : chain_size_ - place_.position - place_.replaces;
    if (place.position == begin) Keep(place);
    if (place.position == begin + place_.replaces) before_.OnMessage(place.phase, place.message);
  }

  void OnSaid(const SaidView& said) {
    if (exchange_ == nullptr || !Replaces(*said.state.instance)) return;
    const Response& response = said.state.response;
    const bool immediate = response.field == CALLOUT_IMMEDIATE_RESPONSE ||
                           response.field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE;
    // What else it does to messages shows where they leave its place, but for headers that have
    // left it already.
    if (immediate) {
      before_.OnResponse(response.record + said.state.annotations);
    } else {
      if (IsBodyPhase(said.phase)) before_.OnLateHeaders(said.phase, response);
      before_.OnResponse(said.state.annotations);
    }
  }

  void OnFault(const FaultView& fault) {
    if (exchange_ == nullptr || fault.instance == nullptr || !Replaces(*fault.instance)) return;
    before_.OnError(FaultText(fault.violation, fault.phase));
  }

  void OnCall(const CallRecord& call) {
    if (exchange_ == nullptr || !Replaces(*call.instance)) return;
    ++exchange_->before_times.calls;
    exchange_->before_times.ns += call.taken_ns();
    if (call.result.outcome == CallOutcome::kDenied) {
      before_.OnEnd(absl::Status(static_cast<absl::StatusCode>(-call.result.status), ""));
    }
  }

  void OnEnd() {
    if (exchange_ == nullptr || exchange_->messages.empty()) return GiveUp();
    exchange_->before = before_.Finish();
    runner_->Submit(std::move(exchange_));
  }

 private:
  bool Replaces(const Instance& instance) const {
    return place_.replaces > 0 && instance.name() == place_.instance->settings().instead_of;
  }

  void Keep(const PlaceView& place) {
    const size_t size = place.request.size() + std::exchange(metadata_bytes_, 0);
    if (!runner_->TakeBytes(place_.instance->name(), exchange_->bytes, size)) return GiveUp();
    exchange_->bytes += size;
    exchange_->messages.push_back({place.phase, std::string(place.request)});
  }

  void GiveUp() {
    if (exchange_ == nullptr) return;
    runner_->ReturnBytes(exchange_->bytes);
    exchange_ = nullptr;
  }

  ShadowRunner* const runner_;
  const ShadowPlace& place_;  // of the stream's chain
  const size_t chain_size_;
  std::unique_ptr<ShadowExchange> exchange_;  // null: it was given up, or away
  size_t metadata_bytes_ = 0;                 // that are not counted yet
  OutcomeBuilder before_;
};

class Copies final : public RpcObserver {
 public:
  explicit Copies(std::vector<std::unique_ptr<Copy>> copies, uint64_t phases)
      : copies_(std::move(copies)) {
    set_phases(phases);
  }

  void OnPlace(const PlaceView& place) override {
    for (const auto& copy : copies_) copy->OnPlace(place);
  }
  void OnSaid(const SaidView& said) override {
    for (const auto& copy : copies_) copy->OnSaid(said);
  }
  void OnFault(const FaultView& fault) override {
    for (const auto& copy : copies_) copy->OnFault(fault);
  }
  void OnCall(const CallRecord& call) override {
    for (const auto& copy : copies_) copy->OnCall(call);
  }
  void OnEnd(const RpcEnd&) override {
    for (const auto& copy : copies_) copy->OnEnd();
  }

 private:
  std::vector<std::unique_ptr<Copy>> copies_;
};

}  // namespace

void ShadowWatcher::Attach(RpcWatchers* watchers, ChainSource* chains) {
  watchers_ = watchers;
  chains_ = chains;
  watchers_->Add(this);
  chains_->OnSwitch([this](const Chain& chain) { OnChain(chain); });
}

void ShadowWatcher::Detach() {
  if (chains_ == nullptr) return;
  chains_->OnSwitch(nullptr);
  watchers_->SetActive(this, false);
  chains_ = nullptr;
}

void ShadowWatcher::OnChain(const Chain& chain) {
  runner_->SetShadows(chain);
  bool active = !chain.shadows.empty();
  if (active) {
    if (absl::Status status = runner_->Start(); !status.ok()) {
      Log(LogLevel::kError, "{}; plugins in shadow are shown nothing", MessageOf(status));
      active = false;
    }
  }
  watchers_->SetActive(this, active);
}

std::unique_ptr<RpcObserver> ShadowWatcher::Watch(const RpcStart& start) {
  if (start.chain == nullptr || start.service != RpcService::kExtProc) return nullptr;
  std::vector<std::unique_ptr<Copy>> copies;
  uint64_t phases = 0;
  for (const ShadowPlace& place : start.chain->shadows) {
    const InstanceSettings& settings = place.instance->settings();
    const StreamShare share(settings.percent, settings.by_header, place.instance->name());
    const std::string_view value = settings.by_header.empty()
                                       ? std::string_view()
                                       : SearchHeader(start.headers, settings.by_header);
    if (!share.Takes(value, start.stream_id)) continue;
    if (!runner_->HasRoom(place.instance->name())) continue;
    copies.push_back(std::make_unique<Copy>(runner_, place, start.chain->instances.size()));
    copies.back()->TakeRpc(start);
    phases |= CopiedPhases(place.instance->phases());
    for (size_t i = 0; i < place.replaces; ++i) {
      phases |= start.chain->instances[place.position + i]->phases();
    }
  }
  if (copies.empty()) return nullptr;
  return std::make_unique<Copies>(std::move(copies), phases);
}

}  // namespace callout::host
