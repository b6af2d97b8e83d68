// SPDX-License-Identifier: Apache-2.0

#include "host/transport/builtin_rpcs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <set>
#include <string>
#include <vector>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "grpc/health/v1/health.pb.h"
#include "host/wire/wire.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr char kCheck[] = "/grpc.health.v1.Health/Check";
constexpr char kWatch[] = "/grpc.health.v1.Health/Watch";
constexpr char kService[] = "envoy.service.ext_proc.v3.ExternalProcessor";

std::string Named(std::string_view service) {
  std::string request;
  AppendBytes(1, service, &request);
  return request;
}

TEST(Health, CheckSaysWhetherTheHostServes) {
  std::atomic<bool> serving{true};
  std::vector<std::string> requests = {""};
  for (const std::string_view service : ServiceNames(RpcServices::All()))
    requests.push_back(Named(service));
  for (const std::string& request : requests) {
    for (const bool is_serving : {true, false}) {
      serving = is_serving;
      const auto rpc = MakeBuiltinRpc(kCheck, &serving);
      rpc->OnMessage(request);
      EXPECT_THAT(rpc->TakeOutput(), ElementsAre(is_serving ? "\x08\x01" : "\x08\x02"));
      EXPECT_TRUE(rpc->end()->ok());
    }
  }
}

TEST(Health, CheckKnowsItsServicesOnly) {
  std::atomic<bool> serving{true};
  const auto unknown = MakeBuiltinRpc(kCheck, &serving);
  unknown->OnMessage(Named("no.such.Service"));
  EXPECT_EQ(unknown->end()->code(), absl::StatusCode::kNotFound);
  const auto garbage = MakeBuiltinRpc(kCheck, &serving);
  garbage->OnMessage("\xff");
  EXPECT_EQ(garbage->end()->code(), absl::StatusCode::kInternal);
  const auto empty = MakeBuiltinRpc(kCheck, &serving);
  empty->OnHalfClose();
  EXPECT_EQ(empty->end()->code(), absl::StatusCode::kInternal);
}

TEST(Health, WatchTellsEachChangeOnce) {
  std::atomic<bool> serving{true};
  const auto rpc = MakeBuiltinRpc(kWatch, &serving);
  rpc->OnMessage("");
  rpc->OnHalfClose();
  rpc->OnServingChanged();
  EXPECT_THAT(rpc->TakeOutput(), ElementsAre("\x08\x01"));
  serving = false;
  rpc->OnServingChanged();
  EXPECT_THAT(rpc->TakeOutput(), ElementsAre("\x08\x02"));
  EXPECT_FALSE(rpc->end().has_value());
}

TEST(Health, WatchOfAnUnknownServiceGoesOn) {
  std::atomic<bool> serving{true};
  const auto rpc = MakeBuiltinRpc(kWatch, &serving);
  rpc->OnMessage(Named("no.such.Service"));
  serving = false;
  rpc->OnServingChanged();
  EXPECT_THAT(rpc->TakeOutput(), ElementsAre("\x08\x03"));
  EXPECT_FALSE(rpc->end().has_value());
}

// The reply to a question, by its field number; and the field that answers it.
std::string Ask(uint32_t field, std::string_view text, uint32_t reply_field) {
  const auto rpc =
      MakeBuiltinRpc("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", nullptr);
  std::string question;
  AppendBytes(field, text, &question);
  rpc->OnMessage(question);
  const RpcHandler::Output output = rpc->TakeOutput();
  EXPECT_THAT(output, SizeIs(1));
  rpc->OnHalfClose();
  EXPECT_TRUE(rpc->end()->ok());
  std::string found = "none";
  WireReader reader(output.front());
  while (reader.Next()) {
    if (reader.Is(2)) {
      EXPECT_EQ(reader.bytes(), question) << "original_request";
    }
    if (reader.Is(reply_field)) found = reader.bytes();
  }
  EXPECT_TRUE(reader.ok());
  return found;
}

TEST(Reflection, ListsTheServices) {
  const std::string services = Ask(7, "*", 6);
  EXPECT_THAT(services, HasSubstr("envoy.service.auth.v3.Authorization"));
  EXPECT_THAT(services, HasSubstr("envoy.service.ratelimit.v3.RateLimitService"));
  for (const std::string_view service : ServiceNames(RpcServices::All())) {
    EXPECT_THAT(services, HasSubstr(std::string(service)));
  }
}

TEST(BuiltinRpc, NamesOnlyTheServicesThatAreAnswered) {
  RpcServices served;
  served.Add(RpcService::kExtAuthz);
  const auto reflection =
      MakeBuiltinRpc("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", nullptr,
                     ServiceSet::kAll, served);
  std::string question;
  AppendBytes(7, "*", &question);
  reflection->OnMessage(question);
  const std::string listed = reflection->TakeOutput().front();
  EXPECT_THAT(listed, HasSubstr("envoy.service.auth.v3.Authorization"));
  EXPECT_THAT(listed, ::testing::Not(HasSubstr(kService)));
  std::atomic<bool> serving{true};
  const auto known = MakeBuiltinRpc(kCheck, &serving, ServiceSet::kAll, served);
  known->OnMessage(Named("envoy.service.auth.v3.Authorization"));
  EXPECT_TRUE(known->end()->ok());
  const auto unknown = MakeBuiltinRpc(kCheck, &serving, ServiceSet::kAll, served);
  unknown->OnMessage(Named(kService));
  EXPECT_EQ(unknown->end()->code(), absl::StatusCode::kNotFound);
  const auto probed = MakeBuiltinRpc(kCheck, &serving, ServiceSet::kHealth, served);
  probed->OnMessage(Named(kService));
  EXPECT_TRUE(probed->end()->ok()) << "the health listener knows every name";
  EXPECT_THAT(std::string(UnknownMethod("/a/b", ServiceSet::kAll, served).message()),
              ::testing::Not(HasSubstr(kService)));
}

// The files of a reply, as they were sent.
std::vector<std::string> AskForFiles(uint32_t field, std::string_view text) {
  std::vector<std::string> files;
  const std::string reply = Ask(field, text, 4);
  WireReader reader(reply);
  while (reader.Next()) files.emplace_back(reader.bytes());
  EXPECT_TRUE(reader.ok());
  return files;
}

// As protobuf itself would give it.
std::string DescriptorOf(const google::protobuf::FileDescriptor& file) {
  google::protobuf::FileDescriptorProto proto;
  file.CopyTo(&proto);
  return proto.SerializeAsString();
}

const google::protobuf::FileDescriptor& ExtProcFile() {
  return *envoy::service::ext_proc::v3::ProcessingRequest::descriptor()->file();
}

TEST(Reflection, GivesAFileWithWhatItImports) {
  const std::string name = "envoy/service/ext_proc/v3/external_processor.proto";
  const std::vector<std::string> files = AskForFiles(3, name);
  ASSERT_THAT(files, SizeIs(::testing::Gt(1)));
  EXPECT_EQ(files.front(), DescriptorOf(ExtProcFile()));
  std::set<std::string> names;
  for (const std::string& bytes : files) {
    google::protobuf::FileDescriptorProto file;
    ASSERT_TRUE(file.ParseFromString(bytes));
    EXPECT_TRUE(names.insert(file.name()).second) << file.name();
    EXPECT_EQ(bytes, DescriptorOf(*ExtProcFile().pool()->FindFileByName(file.name())));
    EXPECT_EQ(AskForFiles(3, file.name()).front(), bytes);
  }
  for (int i = 0; i < ExtProcFile().dependency_count(); ++i) {
    EXPECT_THAT(names, ::testing::Contains(ExtProcFile().dependency(i)->name()));
  }
}

TEST(Reflection, FindsTheFileOfWhateverIsDeclared) {
  const std::string package = "envoy.service.ext_proc.v3.";
  for (const std::string& symbol :
       {package + "ExternalProcessor", package + "ExternalProcessor.Process",
        package + "ProcessingRequest", package + "ProcessingRequest.request_headers",
        package + "ProcessingRequest.request", package + "ProcessingRequest.AttributesEntry.key",
        package + "CommonResponse.ResponseStatus", package + "CommonResponse.CONTINUE_AND_REPLACE",
        std::string("envoy.config.core.v3.HeaderValue"), std::string("envoy.type.v3.StatusCode"),
        std::string("google.protobuf.NULL_VALUE")}) {
    const google::protobuf::FileDescriptor* file =
        ExtProcFile().pool()->FindFileContainingSymbol(symbol);
    ASSERT_NE(file, nullptr) << symbol;
    const std::vector<std::string> files = AskForFiles(4, symbol);
    ASSERT_FALSE(files.empty()) << symbol;
    EXPECT_EQ(files.front(), DescriptorOf(*file)) << symbol;
  }
}

TEST(Reflection, DescribesHealthToo) {
  const google::protobuf::FileDescriptor& health =
      *grpc::health::v1::HealthCheckRequest::descriptor()->file();
  EXPECT_EQ(AskForFiles(3, "grpc/health/v1/health.proto"),
            std::vector<std::string>{DescriptorOf(health)});
  for (const std::string symbol :
       {"grpc.health.v1.Health", "grpc.health.v1.Health.Watch", "grpc.health.v1.HealthCheckRequest",
        "grpc.health.v1.HealthCheckResponse.ServingStatus"}) {
    EXPECT_EQ(AskForFiles(4, symbol), std::vector<std::string>{DescriptorOf(health)}) << symbol;
  }
}

TEST(Reflection, SaysWhatItDoesNotKnow) {
  EXPECT_THAT(Ask(4, "no.such.Symbol", 7), HasSubstr("no.such.Symbol not found"));
  EXPECT_THAT(Ask(3, "no/such.proto", 7), HasSubstr("no/such.proto not found"));
  EXPECT_THAT(Ask(9, "?", 7), HasSubstr("asks nothing known"));
}

TEST(Reflection, KnowsNoExtensions) {
  const std::string type = "envoy.service.ext_proc.v3.ProcessingRequest";
  std::string named;
  AppendBytes(1, type, &named);
  EXPECT_EQ(Ask(6, type, 5), named);
  EXPECT_THAT(Ask(6, type + ".request_headers", 7), HasSubstr("request_headers not found"));
  std::string extension = named;
  AppendVarint(2, 1000, &extension);
  EXPECT_THAT(Ask(5, extension, 7), HasSubstr(type + " not found"));
}

TEST(BuiltinRpc, AnUnknownMethodIsNamedWithWhatThereIs) {
  const absl::Status status = UnknownMethod("/envoy.service.auth.v3.Authorization/Check");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("unknown method /envoy.service.auth.v3.Authorization/Check; "));
  EXPECT_THAT(std::string(status.message()), HasSubstr(kService));
  EXPECT_THAT(std::string(UnknownMethod("/" + std::string(100000, 'x')).message()),
              SizeIs(::testing::Lt(500u)));
}

TEST(BuiltinRpc, OtherMethodsAreNobodys) {
  EXPECT_EQ(MakeBuiltinRpc("/grpc.health.v1.Health/List", nullptr), nullptr);
  EXPECT_EQ(MakeBuiltinRpc(kProcessPath, nullptr), nullptr);
}

TEST(BuiltinRpc, ReflectionCanBeSwitchedOffAndHasALimit) {
  constexpr char kReflection[] = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
  EXPECT_EQ(MakeBuiltinRpc(kReflection, nullptr, ServiceSet::kWithoutReflection), nullptr);
  const auto rpc = MakeBuiltinRpc(kReflection, nullptr, ServiceSet::kAll);
  ASSERT_NE(rpc, nullptr);
  for (int i = 0; i < kReflectionQuestionsMax; ++i) rpc->OnMessage("");
  EXPECT_FALSE(rpc->end().has_value());
  rpc->OnMessage("");
  ASSERT_TRUE(rpc->end().has_value());
  EXPECT_EQ(rpc->end()->code(), absl::StatusCode::kResourceExhausted);
}

TEST(BuiltinRpc, AnUnknownMethodIsNamedAndNotAllOfIt) {
  EXPECT_THAT(std::string(UnknownMethod("/a/b").message()),
              ::testing::HasSubstr("unknown method /a/b;"));
  EXPECT_LT(UnknownMethod(std::string(10000, 'x')).message().size(),
            UnknownMethod("").message().size() + 200);
}

}  // namespace
}  // namespace callout::host
