// SPDX-License-Identifier: Apache-2.0

#include "host/ops/health.h"

#include "host/base/health_asked.h"

namespace callout::host {

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
