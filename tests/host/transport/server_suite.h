// SPDX-License-Identifier: Apache-2.0

// What holds of the server of every transport. Each transport's own test instantiates it:
//
//   INSTANTIATE_TYPED_TEST_SUITE_P(Nghttp2, EveryServer, H2ServerTest);
#ifndef CALLOUT_TESTS_HOST_TRANSPORT_SERVER_SUITE_H_
#define CALLOUT_TESTS_HOST_TRANSPORT_SERVER_SUITE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "host/transport/builtin_rpcs.h"
#include "server_fixture.h"
#include "tls_policy_checks.h"

namespace callout::host {

template <class Fixture>
class EveryServer : public Fixture {
 protected:
  // Where the status is: an RPC without a response has one block of headers.
  static std::string StatusMessage(const H2Client::Rpc& rpc) {
    const auto& block = rpc.trailers.empty() ? rpc.headers : rpc.trailers;
    const auto found = block.find("grpc-message");
    return found == block.end() ? "" : found->second;
  }
};

TYPED_TEST_SUITE_P(EveryServer);

// --- Drain and health -----------------------------------------------------------

TYPED_TEST_P(EveryServer, ServesAndDrains) {
  this->StartServer();
  ClientEnd client(this->Pair());
  const int32_t id = client.h2().Begin(kProcessPath);
  client.h2().Send(id, this->HeadersMessage());
  ASSERT_TRUE(client.RunUntil([&] { return !client.h2().rpc(id).data.empty(); }));
  EXPECT_EQ(this->transport()->live(), 1u);
  std::thread drain([&] { EXPECT_TRUE(this->transport()->Drain(60000)); });
  EXPECT_TRUE(client.RunUntil([&] { return !client.h2().goaways().empty(); }));
  client.h2().End(id);
  EXPECT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
  EXPECT_EQ(client.h2().rpc(id).status(), "0");
  EXPECT_TRUE(client.RunUntilClosed());
  drain.join();
  EXPECT_EQ(this->transport()->live(), 0u);
}

TYPED_TEST_P(EveryServer, ADrainCutsWhatTakesTooLong) {
  this->StartServer();
  ClientEnd client(this->Pair());
  const int32_t id = client.h2().Begin(kProcessPath);
  client.h2().Send(id, this->HeadersMessage());
  ASSERT_TRUE(client.RunUntil([&] { return !client.h2().rpc(id).data.empty(); }));
  EXPECT_TRUE(this->transport()->Drain(1));
  EXPECT_TRUE(client.RunUntilClosed());
  EXPECT_NE(client.h2().rpc(id).status(), "0");
}

TYPED_TEST_P(EveryServer, ADrainSaysThatAPluginHoldsACall) {
  std::atomic<callout_call_t*> deferred{nullptr};
  this->AddPlugin()->process = [&](callout_call_t* call) {
    deferred = call;
    return CALLOUT_DEFERRED;
  };
  this->limits_.hook_deadline_ms = 60000;
  this->StartServer();
  const Descriptor fd = this->Pair();
  H2Client client;
  client.Send(client.Begin(kProcessPath), this->HeadersMessage());
  ASSERT_TRUE(Write(fd.get(), client.TakeBytes()));
  while (this->environment_->deferred() == 0) std::this_thread::yield();
  EXPECT_FALSE(this->transport()->Drain(1));
  deferred.load()->host->finish(deferred, CALLOUT_OK);
  while (this->transport()->live() != 0) std::this_thread::yield();
  EXPECT_TRUE(this->transport()->Drain(1)) << "it can be destroyed now";
}

TYPED_TEST_P(EveryServer, WatchersOfHealthAreToldAndEndedByADrain) {
  this->StartServer();
  ClientEnd client(this->Pair());
  const int32_t id = client.h2().Begin("/grpc.health.v1.Health/Watch");
  client.h2().Send(id, Framed(""), true);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).Messages().size() == 1; }));
  for (const bool serving : {false, true}) {
    const size_t before = client.h2().rpc(id).Messages().size();
    this->transport()->SetServing(serving);
    ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).Messages().size() > before; }));
    EXPECT_EQ(client.h2().rpc(id).Messages().back(), serving ? "\x08\x01" : "\x08\x02");
  }
  EXPECT_TRUE(this->transport()->Drain(60000));
  EXPECT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
  EXPECT_EQ(client.h2().rpc(id).status(), "14");
}

// --- Times of streams -------------------------------------------------------------

TYPED_TEST_P(EveryServer, AStreamWithoutAFirstMessageIsEnded) {
  this->transport_limits().first_message_timeout_ms = 20;
  this->StartServer();
  ClientEnd client(this->Pair());
  const int32_t silent = client.h2().Begin(kProcessPath);
  // Half of one is none.
  const int32_t half = client.h2().Begin(kProcessPath);
  client.h2().Send(half, this->HeadersMessage().substr(0, 6));
  for (const int32_t id : {silent, half}) {
    ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
    EXPECT_EQ(client.h2().rpc(id).status(), "4");
    EXPECT_THAT(this->StatusMessage(client.h2().rpc(id)),
                ::testing::HasSubstr("--first_message_timeout_ms=20"));
  }
  while (this->transport()->live() != 0) std::this_thread::yield();
  EXPECT_EQ(this->Metric("callout_streams_timed_out_total{limit=\"first_message\"}"), "2");
}

TYPED_TEST_P(EveryServer, AStreamWithoutANextMessageIsEnded) {
  this->transport_limits().first_message_timeout_ms = 60000;
  this->transport_limits().stream_idle_timeout_ms = 20;
  this->StartServer();
  ClientEnd client(this->Pair());
  const int32_t id = client.h2().Begin(kProcessPath);
  client.h2().Send(id, this->HeadersMessage());
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
  EXPECT_EQ(client.h2().rpc(id).Messages().size(), 1u) << "it has been answered before";
  EXPECT_EQ(client.h2().rpc(id).status(), "4");
  EXPECT_THAT(this->StatusMessage(client.h2().rpc(id)),
              ::testing::HasSubstr("--stream_idle_timeout_ms=20"));
  EXPECT_EQ(this->Metric("callout_streams_timed_out_total{limit=\"message\"}"), "1");
}

TYPED_TEST_P(EveryServer, AnOldStreamIsEnded) {
  this->transport_limits().first_message_timeout_ms = 0;
  this->transport_limits().stream_idle_timeout_ms = 0;
  this->transport_limits().stream_duration_ms_max = 50;
  this->StartServer();
  ClientEnd client(this->Pair());
  const int32_t id = client.h2().Begin(kProcessPath);
  client.h2().Send(id, this->HeadersMessage());
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
  EXPECT_EQ(client.h2().rpc(id).status(), "4");
  EXPECT_THAT(this->StatusMessage(client.h2().rpc(id)),
              ::testing::HasSubstr("--max_stream_duration_ms=50"));
  EXPECT_EQ(this->Metric("callout_streams_timed_out_total{limit=\"age\"}"), "1");
}

// As in an event stream, whose chunks a plugin changes.
TYPED_TEST_P(EveryServer, AClientThatLeavesAmidAChangedBodyIsToldAsOneThatHasLeft) {
  FakePlugin* plugin = this->AddPlugin();
  plugin->phases[CALLOUT_REQUEST_BODY] =
      Answers([](CommonResponse* common) { common->mutable_body_mutation()->set_body("changed"); });
  std::atomic<int> outcome{-1};
  plugin->close = [&](callout_call_t* call) { outcome = static_cast<int>(call->end->outcome); };
  this->StartServer();
  ClientEnd client(this->Pair());
  const int32_t id = this->BeginChunkedBody(&client);
  ASSERT_EQ(client.h2().rpc(id).Messages().size(), 2u);
  client.h2().Reset(id);
  bool sent = false;
  client.RunUntil([&] { return std::exchange(sent, true); });
  while (outcome == -1) std::this_thread::yield();
  EXPECT_EQ(outcome, CALLOUT_END_CANCELLED);
  while (this->transport()->live() != 0) std::this_thread::yield();
  EXPECT_EQ(this->Metric("callout_streams_ended_total{outcome=\"cancelled\"}"), "1");
  EXPECT_EQ(this->Metric("callout_streams_ended_total{outcome=\"error\"}"), "0");
}

// Where Envoy is told to fail open, the error alone would let the rest of the body pass.
TYPED_TEST_P(EveryServer, AnErrorAmidAChangedBodyComesAfterARefusal) {
  this->transport_limits().first_message_timeout_ms = 60000;
  this->transport_limits().stream_idle_timeout_ms = 100;
  this->AddPlugin()->phases[CALLOUT_REQUEST_BODY] =
      Answers([](CommonResponse* common) { common->mutable_body_mutation()->set_body("changed"); });
  this->StartServer();
  for (const bool drains : {false, true}) {
    ClientEnd client(this->Pair());
    const int32_t id = this->BeginChunkedBody(&client);
    if (drains) this->transport()->Drain(1);
    ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
    const std::vector<std::string> messages = client.h2().rpc(id).Messages();
    ASSERT_EQ(messages.size(), 3u);
    ProcessingResponse last;
    ASSERT_TRUE(last.ParseFromString(messages.back()));
    EXPECT_EQ(last.immediate_response().status().code(), 500);
    EXPECT_NE(client.h2().rpc(id).status(), "0");
  }
}

// A watcher of health half-closes, and then has no next message to send.
TYPED_TEST_P(EveryServer, AWatcherOwesNoMessage) {
  this->transport_limits().stream_idle_timeout_ms = 100;  // until it half-closes, at most
  this->StartServer();
  ClientEnd client(this->Pair());
  const int32_t id = client.h2().Begin("/grpc.health.v1.Health/Watch");
  client.h2().Send(id, Framed(""), true);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).Messages().size() == 1; }));
  // Another stream reaches that limit meanwhile.
  const int32_t other = client.h2().Begin(kProcessPath);
  client.h2().Send(other, this->HeadersMessage());
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(other).closed; }));
  EXPECT_FALSE(client.h2().rpc(id).closed);
  this->transport()->SetServing(false);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).Messages().size() == 2; }));
}

// --- Who is no client --------------------------------------------------------------

TYPED_TEST_P(EveryServer, APlainGetIsToldThatTheMethodIsBad) {
  this->StartServer();
  ClientEnd client(this->Pair());
  const int32_t id = client.h2().BeginWith(
      {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "test"}});
  client.h2().End(id);
  ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
  const H2Client::Rpc& rpc = client.h2().rpc(id);
  EXPECT_EQ(rpc.headers.at(":status"), "200");
  EXPECT_EQ(rpc.headers.at("content-type"), "application/grpc");
  EXPECT_EQ(rpc.status(), "2");
  EXPECT_EQ(rpc.headers.at("grpc-message"), "Bad method header");
  EXPECT_TRUE(rpc.data.empty());
}

TYPED_TEST_P(EveryServer, AnUnknownMethodIsNamed) {
  this->StartServer();
  const H2Client::Rpc rpc = this->Call("/no.such.Service/Method", Framed(""));
  EXPECT_EQ(rpc.status(), "12");
  EXPECT_THAT(this->StatusMessage(rpc),
              ::testing::HasSubstr("unknown method /no.such.Service/Method"));
}

// Clients that speak other protocols keep the body open until they have an answer.
TYPED_TEST_P(EveryServer, ARefusalDoesNotWaitForTheEndOfTheRequest) {
  this->StartServer();
  // With another value of one header; "": without it.
  const auto with = [](const std::string& name, const std::string& value) {
    H2Client::Headers headers = H2Client::GrpcHeaders(kProcessPath);
    for (auto& header : headers) {
      if (header.first == name) header.second = value;
    }
    std::erase_if(headers, [](const auto& header) { return header.second.empty(); });
    return headers;
  };
  H2Client::Headers large = H2Client::GrpcHeaders(kProcessPath);
  large.emplace_back("x", std::string(20000, 'x'));
  const std::pair<const char*, H2Client::Headers> table[] = {
      {"no such method", H2Client::GrpcHeaders("/no.such.Service/Method")},
      {"another HTTP method", with(":method", "PUT")},
      {"no te", with("te", "")},
      {"too much metadata", large},
  };
  for (const auto& [what, headers] : table) {
    ClientEnd client(this->Pair());
    const int32_t id = client.h2().BeginWith(headers);
    EXPECT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; })) << what;
  }
  EXPECT_EQ(this->Call(kProcessPath, this->HeadersMessage()).status(), "0");
}

// gRPC C++ has aborted on these (CVE-2023-1428).
TYPED_TEST_P(EveryServer, HeadersOfABadValueAndManyOthersEndNoProcess) {
  this->StartServer();
  const std::pair<const char*, const char*> bad[] = {
      {"te", "x"},           {"grpc-timeout", "x"}, {"grpclb_client_stats", "x"},
      {"content-type", "x"}, {"lb-cost-bin", "A"},  {"grpc-encoding", "x"},
      {":scheme", "x"},      {":method", "x"}};
  for (const auto& [name, value] : bad) {
    for (const int count : {1, 10, 18, 60}) {
      H2Client::Headers headers = H2Client::GrpcHeaders(kProcessPath);
      bool found = false;
      for (auto& header : headers) {
        if (header.first != name) continue;
        header.second = value;
        found = true;
      }
      if (!found) headers.emplace_back(name, value);
      for (int i = 0; i < count; ++i) {
        headers.emplace_back("x-" + std::to_string(i), std::string(900, 'y'));
      }
      ClientEnd client(this->Pair());
      const int32_t id = client.h2().BeginWith(headers);
      client.h2().Send(id, this->HeadersMessage(), true);
      client.RunUntil([&] { return client.h2().rpc(id).closed; });
    }
  }
  EXPECT_EQ(this->Call(kProcessPath, this->HeadersMessage()).status(), "0");
}

// Whoever speaks another protocol, or stops before HTTP/2 has begun, is let go.
TYPED_TEST_P(EveryServer, ConnectionsOnWhichHttp2NeverBeginsAreClosed) {
  this->transport_limits().handshake_timeout_ms = 50;
  this->OpenStore();
  this->StartServer();
  const std::string client_hello_begun("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
  const std::pair<bool, std::string> table[] = {
      {false, ""},
      {false, std::string(kPreface).substr(0, 10)},
      {false, std::string(kPreface)},
      {false, "GET / HTTP/1.1\r\nhost: x\r\n\r\n"},
      {false, "GET / HTTP/1.1\r\nhost:"},
      {false, client_hello_begun},
      {true, ""},
      {true, client_hello_begun},
      {true, std::string(kPreface)},
  };
  for (const auto& [secure, bytes] : table) {
    const Descriptor fd = this->Pair(secure);
    EXPECT_TRUE(bytes.empty() || Write(fd.get(), bytes));
    ReadToEnd(fd.get());
  }
}

// --- TLS -----------------------------------------------------------------------------

TYPED_TEST_P(EveryServer, TlsTellsWhoTheClientIs) {
  std::mutex mutex;  // ThreadSanitizer does not see what gRPC's threads hand to each other
  std::string identity;
  std::string listener;
  this->AddPlugin()->process = [&](callout_call_t* call) {
    const std::lock_guard lock(mutex);
    identity = this->Property(call, CALLOUT_PEER_IDENTITY);
    listener = this->Property(call, CALLOUT_LISTENER);
    return CALLOUT_OK;
  };
  this->OpenStore();
  this->StartServer();
  const std::pair<const char*, const char*> table[] = {
      {"DNS:a.test,URI:spiffe://test/b,URI:spiffe://test/c", "spiffe://test/b"},
      {"IP:127.0.0.1,DNS:d.test,DNS:e.test", "d.test"},
      {"", "by-common-name"},
  };
  for (const auto& [names, expected] : table) {
    Descriptor fd = this->Pair(true);
    ClientSsl ssl = this->Handshake(fd.get(), names, "h2");
    ASSERT_NE(ssl, nullptr);
    ClientEnd client(std::move(fd), std::move(ssl));
    const int32_t id = client.h2().Begin(kProcessPath);
    client.h2().Send(id, this->HeadersMessage(), true);
    ASSERT_TRUE(client.RunUntil([&] { return client.h2().rpc(id).closed; }));
    const std::lock_guard lock(mutex);
    EXPECT_EQ(identity, expected);
    EXPECT_EQ(listener, "secure");
  }
}

TYPED_TEST_P(EveryServer, TlsIsByThePolicy) {
  this->OpenStore();
  this->StartServer();
  ExpectTlsPolicy([&] { return this->Pair(true); },
                  [&](SSL_CTX* context) { this->UseClientCertificate("", "h2", context); });
}

TYPED_TEST_P(EveryServer, TheNextHandshakeHasTheStoresNewCertificate) {
  this->OpenStore();
  this->StartServer();
  const auto served = [&] {
    const Descriptor fd = this->Pair(true);
    const ClientSsl ssl = this->Handshake(fd.get(), "", "h2");
    return ssl == nullptr ? "" : PemOf(SSL_get0_peer_certificate(ssl.get()));
  };
  const std::string before = served();
  EXPECT_EQ(before, served());
  this->WriteStoreFiles();
  this->store_->Reload();
  const std::string after = served();
  EXPECT_FALSE(after.empty());
  EXPECT_NE(before, after);
}

REGISTER_TYPED_TEST_SUITE_P(
    EveryServer, ServesAndDrains, ADrainCutsWhatTakesTooLong, ADrainSaysThatAPluginHoldsACall,
    WatchersOfHealthAreToldAndEndedByADrain, AStreamWithoutAFirstMessageIsEnded,
    AStreamWithoutANextMessageIsEnded, AnOldStreamIsEnded, AWatcherOwesNoMessage,
    AClientThatLeavesAmidAChangedBodyIsToldAsOneThatHasLeft,
    AnErrorAmidAChangedBodyComesAfterARefusal, APlainGetIsToldThatTheMethodIsBad,
    AnUnknownMethodIsNamed, ConnectionsOnWhichHttp2NeverBeginsAreClosed, TlsTellsWhoTheClientIs,
    TlsIsByThePolicy, TheNextHandshakeHasTheStoresNewCertificate,
    ARefusalDoesNotWaitForTheEndOfTheRequest, HeadersOfABadValueAndManyOthersEndNoProcess);

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_TRANSPORT_SERVER_SUITE_H_
