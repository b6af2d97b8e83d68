// SPDX-License-Identifier: Apache-2.0

// An attacker, which writes frames as fast as the host takes them and notices when it is cut off;
// and a well-behaved client beside it, which measures what other clients get meanwhile.
//
// Loopback only. Every attack has a limit on bytes and time. An Attacker belongs to one thread.
#ifndef CALLOUT_TESTS_ATTACK_ATTACKER_H_
#define CALLOUT_TESTS_ATTACK_ATTACKER_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/host/sockets.h"
#include "tests/host/transport/h2_client.h"

namespace callout::tests {

using Clock = std::chrono::steady_clock;

// A header as a literal of HPACK without indexing, so that a block can be sent any number of times.
std::string Literal(std::string_view name, std::string_view value);
// An integer of HPACK with a prefix of `bits`; the other bits are 0.
std::string HpackInteger(uint64_t value, int bits);
// The request headers of a Process RPC.
std::string RequestBlock();
// HEADERS with the whole block.
std::string RequestFrame(uint32_t stream);
// A ProcessingRequest of request headers, with its gRPC head.
std::string HeadersMessage();

class Attacker {
 public:
  // Connects, and sends the preface and SETTINGS unless it is a silent one. `from`: the client's
  // address, such as "127.0.0.2".
  explicit Attacker(const std::string& address, bool silent = false, const std::string& from = "");

  // Sends all of it, and reads meanwhile. False once it is cut off or out of time.
  bool Send(std::string_view bytes, Clock::time_point until);
  // Repeats until cut off, at most `count` times and for `limit`.
  void Flood(const std::function<std::string(uint32_t)>& make, uint64_t count,
             std::chrono::milliseconds limit);
  // Reads until cut off or `until`.
  bool AwaitCut(Clock::time_point until);

  int fd() const { return fd_.get(); }
  bool cut() const { return cut_; }
  uint64_t sent() const { return sent_; }  // by Flood
  // From the first frame of the flood to the cut, in ms.
  double cut_after_ms() const { return cut_after_ms_; }

 private:
  bool Drain();

  host::Descriptor fd_;
  bool cut_ = false;
  uint64_t sent_ = 0;
  Clock::time_point start_ = Clock::now();
  double cut_after_ms_ = 0;
};

// One connection to `address` for an RPC at a time.
class Client {
 public:
  explicit Client(const std::string& address);
  // Makes an RPC of one message. False if it fails or the connection is closed.
  bool Exchange();
  // Makes an RPC that ends like one of Envoy: reads the response, half-closes and resets.
  bool ExchangeLikeEnvoy();

 private:
  bool Await(const std::function<bool()>& done);

  host::Descriptor fd_;
  host::H2Client h2_;
};

// A client that makes an RPC every 2 ms until it is destroyed.
class HealthyClient {
 public:
  explicit HealthyClient(const std::string& address);
  ~HealthyClient() { Stop(); }
  void Stop();
  bool failed() const { return failed_; }
  // In ms; after Stop.
  double Percentile(double share) const;

 private:
  std::atomic<bool> stop_{false};
  bool failed_ = false;
  std::vector<double> times_ms_;
  std::thread thread_;
};

// Asks the health listener over and over, on a connection each, until it is destroyed.
class HealthChecks {
 public:
  explicit HealthChecks(const std::string& address);
  ~HealthChecks() { Stop(); }
  void Stop();
  // After Stop: each check was answered with 200; and how long the slowest took, in ms.
  bool all_good() const { return all_good_; }
  double max_ms() const { return max_ms_; }

 private:
  std::atomic<bool> stop_{false};
  bool all_good_ = true;
  double max_ms_ = 0;
  std::thread thread_;
};

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_ATTACK_ATTACKER_H_
