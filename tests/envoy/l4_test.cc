// SPDX-License-Identifier: Apache-2.0

// Network ext_proc behind a real Envoy, ahead of tcp_proxy and a server that echoes: no byte is
// lost or injected, ends of directions arrive, and what a plugin or a fault ends is ended.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <list>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "../host/sockets.h"
#include "absl/strings/str_cat.h"
#include "backend.h"
#include "envoy_config.h"
#include "envoy_fixture.h"
#include "host_process.h"

namespace callout::tests {
namespace {

using host::Connect;
using host::Descriptor;
using host::ParsedAddress;
using host::ReadBytes;
using host::WaitReadable;
using nlohmann::json;

// Sends back what it gets, and its end.
class EchoServer {
 public:
  EchoServer() {
    listener_ = host::MakeSocket(ParsedAddress("127.0.0.1:0"));
    const host::Address address = ParsedAddress("127.0.0.1:0");
    EXPECT_EQ(bind(listener_.get(), address.get(), address.size), 0);
    EXPECT_EQ(listen(listener_.get(), 64), 0);
    sockaddr_in bound = {};
    socklen_t size = sizeof(bound);
    EXPECT_EQ(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&bound), &size), 0);
    port_ = ntohs(bound.sin_port);
    acceptor_ = std::thread([this] { Accept(); });
  }
  ~EchoServer() {
    shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    for (Descriptor& connection : connections_) shutdown(connection.get(), SHUT_RDWR);
    for (std::thread& server : servers_) server.join();
  }
  uint16_t port() const { return port_; }
  // All bytes that have reached it.
  size_t received() const { return received_; }

 private:
  void Accept() {
    for (;;) {
      Descriptor connection(accept(listener_.get(), nullptr, nullptr));
      if (connection.get() < 0) return;
      const int fd = connection.get();
      connections_.push_back(std::move(connection));
      servers_.emplace_back([this, fd] {
        char buffer[16384];
        for (;;) {
          const ssize_t size = recv(fd, buffer, sizeof(buffer), 0);
          if (size <= 0) break;
          received_ += static_cast<size_t>(size);
          if (!host::Write(fd, {buffer, static_cast<size_t>(size)})) break;
        }
        shutdown(fd, SHUT_WR);
      });
    }
  }

  Descriptor listener_;
  uint16_t port_ = 0;
  std::list<Descriptor> connections_;
  std::list<std::thread> servers_;
  std::atomic<size_t> received_{0};
  std::thread acceptor_;
};

// What becomes of a connection: "eof", "reset", or bytes that came although none were to.
std::string EndOf(int fd) {
  char buffer[4096];
  if (!WaitReadable(fd)) return "it stays open";
  const ssize_t size = recv(fd, buffer, sizeof(buffer), 0);
  if (size == 0) return "eof";
  if (size < 0) return errno == ECONNRESET ? "reset" : strerror(errno);
  return std::string(buffer, static_cast<size_t>(size));
}

class EnvoyL4Test : public EnvoyFixture {
 protected:
  void SetUp() override {
    EnvoyFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    EnvoyConfig config;
    config.backend_port = server_.port();
    const auto add = [&](const std::string& name, std::vector<std::string> options) {
      options.push_back("--hook_deadline_ms=1000");
      hosts_.push_back(std::make_unique<HostProcess>(options));
      config.hosts[name] = {.port = hosts_.back()->port("plaintext")};
      config.listeners.push_back({.name = name,
                                  .network_filters = {NetworkExtProc(name)},
                                  .is_tcp = true,
                                  .proxy = AccessLog("metadata %DYNAMIC_METADATA(ns:k)%.")});
    };
    const std::string acting =
        "--plugin=l4_acting=" + BuiltFile("tests/envoy/plugins/l4_acting.so");
    add("read", {acting, "--max_message_bytes=4000000"});
    add("write", {acting, "--plugin_config=l4_acting=write", "--max_message_bytes=4000000"});
    add("refused", {acting, "--plugin_config=l4_acting=no connection"});
    add("continued", {acting, "--on_plugin_error=l4_acting=continue"});
    add("empty", {"--services=network_ext_proc"});
    draining_ = hosts_.size();
    add("draining", {acting, "--drain_timeout_ms=200"});
    add("rewrite", {"--plugin=" + BuiltPlugin("l4_rewrite"),
                    "--plugin_config=l4_rewrite=" +
                        std::string(R"({"replace_read": [{"from": "hello", "to": "goodbye"}],)"
                                    R"( "replace_write": [{"from": "o", "to": "0"}],)"
                                    R"( "close_read": ["secret"]})")});
    envoy_.emplace(MakeBootstrap(config));
  }

  Descriptor Dial(const std::string& listener) {
    return Connect(ParsedAddress(absl::StrCat("127.0.0.1:", envoy_->port(listener))));
  }
  // What comes back for `sent`, as far as it is awaited.
  static std::string Echo(int fd, const std::string& sent, size_t bytes) {
    EXPECT_TRUE(host::Write(fd, sent));
    return ReadBytes(fd, bytes);
  }

  EchoServer server_;
  size_t draining_ = 0;  // which of hosts_
  std::vector<std::unique_ptr<HostProcess>> hosts_;
  std::optional<EnvoyProcess> envoy_;
};

TEST_F(EnvoyL4Test, BytesAndEndsArrive) {
  for (const char* listener : {"read", "write", "continued", "empty"}) {
    const Descriptor fd = Dial(listener);
    EXPECT_EQ(Echo(fd.get(), "hello", 5), "hello") << listener;
    EXPECT_EQ(Echo(fd.get(), "again", 5), "again") << listener;
    EXPECT_EQ(Echo(fd.get(), "!defer", 6), "!defer") << listener;
    shutdown(fd.get(), SHUT_WR);
    EXPECT_EQ(EndOf(fd.get()), "eof") << listener;
  }
}

TEST_F(EnvoyL4Test, WhatIsReplacedArrives) {
  for (const char* listener : {"read", "write"}) {
    const Descriptor fd = Dial(listener);
    EXPECT_EQ(Echo(fd.get(), "!up abc", 7), "!UP ABC") << listener;
    // Dropped bytes neither arrive nor hold up what comes after them, be it with them or later.
    EXPECT_TRUE(host::Write(fd.get(), "!drop"));
    EXPECT_EQ(Echo(fd.get(), "after", 5), "after") << listener;
  }
}

TEST_F(EnvoyL4Test, APluginEndsTheConnection) {
  for (const char* listener : {"read", "write"}) {
    for (const bool resets : {false, true}) {
      const Descriptor fd = Dial(listener);
      EXPECT_EQ(Echo(fd.get(), "hello", 5), "hello");
      EXPECT_TRUE(host::Write(fd.get(), resets ? "!reset" : "!close"));
      EXPECT_EQ(EndOf(fd.get()), resets ? "reset" : "eof") << listener;
    }
  }
}

TEST_F(EnvoyL4Test, AFaultResetsTheConnection) {
  for (const char* listener : {"read", "write"}) {
    for (const char* command : {"!fail", "!wrong", "!both", "!large", "!replaced", "!throw",
                                "!evil", "!late", "!never"}) {
      const size_t before = server_.received();
      const Descriptor fd = Dial(listener);
      EXPECT_TRUE(host::Write(fd.get(), command));
      EXPECT_EQ(EndOf(fd.get()), "reset") << command << " on " << listener;
      if (std::string(listener) == "read") {
        EXPECT_EQ(server_.received(), before);
      }
    }
  }
}

// Envoy would half-close a direction that a plugin says has ended, and ask nobody about the rest of
// a connection whose stream a plugin wants to be left alone with.
TEST_F(EnvoyL4Test, APluginNeitherEndsADirectionNorLeavesAConnectionUnseen) {
  for (const char* listener : {"read", "write"}) {
    for (const char* command : {"!end", "!leave"}) {
      const Descriptor fd = Dial(listener);
      const std::string text = command;
      EXPECT_EQ(Echo(fd.get(), text, text.size()), text) << listener;
      EXPECT_EQ(Echo(fd.get(), "!up abc", 7), "!UP ABC") << command << " on " << listener;
      shutdown(fd.get(), SHUT_WR);
      EXPECT_EQ(EndOf(fd.get()), "eof") << command << " on " << listener;
    }
  }
}

TEST_F(EnvoyL4Test, MetadataArrives) {
  for (const char* listener : {"read", "write"}) {
    const Descriptor fd = Dial(listener);
    EXPECT_EQ(Echo(fd.get(), "!metadata", 9), "!metadata");
    shutdown(fd.get(), SHUT_WR);
    EXPECT_EQ(EndOf(fd.get()), "eof") << listener;
  }
  EXPECT_TRUE(Poll([&] {
    const std::string log = envoy_->Output();
    const size_t first = log.find("metadata plain.");
    return first != log.npos && log.find("metadata plain.", first + 1) != log.npos;
  })) << envoy_->Output();
}

// What a connection has still to say does not pass unseen: a drain ends it.
TEST_F(EnvoyL4Test, TheEndOfADrainEndsTheConnection) {
  const Descriptor fd = Dial("draining");
  EXPECT_EQ(Echo(fd.get(), "hello", 5), "hello");
  EXPECT_EQ(hosts_[draining_]->Terminate(), 0) << hosts_[draining_]->Output();
  host::Write(fd.get(), "!up abc");
  EXPECT_THAT(EndOf(fd.get()), ::testing::AnyOf("eof", "reset"));
}

TEST_F(EnvoyL4Test, UnderContinueTheBytesPass) {
  for (const char* command : {"!fail", "!wrong", "!replaced", "!throw", "!late", "!never"}) {
    const Descriptor fd = Dial("continued");
    const std::string text = command;
    EXPECT_EQ(Echo(fd.get(), text, text.size()), text);
    shutdown(fd.get(), SHUT_WR);
    EXPECT_EQ(EndOf(fd.get()), "eof") << command;
  }
}

TEST_F(EnvoyL4Test, AConnectionCanBeRefused) {
  const size_t before = server_.received();
  const Descriptor fd = Dial("refused");
  EXPECT_TRUE(host::Write(fd.get(), "hello"));
  EXPECT_EQ(EndOf(fd.get()), "eof");
  EXPECT_EQ(server_.received(), before);
}

TEST_F(EnvoyL4Test, ManyBytesArriveInOrder) {
  constexpr size_t kBytes = 3000000;
  std::string sent(kBytes, 0);
  std::mt19937 random(5);
  for (char& c : sent) c = static_cast<char>('a' + random() % 26);
  for (const char* listener : {"read", "write"}) {
    const Descriptor fd = Dial(listener);
    std::thread writer([&] { EXPECT_TRUE(host::Write(fd.get(), sent)); });
    const std::string received = ReadBytes(fd.get(), sent.size());
    writer.join();
    // Not before: once both directions have ended, Envoy 1.40 drops what has not come back.
    shutdown(fd.get(), SHUT_WR);
    EXPECT_EQ(EndOf(fd.get()), "eof") << listener;
    EXPECT_EQ(received.size(), sent.size()) << listener;
    EXPECT_TRUE(received == sent) << listener;
  }
}

TEST_F(EnvoyL4Test, L4RewriteReplacesTextsInPieces) {
  const Descriptor fd = Dial("rewrite");
  EXPECT_EQ(Echo(fd.get(), "say hello!", 12), "say g00dbye!");
  EXPECT_EQ(Echo(fd.get(), "x hel", 2), "x ");
  EXPECT_EQ(Echo(fd.get(), "lo", 7), "g00dbye");
  EXPECT_TRUE(host::Write(fd.get(), "a secret"));
  EXPECT_EQ(EndOf(fd.get()), "eof");
}

}  // namespace
}  // namespace callout::tests
