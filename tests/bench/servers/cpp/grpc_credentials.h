// SPDX-License-Identifier: Apache-2.0

#ifndef CALLOUT_TESTS_BENCH_SERVERS_CPP_GRPC_CREDENTIALS_H_
#define CALLOUT_TESTS_BENCH_SERVERS_CPP_GRPC_CREDENTIALS_H_

#include <grpcpp/grpcpp.h>

#include <memory>

#include "server_options.h"

namespace callout::bench {

inline std::shared_ptr<grpc::ServerCredentials> MakeCredentials(const ServerOptions& options) {
  if (!options.tls) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions ssl;
  ssl.pem_key_cert_pairs.push_back(
      {ReadWholeFile(options.key_path), ReadWholeFile(options.certificate_path)});
  return grpc::SslServerCredentials(ssl);
}

}  // namespace callout::bench

#endif  // CALLOUT_TESTS_BENCH_SERVERS_CPP_GRPC_CREDENTIALS_H_
