// SPDX-License-Identifier: Apache-2.0

#include "tests/churn/crowd.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <utility>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/transport/builtin_rpcs.h"

namespace callout::tests {
namespace {

namespace ext_proc = envoy::service::ext_proc::v3;

// Only a failing test gets there, also with a sanitizer on a machine with other work.
constexpr std::chrono::seconds kGiveUp(120);
constexpr int kAskEveryMs = 5;

std::string Message(bool is_request, const std::string& plan, const std::string& id) {
  ext_proc::ProcessingRequest message;
  auto* const headers =
      is_request ? message.mutable_request_headers() : message.mutable_response_headers();
  headers->set_end_of_stream(true);
  const std::pair<const char*, const std::string&> fields[] = {{"x-plan", plan}, {"x-id", id}};
  for (const auto& [name, value] : fields) {
    auto* const header = headers->mutable_headers()->add_headers();
    header->set_key(name);
    header->set_raw_value(value);
  }
  return host::Framed(message.SerializeAsString());
}

// What a response sets; "" for what it does not.
struct Fields {
  std::string id;
  std::string begun = {}, over = {};
};
Fields FieldsOf(const std::string& message, bool is_request) {
  ext_proc::ProcessingResponse response;
  if (!response.ParseFromString(message)) return {.id = "not a ProcessingResponse"};
  if (is_request ? !response.has_request_headers() : !response.has_response_headers()) {
    return {.id = "of another phase: " + response.ShortDebugString()};
  }
  const auto& headers = is_request ? response.request_headers() : response.response_headers();
  Fields fields;
  for (const auto& option : headers.response().header_mutation().set_headers()) {
    const std::string& name = option.header().key();
    const std::string& value =
        option.header().raw_value().empty() ? option.header().value() : option.header().raw_value();
    if (name == "x-id") fields.id = value;
    if (name == "x-begun") fields.begun = value;
    if (name == "x-over") fields.over = value;
  }
  return fields;
}

}  // namespace

Crowd::Crowd(const std::string& address, size_t connections, std::mt19937_64* random)
    : address_(host::ParsedAddress(address)), random_(random) {
  for (size_t i = 0; i < connections; ++i) connections_.push_back(Connect());
}

std::unique_ptr<Crowd::Connection> Crowd::Connect() const {
  auto connection = std::make_unique<Connection>();
  connection->fd = host::Connect(address_);
  return connection;
}

void Crowd::Open(const Plan& plan) {
  Connection* const connection = connections_[(*random_)() % connections_.size()].get();
  Stream stream = {std::to_string(++counts_.opened), plan.response};
  const int32_t number = connection->h2.Begin(host::kProcessPath);
  // A stream without a second message may be half-closed with the first, or not.
  const bool ends = plan.response.empty() && Draw(0.5);
  connection->h2.Send(number, Message(true, plan.request, stream.id), ends);
  connection->streams.emplace(number, std::move(stream));
}

void Crowd::Leave(double share) {
  for (const auto& connection : connections_) {
    for (auto at = connection->streams.begin(); at != connection->streams.end();) {
      const auto next = std::next(at);
      if (Draw(share)) {
        connection->h2.Reset(at->first);
        ++counts_.left;
        connection->streams.erase(at);
      }
      at = next;
    }
  }
}

void Crowd::Cut() {
  auto& connection = connections_[(*random_)() % connections_.size()];
  counts_.cut += connection->streams.size();
  connection = Connect();
}

bool Crowd::RunUntil(const std::function<bool()>& done) {
  const auto give_up = std::chrono::steady_clock::now() + kGiveUp;
  while (!done()) {
    if (is_cut_off_ || std::chrono::steady_clock::now() > give_up) return false;
    Exchange(kAskEveryMs);
  }
  return true;
}

size_t Crowd::live() const {
  size_t count = 0;
  for (const auto& connection : connections_) count += connection->streams.size();
  return count;
}

// Sends what there is, and takes what comes within the time.
void Crowd::Exchange(int timeout_ms) {
  std::vector<pollfd> polled;
  for (const auto& connection : connections_) {
    EXPECT_TRUE(host::Write(connection->fd.get(), connection->h2.TakeBytes()));
    polled.push_back({connection->fd.get(), POLLIN, 0});
  }
  if (poll(polled.data(), polled.size(), timeout_ms) <= 0) return;
  for (size_t i = 0; i < polled.size(); ++i) {
    if (polled[i].revents == 0) continue;
    char buffer[65536];
    const ssize_t size = recv(polled[i].fd, buffer, sizeof(buffer), 0);
    if (size <= 0) {
      ADD_FAILURE() << "the host has closed a connection";
      is_cut_off_ = true;
      return;
    }
    EXPECT_TRUE(connections_[i]->h2.Give({buffer, static_cast<size_t>(size)}));
    Look(connections_[i].get());
  }
}

void Crowd::Look(Connection* connection) {
  for (auto at = connection->streams.begin(); at != connection->streams.end();) {
    const auto next = std::next(at);
    if (IsOver(connection, at->first, &at->second)) {
      connection->h2.Forget(at->first);
      connection->streams.erase(at);
    }
    at = next;
  }
}

bool Crowd::IsOver(Connection* connection, int32_t number, Stream* stream) {
  const host::H2Client::Rpc& rpc = connection->h2.rpc(number);
  const std::vector<std::string> messages = rpc.Messages();
  while (stream->responses < messages.size()) {
    TakeResponse(connection, number, stream, messages[stream->responses]);
    if (!Draw(leave_share_)) continue;
    connection->h2.Reset(number);
    ++counts_.left;
    return true;
  }
  if (!rpc.closed) return false;
  if (rpc.status() != "0") {
    Fail(*stream,
         fmt::format("ended with status {}, HTTP/2 error {}", rpc.status(), rpc.error_code));
  } else if (stream->responses == 0 || !stream->next_plan.empty()) {
    Fail(*stream, "ended before its last response");
  } else {
    ++counts_.completed;
  }
  return true;
}

void Crowd::TakeResponse(Connection* connection, int32_t number, Stream* stream,
                         const std::string& message) {
  ++counts_.responses;
  const Fields fields = FieldsOf(message, ++stream->responses == 1);
  if (fields.id.empty()) {
    ++counts_.unnamed;
    last_report_ = fields.begun + " " + fields.over;
  } else if (fields.id != stream->id) {
    Fail(*stream, "has the response " + fields.id);
  }
  const std::string plan = std::exchange(stream->next_plan, "");
  if (plan.empty()) {
    connection->h2.End(number);
  } else {
    connection->h2.Send(number, Message(false, plan, stream->id), true);
  }
}

void Crowd::Fail(const Stream& stream, std::string_view what) {
  if (++counts_.failed == 1) counts_.first_failure = fmt::format("stream {} {}", stream.id, what);
}

}  // namespace callout::tests
