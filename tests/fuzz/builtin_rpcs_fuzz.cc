// SPDX-License-Identifier: Apache-2.0

// What clients ask of health and reflection: any messages to any of their methods. Every
// message gets one response, or ends the RPC.
//
// Readers: host/transport/builtin_rpcs.cc host/transport/reflection.cc
#include <atomic>
#include <memory>
#include <string>

#include "host/transport/builtin_rpcs.h"
#include "host/wire/wire.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

FUZZ_TARGET(builtin_rpcs, .rounds = 20000, .bytes = 24) {
  static const char* const kPaths[] = {
      "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
      "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"};
  std::atomic<bool> serving{choices.Next(2) == 0};
  const unsigned which = choices.Next(5);
  const std::string path = which < 4 ? kPaths[which] : choices.Bytes(200);
  const std::unique_ptr<BuiltinRpc> rpc = MakeBuiltinRpc(path, &serving);
  if (rpc == nullptr) {
    (void)UnknownMethod(path);
    return which < 4 ? "a method is not there" : "";
  }
  const bool is_watch = which == 1;
  while (!choices.empty() && rpc->wants_message()) {
    const std::string message = choices.Bytes(100);
    rpc->OnMessage(message);
    const size_t responses = rpc->TakeOutput().size();
    if (!is_watch && responses != 1 && !rpc->end().has_value()) {
      return "a message has no response, and the RPC goes on";
    }
    if (responses > 1) return "a message has several responses";
    serving = choices.Next(2) == 0;
    rpc->OnServingChanged();
    for (const std::string& bytes : rpc->TakeOutput()) {
      if (!IsWellFormed(bytes)) return "a response is malformed";
    }
  }
  rpc->OnHalfClose();
  if (!is_watch && !rpc->end().has_value()) return "it does not end with its client";
  rpc->OnDrain();
  return rpc->end().has_value() ? "" : "it does not end with the server";
}

}  // namespace
}  // namespace callout::host
