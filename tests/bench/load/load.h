// SPDX-License-Identifier: Apache-2.0

// A run of the load generator: keeps calls going on some connections, either a
// fixed number at once or at a fixed rate, and times them.
//
//   Load load(options);
//   load.Verify();                       // exits with a message if an answer is wrong
//   Load::Result result = load.Run();
//
// One thread.
#ifndef CALLOUT_TESTS_BENCH_LOAD_LOAD_H_
#define CALLOUT_TESTS_BENCH_LOAD_LOAD_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "connection.h"
#include "usage.h"

namespace callout::bench {

struct LoadOptions {
  Address address;  // of the server
  bool tls = false;
  std::string scenario = "headers";
  size_t body_bytes = size_t{1} << 20;  // of a scenario with a body of any size
  std::vector<std::string> recordings;  // files, whose exchanges take the place of `scenario`
  Ending ending = Ending::kGraceful;
  int connections = 1;
  int concurrency = 1;   // calls at once, on all connections together
  uint64_t streams = 0;  // for RunStreams()
  double rate = 0;       // calls begun in a second; 0: each as soon as another has ended
  double warmup_seconds = 0.5;
  double seconds = 2;
  bool any_phase = false;  // an answer may be of another phase than its request
  std::string header;      // that the answer to request headers sets; "": none
  pid_t server = 0;        // the process whose CPU time is read; 0: none
};

class Load final : public CallListener {
 public:
  struct Result {
    uint64_t calls = 0;  // ended well, within the time
    uint64_t errors = 0;
    double seconds = 0;
    Usage before, after;  // of the server
    uint64_t own_cpu_ns = 0;
    // From the beginning of a call to its last answer, sorted. With a rate, from
    // when the call should have begun, so that a slow server gains nothing by
    // keeping the generator waiting.
    std::vector<uint64_t> latencies_ns;
    // With a rate: calls begun, or due, in the measured time and not answered a second after it.
    uint64_t unanswered = 0;
  };

  // Connects. Exits with a message if that fails.
  explicit Load(const LoadOptions& options);

  void Verify();
  Result Run();
  // Makes options.streams calls, without a warm-up, and does not read what the server uses. Exits
  // with a message if they take more than ten minutes.
  Result RunStreams();

 private:
  bool OnAnswer(const Scenario& scenario, size_t index, std::string_view answer) override;
  void OnLastAnswer(uint64_t start_ns) override;
  void OnCallEnd(bool ok) override;

  // Serves the connections until `end_ns`, or until no call is left.
  void Loop(uint64_t end_ns);
  void BeginDue();
  void AwaitDue();
  void Begin(uint64_t start_ns);
  void Wait(uint64_t until_ns);
  void Watch(Connection* connection, int operation, bool write);

  const LoadOptions options_;
  const std::vector<Script> scripts_;  // in turn
  const std::optional<TlsContext> tls_;
  int epoll_ = -1;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<bool> watched_for_write_;
  size_t turn_ = 0;    // the connection that the next call begins on
  size_t script_ = 0;  // that it has
  int live_ = 0;
  uint64_t left_ = 0;       // that RunStreams() is to begin
  bool beginning_ = false;  // calls that end are followed by others
  bool measuring_ = false;
  bool verifying_ = false;
  uint64_t next_ns_ = 0;                // with a rate: when the next call is due
  uint64_t begin_ns_ = 0, end_ns_ = 0;  // of the measured time, once it has begun
  uint64_t due_ = 0;                    // with a rate: in the measured time
  Result result_;
};

}  // namespace callout::bench

#endif  // CALLOUT_TESTS_BENCH_LOAD_LOAD_H_
