// SPDX-License-Identifier: Apache-2.0

// Writes the definitions of reflection_tables.h: a step of the build.
//
//   make_reflection_tables OUTPUT.cc
//
// Tested by tests/host/transport/builtin_rpcs_test.cc.
#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "envoy/service/auth/v3/external_auth.pb.h"
#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "envoy/service/network_ext_proc/v3/network_external_processor.pb.h"
#include "envoy/service/ratelimit/v3/rls.pb.h"
#include "grpc/health/v1/health.pb.h"

namespace callout::host {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::ServiceDescriptor;

struct Symbol {
  size_t file = 0;
  bool is_message = false;
};

class Tables {
 public:
  // With what it imports, each once.
  void AddFile(const FileDescriptor& file) {
    if (std::find(files_.begin(), files_.end(), &file) != files_.end()) return;
    files_.push_back(&file);
    AddSymbols(file);
    for (int i = 0; i < file.dependency_count(); ++i) AddFile(*file.dependency(i));
  }

  bool HasExtensions() const { return has_extensions_; }

  std::string ToSource() const {
    std::string text =
        "#include \"host/transport/reflection_tables.h\"\n\n"
        "namespace callout::host {\nnamespace {\n\n";
    for (size_t i = 0; i < files_.size(); ++i) text += FileConstants(i);
    text += "\nconstexpr ReflectedFile kFiles[] = {\n";
    for (size_t i = 0; i < files_.size(); ++i) {
      text += fmt::format("    {{\"{}\", {{kDescriptor{}, sizeof(kDescriptor{})}}, kClosure{}}},\n",
                          files_[i]->name(), i, i, i);
    }
    text += "};\n\nconstexpr ReflectedSymbol kSymbols[] = {\n";
    for (const auto& [name, symbol] : symbols_) {
      text += fmt::format("    {{\"{}\", {}, {}}},\n", name, symbol.file, symbol.is_message);
    }
    return text +
           "};\n\n}  // namespace\n\n"
           "const std::span<const ReflectedFile> kReflectedFiles = kFiles;\n"
           "const std::span<const ReflectedSymbol> kReflectedSymbols = kSymbols;\n\n"
           "}  // namespace callout::host\n";
  }

 private:
  void AddSymbols(const FileDescriptor& file) {
    has_extensions_ |= file.extension_count() > 0;
    for (int i = 0; i < file.message_type_count(); ++i) AddMessage(*file.message_type(i));
    for (int i = 0; i < file.enum_type_count(); ++i) AddEnum(*file.enum_type(i));
    for (int i = 0; i < file.service_count(); ++i) AddService(*file.service(i));
  }

  void AddMessage(const Descriptor& message) {
    Add(message, true);
    has_extensions_ |= message.extension_count() > 0 || message.extension_range_count() > 0;
    for (int i = 0; i < message.field_count(); ++i) Add(*message.field(i));
    for (int i = 0; i < message.oneof_decl_count(); ++i) Add(*message.oneof_decl(i));
    for (int i = 0; i < message.nested_type_count(); ++i) AddMessage(*message.nested_type(i));
    for (int i = 0; i < message.enum_type_count(); ++i) AddEnum(*message.enum_type(i));
  }

  void AddEnum(const EnumDescriptor& type) {
    Add(type);
    for (int i = 0; i < type.value_count(); ++i) Add(*type.value(i));
  }

  void AddService(const ServiceDescriptor& service) {
    Add(service);
    for (int i = 0; i < service.method_count(); ++i) Add(*service.method(i));
  }

  template <class T>
  void Add(const T& declared, bool is_message = false) {
    symbols_[declared.full_name()] = {files_.size() - 1, is_message};
  }

  std::string FileConstants(size_t index) const {
    google::protobuf::FileDescriptorProto proto;
    files_[index]->CopyTo(&proto);
    std::string bytes;
    for (const char byte : proto.SerializeAsString()) {
      bytes += fmt::format("{},{}", int{byte}, bytes.size() % 90 > 80 ? "\n" : "");
    }
    Tables closure;
    closure.AddFile(*files_[index]);
    std::string indices;
    for (const FileDescriptor* file : closure.files_) {
      indices += fmt::format("{},", std::find(files_.begin(), files_.end(), file) - files_.begin());
    }
    return fmt::format(
        "constexpr char kDescriptor{}[] = {{{}}};\nconstexpr uint8_t kClosure{}[] = {{{}}};\n",
        index, bytes, index, indices);
  }

  std::vector<const FileDescriptor*> files_;
  std::map<std::string, Symbol> symbols_;
  bool has_extensions_ = false;
};

int Write(const char* path) {
  Tables tables;
  tables.AddFile(*envoy::service::ext_proc::v3::ProcessingRequest::descriptor()->file());
  tables.AddFile(*envoy::service::auth::v3::CheckRequest::descriptor()->file());
  tables.AddFile(*envoy::service::network_ext_proc::v3::ProcessingRequest::descriptor()->file());
  tables.AddFile(*envoy::service::ratelimit::v3::RateLimitRequest::descriptor()->file());
  tables.AddFile(*grpc::health::v1::HealthCheckRequest::descriptor()->file());
  if (tables.HasExtensions()) {
    fputs("the protos have extensions: let reflection.cc tell of them\n", stderr);
    return 1;
  }
  std::ofstream file(path);
  file << tables.ToSource();
  return file.flush() ? 0 : 1;
}

}  // namespace
}  // namespace callout::host

int main(int argc, char** argv) { return argc == 2 ? callout::host::Write(argv[1]) : 2; }
