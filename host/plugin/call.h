// One call: a message of a stream on its way through a hook of one instance.
//
// A CallState belongs to one instance's part of one stream and is used again
// for that stream's next call. The plugin sees its first member only. While a
// hook runs, or a deferred call is worked on, the plugin's side (services.cc)
// writes the members marked [plugin]; the stream reads them only after it has
// seen kFinished in `flags`, so no lock is needed.
#ifndef CALLOUT_HOST_PLUGIN_CALL_H_
#define CALLOUT_HOST_PLUGIN_CALL_H_

#include <callout/plugin.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "host/wire/envelope.h"

namespace callout::host {

class Instance;
class RpcContext;

// Why a call's answer cannot be used as it is, beyond what the guard finds by
// reading it. Counted by these names.
enum class ResponseFault : uint8_t { kNone, kSecondResponse, kMalformed, kTooLarge };

struct CallState {
  // The order of hook return, finish() and deadline is settled by these bits;
  // each is set once per call.
  enum Flag : uint32_t {
    kReturned = 1,  // the hook has returned DEFERRED
    kFinished = 2,  // the outcome is in `status`
    kExpired = 4,   // the policy has answered; what comes is ignored
    kDetached = 8,  // the hook runs on a thread kept for blocking ones
  };

  // The call that the plugin's pointer `call` belongs to, which IsCall holds for.
  static CallState* From(const callout_call_t* call) {
    return reinterpret_cast<CallState*>(const_cast<callout_call_t*>(call));
  }

  // False for a copy of a call.
  static bool IsCall(const callout_call_t* call) { return call->self == call; }

  callout_call_t call = {};
  // What a plugin finds that reads fields which this host does not know.
  std::array<uint64_t, 8> spare{};
  Instance* instance = nullptr;
  RpcContext* rpc = nullptr;
  const std::atomic<bool>* cancelled = nullptr;  // of the stream
  std::atomic<uint32_t> flags{0};
  uint64_t stream_id = 0;
  char stream_id_text[21] = {};                // [plugin] decimal, made when asked for
  bool may_respond = false;                    // not at stream open, cancel and close
  const char* misuse = nullptr;                // [plugin] the answer it tried to give at open
  uint64_t instance_ns = 0;                    // in hooks, summed over all calls
  callout_status_t status = 0;                 // [plugin] with kFinished
  Response response;                           // [plugin]
  ResponseFault fault = ResponseFault::kNone;  // [plugin]
  bool fault_is_of_respond = false;            // [plugin] the next respond() mends it
  std::string annotations;                     // [plugin] records beside the answer
  size_t whole_begin = 0, whole_size = 0;      // [plugin] those of them from respond()
  std::string error;                           // [plugin] set_error's text
  // [plugin] from override_message_timeout; wanted when the call is deferred.
  std::atomic<uint64_t> timeout_ms{0};
  std::mutex sent_mutex;
  std::vector<Response> sent;  // answers ahead of the last one, under sent_mutex
  size_t sent_bytes = 0;       // in `sent`, unless that is empty; under sent_mutex
  // Of what send() queued: taken by the stream and not yet by the client.
  std::atomic<size_t> unsent_bytes{0};
  size_t sent_bytes_max = SIZE_MAX;  // of both together, beyond one message

  void Begin() {
    flags.store(0, std::memory_order_relaxed);
    status = CALLOUT_OK;
    response.Clear();
    misuse = nullptr;
    fault = ResponseFault::kNone;
    fault_is_of_respond = false;
    annotations.clear();
    whole_begin = whole_size = 0;
    error.clear();
    timeout_ms.store(0, std::memory_order_relaxed);
    sent.clear();
  }
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_CALL_H_
