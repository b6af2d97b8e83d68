// SPDX-License-Identifier: Apache-2.0

// How often the host asks for memory on a stream's way, counted by standing in
// for malloc. A program of its own, since that stands in for all of it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "host/base/spare_bytes.h"
#include "stream_fixture.h"

extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier): glibc's own names.
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* memory, size_t size);
// NOLINTEND(bugprone-reserved-identifier)
}

namespace {

thread_local size_t allocations = 0;

}  // namespace

extern "C" {
void* malloc(size_t size) {
  ++allocations;
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  ++allocations;
  return __libc_calloc(count, size);
}
void* realloc(void* memory, size_t size) {
  ++allocations;
  return __libc_realloc(memory, size);
}
}

namespace callout::host {
namespace {

// HeadersResponse{response{header_mutation{set_headers{header{x-callout: 1}}}}}
constexpr char kStamp[] = "\x0a\x14\x12\x12\x0a\x10\x0a\x0e\x0a\x09x-callout\x1a\x01\x31";

class Allocation : public StreamTest {
 protected:
  void AddStamp() {
    AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
      const callout_bytes_t part = ToBytes(std::string_view(kStamp, sizeof(kStamp) - 1));
      return call->host->respond(call, CALLOUT_REQUEST_HEADERS_RESPONSE, &part, 1);
    };
  }

  static std::vector<ProcessingRequest> BothWays() {
    return {Headers(CALLOUT_REQUEST_HEADERS), Headers(CALLOUT_RESPONSE_HEADERS)};
  }

  // In one stream with these messages, once everything is warm.
  size_t Count(const std::vector<ProcessingRequest>& requests) {
    std::vector<std::string> messages;
    messages.reserve(requests.size());
    for (const ProcessingRequest& request : requests) {
      messages.push_back(request.SerializeAsString());
    }
    size_t counted = 0;
    for (int i = 0; i < 3; ++i) {
      const size_t before = allocations;
      Stream stream(environment_.get(), &rpc_);
      for (const std::string& message : messages) {
        stream.OnMessage(message);
        Stream::Output output = stream.TakeOutput();
        EXPECT_EQ(output.size(), 1u);
        for (std::string& answer : output) KeepSpareBytes(&answer);
      }
      stream.OnHalfClose();
      EXPECT_TRUE(stream.closed() && stream.end()->ok());
      counted = allocations - before;
    }
    return counted;
  }
};

TEST_F(Allocation, NoneWithoutPlugins) {
  Begin();
  EXPECT_EQ(Count(BothWays()), 0u);
}

TEST_F(Allocation, NoneWithAPluginThatAnswers) {
  AddStamp();
  Begin();
  EXPECT_EQ(Count(BothWays()), 0u);
}

TEST_F(Allocation, OneForTheStreamWithSeveralPlugins) {
  AddStamp();
  AddPlugin();
  Begin();
  EXPECT_EQ(Count(BothWays()), 1u);
}

}  // namespace
}  // namespace callout::host
