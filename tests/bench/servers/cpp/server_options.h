// SPDX-License-Identifier: Apache-2.0

// The command line that all of the benchmark's C++ servers share:
//
//   SERVER PORT|unix:PATH [--tls CERTIFICATE KEY] [--scan]
//
// Once it listens, a server prints `listening PORT`; on a unix socket the number says nothing.
#ifndef CALLOUT_TESTS_BENCH_SERVERS_CPP_SERVER_OPTIONS_H_
#define CALLOUT_TESTS_BENCH_SERVERS_CPP_SERVER_OPTIONS_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include "tests/bench/socket.h"

namespace callout::bench {

struct ServerOptions {
  int port = 0;           // 0: any
  std::string unix_path;  // of the socket to listen on instead; "": none
  std::string certificate_path, key_path;
  bool tls = false;
  bool scan = false;  // read each header before answering
};

inline ServerOptions ParseServerOptions(int argc, char** argv) {
  ServerOptions options;
  if (argc < 2) Fail(std::string(argv[0]) + " PORT|unix:PATH [--tls CERTIFICATE KEY] [--scan]");
  constexpr std::string_view kUnix = "unix:";
  if (std::string_view(argv[1]).starts_with(kUnix)) {
    options.unix_path = argv[1] + kUnix.size();
  } else {
    options.port = atoi(argv[1]);
  }
  for (int i = 2; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--scan") {
      options.scan = true;
    } else if (argument == "--tls" && i + 2 < argc) {
      options.tls = true;
      options.certificate_path = argv[++i];
      options.key_path = argv[++i];
    } else {
      Fail("unknown argument " + std::string(argument));
    }
  }
  return options;
}

inline std::string ReadWholeFile(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// As gRPC writes it.
inline std::string AddressOf(const ServerOptions& options) {
  return options.unix_path.empty() ? "127.0.0.1:" + std::to_string(options.port)
                                   : "unix:" + options.unix_path;
}

inline void SayListening(int port) {
  printf("listening %d\n", port);
  fflush(stdout);
}

}  // namespace callout::bench

#endif  // CALLOUT_TESTS_BENCH_SERVERS_CPP_SERVER_OPTIONS_H_
