// SPDX-License-Identifier: Apache-2.0

// The services that plugins may call, as the operator names them in the file of --upstreams.
// docs/upstreams.md has the keys.
//
//   absl::StatusOr<std::vector<UpstreamConfig>> upstreams = ReadUpstreams("/etc/upstreams.json");
//
// Plain functions and values; any thread.
#ifndef CALLOUT_HOST_UPSTREAM_UPSTREAM_CONFIG_H_
#define CALLOUT_HOST_UPSTREAM_UPSTREAM_CONFIG_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace callout::host {

enum class UpstreamProtocol : uint8_t {
  kAuto,  // what ALPN chooses; without TLS HTTP/1.1
  kHttp1,
  kHttp2,  // without TLS with prior knowledge
};

struct UpstreamConfig {
  std::string name;

  // "url"
  bool tls = false;
  std::string host;  // without the brackets of an IPv6 address; "": a unix socket
  uint16_t port = 0;
  std::string unix_path;
  std::string authority;  // Host and :authority; from "url", or "authority"

  UpstreamProtocol protocol = UpstreamProtocol::kAuto;
  bool allow_host_header = false;

  uint64_t timeout_ms = 1000;          // of a call, waiting and retries included
  uint64_t connect_timeout_ms = 1000;  // name lookup and TLS included
  uint64_t idle_timeout_ms = 60000;    // an unused connection is closed then
  // A connection takes no further request then, so that a change of addresses or certificates
  // takes effect.
  uint64_t max_connection_age_ms = 600000;
  size_t max_connections = 100;
  size_t max_streams = 100;   // at once on a connection of HTTP/2
  size_t max_pending = 1000;  // calls that wait for a connection
  size_t max_request_bytes = size_t{1} << 20;
  size_t max_response_bytes = size_t{1} << 20;
  size_t max_response_header_bytes = size_t{32} << 10;  // trailers included
  size_t max_retries = 1;                               // of a call
  uint64_t retry_wait_ms = 25;                          // before the first; doubles
  size_t circuit_failures = 5;                          // in a row; 0: never opens
  uint64_t circuit_open_ms = 5000;

  struct Tls {
    std::string ca_path;           // "": the system's CAs
    std::string certificate_path;  // "": none
    std::string key_path;
    std::string server_name;  // of SNI and the certificate; "": the host
    bool verify = true;
  } tls_files;

  bool may_be_http2() const {
    return protocol == UpstreamProtocol::kHttp2 || (tls && protocol == UpstreamProtocol::kAuto);
  }
};

// Reads and checks the file, certificates and keys included. INVALID_ARGUMENT names upstream and
// key; the caller puts the file before it. `text`: where what the file holds goes, if all is well.
absl::StatusOr<std::vector<UpstreamConfig>> ReadUpstreams(const std::string& path,
                                                          std::string* text = nullptr);

// The same for its text; certificates are not read.
absl::StatusOr<std::vector<UpstreamConfig>> ParseUpstreams(std::string_view text);

}  // namespace callout::host

#endif  // CALLOUT_HOST_UPSTREAM_UPSTREAM_CONFIG_H_
