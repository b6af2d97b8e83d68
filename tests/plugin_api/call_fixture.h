// SPDX-License-Identifier: Apache-2.0

// Helpers for tests of the tools: a plugin whose hooks are lambdas, run by the fake host of
// <callout/testing.hpp>, and responses parsed by the generated classes.
#ifndef CALLOUT_TESTS_PLUGIN_API_CALL_FIXTURE_H_
#define CALLOUT_TESTS_PLUGIN_API_CALL_FIXTURE_H_

#include <gtest/gtest.h>

#include <callout/plugin.hpp>
#include <callout/testing.hpp>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"

namespace callout {

// The behaviour of the linked-in plugin (hooks.cc) in every phase.
using Hook = std::function<callout_status_t(callout_call_t*)>;
Hook& CurrentHook();

// A C++ hook for one phase, at the edge that CALLOUT_ON_... puts around it.
template <class PhaseCall, class Function>
Hook AtEdge(Function function) {
  return [function](callout_call_t* call) { return internal::run_hook<PhaseCall>(call, function); };
}

// Parses the bytes of a response, which must be a message of that type without unknown fields.
template <class Message>
Message Parse(const testing::Answer& answer) {
  Message message;
  EXPECT_TRUE(message.ParseFromString(answer.message));
  Message known = message;
  known.DiscardUnknownFields();
  EXPECT_EQ(known.SerializeAsString(), message.SerializeAsString()) << message.DebugString();
  return message;
}

class CallTest : public ::testing::Test {
 protected:
  using CommonResponse = envoy::service::ext_proc::v3::CommonResponse;
  using HeadersResponse = envoy::service::ext_proc::v3::HeadersResponse;
  using BodyResponse = envoy::service::ext_proc::v3::BodyResponse;
  using TrailersResponse = envoy::service::ext_proc::v3::TrailersResponse;
  using ImmediateResponse = envoy::service::ext_proc::v3::ImmediateResponse;

  ~CallTest() override { CurrentHook() = nullptr; }

  testing::Answer Headers(Hook hook, const testing::HeaderList& headers = {}) {
    CurrentHook() = std::move(hook);
    testing::Stream stream(plugin_);
    return stream.request_headers(headers);
  }
  testing::Answer Body(Hook hook, std::string_view body = "body",
                       callout_body_mode_t mode = CALLOUT_BODY_BUFFERED) {
    CurrentHook() = std::move(hook);
    testing::Stream stream(plugin_);
    stream.set_body_modes(mode, mode);
    return stream.response_body(body);
  }
  testing::Answer Trailers(Hook hook, const testing::HeaderList& trailers = {}) {
    CurrentHook() = std::move(hook);
    testing::Stream stream(plugin_);
    return stream.response_trailers(trailers);
  }

  testing::Plugin plugin_{testing::kLinked};
};

}  // namespace callout

#endif  // CALLOUT_TESTS_PLUGIN_API_CALL_FIXTURE_H_
