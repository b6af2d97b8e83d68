// SPDX-License-Identifier: Apache-2.0

// The checks of ../README.md with gRPC C++: `interop-client ADDRESS [CA_FILE]`.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/integration/ext_proc_client.h"

namespace callout::tests {
namespace {

constexpr std::chrono::milliseconds kGiveUp(120000);
constexpr size_t kStreams = 100;

// "" or what was found.
using Found = std::string;

std::string LargeBody() {
  std::string body(200000, '\0');
  for (size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>(i % 251);
  return body;
}

// A stream with what its client may choose before it begins.
class Stream {
 public:
  explicit Stream(const ChannelPtr& channel, std::chrono::milliseconds timeout = kGiveUp)
      : stub_(ext_proc::ExternalProcessor::NewStub(channel)) {
    context_.set_deadline(std::chrono::system_clock::now() + timeout);
  }
  grpc::ClientContext* context() { return &context_; }
  void Send(const ext_proc::ProcessingRequest& request) {
    if (stream_ == nullptr) stream_ = stub_->Process(&context_);
    stream_->Write(request);
  }
  ext_proc::ProcessingResponse Receive() {
    ext_proc::ProcessingResponse answer;
    stream_->Read(&answer);
    return answer;
  }
  ext_proc::ProcessingResponse Exchange(const ext_proc::ProcessingRequest& request) {
    Send(request);
    return Receive();
  }
  void HalfClose() { stream_->WritesDone(); }
  // Reads what is left.
  Found ExpectEnd(grpc::StatusCode code, const std::string& text = "") {
    ext_proc::ProcessingResponse answer;
    if (stream_->Read(&answer)) {
      context_.TryCancel();
      (void)stream_->Finish();
      return "an answer too many: " + answer.ShortDebugString();
    }
    const grpc::Status status = stream_->Finish();
    const bool good =
        status.error_code() == code && status.error_message().find(text) != std::string::npos;
    return good ? ""
                : "status " + std::to_string(status.error_code()) + ": " + status.error_message();
  }

 private:
  grpc::ClientContext context_;
  const std::unique_ptr<ext_proc::ExternalProcessor::Stub> stub_;
  std::unique_ptr<
      grpc::ClientReaderWriter<ext_proc::ProcessingRequest, ext_proc::ProcessingResponse>>
      stream_;
};

Found ExpectHeader(const ext_proc::ProcessingResponse& answer, const std::string& key,
                   const std::string& value) {
  const auto& mutation = answer.request_headers().response().header_mutation();
  for (const auto& option : mutation.set_headers()) {
    if (option.header().key() == key && option.header().raw_value() == value) return "";
  }
  return "no " + key + ": " + value + " in: " + answer.ShortDebugString();
}

ext_proc::ProcessingRequest Headers() { return RequestHeaders({{":path", "/"}}); }

Found Process(const ChannelPtr& channel) {
  Stream stream(channel);
  const auto answer = stream.Exchange(Headers());
  stream.HalfClose();
  const Found end = stream.ExpectEnd(grpc::StatusCode::OK);
  return end.empty() ? ExpectHeader(answer, "x-text", "none") : end;
}

Found LargeBodies(const ChannelPtr& channel) {
  const std::string body = LargeBody();
  Stream stream(channel);
  stream.Exchange(Headers());
  const auto request = stream.Exchange(RequestBody(body));
  stream.Exchange(ResponseHeaders({{":status", "200"}}));
  const auto response = stream.Exchange(ResponseBody(body));
  stream.HalfClose();
  if (Found end = stream.ExpectEnd(grpc::StatusCode::OK); !end.empty()) return end;
  for (const auto* answer : {&request.request_body(), &response.response_body()}) {
    const std::string& found = answer->response().body_mutation().body();
    if (found != body + "-seen") return "a body of " + std::to_string(found.size()) + " bytes";
  }
  return "";
}

Found StreamsAtOnce(const ChannelPtr& channel) {
  std::vector<std::unique_ptr<Stream>> streams;
  for (size_t i = 0; i < kStreams; ++i) {
    streams.push_back(std::make_unique<Stream>(channel));
    streams.back()->Send(Headers());
  }
  Found found;
  for (const auto& stream : streams) {
    const auto answer = stream->Receive();
    if (found.empty()) found = ExpectHeader(answer, "x-text", "none");
  }
  for (const auto& stream : streams) stream->HalfClose();
  for (const auto& stream : streams) {
    const Found end = stream->ExpectEnd(grpc::StatusCode::OK);
    if (found.empty()) found = end;
  }
  return found;
}

Found Cancel(const ChannelPtr& channel) {
  Stream stream(channel);
  stream.Exchange(Headers());
  stream.context()->TryCancel();
  const Found end = stream.ExpectEnd(grpc::StatusCode::CANCELLED);
  return end.empty() ? Process(channel) : end;
}

Found Deadline(const ChannelPtr& channel) {
  Stream stream(channel, std::chrono::milliseconds(300));
  // An answer may come before the time is over.
  stream.Exchange(Headers());
  const Found end = stream.ExpectEnd(grpc::StatusCode::DEADLINE_EXCEEDED);
  return end.empty() ? Process(channel) : end;
}

Found UnknownMethod(const ChannelPtr& channel) {
  const RawOutcome outcome =
      CallRaw(channel, "/envoy.service.ext_proc.v3.ExternalProcessor/Unknown", "");
  if (outcome.status.error_code() == grpc::StatusCode::UNIMPLEMENTED) return "";
  return "status " + std::to_string(outcome.status.error_code());
}

Found HealthCheck(const ChannelPtr& channel) {
  const std::string health = GrpcHealth(channel, "");
  return health == "SERVING" ? "" : health;
}

// The client leaves after the first answer, or the watch would go on for ever.
Found HealthWatch(const ChannelPtr& channel) {
  const RawOutcome outcome = CallRaw(channel, "/grpc.health.v1.Health/Watch", "",
                                     [](const std::string&) { return false; });
  if (outcome.answers.empty()) {
    return "no answer, status " + std::to_string(outcome.status.error_code());
  }
  // HealthCheckResponse{status = 1}: SERVING.
  return outcome.answers.front() == "\x08\x01" ? "" : "another answer";
}

Found Metadata(const ChannelPtr& channel) {
  Stream stream(channel);
  stream.context()->AddMetadata("x-interop", "hello");
  stream.context()->AddMetadata("x-interop-bin", std::string("\0\xff\x10\x80", 4));
  const auto answer = stream.Exchange(Headers());
  stream.HalfClose();
  if (Found end = stream.ExpectEnd(grpc::StatusCode::OK); !end.empty()) return end;
  const Found text = ExpectHeader(answer, "x-text", "hello");
  return text.empty() ? ExpectHeader(answer, "x-bytes", "00ff1080") : text;
}

Found Compression(const ChannelPtr& channel) {
  Stream stream(channel);
  stream.context()->set_compression_algorithm(GRPC_COMPRESS_GZIP);
  stream.Send(RequestBody(LargeBody()));
  const Found end = stream.ExpectEnd(grpc::StatusCode::UNIMPLEMENTED, "gzip");
  return end.empty() ? Process(channel) : end;
}

Found MessageTooLarge(const ChannelPtr& channel) {
  Stream stream(channel);
  stream.Send(RequestBody(std::string(1000001, 'a')));
  const Found end = stream.ExpectEnd(grpc::StatusCode::RESOURCE_EXHAUSTED);
  return end.empty() ? Process(channel) : end;
}

struct Check {
  const char* name;
  Found (*run)(const ChannelPtr& channel);
};

constexpr Check kChecks[] = {
    {"process", Process},
    {"large-bodies", LargeBodies},
    {"streams-at-once", StreamsAtOnce},
    {"cancel", Cancel},
    {"deadline", Deadline},
    {"unknown-method", UnknownMethod},
    {"health-check", HealthCheck},
    {"health-watch", HealthWatch},
    {"metadata", Metadata},
    {"compression", Compression},
    {"message-too-large", MessageTooLarge},
};

ChannelPtr Connect(int argc, char** argv) {
  if (argc < 3) return PlaintextChannel(argv[1]);
  std::ostringstream authority;
  authority << std::ifstream(argv[2]).rdbuf();
  return TlsChannel(argv[1], {.ca_pem = authority.str(), .cert_pem = "", .key_pem = ""});
}

int Run(int argc, char** argv) {
  printf("client gRPC C++ %s\n", grpc::Version().c_str());
  const ChannelPtr channel = Connect(argc, argv);
  int failures = 0;
  for (const Check& check : kChecks) {
    const Found found = check.run(channel);
    if (found.empty()) {
      printf("ok %s\n", check.name);
    } else {
      ++failures;
      printf("FAILED %s: %s\n", check.name, found.substr(0, 300).c_str());
    }
    fflush(stdout);
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace callout::tests

int main(int argc, char** argv) {
  if (argc < 2) {
    fprintf(stderr, "%s ADDRESS [CA_FILE]\n", argv[0]);
    return 2;
  }
  return callout::tests::Run(argc, argv);
}
