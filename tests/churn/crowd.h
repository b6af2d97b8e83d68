// SPDX-License-Identifier: Apache-2.0

// Many streams on a few connections, some of which leave: by a reset, or with their connection.
//
//   Crowd crowd(host.address("plaintext"), 8, &random);
//   crowd.Open({.request = "tht", .response = "f"});   // x-plan of the messages
//   crowd.RunUntil([&] { return crowd.live() == 0; });
//   EXPECT_EQ(crowd.counts().failed, 0u) << crowd.counts().first_failure;
//
// A response has to have the x-id that its request had.
//
// For one thread.
#ifndef CALLOUT_TESTS_CHURN_CROWD_H_
#define CALLOUT_TESTS_CHURN_CROWD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/host/sockets.h"
#include "tests/host/transport/h2_client.h"

namespace callout::tests {

class Crowd {
 public:
  struct Plan {
    std::string request;
    std::string response;  // "": there is no such message
  };
  // What became of the streams.
  struct Counts {
    uint64_t opened = 0;
    uint64_t completed = 0;  // every message has its response, and the status is OK
    uint64_t left = 0;       // reset by the client, at whatever moment
    uint64_t cut = 0;        // gone with their connection
    uint64_t failed = 0;
    std::string first_failure;
    uint64_t responses = 0;
    uint64_t unnamed = 0;  // responses without an x-id: not the plugin's
  };

  Crowd(const std::string& address, size_t connections, std::mt19937_64* random);

  // On any of the connections.
  void Open(const Plan& plan);
  // Resets each live stream with this probability.
  void Leave(double share);
  // From now on: a stream is reset with this probability when its first response has come.
  void LeaveAfterResponses(double share) { leave_share_ = share; }
  // Closes a connection with all its streams, and opens another.
  void Cut();
  // Exchanges bytes until `done`, which is asked again and again. False if the time is up, which
  // only a failing test reaches, or if the host has closed a connection.
  [[nodiscard]] bool RunUntil(const std::function<bool()>& done);

  size_t live() const;
  const Counts& counts() const { return counts_; }
  // What the last response without an x-id had in x-begun and x-over.
  const std::string& last_report() const { return last_report_; }

 private:
  struct Stream {
    std::string id;
    std::string next_plan;  // "": nothing follows
    size_t responses = 0;
  };
  struct Connection {
    host::Descriptor fd;
    host::H2Client h2;
    std::map<int32_t, Stream> streams;  // the live ones
  };

  std::unique_ptr<Connection> Connect() const;
  bool Draw(double share) { return std::bernoulli_distribution(share)(*random_); }
  void Exchange(int timeout_ms);
  void Look(Connection* connection);
  bool IsOver(Connection* connection, int32_t number, Stream* stream);
  void TakeResponse(Connection* connection, int32_t number, Stream* stream,
                    const std::string& message);
  void Fail(const Stream& stream, std::string_view what);

  const host::Address address_;
  std::mt19937_64* const random_;
  std::vector<std::unique_ptr<Connection>> connections_;
  double leave_share_ = 0;
  bool is_cut_off_ = false;
  Counts counts_;
  std::string last_report_;
};

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_CHURN_CROWD_H_
