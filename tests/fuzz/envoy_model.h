// SPDX-License-Identifier: Apache-2.0

// A model of Envoy's side of a stream, as far as it decides which responses are valid: the messages
// that wait for a response, by direction, and the body modes.
//
// It is written from the observed behaviour of Envoy 1.40, with the generated classes, and not from
// the host's code. A response that a real Envoy would count as spurious is an error here, and so is
// a body that arrives with other bytes although no plugin has changed it.
//
//   EnvoyModel envoy(request_mode, response_mode);
//   envoy.Send(request);                        // note what Envoy sends
//   std::string error = envoy.Take(bytes);      // "" if the answer is legal
//   error = envoy.End(status);
#ifndef CALLOUT_TESTS_FUZZ_ENVOY_MODEL_H_
#define CALLOUT_TESTS_FUZZ_ENVOY_MODEL_H_

#include <array>
#include <deque>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "envoy/service/ext_proc/v3/external_processor.pb.h"

namespace callout::host {

class EnvoyModel {
 public:
  using Request = envoy::service::ext_proc::v3::ProcessingRequest;
  using Response = envoy::service::ext_proc::v3::ProcessingResponse;
  using Mode = envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;

  struct Direction {
    Mode::BodySendMode mode = Mode::NONE;
    // Field numbers of the waiting messages, and the body bytes of each.
    std::deque<std::pair<int, std::string>> outstanding;
    bool content_length = false;
    std::string content_length_text;
    // BUFFERED_PARTIAL: all bytes of content-length were sent, without the end, and are
    // answered. Envoy goes on only after an end of the RPC.
    bool stalled = false;
    bool body_begun = false;
    bool body_ended = false;     // Envoy has sent the end
    bool answer_ended = false;   // and has got it back (FULL_DUPLEX_STREAMED)
    bool replaced = false;       // CONTINUE_AND_REPLACE: nothing more is sent
    std::string sent, received;  // body bytes
    bool asked_time = false;     // for the message that waits
    bool headers_ended = false;  // there is no body
  };

  // `obeys`: allow_mode_override is set.
  EnvoyModel(Mode::BodySendMode request_mode, Mode::BodySendMode response_mode, bool observability,
             bool obeys);

  void Send(const Request& request);
  std::string Take(const std::string& bytes);
  // `half_closed`: Envoy has ended its side before.
  std::string End(const absl::Status& status, bool half_closed) const;

  // Nothing more can be sent to the processor.
  bool done() const { return done_; }
  bool stalled() const { return !done_ && (directions_[0].stalled || directions_[1].stalled); }
  Direction& direction(bool response) { return directions_[response ? 1 : 0]; }
  bool answered() const {
    return directions_[0].outstanding.empty() && directions_[1].outstanding.empty();
  }

 private:
  std::string TakeTimeout();
  std::string TakeReply(const Response& response);
  std::string TakeHeaders(const Response& response, Direction* way);
  std::string TakeBody(const envoy::service::ext_proc::v3::CommonResponse& common,
                       const std::string& chunk, Direction* way);
  std::string TakeDuplexBody(const envoy::service::ext_proc::v3::CommonResponse& common,
                             Direction* way);

  std::array<Direction, 2> directions_;
  const bool observability_;
  const bool obeys_;
  bool done_ = false;      // an immediate response has come
  bool replying_ = false;  // a streamed one has begun
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_FUZZ_ENVOY_MODEL_H_
