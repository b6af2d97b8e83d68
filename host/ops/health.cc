#include "host/ops/health.h"

#include "host/base/clock.h"

namespace callout::host {
namespace {

std::atomic<uint64_t> g_asked_ns{0};  // 0: never

}  // namespace

void NoteHealthAsked() { g_asked_ns.store(MonotonicNs(), std::memory_order_relaxed); }

bool HealthAskedWithin(uint64_t seconds) {
  const uint64_t asked_ns = g_asked_ns.load(std::memory_order_relaxed);
  return asked_ns != 0 && MonotonicNs() - asked_ns <= seconds * 1'000'000'000;
}

const char* HealthStateName(Health::State state) {
  switch (state) {
    case Health::State::kStarting:
      return "starting";
    case Health::State::kReady:
      return "ready";
    case Health::State::kUnserved:
      return "unserved";
    case Health::State::kDraining:
      break;
  }
  return "draining";
}

HttpResponse MethodNotAllowed() {
  HttpResponse response;
  response.status = 405;
  response.allow = "GET, HEAD";
  return response;
}

HttpHandler MakeHealthHandler(const Health* health) {
  return [health](const HttpRequestView& request) {
    if (request.method != "GET") return MethodNotAllowed();
    NoteHealthAsked();
    HttpResponse response;
    response.status = health->ready() ? 200 : 503;
    return response;
  };
}

}  // namespace callout::host
