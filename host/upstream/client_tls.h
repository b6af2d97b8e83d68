// SPDX-License-Identifier: Apache-2.0

// The TLS of connections to an upstream: certificates from files, by the host's TLS policy.
//
//   ClientTls tls(&config);
//   absl::StatusOr<TlsContext> context = tls.Current();   // for each connection
//
// One thread for a ClientTls.
//
// Tested by tests/host/upstream/upstream_tls_test.cc.
#ifndef CALLOUT_HOST_UPSTREAM_CLIENT_TLS_H_
#define CALLOUT_HOST_UPSTREAM_CLIENT_TLS_H_

#include <array>

#include "absl/status/statusor.h"
#include "host/base/file.h"
#include "host/net/tls_context.h"
#include "host/upstream/upstream_config.h"

namespace callout::host {

// A client's context: it verifies the server's chain (its name is for each connection to check),
// has the client's certificate if there is one, and offers by ALPN what the protocol allows.
// INVALID_ARGUMENT names the key and the file.
absl::StatusOr<TlsContext> MakeUpstreamTls(const UpstreamConfig& config);

// Reads the files anew when they have changed. Files that are invalid leave the last context in
// use, and the log says so.
class ClientTls {
 public:
  explicit ClientTls(const UpstreamConfig* config) : config_(config) {}

  // An error only if there has been no valid context yet.
  absl::StatusOr<TlsContext> Current();

 private:
  using Stamps = std::array<FileStamp, 3>;
  Stamps StampsNow() const;

  const UpstreamConfig* const config_;
  Stamps stamps_;
  TlsContext context_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_UPSTREAM_CLIENT_TLS_H_
