// SPDX-License-Identifier: Apache-2.0

// What reflection has to tell: the files that describe the services of ext_proc and
// grpc.health.v1, and what is declared in them. The definitions are written when the
// host is built, by make_reflection_tables.cc, so that a running host needs no
// protobuf.
//
// Constants; any thread.
//
// Tested by tests/host/transport/builtin_rpcs_test.cc.
#ifndef CALLOUT_HOST_TRANSPORT_REFLECTION_TABLES_H_
#define CALLOUT_HOST_TRANSPORT_REFLECTION_TABLES_H_

#include <cstdint>
#include <span>
#include <string_view>

namespace callout::host {

struct ReflectedFile {
  std::string_view name;
  std::string_view descriptor;       // a FileDescriptorProto
  std::span<const uint8_t> closure;  // itself first, then all that it imports: indices
};

struct ReflectedSymbol {
  std::string_view name;
  uint8_t file;  // the index of the one that declares it
  bool is_message;
};

extern const std::span<const ReflectedFile> kReflectedFiles;
// By name. None of them is an extension, nor can any be extended.
extern const std::span<const ReflectedSymbol> kReflectedSymbols;

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_REFLECTION_TABLES_H_
