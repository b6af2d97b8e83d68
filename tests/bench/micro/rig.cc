// SPDX-License-Identifier: Apache-2.0

#include "rig.h"

#include "host/base/spare_bytes.h"
#include "host/base/status_text.h"
#include "host/plugin/loader.h"
#include "tests/bench/socket.h"

namespace callout::bench {
namespace {

template <class T>
T OrFail(absl::StatusOr<T> value) {
  if (!value.ok()) Fail(std::string(host::MessageOf(value.status())));
  return *std::move(value);
}

}  // namespace

std::shared_ptr<const host::Plugin> MakePlugin(host::Hooks::CallHook on_request_headers) {
  host::Plugin::Fields fields;
  fields.name = "bench";
  fields.hooks.phases[CALLOUT_REQUEST_HEADERS] = on_request_headers;
  return std::make_shared<host::Plugin>(std::move(fields));
}

std::shared_ptr<const host::Plugin> LoadBuiltPlugin(const std::string& path) {
  return OrFail(host::LoadPlugin(path));
}

Rig::Rig(const std::shared_ptr<const host::Plugin>& plugin, size_t count) {
  std::vector<std::shared_ptr<host::Instance>> instances;
  for (size_t i = 0; i < count; ++i) {
    instances.push_back(OrFail(
        host::Instance::Create(plugin, "p" + std::to_string(i), "", {}, {.metrics = &metrics_})));
  }
  chains_ =
      std::make_unique<host::ChainSource>(std::make_shared<host::Chain>(std::move(instances)));
  environment_ = OrFail(host::StreamEnvironment::Create({}, chains_.get(), &metrics_));
}

void Rig::RunStream(const Scenario& scenario) {
  host::Stream stream(environment_.get(), this);
  for (const std::string& request : scenario.requests) {
    stream.OnMessage(request);
    if (callout_call_t* call = std::exchange(deferred, nullptr)) {
      call->host->finish(call, CALLOUT_OK);
    }
    for (const auto& [call, event] : posted_) stream.OnPosted(call, event);
    posted_.clear();
    for (std::string& answer : stream.TakeOutput()) host::KeepSpareBytes(&answer);
  }
  stream.OnHalfClose();
  if (!stream.closed() || !stream.end()->ok()) Fail("a stream did not end well");
}

}  // namespace callout::bench
