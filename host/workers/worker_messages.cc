#include "host/workers/worker_messages.h"

#include <utility>

namespace callout::host {

WorkerReply AnswerOf(const absl::Status& status) {
  return {static_cast<int32_t>(status.code()), std::string(status.message()), ""};
}

absl::StatusOr<std::string> BodyOf(WorkerReply response) {
  if (response.code == 0) return std::move(response.body);
  return absl::Status(static_cast<absl::StatusCode>(response.code), response.error);
}

}  // namespace callout::host
