// SPDX-License-Identifier: Apache-2.0

#include "host/wire/network_message.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "envoy/service/network_ext_proc/v3/network_external_processor.pb.h"
#include "tests/fuzz/network_driver.h"

namespace callout::host {
namespace {

namespace network = envoy::service::network_ext_proc::v3;

class Randomly {
 public:
  explicit Randomly(unsigned seed) : random_(seed) {}
  unsigned Below(unsigned end) { return static_cast<unsigned>(random_() % end); }
  std::string Text() { return std::string(Below(200), static_cast<char>('a' + Below(4))); }
  void Fill(network::Data* data) {
    data->set_data(Text());
    data->set_end_of_stream(Below(3) == 0);
  }
  std::string Request() {
    network::ProcessingRequest request;
    const unsigned kind = Below(5);
    if (kind < 2) Fill(request.mutable_read_data());
    if (kind == 2 || kind == 3) Fill(request.mutable_write_data());
    if (Below(3) == 0) {
      (*(*request.mutable_metadata()->mutable_filter_metadata())["ns"].mutable_fields())["a"]
          .set_number_value(1);
    }
    if (Below(3) == 0) {
      (*(*request.mutable_attributes())["filter"].mutable_fields())["a"].set_string_value(Text());
    }
    return request.SerializeAsString();
  }
  std::string Response() {
    network::ProcessingResponse response;
    if (Below(2) == 0) Fill(response.mutable_read_data());
    if (Below(2) == 0) Fill(response.mutable_write_data());
    if (Below(3) == 0) {
      response.set_connection_status(
          static_cast<network::ProcessingResponse::ConnectionStatus>(Below(3)));
    }
    if (Below(3) == 0) {
      (*response.mutable_dynamic_metadata()->mutable_fields())["a"].set_bool_value(true);
    }
    return response.SerializeAsString();
  }
  std::string Damaged(std::string bytes) {
    for (unsigned i = Below(3); i > 0 && !bytes.empty(); --i) {
      bytes[Below(static_cast<unsigned>(bytes.size()))] = static_cast<char>(Below(256));
    }
    return bytes;
  }

 private:
  std::mt19937 random_;
};

TEST(NetworkMessage, GeneratedProtobufAgreesOnRandomMessages) {
  constexpr unsigned kSeed = 20261129;
  SCOPED_TRACE(kSeed);
  Randomly random(kSeed);
  for (int i = 0; i < 20000 && !::testing::Test::HasFailure(); ++i) {
    EXPECT_EQ(RunNetwork(random.Request(), random.Response()), "");
    EXPECT_EQ(RunNetwork(random.Damaged(random.Request()), random.Damaged(random.Response())), "");
  }
}

TEST(NetworkMessage, AttributesAreThoseOfExtProc) {
  network::ProcessingRequest request;
  (*(*request.mutable_attributes())["filter"].mutable_fields())["a"].set_string_value("b");
  const std::string bytes = request.SerializeAsString();
  const auto view = ParseNetworkRequest(bytes, 1);
  ASSERT_TRUE(view.ok());
  envoy::service::ext_proc::v3::ProcessingRequest as_ext_proc;
  ASSERT_TRUE(as_ext_proc.ParseFromString(WriteNetworkAttributes(*view)));
  EXPECT_EQ(as_ext_proc.attributes().at("filter").fields().at("a").string_value(), "b");
}

TEST(NetworkMessage, TooManyAttributesAreRefused) {
  network::ProcessingRequest request;
  for (const char* name : {"a", "b"}) (*request.mutable_attributes())[name];
  const std::string bytes = request.SerializeAsString();
  EXPECT_TRUE(ParseNetworkRequest(bytes, 2).ok());
  EXPECT_EQ(ParseNetworkRequest(bytes, 1).status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace callout::host
