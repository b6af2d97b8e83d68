#include "host/transport/side_services.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <google/protobuf/descriptor.pb.h>

#include "host/wire.h"

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
  for (const std::string& request : {std::string(), Named(kService)}) {
    for (const bool is_serving : {true, false}) {
      serving = is_serving;
      const auto rpc = MakeSideRpc(kCheck, &serving);
      rpc->OnMessage(request);
      EXPECT_THAT(rpc->TakeOutput(), ElementsAre(is_serving ? "\x08\x01" : "\x08\x02"));
      EXPECT_TRUE(rpc->end()->ok());
    }
  }
}

TEST(Health, CheckKnowsItsServicesOnly) {
  std::atomic<bool> serving{true};
  const auto unknown = MakeSideRpc(kCheck, &serving);
  unknown->OnMessage(Named("no.such.Service"));
  EXPECT_EQ(unknown->end()->code(), absl::StatusCode::kNotFound);
  const auto garbage = MakeSideRpc(kCheck, &serving);
  garbage->OnMessage("\xff");
  EXPECT_EQ(garbage->end()->code(), absl::StatusCode::kInternal);
  const auto empty = MakeSideRpc(kCheck, &serving);
  empty->OnHalfClose();
  EXPECT_EQ(empty->end()->code(), absl::StatusCode::kInternal);
}

TEST(Health, WatchTellsEachChangeOnce) {
  std::atomic<bool> serving{true};
  const auto rpc = MakeSideRpc(kWatch, &serving);
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
  const auto rpc = MakeSideRpc(kWatch, &serving);
  rpc->OnMessage(Named("no.such.Service"));
  serving = false;
  rpc->OnServingChanged();
  EXPECT_THAT(rpc->TakeOutput(), ElementsAre("\x08\x03"));
  EXPECT_FALSE(rpc->end().has_value());
}

// The reply to a question, by its field number; and the field that answers it.
std::string Ask(uint32_t field, std::string_view text, uint32_t reply_field) {
  const auto rpc =
      MakeSideRpc("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", nullptr);
  std::string question;
  AppendBytes(field, text, &question);
  rpc->OnMessage(question);
  const std::vector<std::string> output = rpc->TakeOutput();
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
  EXPECT_THAT(services, HasSubstr(kService));
  EXPECT_THAT(services, HasSubstr("grpc.health.v1.Health"));
}

TEST(Reflection, GivesAFileWithWhatItImports) {
  for (const auto& [field, text] : {std::pair<uint32_t, const char*>{4, kService},
                                    {4, "envoy.service.ext_proc.v3.ExternalProcessor.Process"},
                                    {3, "envoy/service/ext_proc/v3/external_processor.proto"}}) {
    std::vector<std::string> names;
    const std::string files = Ask(field, text, 4);
    WireReader reader(files);
    while (reader.Next()) {
      google::protobuf::FileDescriptorProto file;
      ASSERT_TRUE(
          file.ParseFromArray(reader.bytes().data(), static_cast<int>(reader.bytes().size())));
      names.push_back(file.name());
    }
    EXPECT_EQ(names.front(), "envoy/service/ext_proc/v3/external_processor.proto");
    EXPECT_THAT(names, ::testing::Contains("envoy/config/core/v3/base.proto"));
  }
}

TEST(Reflection, SaysWhatItDoesNotKnow) {
  EXPECT_THAT(Ask(4, "no.such.Symbol", 7), HasSubstr("no.such.Symbol not found"));
  EXPECT_THAT(Ask(3, "no/such.proto", 7), HasSubstr("no/such.proto not found"));
  EXPECT_THAT(Ask(9, "?", 7), HasSubstr("asks nothing known"));
  std::string numbers;
  AppendBytes(1, "google.protobuf.FieldOptions", &numbers);
  EXPECT_EQ(Ask(6, "google.protobuf.FieldOptions", 5).substr(0, numbers.size()), numbers);
}

TEST(SideRpc, OtherMethodsAreNobodys) {
  EXPECT_EQ(MakeSideRpc("/grpc.health.v1.Health/List", nullptr), nullptr);
  EXPECT_EQ(MakeSideRpc(kProcessPath, nullptr), nullptr);
}

}  // namespace
}  // namespace callout::host
