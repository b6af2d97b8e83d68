// SPDX-License-Identifier: Apache-2.0

// A client that makes the host keep bytes: it opens many RPCs at once, sends as much on each as
// flow control allows, and reads as little as possible.
//
//   Hoarder hoarder(address, way);
//   while (…) hoarder.Step();      // sends and reads without blocking
//
// The destructor closes its connection. One thread.
#ifndef CALLOUT_TESTS_ATTACK_HOARDER_H_
#define CALLOUT_TESTS_ATTACK_HOARDER_H_

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "host/transport/builtin_rpcs.h"
#include "tests/host/sockets.h"
#include "tests/host/transport/h2_session.h"

namespace callout::tests {

// A way to make the host keep bytes.
struct Hoard {
  std::string name;
  std::string path = host::kProcessPath;
  int connections = 1;
  int streams = 1;                  // of each connection
  H2Headers more = {};              // headers of each RPC
  std::string first = {};           // what each RPC sends first
  std::string repeated = {};        // and then again and again; "": nothing more
  uint32_t window_bytes = 1 << 20;  // of each stream, for what the host sends
  // Begins another RPC for each that has ended.
  bool insists = true;
};

class Hoarder {
 public:
  Hoarder(const std::string& address, const Hoard& hoard);
  ~Hoarder();
  Hoarder(const Hoarder&) = delete;
  Hoarder& operator=(const Hoarder&) = delete;

  // False once the connection is closed.
  bool Step();
  uint64_t refused() const { return refused_; }      // by REFUSED_STREAM
  uint64_t exhausted() const { return exhausted_; }  // by RESOURCE_EXHAUSTED

 private:
  static constexpr size_t kRefusedMax = 3000;  // then it begins no further RPC

  void Begin();
  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                      size_t name_size, const uint8_t* value, size_t value_size, uint8_t,
                      void* user);
  static int OnClosed(nghttp2_session*, int32_t id, uint32_t error_code, void* user);
  static ssize_t Read(nghttp2_session*, int32_t id, uint8_t* buffer, size_t size, uint32_t* flags,
                      nghttp2_data_source* source, void*);

  const Hoard& hoard_;
  const host::Descriptor fd_;
  nghttp2_session* session_ = nullptr;
  std::map<int32_t, uint64_t> sent_;  // by RPC
  std::string unsent_;
  int to_begin_ = 0;
  uint64_t refused_ = 0;
  uint64_t exhausted_ = 0;
};

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_ATTACK_HOARDER_H_
