// Server reflection: one message of the client asks one question, and gets one
// answer. v1alpha and v1 are the same on the wire
// (github.com/grpc/grpc/blob/master/doc/server-reflection.md).
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <set>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/transport/side_services.h"
#include "host/wire.h"

namespace callout::host {

namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;

constexpr const char* kServices[] = {"envoy.service.ext_proc.v3.ExternalProcessor",
                                     "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                                     "grpc.reflection.v1alpha.ServerReflection"};

// Fields of ServerReflectionRequest.
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

// What is asked about is not linked unless something refers to it.
const DescriptorPool& Pool() {
  return *envoy::service::ext_proc::v3::ProcessingRequest::descriptor()->file()->pool();
}

void AppendError(absl::StatusCode code, std::string_view message, std::string* reply) {
  std::string error;
  AppendVarint(1, static_cast<uint64_t>(code), &error);
  AppendBytes(2, message, &error);
  AppendBytes(kErrorResponse, error, reply);
}

void AppendNotFound(std::string_view what, std::string* reply) {
  AppendError(absl::StatusCode::kNotFound, std::string(what) + " not found", reply);
}

// A file and what it imports, each once.
void AppendFile(const FileDescriptor& file, std::set<const FileDescriptor*>* done,
                std::string* files) {
  if (!done->insert(&file).second) return;
  google::protobuf::FileDescriptorProto proto;
  file.CopyTo(&proto);
  AppendBytes(1, proto.SerializeAsString(), files);
  for (int i = 0; i < file.dependency_count(); ++i) AppendFile(*file.dependency(i), done, files);
}

void AppendFiles(const FileDescriptor* file, std::string_view asked, std::string* reply) {
  if (file == nullptr) return AppendNotFound(asked, reply);
  std::set<const FileDescriptor*> done;
  std::string files;
  AppendFile(*file, &done, &files);
  AppendBytes(kFileDescriptorResponse, files, reply);
}

void AppendFileOfExtension(std::string_view question, std::string* reply) {
  std::string type;
  uint64_t number = 0;
  WireReader reader(question);
  while (reader.Next()) {
    if (reader.Is(1)) type = reader.bytes();
    if (reader.IsVarint(2)) number = reader.varint();
  }
  const Descriptor* extendee = Pool().FindMessageTypeByName(type);
  const FieldDescriptor* extension =
      extendee == nullptr ? nullptr
                          : Pool().FindExtensionByNumber(extendee, static_cast<int>(number));
  AppendFiles(extension == nullptr ? nullptr : extension->file(), type, reply);
}

void AppendExtensionNumbers(const std::string& type, std::string* reply) {
  const Descriptor* extendee = Pool().FindMessageTypeByName(type);
  if (extendee == nullptr) return AppendNotFound(type, reply);
  std::vector<const FieldDescriptor*> extensions;
  Pool().FindAllExtensions(extendee, &extensions);
  std::string numbers;
  AppendBytes(1, type, &numbers);
  for (const FieldDescriptor* extension : extensions) {
    AppendVarint(2, static_cast<uint64_t>(extension->number()), &numbers);
  }
  AppendBytes(kAllExtensionNumbersResponse, numbers, reply);
}

void AppendServices(std::string* reply) {
  std::string services;
  for (const char* name : kServices) {
    std::string service;
    AppendBytes(1, name, &service);
    AppendBytes(1, service, &services);
  }
  AppendBytes(kListServicesResponse, services, reply);
}

void AppendReply(uint32_t question, const std::string& text, std::string* reply) {
  switch (question) {
    case kFileByFilename:
      return AppendFiles(Pool().FindFileByName(text), text, reply);
    case kFileContainingSymbol:
      return AppendFiles(Pool().FindFileContainingSymbol(text), text, reply);
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

class ReflectionRpc final : public SideRpc {
 public:
  void OnMessage(std::string_view bytes) override {
    if (end_.has_value()) return;
    uint32_t question = 0;
    std::string text;
    WireReader reader(bytes);
    while (reader.Next()) {
      if (reader.number() < kFileByFilename || !reader.Is(reader.number())) continue;
      question = reader.number();
      text = reader.bytes();
    }
    if (!reader.ok()) {
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
};

}  // namespace

std::unique_ptr<SideRpc> MakeReflectionRpc() { return std::make_unique<ReflectionRpc>(); }

}  // namespace callout::host
