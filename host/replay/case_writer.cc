// SPDX-License-Identifier: Apache-2.0

#include "host/replay/case_writer.h"

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/base/file.h"
#include "host/base/status_text.h"
#include "host/base/utf8.h"
#include "host/tester/case_file.h"
#include "host/tester/check.h"
#include "host/tester/envoy_model.h"

namespace callout::host {
namespace {

using envoy::config::core::v3::HeaderMap;
using ProcessingMode = envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;

// JSON's texts are YAML's, too.
std::string Quoted(const std::string& text) { return nlohmann::json(text).dump(); }

std::string ToJson(const google::protobuf::Message& message) {
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json);
  return status.ok() ? json : "{}";
}

// {"a": ["1", "2"], "b": "3"}; nothing: a value is no text.
std::optional<std::string> HeadersYaml(const HeaderMap& map) {
  nlohmann::json headers = nlohmann::json::object();
  for (const auto& header : map.headers()) {
    const std::string& value = header.raw_value().empty() ? header.value() : header.raw_value();
    if (!IsUtf8(header.key()) || !IsUtf8(value)) return std::nullopt;
    nlohmann::json& values = headers[header.key()];
    if (values.is_null()) {
      values = value;
    } else {
      if (values.is_string()) values = nlohmann::json::array({values});
      values.push_back(value);
    }
  }
  return headers.dump();
}

// One line of `phases`; nothing: a case cannot have it.
std::optional<std::string> PhaseYaml(const ProcessingRequest& request) {
  const auto headers = [](std::string_view name, const auto& message) {
    const std::optional<std::string> yaml = HeadersYaml(message.headers());
    return yaml.has_value()
               ? std::optional(fmt::format("  - {}: {{headers: {}, end_of_stream: {}}}\n", name,
                                           *yaml, message.end_of_stream()))
               : std::nullopt;
  };
  const auto body = [](std::string_view name, const auto& message) {
    return IsUtf8(message.body())
               ? std::optional(fmt::format("  - {}: {{body: {}, end_of_stream: {}}}\n", name,
                                           Quoted(message.body()), message.end_of_stream()))
               : std::nullopt;
  };
  const auto trailers = [](std::string_view name, const auto& message) {
    const std::optional<std::string> yaml = HeadersYaml(message.trailers());
    return yaml.has_value() ? std::optional(fmt::format("  - {}: {{trailers: {}}}\n", name, *yaml))
                            : std::nullopt;
  };
  switch (request.request_case()) {
    case ProcessingRequest::kRequestHeaders:
      return headers("request_headers", request.request_headers());
    case ProcessingRequest::kResponseHeaders:
      return headers("response_headers", request.response_headers());
    case ProcessingRequest::kRequestBody:
      return body("request_body", request.request_body());
    case ProcessingRequest::kResponseBody:
      return body("response_body", request.response_body());
    case ProcessingRequest::kRequestTrailers:
      return trailers("request_trailers", request.request_trailers());
    case ProcessingRequest::kResponseTrailers:
      return trailers("response_trailers", request.response_trailers());
    default:
      return std::nullopt;
  }
}

// Modes, attributes and metadata of the first message.
std::optional<std::string> FirstYaml(const ProcessingRequest& first) {
  if (!first.has_request_headers() || !first.has_protocol_config() || first.observability_mode()) {
    return std::nullopt;
  }
  std::string yaml =
      fmt::format("  request_body_mode: {}\n  response_body_mode: {}\n",
                  ProcessingMode::BodySendMode_Name(first.protocol_config().request_body_mode()),
                  ProcessingMode::BodySendMode_Name(first.protocol_config().response_body_mode()));
  for (const auto& [filter, attributes] : first.attributes()) {
    if (attributes.fields().empty()) continue;
    yaml += fmt::format("  attributes: {}\n", ToJson(attributes));
    break;
  }
  std::string metadata;
  for (const auto& [space, fields] : first.metadata_context().filter_metadata()) {
    metadata +=
        fmt::format("{}{}: {}", metadata.empty() ? "" : ", ", Quoted(space), ToJson(fields));
  }
  if (!metadata.empty()) yaml += fmt::format("  metadata: {{{}}}\n", metadata);
  return yaml;
}

}  // namespace

CaseWriter::CaseWriter(std::string directory, std::vector<PluginConfig> plugins, size_t cases_max)
    : directory_(std::move(directory)), plugins_(std::move(plugins)), cases_max_(cases_max) {}

void CaseWriter::Add(uint64_t number, const RecordedExchange& exchange) {
  if (cases_.size() >= cases_max_) return;
  ++left_out_;
  if (exchange.messages_left_out > 0 || exchange.messages.empty()) return;
  Written written;
  written.name = fmt::format("exchange {}", number);
  std::string phases;
  EnvoyModel model;
  for (const RecordedMessage& message : exchange.messages) {
    if (message.body_left_out) return;
    const std::string bytes(message.bytes);
    if (message.kind == MessageKind::kResponse) {
      ProcessingResponse response;
      if (!response.ParseFromString(bytes)) return;
      if (!model.is_over()) model.Take(response);
      continue;
    }
    ProcessingRequest request;
    if (!request.ParseFromString(bytes)) return;
    if (phases.empty()) {
      const std::optional<std::string> first = FirstYaml(request);
      if (!first.has_value()) return;
      written.yaml = *first;
    }
    const std::optional<std::string> phase = PhaseYaml(request);
    if (!phase.has_value()) return;
    phases += *phase;
    if (!model.is_over()) model.Show(request);
  }
  const auto code = static_cast<absl::StatusCode>(exchange.end_code);
  if (code != absl::StatusCode::kOk && code != absl::StatusCode::kCancelled && !model.is_over()) {
    model.Fail(absl::Status(code, {exchange.end_message.data(), exchange.end_message.size()}));
  }
  if (phases.empty()) return;
  written.yaml += "  phases:\n" + phases;
  written.outcome = model.TakeOutcome();
  Normalize(&written.outcome);
  cases_.push_back(std::move(written));
  --left_out_;
}

absl::Status CaseWriter::AddChain(std::string* yaml) const {
  *yaml += "chain:\n";
  for (const PluginConfig& plugin : plugins_) {
    std::error_code error;
    const std::string path = std::filesystem::absolute(plugin.path, error).string();
    *yaml += fmt::format("- plugin: {}\n  name: {}\n", Quoted(path), Quoted(plugin.name));
    if (!plugin.config.empty()) {
      if (!IsUtf8(plugin.config)) {
        return absl::InvalidArgumentError(
            fmt::format("--cases: the configuration of {} is no text", plugin.name));
      }
      *yaml += fmt::format("  config: {}\n", Quoted(plugin.config));
    }
    if (plugin.settings_path.empty()) continue;
    const absl::StatusOr<std::string> settings =
        ReadFile(plugin.settings_path, kPluginFileBytesMax);
    if (!settings.ok()) return settings.status();
    const auto json = nlohmann::json::parse(*settings, nullptr, false);
    *yaml += fmt::format("  settings: {}\n", json.dump());
  }
  return absl::OkStatus();
}

absl::Status CaseWriter::Write() const {
  std::error_code error;
  std::filesystem::create_directories(directory_, error);
  if (std::filesystem::exists(path(), error)) {
    return absl::FailedPreconditionError(
        fmt::format("{} is there already; give another --cases directory", path()));
  }
  std::string yaml = "# Written by callout-replay --cases from a recording.\n";
  if (absl::Status status = AddChain(&yaml); !status.ok()) return status;
  yaml += "cases:\n";
  CaseFile file;
  file.path = path();
  for (const Written& written : cases_) {
    yaml += fmt::format("- name: {}\n  golden: true\n{}", written.name, written.yaml);
    Case golden;
    golden.name = written.name;
    const auto compared = CheckGolden(GoldenPath(file, golden), true, 0, written.outcome);
    if (!compared.ok()) return compared.status();
  }
  std::ofstream out(path(), std::ios::binary);
  out << yaml;
  out.close();
  if (out) return absl::OkStatus();
  return absl::UnavailableError(fmt::format("cannot write {}", path()));
}

}  // namespace callout::host
