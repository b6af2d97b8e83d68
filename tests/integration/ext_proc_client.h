// SPDX-License-Identifier: Apache-2.0

// A client of ext_proc over real sockets, through the generated stubs.
//
//   LiveStream stream(PlaintextChannel(host.address("plaintext")));
//   std::optional<ProcessingResponse> answer = stream.Exchange(request);
//   EXPECT_TRUE(stream.Finish().ok());
//
// Each channel has a connection of its own. One thread; another one may call Send.
#ifndef CALLOUT_TESTS_INTEGRATION_EXT_PROC_CLIENT_H_
#define CALLOUT_TESTS_INTEGRATION_EXT_PROC_CLIENT_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "envoy/service/ext_proc/v3/external_processor.grpc.pb.h"

namespace callout::tests {

namespace ext_proc = envoy::service::ext_proc::v3;

using ChannelPtr = std::shared_ptr<grpc::Channel>;

ChannelPtr PlaintextChannel(const std::string& address);

struct ClientTls {
  std::string ca_pem;    // whom to trust
  std::string cert_pem;  // for mutual TLS; "": none
  std::string key_pem;
};
// Expects a certificate for "localhost".
ChannelPtr TlsChannel(const std::string& address, const ClientTls& tls);

using HeaderList = std::vector<std::pair<std::string, std::string>>;

class LiveStream {
 public:
  // With `metadata` of the RPC.
  explicit LiveStream(const ChannelPtr& channel, const HeaderList& metadata = {});
  ~LiveStream();
  LiveStream(const LiveStream&) = delete;
  LiveStream& operator=(const LiveStream&) = delete;

  bool Send(const ext_proc::ProcessingRequest& request) { return stream_->Write(request); }
  std::optional<ext_proc::ProcessingResponse> Receive();
  std::optional<ext_proc::ProcessingResponse> Exchange(const ext_proc::ProcessingRequest& request);
  // Half-closes unless the server has ended the stream, and gets its status.
  grpc::Status Finish();
  void Cancel() { context_.TryCancel(); }

 private:
  grpc::ClientContext context_;
  const std::unique_ptr<ext_proc::ExternalProcessor::Stub> stub_;
  std::unique_ptr<
      grpc::ClientReaderWriter<ext_proc::ProcessingRequest, ext_proc::ProcessingResponse>>
      stream_;
  bool finished_ = false;
};

// Makes one RPC of raw bytes: a message each way, or any number of responses.
struct RawOutcome {
  std::vector<std::string> answers;
  grpc::Status status;
};
// `on_answer`, if set, gets each response; if it returns false, the client leaves.
RawOutcome CallRaw(const ChannelPtr& channel, const std::string& method, const std::string& request,
                   const std::function<bool(const std::string&)>& on_answer = nullptr);

inline constexpr char kProcessMethod[] = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

// "SERVING", "NOT_SERVING", or the error of grpc.health.v1.
std::string GrpcHealth(const ChannelPtr& channel, const std::string& service);

ext_proc::ProcessingRequest RequestHeaders(const HeaderList& headers, bool end_of_stream = false);
ext_proc::ProcessingRequest ResponseHeaders(const HeaderList& headers, bool end_of_stream = false);
ext_proc::ProcessingRequest RequestBody(const std::string& body, bool end_of_stream = true);
ext_proc::ProcessingRequest ResponseBody(const std::string& body, bool end_of_stream = true);
ext_proc::ProcessingRequest RequestTrailers(const HeaderList& trailers);
ext_proc::ProcessingRequest ResponseTrailers(const HeaderList& trailers);
// As the first message of a stream, which tells `mode` (CALLOUT_BODY_...) for both bodies.
ext_proc::ProcessingRequest WithBodyMode(ext_proc::ProcessingRequest request, int mode);

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_INTEGRATION_EXT_PROC_CLIENT_H_
