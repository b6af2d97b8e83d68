// SPDX-License-Identifier: Apache-2.0

#include "host/upstream/grpc_message.h"

#include <fmt/format.h>

#include <algorithm>

#include "absl/strings/numbers.h"
#include "host/base/percent.h"

namespace callout::host {
namespace {

constexpr uint32_t kStatusMax = 16;

// Null if there is none.
const std::string* Find(const HeaderFields& fields, std::string_view name) {
  for (const auto& [key, value] : fields) {
    if (key == name) return &value;
  }
  return nullptr;
}

GrpcReply InvalidReply(std::string why) {
  GrpcReply reply;
  reply.why = std::move(why);
  return reply;
}

uint32_t FrameSize(std::string_view frame) {
  uint32_t size = 0;
  for (size_t i = 1; i < kGrpcFrameBytes; ++i) {
    size = (size << 8) | static_cast<unsigned char>(frame[i]);
  }
  return size;
}

}  // namespace

std::string FrameGrpcMessage(std::string_view message) {
  std::string framed;
  framed.reserve(kGrpcFrameBytes + message.size());
  framed.push_back('\0');  // not compressed
  for (int shift = 24; shift >= 0; shift -= 8) {
    framed.push_back(static_cast<char>((message.size() >> shift) & 0xff));
  }
  return framed.append(message);
}

std::string GrpcTimeout(uint64_t timeout_ns) {
  // At most eight digits.
  const uint64_t ms = std::max<uint64_t>(1, timeout_ns / 1'000'000);
  return ms <= 99'999'999 ? fmt::format("{}m", ms) : fmt::format("{}S", ms / 1000);
}

GrpcReply ReadGrpcReply(const UpstreamResponse& response) {
  if (response.status != 200) return InvalidReply(fmt::format("HTTP status {}", response.status));
  const std::string* type = Find(response.headers, "content-type");
  if (type == nullptr || !type->starts_with("application/grpc")) {
    return InvalidReply("its content-type is not application/grpc");
  }
  // A response without a message has its trailers in the headers.
  const HeaderFields& last = response.trailers.empty() ? response.headers : response.trailers;
  const std::string* code = Find(last, "grpc-status");
  uint32_t number = 0;
  if (code == nullptr || !absl::SimpleAtoi(*code, &number))
    return InvalidReply("it has no grpc-status");
  GrpcReply reply;
  if (const std::string* message = Find(last, "grpc-message"); message != nullptr) {
    reply.message = PercentDecoded(*message).value_or(*message);
  }
  reply.status = -static_cast<callout_status_t>(number > kStatusMax ? 2 : number);
  if (reply.status == CALLOUT_OK) {
    const std::string_view body = response.body;
    if (body.size() < kGrpcFrameBytes) return InvalidReply("it has no message");
    if (body[0] != 0) return InvalidReply("its message is compressed, which was not offered");
    if (FrameSize(body) != body.size() - kGrpcFrameBytes) {
      return InvalidReply("its message is cut, or there are several");
    }
    reply.body = body.substr(kGrpcFrameBytes);
  }
  reply.valid = true;
  return reply;
}

}  // namespace callout::host
