// SPDX-License-Identifier: Apache-2.0

// One service that plugins call: its connections, the calls that wait for one, retries, the circuit
// breaker, and what is counted and logged of them.
//
//   Upstream upstream(&io, config, &metrics);
//   upstream.Start({.id = 7, .owner = "10-auth", .request = …, .done = …});
//   upstream.Cancel(7);
//
// All on the io_context's thread. `done` is called there, never from within Start.
//
// A call waits until a connection has room. Connections are opened while calls wait, up to
// max_connections; the one that was used last is used first, so that others can become idle and
// end. A gRPC call fails where the server has chosen HTTP/1.1; it holds up no others, and tells the
// circuit nothing. An attempt that failed is made again if the service cannot have looked at the
// request, or if the request is idempotent and the connection broke; never after a timeout, a
// response or an invalid one, nor where the call is the trial of an open circuit.
#ifndef CALLOUT_HOST_UPSTREAM_UPSTREAM_H_
#define CALLOUT_HOST_UPSTREAM_UPSTREAM_H_

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "host/metrics/metrics.h"
#include "host/upstream/byte_stream.h"
#include "host/upstream/circuit_breaker.h"
#include "host/upstream/client_tls.h"
#include "host/upstream/connection.h"
#include "host/upstream/upstream_config.h"
#include "host/upstream/upstream_message.h"

namespace callout::host {

class Upstream {
 public:
  using Done = std::function<void(UpstreamResult result)>;

  struct NewCall {
    uint64_t id = 0;
    std::string owner;  // the plugin, for log lines
    UpstreamRequest request;
    uint64_t started_ns = 0;
    Done done;
  };

  // `io` and `metrics` outlive it, and `io` runs no handler after it is gone. Metrics:
  // callout_upstream_….
  Upstream(boost::asio::io_context* io, UpstreamConfig config, Metrics* metrics);
  // Calls that are under way are dropped.
  ~Upstream();
  Upstream(const Upstream&) = delete;
  Upstream& operator=(const Upstream&) = delete;

  void Start(NewCall call);
  // Its `done` is not called. Nothing if it is over.
  void Cancel(uint64_t id);
  // Drops all calls and connections, for the end of the process.
  void Close();

  const UpstreamConfig& config() const { return config_; }
  // Name lookups that have not returned. Each runs on a thread that the io_context waits for.
  size_t lookups() const { return lookups_; }

 private:
  enum class LinkState : uint8_t { kConnecting, kOpen, kClosed };
  struct Link {
    uint64_t number = 0;
    LinkState state = LinkState::kConnecting;
    std::shared_ptr<ByteStream> stream;
    std::unique_ptr<Connection> connection;
    std::unique_ptr<boost::asio::steady_timer> connect_timer;
    uint64_t opened_ns = 0;
    uint64_t used_ns = 0;          // when a request began or ended
    uint64_t received_ns = 0;      // when bytes came
    uint64_t silent_since_ns = 0;  // when the first request was sent after that
  };
  enum class CallState : uint8_t { kPending, kSent, kWaitsToRetry };
  struct Call {
    explicit Call(NewCall from, boost::asio::io_context* io)
        : given(std::move(from)), deadline(*io), retry(*io) {}
    NewCall given;
    CallState state = CallState::kPending;
    CircuitBreaker::Admission admission = CircuitBreaker::Admission::kUsual;
    boost::asio::steady_timer deadline;
    boost::asio::steady_timer retry;
    uint64_t deadline_ns = 0;
    std::list<Call*>::iterator pending;  // while it is kPending
    Link* link = nullptr;                // while it is kSent
    uint64_t sent_ns = 0;
    uint64_t attempts = 0;
  };
  enum class Counted : uint8_t {
    kOk,
    kErrorResponse,
    kConnectFailed,
    kReset,
    kInvalidResponse,
    kTooLarge,
    kTimeout,
    kCircuitOpen,
    kPendingRejected,
    kCancelled,
  };
  static constexpr size_t kCounted = 10;

  void DefineMetrics(Metrics* metrics);

  // Calls.
  void Enqueue(Call* call);
  void Unqueue(Call* call);
  void Dispatch();
  void SendWaiting();
  void SendOn(Link* link, Call* call);
  void OnResult(uint64_t id, AttemptResult result);
  bool MayRetry(const Call& call, UpstreamOutcome outcome, uint64_t* wait_ns) const;
  void RetryLater(Call* call, uint64_t wait_ns);
  uint64_t TellingNs() const;
  bool HadTime(const Call& call) const;
  void OnDeadline(uint64_t id);
  void Finish(Call* call, AttemptResult result);
  void FinishSoon(uint64_t id, UpstreamOutcome outcome, std::string why);
  bool SpeaksHttp1() const;
  static Counted CountedAs(UpstreamOutcome outcome, const UpstreamResult& result);
  void Count(UpstreamOutcome outcome, const UpstreamResult& result);
  void TellCircuit(const Call& call, bool has_failed, UpstreamOutcome outcome);
  void LogFailure(const Call& call, UpstreamOutcome outcome, const UpstreamResult& result) const;
  std::unique_ptr<Call> Take(Call* call);
  Call* Find(uint64_t id);

  // Connections.
  Link* FindRoom(bool grpc);
  void OpenMore();
  void OpenLink();
  void Resolve();
  void OnResolved(const boost::system::error_code& error,
                  const boost::asio::ip::tcp::resolver::results_type& found);
  void Connect(Link* link);
  void OnLinkOpen(Link* link);
  void OnLinkFailed(Link* link, const std::string& why);
  // The link of this number, if it is still there and being opened.
  void FailIfConnecting(uint64_t number, const std::string& why);
  void OnLinkClosed(Link* link, const std::string& why, bool clean);
  void CloseLink(Link* link);
  void CloseIfOver(Link* link);
  void Sweep();
  void ReapSoon();

  boost::asio::io_context* const io_;
  const UpstreamConfig config_;
  Metrics* const metrics_;
  std::array<Metrics::Id, kCounted> outcomes_{};
  Metrics::Id seconds_ = 0, active_ = 0, pending_gauge_ = 0, connections_ = 0, retries_ = 0,
              circuit_open_ = 0, circuit_opens_ = 0;

  std::unordered_map<uint64_t, std::unique_ptr<Call>> calls_;
  std::list<Call*> pending_;
  CircuitBreaker circuit_;

  std::list<std::unique_ptr<Link>> links_;
  uint64_t last_link_ = 0;
  size_t connecting_ = 0;
  size_t closed_links_ = 0;  // that are to be reaped
  bool expects_http2_;       // by the configuration, then by what connections have shown
  ClientTls tls_;
  bool is_sweeping_ = false;
  boost::asio::steady_timer sweep_;

  boost::asio::ip::tcp::resolver resolver_;
  std::vector<StreamEndpoint> endpoints_;  // empty: not known yet
  uint64_t resolved_ns_ = 0;
  size_t lookups_ = 0;
  size_t rotation_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_UPSTREAM_UPSTREAM_H_
