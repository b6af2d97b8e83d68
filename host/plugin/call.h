// SPDX-License-Identifier: Apache-2.0

// One call: a message of a stream on its way through a hook of one instance.
//
// A CallState belongs to one instance's part of one stream and is reused for that stream's next
// call. The plugin only sees its first member. While a hook runs or a call is deferred, the
// plugin's side (services.cc) writes the members marked [plugin]. The stream reads them only after
// the handshake has reported that the call is finished, so no lock is needed.
//
// Tested by tests/host/stream/deferral_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_CALL_H_
#define CALLOUT_HOST_PLUGIN_CALL_H_

#include <callout/plugin.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "host/plugin/call_handshake.h"
#include "host/wire/envelope.h"

namespace callout::host {

class Instance;
class RpcContext;

// Why a response cannot be used, beyond what the guard finds when it reads the response. These
// names are also those of the metric.
enum class ResponseFault : uint8_t { kNone, kSecondResponse, kMalformed, kTooLarge };

struct CallState {
  // The CallState of the plugin's pointer `call`, for which IsCall is true.
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
  CallHandshake handshake;
  uint64_t stream_id = 0;
  size_t part = 0;               // the instance's place in the stream
  bool at_work = false;          // deferred or on a blocking thread, and not finished
  bool late = false;             // the error policy has decided; a later response is ignored
  char stream_id_text[21] = {};  // [plugin] decimal, written on request
  bool may_respond = false;      // not at stream open, cancel and close
  const char* misuse = nullptr;  // [plugin] the service with which it tried to respond at open
  uint64_t instance_ns = 0;      // in hooks, summed over all calls
  callout_status_t status = 0;   // [plugin] with finish()
  Response response;             // [plugin]
  ResponseFault fault = ResponseFault::kNone;  // [plugin]
  bool fault_is_of_respond = false;            // [plugin] the next respond() clears it
  std::string annotations;                     // [plugin] records beside the response
  size_t whole_begin = 0, whole_size = 0;      // [plugin] those of them from respond()
  std::string error;                           // [plugin] set_error's text
  // [plugin] from override_message_timeout; used when the call is deferred.
  std::atomic<uint64_t> timeout_ms{0};
  // Bytes that send() may queue before the client takes them.
  size_t sent_bytes_max = SIZE_MAX;
  std::atomic<size_t> unsent_bytes{0};  // taken by the stream and not written yet
  std::mutex sent_mutex;
  std::vector<Response> sent;  // responses ahead of the last one, under sent_mutex
  size_t sent_bytes = 0;       // of `sent`
  // Of a late call: keeps what its plugin may still read.
  std::vector<std::shared_ptr<const void>> retained;

  void Begin() {
    handshake.Begin();
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
    sent_bytes = 0;
  }
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_CALL_H_
