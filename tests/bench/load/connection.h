// SPDX-License-Identifier: Apache-2.0

// One HTTP/2 connection of the load generator, and the RPCs on it. Each sends the requests of a
// scenario one by one, each after the answers that it waits for.
//
//   const Script script(MakeScenario("headers"));
//   Connection connection(address, tls, script.scenario, ending, listener);
//   connection.Begin(script, now_ns);  connection.Flush();
//   …when readable: connection.Receive(); connection.Flush();
//
// One thread. The listener is called from Receive() and Flush().
#ifndef CALLOUT_TESTS_BENCH_LOAD_CONNECTION_H_
#define CALLOUT_TESTS_BENCH_LOAD_CONNECTION_H_

#include <nghttp2/nghttp2.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "../messages.h"
#include "../socket.h"

namespace callout::bench {

// How an RPC ends once its last answer is there.
enum class Ending : uint8_t {
  kGraceful,  // half-close, and wait for the server's status
  kEnvoy,     // half-close, and reset at once
};

// A scenario in the bytes that are sent.
struct Script {
  explicit Script(Scenario from);

  Scenario scenario;                // without its requests
  std::vector<std::string> framed;  // each with gRPC's prefix
};

class CallListener {
 public:
  virtual ~CallListener() = default;
  // False if the answer is wrong.
  virtual bool OnAnswer(const Scenario& scenario, size_t index, std::string_view answer) = 0;
  virtual void OnLastAnswer(uint64_t start_ns) = 0;
  virtual void OnCallEnd(bool ok) = 0;
};

class Connection {
 public:
  // All its RPCs are of the method of `scenario`. All outlive it but that.
  Connection(const Address& address, const TlsContext* tls, const Scenario& scenario, Ending ending,
             CallListener* listener);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Begins an RPC; `start_ns` comes back with its last answer. `script` outlives it.
  void Begin(const Script& script, uint64_t start_ns);
  // Reads what is there. Exits with a message if the server has hung up.
  void Receive();
  // Writes what is to be sent, as far as that goes without waiting.
  void Flush();

  int fd() const { return socket_.fd(); }
  bool wants_write() const { return sent_ < output_.size(); }

 private:
  struct Call {
    const Script* script = nullptr;
    uint64_t start_ns = 0;
    size_t begun = 0;      // requests
    size_t answers = 0;    // that have come
    std::string_view out;  // what of the last request is unsent
    std::string in;        // bytes of an answer
    bool all_answered = false;
    bool ok = true;
    bool status_ok = false;
  };

  static ssize_t OnWantData(nghttp2_session* session, int32_t id, uint8_t* data, size_t size,
                            uint32_t* flags, nghttp2_data_source* source, void* user);
  static int OnData(nghttp2_session* session, uint8_t flags, int32_t id, const uint8_t* data,
                    size_t size, void* user);
  static int OnHeader(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name,
                      size_t name_size, const uint8_t* value, size_t value_size, uint8_t flags,
                      void* user);
  static int OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* user);
  static int OnFrameSent(nghttp2_session* session, const nghttp2_frame* frame, void* user);
  static int OnClose(nghttp2_session* session, int32_t id, uint32_t error, void* user);
  void MakeSession();
  void OnBytes(int32_t id, Call* call, std::string_view bytes);
  void OnAnswer(int32_t id, Call* call, std::string_view answer);
  // Takes the next request, if its answers are there. Then some of it is sent at once.
  static void TakeRequest(Call* call);
  void EndIfDone(Call* call);
  void End(Call* call);
  Call* NewCall();

  Socket socket_;
  const Ending ending_;
  const bool is_unary_;  // ends gracefully, whatever `ending_` says
  CallListener* const listener_;
  const std::array<nghttp2_nv, 6> headers_;
  nghttp2_session* session_ = nullptr;
  std::vector<std::unique_ptr<Call>> calls_;
  std::vector<Call*> free_calls_;
  std::string output_;
  size_t sent_ = 0;  // of output_
};

}  // namespace callout::bench

#endif  // CALLOUT_TESTS_BENCH_LOAD_CONNECTION_H_
