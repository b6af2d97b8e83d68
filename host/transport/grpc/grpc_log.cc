#include "host/transport/grpc/grpc_log.h"

#include <fmt/format.h>
#include <grpc/support/log.h>

#include "host/base/log.h"

namespace callout::host {
namespace {

void Write(gpr_log_func_args* args) {
  if (args->severity == GPR_LOG_SEVERITY_ERROR) {
    LogLimited(LogLevel::kWarning, fmt::format("grpc {}:{}", args->file, args->line), "gRPC: {}",
               args->message);
  } else {
    Log(LogLevel::kDebug, "gRPC: {}", args->message);
  }
}

}  // namespace

void RouteGrpcLog() { gpr_set_log_function(&Write); }

}  // namespace callout::host
