// SPDX-License-Identifier: Apache-2.0

// Compares everything that proto/ defines with the descriptors of Envoy 1.40.0
// (ext_proc_fields.json, ext_authz_fields.json and their like; README.md says where they
// come from), in both directions.
//
// Either side is turned into a map from an element's full name to one line that says
// all of it, so that a difference reads as two lines.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "envoy/service/auth/v3/external_auth.pb.h"
#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "envoy/service/network_ext_proc/v3/network_external_processor.pb.h"
#include "envoy/service/ratelimit/v3/rls.pb.h"

namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;
using Elements = std::map<std::string, std::string>;

// ---- Envoy's side ----

// What all files say; where they tell of the same thing they agree.
nlohmann::json Facts() {
  nlohmann::json all;
  for (const char* name : {"ext_proc_fields.json", "ext_authz_fields.json", "ratelimit_fields.json",
                           "network_ext_proc_fields.json"}) {
    std::ifstream file(std::string(CALLOUT_PROTO_FACTS "/") + name);
    const nlohmann::json facts = nlohmann::json::parse(file, nullptr, false);
    EXPECT_FALSE(facts.is_discarded()) << name;
    for (const char* kind : {"messages", "enums", "services", "well_known"}) {
      for (const auto& [element, fact] : facts.at(kind).items()) all[kind][element] = fact;
    }
  }
  return all;
}

std::string FieldLine(const nlohmann::json& field) {
  std::string type = field.at("type");
  if (type == "map") {
    type = fmt::format("map<{}, {}>", field.at("key").get<std::string>(),
                       field.at("value").get<std::string>());
  } else if (field.contains("ref")) {
    type += " " + field.at("ref").get<std::string>();
  }
  return fmt::format("field {} {} {} oneof '{}' json {}{}{}", field.at("num").get<int>(),
                     field.at("label").get<std::string>(), type, field.value("oneof", ""),
                     field.at("json").get<std::string>(),
                     field.value("packed", false) ? " packed" : "",
                     field.value("deprecated", false) ? " deprecated" : "");
}

void AddFacts(const nlohmann::json& facts, Elements* elements) {
  for (const auto& [name, message] : facts.at("messages").items()) {
    (*elements)[name] =
        fmt::format("message in {} oneofs {} reserved {}", message.at("file").get<std::string>(),
                    message.value("oneofs", nlohmann::json::array()).dump(),
                    message.value("reserved", nlohmann::json::array()).dump());
    for (const auto& field : message.at("fields")) {
      (*elements)[name + "." + field.at("name").get<std::string>()] = FieldLine(field);
    }
  }
  for (const auto& [name, enumeration] : facts.at("enums").items()) {
    (*elements)[name] =
        fmt::format("enum in {} values {}", enumeration.at("file").get<std::string>(),
                    enumeration.at("values").dump());
  }
  for (const auto& [name, service] : facts.at("services").items()) {
    (*elements)[name] = "service in " + service.at("file").get<std::string>();
    for (const auto& method : service.at("methods")) {
      (*elements)[name + "." + method.at("name").get<std::string>()] =
          fmt::format("method {} takes {}{} returns {}{}", method.at("path").get<std::string>(),
                      method.at("client_streaming").get<bool>() ? "stream " : "",
                      method.at("request").get<std::string>(),
                      method.at("server_streaming").get<bool>() ? "stream " : "",
                      method.at("response").get<std::string>());
    }
  }
}

// The names of `elements` that are defined in one of `files`, with all that is in them.
std::set<std::string> NamesIn(const nlohmann::json& facts, const std::set<std::string>& files) {
  std::set<std::string> names;
  for (const char* kind : {"messages", "enums", "services"}) {
    for (const auto& [name, element] : facts.at(kind).items()) {
      if (files.count(element.at("file")) == 0) continue;
      names.insert(name);
      for (const char* parts : {"fields", "methods"}) {
        for (const auto& part : element.value(parts, nlohmann::json::array())) {
          names.insert(name + "." + part.at("name").get<std::string>());
        }
      }
    }
  }
  return names;
}

// ---- Our side ----

std::string TypeOf(const FieldDescriptor& field) {
  if (field.message_type() != nullptr) return field.message_type()->full_name();
  if (field.enum_type() != nullptr) return field.enum_type()->full_name();
  return field.type_name();
}

std::string FieldLine(const FieldDescriptor& field) {
  std::string label = field.is_repeated() ? "repeated" : "singular";
  if (field.has_presence() && field.real_containing_oneof() == nullptr &&
      field.containing_oneof() != nullptr) {
    label = "optional";
  }
  std::string type = field.type_name();
  if (field.is_map()) {
    label = type = "map";
    type = fmt::format("map<{}, {}>", TypeOf(*field.message_type()->map_key()),
                       TypeOf(*field.message_type()->map_value()));
  } else if (field.message_type() != nullptr || field.enum_type() != nullptr) {
    type += " " + TypeOf(field);
  }
  const auto* oneof = field.real_containing_oneof();
  return fmt::format("field {} {} {} oneof '{}' json {}{}{}", field.number(), label, type,
                     oneof == nullptr ? "" : oneof->name(), field.json_name(),
                     field.is_packed() ? " packed" : "",
                     field.options().deprecated() ? " deprecated" : "");
}

void AddEnum(const EnumDescriptor& enumeration, Elements* elements) {
  nlohmann::json values = nlohmann::json::array();
  for (int i = 0; i < enumeration.value_count(); ++i) {
    values.push_back({enumeration.value(i)->name(), enumeration.value(i)->number()});
  }
  (*elements)[enumeration.full_name()] =
      fmt::format("enum in {} values {}", enumeration.file()->name(), values.dump());
}

void AddMessage(const Descriptor& message, Elements* elements) {
  if (message.options().map_entry()) return;  // its map field says it all
  nlohmann::json oneofs = nlohmann::json::array();
  for (int i = 0; i < message.real_oneof_decl_count(); ++i) {
    oneofs.push_back(message.oneof_decl(i)->name());
  }
  nlohmann::json reserved = nlohmann::json::array();
  for (int i = 0; i < message.reserved_range_count(); ++i) {
    const auto* range = message.reserved_range(i);
    reserved.push_back({range->start, range->end - 1});  // `end` is the first free one
  }
  (*elements)[message.full_name()] =
      fmt::format("message in {} oneofs {} reserved {}", message.file()->name(), oneofs.dump(),
                  reserved.dump());
  for (int i = 0; i < message.field_count(); ++i) {
    (*elements)[message.field(i)->full_name()] = FieldLine(*message.field(i));
  }
  for (int i = 0; i < message.nested_type_count(); ++i) {
    AddMessage(*message.nested_type(i), elements);
  }
  for (int i = 0; i < message.enum_type_count(); ++i) AddEnum(*message.enum_type(i), elements);
}

void AddService(const ServiceDescriptor& service, Elements* elements) {
  (*elements)[service.full_name()] = "service in " + service.file()->name();
  for (int i = 0; i < service.method_count(); ++i) {
    const MethodDescriptor& method = *service.method(i);
    (*elements)[method.full_name()] =
        fmt::format("method /{}/{} takes {}{} returns {}{}", service.full_name(), method.name(),
                    method.client_streaming() ? "stream " : "", method.input_type()->full_name(),
                    method.server_streaming() ? "stream " : "", method.output_type()->full_name());
  }
}

// `file` and those it imports, but for protobuf's own.
void AddFile(const FileDescriptor& file, std::set<std::string>* files, Elements* elements) {
  if (file.package() == "google.protobuf" || !files->insert(file.name()).second) return;
  for (int i = 0; i < file.dependency_count(); ++i) AddFile(*file.dependency(i), files, elements);
  for (int i = 0; i < file.message_type_count(); ++i) AddMessage(*file.message_type(i), elements);
  for (int i = 0; i < file.enum_type_count(); ++i) AddEnum(*file.enum_type(i), elements);
  for (int i = 0; i < file.service_count(); ++i) AddService(*file.service(i), elements);
}

class ProtoTest : public ::testing::Test {
 protected:
  void SetUp() override {
    facts_ = Facts();
    AddFacts(facts_, &theirs_);
    AddFile(*envoy::service::ext_proc::v3::ProcessingRequest::descriptor()->file(), &files_,
            &ours_);
    AddFile(*envoy::service::auth::v3::CheckRequest::descriptor()->file(), &files_, &ours_);
    AddFile(*envoy::service::network_ext_proc::v3::ProcessingRequest::descriptor()->file(), &files_,
            &ours_);
    AddFile(*envoy::service::ratelimit::v3::RateLimitRequest::descriptor()->file(), &files_,
            &ours_);
  }

  nlohmann::json facts_;
  Elements theirs_;
  std::set<std::string> files_;
  Elements ours_;
};

TEST_F(ProtoTest, FilesLieWhereEnvoyHasThem) {
  EXPECT_THAT(files_, ::testing::ElementsAre(
                          "envoy/config/core/v3/address.proto", "envoy/config/core/v3/base.proto",
                          "envoy/extensions/common/ratelimit/v3/ratelimit.proto",
                          "envoy/extensions/filters/http/ext_proc/v3/processing_mode.proto",
                          "envoy/service/auth/v3/attribute_context.proto",
                          "envoy/service/auth/v3/external_auth.proto",
                          "envoy/service/ext_proc/v3/external_processor.proto",
                          "envoy/service/network_ext_proc/v3/network_external_processor.proto",
                          "envoy/service/ratelimit/v3/rls.proto", "envoy/type/v3/http_status.proto",
                          "envoy/type/v3/ratelimit_unit.proto", "google/rpc/status.proto"));
}

TEST_F(ProtoTest, EverythingDefinedIsAsEnvoyHasIt) {
  EXPECT_GT(ours_.size(), 100U);
  for (const auto& [name, line] : ours_) {
    const auto found = theirs_.find(name);
    EXPECT_EQ(line, found == theirs_.end() ? "not in Envoy" : found->second) << name;
  }
}

TEST_F(ProtoTest, NothingOfEnvoysFilesIsLeftOutBySilence) {
  const std::set<std::string> names = NamesIn(facts_, files_);
  EXPECT_GT(names.size(), 100U);
  for (const std::string& name : names) {
    EXPECT_EQ(ours_.count(name), 1U) << name << " is missing in proto/: " << theirs_[name];
  }
}

TEST_F(ProtoTest, WellKnownTypesComeFromProtobufsOwnFiles) {
  const auto& pool = *google::protobuf::DescriptorPool::generated_pool();
  std::set<std::string> used;
  for (const auto& [name, line] : ours_) {
    for (const auto& [type, file] : facts_.at("well_known").items()) {
      if (line.find(type) != std::string::npos) used.insert(type);
    }
  }
  EXPECT_FALSE(used.empty());
  for (const std::string& type : used) {
    const Descriptor* descriptor = pool.FindMessageTypeByName(type);
    ASSERT_NE(descriptor, nullptr) << type;
    EXPECT_EQ(descriptor->file()->name(), facts_.at("well_known").at(type).get<std::string>());
  }
}

}  // namespace
