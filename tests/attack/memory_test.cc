// SPDX-License-Identifier: Apache-2.0

// Under a budget of 256 MiB the nghttp2 transport never takes more than 300 MiB, however
// clients make it keep bytes, and all of them at once; it counts whom it refuses, and
// serves again as soon as they are gone.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "../integration/http_get.h"
#include "../integration/test_host.h"
#include "attacker.h"
#include "envoy/service/auth/v3/external_auth.pb.h"
#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "hoarder.h"
#include "host/wire/rpc_service.h"
#include "tests/envoy/host_process.h"

namespace callout::tests {
namespace {

using envoy::service::ext_proc::v3::ProcessingRequest;

constexpr double kBudgetMib = 256;
constexpr double kResidentMaxMib = 300;

double MemoryMib(pid_t pid, const std::string& field) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) return std::stod(line.substr(field.size() + 1)) / 1024;
  }
  return 0;
}

std::string BodyMessage(size_t bytes) {
  ProcessingRequest request;
  request.mutable_request_body()->set_body(std::string(bytes, 'b'));
  return host::Framed(request.SerializeAsString());
}

std::string FirstMessage(int request_body_mode) {
  ProcessingRequest request;
  request.mutable_request_headers();
  request.mutable_protocol_config()->set_request_body_mode(
      static_cast<envoy::extensions::filters::http::ext_proc::v3::ProcessingMode::BodySendMode>(
          request_body_mode));
  return host::Framed(request.SerializeAsString());
}

// Attributes that the host keeps for later calls.
std::string AttributesMessage(size_t bytes) {
  ProcessingRequest request;
  request.mutable_request_headers();
  (*request.mutable_attributes())["envoy.filters.http.ext_proc"].mutable_fields()->insert(
      {"request.path", google::protobuf::Value()});
  (*(*request.mutable_attributes())["envoy.filters.http.ext_proc"].mutable_fields())["request.path"]
      .set_string_value(std::string(bytes, 'a'));
  return host::Framed(request.SerializeAsString());
}

// Headers that weigh more in memory than on the wire.
std::string CheckMessage() {
  envoy::service::auth::v3::CheckRequest request;
  auto& headers =
      *request.mutable_attributes()->mutable_request()->mutable_http()->mutable_headers();
  for (int i = 0; i < 4096; ++i) headers[fmt::format("{:x}", i)];
  return host::Framed(request.SerializeAsString());
}

// A message of 16 MB, but for its last byte.
std::string PartOfAMessage() {
  std::string part = BodyMessage(16'000'000);
  part.pop_back();
  return part;
}

std::vector<Hoard> Hoards() {
  constexpr int kStreamed = 1, kDuplex = 4;
  return {
      {.name = "metadata",
       .connections = 6,
       .streams = 990,
       .more = {{"x-large", std::string(15000, 'x')}}},
      {.name = "binary metadata",
       .connections = 2,
       .streams = 990,
       .more = {{"x-bin", std::string(12000, 'A')}}},
      {.name = "parts of messages", .connections = 3, .streams = 12, .first = PartOfAMessage()},
      {.name = "sizes announced",
       .connections = 4,
       .streams = 990,
       .first = std::string("\0\0\xf0\0\0", 5) + "x"},
      {.name = "attributes", .connections = 2, .streams = 40, .first = AttributesMessage(3000000)},
      {.name = "answers not taken",
       .connections = 3,
       .streams = 990,
       .first = FirstMessage(kDuplex),
       .repeated = BodyMessage(1),
       .window_bytes = 0},
      {.name = "answers to Checks not taken",
       .path = std::string(host::InfoOf(host::RpcService::kExtAuthz).path),
       .connections = 4,
       .streams = 990,
       .first = CheckMessage(),
       .window_bytes = 0},
      {.name = "bodies gathered",
       .connections = 2,
       .streams = 20,
       .first = FirstMessage(kStreamed),
       .repeated = BodyMessage(60000)},
      {.name = "connections", .connections = 300, .streams = 1},
  };
}

// Of a plugin that gets whole bodies.
std::string SettingsFile() {
  const std::string path = ::testing::TempDir() + fmt::format("memory_test.{}.json", getpid());
  std::ofstream(path) << "{\"whole_body_bytes_max\": 60000000}";
  return path;
}

class MemoryTest : public ::testing::Test {
 protected:
  // Lets all of them send for a while; false as soon as the host takes too much.
  void Hoard(const std::vector<tests::Hoard>& hoards, std::chrono::seconds time) {
    std::vector<std::unique_ptr<Hoarder>> hoarders;
    for (const tests::Hoard& hoard : hoards) {
      for (int i = 0; i < hoard.connections; ++i) {
        hoarders.push_back(std::make_unique<Hoarder>(host_.address("plaintext"), hoard));
      }
    }
    const Clock::time_point until = Clock::now() + time;
    uint64_t refused = 0;
    while (Clock::now() < until) {
      for (const auto& hoarder : hoarders) hoarder->Step();
    }
    for (const auto& hoarder : hoarders) refused += hoarder->refused() + hoarder->exhausted();
    fmt::print("{:20} kept {:4.0f} MiB, resident {:4.0f} MiB, {} streams refused or ended\n",
               hoards.size() > 1 ? "all at once" : hoards[0].name,
               MetricOf(host_.address("admin"), "callout_memory_bytes") / 1048576,
               MemoryMib(host_.pid(), "VmHWM"), refused);
    ASSERT_LE(MemoryMib(host_.pid(), "VmHWM"), kResidentMaxMib) << hoards[0].name;
  }
  double Refusals() {
    double refusals = 0;
    for (const char* what : {"connection", "stream", "growth"}) {
      refusals += MetricOf(host_.address("admin"),
                           fmt::format("callout_memory_refusals_total{{what=\"{}\"}}", what));
    }
    return refusals;
  }

  TestHost host_{
      {"--transport=nghttp2", fmt::format("--memory_budget_bytes={:.0f}", kBudgetMib * 1048576),
       "--plugin=basic=" + BuiltPlugin("basic"), "--plugin_settings=basic=@" + SettingsFile(),
       "--plugin=block_ip=" + BuiltPlugin("block_ip")}};
};

TEST_F(MemoryTest, IsHeldWhateverIsKept) {
  for (const tests::Hoard& hoard : Hoards()) Hoard({hoard}, std::chrono::seconds(2));
  Hoard(Hoards(), std::chrono::seconds(12));
  EXPECT_GT(Refusals(), 0);
  EXPECT_TRUE(Client(host_.address("plaintext")).Exchange()) << "they are gone";
  const Clock::time_point give_up = Clock::now() + std::chrono::seconds(30);
  while (MetricOf(host_.address("admin"), "callout_memory_bytes") > 1048576) {
    ASSERT_LT(Clock::now(), give_up) << "what they have held is not given back";
  }
}

}  // namespace
}  // namespace callout::tests
