// SPDX-License-Identifier: Apache-2.0

// One HTTP/1.1 POST on the calling thread, with a time limit for all of it, name lookup included.
//
//   auto post = HttpPost::Create(endpoint, tls);   // tls null: plaintext
//   absl::StatusOr<HttpPost::Reply> reply = (*post)->Send(headers, body, 10000);
//   (*post)->Cancel();                             // any thread: Send returns soon
//
// A connection serves one request: a collector is asked every few seconds, and a connection that
// a collector or a proxy has closed meanwhile would cost a retry.
//
// Send, UseTls and the destructor belong to one thread at a time. Neither waits for a name lookup
// that does not return: what that needs is then left to the end of the process.
#ifndef CALLOUT_HOST_TELEMETRY_HTTP_POST_H_
#define CALLOUT_HOST_TELEMETRY_HTTP_POST_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/net/tls_context.h"
#include "host/telemetry/otlp_config.h"

namespace callout::host {

// A client's TLS context by the project's policy (host/net/tls_policy.h): it checks the server's
// certificate against `ca_path` ("": the system's CAs), and has a certificate of its own if
// `cert_path` is not "". INVALID_ARGUMENT names the file.
absl::StatusOr<TlsContext> MakeClientTlsContext(const std::string& ca_path,
                                                const std::string& cert_path,
                                                const std::string& key_path);

class HttpPost {
 public:
  static constexpr size_t kReplyHeaderBytesMax = 16384;
  static constexpr size_t kReplyBodyBytesMax = 65536;

  using Headers = std::vector<std::pair<std::string, std::string>>;

  struct Reply {
    unsigned status = 0;
    std::string body;
    uint64_t retry_after_ms = 0;  // of Retry-After in seconds; 0: none
  };

  // UNAVAILABLE if the system gives no descriptors.
  static absl::StatusOr<std::unique_ptr<HttpPost>> Create(OtlpEndpoint endpoint, TlsContext tls);
  ~HttpPost();
  HttpPost(const HttpPost&) = delete;
  HttpPost& operator=(const HttpPost&) = delete;

  // UNAVAILABLE if there was no connection, DEADLINE_EXCEEDED, CANCELLED, and DATA_LOSS if what
  // came is not HTTP or too large.
  absl::StatusOr<Reply> Send(const Headers& headers, const std::string& body, uint64_t timeout_ms);

  // For the requests to come, where they are not in plaintext.
  void UseTls(TlsContext tls);

  // For good. Any thread.
  void Cancel();

 private:
  class Core;
  explicit HttpPost(std::unique_ptr<Core> core);

  std::unique_ptr<Core> core_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TELEMETRY_HTTP_POST_H_
