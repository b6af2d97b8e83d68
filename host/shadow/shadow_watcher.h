// SPDX-License-Identifier: Apache-2.0

// Copies live exchanges for shadows: what comes to the place of each in the chain, and what leaves
// it without it. Everything that a shadow is, is behind this seam; streams know none of it.
//
//   ShadowWatcher watcher(&runner);
//   watcher.Attach(&environment.watchers(), &chains);   // active while the chain has shadows
//   …  watcher.Detach();                                // before the runner or the watcher ends
//
// The hooks of a shadow count as interest: a stream does not end early (--early_end) before the
// phases have come that a shadow of it has hooks for. A shadow sees no phase for which Envoy does
// not ask the host.
//
// A stream that ends without having come to the shadow's place is no exchange of the shadow.
//
// Any thread, but Attach and Detach.
//
// Tested by tests/host/shadow/shadow_watcher_test.cc.
#ifndef CALLOUT_HOST_SHADOW_SHADOW_WATCHER_H_
#define CALLOUT_HOST_SHADOW_SHADOW_WATCHER_H_

#include <memory>

#include "host/plugin/call_observer.h"
#include "host/plugin/chain.h"
#include "host/shadow/shadow_runner.h"

namespace callout::host {

class ShadowWatcher final : public RpcWatcher {
 public:
  // `runner` outlives it.
  explicit ShadowWatcher(ShadowRunner* runner) : runner_(runner) {}
  ~ShadowWatcher() override { Detach(); }

  // Once. Both outlive it, or the Detach.
  void Attach(RpcWatchers* watchers, ChainSource* chains);
  void Detach();

  std::unique_ptr<RpcObserver> Watch(const RpcStart& start) override;

 private:
  void OnChain(const Chain& chain);

  ShadowRunner* const runner_;
  RpcWatchers* watchers_ = nullptr;
  ChainSource* chains_ = nullptr;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_SHADOW_SHADOW_WATCHER_H_
