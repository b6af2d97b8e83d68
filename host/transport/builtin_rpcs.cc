// SPDX-License-Identifier: Apache-2.0

#include "host/transport/builtin_rpcs.h"

#include <fmt/format.h>

#include <algorithm>

#include "host/base/health_asked.h"
#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

// HealthCheckResponse.ServingStatus
constexpr uint64_t kServing = 1;
constexpr uint64_t kNotServing = 2;
constexpr uint64_t kServiceUnknown = 3;

constexpr char kHealthPath[] = "/grpc.health.v1.Health/";

std::string HealthResponse(uint64_t serving_status) {
  std::string response;
  AppendVarint(field::HealthCheckResponse::kStatus, serving_status, &response);
  return response;
}

// HealthCheckRequest.service; false if the bytes are no such message.
bool ReadService(std::string_view request, std::string_view* service) {
  WireReader reader(request);
  while (reader.Next()) {
    if (reader.Is(field::HealthCheckRequest::kService)) *service = reader.bytes();
  }
  return reader.ok();
}

// The server as a whole, by the empty name, and its services.
bool IsKnown(std::string_view service) {
  return service.empty() ||
         std::find(kServiceNames.begin(), kServiceNames.end(), service) != kServiceNames.end();
}

absl::Status Malformed() {
  return absl::InternalError("a request to grpc.health.v1 is not a HealthCheckRequest");
}

class HealthCheck final : public BuiltinRpc {
 public:
  explicit HealthCheck(const std::atomic<bool>* serving) : serving_(serving) { NoteHealthAsked(); }

  void OnMessage(std::string_view bytes) override {
    if (end_.has_value()) return;
    std::string_view service;
    if (!ReadService(bytes, &service)) {
      end_ = Malformed();
    } else if (!IsKnown(service)) {
      end_ = absl::NotFoundError("service name unknown");
    } else {
      output_.push_back(HealthResponse(serving_->load() ? kServing : kNotServing));
      end_ = absl::OkStatus();
    }
  }
  void OnHalfClose() override {
    if (!end_.has_value())
      end_ = absl::InternalError("grpc.health.v1 Check came without a request");
  }

 private:
  const std::atomic<bool>* const serving_;
};

// Answers now and after each change, until the client leaves.
class HealthWatch final : public BuiltinRpc {
 public:
  explicit HealthWatch(const std::atomic<bool>* serving) : serving_(serving) { NoteHealthAsked(); }

  void OnMessage(std::string_view bytes) override {
    if (end_.has_value() || watching_) return;
    std::string_view service;
    if (!ReadService(bytes, &service)) {
      end_ = Malformed();
      return;
    }
    watching_ = true;
    known_ = IsKnown(service);
    OnServingChanged();
  }
  void OnHalfClose() override {
    if (!watching_ && !end_.has_value()) {
      end_ = absl::InternalError("grpc.health.v1 Watch came without a request");
    }
  }
  void OnServingChanged() override {
    if (!watching_) return;
    const uint64_t status = !known_ ? kServiceUnknown : serving_->load() ? kServing : kNotServing;
    if (std::exchange(told_, status) != status) output_.push_back(HealthResponse(status));
  }

 private:
  const std::atomic<bool>* const serving_;
  bool watching_ = false;
  bool known_ = false;
  uint64_t told_ = 0;
};

// Of a method's name, in an error.
constexpr size_t kShownPathBytesMax = 100;

}  // namespace

void BuiltinRpc::OnDrain() {
  OnServingChanged();
  if (!end_.has_value()) end_ = absl::UnavailableError("the server drains");
}

absl::Status UnknownMethod(std::string_view path, ServiceSet services) {
  const std::string names = services != ServiceSet::kHealth
                                ? fmt::format("{}", fmt::join(kServiceNames, ", "))
                                : "grpc.health.v1.Health";
  return absl::UnimplementedError(fmt::format("unknown method {}; this listener serves {}",
                                              path.substr(0, kShownPathBytesMax), names));
}

std::unique_ptr<BuiltinRpc> MakeBuiltinRpc(std::string_view path, const std::atomic<bool>* serving,
                                           ServiceSet services) {
  if (path.starts_with(kHealthPath)) {
    const std::string_view method = path.substr(sizeof(kHealthPath) - 1);
    if (method == "Check") return std::make_unique<HealthCheck>(serving);
    if (method == "Watch") return std::make_unique<HealthWatch>(serving);
  }
  if (services != ServiceSet::kAll) return nullptr;
  if (path == "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" ||
      path == "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo") {
    return MakeReflectionRpc();
  }
  return nullptr;
}

}  // namespace callout::host
