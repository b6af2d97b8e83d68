// SPDX-License-Identifier: Apache-2.0

// A request whose response lasts as long as the test likes.
//
//   std::atomic<bool> released{false};
//   backend.AnswerBy([&](const HttpMessage&) { return LongAnswer(&released); });
//   LongRequest request(envoy.port("front"), {});
//   ASSERT_TRUE(request.AwaitHeaders());
//   …
//   released = true;
//   EXPECT_EQ(request.Await().body, kWhole);
#ifndef CALLOUT_TESTS_ENVOY_LONG_REQUEST_H_
#define CALLOUT_TESTS_ENVOY_LONG_REQUEST_H_

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "../host/sockets.h"
#include "absl/strings/str_cat.h"
#include "backend.h"
#include "http_message.h"

namespace callout::tests {

inline constexpr char kLong[] = "/long";
inline constexpr char kRest[] = "event 2 event 3 event 4 ";
inline constexpr char kWhole[] = "event 1 event 2 event 3 event 4 ";

// A response of which only the first event comes, until `released`.
inline BackendAnswer LongAnswer(const std::atomic<bool>* released) {
  const std::string rest = kRest;
  return {.headers = {{"content-type", "text/event-stream"}},
          .body = {.pieces = {"event 1 ", rest.substr(0, 8), rest.substr(8)},
                   .chunked = true,
                   .may_send = [released, calls = std::make_shared<bool>()](size_t) {
                     return !std::exchange(*calls, true) || released->load();
                   }}};
}

// Reads a response in a thread of its own, and tells when its headers have come.
class LongRequest {
 public:
  LongRequest(uint16_t port, HttpFields headers) {
    thread_ = std::thread([this, port, headers = std::move(headers)] {
      const host::Descriptor connection =
          host::Connect(host::ParsedAddress(absl::StrCat("127.0.0.1:", port)));
      HttpFields all = {{"host", "client.example"}};
      all.insert(all.end(), headers.begin(), headers.end());
      SendMessage(connection.get(), absl::StrCat("GET ", kLong, " HTTP/1.1"), all, {},
                  /*omit_empty=*/true);
      response_ =
          HttpReader<false>(connection.get(), 2 * host::kGiveUpMs).Read([this](const HttpMessage&) {
            has_headers_.Update([](bool& has) { has = true; });
          });
    });
  }
  ~LongRequest() {
    if (thread_.joinable()) thread_.join();
  }
  LongRequest(const LongRequest&) = delete;
  LongRequest& operator=(const LongRequest&) = delete;

  [[nodiscard]] bool AwaitHeaders() {
    return has_headers_.Await([](bool has) { return has; });
  }
  const HttpMessage& Await() {
    if (thread_.joinable()) thread_.join();
    return response_;
  }

 private:
  host::Watched<bool> has_headers_;
  HttpMessage response_;
  std::thread thread_;
};

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_ENVOY_LONG_REQUEST_H_
