// SPDX-License-Identifier: Apache-2.0

// Server reflection: each message of the client asks one question and gets one response.
// v1alpha and v1 are the same on the wire
// (github.com/grpc/grpc/blob/master/doc/server-reflection.md).
//
// The field numbers stand here, and not in field_numbers.h, because no Debian package has
// reflection's .proto file.
//
// Tested by tests/host/transport/builtin_rpcs_test.cc.
#include <algorithm>

#include "host/transport/builtin_rpcs.h"
#include "host/transport/reflection_tables.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

// Fields of ServerReflectionRequest: the question that is asked.
enum Question : uint32_t {
  kFileByFilename = 3,
  kFileContainingSymbol = 4,
  kFileContainingExtension = 5,
  kAllExtensionNumbersOfType = 6,
  kListServices = 7,
};
// Fields of ServerReflectionResponse.
enum Reply : uint32_t {
  kOriginalRequest = 2,
  kFileDescriptorResponse = 4,
  kAllExtensionNumbersResponse = 5,
  kListServicesResponse = 6,
  kErrorResponse = 7,
};
// Fields of the messages in a ServerReflectionResponse.
constexpr uint32_t kErrorCode = 1, kErrorMessage = 2;  // ErrorResponse
constexpr uint32_t kFileDescriptorProto = 1;           // FileDescriptorResponse
constexpr uint32_t kBaseTypeName = 1;                  // ExtensionNumberResponse
constexpr uint32_t kService = 1;                       // ListServiceResponse
constexpr uint32_t kServiceName = 1;                   // ServiceResponse
// The first field of ExtensionRequest, the type that an extension extends.
constexpr uint32_t kContainingType = 1;

const ReflectedSymbol* FindSymbol(std::string_view name) {
  const auto found = std::lower_bound(
      kReflectedSymbols.begin(), kReflectedSymbols.end(), name,
      [](const ReflectedSymbol& symbol, std::string_view sought) { return symbol.name < sought; });
  return found != kReflectedSymbols.end() && found->name == name ? &*found : nullptr;
}

// The last text in a field from `first` on, and which field it is; false if the
// bytes are no message.
bool ReadText(std::string_view bytes, uint32_t first, uint32_t* field, std::string_view* text) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.number() < first || !reader.Is(reader.number())) continue;
    *field = reader.number();
    *text = reader.bytes();
  }
  return reader.ok();
}

void AppendError(absl::StatusCode code, std::string_view message, std::string* reply) {
  std::string error;
  AppendVarint(kErrorCode, static_cast<uint64_t>(code), &error);
  AppendBytes(kErrorMessage, message, &error);
  AppendBytes(kErrorResponse, error, reply);
}

void AppendNotFound(std::string_view what, std::string* reply) {
  AppendError(absl::StatusCode::kNotFound, std::string(what) + " not found", reply);
}

// With what it imports.
void AppendFile(const ReflectedFile& file, std::string* reply) {
  std::string files;
  for (const uint8_t index : file.closure) {
    AppendBytes(kFileDescriptorProto, kReflectedFiles[index].descriptor, &files);
  }
  AppendBytes(kFileDescriptorResponse, files, reply);
}

void AppendFileNamed(std::string_view name, std::string* reply) {
  for (const ReflectedFile& file : kReflectedFiles) {
    if (file.name == name) return AppendFile(file, reply);
  }
  AppendNotFound(name, reply);
}

void AppendFileOfSymbol(std::string_view name, std::string* reply) {
  const ReflectedSymbol* symbol = FindSymbol(name);
  if (symbol == nullptr) return AppendNotFound(name, reply);
  AppendFile(kReflectedFiles[symbol->file], reply);
}

// There are no extensions; the text of a question for one is the extended type.
void AppendFileOfExtension(std::string_view question, std::string* reply) {
  uint32_t field = 0;
  std::string_view type;
  ReadText(question, kContainingType, &field, &type);
  AppendNotFound(type, reply);
}

void AppendExtensionNumbers(std::string_view type, std::string* reply) {
  const ReflectedSymbol* symbol = FindSymbol(type);
  if (symbol == nullptr || !symbol->is_message) return AppendNotFound(type, reply);
  std::string numbers;
  AppendBytes(kBaseTypeName, type, &numbers);
  AppendBytes(kAllExtensionNumbersResponse, numbers, reply);
}

void AppendServices(std::string* reply) {
  std::string services;
  for (const std::string_view name : kServiceNames) {
    std::string service;
    AppendBytes(kServiceName, name, &service);
    AppendBytes(kService, service, &services);
  }
  AppendBytes(kListServicesResponse, services, reply);
}

void AppendReply(uint32_t question, std::string_view text, std::string* reply) {
  switch (question) {
    case kFileByFilename:
      return AppendFileNamed(text, reply);
    case kFileContainingSymbol:
      return AppendFileOfSymbol(text, reply);
    case kFileContainingExtension:
      return AppendFileOfExtension(text, reply);
    case kAllExtensionNumbersOfType:
      return AppendExtensionNumbers(text, reply);
    case kListServices:
      return AppendServices(reply);
    default:
      AppendError(absl::StatusCode::kInvalidArgument, "the request asks nothing known here", reply);
  }
}

class ReflectionRpc final : public BuiltinRpc {
 public:
  void OnMessage(std::string_view bytes) override {
    if (end_.has_value()) return;
    if (++questions_ > kReflectionQuestionsMax) {
      end_ = absl::ResourceExhaustedError("one RPC of reflection may ask " +
                                          std::to_string(kReflectionQuestionsMax) +
                                          " questions; begin another one");
      return;
    }
    uint32_t question = 0;
    std::string_view text;
    if (!ReadText(bytes, kFileByFilename, &question, &text)) {
      end_ = absl::InternalError("a request to reflection is not a ServerReflectionRequest");
      return;
    }
    std::string reply;
    AppendBytes(kOriginalRequest, bytes, &reply);
    AppendReply(question, text, &reply);
    output_.push_back(std::move(reply));
  }
  void OnHalfClose() override {
    if (!end_.has_value()) end_ = absl::OkStatus();
  }

 private:
  int questions_ = 0;
};

}  // namespace

std::unique_ptr<BuiltinRpc> MakeReflectionRpc() { return std::make_unique<ReflectionRpc>(); }

}  // namespace callout::host
