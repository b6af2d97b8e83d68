// SPDX-License-Identifier: Apache-2.0

// Exchanges as recordings have them, for tests: messages as protobuf's classes, in their order.
#ifndef CALLOUT_TESTS_REPLAY_RECORDED_EXCHANGE_H_
#define CALLOUT_TESTS_REPLAY_RECORDED_EXCHANGE_H_

#include <deque>
#include <string>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/record/recording.h"

namespace callout::host {

class ExchangeBuilder {
 public:
  // Without the bytes of its body, if `strip`.
  ExchangeBuilder& Add(const envoy::service::ext_proc::v3::ProcessingRequest& request,
                       bool strip = false) {
    return AddBytes(MessageKind::kRequest, request.SerializeAsString(), strip);
  }
  ExchangeBuilder& Add(const envoy::service::ext_proc::v3::ProcessingResponse& response,
                       bool strip = false) {
    return AddBytes(MessageKind::kResponse, response.SerializeAsString(), strip);
  }
  ExchangeBuilder& End(absl::StatusCode code, callout_outcome_t outcome) {
    exchange_.end_code = static_cast<uint32_t>(code);
    exchange_.outcome = outcome;
    return *this;
  }

  RecordedExchange& exchange() { return exchange_; }

 private:
  ExchangeBuilder& AddBytes(MessageKind kind, const std::string& bytes, bool strip) {
    RecordedMessage& message = exchange_.messages.emplace_back();
    message.kind = kind;
    message.size = bytes.size();
    std::string& kept = bytes_.emplace_back();
    if (strip) {
      StripBody(kind, bytes, &kept, &message.body_bytes);
      message.body_left_out = message.body_bytes > 0;
    } else {
      kept = bytes;
      message.body_bytes = BodyBytes(kind, bytes);
    }
    message.bytes = kept;
    return *this;
  }

  RecordedExchange exchange_;
  std::deque<std::string> bytes_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_REPLAY_RECORDED_EXCHANGE_H_
