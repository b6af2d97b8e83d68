// SPDX-License-Identifier: Apache-2.0

// What callout-client sends, prints and exits with.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "run_client.h"
#include "tests/integration/certificates.h"
#include "tests/integration/ext_proc_client.h"
#include "tests/integration/test_host.h"

namespace callout::tests {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using ServerStream =
    grpc::ServerReaderWriter<ext_proc::ProcessingResponse, ext_proc::ProcessingRequest>;
using Serve = std::function<grpc::Status(grpc::ServerContext*, ServerStream*)>;

// An ext_proc server that has nothing of the host's.
class MadeToOrder : public ext_proc::ExternalProcessor::Service {
 public:
  explicit MadeToOrder(Serve serve) : serve_(std::move(serve)) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    address_ = "127.0.0.1:" + std::to_string(port);
  }
  ~MadeToOrder() override { server_->Shutdown(); }
  const std::string& address() const { return address_; }

 private:
  grpc::Status Process(grpc::ServerContext* context, ServerStream* stream) override {
    return serve_(context, stream);
  }

  const Serve serve_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

// Answers every message with `answer`, and keeps what came.
Serve AnswerEach(const ext_proc::ProcessingResponse& answer,
                 std::vector<ext_proc::ProcessingRequest>* came) {
  return [=](grpc::ServerContext*, ServerStream* stream) {
    ext_proc::ProcessingRequest request;
    while (stream->Read(&request)) {
      came->push_back(request);
      stream->Write(answer);
    }
    return grpc::Status::OK;
  };
}

ext_proc::ProcessingResponse BodyAnswer() {
  ext_proc::ProcessingResponse answer;
  answer.mutable_request_body()->mutable_response()->mutable_body_mutation()->set_body("abc");
  return answer;
}

TEST(Client, SendsWhatItIsGivenInOrderAndPrintsEachAnswer) {
  std::vector<ext_proc::ProcessingRequest> came;
  const MadeToOrder server(AnswerEach(BodyAnswer(), &came));
  const ClientRun run = RunClient(
      {server.address(), "--plaintext", "--data",
       R"([{"request_headers": {"end_of_stream": true}}, {"requestBody": {"body": "AAH/"}}])",
       R"(--data={"response_trailers": {}, "metadata_context": {"filter_metadata":
           {"a.b": {"c": [1, "x,y"]}}}})"});
  EXPECT_EQ(run.exit_status, 0) << run.said;
  EXPECT_EQ(run.said, "");
  const std::string line = R"({"request_body":{"response":{"body_mutation":{"body":"YWJj"}}}})";
  EXPECT_THAT(run.answers, ElementsAre(line, line, line));
  ASSERT_EQ(came.size(), 3u);
  EXPECT_TRUE(came[0].request_headers().end_of_stream());
  EXPECT_EQ(came[1].request_body().body(), std::string("\x00\x01\xff", 3));
  EXPECT_TRUE(came[2].has_response_trailers());
  EXPECT_EQ(came[2]
                .metadata_context()
                .filter_metadata()
                .at("a.b")
                .fields()
                .at("c")
                .list_value()
                .values(1)
                .string_value(),
            "x,y");
}

TEST(Client, ReadsFilesAndStandardInput) {
  std::vector<ext_proc::ProcessingRequest> came;
  const MadeToOrder server(AnswerEach(BodyAnswer(), &came));
  const host::TempDir dir;
  WriteFile(dir.Path("one.json"), "[{\"response_headers\": {}},\n {\"response_body\": {}}]\n");
  const ClientRun run =
      RunClient({"--data=@" + dir.Path("one.json"), "--data=@-", "--plaintext", server.address()},
                "{\"response_trailers\": {}}");
  EXPECT_EQ(run.exit_status, 0) << run.said;
  ASSERT_EQ(came.size(), 3u);
  EXPECT_TRUE(came[1].has_response_body());
  EXPECT_TRUE(came[2].has_response_trailers());
}

TEST(Client, WithoutDataSendsRequestHeadersAndSaysSo) {
  std::vector<ext_proc::ProcessingRequest> came;
  const MadeToOrder server(AnswerEach(BodyAnswer(), &came));
  const ClientRun run = RunClient({server.address(), "--plaintext"});
  EXPECT_EQ(run.exit_status, 0);
  EXPECT_THAT(run.said, HasSubstr("no --data, sending {\"request_headers\": "));
  ASSERT_EQ(came.size(), 1u);
  EXPECT_EQ(came[0].request_headers().headers().headers_size(), 4);
}

TEST(Client, NamesTheAuthorityItIsTold) {
  std::string host;
  const MadeToOrder server([&](grpc::ServerContext* context, ServerStream* stream) {
    const grpc::string_ref authority = context->ExperimentalGetAuthority();
    host.assign(authority.data(), authority.size());
    ext_proc::ProcessingRequest request;
    while (stream->Read(&request)) stream->Write(BodyAnswer());
    return grpc::Status::OK;
  });
  EXPECT_EQ(RunClient({server.address(), "--plaintext", "--authority=callouts.test"}).exit_status,
            0);
  EXPECT_EQ(host, "callouts.test");
}

TEST(Client, ExitsWith1AndTheStatusOfADeniedStream) {
  const MadeToOrder server([](grpc::ServerContext*, ServerStream* stream) {
    ext_proc::ProcessingRequest request;
    stream->Read(&request);
    stream->Write(BodyAnswer());
    return grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "Callout DENIED.");
  });
  const ClientRun run = RunClient({server.address(), "--plaintext", "--data=[{}, {}, {}]"});
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_EQ(run.answers.size(), 1u);
  EXPECT_EQ(run.said, "callout-client: the stream ended with PERMISSION_DENIED: Callout DENIED.\n");
}

TEST(Client, ExitsWith1IfTheServerIsSilentForTooLong) {
  const MadeToOrder waiting([](grpc::ServerContext* context, ServerStream*) {
    while (!context->IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  });
  const ClientRun run = RunClient({waiting.address(), "--plaintext", "--timeout_ms=300"});
  EXPECT_EQ(run.exit_status, 1);
  EXPECT_THAT(run.said, HasSubstr("the stream ended with DEADLINE_EXCEEDED: "));
}

TEST(Client, TakesAnEarlyOkForAnEndAndSaysSo) {
  const MadeToOrder server([](grpc::ServerContext*, ServerStream* stream) {
    stream->Write(BodyAnswer());
    return grpc::Status::OK;
  });
  const ClientRun run = RunClient({server.address(), "--plaintext", "--data=[{}, {}]"});
  EXPECT_EQ(run.exit_status, 0);
  EXPECT_THAT(run.said, HasSubstr("ended the stream early, with OK after 1 answers to 2 messages"));
}

TEST(Client, ExitsWith4IfNothingIsAnswered) {
  const MadeToOrder server([](grpc::ServerContext*, ServerStream* stream) {
    ext_proc::ProcessingRequest request;
    while (stream->Read(&request)) {
    }
    return grpc::Status::OK;
  });
  const ClientRun run = RunClient({server.address(), "--plaintext", "--data=[{}, {}]"});
  EXPECT_EQ(run.exit_status, 4);
  EXPECT_EQ(run.said, "callout-client: the stream ended after 0 responses to 2 messages\n");
  // Where the protocol asks for none, none is missing.
  EXPECT_EQ(RunClient({server.address(), "--plaintext",
                       R"(--data=[{"observability_mode": true}, {"observability_mode": true}])"})
                .exit_status,
            0);
  EXPECT_EQ(RunClient({server.address(), "--plaintext", "--data",
                       R"([{"request_headers": {}, "protocol_config":
                            {"request_body_mode": "FULL_DUPLEX_STREAMED"}},
                           {"request_body": {}}, {"request_body": {}}])"})
                .exit_status,
            4)
      << "the headers are owed a response";
}

TEST(Client, AnImmediateResponseAnswersEverything) {
  ext_proc::ProcessingResponse immediate;
  immediate.mutable_immediate_response()->set_body("no");
  const MadeToOrder server([&](grpc::ServerContext*, ServerStream* stream) {
    ext_proc::ProcessingRequest request;
    stream->Read(&request);
    stream->Write(immediate);
    return grpc::Status::OK;
  });
  const ClientRun run = RunClient({server.address(), "--plaintext", "--data=[{}, {}, {}]"});
  EXPECT_EQ(run.exit_status, 0) << run.said;
  EXPECT_THAT(run.answers, ElementsAre(HasSubstr("immediate_response")));
}

TEST(Client, ExitsWith3IfNobodyListens) {
  const host::TempDir dir;
  const ClientRun run = RunClient({"unix:" + dir.Path("nobody.sock"), "--plaintext"});
  EXPECT_EQ(run.exit_status, 3);
  EXPECT_THAT(run.said, HasSubstr("cannot connect to unix:" + dir.Path("nobody.sock") + ": "));
}

TEST(Client, WaitsForAServerThatDoesNotListenYet) {
  const host::TempDir dir;
  const std::string address = "unix:" + dir.Path("late.sock");
  std::thread client([&] {
    const ClientRun run =
        RunClient({address, "--plaintext", "--wait_ms=30000", "--timeout_ms=30000"});
    EXPECT_EQ(run.exit_status, 0) << run.said;
  });
  TestHost host({"--plaintext_address=" + address});
  client.join();
}

TEST(Client, AsksForACheck) {
  TestHost host({"--plugin=" + BuiltPlugin("block_ip")});
  const auto ask = [&](const std::string& client_ip) {
    json request;
    request["attributes"]["request"]["http"]["headers"]["x-forwarded-for"] = client_ip;
    return RunClient(
        {host.address("plaintext"), "--plaintext", "--service=check", "--data", request.dump()});
  };
  const ClientRun denied = ask("10.0.0.1");
  EXPECT_EQ(denied.exit_status, 0);
  ASSERT_EQ(denied.answers.size(), 1u);
  EXPECT_EQ(json::parse(denied.answers[0])["denied_response"]["status"]["code"], "Forbidden");
  const ClientRun allowed = ask("192.0.2.1");
  ASSERT_EQ(allowed.answers.size(), 1u);
  EXPECT_TRUE(json::parse(allowed.answers[0]).contains("ok_response"));
}

TEST(Client, AsksForARateLimit) {
  TestHost host({"--plugin=" + BuiltPlugin("local_rate_limit"),
                 R"(--plugin_config=local_rate_limit={"limits": [)"
                 R"({"descriptor": [{"key": "user"}], "count": 1, "per": "day"}]})"});
  const auto ask = [&](const std::string& data) {
    return RunClient(
        {host.address("plaintext"), "--plaintext", "--service=ratelimit", "--data", data});
  };
  const std::string request =
      R"({"domain": "d", "descriptors": [{"entries": [{"key": "user", "value": "ada"}]}]})";
  const ClientRun both = ask("[" + request + "," + request + "]");
  EXPECT_EQ(both.exit_status, 0);
  ASSERT_EQ(both.answers.size(), 2u);
  EXPECT_EQ(json::parse(both.answers[0])["overall_code"], "OK");
  EXPECT_EQ(json::parse(both.answers[1])["overall_code"], "OVER_LIMIT");
  EXPECT_EQ(ask(R"({"domain": 1.5})").exit_status, 2);
}

TEST(Client, SendsBytesOfAConnection) {
  TestHost host({"--plugin=" + BuiltPlugin("l4_rewrite"),
                 R"(--plugin_config=l4_rewrite={"replace_read": [{"from": "hello", "to": "x"}]})"});
  const ClientRun run = RunClient({host.address("plaintext"), "--plaintext", "--service=network"});
  EXPECT_EQ(run.exit_status, 0);
  ASSERT_EQ(run.answers.size(), 1u);
  const json answer = json::parse(run.answers[0]);
  EXPECT_EQ(answer["read_data"]["data"], "eA==");
  EXPECT_EQ(answer["data_processing_status"], "MODIFIED");
}

// What an Any holds need not be known here.
TEST(Client, PrintsAnswersThatJsonCannotShow) {
  ext_proc::ProcessingResponse answer;
  (*answer.mutable_typed_dynamic_metadata())["ns"].set_type_url("type.example/unknown.Type");
  (*answer.mutable_typed_dynamic_metadata())["ns"].set_value("x");
  std::vector<ext_proc::ProcessingRequest> came;
  const MadeToOrder server(AnswerEach(answer, &came));
  const ClientRun run = RunClient({server.address(), "--plaintext", "--data={}"});
  EXPECT_EQ(run.exit_status, 0) << run.said;
  ASSERT_EQ(run.answers.size(), 1u);
  EXPECT_THAT(std::string(json::parse(run.answers[0])["text"]), HasSubstr("unknown.Type"));
}

class ClientTls : public ::testing::Test {
 protected:
  void SetUp() override { WriteFile(dir_.Path("ca.pem"), ca_.pem()); }

  host::TempDir dir_;
  TestCa ca_{"test CA"};
  PairFiles files_{dir_, ca_.Issue("localhost")};
};

TEST_F(ClientTls, TrustsTheAuthorityGivenAndNoOther) {
  std::vector<std::string> options = files_.Options();
  options.push_back("--plugin=" + BuiltPlugin("basic"));
  TestHost host(options);
  const std::string address = host.address("secure");
  const ClientRun run =
      RunClient({address, "--cert=" + dir_.Path("ca.pem"), "--authority=localhost"});
  EXPECT_EQ(run.exit_status, 0) << run.said;
  ASSERT_EQ(run.answers.size(), 1u);
  EXPECT_TRUE(json::parse(run.answers[0]).contains("request_headers")) << run.answers[0];

  WriteFile(dir_.Path("other.pem"), TestCa("test CA").pem());
  const ClientRun other =
      RunClient({address, "--cert=" + dir_.Path("other.pem"), "--authority=localhost"});
  EXPECT_EQ(other.exit_status, 3);
  EXPECT_THAT(other.answers, IsEmpty());
  EXPECT_THAT(other.said, HasSubstr("cannot connect to " + address + ": UNAVAILABLE: "));
  // A certificate for another name, the system's authorities, and no TLS at all.
  EXPECT_EQ(RunClient({address, "--cert=" + dir_.Path("ca.pem"), "--authority=x"}).exit_status, 3);
  // gRPC may still be in a handshake when the program ends, which must not be by a crash.
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(RunClient({address, "--authority=localhost"}).exit_status, 3);
  }
  EXPECT_EQ(RunClient({address, "--plaintext"}).exit_status, 3);
}

TEST_F(ClientTls, ShowsACertificateOfItsOwn) {
  const TestCa client_ca("clients");
  WriteFile(dir_.Path("clients.pem"), client_ca.pem());
  const host::TempDir client_dir;
  const PairFiles client(client_dir, client_ca.Issue("tool"));
  std::vector<std::string> options = files_.Options();
  options.push_back("--client_ca_path=" + dir_.Path("clients.pem"));
  TestHost host(options);
  const std::vector<std::string> without = {host.address("secure"), "--cert=" + dir_.Path("ca.pem"),
                                            "--authority=localhost"};
  std::vector<std::string> with = without;
  with.push_back("--client_cert=" + client.chain_path);
  with.push_back("--client_key=" + client.key_path);
  EXPECT_EQ(RunClient(with).exit_status, 0);
  // TLS 1.3 tells a client late that it was refused: as a broken connection.
  EXPECT_THAT(RunClient(without).exit_status, testing::AnyOf(1, 3));
}

}  // namespace
}  // namespace callout::tests
