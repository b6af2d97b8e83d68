#include "host/worker_messages.h"

#include <utility>

namespace callout::host {

WorkerAnswer AnswerOf(const absl::Status& status) {
  return {static_cast<int32_t>(status.code()), std::string(status.message()), ""};
}

absl::StatusOr<std::string> BodyOf(WorkerAnswer answer) {
  if (answer.code == 0) return std::move(answer.body);
  return absl::Status(static_cast<absl::StatusCode>(answer.code), answer.error);
}

}  // namespace callout::host
